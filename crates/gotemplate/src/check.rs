//! What can be said of a parsed template without running it: what it looks up in its data, and what fails wherever it is reached.

use std::collections::BTreeSet;

use crate::error::{
    Failure, Location, NIL_IS_NO_COMMAND, NameKind, Position, UnknownName, undefined_template,
    undefined_variable, wrong_type,
};
use crate::function::{AND, CALL, Function, LOCALTIME, OR, Type};
use crate::literal::Ideal;
use crate::regexp::RegexpError;
use crate::time;
use crate::tree::{Branch, Command, Loop, Node, Operand, Pipeline, Term, Tree};

/// How many warnings one template may have; more are left out. Each may list all names that are known.
const MAX_WARNINGS: usize = 50;

/// What can be said of a template without running it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Analysis {
    fields: Vec<FieldRef>,
    uses_whole_root: bool,
    warnings: Vec<Warning>,
}

impl Analysis {
    /// The fields that it looks up, in the order of the source.
    pub fn fields(&self) -> &[FieldRef] {
        &self.fields
    }

    /// Whether it may use a field of the root dot. A field of the same name in an inner dot counts, and a use of the root dot as a
    /// whole counts as one of every field.
    pub fn may_use(&self, name: &str) -> bool {
        self.uses_whole_root
            || self
                .fields
                .iter()
                .any(|field| field.names.first().is_some_and(|first| first == name))
    }

    /// What fails where it is reached, which may never happen.
    pub fn warnings(&self) -> &[Warning] {
        &self.warnings
    }
}

/// Fields that are looked up one in the other: `a` and `b` in `.a.b`. Never none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldRef {
    /// Where the first one is looked up.
    pub dot: Dot,
    /// The names.
    pub names: Vec<String>,
}

/// What `.` stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dot {
    /// The template's data.
    Root,
    /// What a `{{with}}`, `{{range}}` or `{{template}}` makes it.
    Inner,
}

/// Something that is probably not meant.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("at {location} of the template: {message}")]
pub struct Warning {
    /// Where.
    pub location: Location,
    /// What happens there.
    pub message: String,
    /// The name that is wrong, if one is.
    pub unknown: Option<UnknownName>,
}

/// Checks a template. The failure says what would fail whenever the template is run.
pub fn check(tree: &Tree, source: &str) -> Result<Analysis, Failure> {
    let definitions = tree.definitions.keys().cloned().collect();
    let mut checker = Checker {
        source,
        definitions,
        analysis: Analysis::default(),
        variables: vec!["$".into()],
        dot: Dot::Root,
        dollar: Dot::Root,
        always_runs: true,
    };
    checker.nodes(&tree.root)?;
    checker.always_runs = false;
    for body in tree.definitions.values() {
        checker.variables = vec!["$".into()];
        (checker.dot, checker.dollar) = (Dot::Inner, Dot::Inner);
        checker.nodes(body)?;
    }
    Ok(checker.analysis)
}

struct Checker<'s> {
    source: &'s str,
    definitions: BTreeSet<String>,
    analysis: Analysis,
    /// Those that are known here as the template runs: fewer than the parser knows.
    variables: Vec<Box<str>>,
    dot: Dot,
    dollar: Dot,
    /// Whether this place is reached whenever the template is run.
    always_runs: bool,
}

type Checked = Result<(), Failure>;

