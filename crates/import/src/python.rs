//! Python source, as far as lists of jobs need it: literals, calls by name, imports. Nothing is carried out.
//!
//! What is no literal stays what it is, as [`Kind::Code`], so that whoever asks can say what could not be read.

use std::sync::Arc;

use serde_json::{Number, Value};

use crate::line;

/// Brackets within one another at most.
const DEEPEST: usize = 32;

/// A value and where it stands.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Node {
    pub(crate) kind: Kind,
    /// Its line, from 1.
    pub(crate) line: u32,
}

/// What a value is.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Kind {
    Null,
    Bool(bool),
    Number(Number),
    Text(String),
    /// A list, tuple or set.
    List(Vec<Node>),
    Map(Vec<(String, Node)>),
    /// `name(a, key=b)`.
    Call(String, Arguments),
    /// Anything else, as it was written.
    Code(String),
}

/// What a call is given.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Arguments {
    pub(crate) plain: Vec<Node>,
    pub(crate) named: Vec<(String, Node)>,
    /// It has `*args` or `**kwargs`.
    pub(crate) spread: bool,
}

impl Node {
    /// The text, if it is one.
    pub(crate) fn text(&self) -> Option<&str> {
        if let Kind::Text(text) = &self.kind { Some(text) } else { None }
    }

    /// The value as JSON; `None` when some part of it is code.
    pub(crate) fn json(&self) -> Option<Value> {
        Some(match &self.kind {
            Kind::Null => Value::Null,
            Kind::Bool(value) => (*value).into(),
            Kind::Number(number) => Value::Number(number.clone()),
            Kind::Text(text) => text.as_str().into(),
            Kind::List(items) => items.iter().map(Node::json).collect::<Option<_>>()?,
            Kind::Map(entries) => Value::Object(
                entries.iter().map(|(k, v)| Some((k.clone(), v.json()?))).collect::<Option<_>>()?,
            ),
            Kind::Call(..) | Kind::Code(_) => return None,
        })
    }
}

/// A place in a source.
#[derive(Clone)]
pub(crate) struct Source<'s> {
    text: &'s str,
    /// Where its lines end.
    ends: Arc<[usize]>,
    /// The byte that is read next.
    pub(crate) at: usize,
}

impl<'s> Source<'s> {
    pub(crate) fn new(text: &'s str) -> Self {
        Self { text, ends: text.match_indices('\n').map(|(at, _)| at).collect(), at: 0 }
    }

