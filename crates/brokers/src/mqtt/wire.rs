//! Packets of MQTT 3.1.1, which brokers of version 5 speak as well
//! (<https://docs.oasis-open.org/mqtt/mqtt/v3.1.1/os/mqtt-v3.1.1-os.html>).

use bytes::{Buf, Bytes, BytesMut};

use crate::{Content, LIMIT, link::Decode};

pub(super) const CONNECT: u8 = 0x10;
pub(super) const PUBLISH: u8 = 0x30;
pub(super) const PUBACK: u8 = 0x40;
pub(super) const SUBSCRIBE: u8 = 0x82;
pub(super) const PINGREQ: u8 = 0xC0;
pub(super) const DISCONNECT: u8 = 0xE0;

const CONNACK: u8 = 0x20;
const SUBACK: u8 = 0x90;
const PINGRESP: u8 = 0xD0;

/// What the head of a message may have: its topic and its number, each with a length.
const HEAD: usize = 65_535 + 4;

/// The longest packet that is no message.
const SMALL: usize = 64 << 10;

/// A message that was delivered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// To which topic it was published.
    pub topic: String,
    /// By which it is acknowledged; `None`: it need not be.
    pub number: Option<u16>,
    /// It may have come before.
    pub again: bool,
    /// The broker had kept it for those who come later.
    pub retained: bool,
    /// What it carries.
    pub content: Content,
}

/// What a broker sends.
#[derive(Debug, PartialEq)]
pub(super) enum Packet {
    /// Whether it knows us, and whether it lets us in.
    Welcome {
        known: bool,
        code: u8,
    },
    /// It has the message of this number.
    Taken(u16),
    /// What became of the wishes of a subscription.
    Subscribed {
        number: u16,
        codes: Bytes,
    },
    Message(Message),
    Pong,
}

/// Reads packets.
#[derive(Default)]
pub(super) struct Wire {
    skip: usize,
}

impl Decode for Wire {
    type Frame = Packet;

    fn decode(&mut self, input: &mut BytesMut) -> Result<Option<Packet>, String> {
        let over = self.skip.min(input.len());
        input.advance(over);
        self.skip -= over;
        if self.skip > 0 {
            return Ok(None);
        }
        let Some((head, length, at)) = head(input)? else { return Ok(None) };
        if head & 0xF0 == PUBLISH {
            return self.message(head, length, at, input);
        }
        // Only a message has flags (MQTT 3.1.1, 2.2.2).
        if !matches!(head, CONNACK | PUBACK | SUBACK | PINGRESP) {
            return Err(format!("a packet of sort {head:#x}"));
        }
        if length > SMALL {
            return Err(format!("a packet of sort {head:#x} has {length} bytes"));
        }
        if input.len() < at + length {
            return Ok(None);
        }
        input.advance(at);
        let body = input.split_to(length).freeze();
        packet_of(head, body).map(Some)
    }
}

impl Wire {
    fn message(
        &mut self,
        head: u8,
        length: usize,
        at: usize,
        input: &mut BytesMut,
    ) -> Result<Option<Packet>, String> {
        let is_whole = length <= LIMIT + HEAD;
        if input.len() < at + if is_whole { length } else { HEAD } {
            return Ok(None);
        }
        input.advance(at);
        let mut body = input.split_to(if is_whole { length } else { HEAD }).freeze();
        let short = || "a message ends before its content".to_owned();
        let size = usize::from(number(&body).ok_or_else(short)?);
        body.advance(2);
        if body.len() < size {
            return Err(short());
        }
        let topic = String::from_utf8(body.split_to(size).to_vec()).map_err(|_| "a topic is no UTF-8")?;
        let has_number = match head & 0x06 {
            0 => false,
            0x02 => true,
            _ => return Err("a message of a quality that was not asked for".into()),
        };
        let number = if has_number { Some(number(&body).ok_or_else(short)?) } else { None };
        body.advance(if has_number { 2 } else { 0 });
        let content = match is_whole {
            true if body.len() <= LIMIT => Content::Whole(body),
            true => Content::Cut(body.len() as u64),
            false => {
                self.skip = length - HEAD;
                Content::Cut((body.len() + self.skip) as u64)
            }
        };
        let (again, retained) = (head & 0x08 != 0, head & 0x01 != 0);
        Ok(Some(Packet::Message(Message { topic, number, again, retained, content })))
    }
}

/// Sort, length of the body, and where it begins; `None` when that is not there yet.
fn head(input: &[u8]) -> Result<Option<(u8, usize, usize)>, String> {
    let Some((&head, rest)) = input.split_first() else { return Ok(None) };
    let mut length = 0_usize;
    for (at, byte) in rest.iter().take(4).enumerate() {
        length |= usize::from(byte & 0x7F) << (7 * at);
        if byte & 0x80 == 0 {
            return Ok(Some((head, length, at + 2)));
        }
    }
    if rest.len() >= 4 { Err("a length of more than four bytes".into()) } else { Ok(None) }
}

fn number(body: &[u8]) -> Option<u16> {
    Some(u16::from_be_bytes([*body.first()?, *body.get(1)?]))
}