impl Checker<'_> {
    /// Something that fails where it is reached.
    fn fault(&mut self, at: Position, message: impl Into<String>) -> Checked {
        self.failure(Failure::new(at, message))
    }

    fn failure(&mut self, failure: Failure) -> Checked {
        if self.always_runs {
            return Err(failure);
        }
        let message = format!("fails where it is reached: {}", failure.message);
        self.warn(Failure { message, ..failure });
        Ok(())
    }

    fn warn(&mut self, failure: Failure) {
        if self.has_room() {
            self.analysis.warnings.push(Warning {
                location: Location::of(failure.at, self.source),
                message: failure.message,
                unknown: failure.unknown,
            });
        }
    }

    fn has_room(&self) -> bool {
        self.analysis.warnings.len() < MAX_WARNINGS
    }

    fn nodes(&mut self, nodes: &[Node]) -> Checked {
        for node in nodes {
            match node {
                Node::Text(_) | Node::Break | Node::Continue => {}
                Node::Action(pipeline) => self.pipeline(pipeline)?,
                Node::If(branch) => self.branch(branch, self.dot)?,
                Node::With(branch) => self.branch(branch, Dot::Inner)?,
                Node::Range(range) => self.range(range)?,
                Node::Template(call) => {
                    if !self.definitions.contains(&call.name)
                        && (self.always_runs || self.has_room())
                    {
                        let unknown = UnknownName {
                            kind: NameKind::Template,
                            name: call.name.clone(),
                            known: self.definitions.iter().cloned().collect(),
                        };
                        let message = undefined_template(&call.name);
                        self.failure(Failure::unknown(call.at, message, unknown))?;
                    }
                    let mut pipeline = call.pipeline.iter();
                    pipeline.try_for_each(|pipeline| self.pipeline(pipeline))?;
                }
            }
        }
        Ok(())
    }

    fn branch(&mut self, branch: &Branch, dot: Dot) -> Checked {
        let (known, outside_always_runs) = (self.variables.len(), self.always_runs);
        for arm in &branch.arms {
            self.pipeline(&arm.condition)?;
            self.always_runs = false;
            self.body(&arm.body, dot)?;
        }
        self.body(&branch.otherwise, self.dot)?;
        self.always_runs = outside_always_runs;
        self.variables.truncate(known);
        Ok(())
    }

    fn range(&mut self, range: &Loop) -> Checked {
        let (known, outside_always_runs) = (self.variables.len(), self.always_runs);
        self.pipeline(&range.pipeline)?;
        let Pipeline {
            variables, assigns, ..
        } = &range.pipeline;
        if *assigns && !self.variables.ends_with(variables) {
            let names = variables.join(", ");
            let message = format!(
                "Go before 1.20 gives other variables the values of {names} here; declare {names} right before the loop, or write := instead of ="
            );
            let at = range.pipeline.commands[0].first.at;
            return Err(Failure::new(at, message));
        }
        self.always_runs = false;
        self.body(&range.body, Dot::Inner)?;
        self.body(&range.otherwise, self.dot)?;
        self.always_runs = outside_always_runs;
        self.variables.truncate(known);
        Ok(())
    }

    fn body(&mut self, nodes: &[Node], dot: Dot) -> Checked {
        let known = self.variables.len();
        let outside = std::mem::replace(&mut self.dot, dot);
        self.nodes(nodes)?;
        self.dot = outside;
        self.variables.truncate(known);
        Ok(())
    }

    fn pipeline(&mut self, pipeline: &Pipeline) -> Checked {
        let mut piped = None;
        for command in &pipeline.commands {
            self.command(command, piped)?;
            piped = Some(term_type(&command.first.term));
        }
        for name in &pipeline.variables {
            if &**name == "$" {
                self.dollar = Dot::Inner;
            }
            if pipeline.assigns {
                self.variable(name, pipeline.commands[0].first.at)?;
            } else {
                self.variables.push(name.clone());
            }
        }
        Ok(())
    }

    fn variable(&mut self, name: &str, at: Position) -> Checked {
        if self.variables.iter().any(|known| &**known == name) {
            return Ok(());
        }
        self.fault(at, undefined_variable(name))
    }

    /// `piped`: the type of what is piped into it.
    fn command(&mut self, command: &Command, piped: Option<&'static str>) -> Checked {
        let at = command.first.at;
        let Term::Function(function) = command.first.term else {
            if !command.arguments.is_empty() || piped.is_some() {
                self.fault(at, command.first.term.not_a_function())?;
            } else if matches!(command.first.term, Term::Nil) {
                self.fault(at, NIL_IS_NO_COMMAND)?;
            }
            for operand in std::iter::once(&command.first).chain(&command.arguments) {
                self.operand(operand)?;
            }
            return Ok(());
        };
        let count = command.arguments.len() + usize::from(piped.is_some());
        if let Err(message) = function.check_count(count) {
            self.fault(at, message)?;
        }
        if function.name == CALL {
            self.fault(at, "call: none of the values is a function")?;
        }
        let outside_always_runs = self.always_runs;
        for (index, operand) in command.arguments.iter().enumerate() {
            self.operand(operand)?;
            self.argument(function, index, operand)?;
            self.always_runs &= !matches!(function.name, AND | OR);
        }
        self.always_runs = outside_always_runs;
        let wanted = function.parameter(command.arguments.len());
        if let Some(kind) = piped {
            self.expect_type(at, wanted, kind)?;
        }
        check_zone(function, command, count)?;
        self.pattern(function, command);
        Ok(())
    }

    fn argument(&mut self, function: &Function, index: usize, operand: &Operand) -> Checked {
        let wanted = function.parameter(index);
        match &operand.term {
            Term::Number(number) if wanted == Type::Int && number.integer.is_some() => Ok(()),
            term => self.expect_type(operand.at, wanted, term_type(term)),
        }
    }

    fn expect_type(&mut self, at: Position, wanted: Type, kind: &str) -> Checked {
        if [Type::Any.name(), wanted.name()].contains(&kind) || wanted == Type::Any {
            return Ok(());
        }
        self.fault(at, wrong_type(wanted.name(), kind))
    }

    fn operand(&mut self, operand: &Operand) -> Checked {
        let at = operand.at;
        match &operand.term {
            Term::Number(number) if number.ideal == Ideal::Overflow => {
                self.fault(at, "the number overflows int")
            }
            Term::Nil | Term::Bool(_) | Term::Text(_) | Term::Number(_) => Ok(()),
            Term::Dot => {
                self.record_field(self.dot, &[]);
                Ok(())
            }
            Term::Fields(names) => {
                self.record_field(self.dot, names);
                Ok(())
            }
            Term::Variable(name, names) => {
                if &**name == "$" {
                    self.record_field(self.dollar, names);
                }
                self.variable(name, at)
            }
            Term::Function(function) => match function.check_count(0) {
                Ok(()) => Ok(()),
                Err(message) => self.fault(at, message),
            },
            Term::Pipeline(pipeline) => self.pipeline(pipeline),
            Term::Chain(inner, names) => {
                self.operand(inner)?;
                let kind = term_type(&inner.term);
                if kind == Type::Any.name() {
                    return Ok(());
                }
                let name = &names[0];
                self.fault(at, format!("can't evaluate field {name} in type {kind}"))
            }
        }
    }

    fn record_field(&mut self, dot: Dot, names: &[Box<str>]) {
        if names.is_empty() {
            self.analysis.uses_whole_root |= dot == Dot::Root;
            return;
        }
        let names = names.iter().map(ToString::to_string).collect();
        self.analysis.fields.push(FieldRef { dot, names });
    }

    /// Warns of a constant pattern that does not compile.
    fn pattern(&mut self, function: &Function, command: &Command) {
        if let Some(Err(RegexpError::Syntax(error))) = command.pattern.as_deref() {
            let name = function.name;
            let message =
                format!("{name} gives an empty text: its pattern does not compile: {error}");
            let operand = function
                .pattern_index()
                .map(|index| &command.arguments[index]);
            let at = operand.map_or(command.first.at, |operand| operand.at);
            self.warn(Failure::new(at, message));
        }
    }
}

