//! What can be said of a parsed template without running it: what it looks up in its data, and what fails wherever it is reached.

use std::collections::BTreeSet;

use crate::error::{
    Failure, Location, NIL_IS_NO_COMMAND, NameKind, Position, UnknownName, undefined_template,
    undefined_variable,
};
use crate::function::{AND, CALL, Function, LOCALTIME, OR, Type};
use crate::literal::{Ideal, Number};
use crate::regexp::RegexpError;
use crate::shape::{MapShape, Shape};
use crate::time;
use crate::tree::{Branch, Command, Loop, Node, Operand, Pipeline, TemplateCall, Term, Tree};

/// How many faults and how many optional fields of one template are kept. A fault may list all names that are known.
const MAX_FAULTS: usize = 50;

/// What can be said of a template without running it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Analysis {
    fields: BTreeSet<String>,
    uses_whole_root: bool,
    faults: Vec<Fault>,
    optional: BTreeSet<String>,
}

impl Analysis {
    /// Whether it may use a field of the root dot. A field of the same name in an inner dot counts, and a use of the root dot as a
    /// whole counts as one of every field.
    pub fn may_use(&self, name: &str) -> bool {
        self.uses_whole_root || self.fields.contains(name)
    }

    /// What fails, at most 50 of them. One that always does is among them if there is any.
    pub fn faults(&self) -> &[Fault] {
        &self.faults
    }

    /// The fields that it looks up whenever it is run and that its data may lack, as they are written; at most 50 of them.
    pub fn optional(&self) -> impl Iterator<Item = &str> {
        self.optional.iter().map(String::as_str)
    }
}

/// Something that fails where it is reached.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("at {location} of the template: {message}")]
pub struct Fault {
    /// Where.
    pub location: Location,
    /// What happens there.
    pub message: String,
    /// Whether it fails whenever the template is run. Otherwise it may not be reached, or may not fail.
    pub always: bool,
    /// The name that is wrong, if one is.
    pub unknown: Option<UnknownName>,
}

/// Checks a template for data of some shape. The failure is what is refused wherever it is.
pub fn check(tree: &Tree, source: &str, root: &Shape) -> Result<Analysis, Failure> {
    let dollar = if tree.assigned.contains("$") {
        &Shape::Any
    } else {
        root
    };
    let mut checker = Checker {
        source,
        tree,
        root,
        analysis: Analysis::default(),
        variables: vec![("$", dollar)],
        dot: Dot {
            shape: root,
            is_root: true,
        },
        always_runs: true,
        is_separate: false,
        may_be_skipped: false,
    };
    checker.nodes(&tree.root)?;
    checker.always_runs = false;
    checker.is_separate = true;
    for body in tree.definitions.values() {
        checker.variables = vec![("$", &Shape::Any)];
        checker.dot = Dot::inner(&Shape::Any);
        checker.nodes(body)?;
    }
    Ok(checker.analysis)
}

/// What `.` stands for.
#[derive(Clone, Copy)]
struct Dot<'t> {
    shape: &'t Shape,
    /// Whether it is the template's data.
    is_root: bool,
}

impl<'t> Dot<'t> {
    fn inner(shape: &'t Shape) -> Self {
        Self {
            shape,
            is_root: false,
        }
    }
}

struct Checker<'t> {
    source: &'t str,
    tree: &'t Tree,
    root: &'t Shape,
    analysis: Analysis,
    /// Those that are known here as the template runs: fewer than the parser knows. The last one of a name counts.
    variables: Vec<(&'t str, &'t Shape)>,
    dot: Dot<'t>,
    /// Whether this place is reached whenever the template is run.
    always_runs: bool,
    /// Whether this is the body of a `{{define}}`.
    is_separate: bool,
    /// Whether this is an operand that `and` or `or` may leave out.
    may_be_skipped: bool,
}

type Checked<T = ()> = Result<T, Failure>;

impl<'t> Checker<'t> {
    /// Something that fails where it is reached.
    fn fault(&mut self, at: Position, message: impl Into<String>) {
        self.fails(self.always_runs, Failure::new(at, message));
    }

    fn fails(&mut self, always: bool, failure: Failure) {
        let message = if always {
            failure.message
        } else {
            format!("fails where it is reached: {}", failure.message)
        };
        self.add(always, Failure { message, ..failure });
    }

