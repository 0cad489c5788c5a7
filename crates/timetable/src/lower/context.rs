//! What all of the lowering shares, and how single values are read.

use std::{cell::RefCell, path::Path};

use jiff::{Timestamp, civil, tz::TimeZone};
use ostler_model::{Name, Span};

use super::settings::Settings;
use crate::{
    LoadOptions,
    diagnostic::{Problem, nearest},
    node::{Kind, Node},
    source::Source,
};

/// How many errors of one file are told: who has more begins with these.
const MOST: usize = 100;

/// One file being lowered.
pub(crate) struct Context<'a> {
    pub(crate) source: &'a Source,
    pub(crate) options: &'a LoadOptions,
    /// The folder of the file; `None` for texts that come from no file.
    pub(crate) folder: Option<&'a Path>,
    pub(crate) settings: &'a Settings,
    errors: RefCell<Vec<Problem>>,
    warnings: RefCell<Vec<Problem>>,
    notes: RefCell<Vec<Problem>>,
}

/// What was found while lowering.
pub(crate) struct Found {
    pub(crate) errors: Vec<Problem>,
    pub(crate) warnings: Vec<Problem>,
    pub(crate) notes: Vec<Problem>,
}

impl<'a> Context<'a> {
    pub(crate) fn new(
        source: &'a Source,
        options: &'a LoadOptions,
        folder: Option<&'a Path>,
        settings: &'a Settings,
    ) -> Self {
        let empty = RefCell::default;
        Self { source, options, folder, settings, errors: empty(), warnings: empty(), notes: empty() }
    }

    pub(crate) fn found(self) -> Found {
        let in_order = |problems: RefCell<Vec<Problem>>| {
            let mut problems = problems.into_inner();
            problems.sort_by_key(|p| p.span.start);
            // Anchors bring one mistake to many places.
            problems.dedup();
            problems
        };
        Found {
            errors: in_order(self.errors),
            warnings: in_order(self.warnings),
            notes: in_order(self.notes),
        }
    }

    /// Puts an error on record.
    pub(crate) fn error(&self, problem: Problem) {
        let mut errors = self.errors.borrow_mut();
        if errors.len() < MOST {
            errors.push(problem);
        }
    }

    pub(crate) fn warn(&self, problem: Problem) {
        self.warnings.borrow_mut().push(problem);
    }

    pub(crate) fn note(&self, problem: Problem) {
        self.notes.borrow_mut().push(problem);
    }

    pub(crate) fn has_errors(&self) -> bool {
        !self.errors.borrow().is_empty()
    }

    /// `what` is not what stands there.
    pub(crate) fn wrong_type(&self, node: &Node, what: &str, wanted: &str) {
        // `a task` is said as it is; keys stand in quotes.
        let what = if what.contains(' ') { what.to_owned() } else { format!("`{what}`") };
        let message = match node.kind {
            Kind::Null => format!("{what} has no value"),
            _ => format!("{what} is {wanted}, not {}", node.described()),
        };
        let problem = Problem::new("wrong-type", &node.span, message);
        self.error(match node.kind {
            Kind::Null => problem.help(format!("write {wanted}, or leave the key out")),
            _ => problem,
        });
    }

    /// Any scalar, as it was written.
    pub(crate) fn text(&self, node: &Node, what: &str) -> Option<String> {
        let text = node.scalar();
        if text.is_none() {
            self.wrong_type(node, what, "a text");
        }
        text.map(str::to_owned)
    }

    pub(crate) fn flag(&self, node: &Node, what: &str) -> Option<bool> {
        if let Kind::Bool(value, _) = node.kind {
            return Some(value);
        }
        let problem = Problem::new(
            "wrong-type",
            &node.span,
            format!("`{what}` is `true` or `false`, not {}", node.described()),
        );
        let word = node.as_text().map(str::to_lowercase);
        self.error(problem.help_if(match word.as_deref() {
            Some("yes" | "on" | "y" | "true") => Some("write `true`".into()),
            Some("no" | "off" | "n" | "false") => Some("write `false`".into()),
            _ => None,
        }));
        None
    }

    /// A whole number in a range.
    pub(crate) fn count(&self, node: &Node, what: &str, from: u64, to: u64) -> Option<u64> {
        let Kind::Number(number, _) = &node.kind else {
            self.wrong_type(node, what, "a whole number");
            return None;
        };
        let value = number.as_u64().filter(|n| (from..=to).contains(n));
        if value.is_none() {
            let range =
                if to >= 1_000_000_000 { format!("{from} or more") } else { format!("from {from} to {to}") };
            let message = format!("`{what}` is a whole number {range}, not `{number}`");
            self.error(Problem::new("wrong-value", &node.span, message));
        }
        value
    }

    pub(crate) fn count32(&self, node: &Node, what: &str, from: u64) -> Option<u32> {
        self.count(node, what, from, 1_000_000_000).and_then(|n| u32::try_from(n).ok())
    }

    pub(crate) fn span(&self, node: &Node, what: &str) -> Option<Span> {
        match &node.kind {
            Kind::Text(text) => match text.parse() {
                Ok(span) => Some(span),
                Err(error) => {
                    self.error(Problem::new("duration", &node.span, format!("`{what}`: {error}")));
                    None
                }
            },
            Kind::Number(_, raw) => {
                let message = format!("`{what}` is a duration with a unit, not the number `{raw}`");
                self.error(
                    Problem::new("duration", &node.span, message)
                        .help(format!("write `{raw}s` for seconds or `{raw}m` for minutes")),
                );
                None
            }
            _ => {
                self.wrong_type(node, what, "a duration such as `90s` or `10m`");
                None
            }
        }
    }

