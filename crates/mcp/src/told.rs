//! What a tool tells: a short text for the reader, the views for programs, and bounds for both.

use ostler_api::{ApiError, ErrorKind, ListPage, PageRequest, SortKey};
use rmcp::model::{CallToolResult, ContentBlock};
use serde::Serialize;
use serde_json::{Value, json};

/// What the views of one answer may have as JSON, in bytes, and its text as well.
pub(crate) const MOST_BYTES: usize = 64 << 10;

/// How views that are too large are cut, step by step: bytes of a text, entries of a list or object.
const CUTS: [(usize, usize); 4] = [(16 << 10, 1000), (4 << 10, 200), (1 << 10, 50), (200, 10)];

/// The answer of a tool.
pub(crate) struct Told {
    text: String,
    views: Value,
}

impl Told {
    /// A text with the views behind it; what is too large is cut.
    pub(crate) fn new<T: Serialize>(text: impl Into<String>, views: &T) -> Result<Self, ApiError> {
        let mut text = text.into();
        let mut views = value_of(views)?;
        let bytes = bytes_of(&views);
        if bytes > MOST_BYTES {
            // Each cut begins with the whole, so that what it says of its size is right.
            let shortened = CUTS.iter().find_map(|(texts, entries)| {
                let mut shortened = views.clone();
                shorten(&mut shortened, *texts, *entries);
                (bytes_of(&shortened) <= MOST_BYTES).then_some(shortened)
            });
            views = shortened.unwrap_or_else(|| json!({ "too_large": true, "bytes": bytes }));
            text.push_str("\n(the answer was too large: long values in it were cut)");
        }
        Ok(Self { text: cut(text, MOST_BYTES), views })
    }
}

impl From<Told> for CallToolResult {
    fn from(told: Told) -> Self {
        let mut result = Self::success(vec![ContentBlock::text(told.text)]);
        result.structured_content = Some(told.views);
        result
    }
}

/// An error as the caller of a tool sees it: an answer of the tool, which its caller reads, and not one of the
/// protocol, which it may never see.
pub(crate) fn refusal(error: &ApiError) -> CallToolResult {
    let mut lines = vec![error.message.clone()];
    // Those of inputs stand in the message.
    lines.extend(error.details.iter().filter(|d| d.file.is_some()).map(|d| format!("  {d}")));
    lines.extend(error.hint.iter().map(|h| format!("hint: {h}")));
    let mut result = CallToolResult::error(vec![ContentBlock::text(cut(lines.join("\n"), MOST_BYTES))]);
    result.structured_content = serde_json::to_value(error.problem(None)).ok();
    result
}

/// The page that is asked for, within the bounds: no more entries are asked for than fit, so that its cursor is right.
pub(crate) fn fitting<T: Serialize, K: SortKey>(
    asked: &PageRequest<K>,
    mut fetch: impl FnMut(&PageRequest<K>) -> Result<ListPage<T>, ApiError>,
    leave_out: &[&str],
) -> Result<ListPage<Value>, ApiError> {
    let mut asked = asked.clone();
    loop {
        let page = fetch(&asked)?;
        let mut items = Vec::with_capacity(page.items.len());
        for item in &page.items {
            let mut item = value_of(item)?;
            if let Some(fields) = item.as_object_mut() {
                fields.retain(|name, _| !leave_out.contains(&name.as_str()));
            }
            items.push(item);
        }
        let bytes: usize = items.iter().map(bytes_of).sum();
        match fewer(asked.limit.min(u32::try_from(items.len()).unwrap_or(asked.limit)), bytes) {
            Some(fewer) => asked.limit = fewer,
            None => return Ok(ListPage { items, next: page.next, complete: page.complete }),
        }
    }
}

/// How many to ask for instead, when so many take so many bytes.
pub(crate) fn fewer(count: u32, bytes: usize) -> Option<u32> {
    // What stands around the entries takes a little, too.
    let room = MOST_BYTES - 1024;
    if bytes <= room || count <= 1 {
        return None;
    }
    let share = count as usize * room / bytes;
    Some(u32::try_from(share).unwrap_or(1).clamp(1, count - 1))
}

