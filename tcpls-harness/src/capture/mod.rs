//! Decrypts sessions in captures of packets, with the key log of one endpoint (`docs/captures.md`).
//!
//! Data flows down this list. Whatever a capture contains gives an error, a note or nothing; memory and work are bounded.
//!
//! | file | subject |
//! | --- | --- |
//! | `file` | packets from pcap and pcapng files |
//! | `segment` | the TCP segment of a packet |
//! | `reassembly` | one direction of a TCP connection, in order |
//! | `flows` | which TCP connection a segment belongs to |
//! | `hello` | what the hellos of TLS say in plaintext |
//! | `key_log`, `keys` | secrets, and the keys that follow from them |
//! | `sessions` | keys and tokens of sessions |
//! | `tcp` | the records of one TCP connection |
//! | `pdu`, `text` | what is written: pcapng for the dissector, and lines |

mod file;
mod flows;
mod hello;
mod key_log;
mod keys;
mod pdu;
mod reassembly;
mod segment;
mod sessions;
mod tcp;
mod text;

use std::collections::BTreeMap;
use std::io::Read;
use std::net::SocketAddr;
use std::ops::ControlFlow;
use std::{error, fmt};

use tcpls_core::{ConnectionId, Side};

pub use self::key_log::{KeyLog, KeyLogError};
pub use self::pdu::PduWriter;

/// A record of a session, decrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Record<'a> {
    /// When its last byte was captured, in nanoseconds since 1970.
    pub time: u64,
    /// The session, counted from 0.
    pub session: u32,
    /// Its TCP connection in the session.
    pub tcp: ConnectionId,
    /// Who sent it.
    pub sender: Side,
    /// The sender's address.
    pub from: SocketAddr,
    /// The receiver's address.
    pub to: SocketAddr,
    /// Its record number, which acknowledgments count; `None` for early data.
    pub number: Option<u64>,
    /// The generation of its keys, counted from 0.
    pub generation: u32,
    /// The TLS content type: 23 for frames, 22 for handshake messages, 21 for an alert.
    pub content_type: u8,
    /// Its content, without padding of TLS.
    pub content: &'a [u8],
}

impl fmt::Display for Record<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        text::write(self, f)
    }
}

/// What was found in a capture.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Summary {
    /// Packets in the file.
    pub packets: u64,
    /// TCP connections of which at least a byte of data was captured.
    pub tcp_connections: u64,
    /// Sessions of which records were decrypted.
    pub sessions: u32,
    /// Decrypted records.
    pub records: u64,
    /// Why TCP connections, or parts of them, were not decrypted, and how many times each.
    pub skipped: BTreeMap<Skipped, u64>,
    /// The file ends within a packet, or is damaged behind the last packet that was read.
    pub is_cut: bool,
}

/// Why a TCP connection, or the rest of it, was not decrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Skipped {
    /// Its first bytes are no TLS ClientHello: another protocol, or the capture began later.
    NoClientHello,
    /// The key log has no secrets for it.
    NoSecrets,
    /// The endpoints negotiated no TCPLS.
    NotTcpls,
    /// The token or ticket that it presented is of no session that is known.
    UnknownToken,
    /// Its server answered with an alert, or with another handshake than that of the session.
    Refused,
    /// Packets are missing in the capture, or what waits for them is too much.
    Gap,
    /// Bytes that are no TLS record, or a record that the keys of the session do not open.
    BadRecord,
    /// There were too many TCP connections at once.
    TooMany,
}

impl fmt::Display for Skipped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoClientHello => "no ClientHello at the beginning: another protocol, or the capture began too late",
            Self::NoSecrets => "no secrets in the key log",
            Self::NotTcpls => "TLS without TCPLS",
            Self::UnknownToken => "a join of a session that is not in the key log",
            Self::Refused => "a join that the server refused",
            Self::Gap => "packets are missing in the capture",
            Self::BadRecord => "a record that does not decrypt",
            Self::TooMany => "too many TCP connections at once",
        })
    }
}

/// Why nothing was read from a capture.
#[derive(Debug)]
#[non_exhaustive]
pub enum CaptureError {
    /// It is neither pcap nor pcapng.
    Format,
    /// It cannot be read.
    Read(std::io::Error),
}

impl fmt::Display for CaptureError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Format => f.write_str("not a capture in the format pcap or pcapng"),
            Self::Read(error) => error.fmt(f),
        }
    }
}

impl error::Error for CaptureError {}

/// Decrypts the sessions in a capture, and passes each record to `on_record`, in the order of the capture, until that
/// returns [`ControlFlow::Break`].
///
/// The first TCP connection of a session is decrypted with the secrets of `key_log`. Those that join are found by the
/// tokens that the session has issued, or, if those were not captured, by trying connection IDs.
///
/// # Errors
/// The capture cannot be read from its beginning. Damage further on is reported in the summary.
pub fn decrypt(
    capture: impl Read + Send,
    key_log: &KeyLog,
    mut on_record: impl FnMut(&Record<'_>) -> ControlFlow<()>,
) -> Result<Summary, CaptureError> {
    let mut flows = flows::Flows::new(key_log);
    let mut packets = 0;
    let is_cut = file::read(capture, |packet| {
        packets += 1;
        let mut next = ControlFlow::Continue(());
        if let Some(segment) = segment::Segment::of(&packet) {
            flows.handle(packet.time, &segment, &mut |record: &Record<'_>| {
                if next.is_continue() {
                    next = on_record(record);
                }
            });
        }
        next
    })?;
    Ok(Summary { packets, is_cut, ..flows.finish() })
}

#[cfg(test)]
mod tests;
