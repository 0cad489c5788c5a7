//! What goes to standard output: tables for people, one document for programs.

use std::io::{IsTerminal, Write};

use comfy_table::{Attribute, Cell, Color, ContentArrangement, Table, presets::NOTHING};
use jiff::{Timestamp, tz::TimeZone};
use ostler_model::{RunState, Span};
use serde::Serialize;

/// The form of the output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Output {
    /// Tables and sentences.
    #[default]
    Human,
    /// One JSON document.
    Json,
    /// One YAML document.
    Yaml,
}

impl Output {
    /// True for programs.
    pub fn is_machine(self) -> bool {
        self != Self::Human
    }

    /// A value as a document without the final newline.
    pub fn text<T: Serialize>(self, value: &T) -> String {
        let text = match self {
            Self::Yaml => serde_json::to_value(value).map(|v| ostler_timetable::yaml(&v)).unwrap_or_default(),
            Self::Human | Self::Json => serde_json::to_string_pretty(value).unwrap_or_default(),
        };
        text.trim_end().to_owned()
    }

    /// Prints a value as the one document, or calls `human`.
    pub fn show<T: Serialize>(self, value: &T, human: impl FnOnce(&T) -> String) {
        let text = if self.is_machine() { self.text(value) } else { human(value) };
        print(&text);
    }
}

/// Prints a text to standard output. A reader that has gone away (`| head`) is no error.
pub fn print(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(text.as_bytes());
    if !text.is_empty() && !text.ends_with('\n') {
        let _ = out.write_all(b"\n");
    }
    let _ = out.flush();
}

/// Whether standard error takes colours.
pub fn use_color() -> bool {
    std::env::var_os("NO_COLOR").is_none() && std::io::stderr().is_terminal()
}

/// A table of rows under headings. Plain where standard output is no terminal: nothing cut, no borders.
pub fn table(headings: &[&str], rows: Vec<Vec<Cell>>) -> String {
    let mut table = Table::new();
    table.load_style(NOTHING);
    let terminal = std::io::stdout().is_terminal();
    table.set_content_arrangement(if terminal {
        ContentArrangement::Dynamic
    } else {
        ContentArrangement::Disabled
    });
    if !terminal {
        table.force_no_tty();
    }
    table.set_header(headings.iter().map(|h| Cell::new(h.to_uppercase()).add_attribute(Attribute::Dim)));
    for row in rows {
        table.add_row(row);
    }
    let text = table.to_string();
    // Each cell is padded on both sides; the left margin of the first is nobody's.
    text.lines().map(|l| l.strip_prefix(' ').unwrap_or(l).trim_end()).collect::<Vec<_>>().join("\n")
}

/// A cell in the colour of a state.
pub fn state(state: RunState, good: bool) -> Cell {
    let color = match state {
        _ if state.is_final() && good => Color::Green,
        RunState::Succeeded => Color::Green,
        RunState::Failed | RunState::TimedOut => Color::Red,
        RunState::Cancelled | RunState::Skipped => Color::Yellow,
        RunState::Running => Color::Cyan,
        _ => Color::Reset,
    };
    Cell::new(state.word()).fg(color)
}

/// A moment in the machine's zone; the date is left out for today's.
pub fn moment(at: Option<Timestamp>, now: Timestamp) -> String {
    let Some(at) = at else { return "-".into() };
    let zone = TimeZone::system();
    let (local, today) = (at.to_zoned(zone.clone()), now.to_zoned(zone));
    let form = if local.date() == today.date() { "%H:%M:%S" } else { "%Y-%m-%d %H:%M:%S" };
    local.strftime(form).to_string()
}

/// A duration in milliseconds, short.
pub fn duration(ms: Option<f64>) -> String {
    match ms {
        None => "-".into(),
        Some(ms) if ms < 1000.0 => format!("{ms:.0} ms"),
        Some(ms) if ms < 60_000.0 => format!("{:.2} s", ms / 1000.0),
        Some(ms) => Span::from_secs((ms / 1000.0).round() as u64).to_string(),
    }
}

/// A number of bytes, short.
pub fn bytes(count: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut value = count as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{count} B") } else { format!("{value:.1} {}", UNITS[unit]) }
}

/// The first line of a text, cut at a number of characters.
pub fn first_line(text: &str, max: usize) -> String {
    let line = text.lines().next().unwrap_or_default();
    if line.chars().count() <= max {
        line.to_owned()
    } else {
        line.chars().take(max - 1).chain(['…']).collect()
    }
}

/// So many of something: `1 file`, `2 files`.
pub fn counted(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}
