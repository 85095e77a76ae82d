//! Records as a script sees them, and what it puts into them.

use crate::crypto::TAG_LEN;
use crate::wire::frame::{Frame, Frames, Parameters};
use crate::wire::record::HEADER_LEN;

/// The content type of alerts (RFC 8446, B.1).
pub const ALERT: u8 = 21;
/// The content type of handshake messages.
pub const HANDSHAKE: u8 = 22;
/// The content type of application data, and so of frames.
pub const DATA: u8 = 23;

/// Session Parameters that allow everything.
pub const GENEROUS: Parameters = Parameters {
    initial_max_data: 1 << 40,
    initial_max_stream_data: 1 << 40,
    max_streams: 1 << 20,
    idle_timeout_ms: 0,
    user_timeout_ms: 0,
    max_ack_delay_ms: 25,
    max_tcp_connections: 8,
    lanes: 0,
    session_timeout_ms: u64::MAX,
    drain: 0,
    resumed_joins: 0,
    instance: 0,
    advertised_only: 0,
    option_requests: 1,
};

/// Encodes Session Parameters as the entries of their frame.
pub fn entries(parameters: &Parameters) -> Vec<u8> {
    let mut entries = Vec::new();
    parameters.encode_entries(&mut entries);
    entries
}

/// Encodes frames in this order, as the content of a record.
pub fn encoded(frames: &[Frame<'_>]) -> Vec<u8> {
    let mut content = Vec::new();
    frames.iter().for_each(|frame| frame.encode(&mut content));
    content
}

/// A record from the session under test.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Its record number, as ACKs count; `None` for a record in plaintext.
    pub number: Option<u64>,
    /// Its content type (RFC 8446, B.1).
    pub content_type: u8,
    /// Its content without padding.
    pub content: Vec<u8>,
}

impl Record {
    /// Returns its frames in the order of the wire; none if it carries something else.
    ///
    /// Panics if one does not decode.
    pub fn frames(&self) -> Vec<Frame<'_>> {
        if self.number.is_none() || self.content_type != DATA {
            return Vec::new();
        }
        let mut frames: Vec<_> =
            Frames::new(&self.content).map(|frame| frame.expect("a session sends valid frames")).collect();
        frames.reverse();
        frames
    }

    /// Returns the length of a protected record on the wire, in bytes, header included. The session pads none.
    pub fn wire_len(&self) -> usize {
        HEADER_LEN + self.content.len() + 1 + TAG_LEN
    }

    /// Returns the description of the alert that it carries.
    pub fn alert(&self) -> Option<u8> {
        (self.content_type == ALERT).then(|| self.content[1])
    }
}

/// Returns the frames of several records, in order.
pub fn frames_of(records: &[Record]) -> Vec<Frame<'_>> {
    records.iter().flat_map(Record::frames).collect()
}

/// Takes complete records off the front of `bytes`.
pub(super) fn split_records(bytes: &mut Vec<u8>) -> Vec<Vec<u8>> {
    let mut records = Vec::new();
    while let [_, _, _, high, low, rest @ ..] = &bytes[..] {
        let len = usize::from(u16::from_be_bytes([*high, *low]));
        if rest.len() < len {
            break;
        }
        let after = bytes.split_off(5 + len);
        records.push(core::mem::replace(bytes, after));
    }
    records
}
