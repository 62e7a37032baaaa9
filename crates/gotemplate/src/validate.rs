//! Refuses what Go refuses when it parses a template, and gotmpl only when it renders it, or never: an unbalanced `{{end}}` or
//! `{{else}}`, an unknown function, an undefined variable, `{{break}}` outside a loop; and a time zone that this system lacks.
//! The walk over the tree also collects the fields that the template looks up.

use gotmpl::parse::{BranchNode, CommandNode, Expr, ListNode, Node, Parser, PipeNode};

use crate::functions::FUNCTIONS;
use crate::messages::did_you_mean;
use crate::template::ParseError;
use crate::time;

/// Text appended to a template before parsing. If the tree does not end with it, the blocks are not balanced: it is inside an open
/// one, or parsing ended at a stray `{{end}}`.
const SENTINEL: &str = "\u{0}end of template";

const BUILT_IN: &[&str] = &[
    "and", "call", "eq", "ge", "gt", "html", "index", "js", "le", "len", "lt", "ne", "not", "or",
    "print", "printf", "println", "slice", "urlquery",
];

/// The fields that a template looks up, as far as its text shows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Analysis {
    fields: Vec<FieldRef>,
    uses_whole_dot: bool,
}

/// A chain of field names, such as `a` and `b` in `.a.b`; never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldRef {
    /// Where the first name is looked up.
    pub dot: Dot,
    /// One below the other.
    pub names: Vec<String>,
}

/// The value that `.` stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dot {
    /// The template's own dot.
    Root,
    /// The dot of a `{{with}}`, `{{range}}` or `{{define}}`.
    Inner,
}

impl Analysis {
    /// All chains of fields, also in branches that may never be rendered.
    pub fn fields(&self) -> &[FieldRef] {
        &self.fields
    }

    /// Whether rendering may look this field up in the template's dot. An inner dot may be the root, so a name is enough.
    pub fn may_use(&self, name: &str) -> bool {
        self.uses_whole_dot || self.fields.iter().any(|field| field.names[0] == name)
    }

    fn add<S: AsRef<str>>(&mut self, dot: Dot, names: &[S]) {
        if names.is_empty() {
            self.uses_whole_dot = true;
            return;
        }
        let names = names.iter().map(|name| name.as_ref().to_owned()).collect();
        self.fields.push(FieldRef { dot, names });
    }
}

/// Checks a template that gotmpl can parse.
pub fn check(source: &str) -> Result<Analysis, ParseError> {
    let guarded = format!("{source}{SENTINEL}");
    let parsed = Parser::new(&guarded, "{{", "}}").and_then(Parser::parse);
    let (tree, defines) = parsed.map_err(|error| ParseError(error.to_string()))?;
    if !matches!(tree.nodes.last(), Some(Node::Text(last)) if last.text.ends_with(SENTINEL)) {
        return fail("blocks are not balanced: an {{end}} is missing, or there is one too many");
    }
    let mut analysis = Analysis::default();
    Checker::new(&mut analysis, Dot::Root).list(&tree)?;
    for define in &defines {
        Checker::new(&mut analysis, Dot::Inner).list(&define.body)?;
    }
    Ok(analysis)
}

fn fail<T>(message: impl Into<String>) -> Result<T, ParseError> {
    Err(ParseError(message.into()))
}

/// The state of the walk over a tree.
struct Checker<'n> {
    variables: Vec<String>,
    loops: usize,
    analysis: &'n mut Analysis,
    dot: Dot,
    /// The dot that `$` stands for: the one at the beginning.
    dollar: Dot,
}

impl<'n> Checker<'n> {
    /// For a template, or one that is defined in it.
    fn new(analysis: &'n mut Analysis, dot: Dot) -> Self {
        Self {
            variables: vec!["$".to_owned()],
            loops: 0,
            analysis,
            dot,
            dollar: dot,
        }
    }

    fn list(&mut self, list: &ListNode) -> Result<(), ParseError> {
        list.nodes.iter().try_for_each(|node| self.node(node))
    }

    fn node(&mut self, node: &Node) -> Result<(), ParseError> {
        match node {
            Node::List(list) => self.list(list),
            Node::Action(action) => self.pipe(&action.pipe),
            Node::If(branch) => self.branch(branch, |checker| {
                checker.scope(|checker| checker.list(&branch.body))
            }),
            Node::With(branch) => self.branch(branch, |checker| {
                checker.with_inner_dot(|checker| checker.list(&branch.body))
            }),
            Node::Range(branch) => self.branch(branch, |checker| {
                checker.loops += 1;
                let body = checker.with_inner_dot(|checker| checker.list(&branch.body));
                checker.loops -= 1;
                body
            }),
            Node::Template(template) => template.pipe.iter().try_for_each(|pipe| self.pipe(pipe)),
            Node::Define(define) => Checker::new(self.analysis, Dot::Inner).list(&define.body),
            Node::Break(_) if self.loops == 0 => fail("{{break}} outside {{range}}"),
            Node::Continue(_) if self.loops == 0 => fail("{{continue}} outside {{range}}"),
            Node::Text(_) | Node::Break(_) | Node::Continue(_) => Ok(()),
        }
    }

