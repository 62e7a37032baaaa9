//! Runs a parsed template on its data.
//!
//! It recurses only as deep as blocks, parentheses and calls of templates are inside each other, which `MAX_DEPTH` bounds; every
//! node, command and turn of a loop counts as a step.

use crate::error::{
    NIL_IS_NO_COMMAND, Position, Reason, undefined_template, undefined_variable, wrong_type,
};
use crate::function::{AND, Call, Function, OR, Type};
use crate::limits::{Buffer, Meter};
use crate::literal::{Ideal, Number};
use crate::printf;
use crate::regexp::Compiled;
use crate::tree::{Branch, Command, Loop, Node, Operand, Pipeline, TemplateCall, Term, Tree};
use crate::value::{Text, Value};
use crate::{MAX_DEPTH, MAX_INPUT_BYTES};

type Evaluated<'a> = Result<Value<'a>, Reason>;

/// How a list of nodes ends.
#[derive(Clone, Copy, PartialEq)]
pub enum Flow {
    Next,
    Break,
    Continue,
}

/// One run of a template.
pub struct Evaluator<'a> {
    tree: &'a Tree,
    /// Those of the present template begin at `base`; the last one of a name counts.
    variables: Vec<(&'a str, Value<'a>)>,
    base: usize,
    /// The values of the functions that are being called.
    arguments: Vec<Value<'a>>,
    out: Buffer,
    meter: Meter<'a>,
    depth: usize,
    /// What is being evaluated, for an error.
    at: Position,
}

impl<'a> Evaluator<'a> {
    pub fn new(tree: &'a Tree, meter: Meter<'a>, capacity: usize) -> Self {
        Self {
            tree,
            variables: Vec::new(),
            base: 0,
            arguments: Vec::new(),
            out: Buffer::with_capacity(capacity),
            meter,
            depth: 0,
            at: 0,
        }
    }

    /// Runs the whole template; an error comes with its place.
    pub fn run(mut self, dot: &Value<'a>) -> Result<Vec<u8>, (Reason, Position)> {
        self.variables.push(("$", dot.clone()));
        match self.nodes(&self.tree.root, dot) {
            Ok(_) => Ok(self.out.into_bytes()),
            Err(reason) => Err((reason, self.at)),
        }
    }

    fn nodes(&mut self, nodes: &'a [Node], dot: &Value<'a>) -> Result<Flow, Reason> {
        for node in nodes {
            self.meter.step()?;
            let flow = match node {
                Node::Text(text) => {
                    self.out.push_str(text)?;
                    Flow::Next
                }
                Node::Action(pipeline) => {
                    let value = self.pipeline(pipeline, dot)?;
                    if pipeline.variables.is_empty() {
                        printf::write_value(&mut self.out, &value)?;
                    }
                    Flow::Next
                }
                Node::If(branch) => self.branch(branch, dot, false)?,
                Node::With(branch) => self.branch(branch, dot, true)?,
                Node::Range(range) => self.range(range, dot)?,
                Node::Template(call) => self.template(call, dot)?,
                Node::Break => Flow::Break,
                Node::Continue => Flow::Continue,
            };
            if flow != Flow::Next {
                return Ok(flow);
            }
        }
        Ok(Flow::Next)
    }

