//! YAML 1.2: events of `granit-parser` to nodes, scalars by the core schema, anchors and `<<` within a budget.

use std::{collections::HashMap, ops::Range};

use granit_parser::{Event, Parser, ScalarStyle, Span, StrInput};
use serde_json::Number;

use super::{DEPTH, duplicate};
use crate::{
    diagnostic::Problem,
    node::{Key, Kind, Node},
    source::Source,
};

/// How many values aliases may copy: enough for any file of a person, nothing for a bomb.
const COPIES: usize = 100_000;

pub(crate) fn read(source: &Source, problems: &mut Vec<Problem>) -> Option<Node> {
    let options = granit_parser::options! {
        emit_comments: false,
        emit_unresolved_aliases: true,
        flow_nesting_limit: DEPTH,
        block_nesting_limit: DEPTH,
        simple_key_max_lookahead: 65_536,
    };
    let mut builder = Builder {
        parser: Parser::new_from_str_with_options(&source.text, options),
        source,
        anchors: HashMap::new(),
        copies: COPIES,
        problems,
    };
    match builder.document() {
        Ok(node) => Some(node),
        Err(problem) => {
            builder.problems.push(*problem);
            None
        }
    }
}

struct Builder<'s, 'p> {
    parser: Parser<'s, StrInput<'s>>,
    source: &'s Source,
    anchors: HashMap<usize, Node>,
    copies: usize,
    problems: &'p mut Vec<Problem>,
}

type Built<T> = Result<T, Box<Problem>>;

