//! What can be said of a parsed template without running it: what it looks up in its data, what fails wherever it is reached,
//! and which of its patterns are constants, which are compiled here.

use std::collections::BTreeSet;

use crate::error::{Failure, Location};
use crate::eval::{not_a_function, undefined_template, undefined_variable};
use crate::functions::{AND, CALL, Function, LOCALTIME, OR, Type};
use crate::literal::Ideal;
use crate::messages::did_you_mean;
use crate::regexp::{RegexpBudget, RegexpError};
use crate::time;
use crate::tree::{Command, Loop, Node, Operand, Pipeline, Position, Term, Tree};

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
}

/// Checks a template, and compiles its constant patterns. The failure says what would fail whenever the template is run.
pub fn check(
    tree: &mut Tree,
    source: &str,
    regexps: &mut RegexpBudget,
) -> Result<Analysis, Failure> {
    let definitions = tree.definitions.keys().cloned().collect();
    let mut checker = Checker {
        source,
        definitions,
        analysis: Analysis::default(),
        regexps,
        variables: vec!["$".into()],
        dot: Dot::Root,
        dollar: Dot::Root,
        is_certain: true,
    };
    checker.nodes(&mut tree.root)?;
    checker.is_certain = false;
    for body in tree.definitions.values_mut() {
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
    regexps: &'s mut RegexpBudget,
    /// Those that are known here as the template runs: fewer than the parser knows.
    variables: Vec<Box<str>>,
    dot: Dot,
    dollar: Dot,
    /// Whether this place is reached whenever the template is run.
    is_certain: bool,
}

type Checked = Result<(), Failure>;

impl Checker<'_> {
    /// Something that fails where it is reached.
    fn fault(&mut self, at: Position, message: String) -> Checked {
        if self.is_certain {
            return Err(Failure { at, message });
        }
        self.warn(at, format!("fails where it is reached: {message}"));
        Ok(())
    }

    fn warn(&mut self, at: Position, message: String) {
        self.analysis.warnings.push(Warning {
            location: Location::of(at, self.source),
            message,
        });
    }

    fn nodes(&mut self, nodes: &mut [Node]) -> Checked {
        for node in nodes {
            match node {
                Node::Text(_) | Node::Break | Node::Continue => {}
                Node::Action(pipeline) => self.pipeline(pipeline)?,
                Node::If(branch) => self.branch(branch, self.dot)?,
                Node::With(branch) => self.branch(branch, Dot::Inner)?,
                Node::Range(range) => self.range(range)?,
                Node::Template(call) => {
                    if !self.definitions.contains(&call.name) {
                        let known: Vec<&str> =
                            self.definitions.iter().map(String::as_str).collect();
                        let hint = did_you_mean(&call.name, &known);
                        self.fault(call.at, undefined_template(&call.name) + &hint)?;
                    }
                    call.pipeline
                        .iter_mut()
                        .try_for_each(|pipe| self.pipeline(pipe))?;
                }
            }
        }
        Ok(())
    }

    fn branch(&mut self, branch: &mut crate::tree::Branch, dot: Dot) -> Checked {
        let (known, was_certain) = (self.variables.len(), self.is_certain);
        for arm in &mut branch.arms {
            self.pipeline(&mut arm.condition)?;
            self.is_certain = false;
            self.body(&mut arm.body, dot)?;
        }
        self.body(&mut branch.otherwise, self.dot)?;
        self.is_certain = was_certain;
        self.variables.truncate(known);
        Ok(())
    }

    fn range(&mut self, range: &mut Loop) -> Checked {
        let (known, was_certain) = (self.variables.len(), self.is_certain);
        self.pipeline(&mut range.pipeline)?;
        let Pipeline {
            variables, assigns, ..
        } = &range.pipeline;
        if *assigns && !self.variables.ends_with(variables) {
            let names = variables.join(", ");
            let message = format!(
                "Go before 1.20 gives other variables the values of {names} here; declare {names} right before the loop, or write := instead of ="
            );
            let at = range.pipeline.commands[0].first.at;
            return Err(Failure { at, message });
        }
        self.is_certain = false;
        self.body(&mut range.body, Dot::Inner)?;
        self.body(&mut range.otherwise, self.dot)?;
        self.is_certain = was_certain;
        self.variables.truncate(known);
        Ok(())
    }

    fn body(&mut self, nodes: &mut [Node], dot: Dot) -> Checked {
        let known = self.variables.len();
        let outside = std::mem::replace(&mut self.dot, dot);
        self.nodes(nodes)?;
        self.dot = outside;
        self.variables.truncate(known);
        Ok(())
    }

    fn pipeline(&mut self, pipeline: &mut Pipeline) -> Checked {
        let mut piped = None;
        for command in &mut pipeline.commands {
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
    fn command(&mut self, command: &mut Command, piped: Option<&'static str>) -> Checked {
        let at = command.first.at;
        let Term::Function(function) = command.first.term else {
            if !command.arguments.is_empty() || piped.is_some() {
                self.fault(at, not_a_function(&command.first.term))?;
            } else if matches!(command.first.term, Term::Nil) {
                self.fault(at, "nil is not a command".to_owned())?;
            }
            for operand in std::iter::once(&mut command.first).chain(&mut command.arguments) {
                self.operand(operand)?;
            }
            return Ok(());
        };
        let count = command.arguments.len() + usize::from(piped.is_some());
        if let Err(message) = function.check_count(count) {
            self.fault(at, message)?;
        }
        if function.name == CALL {
            self.fault(at, "call: none of the values is a function".to_owned())?;
        }
        let was_certain = self.is_certain;
        for (index, operand) in command.arguments.iter_mut().enumerate() {
            self.operand(operand)?;
            self.argument(function, index, operand)?;
            self.is_certain &= !matches!(function.name, AND | OR);
        }
        self.is_certain = was_certain;
        let wanted = function.parameter(command.arguments.len());
        if let Some(kind) = piped {
            self.kind(at, wanted, kind)?;
        }
        check_zone(function, command, count)?;
        self.pattern(function, command)
    }

    fn argument(&mut self, function: &Function, index: usize, operand: &Operand) -> Checked {
        let wanted = function.parameter(index);
        match &operand.term {
            Term::Number(number) if wanted == Type::Int && number.integer.is_some() => Ok(()),
            term => self.kind(operand.at, wanted, term_type(term)),
        }
    }

    fn kind(&mut self, at: Position, wanted: Type, kind: &str) -> Checked {
        if [Type::Any.name(), wanted.name()].contains(&kind) || wanted == Type::Any {
            return Ok(());
        }
        let wanted = wanted.name();
        self.fault(
            at,
            format!("wrong type for value; expected {wanted}; got {kind}"),
        )
    }

    fn operand(&mut self, operand: &mut Operand) -> Checked {
        let at = operand.at;
        match &mut operand.term {
            Term::Number(number) if number.ideal == Ideal::Overflow => {
                self.fault(at, "the number overflows int".to_owned())
            }
            Term::Nil | Term::Bool(_) | Term::Text(_) | Term::Number(_) => Ok(()),
            Term::Dot => {
                self.looked_up(self.dot, &[]);
                Ok(())
            }
            Term::Fields(names) => {
                self.looked_up(self.dot, names);
                Ok(())
            }
            Term::Variable(name, names) => {
                if &**name == "$" {
                    self.looked_up(self.dollar, names);
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

    fn looked_up(&mut self, dot: Dot, names: &[Box<str>]) {
        if names.is_empty() {
            self.analysis.uses_whole_root |= dot == Dot::Root;
            return;
        }
        let names = names.iter().map(ToString::to_string).collect();
        self.analysis.fields.push(FieldRef { dot, names });
    }

    /// Compiles a constant pattern.
    fn pattern(&mut self, function: &Function, command: &mut Command) -> Checked {
        let operand = function
            .pattern_index()
            .and_then(|index| command.arguments.get(index));
        let Some(Operand {
            at,
            term: Term::Text(text),
        }) = operand
        else {
            return Ok(());
        };
        let compiled = match std::str::from_utf8(text) {
            Ok(pattern) => self.regexps.compile(pattern),
            Err(_) => Err(RegexpError::Syntax("it is not valid UTF-8".to_owned())),
        };
        match &compiled {
            Ok(_) => {}
            Err(RegexpError::Syntax(error)) => {
                let message = format!(
                    "{} gives an empty text: its pattern does not compile: {error}",
                    function.name
                );
                self.warn(*at, message);
            }
            Err(error @ (RegexpError::TooLarge(_) | RegexpError::OverBudget)) => {
                return Err(Failure {
                    at: *at,
                    message: error.to_string(),
                });
            }
        }
        command.pattern = Some(Box::new(compiled));
        Ok(())
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
        Err(error) => Err(Failure {
            at: command.first.at,
            message: format!("{LOCALTIME}: {error}{}", error.hint()),
        }),
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
