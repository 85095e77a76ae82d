//! The content of records: as long as it was, without what is secret.
//!
//! It is written as pieces, the last first, because frames are read from the end. Stream data, texts, option values and
//! bodies of handshake messages become runs of zeros; tokens and addresses become pseudonyms. What could not be decoded
//! becomes the simplest bytes of that length with the same error.

use core::ops::Range;

use super::format::{Get, Malformed, Put};
use super::privacy::Privacy;
use crate::wire::frame::{Frame, FrameError, Frames, SessionParameters};
use crate::wire::ids::Token;
use crate::wire::record::MAX_CIPHERTEXT;

/// The low bits of a piece's length.
const LITERAL: u64 = 0;
const ZEROS: u64 = 1;
const REPEATED: u64 = 2;

/// The Session Parameter with the number of the server's instance, and the length of an entry: ID and value.
const INSTANCE: u8 = 12;
const ENTRY: usize = 9;

/// Padding of this length is a piece of its own.
const MIN_ZEROS: usize = 3;

/// Writes pieces of one record.
struct Pieces<'a> {
    content: &'a [u8],
    /// What is copied as it is, and not written yet.
    literal: Range<usize>,
    out: &'a mut Vec<u8>,
}

impl<'a> Pieces<'a> {
    fn new(content: &'a [u8], out: &'a mut Vec<u8>) -> Self {
        out.number(content.len() as u64);
        Self { content, literal: content.len()..content.len(), out }
    }

    /// The bytes from `at` on stay as they are.
    fn keep_from(&mut self, at: usize) {
        self.literal.start = at;
    }

    fn flush(&mut self) {
        let literal = self.content.get(self.literal.clone()).unwrap_or_default();
        if !literal.is_empty() {
            self.out.number((literal.len() as u64) << 2 | LITERAL);
            self.out.extend_from_slice(literal);
        }
        self.literal.end = self.literal.start;
    }

    /// The bytes from `at` to those that were written become zeros.
    fn hide_from(&mut self, at: usize) {
        self.flush();
        let len = self.literal.start - at;
        if len > 0 {
            self.out.number((len as u64) << 2 | ZEROS);
        }
        self.literal = at..at;
    }

    /// The next bytes towards the beginning are these.
    fn put(&mut self, bytes: &[u8]) {
        self.flush();
        self.out.number((bytes.len() as u64) << 2 | LITERAL);
        self.out.extend_from_slice(bytes);
        let at = self.literal.start - bytes.len();
        self.literal = at..at;
    }

    fn repeat(&mut self, byte: u8, len: usize) {
        self.flush();
        if len > 0 {
            self.out.number((len as u64) << 2 | REPEATED);
            self.out.push(byte);
        }
        let at = self.literal.start - len;
        self.literal = at..at;
    }
}

/// Which endpoint made the content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// This one: tokens are computed from a secret that is not recorded.
    Own,
    Peer,
}

/// Writes frames.
pub(super) fn put_frames(privacy: &Privacy, origin: Origin, content: &[u8], out: &mut Vec<u8>) {
    let mut pieces = Pieces::new(content, out);
    let mut frames = Frames::new(content);
    loop {
        let end = frames.left();
        let Some(frame) = frames.next() else { break };
        let start = frames.left();
        match frame {
            Ok(frame) => put_frame(privacy, origin, &frame, start, &mut pieces),
            Err(_) if privacy.is_full() => pieces.keep_from(0),
            Err(error) => put_stand_in(error, end, &mut pieces),
        }
    }
    pieces.flush();
}

/// Writes a frame that begins at `start`: what is secret always comes first in it.
fn put_frame(privacy: &Privacy, origin: Origin, frame: &Frame<'_>, start: usize, pieces: &mut Pieces<'_>) {
    let hidden = match frame {
        Frame::Padding(padding) if padding.len < MIN_ZEROS => return pieces.keep_from(start),
        Frame::Padding(padding) => padding.len,
        Frame::Stream(stream) => stream.data.len(),
        Frame::CloseSession(close) => close.reason.len(),
        Frame::TcpOption(option) => option.value.len(),
        Frame::TcpOptionRequest(request) => request.value.len(),
        Frame::NewToken(new) => return put_token(privacy, origin, new.token, start, pieces),
        Frame::NewTokenWide(new) => return put_token(privacy, origin, new.token, start, pieces),
        Frame::SessionParameters(parameters) => {
            let mut entries = parameters.entries.to_vec();
            for entry in entries.chunks_exact_mut(ENTRY) {
                if let Some((&mut INSTANCE, value)) = entry.split_first_mut() {
                    let number = u64::from_be_bytes((&*value).try_into().unwrap_or_default());
                    value.copy_from_slice(&privacy.instance(number).to_be_bytes());
                }
            }
            let mut frame = Vec::new();
            Frame::SessionParameters(SessionParameters { entries: &entries }).encode(&mut frame);
            return pieces.put(&frame);
        }
        Frame::NewAddress(_) => {
            let mut address = Vec::new();
            if let Frame::NewAddress(mut new) = *frame {
                new.address = privacy.address(new.address);
                Frame::NewAddress(new).encode(&mut address);
            }
            return pieces.put(&address);
        }
        _ => 0,
    };
    let is_padding = matches!(frame, Frame::Padding(_));
    if !is_padding {
        pieces.keep_from(start + hidden);
    }
    if hidden > 0 {
        if privacy.is_full() && !is_padding { pieces.keep_from(start) } else { pieces.hide_from(start) }
    }
}