impl<'s> Builder<'s, '_> {
    fn document(&mut self) -> Built<Node> {
        let empty = || {
            Box::new(
                Problem::new("empty", &(0..0), "the file is empty").help("a smallest file is `tasks: []`"),
            )
        };
        let mut root = None;
        while let Some((event, span)) = self.next()? {
            match event {
                Event::DocumentStart(..) if root.is_some() => {
                    let message = "a second document begins here";
                    let help = "a definition file is one document: remove the `---`, or make it two files";
                    return Err(Box::new(Problem::new("documents", &self.place(&span), message).help(help)));
                }
                Event::Scalar(..)
                | Event::SequenceStart(..)
                | Event::MappingStart(..)
                | Event::Alias(_)
                | Event::UnresolvedAlias(_) => {
                    root = Some(self.node(event, span, 0)?);
                }
                _ => {}
            }
        }
        root.filter(|node| node.kind != Kind::Null).ok_or_else(empty)
    }

    fn next(&mut self) -> Built<Option<(Event<'s>, Span)>> {
        match self.parser.next_event() {
            None => Ok(None),
            Some(Ok(found)) => Ok(Some(found)),
            Some(Err(error)) => Err(Box::new(self.scan_error(&error))),
        }
    }

    fn required(&mut self) -> Built<(Event<'s>, Span)> {
        self.next()?.ok_or_else(|| Box::new(Problem::new("yaml", &(0..0), "the file ends too early")))
    }

    fn scan_error(&self, error: &granit_parser::ScanError) -> Problem {
        let marker = error.marker();
        let at = marker.byte_offset().unwrap_or_else(|| {
            self.source.text.char_indices().nth(marker.index()).map_or(self.source.text.len(), |(at, _)| at)
        });
        let at = at.min(self.source.text.len());
        let begin = self.source.text[..at].rfind('\n').map_or(0, |n| n + 1);
        let line = self.source.text[begin..].lines().next().unwrap_or_default();
        let indent = &line[..line.len() - line.trim_start().len()];
        if let Some(tab) = indent.find('\t') {
            let span = begin + tab..begin + tab + 1;
            return Problem::new("tab", &span, "the line is indented by a tab")
                .help("YAML indents by spaces");
        }
        let message = error.info();
        if message.contains("nesting") || message.contains("recursion") {
            return Problem::new("too-deep", &(at..at + 1), format!("it nests more than {DEPTH} deep here"));
        }
        let mut problem = Problem::new("yaml", &(at..at + 1), format!("this is not YAML: {message}"));
        if line.trim_start().starts_with(['@', '`', '%', '*']) || line.contains(": @") || line.contains(": %")
        {
            problem = problem.help("a text that begins with `@`, `` ` ``, `%` or `*` stands in quotes");
        } else if message.contains("quoted scalar") {
            problem = problem.help("is a quote not closed above?");
        } else if line.matches(": ").count() > 1 && !line.contains('{') {
            problem = problem.help("a text with `: ` in it stands in quotes");
        }
        problem
    }

    fn place(&self, span: &Span) -> Range<usize> {
        span.byte_range().unwrap_or(0..0)
    }

    fn node(&mut self, event: Event<'s>, span: Span, depth: usize) -> Built<Node> {
        let place = self.place(&span);
        if depth > DEPTH * 2 {
            let message = format!("it nests more than {DEPTH} deep here");
            return Err(Box::new(Problem::new("too-deep", &place, message)));
        }
        let (kind, anchor, end) = match event {
            Event::Scalar(text, style, anchor, tag) => {
                if text.contains('\0') {
                    let problem = Problem::new("yaml", &place, "a text cannot hold the character U+0000");
                    return Err(Box::new(problem));
                }
                let tag =
                    tag.as_deref().map(|t| (t.is_yaml_core_schema(), t.suffix().to_owned(), t.original()));
                let kind = match tag {
                    None if style == ScalarStyle::Plain => self.plain(&text, &place),
                    None => Kind::Text(text.into_owned()),
                    Some((true, suffix, _)) => self.tagged(&suffix, &text, &place),
                    Some((false, _, original)) => self.unknown_tag(&original, &place),
                };
                // A block's end is where the next token was found; what the caret needs is its text.
                let end = place.start + self.source.slice(&place).trim_end().len();
                (kind, anchor, end)
            }
            Event::SequenceStart(_, anchor, tag) => {
                if let Some(tag) = tag.filter(|t| !t.is_yaml_core_schema_tag("seq")) {
                    self.unknown_tag(&tag.original(), &place);
                }
                let (items, end) = self.list(depth)?;
                (Kind::List(items), anchor, end)
            }
            Event::MappingStart(_, anchor, tag) => {
                if let Some(tag) = tag.filter(|t| !t.is_yaml_core_schema_tag("map")) {
                    self.unknown_tag(&tag.original(), &place);
                }
                let (entries, end) = self.map(depth)?;
                (Kind::Map(entries), anchor, end)
            }
            Event::Alias(id) => return self.alias(id, &place),
            Event::UnresolvedAlias(name) => {
                let problem =
                    Problem::new("alias", &place, format!("there is no anchor `&{name}` before this"));
                let help = "an anchor stands above its aliases; a text that begins with `*` stands in quotes";
                return Err(Box::new(problem.help(help)));
            }
            _ => return Err(Box::new(Problem::new("yaml", &place, "a value was expected"))),
        };
        let node = Node::new(kind, place.start..end.max(place.start));
        if anchor != 0 {
            self.anchors.insert(anchor, node.clone());
        }
        Ok(node)
    }

    fn alias(&mut self, id: usize, place: &Range<usize>) -> Built<Node> {
        let Some(node) = self.anchors.get(&id) else {
            let message = format!("`{}` stands inside of what it names", self.source.slice(place));
            return Err(Box::new(Problem::new("alias", place, message)));
        };
        let count = node.count();
        if count > self.copies {
            let message = format!("the aliases of this file come to more than {COPIES} values");
            return Err(Box::new(Problem::new("alias", place, message)));
        }
        self.copies -= count;
        Ok(node.clone())
    }

    fn list(&mut self, depth: usize) -> Built<(Vec<Node>, usize)> {
        let mut items = Vec::new();
        loop {
            match self.required()? {
                (Event::SequenceEnd, span) => {
                    let end = items.last().map_or(0, |n: &Node| n.span.end).max(self.place(&span).start);
                    return Ok((items, end));
                }
                (Event::Comment(..) | Event::Anchor(..), _) => {}
                (event, span) => items.push(self.node(event, span, depth + 1)?),
            }
        }
    }

    fn map(&mut self, depth: usize) -> Built<(Vec<(Key, Node)>, usize)> {
        let mut entries: Vec<(Key, Node)> = Vec::new();
        let mut seen: HashMap<String, usize> = HashMap::new();
        let mut merged: Vec<Node> = Vec::new();
        let end = loop {
            let (event, span) = self.required()?;
            let place = self.place(&span);
            let key = match event {
                Event::MappingEnd => break place.start,
                Event::Comment(..) | Event::Anchor(..) => continue,
                Event::Scalar(text, style, ..) => {
                    let is_merge = style == ScalarStyle::Plain && text == "<<";
                    let key = Key { text: text.into_owned(), span: place };
                    let (event, span) = self.required()?;
                    let value = self.node(event, span, depth + 1)?;
                    if is_merge {
                        merged.push(value);
                        continue;
                    }
                    (key, value)
                }
                _ => {
                    let help = "a key is a text; a text with `{`, `[` or `*` at its front stands in quotes";
                    return Err(Box::new(Problem::new("yaml", &place, "this is not a key").help(help)));
                }
            };
            if key.0.text.contains('\0') {
                let problem = Problem::new("yaml", &key.0.span, "a key cannot hold the character U+0000");
                return Err(Box::new(problem));
            }
            match seen.get(&key.0.text) {
                Some(first) => {
                    let first = self.source.place(*first).0;
                    self.problems.push(duplicate(&key.0.text, &key.0.span, first));
                }
                None => {
                    seen.insert(key.0.text.clone(), key.0.span.start);
                    entries.push(key);
                }
            }
        };
        let end = entries.last().map_or(0, |(_, n)| n.span.end).max(end);
        for value in merged {
            self.merge(value, &mut seen, &mut entries);
        }
        Ok((entries, end))
    }

    /// `<<`: keys that the map does not have itself; of several maps the earlier wins.
    fn merge(&mut self, value: Node, seen: &mut HashMap<String, usize>, entries: &mut Vec<(Key, Node)>) {
        let span = value.span.clone();
        match value.kind {
            Kind::Map(more) => {
                for (key, node) in more {
                    if !seen.contains_key(&key.text) {
                        seen.insert(key.text.clone(), key.span.start);
                        entries.push((key, node));
                    }
                }
            }
            Kind::List(items) if items.iter().all(|i| matches!(i.kind, Kind::Map(_))) => {
                for item in items {
                    self.merge(item, seen, entries);
                }
            }
            _ => self.problems.push(
                Problem::new("alias", &span, "`<<` takes a map or a list of maps")
                    .help("as in `<<: *name`, with `&name` at that map"),
            ),
        }
    }

    fn unknown_tag(&mut self, tag: &str, place: &Range<usize>) -> Kind {
        let problem = Problem::new("yaml", place, format!("the tag `{tag}` means nothing here"));
        self.problems.push(problem.help("leave it out"));
        Kind::Null
    }

    fn tagged(&mut self, suffix: &str, text: &str, place: &Range<usize>) -> Kind {
        let kind = self.plain(text, place);
        match (suffix, &kind) {
            ("str", _) => Kind::Text(text.to_owned()),
            ("int", Kind::Number(n, _)) if n.is_i64() || n.is_u64() => kind,
            ("float", Kind::Number(..)) | ("bool", Kind::Bool(..)) | ("null", Kind::Null) => kind,
            _ => {
                self.problems.push(Problem::new("yaml", place, format!("`{text}` is not a `!!{suffix}`")));
                Kind::Null
            }
        }
    }

    /// A scalar without quotes, by the core schema of YAML 1.2: `no` and `on` are texts, `017` is 17, `1_000` a text.
    fn plain(&mut self, text: &str, place: &Range<usize>) -> Kind {
        match text {
            "" | "~" | "null" | "Null" | "NULL" => return Kind::Null,
            "true" | "True" | "TRUE" => return Kind::Bool(true, text.into()),
            "false" | "False" | "FALSE" => return Kind::Bool(false, text.into()),
            _ => {}
        }
        let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
        let lower = unsigned.to_ascii_lowercase();
        if lower == ".inf" || (lower == ".nan" && unsigned == text) {
            let problem =
                Problem::new("yaml", place, format!("`{text}` is a number that JSON does not have"));
            self.problems.push(problem.help("as a text it stands in quotes"));
            return Kind::Null;
        }
        match number(text, unsigned) {
            Some(number) => Kind::Number(number, text.into()),
            None => Kind::Text(text.to_owned()),
        }
    }
}

