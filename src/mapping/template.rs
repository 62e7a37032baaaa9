//! A Go template: compiled and checked once, rendered for every alert.

use std::fmt::{self, Write};

use gotmpl::{MissingKey, TemplateError, Value};

use super::functions::{self, FUNCTIONS};
use super::strict::{self, Looks, Needs};
use super::uses::Use;
use crate::logging::shorten;

/// No user writes this name, so that no `{{define}}` collides with the template itself.
const OUTER_NAME: &str = "\u{0}rule";

/// What one template may write, in bytes: far more than any field of an event needs.
const MOST_OUTPUT: usize = 1 << 20;

/// What most templates write is not longer than this, in bytes: room for it is made at once.
const USUAL_OUTPUT: usize = 64;

/// How often all loops of one template together may turn.
const MOST_TURNS: u64 = 100_000;

/// A template that Go would take, too.
pub struct Template {
    compiled: gotmpl::Template,
    looks: Looks,
    source: String,
}

impl fmt::Debug for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Template").field(&self.source).finish()
    }
}

/// Why a text is not a template.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ParseError(String);

/// Why a template failed as it ran.
#[derive(Debug, thiserror::Error)]
pub enum RenderError {
    /// A missing key, a wrong type, a function that refuses its values...
    #[error("{0}")]
    Failed(#[from] TemplateError),
    /// It wrote more than any event can use.
    #[error("it wrote more than {MOST_OUTPUT} bytes")]
    TooLong,
}

impl Template {
    /// Compiles a template; missing keys are errors as it runs. Tells what it names of its dot, too.
    pub fn parse(source: &str) -> Result<(Self, Vec<Use>), ParseError> {
        let mut template = gotmpl::Template::new(OUTER_NAME)
            .missing_key(MissingKey::Error)
            .max_range_iters(MOST_TURNS);
        for function in FUNCTIONS {
            template = template.func(function.name, |args| function.call(args));
        }
        let template = template
            .func("index", functions::index)
            .parse(source)
            .map_err(|error| match error {
                TemplateError::Parse {
                    line, col, message, ..
                }
                | TemplateError::Lex {
                    line, col, message, ..
                } => ParseError(format!("at {line}:{col} of the template: {message}")),
                other => ParseError(other.to_string()),
            })?;
        let Needs { looks, uses } = strict::check(source).map_err(ParseError)?;
        Ok((
            Self {
                compiled: template,
                looks,
                source: source.to_owned(),
            },
            uses,
        ))
    }

    /// What its dot must hold.
    pub fn looks(&self) -> Looks {
        self.looks
    }

    /// The beginning of its text, for a message.
    pub fn excerpt(&self) -> String {
        shorten(&self.source)
    }

    /// Renders the template with `data` as its dot.
    pub fn render(&self, data: &Value) -> Result<String, RenderError> {
        let mut out = Bounded {
            text: String::with_capacity(USUAL_OUTPUT),
            overflowed: false,
        };
        match self.compiled.execute_fmt(&mut out, data) {
            Ok(()) => Ok(out.text),
            Err(_) if out.overflowed => Err(RenderError::TooLong),
            Err(error) => Err(RenderError::Failed(error)),
        }
    }
}

struct Bounded {
    text: String,
    overflowed: bool,
}

impl Write for Bounded {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        if self.text.len() + text.len() > MOST_OUTPUT {
            self.overflowed = true;
            return Err(fmt::Error);
        }
        self.text.push_str(text);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use super::*;
    use crate::mapping::pattern::Pattern;
    use crate::mapping::rule::to_template_value;

    /// What Go itself answers, measured with Go 1.19.
    const GOLDENS: &str = include_str!("../../tests/data/template-goldens.json");

    #[derive(serde::Deserialize)]
    struct Golden {
        name: String,
        field: serde_json::Value,
        regexp: Option<String>,
        template: String,
        output: Option<String>,
        #[serde(default)]
        error: bool,
    }

    fn render(golden: &Golden) -> Result<String, String> {
        let mut data: BTreeMap<Arc<str>, Value> = BTreeMap::new();
        data.insert("Field".into(), to_template_value(&golden.field));
        if let Some(regexp) = &golden.regexp {
            let regexp =
                crate::mapping::goregexp::compile(regexp).map_err(|error| error.to_string())?;
            let groups = golden
                .field
                .as_str()
                .and_then(|text| Pattern::from(regexp).groups(text));
            data.insert(
                "RegexMatch".into(),
                groups.ok_or("the regexp does not match")?,
            );
        }
        let (template, _) = Template::parse(&golden.template).map_err(|error| error.to_string())?;
        template
            .render(&Value::Map(Arc::new(data)))
            .map_err(|error| error.to_string())
    }

