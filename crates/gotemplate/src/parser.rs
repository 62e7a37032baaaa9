//! From tokens to a tree, by Go's grammar. What Go refuses when it parses is refused here, and nothing else but what the limits
//! forbid; what fails only when it is run is found by `check`.

mod pipeline;

use std::collections::{BTreeMap, BTreeSet};

use crate::error::{Failure, Position};
use crate::lexer::{Kind, Token, tokens};
use crate::literal;
use crate::regexp::RegexpBudget;
use crate::tree::{Arm, Branch, Loop, Node, TemplateCall, Tree};
use crate::{MAX_NESTING, MAX_SOURCE_BYTES};

type Parsed<T> = Result<T, Failure>;

/// Parses a template, and compiles its constant patterns.
pub fn parse(source: &str, regexps: &mut RegexpBudget) -> Parsed<Tree> {
    if source.len() > MAX_SOURCE_BYTES {
        return fail(
            0,
            format!(
                "it is {} bytes long; the limit is {MAX_SOURCE_BYTES}",
                source.len()
            ),
        );
    }
    let mut parser = Parser {
        tokens: tokens(source),
        cursor: 0,
        variables: vec!["$".to_owned()],
        loops: 0,
        depth: 0,
        definitions: BTreeMap::new(),
        assigned: BTreeSet::new(),
        regexps,
    };
    let root = parser.template()?;
    Ok(Tree {
        root,
        definitions: parser.definitions,
        assigned: parser.assigned,
    })
}

/// A part of the template between two delimiters, or the text between them.
enum Item {
    Node(Node),
    End,
    Else(Position, Else),
}

/// What follows `else` in its delimiters.
#[derive(PartialEq)]
enum Else {
    Nothing,
    If,
    With,
}

struct Parser<'s, 'b> {
    tokens: Vec<Token<'s>>,
    cursor: usize,
    /// As Go's parser keeps them: those of an `{{if}}`'s body are known in its `{{else}}`, too.
    variables: Vec<String>,
    /// How many `{{range}}`s of the same template are around.
    loops: usize,
    /// How many blocks and parentheses are around.
    depth: usize,
    definitions: BTreeMap<String, Vec<Node>>,
    assigned: BTreeSet<Box<str>>,
    regexps: &'b mut RegexpBudget,
}

