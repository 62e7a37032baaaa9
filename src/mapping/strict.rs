//! What Go refuses when it parses a template, and gotmpl only when it runs it, or never: a block without its `{{end}}`, an
//! `{{end}}` or `{{else}}` without its block, an unknown function, an undefined variable, `{{break}}` outside of a loop. And
//! a time zone that this system does not know. An operator must hear of these at start-up, not at the first alert.

use gotmpl::parse::{BranchNode, CommandNode, Expr, ListNode, Node, Parser, PipeNode};

use super::functions::FUNCTIONS;
use super::gotime;
use super::uses::Use;
use crate::suggest::did_you_mean;

/// Text put behind a template before parsing. Where the tree does not end with it, the blocks are not balanced: an open
/// one has swallowed it, or parsing ended at a stray `{{end}}` before it.
const SENTINEL: &str = "\u{0}end of template";

const BUILT_IN: &[&str] = &[
    "and", "call", "eq", "ge", "gt", "html", "index", "js", "le", "len", "lt", "ne", "not", "or",
    "print", "printf", "println", "slice", "urlquery",
];

/// What of its dot a template may look at: making these ready costs more than all else about most templates.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[allow(
    clippy::struct_excessive_bools,
    reason = "each stands for a part of the dot"
)]
pub struct Looks {
    /// `.Field`
    pub at_field: bool,
    /// `.RegexMatch`
    pub at_match: bool,
    /// `.Alert`
    pub at_alert: bool,
    /// `.Notification`
    pub at_notification: bool,
}

impl Looks {
    /// At one part of the dot, or of anything else; the name alone is enough to be on the safe side.
    fn at(&mut self, name: Option<&str>) {
        match name {
            Some("Field") => self.at_field = true,
            Some("RegexMatch") => self.at_match = true,
            Some("Alert") => self.at_alert = true,
            Some("Notification") => self.at_notification = true,
            Some(_) => {}
            // The dot as a whole, with all that it holds.
            None => {
                *self = Self {
                    at_field: true,
                    at_match: true,
                    at_alert: true,
                    at_notification: true,
                }
            }
        }
    }
}

/// What a template's text says about what it needs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Needs {
    /// What must be ready in its dot.
    pub looks: Looks,
    /// What it names there, as far as that can be told from its text.
    pub uses: Vec<Use>,
}

/// Checks a template that gotmpl can parse; the error says what Go would not take.
pub fn check(source: &str) -> Result<Needs, String> {
    let guarded = format!("{source}{SENTINEL}");
    let parsed = Parser::new(&guarded, "{{", "}}").and_then(Parser::parse);
    let (tree, defines) = parsed.map_err(|error| error.to_string())?;
    if !matches!(tree.nodes.last(), Some(Node::Text(last)) if last.text.ends_with(SENTINEL)) {
        return Err(
            "blocks are not balanced: an {{end}} is missing, or there is one too many".to_owned(),
        );
    }
    let mut needs = Needs::default();
    Checker::new(&mut needs, Dot::Whole).list(&tree)?;
    for define in &defines {
        Checker::new(&mut needs, Dot::Another).list(&define.body)?;
    }
    Ok(needs)
}

/// What `.` stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Dot {
    /// all that the rule gives
    Whole,
    /// whatever a `{{with}}`, `{{range}}` or `{{template}}` makes it
    Another,
}

/// What a template's tree says about itself.
struct Checker<'n> {
    variables: Vec<String>,
    loops: usize,
    needs: &'n mut Needs,
    dot: Dot,
    /// What `$` stands for: the dot at the beginning.
    dollar: Dot,
}

impl<'n> Checker<'n> {
    /// For a whole template, or one that is defined in it.
    fn new(needs: &'n mut Needs, dot: Dot) -> Self {
        Self {
            variables: vec!["$".to_owned()],
            loops: 0,
            needs,
            dot,
            dollar: dot,
        }
    }

    fn list(&mut self, list: &ListNode) -> Result<(), String> {
        list.nodes.iter().try_for_each(|node| self.node(node))
    }

