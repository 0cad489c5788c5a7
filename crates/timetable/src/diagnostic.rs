//! What is wrong with a file, where, and what would be right.

use std::{fmt, ops::Range, sync::Arc};

use miette::{GraphicalReportHandler, GraphicalTheme, LabeledSpan, NamedSource, SourceCode};
use serde::Serialize;

use crate::source::Source;

/// One thing that is wrong with (or worth knowing about) a file.
#[derive(Clone, Serialize)]
pub struct Diagnostic {
    /// The file, as it was named.
    pub file: String,
    /// The line, from 1; 0 when it is about the file as a whole.
    pub line: u32,
    /// The column in characters, from 1; 0 when it is about the file as a whole.
    pub column: u32,
    /// The bytes of the file that it is about.
    pub span: Range<usize>,
    /// What is wrong, with the value.
    pub message: String,
    /// What would be right.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub help: Option<String>,
    /// A word for programs: `yaml`, `unknown-key`, `wrong-type`, `cron`, `expression`, `reference`, …
    pub code: &'static str,
    #[serde(skip)]
    text: Option<Arc<str>>,
}

impl Diagnostic {
    /// About a file as a whole.
    #[must_use]
    pub fn of_file(file: &str, code: &'static str, message: impl Into<String>) -> Self {
        Self {
            file: file.to_owned(),
            line: 0,
            column: 0,
            span: 0..0,
            message: message.into(),
            help: None,
            code,
            text: None,
        }
    }

    /// With what would be right.
    #[must_use]
    pub fn with_help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    pub(crate) fn new(source: &Source, problem: Problem) -> Self {
        let span = source.within(&problem.span);
        let (line, column) = source.place(span.start);
        Self {
            file: source.name.to_string(),
            line,
            column,
            span,
            message: problem.message,
            help: problem.help,
            code: problem.code,
            text: Some(source.text.clone()),
        }
    }

    /// One line: `file:line:column: message (what would be right)`.
    #[must_use]
    pub fn line(&self) -> String {
        let mut line = match self.line {
            0 => format!("{}: {}", self.file, self.message),
            n => format!("{}:{n}:{}: {}", self.file, self.column, self.message),
        };
        if let Some(help) = &self.help {
            line.push_str(&format!(" ({help})"));
        }
        line
    }
}

impl fmt::Debug for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} [{}]", self.line(), self.code)
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.line())
    }
}

/// Everything that is wrong.
#[derive(Clone, Debug, Serialize)]
#[serde(transparent)]
pub struct Diagnostics {
    /// In the order of the files and of the places in them.
    pub items: Vec<Diagnostic>,
}

impl Diagnostics {
    /// For people: each with the lines of the file and a caret.
    #[must_use]
    pub fn render(&self, color: bool) -> String {
        let theme = if color { GraphicalTheme::unicode() } else { GraphicalTheme::unicode_nocolor() };
        let handler = GraphicalReportHandler::new_themed(theme).with_width(110).with_links(false);
        let mut out = String::new();
        for (i, item) in self.items.iter().enumerate() {
            if i > 0 {
                out.push('\n');
            }
            let shown = Shown {
                diagnostic: item,
                source: item
                    .text
                    .clone()
                    .map(|text| NamedSource::new(&item.file, text).with_language("yaml")),
            };
            if handler.render_report(&mut out, &shown).is_err() {
                out.push_str(&item.line());
            }
            if !out.ends_with('\n') {
                out.push('\n');
            }
        }
        out
    }
}

impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, item) in self.items.iter().enumerate() {
            if i > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{item}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Diagnostics {}

impl From<Diagnostic> for Diagnostics {
    fn from(item: Diagnostic) -> Self {
        Self { items: vec![item] }
    }
}

/// A diagnostic in miette's terms.
#[derive(Debug)]
struct Shown<'a> {
    diagnostic: &'a Diagnostic,
    source: Option<NamedSource<Arc<str>>>,
}

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.source.is_none() {
            write!(f, "{}: ", self.diagnostic.file)?;
        }
        f.write_str(&self.diagnostic.message)
    }
}

impl std::error::Error for Shown<'_> {}

impl miette::Diagnostic for Shown<'_> {
    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        self.diagnostic.help.as_ref().map(|h| Box::new(h) as Box<dyn fmt::Display>)
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        self.source.as_ref().map(|s| s as &dyn SourceCode)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        self.source.as_ref()?;
        let span = &self.diagnostic.span;
        // A span of many lines would draw a frame around them all: the first line says enough.
        let text = self.diagnostic.text.as_deref().unwrap_or_default();
        let length = text.get(span.clone()).map_or(0, |t| t.lines().next().map_or(0, str::len));
        let label =
            LabeledSpan::new(None, span.start, length.max(1).min(text.len().saturating_sub(span.start)));
        Some(Box::new(std::iter::once(label)))
    }
}

/// A diagnostic before it is known which file it is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Problem {
    pub(crate) code: &'static str,
    pub(crate) span: Range<usize>,
    pub(crate) message: String,
    pub(crate) help: Option<String>,
}

impl Problem {
    pub(crate) fn new(code: &'static str, span: &Range<usize>, message: impl Into<String>) -> Self {
        Self { code, span: span.clone(), message: message.into(), help: None }
    }

    pub(crate) fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    pub(crate) fn help_if(mut self, help: Option<String>) -> Self {
        self.help = help.or(self.help);
        self
    }
}

/// The known word that a misspelt one is nearest to, when it is near enough to be meant.
pub(crate) fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let plain = |w: &str| w.to_lowercase().replace('-', "_").chars().take(64).collect::<String>();
    let word = plain(word);
    known
        .into_iter()
        .map(|k| (strsim::damerau_levenshtein(&word, &plain(k)), k))
        .filter(|(distance, k)| *distance <= 1 + k.len().min(word.len()) / 4)
        // The first letter is seldom the wrong one.
        .min_by_key(|(distance, k)| (*distance, k.chars().next() != word.chars().next(), k.len()))
        .map(|(_, k)| k)
}

/// "did you mean", or the list of what there is.
pub(crate) fn suggest<'a>(
    word: &str,
    known: impl IntoIterator<Item = &'a str> + Clone,
    none: &str,
) -> String {
    if let Some(near) = nearest(word, known.clone()) {
        return format!("did you mean `{near}`?");
    }
    let mut names: Vec<_> = known.into_iter().collect();
    let more = names.len().saturating_sub(24);
    names.truncate(24);
    match (names.is_empty(), more) {
        (true, _) => none.to_owned(),
        (_, 0) => format!("there is {}", names.join(", ")),
        (_, more) => format!("there is {} and {more} more", names.join(", ")),
    }
}
