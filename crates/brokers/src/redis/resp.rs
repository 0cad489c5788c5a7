//! RESP, version 2 (<https://redis.io/docs/latest/develop/reference/protocol-spec/>).

use bytes::{Buf, Bytes, BytesMut};

use crate::link::{Decode, line_end};

/// The longest line: an error, a number, a length.
const LINE: usize = 64 << 10;

/// How deep answers nest. Those of commands that are asked here are five deep at most.
const DEEPEST: usize = 8;

/// What an element of an answer costs besides its bytes.
const ELEMENT: usize = 64;

/// So much is kept of one answer; what is beyond is read over.
pub(super) const ROOM: usize = 8 << 20;

/// A part of an answer.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// Nothing.
    Nil,
    /// A number.
    Integer(i64),
    /// A text, or any bytes.
    Text(Bytes),
    /// A refusal, in the server's words.
    Error(String),
    /// Several.
    Array(Vec<Value>),
    /// Something that was too large for the rest of the room and was read over: so many bytes, or parts.
    Cut(u64),
}

impl Value {
    /// The bytes of a text.
    #[must_use]
    pub fn bytes(&self) -> Option<&Bytes> {
        if let Self::Text(bytes) = self { Some(bytes) } else { None }
    }

    /// A text in UTF-8.
    #[must_use]
    pub fn text(&self) -> Option<&str> {
        std::str::from_utf8(self.bytes()?).ok()
    }

    /// Several.
    #[must_use]
    pub fn array(&self) -> Option<&[Value]> {
        if let Self::Array(items) = self { Some(items) } else { None }
    }
}

/// Reads answers, each into a room of its own.
pub(super) struct Resp {
    room: usize,
    /// What is left of the room for the answer that is read.
    left: usize,
    open: Vec<Open>,
    /// Bytes that are read over before the next part.
    skip: u64,
}

/// A list of which parts are to come.
struct Open {
    items: Vec<Value>,
    missing: u64,
    /// What there are too many of: they are read over.
    cut: Option<u64>,
}

impl Resp {
    pub(super) fn new(room: usize) -> Self {
        Self { room, left: room, open: Vec::new(), skip: 0 }
    }

    /// Puts a part where it belongs; gives the answer when it is whole.
    fn put(&mut self, mut value: Value) -> Option<Value> {
        loop {
            let Some(top) = self.open.last_mut() else {
                self.left = self.room;
                return Some(value);
            };
            top.missing -= 1;
            if top.cut.is_none() {
                top.items.push(value);
            }
            if top.missing > 0 {
                return None;
            }
            let done = self.open.pop()?;
            value = done.cut.map_or(Value::Array(done.items), Value::Cut);
        }
    }

    fn is_cut(&self) -> bool {
        self.open.iter().any(|open| open.cut.is_some())
    }

    /// Takes from the room; false when there is not as much.
    fn take(&mut self, size: usize) -> bool {
        let fits = !self.is_cut() && size <= self.left;
        if fits {
            self.left -= size;
        }
        fits
    }

    /// A part whose line has been read; `None` where a list begins.
    fn begin(&mut self, line: &[u8], input: &mut BytesMut, head: usize) -> Result<Option<Value>, String> {
        let (sort, rest) = line.split_first().ok_or("an empty line")?;
        let text = || String::from_utf8_lossy(rest).into_owned();
        let number = || {
            let number = std::str::from_utf8(rest).ok().and_then(|n| n.parse::<i64>().ok());
            number.ok_or_else(|| format!("`{}` is no number", text()))
        };
        let value = match sort {
            b'+' => Value::Text(Bytes::copy_from_slice(rest)),
            b'-' => Value::Error(text()),
            b':' => Value::Integer(number()?),
            b'$' | b'*' => match (number()?, sort) {
                (-1, _) => Value::Nil,
                (length @ 0.., b'$') => return self.bulk(length.unsigned_abs(), input, head),
                (0, _) => Value::Array(Vec::new()),
                (length @ 1.., _) => {
                    if self.open.len() == DEEPEST {
                        return Err(format!("it nests more than {DEEPEST} deep"));
                    }
                    let missing = length.unsigned_abs();
                    let size = usize::try_from(missing).unwrap_or(usize::MAX).saturating_mul(ELEMENT);
                    let cut = (!self.take(size)).then_some(missing);
                    input.advance(head);
                    self.open.push(Open { items: Vec::new(), missing, cut });
                    return Ok(None);
                }
                (negative, _) => return Err(format!("a length of {negative}")),
            },
            other => return Err(format!("byte {other} begins no answer")),
        };
        input.advance(head);
        Ok(Some(if self.take(rest.len()) { value } else { Value::Cut(rest.len() as u64) }))
    }