fn packet_of(head: u8, body: Bytes) -> Result<Packet, String> {
    match (head & 0xF0, &body[..]) {
        (CONNACK, [flags, code]) => Ok(Packet::Welcome { known: flags & 1 == 1, code: *code }),
        (PUBACK, [high, low]) => Ok(Packet::Taken(u16::from_be_bytes([*high, *low]))),
        (SUBACK, [high, low, _, ..]) => {
            let number = u16::from_be_bytes([*high, *low]);
            Ok(Packet::Subscribed { number, codes: body.slice(2..) })
        }
        (PINGRESP, []) => Ok(Packet::Pong),
        _ => Err(format!("a packet of sort {head:#x} with {} bytes", body.len())),
    }
}

/// A text with its length before it.
pub(super) fn text(text: &str) -> Vec<u8> {
    let length = u16::try_from(text.len()).unwrap_or(u16::MAX);
    let bytes = &text.as_bytes()[..usize::from(length)];
    [&length.to_be_bytes()[..], bytes].concat()
}

/// A packet: its head, its length in groups of seven bits, the rest.
pub(super) fn packet(head: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![head];
    let mut length = body.len();
    loop {
        let more = if length > 127 { 0x80 } else { 0 };
        bytes.push((length % 128) as u8 | more);
        length /= 128;
        if length == 0 {
            break;
        }
    }
    bytes.extend_from_slice(body);
    bytes
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(bytes: &[u8], piece: usize) -> Result<Vec<Packet>, String> {
        let (mut wire, mut input, mut found) = (Wire::default(), BytesMut::new(), Vec::new());
        for piece in bytes.chunks(piece) {
            input.extend_from_slice(piece);
            while let Some(packet) = wire.decode(&mut input)? {
                found.push(packet);
            }
        }
        Ok(found)
    }

    fn message(topic: &str, number: Option<u16>, body: &[u8]) -> Vec<u8> {
        let number = number.map(u16::to_be_bytes);
        let flags = if number.is_some() { 0x02 } else { 0 };
        let parts = [&text(topic)[..], number.as_ref().map_or(&[], |n| &n[..]), body];
        packet(PUBLISH | flags, &parts.concat())
    }

    #[test]
    fn lengths_are_written_as_the_standard_has_them() {
        for (length, expected) in
            [(0, vec![0]), (127, vec![0x7F]), (128, vec![0x80, 1]), (16_384, vec![0x80, 0x80, 1])]
        {
            let bytes = packet(PUBLISH, &vec![0; length]);
            assert_eq!(bytes[1..bytes.len() - length], expected, "{length}");
            assert_eq!(head(&bytes), Ok(Some((PUBLISH, length, 1 + expected.len()))));
        }
    }

    #[test]
    fn packets_are_read_in_whatever_pieces_they_come() {
        let bytes = [
            vec![CONNACK, 2, 1, 0],
            message("a/b", Some(258), b"x"),
            message("c", None, b""),
            vec![SUBACK, 3, 0, 1, 0x80],
            vec![PUBACK, 2, 1, 2, PINGRESP, 0],
        ]
        .concat();
        for piece in 1..bytes.len() {
            let found = read(&bytes, piece).unwrap();
            assert_eq!(found.len(), 6, "pieces of {piece}: {found:?}");
            assert_eq!(found[0], Packet::Welcome { known: true, code: 0 });
            let Packet::Message(first) = &found[1] else { panic!("{found:?}") };
            assert_eq!((first.topic.as_str(), first.number), ("a/b", Some(258)));
            assert_eq!(first.content, Content::Whole(Bytes::from_static(b"x")));
            assert_eq!(found[3], Packet::Subscribed { number: 1, codes: Bytes::from_static(&[0x80]) });
            assert_eq!(found[4..], [Packet::Taken(258), Packet::Pong]);
        }
    }

    #[test]
    fn a_message_that_is_too_large_is_read_over_and_can_be_acknowledged() {
        for size in [LIMIT + 1, LIMIT + HEAD + 1, 3 * LIMIT] {
            let bytes = [message("t", Some(7), &vec![1; size]), vec![PINGRESP, 0]].concat();
            let found = read(&bytes, 5000).unwrap();
            let Packet::Message(large) = &found[0] else { panic!("no message") };
            assert_eq!((large.number, &large.content), (Some(7), &Content::Cut(size as u64)));
            assert_eq!(found[1], Packet::Pong);
        }
    }

    #[test]
    fn what_is_no_packet_is_an_error() {
        let wrong: [&[u8]; 6] = [
            b"HTTP/1.1 400 Bad",
            &[CONNACK, 0],
            &[PUBLISH, 3, 0, 9, b'x'],
            &[PUBLISH | 4, 5, 0, 1, b'x', 0, 1],
            &[PUBLISH, 0xFF, 0xFF, 0xFF, 0xFF],
            &[PUBACK, 1, 0],
        ];
        for bytes in wrong {
            assert!(read(bytes, 1).is_err(), "{bytes:?}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(
            bytes in proptest::collection::vec(prop_oneof![
                Just(vec![PUBLISH, 5]), Just(vec![PUBLISH | 2, 0x80, 1]), Just(vec![PUBLISH, 0xFF, 0xFF, 0xFF, 0x7F]),
                Just(vec![CONNACK, 2, 0, 0]), proptest::collection::vec(any::<u8>(), 0..20),
            ], 0..40),
            piece in 1_usize..50,
        ) {
            let _ = read(&bytes.concat(), piece);
        }
    }
}