    /// A span longer than nothing.
    pub(crate) fn positive_span(&self, node: &Node, what: &str) -> Option<Span> {
        let span = self.span(node, what)?;
        if span.is_zero() {
            let message = format!("`{what}` is longer than nothing, not `{span}`");
            self.error(Problem::new("duration", &node.span, message).help("leave the key out for no limit"));
            return None;
        }
        Some(span)
    }

    /// One of a few words; `-` and `_` are the same.
    pub(crate) fn word<T: Copy>(&self, node: &Node, what: &str, words: &[(&str, T)]) -> Option<T> {
        let names = || words.iter().map(|(w, _)| *w);
        let listed = || names().collect::<Vec<_>>().join(", ");
        let Some(text) = node.scalar() else {
            self.wrong_type(node, what, &format!("one of {}", listed()));
            return None;
        };
        let plain = text.to_lowercase().replace('_', "-");
        if let Some((_, value)) = words.iter().find(|(w, _)| w.replace('_', "-") == plain) {
            return Some(*value);
        }
        let problem = Problem::new("wrong-value", &node.span, format!("`{what}` has no value `{text}`"));
        let near = nearest(text, names()).map(|w| format!("did you mean `{w}`? it is one of {}", listed()));
        self.error(problem.help(near.unwrap_or_else(|| format!("it is one of {}", listed()))));
        None
    }

    pub(crate) fn name(&self, node: &Node, what: &str) -> Option<Name> {
        let text = self.text(node, what)?;
        self.name_of(&text, &node.span, what)
    }

    pub(crate) fn name_of(&self, text: &str, span: &std::ops::Range<usize>, what: &str) -> Option<Name> {
        match text.parse() {
            Ok(name) => Some(name),
            Err(error) => {
                let problem = Problem::new("name", span, format!("`{what}`: {error}"));
                let nearest = Name::from_any(text);
                self.error(if text.is_empty() {
                    problem
                } else {
                    problem.help(format!("for instance `{nearest}`"))
                });
                None
            }
        }
    }

    /// One value or a list of them.
    pub(crate) fn items<'n>(&self, node: &'n Node) -> Vec<&'n Node> {
        match &node.kind {
            Kind::List(items) => items.iter().collect(),
            Kind::Null => Vec::new(),
            _ => vec![node],
        }
    }

    /// One text or a list of them.
    pub(crate) fn texts(&self, node: &Node, what: &str) -> Vec<String> {
        self.items(node).into_iter().filter_map(|item| self.text(item, what)).collect()
    }

    /// One name or a list of them, with places.
    pub(crate) fn names<'n>(&self, node: &'n Node, what: &str) -> Vec<(Name, &'n Node)> {
        self.items(node).into_iter().filter_map(|item| Some((self.name(item, what)?, item))).collect()
    }

    /// A moment: RFC 3339, or a local date or date and time in a zone.
    pub(crate) fn moment(&self, node: &Node, what: &str, zone: &str) -> Option<Timestamp> {
        let text = self.text(node, what)?;
        if let Ok(moment) = text.parse::<Timestamp>() {
            return Some(moment);
        }
        let zoned = |local: civil::DateTime| {
            TimeZone::get(zone).ok().and_then(|z| local.to_zoned(z).ok()).map(|z| z.timestamp())
        };
        let local = text.parse::<civil::DateTime>().or_else(|_| text.parse::<civil::Date>().map(Into::into));
        if let Ok(local) = local {
            // A zone that does not exist is told where it stands.
            return Some(zoned(local).unwrap_or_default());
        }
        let message = format!("`{what}`: `{text}` is not a moment");
        self.error(
            Problem::new("moment", &node.span, message)
                .help("write `2027-03-01T09:00:00+01:00`, or `2027-03-01T09:00` for local time"),
        );
        None
    }

    /// The name of a time zone.
    pub(crate) fn zone(&self, node: &Node, what: &str) -> Option<String> {
        let text = self.text(node, what)?;
        let spec = super::schedule::once(&text);
        match ostler_calendar::Trigger::compile(&spec, &text, &ostler_calendar::Calendars::default(), 0) {
            Ok(_) => Some(text),
            Err(error) => {
                self.error(Problem::new("timezone", &node.span, format!("`{what}`: {error}")));
                None
            }
        }
    }

    /// Where a part of a text stands in the file. What is written with escapes or folded keeps the place of the whole.
    pub(crate) fn part(&self, node: &Node, range: &std::ops::Range<usize>) -> std::ops::Range<usize> {
        let whole = || node.span.clone();
        let Some(text) = node.as_text() else { return whole() };
        let Some(snippet) = text.get(range.clone()).filter(|s| !s.is_empty()) else { return whole() };
        let snippet = snippet.lines().next().unwrap_or_default();
        let (Some(before), written) = (text.get(..range.start), self.source.slice(&node.span)) else {
            return whole();
        };
        // The same snippet may stand in the text several times: take the one with as many before it.
        let number = before.matches(snippet).count();
        let Some((at, _)) = written.match_indices(snippet).nth(number) else { return whole() };
        let start = node.span.start + at;
        start..start + snippet.len()
    }
}