    /// Of the faults that are too many, the last one makes room for one that always fails.
    fn add(&mut self, always: bool, failure: Failure) {
        let faults = &mut self.analysis.faults;
        if faults.len() >= MAX_FAULTS {
            if !always || faults.iter().any(|fault| fault.always) {
                return;
            }
            faults.pop();
        }
        faults.push(Fault {
            location: Location::of(failure.at, self.source),
            message: failure.message,
            always,
            unknown: failure.unknown,
        });
    }

    fn has_room(&self) -> bool {
        let faults = &self.analysis.faults;
        faults.len() < MAX_FAULTS || self.always_runs && !faults.iter().any(|fault| fault.always)
    }

    fn nodes(&mut self, nodes: &'t [Node]) -> Checked {
        for node in nodes {
            match node {
                Node::Text(_) | Node::Break | Node::Continue => {}
                Node::Action(pipeline) => {
                    self.pipeline(pipeline)?;
                }
                Node::If(branch) => self.branch(branch, false)?,
                Node::With(branch) => self.branch(branch, true)?,
                Node::Range(range) => self.range(range)?,
                Node::Template(call) => self.template(call)?,
            }
        }
        Ok(())
    }

    fn template(&mut self, call: &'t TemplateCall) -> Checked {
        let definitions = &self.tree.definitions;
        if !definitions.contains_key(&call.name) && self.has_room() {
            let unknown = UnknownName {
                kind: NameKind::Template,
                name: call.name.clone(),
                known: definitions.keys().cloned().collect(),
            };
            let message = undefined_template(&call.name);
            self.fails(
                self.always_runs,
                Failure::unknown(call.at, message, unknown),
            );
        }
        if let Some(pipeline) = &call.pipeline {
            self.pipeline(pipeline)?;
        }
        Ok(())
    }

    fn branch(&mut self, branch: &'t Branch, changes_dot: bool) -> Checked {
        let (known, always_runs) = (self.variables.len(), self.always_runs);
        for arm in &branch.arms {
            let shape = self.pipeline(&arm.condition)?;
            self.always_runs = false;
            let dot = if changes_dot {
                Dot::inner(shape)
            } else {
                self.dot
            };
            self.body(&arm.body, dot)?;
        }
        self.body(&branch.otherwise, self.dot)?;
        self.always_runs = always_runs;
        self.variables.truncate(known);
        Ok(())
    }

    fn range(&mut self, range: &'t Loop) -> Checked {
        let (known, always_runs) = (self.variables.len(), self.always_runs);
        let shape = self.pipeline(&range.pipeline)?;
        let at = range.pipeline.commands[0].first.at;
        let Pipeline {
            variables, assigns, ..
        } = &range.pipeline;
        let are_last = variables
            .iter()
            .rev()
            .zip(self.variables.iter().rev())
            .all(|(name, (known, _))| **name == **known);
        if *assigns && !(are_last && variables.len() <= self.variables.len()) {
            let names = variables.join(", ");
            let message = format!(
                "Go before 1.20 gives other variables the values of {names} here; declare {names} right before the loop, or write := instead of ="
            );
            return Err(Failure::new(at, message));
        }
        if let Err(message) = shape.check_range() {
            self.fault(at, message);
        }
        self.always_runs = false;
        let element = match shape {
            Shape::Texts => &Shape::Text,
            _ => &Shape::Any,
        };
        // In the loop they are a key and its value, behind {{else}} the whole.
        let declared = if *assigns { 0 } else { variables.len() };
        let first = self.variables.len() - declared;
        for (_, shape) in &mut self.variables[first..] {
            *shape = &Shape::Any;
        }
        self.body(&range.body, Dot::inner(element))?;
        self.body(&range.otherwise, self.dot)?;
        self.always_runs = always_runs;
        self.variables.truncate(known);
        Ok(())
    }

    fn body(&mut self, nodes: &'t [Node], dot: Dot<'t>) -> Checked {
        let known = self.variables.len();
        let outside = std::mem::replace(&mut self.dot, dot);
        self.nodes(nodes)?;
        self.dot = outside;
        self.variables.truncate(known);
        Ok(())
    }

