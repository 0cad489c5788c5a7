//! Tokens.

use std::ops::Range;

use crate::ExprError;

/// A token.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Token {
    /// A whole number or one with a point.
    Int(i64),
    Float(f64),
    Text(String),
    /// A name or a word such as `and`.
    Word(String),
    /// Punctuation.
    Sign(&'static str),
    End,
}

/// Longer signs first, so that `<=` is not read as `<`.
const SIGNS: &[&str] = &[
    "&&", "||", "==", "!=", "<=", ">=", "??", "?.", "//", "<", ">", "!", "?", ":", "+", "-", "*", "/", "%",
    "(", ")", "[", "]", "{", "}", ",", ".",
];

/// Splits a source into tokens with their places.
pub(crate) fn tokens(source: &str) -> Result<Vec<(Token, Range<usize>)>, ExprError> {
    let bytes = source.as_bytes();
    if let Some(at) = source.find('\0') {
        return Err(ExprError::new("the character U+0000 does not belong into an expression", at..at + 1));
    }
    let mut found = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let byte = bytes[at];
        if byte.is_ascii_whitespace() {
            at += 1;
            continue;
        }
        let start = at;
        if byte.is_ascii_digit() {
            while at < bytes.len() && bytes[at].is_ascii_digit() {
                at += 1;
            }
            let mut float = false;
            if at + 1 < bytes.len() && bytes[at] == b'.' && bytes[at + 1].is_ascii_digit() {
                float = true;
                at += 1;
                while at < bytes.len() && bytes[at].is_ascii_digit() {
                    at += 1;
                }
            }
            if at < bytes.len() && matches!(bytes[at], b'e' | b'E') {
                let mut end = at + 1;
                if end < bytes.len() && matches!(bytes[end], b'+' | b'-') {
                    end += 1;
                }
                if end < bytes.len() && bytes[end].is_ascii_digit() {
                    float = true;
                    at = end;
                    while at < bytes.len() && bytes[at].is_ascii_digit() {
                        at += 1;
                    }
                }
            }
            let text = &source[start..at];
            let bad = || ExprError::new(format!("`{text}` is not a number that fits"), start..at);
            let token = if float {
                Token::Float(text.parse().ok().filter(|f: &f64| f.is_finite()).ok_or_else(bad)?)
            } else {
                Token::Int(text.parse().map_err(|_| bad())?)
            };
            found.push((token, start..at));
        } else if byte == b'\'' || byte == b'"' {
            let (text, end) = string(source, start)?;
            at = end;
            found.push((Token::Text(text), start..at));
        } else if byte.is_ascii_alphabetic() || byte == b'_' || !byte.is_ascii() {
            let is_field = matches!(found.last(), Some((Token::Sign("." | "?."), _)));
            for c in source[at..].chars() {
                if !(c.is_alphanumeric() || c == '_' || (c == '-' && continues(&source[at + 1..], is_field)))
                {
                    break;
                }
                at += c.len_utf8();
            }
            if at == start {
                let c = source[at..].chars().next().unwrap_or(' ');
                return Err(ExprError::new(
                    format!("`{c}` does not belong into an expression"),
                    at..at + c.len_utf8(),
                ));
            }
            found.push((Token::Word(source[start..at].to_owned()), start..at));
        } else if let Some(sign) = SIGNS.iter().find(|s| source[at..].starts_with(**s)) {
            at += sign.len();
            found.push((Token::Sign(sign), start..at));
        } else {
            let c = byte as char;
            let hint = match c {
                '&' => "; write `&&` or `and`",
                '|' => "; write `||` or `or` (there are no filters: write `f(x)`)",
                '=' => "; write `==` to compare",
                _ => "",
            };
            return Err(ExprError::new(
                format!("`{c}` does not belong into an expression{hint}"),
                at..at + 1,
            ));
        }
    }
    found.push((Token::End, source.len()..source.len()));
    Ok(found)
}

/// Names may hold `-` inside (`steps.build-all`, `steps.build-2`), where a letter follows at once, after a point also
/// a digit; `a - b` and `a -1` subtract.
fn continues(rest: &str, is_field: bool) -> bool {
    rest.starts_with(|c: char| c.is_alphabetic() || c == '_' || (is_field && c.is_ascii_digit()))
}

fn string(source: &str, start: usize) -> Result<(String, usize), ExprError> {
    let quote = source.as_bytes()[start] as char;
    let mut text = String::new();
    let mut chars = source[start + 1..].char_indices().peekable();
    while let Some((offset, c)) = chars.next() {
        let end = start + 1 + offset + c.len_utf8();
        if c == quote {
            // As in GitHub's expressions, a doubled single quote is one.
            if quote == '\'' && chars.peek().is_some_and(|(_, next)| *next == '\'') {
                chars.next();
                text.push('\'');
                continue;
            }
            return Ok((text, end));
        }
        if c == '\\' && quote == '"' {
            match chars.next().map(|(_, c)| c) {
                Some('n') => text.push('\n'),
                Some('t') => text.push('\t'),
                Some('r') => text.push('\r'),
                Some(c @ ('"' | '\\' | '/')) => text.push(c),
                _ => {
                    let message = "after a backslash stands n, t, r, a quote or another backslash";
                    return Err(ExprError::new(message, end - 1..end));
                }
            }
            continue;
        }
        text.push(c);
    }
    Err(ExprError::new(format!("the text that begins with {quote} has no end"), start..source.len()))
}
