//! What is known of a template's data before it runs. `gotemplate` finds with it what always fails.

use gotemplate::{MapShape, Regexp, Shape};

use super::keys::{ALERT, Field, NOTIFICATION};
use super::path::Path;

/// The dot of a rule's template.
pub fn dot(field: Option<&Path>, regexp: Option<&Regexp>) -> Shape {
    let field = match field {
        None => Err("the rule has no field".to_owned()),
        Some(path) if path.is_map() => Ok(Shape::Texts),
        Some(_) => Ok(Shape::Text),
    };
    let groups = regexp
        .map(groups)
        .ok_or("the rule has no regexp".to_owned());
    let mut notification = sent(&NOTIFICATION);
    notification.keys.push((
        "alerts".to_owned(),
        Err("it comes without its alerts; use .Alert".to_owned()),
    ));
    closed(
        vec![
            ("Field".to_owned(), field),
            ("RegexMatch".to_owned(), groups),
            ("Alert".to_owned(), Ok(Shape::Map(sent(&ALERT)))),
            ("Notification".to_owned(), Ok(Shape::Map(notification))),
        ],
        "no such field (known: Field, RegexMatch, Alert, Notification)".to_owned(),
    )
}

fn groups(regexp: &Regexp) -> Shape {
    let names: Vec<&str> = regexp.names().collect();
    let known = if names.is_empty() {
        "none"
    } else {
        &names.join(", ")
    };
    let of_others = format!("the regexp has no such group (named groups: {known})");
    let entry = |name: &&str| ((*name).to_owned(), Ok(Shape::Text));
    closed(names.iter().map(entry).collect(), of_others)
}

fn closed(keys: Vec<(String, Result<Shape, String>)>, of_others: String) -> Shape {
    Shape::Map(MapShape {
        keys,
        may_have_others: false,
        of_others,
    })
}

fn sent(keys: &[(&str, Field)]) -> MapShape {
    let entry = |(name, field): &(&str, Field)| ((*name).to_owned(), Ok(field.shape()));
    MapShape {
        keys: keys.iter().map(entry).collect(),
        may_have_others: true,
        of_others: "Alertmanager does not send it".to_owned(),
    }
}