    #[test]
    fn every_golden_case_comes_out_as_go_has_it() {
        let goldens: Vec<Golden> = serde_json::from_str(GOLDENS).unwrap();
        assert_eq!(goldens.len(), 58);
        for golden in &goldens {
            let rendered = render(golden);
            if golden.error {
                assert!(rendered.is_err(), "{}: {rendered:?}", golden.name);
            } else {
                assert_eq!(
                    rendered.as_ref().ok(),
                    golden.output.as_ref(),
                    "{}: {rendered:?}",
                    golden.name
                );
            }
        }
    }

    #[test]
    fn times_are_written_in_a_zone() {
        let started = "2026-11-22T14:10:49.093139117Z";
        let summer = "2026-07-05T23:30:00+05:30";
        for (template, field, text) in [
            (
                "{{ .Field | localtime \"15:04 MST\" \"Europe/Paris\" }}",
                started,
                "15:10 CET",
            ),
            (
                "{{ localtime \"Jan 2 15:04:05.000 -07:00\" \"America/New_York\" .Field }}",
                started,
                "Nov 22 09:10:49.093 -05:00",
            ),
            (
                "{{ .Field | localtime \"02/01 15:04 MST\" \"Europe/Paris\" | lowercase }}",
                summer,
                "05/07 20:00 cest",
            ),
            (
                "{{ .Field | formattedDate \"2006-01-02T15:04:05Z07:00\" }}",
                summer,
                "2026-07-05T18:00:00Z",
            ),
            (
                "{{ formattedDate \"Mon, 02 Jan 2006 15:04:05 MST\" .Field }}",
                "0001-01-01T00:00:00Z",
                "Mon, 01 Jan 0001 00:00:00 UTC",
            ),
            (
                "{{ localtime \"2006\" \"UTC\" .Field }}{{ formattedDate \"2006\" .Field }}",
                "soon",
                "",
            ),
            (
                "{{ localtime 2006 .Field }}{{ localtime \"2006\" 1 .Field }}{{ formattedDate \"2006\" 1 }}",
                started,
                "",
            ),
        ] {
            assert_eq!(
                render_text(template, field).as_deref(),
                Ok(text),
                "{template}"
            );
        }
        for (template, reason) in [
            ("{{ localtime .Field }}", "expects 2, got 1"),
            (
                "{{ localtime \"2006\" \"UTC\" .Field 1 }}",
                "expects 3, got 4",
            ),
            (
                "{{ .Field | formattedDate \"2006\" \"UTC\" }}",
                "expects 2, got 3",
            ),
            (
                "{{ localtime \"2006\" (lowercase \"No/Where\") .Field }}",
                "localtime: unknown time zone \"no/where\"",
            ),
        ] {
            let error = render_text(template, started).unwrap_err();
            assert!(error.contains(reason), "{template}: {error}");
        }
    }

    fn render_text(template: &str, field: &str) -> Result<String, String> {
        let data = BTreeMap::from([(Arc::from("Field"), Value::from(field))]);
        Template::parse(template)
            .unwrap()
            .0
            .render(&Value::Map(Arc::new(data)))
            .map_err(|error| error.to_string())
    }

    #[test]
    fn what_gotmpl_alone_would_get_wrong() {
        let text = render_text;
        // A {{define}} of any name a user would write does not collide with the template itself.
        assert_eq!(
            text(
                "{{define \"t\"}}<{{.}}>{{end}}{{template \"t\" .Field}}",
                "x"
            )
            .as_deref(),
            Ok("<x>")
        );
        assert_eq!(
            text("{{ uppercase .Field }}", "straße").as_deref(),
            Ok("STRAßE")
        );
        assert_eq!(
            text("{{ split \"\" 1 .Field }}", "日本").as_deref(),
            Ok("本")
        );
        assert_eq!(
            text(
                "{{ substr .Field -1 2 }}|{{ substr .Field 1 -2 }}|{{ substr .Field 9 2 }}",
                "abc"
            )
            .as_deref(),
            Ok("ab||")
        );
        assert!(text("{{ strlen .Field.x }}", "x").is_err());
        assert!(
            text("{{ uppercase }}", "x")
                .unwrap_err()
                .contains("expects 1, got 0")
        );
        assert!(text("{{ range $i := 1000000 }}x{{ end }}", "x").is_err());
        assert!(
            text("{{ range $i := 60000 }}12345678901234567890{{ end }}", "x")
                .unwrap_err()
                .contains("1048576 bytes")
        );
        assert!(text("{{ template \"nosuch\" }}", "x").is_err());
    }
}