fn put_token(privacy: &Privacy, origin: Origin, token: Token, start: usize, pieces: &mut Pieces<'_>) {
    pieces.keep_from(start + token.0.len());
    match origin {
        Origin::Own => pieces.hide_from(start),
        Origin::Peer => pieces.put(&privacy.token(token).0),
    }
}

/// Writes `end` bytes whose last frame fails to decode in the same way.
fn put_stand_in(error: FrameError, end: usize, pieces: &mut Pieces<'_>) {
    let (FrameError::Unknown(ty) | FrameError::Truncated(ty) | FrameError::InvalidField(ty)) = error;
    let fails = |bytes: &[u8]| Frames::new(bytes).next() == Some(Err(error));
    let fill = [0x00, 0xff, 0x06, 0x02].into_iter().find(|fill| {
        let mut bytes = vec![*fill; end];
        bytes.last_mut().into_iter().for_each(|last| *last = ty);
        fails(&bytes)
    });
    if let Some(fill) = fill {
        pieces.put(&[ty]);
        return pieces.repeat(fill, end - 1);
    }
    // A Stream frame without data at the largest offset.
    let mut stream = [0; 15];
    stream[2..10].fill(0xff);
    stream[14] = ty;
    pieces.put(&stream[15 - end.min(15)..]);
    pieces.repeat(0, end.saturating_sub(15));
}

/// Writes content that is kept or hidden as a whole: alerts and application data of a session without TCPLS.
pub(super) fn put_whole(keep: bool, content: &[u8], out: &mut Vec<u8>) {
    let mut pieces = Pieces::new(content, out);
    if keep {
        pieces.keep_from(0)
    } else {
        pieces.hide_from(0)
    }
    pieces.flush();
}

/// The type of the only message whose body is kept.
const KEY_UPDATE: u8 = 24;

/// Where the records of one TCP connection are in their handshake messages.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Messages {
    header: [u8; 4],
    read: usize,
    body: usize,
}

impl Messages {
    /// Writes content that goes on with these messages: their headers, and bodies of zeros. Tickets are hidden always.
    pub(super) fn put(&mut self, content: &[u8], out: &mut Vec<u8>) {
        let mut hidden = Vec::new();
        let mut at = 0;
        while at < content.len() {
            if self.body == 0 {
                self.header[self.read] = content[at];
                self.read += 1;
                at += 1;
                if self.read == self.header.len() {
                    let [_, a, b, c] = self.header;
                    (self.body, self.read) = (u32::from_be_bytes([0, a, b, c]) as usize, 0);
                }
                continue;
            }
            let taken = self.body.min(content.len() - at);
            if self.header[0] != KEY_UPDATE || self.body > 1 {
                hidden.push(at..at + taken);
            }
            self.body -= taken;
            at += taken;
        }
        let mut pieces = Pieces::new(content, out);
        for range in hidden.into_iter().rev() {
            pieces.keep_from(range.end);
            pieces.hide_from(range.start);
        }
        pieces.keep_from(0);
        pieces.flush();
    }
}

