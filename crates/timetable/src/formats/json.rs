//! JSON with places. YAML would read most of it, but not its surrogate pairs, and would accept what is not JSON.

use std::{collections::HashMap, ops::Range};

use super::DEPTH;
use crate::{
    diagnostic::Problem,
    node::{Key, Kind, Node},
    source::Source,
};

pub(crate) fn read(text: &str, problems: &mut Vec<Problem>) -> Option<Node> {
    let mut reader = Reader { text, at: 0, source: None, problems };
    reader.blank();
    if reader.at == text.len() {
        let problem = Problem::new("empty", &(0..0), "the file is empty");
        reader.problems.push(problem.help("a smallest file is `{\"tasks\": []}`"));
        return None;
    }
    let read = reader.value(0).and_then(|node| {
        reader.blank();
        if reader.at < text.len() { Err(reader.unexpected("the end of the file")) } else { Ok(node) }
    });
    match read {
        Ok(node) => Some(node),
        Err(problem) => {
            reader.problems.push(problem);
            None
        }
    }
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
    source: Option<Source>,
    problems: &'a mut Vec<Problem>,
}

impl Reader<'_> {
    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn blank(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\r' | b'\n')) {
            self.at += 1;
        }
    }

    fn line(&mut self, at: usize) -> u32 {
        let text = self.text;
        self.source.get_or_insert_with(|| Source::new("", text)).place(at).0
    }

    fn unexpected(&self, wanted: &str) -> Problem {
        let rest = &self.text[self.at..];
        let Some(c) = rest.chars().next() else {
            return Problem::new(
                "json",
                &(self.at..self.at),
                format!("the file ends where {wanted} was expected"),
            );
        };
        let problem = Problem::new(
            "json",
            &(self.at..self.at + c.len_utf8()),
            format!("{wanted} was expected, not `{c}`"),
        );
        match c {
            '/' | '#' => problem.help("JSON has no comments; YAML files have"),
            '\'' => problem.help("JSON writes texts in double quotes"),
            ']' | '}' => problem.help("is there a comma too many?"),
            _ => problem,
        }
    }

    fn expect(&mut self, byte: u8, wanted: &str) -> Result<(), Problem> {
        self.blank();
        if self.peek() != Some(byte) {
            return Err(self.unexpected(wanted));
        }
        self.at += 1;
        Ok(())
    }

    fn value(&mut self, depth: usize) -> Result<Node, Problem> {
        self.blank();
        let start = self.at;
        if depth > DEPTH {
            let message = format!("it nests more than {DEPTH} deep here");
            return Err(Problem::new("too-deep", &(start..start + 1), message));
        }
        let kind = match self.peek() {
            Some(b'{') => self.map(depth)?,
            Some(b'[') => self.list(depth)?,
            Some(b'"') => Kind::Text(self.string()?.0),
            Some(b'-' | b'0'..=b'9') => self.number()?,
            _ => self.word()?,
        };
        Ok(Node::new(kind, start..self.at))
    }

    fn map(&mut self, depth: usize) -> Result<Kind, Problem> {
        self.at += 1;
        let mut entries: Vec<(Key, Node)> = Vec::new();
        let mut seen: HashMap<String, usize> = HashMap::new();
        self.blank();
        if self.peek() == Some(b'}') {
            self.at += 1;
            return Ok(Kind::Map(entries));
        }
        loop {
            self.blank();
            if self.peek() != Some(b'"') {
                return Err(self.unexpected("a key in double quotes"));
            }
            let (text, span) = self.string()?;
            self.expect(b':', "`:`")?;
            let node = self.value(depth + 1)?;
            match seen.get(&text) {
                Some(first) => {
                    let first = self.line(*first);
                    self.problems.push(super::duplicate(&text, &span, first));
                }
                None => {
                    seen.insert(text.clone(), span.start);
                    entries.push((Key { text, span }, node));
                }
            }
            self.blank();
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b'}') => {
                    self.at += 1;
                    return Ok(Kind::Map(entries));
                }
                _ => return Err(self.unexpected("`,` or `}`")),
            }
        }
    }

    fn list(&mut self, depth: usize) -> Result<Kind, Problem> {
        self.at += 1;
        let mut items = Vec::new();
        self.blank();
        if self.peek() == Some(b']') {
            self.at += 1;
            return Ok(Kind::List(items));
        }
        loop {
            items.push(self.value(depth + 1)?);
            self.blank();
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b']') => {
                    self.at += 1;
                    return Ok(Kind::List(items));
                }
                _ => return Err(self.unexpected("`,` or `]`")),
            }
        }
    }

    /// A text in quotes; `serde_json` knows the escapes.
    fn string(&mut self) -> Result<(String, Range<usize>), Problem> {
        let start = self.at;
        let bytes = self.text.as_bytes();
        let mut end = start + 1;
        loop {
            match bytes.get(end) {
                Some(b'"') => break,
                Some(b'\\') => end += 2,
                Some(b'\n') | None => {
                    let span = start..end.min(self.text.len());
                    return Err(Problem::new("json", &span, "the text has no closing quote in its line"));
                }
                Some(_) => end += 1,
            }
        }
        let span = start..end + 1;
        self.at = end + 1;
        let text: String = serde_json::from_str(&self.text[span.clone()])
            .map_err(|e| Problem::new("json", &span, format!("the text cannot be read: {e}")))?;
        if text.contains('\0') {
            return Err(Problem::new("json", &span, "a text cannot hold the character U+0000"));
        }
        Ok((text, span))
    }

    fn number(&mut self) -> Result<Kind, Problem> {
        let rest = &self.text[self.at..];
        let length =
            rest.find(|c: char| !matches!(c, '0'..='9' | '-' | '+' | '.' | 'e' | 'E')).unwrap_or(rest.len());
        let raw = &rest[..length];
        let span = self.at..self.at + length;
        let number = serde_json::from_str(raw)
            .map_err(|_| Problem::new("json", &span, format!("`{raw}` is not a JSON number")))?;
        self.at += length;
        Ok(Kind::Number(number, raw.into()))
    }

    fn word(&mut self) -> Result<Kind, Problem> {
        for (word, kind) in [
            ("null", Kind::Null),
            ("true", Kind::Bool(true, "true".into())),
            ("false", Kind::Bool(false, "false".into())),
        ] {
            if self.text[self.at..].starts_with(word) {
                self.at += word.len();
                return Ok(kind);
            }
        }
        Err(self.unexpected("a value"))
    }
}