/// The number of a plain scalar, when it is one.
fn number(text: &str, unsigned: &str) -> Option<Number> {
    let digits = |s: &str| !s.is_empty() && s.bytes().all(|b| b.is_ascii_digit());
    for (prefix, radix) in [("0o", 8), ("0x", 16)] {
        if let Some(rest) = text.strip_prefix(prefix)
            && !rest.starts_with(['+', '-'])
        {
            return u64::from_str_radix(rest, radix).ok().map(Number::from);
        }
    }
    if digits(unsigned) {
        let plain = text.strip_prefix('+').unwrap_or(text);
        if let Ok(n) = plain.parse::<i64>() {
            return Some(n.into());
        }
        if let Ok(n) = plain.parse::<u64>() {
            return Some(n.into());
        }
        return Number::from_f64(plain.parse().ok()?);
    }
    let (mantissa, exponent) = match unsigned.find(['e', 'E']) {
        Some(at) => (&unsigned[..at], Some(&unsigned[at + 1..])),
        None => (unsigned, None),
    };
    if let Some(exponent) = exponent
        && !digits(exponent.strip_prefix(['+', '-']).unwrap_or(exponent))
    {
        return None;
    }
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let has_digits = !whole.is_empty() || !fraction.is_empty();
    let all_digits = |s: &str| s.is_empty() || digits(s);
    if !has_digits || !all_digits(whole) || !all_digits(fraction) {
        return None;
    }
    Number::from_f64(text.strip_prefix('+').unwrap_or(text).parse().ok()?)
}
