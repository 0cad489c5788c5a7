//! JSON values as YAML that people would have written: block style, short lists and maps in one line.

use std::fmt::Write;

use serde_json::Value;

/// The widest line that a list or map is kept in.
const WIDTH: usize = 90;

/// A value as a YAML document.
#[must_use]
pub fn yaml(value: &Value) -> String {
    let mut out = String::new();
    match value {
        Value::Object(map) if !map.is_empty() => block(value, 0, &mut out),
        Value::Array(items) if !items.is_empty() => block(value, 0, &mut out),
        other => out.push_str(&flow(other)),
    }
    if !out.ends_with('\n') {
        out.push('\n');
    }
    out
}

/// The entries of a map or list, one a line, indented.
fn block(value: &Value, indent: usize, out: &mut String) {
    let pad = " ".repeat(indent);
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                let _ = write!(out, "{pad}{}:", key_text(key));
                entry(value, indent, out, false);
            }
        }
        Value::Array(items) => {
            for item in items {
                let _ = write!(out, "{pad}-");
                match item {
                    // The first key of a map stands beside the dash.
                    Value::Object(map)
                        if !map.is_empty()
                            && (flow(item).len() + indent > WIDTH || depth(item) > 1 || has_lines(item)) =>
                    {
                        let mut inner = String::new();
                        block(item, indent + 2, &mut inner);
                        out.push(' ');
                        out.push_str(inner.trim_start_matches(' '));
                    }
                    item => entry(item, indent, out, true),
                }
            }
        }
        _ => {}
    }
}

/// What follows a key or a dash, with the line's end.
fn entry(value: &Value, indent: usize, out: &mut String, in_list: bool) {
    if let Value::String(text) = value
        && let Some(lines) = literal(text, indent + 2)
    {
        out.push_str(&lines);
        return;
    }
    let short = flow(value);
    let nests = matches!(value, Value::Object(m) if !m.is_empty())
        || matches!(value, Value::Array(a) if !a.is_empty());
    let holds_lines = has_lines(value);
    if nests && (holds_lines || short.len() + indent > WIDTH || (!in_list && depth(value) > 2)) {
        out.push('\n');
        block(value, indent + 2, out);
    } else {
        let _ = writeln!(out, " {short}");
    }
}

fn depth(value: &Value) -> usize {
    match value {
        Value::Array(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        Value::Object(map) => 1 + map.values().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}

fn has_lines(value: &Value) -> bool {
    match value {
        Value::String(text) => literal(text, 2).is_some(),
        Value::Array(items) => items.iter().any(has_lines),
        Value::Object(map) => map.values().any(has_lines),
        _ => false,
    }
}

/// A text of several lines (one that ends its line counts) as a `|` block, when such a block gives it back exactly.
fn literal(text: &str, indent: usize) -> Option<String> {
    let body = text.trim_end_matches('\n');
    let ends = text.len() - body.len();
    let first = body.lines().next()?;
    let plain = |c: char| {
        c == '\n' || (!c.is_control() && !matches!(c, '\u{85}' | '\u{2028}' | '\u{2029}' | '\u{feff}'))
    };
    if !text.contains('\n') || first.starts_with([' ', '\t']) || first.is_empty() || !text.chars().all(plain)
    {
        return None;
    }
    if body.lines().any(|l| l.ends_with([' ', '\t']) || l.starts_with('\t')) || ends > 1 {
        return None;
    }
    let mut out = String::from(if ends == 1 { " |\n" } else { " |-\n" });
    for line in body.split('\n') {
        if line.is_empty() {
            out.push('\n');
        } else {
            let _ = writeln!(out, "{}{line}", " ".repeat(indent));
        }
    }
    Some(out)
}

/// A value in one line.
fn flow(value: &Value) -> String {
    match value {
        Value::String(text) => scalar(text),
        Value::Array(items) => format!("[{}]", items.iter().map(flow).collect::<Vec<_>>().join(", ")),
        Value::Object(map) if map.is_empty() => "{}".into(),
        Value::Object(map) => {
            let entries: Vec<_> = map.iter().map(|(k, v)| format!("{}: {}", key_text(k), flow(v))).collect();
            format!("{{ {} }}", entries.join(", "))
        }
        other => other.to_string(),
    }
}

fn key_text(key: &str) -> String {
    // `<<` would merge.
    if key == "<<" { "\"<<\"".into() } else { scalar(key) }
}

/// A text, in quotes unless it is surely read back as itself.
fn scalar(text: &str) -> String {
    let safe = |c: char| {
        c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '/' | '-' | ' ' | '@' | '+' | '(' | ')' | '=')
    };
    let begins = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_' || c == '/');
    let is_word = matches!(
        text.to_ascii_lowercase().as_str(),
        "null" | "true" | "false" | "yes" | "no" | "on" | "off" | "y" | "n"
    );
    // `on` as a key is what the format is known for; readers of YAML 1.1 are not ours.
    if text == "on" || (begins && !is_word && text.chars().all(safe) && !text.ends_with(' ')) {
        return text.to_owned();
    }
    // Durations and dates begin with a digit and have a letter or a dash: no number.
    let is_duration = text.len() < 20
        && text.starts_with(|c: char| c.is_ascii_digit())
        && text.ends_with(['s', 'm', 'h', 'd'])
        && text.chars().all(|c| c.is_ascii_digit() || matches!(c, 's' | 'm' | 'h' | 'd' | 'u' | 'n'));
    if is_duration {
        return text.to_owned();
    }
    quoted(text)
}

/// In double quotes, with every character escaped that YAML does not print.
fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            '\r' => out.push_str("\\r"),
            c if c.is_control()
                || matches!(c, '\u{2028}' | '\u{2029}' | '\u{feff}')
                || ('\u{fffe}'..='\u{ffff}').contains(&c) =>
            {
                let _ = write!(out, "\\u{:04x}", c as u32);
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}