    /// The pipeline before the body and the `{{else}}` behind it are alike in all three kinds of branch.
    fn branch(
        &mut self,
        branch: &BranchNode,
        body: impl FnOnce(&mut Self) -> Result<(), ParseError>,
    ) -> Result<(), ParseError> {
        self.scope(|checker| {
            checker.pipe(&branch.pipe)?;
            body(checker)?;
            checker.scope(|checker| {
                branch
                    .else_body
                    .iter()
                    .try_for_each(|body| checker.list(body))
            })
        })
    }

    /// Variables declared inside are undefined after it.
    fn scope(
        &mut self,
        inside: impl FnOnce(&mut Self) -> Result<(), ParseError>,
    ) -> Result<(), ParseError> {
        let known = self.variables.len();
        let result = inside(self);
        self.variables.truncate(known);
        result
    }

    fn with_inner_dot(
        &mut self,
        inside: impl FnOnce(&mut Self) -> Result<(), ParseError>,
    ) -> Result<(), ParseError> {
        let outside = std::mem::replace(&mut self.dot, Dot::Inner);
        let result = self.scope(inside);
        self.dot = outside;
        result
    }

    fn pipe(&mut self, pipe: &PipeNode) -> Result<(), ParseError> {
        for (index, command) in pipe.commands.iter().enumerate() {
            self.command(command)?;
            check_zone(command, index > 0)?;
        }
        for name in &pipe.decl {
            if &**name == "$" {
                self.dollar = Dot::Inner;
            }
            if pipe.is_assign {
                self.variable(name)?;
            } else {
                self.variables.push(name.to_string());
            }
        }
        Ok(())
    }

    fn command(&mut self, command: &CommandNode) -> Result<(), ParseError> {
        command.args.iter().try_for_each(|arg| self.expression(arg))
    }

    fn expression(&mut self, expression: &Expr) -> Result<(), ParseError> {
        match expression {
            Expr::Identifier(_, name) => {
                let name = name.as_str();
                if BUILT_IN.contains(&name)
                    || FUNCTIONS.iter().any(|function| function.name == name)
                {
                    return Ok(());
                }
                let known: Vec<&str> = FUNCTIONS
                    .iter()
                    .map(|function| function.name)
                    .chain(BUILT_IN.iter().copied())
                    .collect();
                let hint = did_you_mean(name, &known);
                fail(format!("function {name:?} not defined{hint}"))
            }
            Expr::Variable(_, name, fields) => {
                if name == "$" {
                    self.analysis.add(self.dollar, fields);
                }
                self.variable(name)
            }
            Expr::Pipe(_, pipe) => self.pipe(pipe),
            Expr::Chain(_, inner, _) => self.expression(inner),
            Expr::Dot(_) => {
                self.analysis.uses_whole_dot = true;
                Ok(())
            }
            Expr::Field(_, names) => {
                self.analysis.add(self.dot, names);
                Ok(())
            }
            Expr::String(..) | Expr::Number(..) | Expr::Bool(..) | Expr::Nil(_) => Ok(()),
        }
    }

    fn variable(&self, name: &str) -> Result<(), ParseError> {
        if self.variables.iter().any(|known| known == name) {
            return Ok(());
        }
        fail(format!("undefined variable {name:?}"))
    }
}

/// Checks the zone of `localtime LAYOUT [ZONE] VALUE` if it is a constant, or the system's. In a later stage of a pipeline, the
/// last argument comes from the stage before.
fn check_zone(command: &CommandNode, is_piped_into: bool) -> Result<(), ParseError> {
    let [Expr::Identifier(_, name), _layout, others @ ..] = &*command.args else {
        return Ok(());
    };
    if name != "localtime" {
        return Ok(());
    }
    let zone = match (others.len() + usize::from(is_piped_into), others) {
        (1, _) => None,
        (2, [Expr::String(_, zone), ..]) => Some(&**zone),
        _ => return Ok(()),
    };
    time::zone(zone)
        .map(drop)
        .map_err(|error| ParseError(format!("localtime: {error}{}", error.hint())))
}

#[cfg(test)]
mod tests {
    use super::{Dot, FieldRef, check};

