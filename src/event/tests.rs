//! What an event accepts, and how it is written.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

fn names(names: [&str; 4]) -> Result<Names<'_>, NamesError> {
    Names::new(names.map(|name| Name::new(name).unwrap()))
}

/// An event of a resource on the component `host`, with nothing optional.
pub fn event(resource: &str, state: State) -> Event<'_> {
    Event {
        names: names(["c", "n", "host", resource]).unwrap(),
        state,
        output: None,
        long_output: None,
        author: None,
        timestamp: None,
        tags: None,
        perf_data: None,
        extra: Vec::new(),
    }
}

#[test]
fn names_that_canopsis_discards_cannot_be_built() {
    assert!(Name::new("").is_none());
    let reserved =
        "state _id state_setting_updated tags ack_resources perf_data_array ticket_resources";
    for name in reserved.split(' ').chain([""]) {
        assert!(ExtraName::new(name).is_none(), "{name}");
    }
    assert!(ExtraName::new("prom_state").is_some());
}

#[test]
fn an_event_is_one_json_object() {
    // Texts that look like another type stay strings.
    let labels = vec![("a\"", "\n"), ("n", "5"), ("b", "true"), ("z", "null")]
        .into_iter()
        .map(|(name, value)| (name.into(), Some(value.into())));
    let labels = Labels::new(labels.collect());
    let in_json = serde_json::json!({"a\"": "\n", "n": "5", "b": "true", "z": "null"});
    let constant = serde_json::json!([1, {"x": null}]);
    let names = ["x_\"\\\n", "x_labels", "x_constant"].map(|name| ExtraName::new(name).unwrap());
    let mut event = event("a\"b\\c\u{0}é", State::Major);
    let json = |event: &Event<'_>| {
        let mut json = b"before ".to_vec();
        event.write_json(&mut json).unwrap();
        serde_json::from_slice::<Value>(&json[7..]).unwrap()
    };
    let mut expected = serde_json::json!({
        "event_type": "check", "source_type": "resource", "connector": "c", "connector_name": "n",
        "component": "host", "resource": "a\"b\\c\u{0}é", "state": 2, "author": "c.n",
    });
    assert_eq!(json(&event), expected);

    event.output = Some("o\t".into());
    event.long_output = Some("true".into());
    event.author = Some("7".into());
    event.timestamp = Some(5);
    event.tags = Some(&labels);
    event.perf_data = PerfData::new("load=1".into()).ok();
    let values = [
        FieldValue::String("5".into()),
        FieldValue::Labels(&labels),
        FieldValue::Constant(&constant),
    ];
    event.extra = names.iter().zip(values).collect();
    for (key, value) in [
        ("output", Value::from("o\t")),
        ("long_output", Value::from("true")),
        ("author", Value::from("7")),
        ("timestamp", Value::from(5)),
        ("tags", in_json.clone()),
        ("perf_data", Value::from("load=1")),
        ("x_\"\\\n", Value::from("5")),
        ("x_labels", in_json),
        ("x_constant", constant.clone()),
    ] {
        expected[key] = value;
    }
    assert_eq!(json(&event), expected);
}

#[test]
fn a_name_is_one_line_without_white_space_around_it() {
    for (text, name) in [
        ("a b", Some("a b")),
        (" \ta b\u{3000}", Some("a b")),
        ("linux\n", Some("linux")),
        ("a \r\n \n\tb\u{2028}c\u{85}", Some("a b c")),
        ("a\u{b}b\u{c}c\u{2029}d", Some("a b c d")),
        ("", None),
        (" \u{a0}\u{3000}\n\t", None),
        // Neither white space nor a line break.
        ("\u{200b}", Some("\u{200b}")),
    ] {
        for text in [Cow::Borrowed(text), Cow::Owned(text.to_owned())] {
            let found = Name::new(text.clone());
            assert_eq!(found.as_ref().map(Name::as_str), name, "{text:?}");
        }
    }
}

#[test]
fn names_that_canopsis_would_drop_or_break_on_are_refused() {
    let (fits, long) = ("é".repeat(255), "é".repeat(256));
    for (four, field) in [
        (["prometheus", "p1", "host", "r"], None),
        (["prometheus", "p1", "p1", "prometheus"], Some("resource")),
        (
            ["prometheus", "p1", "prometheus/p1", "r"],
            Some("component"),
        ),
        (["a", "b/c", "b/c", "a"], Some("resource")),
        (["a", "b/c", "c", "a/b"], Some("resource")),
        (["a", "b/c", "a/b/c", "r"], Some("component")),
        (["prometheus", "p1", "prometheus", "p1"], None),
        (["prometheus", "p1", "p1", "prometheu"], None),
        (["c", &fits, "host", "r"], None),
        (["c", &long, "host", "r"], Some("connector_name")),
        (["c", "a\u{0}b", "host", "r"], Some("connector_name")),
        (["c", "a\tb", "host", "r"], Some("connector_name")),
    ] {
        let error = names(four).err();
        assert_eq!(
            error.as_ref().map(NamesError::field),
            field,
            "{four:?}: {error:?}"
        );
    }
    let id = |four| {
        let mut id = String::new();
        names(four).unwrap().write_entity_id(&mut id);
        id
    };
    assert_eq!(id(["c", "n", "host", "r"]), "r/host");
    assert_eq!(id(["c", "n", "c", "a/b"]), id(["c", "n", "b/c", "a"]));
}