/// The zone of `localtime LAYOUT [ZONE] VALUE`, where it is a constant or the system's, must be known.
fn check_zone(function: &Function, command: &Command, count: usize) -> Checked {
    if function.name != LOCALTIME {
        return Ok(());
    }
    let zone = match (count, command.arguments.get(1).map(|operand| &operand.term)) {
        (2, _) => None,
        (3, Some(Term::Text(zone))) => Some(String::from_utf8_lossy(zone)),
        _ => return Ok(()),
    };
    match time::zone(zone.as_deref()) {
        Ok(_) => Ok(()),
        Err(error) => {
            let unknown = UnknownName {
                kind: NameKind::TimeZone,
                name: error.name().to_owned(),
                known: time::zone_names(),
            };
            let message = format!("{LOCALTIME}: {error}");
            Err(Failure::unknown(command.first.at, message, unknown))
        }
    }
}

/// The type of what a term gives, where its form says it; otherwise it may be any.
fn term_type(term: &Term) -> &'static str {
    match term {
        Term::Nil => "nil",
        Term::Bool(_) => Type::Bool.name(),
        Term::Text(_) => Type::Text.name(),
        Term::Number(number) => match number.ideal {
            Ideal::Int(_) | Ideal::Overflow => Type::Int.name(),
            Ideal::Float(_) => "float64",
        },
        Term::Function(function) => function.result.name(),
        Term::Pipeline(pipeline) => match pipeline.commands.last() {
            Some(command) => term_type(&command.first.term),
            None => Type::Any.name(),
        },
        Term::Dot | Term::Fields(_) | Term::Variable(..) | Term::Chain(..) => Type::Any.name(),
    }
}