    fn node(&mut self, node: &Node) -> Result<(), String> {
        match node {
            Node::List(list) => self.list(list),
            Node::Action(action) => self.pipe(&action.pipe),
            Node::If(branch) => self.branch(branch, |checker| {
                checker.scope(|checker| checker.list(&branch.body))
            }),
            Node::With(branch) => self.branch(branch, |checker| {
                checker.with_another_dot(|checker| checker.list(&branch.body))
            }),
            Node::Range(branch) => self.branch(branch, |checker| {
                checker.loops += 1;
                let body = checker.with_another_dot(|checker| checker.list(&branch.body));
                checker.loops -= 1;
                body
            }),
            Node::Template(template) => template.pipe.iter().try_for_each(|pipe| self.pipe(pipe)),
            Node::Define(define) => Checker::new(self.needs, Dot::Another).list(&define.body),
            Node::Break(_) if self.loops == 0 => Err("{{break}} outside {{range}}".to_owned()),
            Node::Continue(_) if self.loops == 0 => {
                Err("{{continue}} outside {{range}}".to_owned())
            }
            Node::Text(_) | Node::Break(_) | Node::Continue(_) => Ok(()),
        }
    }

    /// What comes before and after a body is the same for all three kinds.
    fn branch(
        &mut self,
        branch: &BranchNode,
        body: impl FnOnce(&mut Self) -> Result<(), String>,
    ) -> Result<(), String> {
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

    /// Variables declared inside are unknown after it.
    fn scope(
        &mut self,
        inside: impl FnOnce(&mut Self) -> Result<(), String>,
    ) -> Result<(), String> {
        let known = self.variables.len();
        let result = inside(self);
        self.variables.truncate(known);
        result
    }

    fn with_another_dot(
        &mut self,
        inside: impl FnOnce(&mut Self) -> Result<(), String>,
    ) -> Result<(), String> {
        let outside = std::mem::replace(&mut self.dot, Dot::Another);
        let result = self.scope(inside);
        self.dot = outside;
        result
    }

    /// Names are looked up in something.
    fn names<S: AsRef<str>>(&mut self, dot: Dot, names: &[S]) {
        self.needs.looks.at(names.first().map(AsRef::as_ref));
        self.needs.uses.extend(match dot {
            Dot::Whole => Use::of(names),
            Dot::Another => Use::of_another(names),
        });
    }

    fn pipe(&mut self, pipe: &PipeNode) -> Result<(), String> {
        for (index, command) in pipe.commands.iter().enumerate() {
            self.command(command)?;
            check_zone(command, index > 0)?;
        }
        for name in &pipe.decl {
            if &**name == "$" {
                self.dollar = Dot::Another;
            }
            if pipe.is_assign {
                self.variable(name)?;
            } else {
                self.variables.push(name.to_string());
            }
        }
        Ok(())
    }

    fn command(&mut self, command: &CommandNode) -> Result<(), String> {
        command.args.iter().try_for_each(|arg| self.expression(arg))
    }

    fn expression(&mut self, expression: &Expr) -> Result<(), String> {
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
                Err(format!(
                    "function {name:?} not defined{}",
                    did_you_mean(name, &known)
                ))
            }
            Expr::Variable(_, name, fields) => {
                if name == "$" {
                    self.names(self.dollar, fields);
                }
                self.variable(name)
            }
            Expr::Pipe(_, pipe) => self.pipe(pipe),
            Expr::Chain(_, inner, _) => self.expression(inner),
            Expr::Dot(_) => {
                self.needs.looks.at(None);
                Ok(())
            }
            Expr::Field(_, names) => {
                self.names(self.dot, names);
                Ok(())
            }
            Expr::String(..) | Expr::Number(..) | Expr::Bool(..) | Expr::Nil(_) => Ok(()),
        }
    }

    fn variable(&self, name: &str) -> Result<(), String> {
        if self.variables.iter().any(|known| known == name) {
            return Ok(());
        }
        Err(format!("undefined variable {name:?}"))
    }
}

/// Checks the zone of `localtime LAYOUT [ZONE] VALUE` where it is a constant, or the system's. A command that is piped into has
/// its last value from there.
fn check_zone(command: &CommandNode, is_piped_into: bool) -> Result<(), String> {
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
    gotime::zone(zone)
        .map(drop)
        .map_err(|error| format!("localtime: {error}{}", error.hint()))
}

#[cfg(test)]
mod tests {
    use super::{Looks, check};

    #[test]
    fn tells_what_a_template_may_look_at() {
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
            let [at_field, at_match, at_alert, at_notification] =
                ['f', 'm', 'a', 'n'].map(|part| parts.contains(part));
            let looks = Looks {
                at_field,
                at_match,
                at_alert,
                at_notification,
            };
            assert_eq!(
                check(source).map(|needs| needs.looks),
                Ok(looks),
                "{source}"
            );
        }
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
            let error = check(source).expect_err(source);
            assert!(error.contains(reason), "{source}: {error}");
        }
    }
}
