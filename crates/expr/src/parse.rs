//! From tokens to a tree, by precedence.

use std::ops::Range;

use serde_json::Value;

use crate::{
    ExprError, Reference,
    functions::{self, STATUS},
    lex::{Token, tokens},
};

/// How deep an expression may nest: far from what a small thread's stack holds.
const DEPTH: usize = 64;

/// How many nodes a tree may have; a chain of operators is as deep as it is long.
const NODES: usize = 512;

/// A node and its place in the source.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) kind: Kind,
    pub(crate) range: Range<usize>,
}

#[derive(Clone, Debug)]
pub(crate) enum Kind {
    Literal(Value),
    List(Vec<Node>),
    Map(Vec<(String, Node)>),
    Name(String),
    /// `.field`; `?.field` may be missing.
    Field(Box<Node>, String, bool),
    Index(Box<Node>, Box<Node>),
    Slice(Box<Node>, Option<Box<Node>>, Option<Box<Node>>),
    Not(Box<Node>),
    Negate(Box<Node>),
    Binary(&'static str, Box<Node>, Box<Node>),
    Choose(Box<Node>, Box<Node>, Box<Node>),
    Call(&'static str, Vec<Node>),
}

/// Binary operators by how tightly they bind.
const LEVELS: &[&[&str]] = &[
    &["??"],
    &["||"],
    &["&&"],
    &["==", "!=", "<=", ">=", "<", ">", "in", "not in"],
    &["+", "-"],
    &["*", "/", "//", "%"],
];

/// The level of comparisons in `LEVELS`.
const COMPARISON: usize = 3;

struct Parser {
    tokens: Vec<(Token, Range<usize>)>,
    at: usize,
    depth: usize,
    nodes: usize,
}

pub(crate) fn parse(source: &str) -> Result<Node, ExprError> {
    let mut parser = Parser { tokens: tokens(source)?, at: 0, depth: 0, nodes: 0 };
    if parser.tokens.len() == 1 {
        return Err(ExprError::new("the expression is empty", 0..source.len()));
    }
    let node = parser.choice()?;
    match parser.peek() {
        Token::End => Ok(*node),
        other => Err(ExprError::new(format!("{} was not expected here", shown(other)), parser.range())),
    }
}

fn shown(token: &Token) -> String {
    match token {
        Token::Int(n) => format!("`{n}`"),
        Token::Float(n) => format!("`{n}`"),
        Token::Text(t) => format!("the text '{t}'"),
        Token::Word(w) => format!("`{w}`"),
        Token::Sign(s) => format!("`{s}`"),
        Token::End => "the end".into(),
    }
}

impl Parser {
    fn peek(&self) -> &Token {
        &self.tokens[self.at].0
    }

    fn range(&self) -> Range<usize> {
        self.tokens[self.at].1.clone()
    }

    fn next(&mut self) -> (Token, Range<usize>) {
        let token = self.tokens[self.at].clone();
        if self.at + 1 < self.tokens.len() {
            self.at += 1;
        }
        token
    }

    fn takes(&mut self, sign: &str) -> bool {
        let here = match self.peek() {
            Token::Sign(s) => *s == sign,
            Token::Word(w) => w == sign,
            _ => false,
        };
        if here {
            self.next();
        }
        here
    }

    fn expect(&mut self, sign: &str) -> Result<Range<usize>, ExprError> {
        let range = self.range();
        if self.takes(sign) {
            return Ok(range);
        }
        Err(ExprError::new(format!("`{sign}` was expected, not {}", shown(self.peek())), range))
    }

    #[inline(never)]
    fn node(&mut self, kind: Kind, range: Range<usize>) -> Result<Box<Node>, ExprError> {
        self.nodes += 1;
        if self.nodes > NODES {
            return Err(ExprError::new(format!("the expression has more than {NODES} parts"), range));
        }
        Ok(Box::new(Node { kind, range }))
    }

    /// One deeper; whoever calls it goes back up by `depth -= 1` (an error ends the whole parse).
    fn descend(&mut self) -> Result<(), ExprError> {
        self.depth += 1;
        if self.depth > DEPTH {
            return Err(ExprError::new(format!("the expression nests more than {DEPTH} deep"), self.range()));
        }
        Ok(())
    }

    /// A whole expression, boxed to keep the frames small that nesting piles up.
    fn choice(&mut self) -> Result<Box<Node>, ExprError> {
        self.descend()?;
        let first = self.binary(0)?;
        let chosen = match self.peek() {
            Token::Sign("?") => self.question(first)?,
            Token::Word(word) if word == "if" => self.either(first)?,
            _ => first,
        };
        self.depth -= 1;
        Ok(chosen)
    }

    /// `c ? a : b`.
    #[inline(never)]
    fn question(&mut self, condition: Box<Node>) -> Result<Box<Node>, ExprError> {
        self.next();
        let yes = self.choice()?;
        self.expect(":")?;
        let no = self.choice()?;
        let range = condition.range.start..no.range.end;
        self.node(Kind::Choose(condition, yes, no), range)
    }

    /// `a if c else b`.
    #[inline(never)]
    fn either(&mut self, yes: Box<Node>) -> Result<Box<Node>, ExprError> {
        self.next();
        let condition = self.binary(0)?;
        self.expect("else")?;
        let no = self.choice()?;
        let range = yes.range.start..no.range.end;
        self.node(Kind::Choose(condition, yes, no), range)
    }

    /// Operands joined by operators of this level or tighter ones. It calls itself for the right side only, so that
    /// the stack grows with nesting and not with the number of levels.
    fn binary(&mut self, loosest: usize) -> Result<Box<Node>, ExprError> {
        let mut left = self.unary()?;
        while let Some((operator, level)) = self.operator(loosest) {
            let right = self.binary(level + 1)?;
            let range = left.range.start..right.range.end;
            left = self.node(Kind::Binary(operator, left, right), range)?;
        }
        Ok(left)
    }

    /// Takes an operator that binds at least as tightly as `loosest`.
    fn operator(&mut self, loosest: usize) -> Option<(&'static str, usize)> {
        let is_word =
            |at: usize, word: &str| matches!(self.tokens.get(at), Some((Token::Word(w), _)) if w == word);
        let (found, length) = if is_word(self.at, "not") && is_word(self.at + 1, "in") {
            ("not in", 2)
        } else {
            match self.peek() {
                Token::Sign(sign) => (*sign, 1),
                Token::Word(word) => match word.as_str() {
                    "or" => ("||", 1),
                    "and" => ("&&", 1),
                    "in" => ("in", 1),
                    _ => return None,
                },
                _ => return None,
            }
        };
        let level =
            LEVELS.iter().position(|operators| operators.contains(&found)).filter(|l| *l >= loosest)?;
        for _ in 0..length {
            self.next();
        }
        Some((found, level))
    }

    fn unary(&mut self) -> Result<Box<Node>, ExprError> {
        // `not a == b` is `not (a == b)`, as in Python; `!a == b` is `(!a) == b`, as everywhere.
        let is_word = matches!(self.peek(), Token::Word(w) if w == "not");
        let is_not = is_word || matches!(self.peek(), Token::Sign("!"));
        if !is_not && !matches!(self.peek(), Token::Sign("-")) {
            return self.postfix();
        }
        self.descend()?;
        let start = self.next().1.start;
        let inner = if is_word { self.binary(COMPARISON)? } else { self.unary()? };
        self.depth -= 1;
        let range = start..inner.range.end;
        self.node(if is_not { Kind::Not(inner) } else { Kind::Negate(inner) }, range)
    }

    fn postfix(&mut self) -> Result<Box<Node>, ExprError> {
        let mut node = self.primary()?;
        let mut links = 0;
        while matches!(self.peek(), Token::Sign("." | "?." | "[")) {
            links += 1;
            if links >= DEPTH {
                return Err(ExprError::new(
                    format!("the expression nests more than {DEPTH} deep"),
                    node.range.clone(),
                ));
            }
            node =
                if matches!(self.peek(), Token::Sign("[")) { self.index(node)? } else { self.field(node)? };
        }
        Ok(node)
    }

    #[inline(never)]
    fn field(&mut self, base: Box<Node>) -> Result<Box<Node>, ExprError> {
        let start = base.range.start;
        let optional = matches!(self.next().0, Token::Sign("?."));
        let (token, range) = self.next();
        let name = match token {
            Token::Word(name) => name,
            Token::Int(n) => n.to_string(),
            other => {
                let message = format!("a name was expected after the point, not {}", shown(&other));
                return Err(ExprError::new(message, range));
            }
        };
        self.node(Kind::Field(base, name, optional), start..range.end)
    }

    #[inline(never)]
    fn index(&mut self, base: Box<Node>) -> Result<Box<Node>, ExprError> {
        let start = self.next().1.start.min(base.range.start);
        let from = if matches!(self.peek(), Token::Sign(":")) { None } else { Some(self.choice_in_index()?) };
        if self.takes(":") {
            let to =
                if matches!(self.peek(), Token::Sign("]")) { None } else { Some(self.choice_in_index()?) };
            let end = self.expect("]")?.end;
            return self.node(Kind::Slice(base, from, to), start..end);
        }
        let end = self.expect("]")?.end;
        match from {
            Some(index) => self.node(Kind::Index(base, index), start..end),
            None => Err(ExprError::new("an index was expected", start..end)),
        }
    }

    /// Inside of an index `:` makes a slice, so there is no `a ? b : c`.
    fn choice_in_index(&mut self) -> Result<Box<Node>, ExprError> {
        self.descend()?;
        let node = self.binary(0)?;
        self.depth -= 1;
        Ok(node)
    }

    fn primary(&mut self) -> Result<Box<Node>, ExprError> {
        match self.peek() {
            Token::Sign("(") => self.group(),
            Token::Sign("[") => self.list(),
            Token::Sign("{") => self.map(),
            _ => self.leaf(),
        }
    }

    #[inline(never)]
    fn leaf(&mut self) -> Result<Box<Node>, ExprError> {
        let (token, range) = self.next();
        match token {
            Token::Int(n) => self.node(Kind::Literal(n.into()), range),
            Token::Float(n) => self.node(Kind::Literal(n.into()), range),
            Token::Text(t) => self.node(Kind::Literal(t.into()), range),
            Token::Word(word) => self.word(word, range),
            other => Err(ExprError::new(format!("a value was expected, not {}", shown(&other)), range)),
        }
    }

    #[inline(never)]
    fn group(&mut self) -> Result<Box<Node>, ExprError> {
        self.next();
        let inner = self.choice()?;
        self.expect(")")?;
        Ok(inner)
    }

    #[inline(never)]
    fn list(&mut self) -> Result<Box<Node>, ExprError> {
        let start = self.next().1.start;
        let items = self.items("]")?;
        let end = self.expect("]")?.end;
        self.node(Kind::List(items), start..end)
    }

    fn items(&mut self, close: &str) -> Result<Vec<Node>, ExprError> {
        let mut items = Vec::new();
        while !matches!(self.peek(), Token::Sign(s) if *s == close) {
            items.push(*self.choice()?);
            if !self.takes(",") {
                break;
            }
        }
        Ok(items)
    }

    #[inline(never)]
    fn map(&mut self) -> Result<Box<Node>, ExprError> {
        let start = self.next().1.start;
        let mut entries = Vec::new();
        while !matches!(self.peek(), Token::Sign("}")) {
            let key = self.key()?;
            entries.push((key, *self.choice()?));
            if !self.takes(",") {
                break;
            }
        }
        let end = self.expect("}")?.end;
        self.node(Kind::Map(entries), start..end)
    }

    #[inline(never)]
    fn key(&mut self) -> Result<String, ExprError> {
        let (token, range) = self.next();
        let key = match token {
            Token::Word(key) | Token::Text(key) => key,
            other => return Err(ExprError::new(format!("a key was expected, not {}", shown(&other)), range)),
        };
        if key == "$secret" {
            return Err(ExprError::new("`$secret` is Ostler's own; write `secrets.NAME`", range));
        }
        self.expect(":")?;
        Ok(key)
    }

    #[inline(never)]
    fn word(&mut self, word: String, range: Range<usize>) -> Result<Box<Node>, ExprError> {
        if matches!(self.peek(), Token::Sign("(")) {
            return self.function(&word, range);
        }
        match word.as_str() {
            "null" | "none" | "None" => self.node(Kind::Literal(Value::Null), range),
            "true" | "True" => self.node(Kind::Literal(true.into()), range),
            "false" | "False" => self.node(Kind::Literal(false.into()), range),
            "if" | "else" | "and" | "or" | "in" | "not" => {
                Err(ExprError::new(format!("a value was expected, not `{word}`"), range))
            }
            _ => self.node(Kind::Name(word), range),
        }
    }

    #[inline(never)]
    fn function(&mut self, word: &str, range: Range<usize>) -> Result<Box<Node>, ExprError> {
        self.next();
        let arguments = self.items(")")?;
        let end = self.expect(")")?.end;
        let function =
            functions::find(word, arguments.len()).map_err(|m| ExprError::new(m, range.start..end))?;
        self.node(Kind::Call(function, arguments), range.start..end)
    }
}

/// Gathers the names that a tree looks up.
pub(crate) fn references(node: &Node, optional: bool, found: &mut Vec<Reference>) {
    if let Some((path, dynamic, maybe)) = path(node, found) {
        found.push(Reference { path, dynamic, optional: optional || maybe, range: node.range.clone() });
        return;
    }
    match &node.kind {
        Kind::Literal(_) | Kind::Name(_) => {}
        Kind::List(items) => items.iter().for_each(|n| references(n, optional, found)),
        Kind::Map(entries) => entries.iter().for_each(|(_, n)| references(n, optional, found)),
        Kind::Field(base, ..) | Kind::Not(base) | Kind::Negate(base) => references(base, optional, found),
        Kind::Index(a, b) => {
            references(a, optional, found);
            references(b, optional, found);
        }
        Kind::Binary(operator, a, b) => {
            references(a, optional || *operator == "??", found);
            references(b, optional, found);
        }
        Kind::Slice(base, from, to) => {
            references(base, optional, found);
            for part in [from, to].into_iter().flatten() {
                references(part, optional, found);
            }
        }
        Kind::Choose(a, b, c) => [a, b, c].into_iter().for_each(|n| references(n, optional, found)),
        Kind::Call(function, arguments) => {
            for (i, n) in arguments.iter().enumerate() {
                references(n, optional || (*function == "default" && i == 0), found);
            }
        }
    }
}

/// A chain of fields and constant indexes from a name; what lies inside computed indexes is gathered too.
fn path(node: &Node, found: &mut Vec<Reference>) -> Option<(Vec<String>, bool, bool)> {
    match &node.kind {
        Kind::Name(name) => Some((vec![name.clone()], false, false)),
        Kind::Field(base, name, optional) => {
            let (mut path, dynamic, maybe) = path(base, found)?;
            if !dynamic {
                path.push(name.clone());
            }
            Some((path, dynamic, maybe || *optional))
        }
        Kind::Index(base, index) => {
            let (mut path, dynamic, maybe) = path(base, found)?;
            match &index.kind {
                Kind::Literal(Value::String(key)) if !dynamic => {
                    path.push(key.clone());
                    Some((path, false, maybe))
                }
                _ => {
                    references(index, false, found);
                    Some((path, true, maybe))
                }
            }
        }
        Kind::Slice(base, from, to) => {
            for part in [from, to].into_iter().flatten() {
                references(part, false, found);
            }
            path(base, found).map(|(path, _, maybe)| (path, true, maybe))
        }
        _ => None,
    }
}

/// Whether a tree asks how things stand.
pub(crate) fn uses_status(node: &Node) -> bool {
    match &node.kind {
        Kind::Literal(_) | Kind::Name(_) => false,
        Kind::List(items) => items.iter().any(uses_status),
        Kind::Map(entries) => entries.iter().any(|(_, n)| uses_status(n)),
        Kind::Field(base, ..) | Kind::Not(base) | Kind::Negate(base) => uses_status(base),
        Kind::Index(a, b) | Kind::Binary(_, a, b) => uses_status(a) || uses_status(b),
        Kind::Slice(base, from, to) => {
            uses_status(base) || [from, to].into_iter().flatten().any(|n| uses_status(n))
        }
        Kind::Choose(a, b, c) => uses_status(a) || uses_status(b) || uses_status(c),
        Kind::Call(function, arguments) => STATUS.contains(function) || arguments.iter().any(uses_status),
    }
}