    /// A text of so many bytes; `None` when they are not there yet.
    fn bulk(&mut self, length: u64, input: &mut BytesMut, head: usize) -> Result<Option<Value>, String> {
        let fits = usize::try_from(length).ok().filter(|length| !self.is_cut() && *length <= self.left);
        let Some(length) = fits else {
            input.advance(head);
            self.skip = length.saturating_add(2);
            return Ok(Some(Value::Cut(length)));
        };
        if input.len() < head + length + 2 {
            return Ok(None);
        }
        self.left -= length;
        input.advance(head);
        let bytes = input.split_to(length).freeze();
        match input.get(..2) {
            Some(b"\r\n") => input.advance(2),
            _ => return Err("a text is longer than it says".into()),
        }
        Ok(Some(Value::Text(bytes)))
    }
}

impl Decode for Resp {
    type Frame = Value;

    fn decode(&mut self, input: &mut BytesMut) -> Result<Option<Value>, String> {
        loop {
            let over = usize::try_from(self.skip).unwrap_or(usize::MAX).min(input.len());
            input.advance(over);
            self.skip -= over as u64;
            let Some(end) = line_end(input, LINE)? else { return Ok(None) };
            let line = Bytes::copy_from_slice(input[..end].strip_suffix(b"\r").unwrap_or(&input[..end]));
            let depth = self.open.len();
            match self.begin(&line, input, end + 1)? {
                Some(part) => {
                    if let Some(answer) = self.put(part) {
                        return Ok(Some(answer));
                    }
                }
                // A list has begun, or the rest of a text is to come.
                None if self.open.len() > depth => {}
                None => return Ok(None),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn text(text: &'static str) -> Value {
        Value::Text(Bytes::from_static(text.as_bytes()))
    }

    /// All answers in the bytes, which come in pieces of this size.
    fn read(bytes: &[u8], piece: usize, room: usize) -> Result<Vec<Value>, String> {
        let (mut resp, mut input, mut found) = (Resp::new(room), BytesMut::new(), Vec::new());
        for piece in bytes.chunks(piece) {
            input.extend_from_slice(piece);
            while let Some(value) = resp.decode(&mut input)? {
                found.push(value);
            }
        }
        Ok(found)
    }

    #[test]
    fn answers_are_read_in_whatever_pieces_they_come() {
        let bytes = b"+OK\r\n-ERR no\r\n:-7\r\n$-1\r\n*-1\r\n*0\r\n$4\r\na\r\nb\r\n*2\r\n$1\r\nx\r\n*2\r\n:1\r\n$0\r\n\r\n+Z\r\n";
        let nested = Value::Array(vec![text("x"), Value::Array(vec![Value::Integer(1), text("")])]);
        let expected = [
            text("OK"),
            Value::Error("ERR no".into()),
            Value::Integer(-7),
            Value::Nil,
            Value::Nil,
            Value::Array(vec![]),
            text("a\r\nb"),
            nested,
            text("Z"),
        ];
        for piece in 1..bytes.len() {
            assert_eq!(read(bytes, piece, 1000).unwrap(), expected, "pieces of {piece}");
        }
    }

    #[test]
    fn what_has_no_room_is_read_over_and_the_next_answer_has_room_again() {
        let long = format!("*2\r\n$3\r\nabc\r\n$900\r\n{}\r\n", "x".repeat(900));
        let many = format!("*2\r\n*9\r\n{}$3\r\nabc\r\n", "*1\r\n:1\r\n".repeat(9));
        let bytes = format!("{long}{many}{long}");
        let cut_text = Value::Array(vec![text("abc"), Value::Cut(900)]);
        let cut_list = Value::Array(vec![Value::Cut(9), text("abc")]);
        for piece in [1, 7, 5000] {
            let found = read(bytes.as_bytes(), piece, 300).unwrap();
            assert_eq!(found, [cut_text.clone(), cut_list.clone(), cut_text.clone()]);
        }
    }

    #[test]
    fn what_is_no_answer_is_an_error() {
        let deep = "*1\r\n".repeat(9);
        for bytes in ["hello\r\n", "\r\n", "$x\r\n", "$-2\r\n", "$1\r\nabc\r\n", ":\r\n", deep.as_str()] {
            assert!(read(bytes.as_bytes(), 3, 1000).is_err(), "{bytes:?}");
        }
        assert!(read(&[b'+'; LINE + 1], 999, 1 << 20).is_err());
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic_or_keep_more_than_its_room(
            bytes in proptest::collection::vec(prop_oneof![
                Just(b"*2\r\n".to_vec()), Just(b"*9999999999\r\n".to_vec()), Just(b"$5\r\nhello\r\n".to_vec()),
                Just(b":1\r\n".to_vec()), Just(b"$99\r\n".to_vec()), proptest::collection::vec(any::<u8>(), 0..20),
            ], 0..40),
            piece in 1_usize..50,
        ) {
            let bytes = bytes.concat();
            let kept = |value: &Value| value.bytes().map_or(0, Bytes::len);
            for value in read(&bytes, piece, 64).unwrap_or_default() {
                prop_assert!(kept(&value) <= 64);
            }
        }
    }
}