impl<'s> Parser<'s, '_> {
    /// The next token; the last one stays.
    fn next(&mut self) -> Token<'s> {
        let token = self.tokens[self.cursor].clone();
        if self.cursor + 1 < self.tokens.len() {
            self.cursor += 1;
        }
        token
    }

    fn peek(&self) -> &Kind {
        &self.tokens[self.cursor].kind
    }

    fn skip_space(&mut self) {
        while *self.peek() == Kind::Space {
            self.cursor += 1;
        }
    }

    fn next_after_space(&mut self) -> Token<'s> {
        self.skip_space();
        self.next()
    }

    fn peek_after_space(&mut self) -> &Kind {
        self.skip_space();
        self.peek()
    }

    fn expect(&mut self, kind: &Kind, context: &str) -> Parsed<()> {
        let token = self.next_after_space();
        if token.kind == *kind {
            Ok(())
        } else {
            unexpected(token, context)
        }
    }

    /// The outermost level, where alone `{{define}}` may stand.
    fn template(&mut self) -> Parsed<Vec<Node>> {
        let mut nodes = Vec::new();
        while *self.peek() != Kind::EndOfText {
            let start = self.cursor;
            if self.next().kind == Kind::LeftDelimiter
                && self.next_after_space().kind == Kind::Define
            {
                self.definition()?;
                continue;
            }
            self.cursor = start;
            let at = self.tokens[start].at;
            match self.item()? {
                Item::Node(node) => nodes.push(node),
                Item::End => return fail(at, "unexpected {{end}}: no block is open"),
                Item::Else(..) => return fail(at, "unexpected {{else}}: no block is open"),
            }
        }
        Ok(nodes)
    }

    fn definition(&mut self) -> Parsed<()> {
        const CONTEXT: &str = "define clause";
        let token = self.next_after_space();
        let at = token.at;
        let name = template_name(token, CONTEXT)?;
        self.expect(&Kind::RightDelimiter, CONTEXT)?;
        self.separate_template(at, name, CONTEXT)
    }

    /// The body of `{{define}}` or `{{block}}`, which knows none of the variables around it.
    fn separate_template(&mut self, at: Position, name: String, context: &str) -> Parsed<()> {
        let variables = std::mem::replace(&mut self.variables, vec!["$".to_owned()]);
        let loops = std::mem::take(&mut self.loops);
        let (body, end) = self.list(at, context)?;
        self.variables = variables;
        self.loops = loops;
        if let Item::Else(at, _) = end {
            return fail(at, format!("unexpected {{{{else}}}} in {context}"));
        }
        let known = self.definitions.get(&name);
        if known.is_none_or(|known| is_empty(known)) {
            self.definitions.insert(name, body);
        } else if !is_empty(&body) {
            return fail(at, format!("multiple definition of template {name:?}"));
        }
        Ok(())
    }

    /// Everything up to `{{end}}` or `{{else}}`.
    fn list(&mut self, opened_at: Position, context: &str) -> Parsed<(Vec<Node>, Item)> {
        self.descend(opened_at)?;
        let mut nodes = Vec::new();
        loop {
            if *self.peek_after_space() == Kind::EndOfText {
                return fail(
                    opened_at,
                    format!("unexpected EOF: the {{{{end}}}} of this {context} is missing"),
                );
            }
            match self.item()? {
                Item::Node(node) => nodes.push(node),
                end => {
                    self.depth -= 1;
                    return Ok((nodes, end));
                }
            }
        }
    }

    fn descend(&mut self, at: Position) -> Parsed<()> {
        self.depth += 1;
        if self.depth > MAX_NESTING {
            return fail(
                at,
                format!(
                    "blocks and parentheses are nested more than {MAX_NESTING} deep; write {{{{else if}}}} rather than {{{{else}}}}{{{{if}}}}"
                ),
            );
        }
        Ok(())
    }

    fn item(&mut self) -> Parsed<Item> {
        let token = self.next_after_space();
        match token.kind {
            Kind::Text => Ok(Item::Node(Node::Text(token.text.into()))),
            Kind::LeftDelimiter => self.action(),
            _ => unexpected(token, "input"),
        }
    }

    fn action(&mut self) -> Parsed<Item> {
        self.skip_space();
        let start = self.cursor;
        let token = self.next();
        let at = token.at;
        let node = match token.kind {
            Kind::Block => self.block()?,
            Kind::Break | Kind::Continue => self.leave_loop(&token)?,
            Kind::Else => return self.else_clause(at),
            Kind::End => {
                self.expect(&Kind::RightDelimiter, "end")?;
                return Ok(Item::End);
            }
            Kind::If => Node::If(self.branch(at, "if", &Else::If)?),
            Kind::With => Node::With(self.branch(at, "with", &Else::With)?),
            Kind::Range => Node::Range(self.range(at)?),
            Kind::Template => self.call()?,
            _ => {
                self.cursor = start;
                Node::Action(self.pipeline("command", &Kind::RightDelimiter)?)
            }
        };
        Ok(Item::Node(node))
    }

    fn leave_loop(&mut self, token: &Token<'_>) -> Parsed<Node> {
        let name = format!("{{{{{}}}}}", token.text);
        self.expect(&Kind::RightDelimiter, &name)?;
        if self.loops == 0 {
            return fail(token.at, format!("{name} outside {{{{range}}}}"));
        }
        Ok(if token.kind == Kind::Break {
            Node::Break
        } else {
            Node::Continue
        })
    }

    fn else_clause(&mut self, at: Position) -> Parsed<Item> {
        let clause = match self.peek_after_space() {
            Kind::If => Else::If,
            Kind::With => Else::With,
            _ => {
                self.expect(&Kind::RightDelimiter, "else")?;
                Else::Nothing
            }
        };
        Ok(Item::Else(at, clause))
    }

    /// `{{if}}` or `{{with}}`. `{{else if}}` has no end for itself; Go has had `{{else with}}` since 1.23.
    fn branch(&mut self, at: Position, keyword: &str, chains_with: &Else) -> Parsed<Branch> {
        let known = self.variables.len();
        let mut arms = Vec::new();
        let mut otherwise = Vec::new();
        loop {
            let condition = self.pipeline(keyword, &Kind::RightDelimiter)?;
            let (body, end) = self.list(at, keyword)?;
            arms.push(Arm { condition, body });
            match end {
                Item::Else(_, clause) if clause == *chains_with => {
                    self.next();
                    continue;
                }
                Item::Else(at, clause) => otherwise = self.otherwise(at, &clause, keyword)?,
                Item::End | Item::Node(_) => {}
            }
            break;
        }
        self.variables.truncate(known);
        Ok(Branch { arms, otherwise })
    }

    fn range(&mut self, at: Position) -> Parsed<Loop> {
        let known = self.variables.len();
        let pipeline = self.pipeline("range", &Kind::RightDelimiter)?;
        self.loops += 1;
        let (body, end) = self.list(at, "range")?;
        self.loops -= 1;
        let otherwise = match end {
            Item::Else(at, clause) => self.otherwise(at, &clause, "range")?,
            Item::End | Item::Node(_) => Vec::new(),
        };
        self.variables.truncate(known);
        Ok(Loop {
            pipeline,
            body,
            otherwise,
        })
    }

    /// What follows a plain `{{else}}`.
    fn otherwise(&mut self, at: Position, clause: &Else, keyword: &str) -> Parsed<Vec<Node>> {
        let word = match clause {
            Else::Nothing => {
                let (nodes, end) = self.list(at, "else")?;
                return match end {
                    Item::Else(at, _) => fail(at, "expected end; found {{else}}"),
                    Item::End | Item::Node(_) => Ok(nodes),
                };
            }
            Else::If => "if",
            Else::With => "with",
        };
        fail(
            at,
            format!(
                "unexpected <{word}> in input: {{{{else {word}}}}} does not belong to {{{{{keyword}}}}}; write {{{{else}}}}{{{{{word} …}}}} and one more {{{{end}}}}"
            ),
        )
    }

    fn block(&mut self) -> Parsed<Node> {
        const CONTEXT: &str = "block clause";
        let token = self.next_after_space();
        let at = token.at;
        let name = template_name(token, CONTEXT)?;
        let pipeline = Some(self.pipeline(CONTEXT, &Kind::RightDelimiter)?);
        self.separate_template(at, name.clone(), CONTEXT)?;
        Ok(Node::Template(TemplateCall { at, name, pipeline }))
    }

    fn call(&mut self) -> Parsed<Node> {
        const CONTEXT: &str = "template clause";
        let token = self.next_after_space();
        let at = token.at;
        let name = template_name(token, CONTEXT)?;
        let pipeline = if *self.peek_after_space() == Kind::RightDelimiter {
            self.next();
            None
        } else {
            Some(self.pipeline(CONTEXT, &Kind::RightDelimiter)?)
        };
        Ok(Node::Template(TemplateCall { at, name, pipeline }))
    }
}

