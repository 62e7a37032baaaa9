//! A parsed template. It is as deep as the template's blocks and parentheses are nested, which the parser bounds; a chain of
//! `{{else if}}` is one node, however long it is.

use std::collections::{BTreeMap, BTreeSet};

use crate::error::{NIL_IS_NO_COMMAND, Position};
use crate::function::Function;
use crate::literal::Number;
use crate::regexp::Compiled;

/// A template with what is defined in it.
#[derive(Debug)]
pub struct Tree {
    pub root: Vec<Node>,
    pub definitions: BTreeMap<String, Vec<Node>>,
    /// The names of the variables that get another value with `=` somewhere.
    pub assigned: BTreeSet<Box<str>>,
}

#[derive(Debug)]
pub enum Node {
    Text(Box<str>),
    Action(Pipeline),
    If(Branch),
    With(Branch),
    Range(Loop),
    Template(TemplateCall),
    Break,
    Continue,
}

/// `{{if}}` or `{{with}}` with its `{{else if}}`s or `{{else with}}`s.
#[derive(Debug)]
pub struct Branch {
    pub arms: Vec<Arm>,
    pub otherwise: Vec<Node>,
}

#[derive(Debug)]
pub struct Arm {
    pub condition: Pipeline,
    pub body: Vec<Node>,
}

#[derive(Debug)]
pub struct Loop {
    pub pipeline: Pipeline,
    pub body: Vec<Node>,
    pub otherwise: Vec<Node>,
}

/// `{{template "name" pipeline}}`
#[derive(Debug)]
pub struct TemplateCall {
    pub at: Position,
    pub name: String,
    pub pipeline: Option<Pipeline>,
}

#[derive(Debug)]
pub struct Pipeline {
    /// The variables before `:=` or `=`; two at most, and two in `{{range}}` only.
    pub variables: Vec<Box<str>>,
    /// `=` rather than `:=`.
    pub assigns: bool,
    /// At least one.
    pub commands: Vec<Command>,
}

/// Operands beside each other: a function with its arguments, or one operand alone.
#[derive(Debug)]
pub struct Command {
    pub first: Operand,
    pub arguments: Vec<Operand>,
    /// The pattern of a function that takes one, where it is a constant. Boxed: few commands have one.
    pub pattern: Option<Box<Compiled>>,
}

#[derive(Debug)]
pub struct Operand {
    pub at: Position,
    pub term: Term,
}

#[derive(Debug)]
pub enum Term {
    Dot,
    Nil,
    Bool(bool),
    Number(Number),
    Text(Box<[u8]>),
    /// `.a.b`
    Fields(Box<[Box<str>]>),
    /// `$x.a.b`: the variable with its dollar sign, and what is looked up in it.
    Variable(Box<str>, Box<[Box<str>]>),
    Function(&'static Function),
    /// In parentheses.
    Pipeline(Box<Pipeline>),
    /// `(pipeline).a.b` or `function.a.b`
    Chain(Box<Operand>, Box<[Box<str>]>),
}

impl Term {
    /// Why it can't be called with values.
    pub fn not_a_function(&self) -> &'static str {
        match self {
            Self::Fields(_) | Self::Chain(..) => "a field is not a function: it takes no arguments",
            Self::Nil => NIL_IS_NO_COMMAND,
            _ => "can't give argument to non-function",
        }
    }
}
