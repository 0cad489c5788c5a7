//! The protocol between NATS and its clients
//! (<https://docs.nats.io/reference/reference-protocols/nats-protocol>).

use bytes::{Buf, Bytes, BytesMut};
use serde_json::Value;

use crate::{
    Content, LIMIT,
    link::{Decode, line_end},
};

/// The longest line; INFO names all servers of a cluster.
const LINE: usize = 256 << 10;

/// The most that the headers of a message may have.
const HEADERS: usize = 64 << 10;

/// A message that was delivered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// To which subject it was published.
    pub subject: String,
    /// Where an answer is waited for.
    pub reply: Option<String>,
    /// What the server itself says, by a number as in HTTP.
    pub status: Option<(u16, String)>,
    /// In the order in which they stand.
    pub headers: Vec<(String, String)>,
    /// What it carries.
    pub content: Content,
}

/// What the server says.
#[derive(Debug, PartialEq)]
pub(super) enum Frame {
    Info(Value),
    Message(Message),
    Ping,
    Pong,
    Fine,
    Error(String),
}

/// Reads what the server says.
#[derive(Default)]
pub(super) struct Wire {
    /// The line of the message whose content is to come.
    head: Option<Head>,
    skip: usize,
}

struct Head {
    subject: String,
    reply: Option<String>,
    headers: usize,
    content: usize,
}

impl Wire {
    /// Reads a line; `None` when it is that of a message.
    fn line(&mut self, line: &str) -> Result<Option<Frame>, String> {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        Ok(Some(match word.to_ascii_uppercase().as_str() {
            "INFO" => Frame::Info(serde_json::from_str(rest).map_err(|e| e.to_string())?),
            "PING" => Frame::Ping,
            "PONG" => Frame::Pong,
            "+OK" => Frame::Fine,
            "-ERR" => Frame::Error(rest.trim().trim_matches('\'').to_owned()),
            word @ ("MSG" | "HMSG") => {
                self.head = Some(head(word == "HMSG", rest)?);
                return Ok(None);
            }
            _ => return Err("it does not speak as NATS does".into()),
        }))
    }
}

fn head(has_headers: bool, rest: &str) -> Result<Head, String> {
    let mut words: Vec<&str> = rest.split_ascii_whitespace().collect();
    let mut length = || -> Result<usize, String> {
        words.pop().and_then(|n| n.parse().ok()).ok_or_else(|| "a message has no length".to_owned())
    };
    let all = length()?;
    let headers = if has_headers { length()? } else { 0 };
    let content = all.checked_sub(headers).ok_or("its headers are longer than the message")?;
    if headers > HEADERS {
        return Err(format!("its headers have {headers} bytes; {HEADERS} are the most"));
    }
    let (subject, reply) = match words[..] {
        [subject, _] => (subject, None),
        [subject, _, reply] => (subject, Some(reply.to_owned())),
        _ => return Err("a message does not say which".into()),
    };
    Ok(Head { subject: subject.to_owned(), reply, headers, content })
}

impl Decode for Wire {
    type Frame = Frame;

    fn decode(&mut self, input: &mut BytesMut) -> Result<Option<Frame>, String> {
        loop {
            let over = self.skip.min(input.len());
            input.advance(over);
            self.skip -= over;
            if let Some(head) = &self.head {
                let is_whole = head.content <= LIMIT;
                let needed = if is_whole { head.headers + head.content + 2 } else { head.headers };
                if input.len() < needed {
                    return Ok(None);
                }
                let Some(Head { subject, reply, headers, content }) = self.head.take() else { continue };
                let (status, headers) = self::headers(&input.split_to(headers));
                let content = match is_whole {
                    true => {
                        let bytes = input.split_to(content).freeze();
                        if input.get(..2) != Some(b"\r\n") {
                            return Err("a message is longer than it says".into());
                        }
                        input.advance(2);
                        Content::Whole(bytes)
                    }
                    false => {
                        self.skip = content.saturating_add(2);
                        Content::Cut(content as u64)
                    }
                };
                return Ok(Some(Frame::Message(Message { subject, reply, status, headers, content })));
            }
            let Some(end) = line_end(input, LINE)? else { return Ok(None) };
            let line: Bytes = input.split_to(end + 1).freeze();
            let line = String::from_utf8_lossy(&line);
            if let Some(frame) = self.line(line.trim_end_matches(['\r', '\n']))? {
                return Ok(Some(frame));
            }
        }
    }
}