    pub(crate) fn rest(&self) -> &'s str {
        &self.text[self.at..]
    }

    pub(crate) fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    pub(crate) fn line(&self) -> u32 {
        line(self.ends.partition_point(|end| *end < self.at))
    }

    /// How far the line is indented, when only spaces lie before this place.
    pub(crate) fn indent(&self) -> Option<usize> {
        let before = self.text[..self.at].rsplit('\n').next().unwrap_or_default();
        before.chars().all(|c| c == ' ' || c == '\t').then_some(before.len())
    }

    /// What stands right before this place.
    pub(crate) fn before(&self) -> Option<char> {
        self.text[..self.at].chars().next_back()
    }

    pub(crate) fn bump(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.at += c.len_utf8();
        Some(c)
    }

    /// Takes a text, if it comes next.
    pub(crate) fn take(&mut self, text: &str) -> bool {
        let is_next = self.rest().starts_with(text);
        self.at += if is_next { text.len() } else { 0 };
        is_next
    }

    /// Goes over spaces of the line, and escaped ends of lines.
    pub(crate) fn spaces(&mut self) {
        while self.take(" ") || self.take("\t") || self.take("\\\n") || self.take("\\\r\n") {}
    }

    /// Goes over spaces, lines and comments.
    pub(crate) fn blanks(&mut self) {
        while let Some(c) = self.peek() {
            match c {
                '#' => self.over_line(),
                c if c.is_whitespace() => {
                    self.bump();
                }
                _ if self.take("\\\n") => {}
                _ => return,
            }
        }
    }

    pub(crate) fn over_line(&mut self) {
        self.at += self.rest().find('\n').unwrap_or(self.rest().len());
    }

    /// A name, with dots within it.
    pub(crate) fn name(&mut self) -> Option<&'s str> {
        let rest = self.rest();
        rest.chars().next().filter(|c| c.is_alphabetic() || *c == '_')?;
        let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_' && c != '.').unwrap_or(rest.len());
        let name = rest[..end].trim_end_matches('.');
        self.at += name.len();
        Some(name)
    }

    /// A literal text; the outer `None` when there is none, the inner one when it is worked out (`f"..."`).
    pub(crate) fn string(&mut self) -> Option<Option<String>> {
        let rest = self.rest();
        let quote_at = rest.find(['"', '\'']).filter(|at| *at <= 2)?;
        let prefix = rest[..quote_at].to_ascii_lowercase();
        if !prefix.chars().all(|c| "rbuf".contains(c)) {
            return None;
        }
        self.at += quote_at;
        let quote = self.peek()?;
        let mut close = quote.to_string().repeat(3);
        if !self.take(&close) {
            close.truncate(1);
            self.bump();
        }
        let mut text = String::new();
        while !self.take(&close) {
            match self.bump() {
                // What is not closed ends with the line, or the text.
                None => break,
                Some('\n') if close.len() == 1 => break,
                Some('\\') if !prefix.contains('r') => self.escaped(&mut text),
                Some('\\') => {
                    text.push('\\');
                    text.extend(self.bump());
                }
                Some(c) => text.push(c),
            }
        }
        Some((!prefix.contains(['f', 'b'])).then_some(text))
    }

    fn escaped(&mut self, text: &mut String) {
        let Some(c) = self.bump() else { return };
        let digits = match c {
            'n' => return text.push('\n'),
            't' => return text.push('\t'),
            'r' => return text.push('\r'),
            '\n' => return,
            '\\' | '\'' | '"' => return text.push(c),
            'x' => 2,
            'u' => 4,
            'U' => 8,
            other => return text.extend(['\\', other]),
        };
        let code = self.rest().get(..digits).and_then(|hex| u32::from_str_radix(hex, 16).ok());
        match code.and_then(char::from_u32).filter(|c| *c != '\0') {
            Some(c) => {
                self.at += digits;
                text.push(c);
            }
            None => text.extend(['\\', c]),
        }
    }

    /// A value. Stands behind it then.
    pub(crate) fn value(&mut self) -> Node {
        self.value_within(0)
    }

    fn value_within(&mut self, depth: usize) -> Node {
        self.blanks();
        let (start, line) = (self.at, self.line());
        let kind = if depth < DEEPEST { self.primary(depth) } else { None };
        // What goes on behind it makes it something else.
        self.spaces();
        let ends = self.peek().is_none_or(|c| ",)]}:;=#\n\r".contains(c)) && !self.rest().starts_with("==");
        if let (Some(kind), true) = (kind, ends) {
            return Node { kind, line };
        }
        self.at = start;
        self.over_code();
        Node { kind: Kind::Code(self.text[start..self.at].trim().to_owned()), line }
    }

    fn primary(&mut self, depth: usize) -> Option<Kind> {
        if let Some(first) = self.string() {
            let mut whole = first;
            loop {
                // Texts beside one another are one, within brackets on several lines.
                let back = self.at;
                if depth > 0 {
                    self.blanks()
                } else {
                    self.spaces()
                }
                match self.string() {
                    Some(next) => whole = whole.zip(next).map(|(a, b)| a + &b),
                    None => {
                        self.at = back;
                        return whole.map(Kind::Text);
                    }
                }
            }
        }
        match self.peek()? {
            '[' => Some(Kind::List(self.items(']', depth)?.0)),
            '(' => {
                let (mut items, comma) = self.items(')', depth)?;
                if items.len() == 1 && !comma {
                    items.pop().map(|node| node.kind)
                } else {
                    Some(Kind::List(items))
                }
            }
            '{' => self.braces(depth),
            '-' | '+' | '.' | '0'..='9' => self.number(),
            _ => {
                let name = self.name()?;
                self.spaces();
                if self.peek() == Some('(') {
                    return Some(Kind::Call(name.to_owned(), self.arguments_within(depth)?));
                }
                match name {
                    "True" | "true" => Some(Kind::Bool(true)),
                    "False" | "false" => Some(Kind::Bool(false)),
                    "None" | "null" => Some(Kind::Null),
                    _ => None,
                }
            }
        }
    }

    /// A number, or a product of whole ones such as `24 * 60 * 60`.
    fn number(&mut self) -> Option<Kind> {
        let mut one = || {
            let sign = self.take("-");
            let rest = self.rest();
            let end = rest.find(|c: char| !c.is_ascii_digit() && !"._eE".contains(c)).unwrap_or(rest.len());
            let text = rest[..end].replace('_', "");
            self.at += end;
            let whole = text.parse::<i64>().ok().map(|n| if sign { -n } else { n });
            let float = || text.parse::<f64>().ok().and_then(|n| Number::from_f64(if sign { -n } else { n }));
            let number = whole.map(Number::from).or_else(float);
            self.spaces();
            let more = self.rest().starts_with('*') && !self.rest().starts_with("**") && self.take("*");
            self.spaces();
            Some((number?, more))
        };
        let (mut product, mut more) = one()?;
        while more {
            let (next, again) = one()?;
            product = product.as_i64()?.checked_mul(next.as_i64()?)?.into();
            more = again;
        }
        Some(Kind::Number(product))
    }

    /// The values up to a bracket, and whether a comma stands among or behind them.
    fn items(&mut self, close: char, depth: usize) -> Option<(Vec<Node>, bool)> {
        self.bump();
        let (mut items, mut comma) = (Vec::new(), false);
        loop {
            self.blanks();
            if self.peek()? == close {
                self.bump();
                return Some((items, comma));
            }
            items.push(self.value_within(depth + 1));
            comma |= self.comma_or(close)?;
        }
    }

    /// Takes a comma; false when the bracket comes instead.
    fn comma_or(&mut self, close: char) -> Option<bool> {
        self.blanks();
        match self.peek()? {
            ',' => {
                self.bump();
                Some(true)
            }
            c => (c == close).then_some(false),
        }
    }

    fn braces(&mut self, depth: usize) -> Option<Kind> {
        self.bump();
        let (mut entries, mut items) = (Vec::new(), Vec::new());
        loop {
            self.blanks();
            if self.take("}") {
                return Some(if items.is_empty() { Kind::Map(entries) } else { Kind::List(items) });
            }
            let key = self.value_within(depth + 1);
            self.blanks();
            if self.take(":") {
                let value = self.value_within(depth + 1);
                entries.push((key.text()?.to_owned(), value));
            } else {
                items.push(key);
            }
            self.comma_or('}')?;
            if !entries.is_empty() && !items.is_empty() {
                return None;
            }
        }
    }

    /// What stands in the brackets of a call, which come next.
    pub(crate) fn arguments(&mut self) -> Option<Arguments> {
        self.arguments_within(0)
    }

    fn arguments_within(&mut self, depth: usize) -> Option<Arguments> {
        self.bump();
        let mut found = Arguments::default();
        loop {
            self.blanks();
            if self.take(")") {
                return Some(found);
            }
            let mut ahead = self.clone();
            let name = ahead.name().filter(|_| {
                ahead.spaces();
                ahead.rest().starts_with('=') && !ahead.rest().starts_with("==")
            });
            found.spread |= self.peek() == Some('*');
            match name {
                Some(name) => {
                    self.at = ahead.at + 1;
                    let value = self.value_within(depth + 1);
                    found.named.push((name.to_owned(), value));
                }
                None => found.plain.push(self.value_within(depth + 1)),
            }
            self.comma_or(')')?;
        }
    }

    /// Goes over code up to the comma or bracket behind it, or the end of the line outside of brackets.
    fn over_code(&mut self) {
        let mut open = Vec::new();
        while let Some(c) = self.peek() {
            // A name goes as a whole: its last letters are no prefix of a text.
            if c.is_alphabetic() && self.string().is_some() {
                continue;
            }
            if self.name().is_some() {
                continue;
            }
            match c {
                '"' | '\'' => {
                    self.string();
                    continue;
                }
                '#' => {
                    self.over_line();
                    continue;
                }
                '(' | '[' | '{' => open.push(c),
                ',' | '\n' | ':' if open.is_empty() && c != ':' => return,
                ')' | ']' | '}' if open.pop().is_none() => return,
                _ => {}
            }
            self.bump();
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn literals_are_read_and_code_stays_code() {
        let value = |text: &str| Source::new(text).value();
        for (text, expected) in [
            ("'a' \"b\"", json!("ab")),
            ("[1, -2, 0.5, 1_000,]", json!([1, -2, 0.5, 1000])),
            ("24 * 60*60", json!(86400)),
            ("('a',)", json!(["a"])),
            ("('a')", json!("a")),
            ("{'a': None, # why\n 'b': [True, {}]}", json!({ "a": null, "b": [true, {}] })),
            (r#"r'\d' '\x41é\n'"#, json!("\\dA\u{e9}\n")),
            ("'''x\ny'''", json!("x\ny")),
        ] {
            assert_eq!(value(text).json(), Some(expected), "{text}");
        }
        for code in
            ["f'{x}'", "a + 1", "x", "lambda: f(1, ')')", "[1][0]", "os.environ['A, B'] or 3", "2 ** 3"]
        {
            let node = value(code);
            assert_eq!(node.kind, Kind::Code(code.into()), "{code}");
        }
        let deep = "[".repeat(5000);
        assert_eq!(value(&deep).json(), None);
        let Kind::Call(name, given) = value("cron.CronTrigger(1, hour='*/2', **more)").kind else { panic!() };
        assert_eq!(
            (name.as_str(), given.named[0].0.as_str(), given.spread),
            ("cron.CronTrigger", "hour", true)
        );
    }
}