    fn descend(&mut self) -> Result<(), Reason> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(Reason::TooDeep);
        }
        Ok(())
    }

    /// A block's body, whose variables end with it.
    fn body(&mut self, nodes: &'a [Node], dot: &Value<'a>) -> Result<Flow, Reason> {
        let known = self.variables.len();
        self.descend()?;
        let flow = self.nodes(nodes, dot)?;
        self.depth -= 1;
        self.variables.truncate(known);
        Ok(flow)
    }

    fn branch(
        &mut self,
        branch: &'a Branch,
        dot: &Value<'a>,
        changes_dot: bool,
    ) -> Result<Flow, Reason> {
        let known = self.variables.len();
        let mut flow = None;
        for arm in &branch.arms {
            self.meter.step()?;
            let value = self.pipeline(&arm.condition, dot)?;
            if value.is_true() {
                let dot = if changes_dot { &value } else { dot };
                flow = Some(self.body(&arm.body, dot)?);
                break;
            }
        }
        let flow = match flow {
            Some(flow) => flow,
            None => self.body(&branch.otherwise, dot)?,
        };
        self.variables.truncate(known);
        Ok(flow)
    }

    fn range(&mut self, range: &'a Loop, dot: &Value<'a>) -> Result<Flow, Reason> {
        let known = self.variables.len();
        let flow = match self.pipeline(&range.pipeline, dot)? {
            Value::List(items) if !items.is_empty() => {
                let turns = items.iter().enumerate().map(|(index, item)| {
                    let index = i64::try_from(index).unwrap_or(i64::MAX);
                    (Value::Int(index), Value::from_json(item))
                });
                self.turns(range, turns)?
            }
            Value::Map(map) if !map.is_empty() => {
                let entries = map.entries();
                self.meter.bytes(entries.len() * size_of::<Value<'_>>())?;
                let turns = entries.into_iter();
                self.turns(range, turns.map(|(key, value)| (Value::from(key), value)))?
            }
            Value::List(_) | Value::Map(_) | Value::Nil => self.body(&range.otherwise, dot)?,
            other => {
                return Err(format!("range can't iterate over a {}", other.type_name()).into());
            }
        };
        self.variables.truncate(known);
        Ok(flow)
    }

    fn turns(
        &mut self,
        range: &'a Loop,
        turns: impl Iterator<Item = (Value<'a>, Value<'a>)>,
    ) -> Result<Flow, Reason> {
        for (key, value) in turns {
            self.meter.step()?;
            match range.pipeline.variables.as_slice() {
                [] => {}
                [element] => self.assign(element, value.clone())?,
                [index, element, ..] => {
                    self.assign(element, value.clone())?;
                    self.assign(index, key)?;
                }
            }
            if self.body(&range.body, &value)? == Flow::Break {
                break;
            }
        }
        Ok(Flow::Next)
    }

    /// `{{template}}`: it knows none of the variables here, and its dot is nothing where there is no pipeline.
    fn template(&mut self, call: &'a TemplateCall, dot: &Value<'a>) -> Result<Flow, Reason> {
        self.at = call.at;
        let Some(body) = self.tree.definitions.get(&call.name) else {
            return Err(undefined_template(&call.name).into());
        };
        let dot = match &call.pipeline {
            Some(pipeline) => self.pipeline(pipeline, dot)?,
            None => Value::Nil,
        };
        let base = std::mem::replace(&mut self.base, self.variables.len());
        self.variables.push(("$", dot.clone()));
        self.body(body, &dot)?;
        self.variables.truncate(self.base);
        self.base = base;
        Ok(Flow::Next)
    }

    fn variable(&self, name: &str) -> Result<&Value<'a>, Reason> {
        let mut known = self.variables[self.base..].iter().rev();
        known
            .find(|(known, _)| *known == name)
            .map(|(_, value)| value)
            .ok_or_else(|| undefined_variable(name).into())
    }

    fn assign(&mut self, name: &str, value: Value<'a>) -> Result<(), Reason> {
        let mut known = self.variables[self.base..].iter_mut().rev();
        match known.find(|(known, _)| *known == name) {
            Some((_, variable)) => {
                *variable = value;
                Ok(())
            }
            None => Err(undefined_variable(name).into()),
        }
    }

    fn pipeline(&mut self, pipeline: &'a Pipeline, dot: &Value<'a>) -> Evaluated<'a> {
        let mut value = None;
        for command in &pipeline.commands {
            value = Some(self.command(command, dot, value)?);
        }
        let value = value.unwrap_or(Value::Nil);
        for name in &pipeline.variables {
            if pipeline.assigns {
                self.assign(name, value.clone())?;
            } else {
                self.variables.push((name, value.clone()));
            }
        }
        Ok(value)
    }

    fn command(
        &mut self,
        command: &'a Command,
        dot: &Value<'a>,
        piped: Option<Value<'a>>,
    ) -> Evaluated<'a> {
        self.meter.step()?;
        let Command {
            first, arguments, ..
        } = command;
        self.at = first.at;
        if let Term::Function(function) = &first.term {
            let pattern = command.pattern.as_deref();
            return self.call(function, first.at, arguments, piped, pattern, dot);
        }
        if !arguments.is_empty() || piped.is_some() {
            return Err(first.term.not_a_function().into());
        }
        match &first.term {
            Term::Nil => Err(NIL_IS_NO_COMMAND.into()),
            _ => self.operand(first, dot),
        }
    }

    /// An operand where any type is taken.
    fn operand(&mut self, operand: &'a Operand, dot: &Value<'a>) -> Evaluated<'a> {
        self.at = operand.at;
        match &operand.term {
            Term::Dot => Ok(dot.clone()),
            Term::Nil => Ok(Value::Nil),
            Term::Bool(value) => Ok(Value::Bool(*value)),
            Term::Number(number) => ideal(number),
            Term::Text(text) => Ok(Value::Text(Text::Borrowed(text))),
            Term::Fields(names) => fields(dot, names),
            Term::Variable(name, names) => fields(self.variable(name)?, names),
            Term::Function(function) => self.call(function, operand.at, &[], None, None, dot),
            Term::Pipeline(pipeline) => {
                self.descend()?;
                let value = self.pipeline(pipeline, dot)?;
                self.depth -= 1;
                Ok(value)
            }
            Term::Chain(inner, names) => {
                let value = self.operand(inner, dot)?;
                self.at = operand.at;
                fields(&value, names)
            }
        }
    }

    /// An operand where a function takes one type only.
    fn argument(&mut self, operand: &'a Operand, wanted: Type, dot: &Value<'a>) -> Evaluated<'a> {
        if let (Term::Number(number), Type::Int) = (&operand.term, wanted)
            && let Some(integer) = number.integer
        {
            return Ok(Value::Int(integer));
        }
        let value = self.operand(operand, dot)?;
        self.at = operand.at;
        check_type(value, wanted)
    }

    fn call(
        &mut self,
        function: &'static Function,
        at: Position,
        operands: &'a [Operand],
        piped: Option<Value<'a>>,
        pattern: Option<&'a Compiled>,
        dot: &Value<'a>,
    ) -> Evaluated<'a> {
        function.check_count(operands.len() + usize::from(piped.is_some()))?;
        if matches!(function.name, AND | OR) {
            return self.and_or(function.name == OR, operands, piped, dot);
        }
        let start = self.arguments.len();
        for (index, operand) in operands.iter().enumerate() {
            let value = self.argument(operand, function.parameter(index), dot)?;
            self.arguments.push(value);
        }
        self.at = at;
        if let Some(value) = piped {
            let value = check_type(value, function.parameter(operands.len()))?;
            self.arguments.push(value);
        }
        let values = &self.arguments[start..];
        let length: usize = values.iter().map(text_length).sum();
        self.meter.bytes(length)?;
        let mut call = Call::new(&mut self.meter, pattern);
        let result = (function.body)(&mut call, values).map_err(|reason| match reason {
            Reason::Failed(message) => format!("error calling {}: {message}", function.name).into(),
            reason => reason,
        })?;
        self.meter.bytes(text_length(&result))?;
        self.arguments.truncate(start);
        Ok(result)
    }

    /// The first value that decides, or the last one.
    fn and_or(
        &mut self,
        is_or: bool,
        operands: &'a [Operand],
        piped: Option<Value<'a>>,
        dot: &Value<'a>,
    ) -> Evaluated<'a> {
        let mut last = Value::Nil;
        for operand in operands {
            last = self.operand(operand, dot)?;
            if last.is_true() == is_or {
                return Ok(last);
            }
        }
        Ok(piped.unwrap_or(last))
    }
}

