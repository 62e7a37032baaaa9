//! Pipelines: commands, their operands, and the variables that they declare.

use super::{Parsed, Parser, fail, unexpected};
use crate::error::Failure;
use crate::functions;
use crate::lexer::{Kind, Token};
use crate::literal;
use crate::messages::did_you_mean;
use crate::tree::{Command, Operand, Pipeline, Term};

impl<'s> Parser<'s> {
    pub(super) fn pipeline(&mut self, context: &str, end: &Kind) -> Parsed<Pipeline> {
        let (variables, assigns) = self.declarations(context)?;
        let mut commands: Vec<Command> = Vec::new();
        loop {
            self.skip_space();
            let token = self.tokens[self.cursor].clone();
            if token.kind == *end {
                self.next();
                if commands.is_empty() {
                    return fail(token.at, format!("missing value for {context}"));
                }
                return Ok(Pipeline {
                    variables,
                    assigns,
                    commands,
                });
            }
            if !begins_operand(&token.kind) {
                return unexpected(token, context);
            }
            let command = self.command()?;
            let stage = commands.len() + 1;
            if stage > 1 && !is_executable(&command.first.term) {
                return fail(
                    command.first.at,
                    format!(
                        "non executable command in pipeline stage {stage}: what is piped into must be a function"
                    ),
                );
            }
            commands.push(command);
        }
    }

    /// `$x :=`, `$x =`, and in `{{range}}` also `$k, $v :=`
    fn declarations(&mut self, context: &str) -> Parsed<(Vec<Box<str>>, bool)> {
        let mut names: Vec<Box<str>> = Vec::new();
        while *self.peek_after_space() == Kind::Variable {
            let start = self.cursor;
            let variable = self.next();
            self.skip_space();
            let next = self.tokens[self.cursor].clone();
            let assigns = next.kind == Kind::Assign;
            let is_list = next.kind == Kind::Char && next.text == ",";
            if !(assigns || is_list || next.kind == Kind::Declare) {
                // Used, not declared.
                self.cursor = start;
                break;
            }
            self.next();
            names.push(variable.text.into());
            self.variables.push(variable.text.to_owned());
            if !is_list {
                return Ok((names, assigns));
            }
            if context != "range" || names.len() > 1 {
                return fail(variable.at, format!("too many declarations in {context}"));
            }
            let follows = self.peek_after_space();
            if !matches!(
                follows,
                Kind::Variable | Kind::RightDelimiter | Kind::RightParenthesis
            ) {
                return fail(next.at, "range can only initialize variables");
            }
        }
        Ok((names, false))
    }

    /// Operands up to the next `|`, which is passed, or the end of the pipeline, which is not.
    fn command(&mut self) -> Parsed<Command> {
        let mut operands = Vec::new();
        loop {
            self.skip_space();
            operands.extend(self.operand()?);
            match self.peek() {
                Kind::Space => {}
                Kind::RightDelimiter | Kind::RightParenthesis => break,
                Kind::Pipe => {
                    self.next();
                    break;
                }
                _ => return unexpected(self.next(), "operand"),
            }
        }
        let mut operands = operands.into_iter();
        let Some(first) = operands.next() else {
            return fail(self.tokens[self.cursor].at, "empty command");
        };
        Ok(Command {
            first,
            arguments: operands.collect(),
            pattern: None,
        })
    }

    /// A term with the fields behind it; nothing where something else follows.
    fn operand(&mut self) -> Parsed<Option<Operand>> {
        let token = self.tokens[self.cursor].clone();
        if !begins_operand(&token.kind) {
            return Ok(None);
        }
        self.next();
        let (at, text) = (token.at, token.text);
        let term = self.term(token)?;
        let mut fields: Vec<Box<str>> = Vec::new();
        while *self.peek() == Kind::Field {
            fields.push(self.next().text[1..].into());
        }
        if fields.is_empty() {
            return Ok(Some(Operand { at, term }));
        }
        let term = match term {
            Term::Fields(names) => Term::Fields(joined(names, fields)),
            Term::Variable(name, names) => Term::Variable(name, joined(names, fields)),
            Term::Function(_) | Term::Pipeline(_) => {
                Term::Chain(Box::new(Operand { at, term }), fields.into())
            }
            _ => return fail(at, format!("unexpected . after term {text:?}")),
        };
        Ok(Some(Operand { at, term }))
    }

    fn term(&mut self, token: Token<'s>) -> Parsed<Term> {
        let (at, text) = (token.at, token.text);
        let located = |message| Failure { at, message };
        Ok(match token.kind {
            Kind::Dot => Term::Dot,
            Kind::Nil => Term::Nil,
            Kind::Bool => Term::Bool(text == "true"),
            Kind::Number => Term::Number(literal::number(text).map_err(located)?),
            Kind::CharConstant => Term::Number(literal::character(text).map_err(located)?),
            Kind::Quoted => Term::Text(literal::quoted(text).map_err(located)?.into()),
            Kind::RawQuoted => Term::Text(literal::raw(text).into_bytes().into()),
            Kind::Field => Term::Fields([text[1..].into()].into()),
            Kind::Variable => {
                if !self.variables.iter().any(|known| known == text) {
                    let known: Vec<&str> = self.variables.iter().map(String::as_str).collect();
                    let hint = did_you_mean(text, &known);
                    return fail(at, format!("undefined variable {text:?}{hint}"));
                }
                Term::Variable(text.into(), [].into())
            }
            Kind::Identifier => {
                let Some(function) = functions::find(text) else {
                    let hint = did_you_mean(text, &functions::all_names());
                    return fail(at, format!("function {text:?} not defined{hint}"));
                };
                Term::Function(function)
            }
            Kind::LeftParenthesis => {
                self.descend(at)?;
                let pipeline = self.pipeline("parenthesized pipeline", &Kind::RightParenthesis)?;
                self.depth -= 1;
                Term::Pipeline(Box::new(pipeline))
            }
            Kind::Complex => return fail(at, format!("{text}: complex numbers are not supported")),
            _ => return unexpected(token, "operand"),
        })
    }
}

fn joined(names: Box<[Box<str>]>, more: Vec<Box<str>>) -> Box<[Box<str>]> {
    names.into_iter().chain(more).collect()
}

fn begins_operand(kind: &Kind) -> bool {
    matches!(
        kind,
        Kind::Bool
            | Kind::CharConstant
            | Kind::Complex
            | Kind::Dot
            | Kind::Field
            | Kind::Identifier
            | Kind::Number
            | Kind::Nil
            | Kind::RawQuoted
            | Kind::Quoted
            | Kind::Variable
            | Kind::LeftParenthesis
    )
}

/// Whether something can be piped into it, by its form.
fn is_executable(term: &Term) -> bool {
    !matches!(
        term,
        Term::Bool(_) | Term::Dot | Term::Nil | Term::Number(_) | Term::Text(_)
    )
}