    fn pipeline(&mut self, pipeline: &'t Pipeline) -> Checked<&'t Shape> {
        let mut last = None;
        for command in &pipeline.commands {
            last = Some(self.command(command, last)?);
        }
        let shape = last.unwrap_or(&Shape::Any);
        for name in &pipeline.variables {
            if pipeline.assigns {
                self.variable(name, pipeline.commands[0].first.at);
            } else if self.may_be_skipped || self.tree.assigned.contains(name) {
                self.variables.push((name, &Shape::Any));
            } else {
                self.variables.push((name, shape));
            }
        }
        Ok(shape)
    }

    fn variable(&mut self, name: &str, at: Position) -> &'t Shape {
        let known = self
            .variables
            .iter()
            .rev()
            .find(|(known, _)| *known == name);
        if let Some((_, shape)) = known {
            return shape;
        }
        self.fault(at, undefined_variable(name));
        &Shape::Any
    }

    /// `piped`: what is piped into it.
    fn command(&mut self, command: &'t Command, piped: Option<&'t Shape>) -> Checked<&'t Shape> {
        let (first, at) = (&command.first, command.first.at);
        let Term::Function(function) = first.term else {
            if !command.arguments.is_empty() || piped.is_some() {
                self.fault(at, first.term.not_a_function());
            } else if matches!(first.term, Term::Nil) {
                self.fault(at, NIL_IS_NO_COMMAND);
            }
            let shape = self.operand(first)?;
            for operand in &command.arguments {
                self.operand(operand)?;
            }
            return Ok(shape);
        };
        let mut values = Vec::with_capacity(command.arguments.len() + 1);
        let (always_runs, may_be_skipped) = (self.always_runs, self.may_be_skipped);
        for (index, operand) in command.arguments.iter().enumerate() {
            values.push(self.argument(operand, function.parameter(index))?);
            if matches!(function.name, AND | OR) {
                (self.always_runs, self.may_be_skipped) = (false, true);
            }
        }
        (self.always_runs, self.may_be_skipped) = (always_runs, may_be_skipped);
        if let Some(piped) = piped {
            self.expect_type(at, function.parameter(values.len()), piped);
            values.push(piped);
        }
        check_zone(function, command, values.len())?;
        self.pattern(function, command);
        Ok(self.call(function, command, &values))
    }

    /// What a function gives of its values.
    fn call(
        &mut self,
        function: &Function,
        command: &'t Command,
        values: &[&'t Shape],
    ) -> &'t Shape {
        let at = command.first.at;
        if let Err(message) = function.check_count(values.len()) {
            self.fault(at, message);
            return &Shape::Any;
        }
        if function.name == CALL {
            self.fault(at, "call: none of the values is a function");
        }
        let given = match function.name {
            "index" => index(&command.arguments, values),
            name => Shape::check_call(name, values).map(|()| function.result.into()),
        };
        given.unwrap_or_else(|message| {
            self.fault(at, format!("{}: {message}", function.name));
            &Shape::Any
        })
    }

    fn argument(&mut self, operand: &'t Operand, parameter: Type) -> Checked<&'t Shape> {
        let shape = self.operand(operand)?;
        match &operand.term {
            Term::Number(number) if parameter == Type::Int && number.integer.is_some() => {}
            _ => self.expect_type(operand.at, parameter, shape),
        }
        Ok(shape)
    }

    fn expect_type(&mut self, at: Position, parameter: Type, shape: &Shape) {
        if let Err(message) = shape.check_parameter(parameter) {
            self.fault(at, message);
        }
    }

    fn operand(&mut self, operand: &'t Operand) -> Checked<&'t Shape> {
        let at = operand.at;
        Ok(match &operand.term {
            Term::Nil => &Shape::Nil,
            Term::Bool(_) => &Shape::Bool,
            Term::Text(_) => &Shape::Text,
            Term::Number(number) => self.number(number, at),
            Term::Dot => {
                self.analysis.uses_whole_root |= self.dot.is_root;
                self.dot.shape
            }
            Term::Fields(names) => {
                let dot = self.dot;
                self.record_field(names);
                if self.is_separate {
                    self.absent_field(at, names);
                }
                self.fields(at, dot.shape, "", names)
            }
            Term::Variable(name, names) => {
                if &**name == "$" && names.is_empty() {
                    self.analysis.uses_whole_root |= !self.is_separate;
                } else if &**name == "$" {
                    self.record_field(names);
                }
                let shape = self.variable(name, at);
                self.fields(at, shape, name, names)
            }
            Term::Function(function) => match function.check_count(0) {
                Ok(()) => function.result.into(),
                Err(message) => {
                    self.fault(at, message);
                    &Shape::Any
                }
            },
            Term::Pipeline(pipeline) => self.pipeline(pipeline)?,
            Term::Chain(inner, names) => {
                let shape = self.operand(inner)?;
                self.fields(at, shape, "(…)", names)
            }
        })
    }

    fn number(&mut self, number: &Number, at: Position) -> &'static Shape {
        match number.ideal {
            Ideal::Int(_) => &Shape::Int,
            Ideal::Float(_) => &Shape::Float,
            Ideal::Overflow => {
                self.fault(at, "the number overflows int");
                &Shape::Any
            }
        }
    }

    fn record_field(&mut self, names: &[Box<str>]) {
        let first = names.iter().take(1);
        self.analysis.fields.extend(first.map(ToString::to_string));
    }

    /// The dot of a `{{define}}` may be anything. A name that the root has in other cases is most likely meant as that.
    fn absent_field(&mut self, at: Position, names: &[Box<str>]) {
        if let (Shape::Map(root), Some(name)) = (self.root, names.first())
            && let Some(Err(why)) = root.get(name)
        {
            self.fails(false, Failure::new(at, format!(".{name}: {why}")));
        }
    }

    /// What is looked up in a value, name by name. `of` is the value, as it is written.
    fn fields(
        &mut self,
        at: Position,
        value: &'t Shape,
        of: &str,
        names: &[Box<str>],
    ) -> &'t Shape {
        let mut shape = value;
        for (depth, name) in names.iter().enumerate() {
            let path = |depth: usize| match names[..depth].join(".") {
                path if path.is_empty() && of.is_empty() => ".".to_owned(),
                path if path.is_empty() => of.to_owned(),
                path => format!("{of}.{path}"),
            };
            shape = match shape {
                Shape::Any => return &Shape::Any,
                Shape::Texts => {
                    self.record_optional(|| path(depth + 1));
                    &Shape::Text
                }
                Shape::Map(map) => match map.get(name) {
                    Some(Ok(shape)) => shape,
                    Some(Err(why)) => {
                        self.fault(at, format!("{}: {why}", path(depth + 1)));
                        return &Shape::Any;
                    }
                    None => {
                        self.unknown_field(at, map, &path(depth + 1), name);
                        return &Shape::Any;
                    }
                },
                other => {
                    let (path, parent, kind) = (path(depth + 1), path(depth), other.type_name());
                    self.fault(at, format!("{path}: {parent} is a {kind}, not a map"));
                    return &Shape::Any;
                }
            };
        }
        shape
    }

    fn record_optional(&mut self, path: impl FnOnce() -> String) {
        if self.always_runs && self.analysis.optional.len() < MAX_FAULTS {
            self.analysis.optional.insert(path());
        }
    }

    fn unknown_field(&mut self, at: Position, map: &MapShape, path: &str, name: &str) {
        if !self.has_room() {
            return;
        }
        let unknown = UnknownName {
            kind: if map.may_have_others {
                NameKind::PossibleField
            } else {
                NameKind::Field
            },
            name: name.to_owned(),
            known: map.names(),
        };
        let always = self.always_runs && !map.may_have_others;
        let message = format!("{path}: {}", map.of_others);
        self.fails(always, Failure::unknown(at, message, unknown));
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
            self.add(false, Failure::new(at, message));
        }
    }
}

/// What `index` gives, key by key.
fn index<'t>(arguments: &[Operand], values: &[&'t Shape]) -> Result<&'t Shape, String> {
    let mut shape = values[0];
    for (place, key) in values.iter().enumerate().skip(1) {
        let constant = match arguments.get(place).map(|operand| &operand.term) {
            Some(Term::Text(text)) => std::str::from_utf8(text).ok(),
            _ => None,
        };
        shape = shape.index(key, constant)?;
    }
    Ok(shape)
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
