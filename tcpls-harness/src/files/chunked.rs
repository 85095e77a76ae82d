//! The chunked transfer coding (RFC 9112, 7.1), without sockets.

use bytes::{Buf, Bytes};

/// The longest line with the size of a chunk and its extensions, and the most bytes of trailer fields.
const MAX_LINE: usize = 4096;

/// Decodes content that is sent in chunks. Extensions and trailer fields are skipped.
#[derive(Debug)]
pub struct Chunked {
    state: State,
    /// The line that is being read, or the trailer fields so far.
    line: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// In the line with the size of a chunk.
    Size,
    /// In a chunk of which that many bytes are still to come.
    Data(u64),
    /// Behind a chunk, before the end of its line.
    DataEnd,
    /// In the trailer fields; the length of their current line.
    Trailer(usize),
    Done,
}

/// The bytes are not in that coding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadChunk;

impl Default for Chunked {
    fn default() -> Self {
        Self { state: State::Size, line: Vec::new() }
    }
}

impl Chunked {
    /// Takes bytes off the front of `bytes` and returns the next content, without a copy; `None` if more bytes are needed, or
    /// at the end.
    ///
    /// # Errors
    /// See [`BadChunk`]. The rest of the content can't be decoded then.
    pub fn next(&mut self, bytes: &mut Bytes) -> Result<Option<Bytes>, BadChunk> {
        while !bytes.is_empty() {
            match self.state {
                State::Data(left) => {
                    let len = bytes.len().min(usize::try_from(left).unwrap_or(usize::MAX));
                    let left = left - len as u64;
                    self.state = if left == 0 { State::DataEnd } else { State::Data(left) };
                    return Ok(Some(bytes.split_to(len)));
                }
                State::Done => return Ok(None),
                State::Size | State::DataEnd | State::Trailer(_) => self.take(bytes.get_u8())?,
            }
        }
        Ok(None)
    }

    /// Whether the end of the content was read.
    pub fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// Takes a byte that is no content.
    fn take(&mut self, byte: u8) -> Result<(), BadChunk> {
        if self.line.len() == MAX_LINE {
            return Err(BadChunk);
        }
        self.line.push(byte);
        // Neither CR nor LF is permitted alone: others could see the end of a line elsewhere.
        let is_after_cr = self.line.len() >= 2 && self.line[self.line.len() - 2] == b'\r';
        if is_after_cr != (byte == b'\n') {
            return Err(BadChunk);
        }
        if byte != b'\n' {
            if let State::Trailer(len) = &mut self.state {
                *len += 1;
            }
            return Ok(());
        }
        let line = &self.line[..self.line.len() - 2];
        self.state = match self.state {
            State::Size => match size(line)? {
                0 => State::Trailer(0),
                size => State::Data(size),
            },
            State::DataEnd if line.is_empty() => State::Size,
            State::Trailer(1) => State::Done, // its CR
            State::Trailer(_) => {
                self.state = State::Trailer(0);
                return Ok(()); // all lines together are bounded
            }
            _ => return Err(BadChunk),
        };
        self.line.clear();
        Ok(())
    }
}

/// The size at the front of a line, which extensions may follow.
fn size(line: &[u8]) -> Result<u64, BadChunk> {
    let digits = line.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii_end();
    if !(1..=16).contains(&digits.len()) || !digits.iter().all(u8::is_ascii_hexdigit) {
        return Err(BadChunk);
    }
    let digits = std::str::from_utf8(digits).map_err(|_| BadChunk)?;
    u64::from_str_radix(digits, 16).map_err(|_| BadChunk)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The content, and whether it is complete, if `bytes` arrive in pieces of `step`.
    fn decode(bytes: &[u8], step: usize) -> Result<(Vec<u8>, bool), BadChunk> {
        let (mut chunked, mut content) = (Chunked::default(), Vec::new());
        for piece in bytes.chunks(step) {
            let mut piece = Bytes::copy_from_slice(piece);
            while let Some(part) = chunked.next(&mut piece)? {
                assert!(!part.is_empty());
                content.extend_from_slice(&part);
            }
        }
        Ok((content, chunked.is_done()))
    }

    #[test]
    fn chunks_extensions_and_trailers_are_read_in_pieces_of_any_size() {
        let text = b"4\r\nWiki\r\n5;a=b\r\npedia\r\n00E \r\n in\r\n\r\nchunks.\r\n0\r\nX: y\r\nZ: \r\n\r\nnext";
        for step in 1..=text.len() {
            assert_eq!(decode(text, step), Ok((b"Wikipedia in\r\n\r\nchunks.".to_vec(), true)), "{step}");
        }
        assert_eq!(decode(b"0\r\n\r\n", 1), Ok((Vec::new(), true)));
        assert_eq!(decode(b"5\r\nhel", 3), Ok((b"hel".to_vec(), false)));
    }

    #[test]
    fn what_could_be_read_differently_is_refused() {
        for text in [
            "\r\n",
            "x\r\n",
            "-1\r\n",
            "+1\r\n",
            "0x1\r\n",
            " 1\r\n",
            "11111111111111111\r\n",
            "1\n",
            "1\r\r\n",
            "1\r\nab\r\n",
            "1\r\na\n",
            "1;\rx\r\n",
            "0\r\nX\n\r\n",
            "0\r\n\n",
        ] {
            assert_eq!(decode(text.as_bytes(), 2), Err(BadChunk), "{text:?}");
        }
        assert_eq!(decode(b"ffffffffffffffff\r\na", 1), Ok((b"a".to_vec(), false)));
        assert_eq!(decode(format!("1;{}", "x".repeat(MAX_LINE)).as_bytes(), 100), Err(BadChunk));
        let trailers = format!("0\r\n{}", "a: b\r\n".repeat(MAX_LINE / 6 + 1));
        assert_eq!(decode(trailers.as_bytes(), 100), Err(BadChunk));
    }
}
