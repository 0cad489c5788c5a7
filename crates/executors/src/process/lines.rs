//! Cuts what a pipe gives into lines.

/// A line longer than this is handed on in pieces.
pub(super) const PIECE: usize = 64 * 1024;

/// What the splitter found.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Cut<'b> {
    /// The end of a line, or a whole one, without its end.
    Line(&'b [u8]),
    /// A piece of a line that goes on.
    Piece(&'b [u8]),
}

#[derive(Default)]
pub(super) struct Lines {
    rest: Vec<u8>,
    /// A piece of the line in `rest` has been handed on already.
    midway: bool,
}

impl Lines {
    /// Takes bytes and hands on what is complete.
    pub(super) fn feed(&mut self, mut bytes: &[u8], mut take: impl FnMut(Cut<'_>)) {
        while let Some(end) = memchr::memchr(b'\n', bytes) {
            let (line, after) = (&bytes[..end], &bytes[end + 1..]);
            bytes = after;
            if self.rest.is_empty() && line.len() <= PIECE {
                take(Cut::Line(without_return(line)));
            } else {
                self.hold(line, &mut take);
                take(Cut::Line(without_return(&self.rest)));
                self.rest.clear();
            }
            self.midway = false;
        }
        self.hold(bytes, &mut take);
    }

    /// The last line, when it has no end.
    pub(super) fn finish(&mut self, mut take: impl FnMut(Cut<'_>)) {
        if !self.rest.is_empty() || self.midway {
            take(Cut::Line(&self.rest));
        }
        self.rest.clear();
        self.midway = false;
    }

    fn hold(&mut self, mut bytes: &[u8], take: &mut impl FnMut(Cut<'_>)) {
        while self.rest.len() + bytes.len() > PIECE {
            let (head, tail) = bytes.split_at(PIECE - self.rest.len());
            self.rest.extend_from_slice(head);
            take(Cut::Piece(&self.rest));
            self.rest.clear();
            self.midway = true;
            bytes = tail;
        }
        self.rest.extend_from_slice(bytes);
    }
}

/// Windows line ends are as good.
fn without_return(line: &[u8]) -> &[u8] {
    line.strip_suffix(b"\r").unwrap_or(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(chunks: &[&[u8]]) -> Vec<(bool, usize)> {
        let mut lines = Lines::default();
        let mut found = Vec::new();
        let mut take = |cut: Cut<'_>| match cut {
            Cut::Line(line) => found.push((true, line.len())),
            Cut::Piece(piece) => found.push((false, piece.len())),
        };
        for chunk in chunks {
            lines.feed(chunk, &mut take);
        }
        lines.finish(&mut take);
        found
    }

    #[test]
    fn lines_are_found_whatever_the_chunks() {
        assert_eq!(cut(&[b"ab\nc", b"d\r\n\n", b"e"]), [(true, 2), (true, 2), (true, 0), (true, 1)]);
        assert_eq!(cut(&[b""]), []);
    }

    #[test]
    fn long_lines_come_in_pieces() {
        let long = vec![b'x'; PIECE * 2 + 5];
        assert_eq!(cut(&[&long]), [(false, PIECE), (false, PIECE), (true, 5)]);
        assert_eq!(
            cut(&[&[long.as_slice(), b"\ny\n"].concat()]),
            [(false, PIECE), (false, PIECE), (true, 5), (true, 1)]
        );
        assert_eq!(cut(&[&long[..PIECE], b"\n"]), [(true, PIECE)]);
    }
}