    #[test]
    fn the_analysis_names_the_fields_that_may_be_used() {
        for (source, parts) in [
            ("plain", ""),
            (
                "plain {{ .Field }} {{ .RegexMatch.name }} {{ $x := .Field }}{{ $x.Alert }}",
                "fm",
            ),
            ("{{ .RegexMatch.Field }}", "m"),
            ("{{ .Alert.labels.a }}", "a"),
            ("{{ if true }}{{ $.Notification.receiver }}{{ end }}", "n"),
            ("{{ range .Field }}{{ .Alert }}{{ end }}", "fa"),
            (
                "{{ define \"t\" }}{{ .Alert }}{{ end }}{{ template \"t\" }}",
                "a",
            ),
            ("{{ json . }}", "fman"),
            ("{{ with $x := $ }}{{ end }}", "fman"),
            ("{{ (.).Alert }}", "fman"),
            ("{{ index $ (print \"Al\" \"ert\") }}", "fman"),
        ] {
            let analysis = check(source).unwrap();
            for (part, name) in [
                ('f', "Field"),
                ('m', "RegexMatch"),
                ('a', "Alert"),
                ('n', "Notification"),
            ] {
                assert_eq!(
                    analysis.may_use(name),
                    parts.contains(part),
                    "{source}: {name}"
                );
            }
        }
    }

    #[test]
    fn a_chain_of_fields_knows_its_dot() {
        let source = "{{ .a.b }}{{ range .c }}{{ .d }}{{ $.e }}{{ end }}{{ $ := .f }}{{ $.g }}\
                      {{ define \"t\" }}{{ .h }}{{ $.i }}{{ end }}";
        let analysis = check(source).unwrap();
        let chains = [
            (Dot::Root, vec!["a", "b"]),
            (Dot::Root, vec!["c"]),
            (Dot::Inner, vec!["d"]),
            (Dot::Root, vec!["e"]),
            (Dot::Root, vec!["f"]),
            (Dot::Inner, vec!["g"]),
            (Dot::Inner, vec!["h"]),
            (Dot::Inner, vec!["i"]),
        ];
        let expected: Vec<FieldRef> = chains
            .into_iter()
            .map(|(dot, names)| FieldRef {
                dot,
                names: names.into_iter().map(str::to_owned).collect(),
            })
            .collect();
        assert_eq!(analysis.fields(), expected);
    }

    #[test]
    fn takes_what_go_takes() {
        for source in [
            "",
            "plain",
            "a {{- .Field -}} ",
            "{{ $x := .Field }}{{ $x }}{{ $ }}",
            "{{ if .Field }}a{{ else if not .Field }}b{{ else }}c{{ end }}",
            "{{ range $i, $v := .Field }}{{ if $v }}{{ break }}{{ end }}{{ $i }}{{ else }}none{{ end }}",
            "{{ with $x := .Field }}{{ $x }}{{ end }}",
            "{{ define \"t\" }}{{ range . }}{{ continue }}{{ end }}{{ end }}{{ template \"t\" .Field }}",
            "{{ $x := 1 }}{{ if true }}{{ $x = 2 }}{{ end }}{{ $x }}",
            "{{ (split \":\" 0 .Field) | printf \"%s {{end}}\" }}",
            "{{/* {{end}} */}}",
            "{{ localtime \"15:04\" .Field }}{{ .Field | localtime \"15:04\" \"Asia/Tokyo\" }}",
            "{{ $zone := \"No/Where\" }}{{ localtime \"15:04\" $zone .Field }}{{ \"No/Where\" | localtime \"15:04\" }}",
        ] {
            assert!(check(source).is_ok(), "{source}: {:?}", check(source));
        }
    }

    #[test]
    fn refuses_what_go_refuses() {
        for (source, reason) in [
            ("{{ if .Field }}a", "not balanced"),
            ("{{ range .Field }}a{{ else }}b", "not balanced"),
            ("{{ define \"t\" }}a", "not balanced"),
            ("a{{ end }}", "not balanced"),
            ("a{{ else }}b", "not balanced"),
            ("{{ if .Field }}a{{ end }}{{ end }}", "not balanced"),
            (
                "{{ upercase .Field }}",
                "function \"upercase\" not defined; did you mean \"uppercase\"?",
            ),
            (
                "{{ if eq (nosuch .) 1 }}{{ end }}",
                "function \"nosuch\" not defined",
            ),
            ("{{ $x }}", "undefined variable \"$x\""),
            (
                "{{ if true }}{{ $x := 1 }}{{ end }}{{ $x }}",
                "undefined variable",
            ),
            ("{{ $x = 1 }}", "undefined variable"),
            ("{{ break }}", "{{break}} outside {{range}}"),
            (
                "{{ range .Field }}{{ else }}{{ continue }}{{ end }}",
                "{{continue}} outside {{range}}",
            ),
            (
                "{{ localtime \"15:04\" \"Asia/Toky\" .Field }}",
                "unknown time zone \"Asia/Toky\"; did you mean \"Asia/Tokyo\"?",
            ),
            (
                "{{ uppercase (.Field | localtime \"15:04\" \"CEST\") }}",
                "unknown time zone \"CEST\"",
            ),
            (
                "{{ if true }}{{ .Field | localtime \"15:04\" `No/Where` | lowercase }}{{ end }}",
                "localtime: unknown",
            ),
            ("{{ .Field ", "unexpected character"),
            ("{{ \"a }}", "unterminated string"),
        ] {
            let error = check(source).expect_err(source).to_string();
            assert!(error.contains(reason), "{source}: {error}");
        }
    }
}
