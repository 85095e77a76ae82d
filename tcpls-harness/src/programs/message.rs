//! What is said on the helper's socket: one request and one answer for each connection. Integers are big-endian.
//!
//! ```text
//! request: version 1 · kind 8 · length 32 · hash (kind 1) or signed object (kind 2)
//! answer:  version 1 · code 8 · length 8 · name (code 0)
//! ```

use std::{error, fmt};

use super::signed::SIGNATURE_LEN;
use super::{MAX_OBJECT, ProgramId, ProgramName};

const VERSION: u8 = 1;
const BY_HASH: u8 = 1;
const SIGNED: u8 = 2;
const HASH_LEN: usize = 32;

/// The length of what precedes the contents of a request, in bytes.
pub const HEADER_LEN: usize = 6;

/// The longest request, in bytes.
pub const MAX_REQUEST: usize = HEADER_LEN + SIGNATURE_LEN + MAX_OBJECT;

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request<'a> {
    /// A program that the helper knows.
    ByHash(ProgramId),
    /// A program that comes along: signature and object ([`verify`](super::verify)).
    Signed(&'a [u8]),
}

/// How much of a request there has to be, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted(pub usize);

/// A message that is none, or is too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("malformed message")
    }
}

impl error::Error for Malformed {}

impl<'a> Request<'a> {
    /// Reads a request, or says how many bytes it takes to go on; nothing may follow it.
    ///
    /// # Errors
    /// This is no request. That is known from the first [`HEADER_LEN`] bytes, except for what follows it.
    pub fn read(bytes: &'a [u8]) -> Result<Result<Self, Wanted>, Malformed> {
        let Some((&[version, kind, l0, l1, l2, l3], contents)) = bytes.split_first_chunk::<HEADER_LEN>() else {
            return Ok(Err(Wanted(HEADER_LEN)));
        };
        let length = usize::try_from(u32::from_be_bytes([l0, l1, l2, l3])).map_err(|_| Malformed)?;
        let is_possible = match kind {
            BY_HASH => length == HASH_LEN,
            SIGNED => (SIGNATURE_LEN + 1..=SIGNATURE_LEN + MAX_OBJECT).contains(&length),
            _ => false,
        };
        if version != VERSION || !is_possible || contents.len() > length {
            return Err(Malformed);
        }
        if contents.len() < length {
            return Ok(Err(Wanted(HEADER_LEN + length)));
        }
        Ok(Ok(match <[u8; HASH_LEN]>::try_from(contents) {
            Ok(hash) if kind == BY_HASH => Self::ByHash(ProgramId::new(hash)),
            _ => Self::Signed(contents),
        }))
    }

    /// Returns the bytes of the request.
    pub fn bytes(&self) -> Vec<u8> {
        let (kind, contents) = match self {
            Self::ByHash(id) => (BY_HASH, &id.as_bytes()[..]),
            Self::Signed(contents) => (SIGNED, *contents),
        };
        let length = u32::try_from(contents.len()).unwrap_or(u32::MAX);
        [&[VERSION, kind][..], &length.to_be_bytes(), contents].concat()
    }
}

/// What the helper answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The program is registered under this name, which sockets can select.
    Registered(ProgramName),
    /// No program with this hash is known: it is not in the configuration, and no one has brought it.
    Unknown,
    /// The object is not signed by a key of the configuration.
    Unsigned,
    /// Too many requests or programs at the moment.
    Busy,
    /// The program is no congestion control, or the kernel refused it; the helper's log has the reason.
    Rejected,
    /// The request was malformed.
    Malformed,
}

impl Answer {
    /// The longest answer, in bytes.
    pub const MAX_LEN: usize = 3 + ProgramName::MAX_LEN;

    /// Reads a complete answer.
    ///
    /// # Errors
    /// This is no answer.
    pub fn read(bytes: &[u8]) -> Result<Self, Malformed> {
        let Some((&[version, code, length], name)) = bytes.split_first_chunk::<3>() else { return Err(Malformed) };
        if version != VERSION || name.len() != usize::from(length) || (code != 0 && length != 0) {
            return Err(Malformed);
        }
        Ok(match code {
            0 => Self::Registered(ProgramName::read(name).ok_or(Malformed)?),
            1 => Self::Unknown,
            2 => Self::Unsigned,
            3 => Self::Busy,
            4 => Self::Rejected,
            5 => Self::Malformed,
            _ => return Err(Malformed),
        })
    }

    /// Returns the bytes of the answer.
    pub fn bytes(&self) -> Vec<u8> {
        let (code, name) = match self {
            Self::Registered(name) => (0, name.as_str()),
            Self::Unknown => (1, ""),
            Self::Unsigned => (2, ""),
            Self::Busy => (3, ""),
            Self::Rejected => (4, ""),
            Self::Malformed => (5, ""),
        };
        [&[VERSION, code, u8::try_from(name.len()).unwrap_or(u8::MAX)], name.as_bytes()].concat()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_read_as_they_are_written_wherever_they_are_cut() {
        let signed = [7; SIGNATURE_LEN + 9];
        for request in [Request::ByHash(ProgramId::new([3; 32])), Request::Signed(&signed), Request::Signed(&[7; 96])] {
            let bytes = request.bytes();
            assert_eq!(Request::read(&bytes), Ok(Ok(request)));
            for cut in 0..bytes.len() {
                let wanted = if cut < HEADER_LEN { HEADER_LEN } else { bytes.len() };
                assert_eq!(Request::read(&bytes[..cut]), Ok(Err(Wanted(wanted))));
            }
            assert_eq!(Request::read(&[&bytes[..], &[0]].concat()), Err(Malformed));
        }
    }

    #[test]
    fn a_length_that_is_too_long_is_refused_before_anything_follows() {
        let header =
            |kind, length: usize| [&[VERSION, kind][..], &u32::try_from(length).unwrap().to_be_bytes()].concat();
        let longest = SIGNATURE_LEN + MAX_OBJECT;
        assert_eq!(Request::read(&header(SIGNED, longest)), Ok(Err(Wanted(MAX_REQUEST))));
        for wrong in [header(SIGNED, longest + 1), header(SIGNED, SIGNATURE_LEN), header(BY_HASH, 31), header(3, 32)] {
            assert_eq!(Request::read(&wrong), Err(Malformed));
        }
        assert_eq!(Request::read(&[2, BY_HASH, 0, 0, 0, 32]), Err(Malformed));
    }

    #[test]
    fn answers_are_read_as_they_are_written_and_names_are_checked() {
        let name = ProgramName::read(b"multcp_3210").unwrap();
        for answer in [
            Answer::Registered(name),
            Answer::Unknown,
            Answer::Unsigned,
            Answer::Busy,
            Answer::Rejected,
            Answer::Malformed,
        ] {
            assert_eq!(Answer::read(&answer.bytes()), Ok(answer));
        }
        for wrong in
            [&[1, 0][..], &[1, 0, 0], &[1, 0, 2, b'a'], &[1, 0, 1, b' '], &[1, 1, 1, b'a'], &[1, 6, 0], &[2, 1, 0]]
        {
            assert_eq!(Answer::read(wrong), Err(Malformed), "{wrong:?}");
        }
    }
}