proptest! {
    /// Against a model that looks at each pair of events.
    #[test]
    fn each_entity_has_the_event_of_its_highest_state(
        events in vec((0_u8..4, prop::sample::select(vec![State::Ok, State::Minor, State::Major, State::Critical]), any::<bool>()), 0..12)
    ) {
        let candidates: Vec<Candidate<u8>> = events
            .iter()
            .map(|(entity, state, is_firing)| Candidate { entity: *entity, state: *state, is_firing: *is_firing })
            .collect();
        let chosen = choose_events(&candidates);
        prop_assert_eq!(chosen.len(), events.len());
        for (position, &in_place) in chosen.iter().enumerate() {
            prop_assert_eq!(events[in_place].0, events[position].0, "of another entity");
            prop_assert_eq!(chosen[in_place], in_place, "not published itself");
            for (other, event) in events.iter().enumerate() {
                let (rank, best) = ((event.1, event.2), (events[in_place].1, events[in_place].2));
                prop_assert!(event.0 != events[position].0 || rank < best || (rank == best && other >= in_place));
            }
        }
    }
}

#[test]
fn an_event_is_hidden_where_two_problems_are_one_alarm() {
    let candidate = |(state, is_firing)| Candidate {
        entity: (),
        state,
        is_firing,
    };
    for (event, other, is_hidden) in [
        ((State::Major, true), (State::Major, true), true),
        ((State::Minor, true), (State::Major, true), false),
        ((State::Major, false), (State::Major, true), false),
        ((State::Major, true), (State::Major, false), false),
        ((State::Ok, false), (State::Ok, false), false),
        // Two Watchdogs have no alarm.
        ((State::Ok, true), (State::Ok, true), false),
    ] {
        let found = candidate(event).is_hidden_by(&candidate(other));
        assert_eq!(found, is_hidden, "{event:?} behind {other:?}");
    }
}

#[test]
fn states() {
    for (text, state) in [
        ("0", Some(State::Ok)),
        ("Info", Some(State::Ok)),
        (" minor\n", Some(State::Minor)),
        ("2", Some(State::Major)),
        ("CRITICAL", Some(State::Critical)),
        ("4", None),
        ("warning", None),
        ("", None),
    ] {
        assert_eq!(State::parse(text), state, "{text:?}");
    }
}

#[test]
fn a_long_routing_key_is_cut_between_characters() {
    let mut key = String::new();
    event("r", State::Ok).write_routing_key(&mut key);
    event("s", State::Ok).write_routing_key(&mut key);
    assert_eq!(key, "c.n.check.resource.host.rc.n.check.resource.host.s");
    for length in 60..90 {
        let resource = format!("{}{}", "x".repeat(length), "日".repeat(200));
        let mut key = String::new();
        event(&resource, State::Ok).write_routing_key(&mut key);
        let bytes = key.len();
        assert!(
            (253..=255).contains(&bytes),
            "a routing key of {bytes} bytes: AMQP allows 255, and more ends the connection"
        );
    }
}

#[test]
fn what_is_wrong_with_accepted_names_is_said() {
    let (fits, long) = ("é".repeat(498), "é".repeat(499));
    for (four, expected) in [
        (["c", "n", "h", "a/b"], &[][..]),
        (["c/d", "n", "h", "r"], &["connector contains a slash"]),
        (
            ["c", "n/m", "h/i", "r"],
            &[
                "connector_name contains a slash",
                "component contains a slash",
            ],
        ),
        (["c", "n", "h", &*fits], &[]),
        (
            ["c", "n", "h", &*long],
            &["resource and component have more than 500 characters"],
        ),
    ] {
        let warnings = names(four).unwrap().warnings();
        let begins = |(warning, expected): (&String, &&str)| warning.starts_with(*expected);
        assert_eq!(warnings.len(), expected.len(), "{warnings:?}");
        assert!(warnings.iter().zip(expected).all(begins), "{warnings:?}");
    }
}

#[test]
fn times_and_lengths_of_values() {
    for (text, seconds) in [
        ("1795345200", Some(1_795_345_200)),
        (" -5\n", Some(-5)),
        ("2026-11-22T11:00:00Z", Some(1_795_345_200)),
        ("2026-11-22T12:00:00.9+01:00", Some(1_795_345_200)),
        ("2026-11-22", None),
        ("now", None),
        ("", None),
    ] {
        assert_eq!(parse_timestamp(text), seconds, "{text:?}");
    }
    let (labels, constant) = (
        Labels::new(vec![("ab".into(), Some("cde".into()))]),
        serde_json::json!("constant"),
    );
    for (value, length) in [
        (FieldValue::String("text".into()), 4),
        (FieldValue::Labels(&labels), 5),
        (FieldValue::Constant(&constant), 0),
    ] {
        assert_eq!(value.text_len(), length, "{value:?}");
    }
    assert_eq!(ExtraName::new("prom_x").unwrap().as_str(), "prom_x");
    assert_eq!(MAX_EVENT_BYTES, 1_048_576, "the documented 1 MiB");
}