/// The first bytes of a text, with a note where there were more.
pub(crate) fn cut(text: String, most: usize) -> String {
    if text.len() <= most {
        return text;
    }
    let note = format!("… ({} bytes in all)", text.len());
    let mut end = most.saturating_sub(note.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}{note}", &text[..end])
}

pub(crate) fn bytes_of<T: Serialize>(value: &T) -> usize {
    serde_json::to_vec(value).map_or(usize::MAX, |v| v.len())
}

fn value_of<T: Serialize>(value: &T) -> Result<Value, ApiError> {
    serde_json::to_value(value)
        .map_err(|e| ApiError::new(ErrorKind::Store, format!("the answer cannot be written: {e}")))
}

fn shorten(value: &mut Value, texts: usize, entries: usize) {
    match value {
        Value::String(text) => *text = cut(std::mem::take(text), texts),
        Value::Array(items) => {
            if items.len() > entries {
                let more = items.len() - entries;
                items.truncate(entries);
                items.push(json!(format!("… ({more} more)")));
            }
            items.iter_mut().for_each(|i| shorten(i, texts, entries));
        }
        Value::Object(fields) => {
            if fields.len() > entries {
                let more = fields.len() - entries;
                let names: Vec<String> = fields.keys().take(entries).cloned().collect();
                fields.retain(|name, _| names.contains(name));
                fields.insert("…".into(), json!(format!("{more} more")));
            }
            fields.values_mut().for_each(|v| shorten(v, texts, entries));
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use ostler_api::RunsBy;

    use super::*;

    #[test]
    fn a_text_is_cut_between_characters() {
        assert_eq!(cut("short".into(), 10), "short");
        let text = cut("ä".repeat(100), 51);
        assert!(text.len() <= 51 && text.ends_with("… (200 bytes in all)"), "{text}");
    }

    #[test]
    fn whatever_is_told_is_within_bounds() {
        let deep = (0..100).fold(json!("x".repeat(100_000)), |v, i| json!({ "v": v, "i": i }));
        let many: Vec<_> = (0..20_000).map(|i| json!({ "number": i, "text": "y".repeat(40) })).collect();
        for views in [json!({ "a": "x".repeat(1 << 20) }), json!({ "many": many }), deep] {
            let told = Told::new("z".repeat(1 << 20), &views).unwrap();
            assert!(bytes_of(&told.views) <= MOST_BYTES && told.text.len() <= MOST_BYTES);
        }
        let told = Told::new("small", &json!({ "a": 1 })).unwrap();
        assert_eq!((told.text.as_str(), told.views), ("small", json!({ "a": 1 })));
    }

    #[test]
    fn a_page_that_is_too_large_is_asked_for_with_fewer_entries() {
        let mut asked = Vec::new();
        let page = fitting(
            &PageRequest::<RunsBy>::first(100),
            |page| {
                let limit = page.limit;
                asked.push(limit);
                let items =
                    (0..limit).map(|i| json!({ "i": i, "gone": 1, "text": "x".repeat(2000) })).collect();
                Ok(ListPage { items, next: Some(limit.to_string()), complete: false })
            },
            &["gone"],
        )
        .unwrap();
        assert!(page.items.len() > 20 && bytes_of(&page) <= MOST_BYTES, "{asked:?}");
        assert_eq!(page.next, Some(page.items.len().to_string()), "the cursor belongs to what is there");
        assert!(page.items[0].get("gone").is_none());
        let one = fitting(
            &PageRequest::<RunsBy>::first(5),
            |page| {
                let items = (0..page.limit).map(|_| json!({ "text": "x".repeat(1 << 20) })).collect();
                Ok(ListPage { items, next: None, complete: true })
            },
            &[],
        );
        assert_eq!(one.unwrap().items.len(), 1, "one entry is cut where it is told");
    }
}
