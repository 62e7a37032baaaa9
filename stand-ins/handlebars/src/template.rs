//! The parser: from a template's text to its tree.

use std::iter::Peekable;
use std::vec::IntoIter;

use crate::TemplateError;

/// A parsed template.
#[derive(Debug, Default)]
pub struct Template(pub(crate) Vec<Node>);

#[derive(Debug)]
pub(crate) enum Node {
    Text(String),
    /// `{{expression}}`, which is escaped, or `{{{expression}}}`, which is not.
    Value {
        expression: Expression,
        escaped: bool,
    },
    /// `{{#expression as |parameter|}}body{{else}}otherwise{{/name}}`
    Block {
        expression: Expression,
        parameter: Option<String>,
        body: Template,
        otherwise: Option<Template>,
    },
}

/// A path, or a helper with its arguments.
#[derive(Debug)]
pub(crate) struct Expression {
    pub name: String,
    pub arguments: Vec<Argument>,
}

#[derive(Debug)]
pub(crate) enum Argument {
    Path(String),
    /// `(helper argument...)`
    Expression(Expression),
}

enum Token {
    Text(String),
    Tag { inside: String, escaped: bool },
}

/// Why a block ends.
enum End {
    Text,
    Else,
    Close(String),
}

impl Template {
    pub(crate) fn parse(text: &str) -> Result<Self, TemplateError> {
        let mut tokens = tokens(text)?.into_iter().peekable();
        match nodes(&mut tokens)? {
            (template, End::Text) => Ok(template),
            (_, End::Else) => Err(TemplateError::new("{{else}} outside a block")),
            (_, End::Close(name)) => Err(TemplateError::new(&format!(
                "{{{{/{name}}}}} without an open block"
            ))),
        }
    }
}

/// Splits a template into text and tags. A tag's `~` removes the white space on its side, up to the next tag.
fn tokens(text: &str) -> Result<Vec<Token>, TemplateError> {
    let mut tokens = Vec::new();
    let mut rest = text;
    let mut trim = false;
    loop {
        let (before, after) = rest
            .split_once("{{")
            .map_or((rest, None), |(before, after)| (before, Some(after)));
        let mut before = if trim { before.trim_start() } else { before };
        let Some(after) = after else {
            tokens.push(Token::Text(before.to_owned()));
            return Ok(tokens);
        };
        let (after, closing) = after
            .strip_prefix('{')
            .map_or((after, "}}"), |after| (after, "}}}"));
        let Some((inside, behind)) = after.split_once(closing) else {
            return Err(TemplateError::new(&format!(
                "a tag is not closed: {}",
                after.lines().next().unwrap_or("")
            )));
        };
        let inside = inside.strip_prefix('~').map_or(inside, |inside| {
            before = before.trim_end();
            inside
        });
        let trimmed = inside.strip_suffix('~');
        trim = trimmed.is_some();
        tokens.push(Token::Text(before.to_owned()));
        let inside = trimmed.unwrap_or(inside).trim().to_owned();
        tokens.push(Token::Tag {
            inside,
            escaped: closing == "}}",
        });
        rest = behind;
    }
}

fn nodes(tokens: &mut Peekable<IntoIter<Token>>) -> Result<(Template, End), TemplateError> {
    let mut nodes = Vec::new();
    while let Some(token) = tokens.next() {
        let (inside, escaped) = match token {
            Token::Text(text) => {
                nodes.push(Node::Text(text));
                continue;
            }
            Token::Tag { inside, escaped } => (inside, escaped),
        };
        if inside == "else" {
            return Ok((Template(nodes), End::Else));
        } else if let Some(name) = inside.strip_prefix('/') {
            return Ok((Template(nodes), End::Close(name.trim().to_owned())));
        } else if let Some(opening) = inside.strip_prefix('#') {
            nodes.push(block(opening, tokens)?);
        } else {
            nodes.push(Node::Value {
                expression: expression(&inside)?,
                escaped,
            });
        }
    }
    Ok((Template(nodes), End::Text))
}

fn block(opening: &str, tokens: &mut Peekable<IntoIter<Token>>) -> Result<Node, TemplateError> {
    let (call, parameter) = match opening.split_once(" as |") {
        None => (opening, None),
        Some((call, rest)) => match rest.trim_end().strip_suffix('|').map(str::trim) {
            Some(name) if is_path(name) => (call, Some(name.to_owned())),
            _ => {
                return Err(TemplateError::new(&format!(
                    "not one block parameter: {opening}"
                )));
            }
        },
    };
    let expression = expression(call)?;
    let (body, mut end) = nodes(tokens)?;
    let mut otherwise = None;
    if matches!(end, End::Else) {
        let (template, next) = nodes(tokens)?;
        otherwise = Some(template);
        end = next;
    }
    match end {
        End::Close(name) if name == expression.name => Ok(Node::Block {
            expression,
            parameter,
            body,
            otherwise,
        }),
        _ => Err(TemplateError::new(&format!(
            "{{{{#{opening}}}}} is not closed"
        ))),
    }
}

fn expression(text: &str) -> Result<Expression, TemplateError> {
    let spaced = text.replace('(', " ( ").replace(')', " ) ");
    let mut words = spaced.split_whitespace().peekable();
    let expression = words_of(&mut words, text)?;
    if words.next().is_some() {
        Err(unknown(text))
    } else {
        Ok(expression)
    }
}

/// Parses up to the last word or a closing parenthesis.
fn words_of<'a>(
    words: &mut Peekable<impl Iterator<Item = &'a str>>,
    text: &str,
) -> Result<Expression, TemplateError> {
    let name = words
        .next()
        .filter(|name| is_path(name))
        .ok_or_else(|| unknown(text))?
        .to_owned();
    let mut arguments = Vec::new();
    while let Some(word) = words.next_if(|word| *word != ")") {
        arguments.push(match word {
            "(" => {
                let inner = words_of(words, text)?;
                words.next_if_eq(&")").ok_or_else(|| unknown(text))?;
                Argument::Expression(inner)
            }
            path if is_path(path) => Argument::Path(path.to_owned()),
            _ => return Err(unknown(text)),
        });
    }
    Ok(Expression { name, arguments })
}

/// Names separated by dots; the first may begin with `@`.
fn is_path(text: &str) -> bool {
    let name = |name: &str| {
        !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
    };
    text.strip_prefix('@').unwrap_or(text).split('.').all(name)
}

fn unknown(text: &str) -> TemplateError {
    TemplateError::new(&format!("not implemented: {{{{{text}}}}}"))
}
