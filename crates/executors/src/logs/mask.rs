//! Takes secrets out of text, in the shapes in which programs tend to print them.

use std::borrow::Cow;

use base64::{
    Engine,
    engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD},
};
use memchr::memmem::Finder;

/// What stands where a secret stood.
const STARS: &[u8] = b"***";
/// Lines of a secret of several lines that are shorter than this are too common to be hidden by themselves.
const SHORTEST_LINE: usize = 4;
/// Below this, the base64 of a secret is too short to be told from other text.
const SHORTEST_BASE64: usize = 6;

/// Knows secrets and their base64, percent-encoded and JSON-escaped forms, and replaces each with `***`.
#[derive(Clone, Debug, Default)]
pub struct Masker {
    needles: Vec<Finder<'static>>,
    longest: usize,
}

impl Masker {
    /// One more secret; the empty text is none.
    pub fn add(&mut self, secret: &str) {
        if secret.is_empty() {
            return;
        }
        let mut shapes: Vec<Vec<u8>> = vec![secret.into()];
        // A secret of several lines is printed line by line.
        if secret.contains('\n') {
            shapes
                .extend(secret.lines().map(str::trim).filter(|l| l.len() >= SHORTEST_LINE).map(|l| l.into()));
        }
        if secret.len() >= SHORTEST_BASE64 {
            shapes.extend(base64_shapes(secret.as_bytes()));
        }
        shapes.push(percent_encoded(secret).into_bytes());
        if let Ok(json) = serde_json::to_string(secret) {
            shapes.push(json[1..json.len() - 1].into());
        }
        for shape in shapes {
            if !shape.is_empty() && !self.needles.iter().any(|n| n.needle() == shape) {
                self.longest = self.longest.max(shape.len());
                self.needles.push(Finder::new(&shape).into_owned());
            }
        }
    }

    /// The text without secrets.
    #[must_use]
    pub fn mask<'t>(&self, text: &'t [u8]) -> Cow<'t, [u8]> {
        let hidden = self.hidden(text);
        if hidden.is_empty() { Cow::Borrowed(text) } else { Cow::Owned(stars(text, &hidden, text.len())) }
    }

    /// [`Masker::mask`] for strings.
    #[must_use]
    pub fn mask_text(&self, text: &str) -> String {
        String::from_utf8_lossy(&self.mask(text.as_bytes())).into_owned()
    }

    /// Masks every text inside a JSON value.
    pub fn mask_value(&self, value: &mut serde_json::Value) {
        use serde_json::Value;
        match value {
            _ if self.needles.is_empty() => {}
            Value::String(text) => {
                if let Cow::Owned(masked) = self.mask(text.as_bytes()) {
                    *text = String::from_utf8_lossy(&masked).into_owned();
                }
            }
            Value::Array(items) => items.iter_mut().for_each(|item| self.mask_value(item)),
            Value::Object(fields) => fields.values_mut().for_each(|field| self.mask_value(field)),
            _ => {}
        }
    }

    /// Masks the head of a text that goes on: returns what is safe to show and keeps in `text` what may be the head of
    /// a secret.
    #[must_use]
    pub fn mask_head(&self, text: &mut Vec<u8>) -> Vec<u8> {
        let hidden = self.hidden(text);
        let mut cut = text.len().saturating_sub(self.longest.saturating_sub(1));
        if let Some((start, _)) = hidden.iter().find(|(start, end)| *start < cut && cut < *end) {
            cut = *start;
        }
        let shown = stars(text, &hidden, cut);
        text.drain(..cut);
        shown
    }

    /// Where secrets stand, overlapping ones joined, in order.
    fn hidden(&self, text: &[u8]) -> Vec<(usize, usize)> {
        let mut found = Vec::new();
        for needle in &self.needles {
            let mut from = 0;
            while let Some(at) = needle.find(&text[from..]) {
                let start = from + at;
                found.push((start, start + needle.needle().len()));
                // A secret may overlap itself (`aba` in `ababa`).
                from = start + 1;
            }
        }
        found.sort_unstable();
        let mut joined: Vec<(usize, usize)> = Vec::with_capacity(found.len());
        for (start, end) in found {
            match joined.last_mut() {
                Some(last) if start < last.1 => last.1 = last.1.max(end),
                _ => joined.push((start, end)),
            }
        }
        joined
    }
}

fn stars(text: &[u8], hidden: &[(usize, usize)], until: usize) -> Vec<u8> {
    let mut shown = Vec::with_capacity(until);
    let mut from = 0;
    for (start, end) in hidden.iter().filter(|(start, _)| *start < until) {
        shown.extend_from_slice(&text[from..*start]);
        shown.extend_from_slice(STARS);
        from = *end;
    }
    if from < until {
        shown.extend_from_slice(&text[from..until]);
    }
    shown
}

/// The base64 of a secret inside a longer text starts at one of three bit offsets; the characters at both ends that
/// depend on the neighbours are left off.
fn base64_shapes(secret: &[u8]) -> Vec<Vec<u8>> {
    let mut shapes = Vec::new();
    for offset in 0..3 {
        let mut padded = vec![0; offset];
        padded.extend_from_slice(secret);
        let skip = [0, 2, 3][offset];
        for engine in [&STANDARD_NO_PAD, &URL_SAFE_NO_PAD] {
            let mut text = engine.encode(&padded).into_bytes();
            if padded.len() % 3 != 0 {
                text.pop();
            }
            shapes.push(text.split_off(skip));
        }
    }
    shapes
}

fn percent_encoded(text: &str) -> String {
    text.bytes().fold(String::new(), |mut out, byte| {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            out.push(byte.into());
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
        out
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn masked(secrets: &[&str], text: &str) -> String {
        let mut masker = Masker::default();
        secrets.iter().for_each(|secret| masker.add(secret));
        masker.mask_text(text)
    }

    #[test]
    fn overlapping_secrets_leave_no_rest() {
        assert_eq!(masked(&["abcd", "cdef"], "-abcdef-"), "-***-");
        assert_eq!(masked(&["aba"], "ababa"), "***");
        assert_eq!(masked(&["ab", "abc"], "abc ab"), "*** ***");
    }

    #[test]
    fn base64_is_found_at_every_offset() {
        for before in ["", "u", "us", "user:"] {
            let text = STANDARD_NO_PAD.encode(format!("{before}correct horse battery"));
            let shown = masked(&["correct horse"], &text);
            assert!(shown.contains("***") && shown.len() < text.len() - 10, "{text} {shown}");
        }
    }

    #[test]
    fn other_shapes_are_found() {
        assert_eq!(
            masked(&["a b&c\"d"], "?q=a%20b%26c%22d {\"k\":\"a b&c\\\"d\"}"),
            "?q=*** {\"k\":\"***\"}"
        );
        assert_eq!(masked(&["line one\nline two\n"], "-> line two"), "-> ***");
    }

    #[test]
    fn a_secret_across_two_pieces_is_found() {
        let mut masker = Masker::default();
        masker.add("0123456789");
        let mut text = b"xxxxxxxxxxxxxxxxxxxx01234".to_vec();
        let mut shown = masker.mask_head(&mut text);
        text.extend_from_slice(b"56789yyy");
        shown.extend_from_slice(&masker.mask(&text));
        assert_eq!(shown, b"xxxxxxxxxxxxxxxxxxxx***yyy");
    }
}
