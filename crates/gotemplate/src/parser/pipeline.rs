//! Pipelines: commands, their operands, and the variables that they declare.

use super::{Parsed, Parser, fail, unexpected};
use crate::error::{Failure, NameKind, UnknownName, undefined_variable};
use crate::functions;
use crate::lexer::{Kind, Token};
use crate::literal;
use crate::regexp::{Compiled, RegexpError};
use crate::tree::{Command, Operand, Pipeline, Term};

impl<'s> Parser<'s, '_> {
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
            if assigns {
                self.assigned.extend(names.iter().cloned());
            }
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
        let arguments: Vec<Operand> = operands.collect();
        let pattern = self.pattern(&first.term, &arguments)?.map(Box::new);
        Ok(Command {
            first,
            arguments,
            pattern,
        })
    }

    /// The compiled pattern of a call, where it is a constant. What Go can't compile, either, is left to the run.
    fn pattern(&mut self, called: &Term, arguments: &[Operand]) -> Parsed<Option<Compiled>> {
        let Term::Function(function) = called else {
            return Ok(None);
        };
        let operand = function
            .pattern_index()
            .and_then(|index| arguments.get(index));
        let Some(Operand {
            at,
            term: Term::Text(text),
        }) = operand
        else {
            return Ok(None);
        };
        let compiled = match std::str::from_utf8(text) {
            Ok(pattern) => self.regexps.compile(pattern),
            Err(_) => Err(RegexpError::Syntax("it is not valid UTF-8".to_owned())),
        };
        match compiled {
            Ok(_) | Err(RegexpError::Syntax(_)) => Ok(Some(compiled)),
            Err(error @ (RegexpError::TooLarge(_) | RegexpError::OverBudget)) => {
                fail(*at, error.to_string())
            }
        }
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
            Term::Fields(names) => Term::Fields(append_fields(names, fields)),
            Term::Variable(name, names) => Term::Variable(name, append_fields(names, fields)),
            Term::Function(_) | Term::Pipeline(_) => {
                Term::Chain(Box::new(Operand { at, term }), fields.into())
            }
            _ => return fail(at, format!("unexpected . after term {text:?}")),
        };
        Ok(Some(Operand { at, term }))
    }

    fn term(&mut self, token: Token<'s>) -> Parsed<Term> {
        let (at, text) = (token.at, token.text);
        let located = |message| Failure::new(at, message);
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
                    let unknown = UnknownName {
                        kind: NameKind::Variable,
                        name: text.to_owned(),
                        known: self.variables.clone(),
                    };
                    return Err(Failure::unknown(at, undefined_variable(text), unknown));
                }
                Term::Variable(text.into(), [].into())
            }
            Kind::Identifier => {
                let Some(function) = functions::find(text) else {
                    let unknown = UnknownName {
                        kind: NameKind::Function,
                        name: text.to_owned(),
                        known: functions::all_names(),
                    };
                    let message = format!("function {text:?} not defined");
                    return Err(Failure::unknown(at, message, unknown));
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

fn append_fields(names: Box<[Box<str>]>, more: Vec<Box<str>>) -> Box<[Box<str>]> {
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
