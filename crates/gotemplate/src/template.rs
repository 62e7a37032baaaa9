//! A template: compiled and checked once, rendered within limits.

use std::fmt::{self, Write};

use gotmpl::{MissingKey, TemplateError, Value};

use crate::functions::{self, FUNCTIONS};
use crate::validate::{self, Analysis};

/// The template's own name: no user writes it, so no `{{define}}` collides with it.
const ROOT_NAME: &str = "\u{0}rule";

/// The longest text that one template may write, in bytes: far more than any field of an event needs.
const MAX_OUTPUT_BYTES: usize = 1 << 20;

/// Most templates write less than this, in bytes: it is allocated at once.
const TYPICAL_OUTPUT_BYTES: usize = 64;

/// The iterations of all loops of one template together.
const MAX_ITERATIONS: u64 = 100_000;

/// A template that Go accepts, too.
pub struct Template {
    compiled: gotmpl::Template,
    analysis: Analysis,
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
pub struct ParseError(pub(crate) String);

/// Why a template failed when it was rendered.
#[derive(Debug, thiserror::Error)]
pub enum RenderError {
    /// A missing key, a wrong type, a function that refuses its values.
    #[error("{0}")]
    Execute(#[from] TemplateError),
    /// The output is longer than any event can use.
    #[error("it wrote more than {MAX_OUTPUT_BYTES} bytes")]
    TooLong,
}

impl Template {
    /// Compiles a template. A missing key is an error when it is rendered (`missingkey=error`).
    pub fn parse(source: &str) -> Result<Self, ParseError> {
        let mut template = gotmpl::Template::new(ROOT_NAME)
            .missing_key(MissingKey::Error)
            .max_range_iters(MAX_ITERATIONS);
        for function in FUNCTIONS {
            template = template.func(function.name, |args| function.call(args));
        }
        let compiled = template
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
        Ok(Self {
            compiled,
            analysis: validate::check(source)?,
            source: source.to_owned(),
        })
    }

    /// The fields that the template looks up.
    pub fn analysis(&self) -> &Analysis {
        &self.analysis
    }

    /// The text that was parsed.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Renders the template with `dot` as its dot.
    pub fn render(&self, dot: &Value) -> Result<String, RenderError> {
        let mut out = BoundedString {
            text: String::with_capacity(TYPICAL_OUTPUT_BYTES),
            overflowed: false,
        };
        match self.compiled.execute_fmt(&mut out, dot) {
            Ok(()) => Ok(out.text),
            Err(_) if out.overflowed => Err(RenderError::TooLong),
            Err(error) => Err(RenderError::Execute(error)),
        }
    }
}

struct BoundedString {
    text: String,
    overflowed: bool,
}

impl Write for BoundedString {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        if self.text.len() + text.len() > MAX_OUTPUT_BYTES {
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
    use crate::regexp::Regexp;

    /// Go 1.19's output.
    const GOLDENS: &str = include_str!("../tests/template-goldens.json");

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
        data.insert("Field".into(), crate::from_json(&golden.field));
        if let Some(regexp) = &golden.regexp {
            let regexp = Regexp::new(regexp).map_err(|error| error.to_string())?;
            let groups = golden.field.as_str().and_then(|text| regexp.groups(text));
            data.insert(
                "RegexMatch".into(),
                groups.ok_or("the regexp does not match")?,
            );
        }
        let template = Template::parse(&golden.template).map_err(|error| error.to_string())?;
        template
            .render(&Value::Map(Arc::new(data)))
            .map_err(|error| error.to_string())
    }

    #[test]
    fn every_golden_case_is_rendered_as_by_go() {
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
    fn times_are_formatted_in_a_zone() {
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
            .render(&Value::Map(Arc::new(data)))
            .map_err(|error| error.to_string())
    }

    #[test]
    fn differences_of_gotmpl_are_covered() {
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