fn template_name(token: Token<'_>, context: &str) -> Parsed<String> {
    let at = token.at;
    let bytes = match token.kind {
        Kind::Quoted => literal::quoted(token.text).map_err(|message| Failure::new(at, message))?,
        Kind::RawQuoted => return Ok(literal::raw(token.text)),
        _ => return unexpected(token, context),
    };
    Ok(crate::text::to_utf8(bytes))
}

/// Whether there is nothing but space in it: such a definition takes no other's place.
fn is_empty(nodes: &[Node]) -> bool {
    nodes
        .iter()
        .all(|node| matches!(node, Node::Text(text) if text.trim().is_empty()))
}

fn fail<T>(at: Position, message: impl Into<String>) -> Parsed<T> {
    Err(Failure::new(at, message))
}

fn unexpected<T>(token: Token<'_>, context: &str) -> Parsed<T> {
    let what = match token.kind {
        Kind::Error(message) => return fail(token.at, message),
        Kind::EndOfText => "EOF".to_owned(),
        Kind::RightDelimiter => "}}".to_owned(),
        Kind::Block
        | Kind::Break
        | Kind::Continue
        | Kind::Define
        | Kind::Else
        | Kind::End
        | Kind::If
        | Kind::Range
        | Kind::Template
        | Kind::With => format!("<{}>", token.text),
        _ => format!("{:?}", token.text),
    };
    let hint = match (token.kind, context) {
        (Kind::Define, "command") => ": {{define}} must not stand inside of another block",
        (Kind::Char, "command") if token.text == "/" => {
            ": a comment begins with {{/* or \"{{- /*\", with nothing between"
        }
        (Kind::Assign | Kind::Declare, "operand") => ": only a variable can be given a value",
        _ => "",
    };
    fail(token.at, format!("unexpected {what} in {context}{hint}"))
}