fn text_length(value: &Value<'_>) -> usize {
    match value {
        Value::Text(text) => text.len(),
        _ => 0,
    }
}

/// What is looked up in a value, name by name.
fn fields<'a>(value: &Value<'a>, names: &[Box<str>]) -> Evaluated<'a> {
    let mut found: Option<Value<'a>> = None;
    for name in names {
        found = Some(field(found.as_ref().unwrap_or(value), name)?);
    }
    let Some(found) = found else {
        return Ok(value.clone());
    };
    match &found {
        Value::Text(text) if text.len() > MAX_INPUT_BYTES => Err(Reason::InputTooLong(text.len())),
        _ => Ok(found),
    }
}

fn field<'a>(value: &Value<'a>, name: &str) -> Evaluated<'a> {
    match value {
        Value::Map(map) => map
            .get(name)
            .ok_or_else(|| format!("map has no entry for key {name:?}").into()),
        Value::Nil => Err(format!("nil data; no entry for key {name:?}").into()),
        other => {
            let kind = other.type_name();
            Err(format!("can't evaluate field {name} in type {kind}").into())
        }
    }
}

fn ideal<'a>(number: &Number) -> Evaluated<'a> {
    match number.ideal {
        Ideal::Int(value) => Ok(Value::Int(value)),
        Ideal::Float(value) => Ok(Value::Float(value)),
        Ideal::Overflow => Err("the number overflows int".into()),
    }
}

fn check_type(value: Value<'_>, wanted: Type) -> Evaluated<'_> {
    let fits = match wanted {
        Type::Text | Type::Pattern => matches!(value, Value::Text(_)),
        Type::Int => matches!(value, Value::Int(_)),
        _ => true,
    };
    if fits {
        return Ok(value);
    }
    Err(wrong_type(wanted.name(), value.type_name()).into())
}
