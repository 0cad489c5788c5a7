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
    &["||", "or"],
    &["&&", "and"],
    &["==", "!=", "<=", ">=", "<", ">", "in", "not in"],
    &["+", "-"],
    &["*", "/", "//", "%"],
];

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
        Token::End => Ok(node),
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

    fn node(&mut self, kind: Kind, range: Range<usize>) -> Result<Node, ExprError> {
        self.nodes += 1;
        if self.nodes > NODES {
            return Err(ExprError::new(format!("the expression has more than {NODES} parts"), range));
        }
        Ok(Node { kind, range })
    }

    fn deeper<T>(&mut self, parse: impl FnOnce(&mut Self) -> Result<T, ExprError>) -> Result<T, ExprError> {
        self.depth += 1;
        if self.depth > DEPTH {
            return Err(ExprError::new(format!("the expression nests more than {DEPTH} deep"), self.range()));
        }
        let parsed = parse(self);
        self.depth -= 1;
        parsed
    }

    fn choice(&mut self) -> Result<Node, ExprError> {
        self.deeper(|p| {
            let first = p.binary(0)?;
            if p.takes("?") {
                let yes = p.choice()?;
                p.expect(":")?;
                let no = p.choice()?;
                let range = first.range.start..no.range.end;
                return p.node(Kind::Choose(Box::new(first), Box::new(yes), Box::new(no)), range);
            }
            if p.takes("if") {
                let condition = p.binary(0)?;
                p.expect("else")?;
                let no = p.choice()?;
                let range = first.range.start..no.range.end;
                return p.node(Kind::Choose(Box::new(condition), Box::new(first), Box::new(no)), range);
            }
            Ok(first)
        })
    }

    fn binary(&mut self, level: usize) -> Result<Node, ExprError> {
        let Some(operators) = LEVELS.get(level) else { return self.unary() };
        let mut left = self.binary(level + 1)?;
        while let Some(operator) = self.operator(operators) {
            let right = self.binary(level + 1)?;
            let range = left.range.start..right.range.end;
            left = self.node(Kind::Binary(operator, Box::new(left), Box::new(right)), range)?;
        }
        Ok(left)
    }

    fn operator(&mut self, operators: &[&'static str]) -> Option<&'static str> {
        if operators.contains(&"not in")
            && matches!(self.peek(), Token::Word(w) if w == "not")
            && matches!(self.tokens.get(self.at + 1), Some((Token::Word(w), _)) if w == "in")
        {
            self.next();
            self.next();
            return Some("not in");
        }
        let found = operators.iter().find(|o| match self.peek() {
            Token::Sign(s) => s == *o,
            Token::Word(w) => w == *o,
            _ => false,
        })?;
        self.next();
        Some(match *found {
            "or" => "||",
            "and" => "&&",
            other => other,
        })
    }

    fn unary(&mut self) -> Result<Node, ExprError> {
        let start = self.range().start;
        if self.takes("!") || self.takes("not") {
            let inner = self.deeper(Self::unary)?;
            let range = start..inner.range.end;
            return self.node(Kind::Not(Box::new(inner)), range);
        }
        if self.takes("-") {
            let inner = self.deeper(Self::unary)?;
            let range = start..inner.range.end;
            return self.node(Kind::Negate(Box::new(inner)), range);
        }
        self.postfix()
    }

    fn postfix(&mut self) -> Result<Node, ExprError> {
        let mut node = self.primary()?;
        let mut links = 0;
        loop {
            links += 1;
            if links > DEPTH {
                return Err(ExprError::new(
                    format!("the expression nests more than {DEPTH} deep"),
                    node.range,
                ));
            }
            let start = node.range.start;
            let optional = match self.peek() {
                Token::Sign(".") => false,
                Token::Sign("?.") => true,
                Token::Sign("[") => {
                    self.next();
                    node = self.index(node)?;
                    continue;
                }
                _ => return Ok(node),
            };
            self.next();
            let (token, range) = self.next();
            let name = match token {
                Token::Word(name) => name,
                Token::Int(n) => n.to_string(),
                other => {
                    return Err(ExprError::new(
                        format!("a name was expected after the point, not {}", shown(&other)),
                        range,
                    ));
                }
            };
            node = self.node(Kind::Field(Box::new(node), name, optional), start..range.end)?;
        }
    }

    fn index(&mut self, base: Node) -> Result<Node, ExprError> {
        let start = base.range.start;
        let from =
            if matches!(self.peek(), Token::Sign(":")) { None } else { Some(Box::new(self.binary_deep()?)) };
        if self.takes(":") {
            let to = if matches!(self.peek(), Token::Sign("]")) {
                None
            } else {
                Some(Box::new(self.binary_deep()?))
            };
            let end = self.expect("]")?.end;
            return self.node(Kind::Slice(Box::new(base), from, to), start..end);
        }
        let end = self.expect("]")?.end;
        match from {
            Some(index) => self.node(Kind::Index(Box::new(base), index), start..end),
            None => Err(ExprError::new("an index was expected", start..end)),
        }
    }

    fn binary_deep(&mut self) -> Result<Node, ExprError> {
        self.deeper(|p| p.binary(0))
    }

    fn primary(&mut self) -> Result<Node, ExprError> {
        let (token, range) = self.next();
        match token {
            Token::Int(n) => self.node(Kind::Literal(n.into()), range),
            Token::Float(n) => self.node(Kind::Literal(n.into()), range),
            Token::Text(t) => self.node(Kind::Literal(t.into()), range),
            Token::Word(word) => self.word(word, range),
            Token::Sign("(") => {
                let inner = self.choice()?;
                self.expect(")")?;
                Ok(inner)
            }
            Token::Sign("[") => {
                let items = self.items("]")?;
                let end = self.expect("]")?.end;
                self.node(Kind::List(items), range.start..end)
            }
            Token::Sign("{") => self.map(range),
            other => Err(ExprError::new(format!("a value was expected, not {}", shown(&other)), range)),
        }
    }

    fn items(&mut self, close: &str) -> Result<Vec<Node>, ExprError> {
        let mut items = Vec::new();
        while !matches!(self.peek(), Token::Sign(s) if *s == close) {
            items.push(self.choice()?);
            if !self.takes(",") {
                break;
            }
        }
        Ok(items)
    }

    fn map(&mut self, open: Range<usize>) -> Result<Node, ExprError> {
        let mut entries = Vec::new();
        while !matches!(self.peek(), Token::Sign("}")) {
            let (token, range) = self.next();
            let key = match token {
                Token::Word(key) | Token::Text(key) => key,
                other => {
                    return Err(ExprError::new(format!("a key was expected, not {}", shown(&other)), range));
                }
            };
            self.expect(":")?;
            entries.push((key, self.choice()?));
            if !self.takes(",") {
                break;
            }
        }
        let end = self.expect("}")?.end;
        self.node(Kind::Map(entries), open.start..end)
    }

    fn word(&mut self, word: String, range: Range<usize>) -> Result<Node, ExprError> {
        match word.as_str() {
            "null" | "none" | "None" => return self.node(Kind::Literal(Value::Null), range),
            "true" | "True" => return self.node(Kind::Literal(true.into()), range),
            "false" | "False" => return self.node(Kind::Literal(false.into()), range),
            "if" | "else" | "and" | "or" | "in" | "not" => {
                return Err(ExprError::new(format!("a value was expected, not `{word}`"), range));
            }
            _ => {}
        }
        if !matches!(self.peek(), Token::Sign("(")) {
            return self.node(Kind::Name(word), range);
        }
        self.next();
        let arguments = self.items(")")?;
        let end = self.expect(")")?.end;
        let function =
            functions::find(&word, arguments.len()).map_err(|m| ExprError::new(m, range.start..end))?;
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