/// Reads content, at most a record's.
pub(super) fn get(get: &mut Get<'_>) -> Result<Vec<u8>, Malformed> {
    let len = get.len()?;
    if len > MAX_CIPHERTEXT {
        return Err(Malformed("the content of a record is too long"));
    }
    let (mut content, mut left) = (vec![0; len], len);
    while left > 0 {
        let piece = get.number()?;
        let taken = usize::try_from(piece >> 2).ok().filter(|taken| (1..=left).contains(taken));
        let taken = taken.ok_or(Malformed("a piece of a record is too long, or empty"))?;
        let target = &mut content[left - taken..left];
        match piece & 3 {
            LITERAL => target.copy_from_slice(get.slice(taken)?),
            ZEROS => {}
            REPEATED => target.fill(get.byte()?),
            _ => return Err(Malformed("a piece of a record has an unknown form")),
        }
        left -= taken;
    }
    Ok(content)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::crypto::rng::Seed;
    use crate::testing::strategies::frame;
    use crate::wire::frame::{CloseSession, NewToken, Stream, TcpOption};
    use crate::wire::ids::{ErrorCode, StreamId};

    fn hidden(content: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        put_frames(&Privacy::redacted(&Seed([1; 32])), Origin::Peer, content, &mut out);
        out
    }

    fn read(written: &[u8]) -> Vec<u8> {
        let mut bytes = Get::new(written);
        let content = get(&mut bytes).unwrap();
        assert!(bytes.is_empty());
        content
    }

    fn frames(content: &[u8]) -> Vec<Result<Frame<'_>, FrameError>> {
        Frames::new(content).collect()
    }

    #[test]
    fn data_texts_values_and_tokens_are_not_written_and_lengths_are() {
        let secret = [0xe7; 40];
        let all = [
            Frame::from(Stream { id: StreamId(4), offset: 9, fin: true, data: &secret }),
            Frame::from(CloseSession { error: ErrorCode(3), reason: &secret }),
            Frame::from(TcpOption { kind: 254, value: &secret }),
            Frame::from(NewToken { sequence: 2, token: Token([0xe7; 32]) }),
        ];
        let mut content = Vec::new();
        all.iter().for_each(|frame| frame.encode(&mut content));
        let written = hidden(&content);
        assert!(!written.windows(3).any(|part| part == [0xe7; 3]));
        assert!(written.len() < 110, "{} bytes", written.len());
        let content = read(&written);
        let again = frames(&content);
        assert_eq!(again.len(), 4);
        assert!(matches!(again[3], Ok(Frame::Stream(Stream { id: StreamId(4), offset: 9, fin: true, data: [0, ..] }))));
        let Ok(Frame::NewToken(new)) = again[0] else { panic!("{again:?}") };
        assert_eq!(new.token, Privacy::redacted(&Seed([1; 32])).token(Token([0xe7; 32])));
    }

    /// Each client gets it, so it would name the server.
    #[test]
    fn number_of_a_servers_instance_becomes_a_pseudonym_and_other_parameters_stay() {
        let privacy = Privacy::redacted(&Seed([1; 32]));
        let (instance, limit) = (0xe7e7_e7e7_e7e7_e7e7_u64, 1 << 20);
        let entries = |number: u64| [&[3][..], &u64::to_be_bytes(limit), &[INSTANCE], &number.to_be_bytes()].concat();
        let encoded = |entries: &[u8]| {
            let mut out = Vec::new();
            Frame::SessionParameters(SessionParameters { entries }).encode(&mut out);
            out
        };
        let pseudonym = privacy.instance(instance);
        assert!(pseudonym != instance && pseudonym != 0 && privacy.instance(0) == 0);
        assert_eq!(read(&hidden(&encoded(&entries(instance)))), encoded(&entries(pseudonym)));
        check(&encoded(&entries(instance)));
    }

    /// What a replay decodes from what was recorded, and writes again.
    fn check(content: &[u8]) {
        let written = hidden(content);
        let stands_in = read(&written);
        assert_eq!(stands_in.len(), content.len());
        let (real, replayed) = (frames(content), frames(&stands_in));
        assert_eq!(real.len(), replayed.len());
        for (real, replayed) in real.iter().zip(&replayed) {
            let name = |frame: &Result<Frame<'_>, FrameError>| frame.map(|frame| (frame.ty(), frame.encoded_len()));
            assert_eq!(name(real), name(replayed));
        }
        let mut again = Vec::new();
        put_frames(&Privacy::replaying(false), Origin::Peer, &stands_in, &mut again);
        assert_eq!(again, written, "a replay records the same");
    }

    proptest! {
        #[test]
        fn frames_of_every_type_keep_their_type_and_length(all in proptest::collection::vec(frame(), 1..6)) {
            let mut content = Vec::new();
            all.iter().for_each(|frame| frame.encode(&mut content));
            check(&content);
        }

        #[test]
        fn any_bytes_fail_to_decode_in_the_same_way(content in proptest::collection::vec(any::<u8>(), 0..80)) {
            check(&content);
        }

        #[test]
        fn any_tail_of_a_frame_fails_to_decode_in_the_same_way(frame in frame(), cut in any::<prop::sample::Index>()) {
            let mut content = Vec::new();
            frame.encode(&mut content);
            check(&content[cut.index(content.len())..]);
        }

        #[test]
        fn reading_any_bytes_returns(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
            _ = get(&mut Get::new(&bytes));
        }

        #[test]
        fn handshake_messages_keep_their_headers_however_they_are_cut(
            lengths in proptest::collection::vec(1usize..40, 1..5), cut in 1usize..20
        ) {
            let mut whole = Vec::new();
            for len in lengths {
                whole.extend_from_slice(&[4, 0, 0, len as u8]);
                whole.resize(whole.len() + len, 0xe7);
            }
            whole.extend_from_slice(&[24, 0, 0, 1, 1]);
            let (mut messages, mut again) = (Messages::default(), Messages::default());
            for part in whole.chunks(cut) {
                let (mut out, mut second) = (Vec::new(), Vec::new());
                messages.put(part, &mut out);
                let kept = read(&out);
                let expected: Vec<u8> = part.iter().map(|byte| if *byte == 0xe7 { 0 } else { *byte }).collect();
                prop_assert_eq!(&kept, &expected);
                again.put(&kept, &mut second);
                prop_assert_eq!(second, out);
            }
        }
    }

    #[test]
    fn an_invalid_stream_frame_and_a_record_of_one_byte_have_stand_ins() {
        for ty in 0..=255 {
            check(&[ty]);
        }
        let mut stream = [0xe7; 40];
        stream[25..27].fill(0);
        stream[27..35].fill(0xfe);
        stream[39] = 2;
        check(&stream);
        assert!(!hidden(&stream).windows(3).any(|part| part == [0xe7; 3]));
    }
}