/// What a server says of a message instead of one, by number and words.
type Status = (u16, String);

/// `NATS/1.0 503 No Responders`, then a line for each header.
fn headers(bytes: &[u8]) -> (Option<Status>, Vec<(String, String)>) {
    let text = String::from_utf8_lossy(bytes);
    let mut lines = text.split("\r\n");
    let first = lines.next().and_then(|line| line.strip_prefix("NATS/1.0")).unwrap_or_default().trim();
    let (number, words) = first.split_once(' ').unwrap_or((first, ""));
    let status = number.parse().ok().map(|number| (number, words.trim().to_owned()));
    let pairs = lines.filter_map(|line| line.split_once(':'));
    (status, pairs.map(|(name, value)| (name.trim().to_owned(), value.trim().to_owned())).collect())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(bytes: &[u8], piece: usize) -> Result<Vec<Frame>, String> {
        let (mut wire, mut input, mut found) = (Wire::default(), BytesMut::new(), Vec::new());
        for piece in bytes.chunks(piece) {
            input.extend_from_slice(piece);
            while let Some(frame) = wire.decode(&mut input)? {
                found.push(frame);
            }
        }
        Ok(found)
    }

    #[test]
    fn messages_are_read_in_whatever_pieces_they_come() {
        let bytes = b"PING\r\nMSG a.b 1 4\r\nx\r\ny\r\nHMSG c 2 back 33 35\r\nNATS/1.0 409 Too Much\r\nK: a:b\r\n\r\nok\r\n-ERR 'No'\r\n";
        let message = |subject: &str, content: &'static str| Message {
            subject: subject.into(),
            reply: None,
            status: None,
            headers: vec![],
            content: Content::Whole(Bytes::from_static(content.as_bytes())),
        };
        let second = Message {
            reply: Some("back".into()),
            status: Some((409, "Too Much".into())),
            headers: vec![("K".into(), "a:b".into())],
            ..message("c", "ok")
        };
        for piece in 1..bytes.len() {
            let found = read(bytes, piece).unwrap();
            assert_eq!(found.len(), 4, "pieces of {piece}: {found:?}");
            assert_eq!(found[0], Frame::Ping);
            assert_eq!(found[1], Frame::Message(message("a.b", "x\r\ny")));
            assert_eq!(found[2], Frame::Message(second.clone()));
            assert_eq!(found[3], Frame::Error("No".into()));
        }
    }

    #[test]
    fn a_message_that_is_too_large_is_read_over() {
        let large = LIMIT + 1;
        let bytes =
            format!("HMSG a 1 12 {}\r\nNATS/1.0\r\n\r\n{}\r\nPONG\r\n", large + 12, "x".repeat(large));
        let found = read(bytes.as_bytes(), 4000).unwrap();
        let Frame::Message(message) = &found[0] else { panic!("{found:?}") };
        assert_eq!(message.content, Content::Cut(large as u64));
        assert_eq!(found[1], Frame::Pong);
    }

    #[test]
    fn what_is_not_nats_is_an_error() {
        for bytes in
            ["HTTP/1.1 400\r\n", "MSG a\r\n", "MSG a 1 x\r\n", "HMSG a 1 9 3\r\n", "MSG a 1 1\r\nxyz\r\n"]
        {
            assert!(read(bytes.as_bytes(), 2).is_err(), "{bytes:?}");
        }
        assert!(read(&[b'x'; LINE + 1], 999).is_err());
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(
            bytes in proptest::collection::vec(prop_oneof![
                Just(b"MSG a 1 3\r\n".to_vec()), Just(b"HMSG a 1 r 14 18446744073709551615\r\n".to_vec()),
                Just(b"NATS/1.0\r\n\r\n".to_vec()), Just(b"abc\r\n".to_vec()), Just(b"PING\r\n".to_vec()),
                proptest::collection::vec(any::<u8>(), 0..20),
            ], 0..40),
            piece in 1_usize..50,
        ) {
            let _ = read(&bytes.concat(), piece);
        }
    }
}
