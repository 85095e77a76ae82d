//! The items of a recording. An entry is a call on the session and what it did: first the call, then what came in and
//! went out during it, in order. `docs/recordings.md` has the table.

use core::net::SocketAddr;
use core::time::Duration;

use super::fields::{Content, Field, Hello, Moment, Name, Reader, Text, Writer};
use super::format::{Malformed, Put};
use crate::config::Config;
use crate::connection::{JoinOptions, StreamClass, TcpEnd, TcpInfo};
use crate::time::Time;
use crate::wire::hello::Cover;
use crate::wire::ids::{AddressId, ConnectionId, ErrorCode, RecordSeq, SessionId, StreamId, Token};

macro_rules! items {
    ($($(#[doc = $doc:literal])+ $code:literal $name:ident { $($field:ident: $ty:ty),* };)*) => {
        /// A call, or something that happened during it.
        #[derive(Clone, Debug)]
        pub(in crate::connection) enum Item {
            $($(#[doc = $doc])+ $name { $($field: $ty),* },)*
        }

        impl Item {
            /// Writes the item.
            #[inline]
            pub(super) fn put(&self, out: &mut Writer) {
                match self {
                    $(Self::$name { $($field),* } => {
                        out.bytes.push($code);
                        $($field.put(out);)*
                    })*
                }
            }

            /// Reads the next item.
            pub(super) fn get(from: &mut Reader<'_>) -> Result<Self, Malformed> {
                Ok(match from.get.byte()? {
                    $($code => Self::$name { $($field: Field::get(from)?),* },)*
                    _ => return Err(Malformed("unknown item")),
                })
            }
        }

        /// Code and name of each item, and the names of its fields.
        pub const ITEMS: &[(u8, &str, &[&str])] = &[$(($code, stringify!($name), &[$(stringify!($field)),*])),*];
    };
}

items! {
    /// A client's session begins.
    0x01 Client { now: Time, config: Box<Config> };
    /// A server's session begins.
    0x02 Server { now: Time, config: Box<Config>, session: SessionId, cover: Option<Cover> };
    /// Bytes of a TCP connection; `len` are in the buffer.
    0x03 HandleBytes { now: Time, tcp: ConnectionId, len: usize };
    /// A socket ended.
    0x04 HandleTcpEnd { now: Time, tcp: ConnectionId, how: TcpEnd };
    /// A path is down.
    0x05 HandlePathDown { now: Time, tcp: ConnectionId };
    /// State of the TCP stack.
    0x06 HandleTcpInfo { tcp: ConnectionId, info: TcpInfo };
    /// A deadline may have passed.
    0x07 HandleTimeout { now: Time };
    /// A TCP connection has room.
    0x08 PollTransmit { now: Time, tcp: ConnectionId, room: usize };
    /// The driver takes an event.
    0x09 PollEvent { };
    /// The application opens a stream.
    0x0a OpenStream { };
    /// The application takes a stream of the peer.
    0x0b AcceptStream { };
    /// An address is advertised.
    0x0c Advertise { address: SocketAddr };
    /// An address is withdrawn.
    0x0d Withdraw { id: AddressId };
    /// The addresses of a TCP connection.
    0x0e SetTcpAddresses { tcp: ConnectionId, local: Option<SocketAddr>, remote: Option<SocketAddr> };
    /// A TCP connection becomes a backup, or is one no longer.
    0x0f SetBackup { tcp: ConnectionId, backup: bool };
    /// A Ping.
    0x10 Ping { tcp: ConnectionId };
    /// A TCP option for the peer.
    0x11 SendTcpOption { kind: u8, value: Text };
    /// A key update.
    0x12 UpdateKeys { now: Time };
    /// The policy that distributes data; `duplicates` is what it says of itself.
    0x13 SetScheduler { name: Name, duplicates: bool };
    /// A TCP connection is retired.
    0x14 RetireTcp { now: Time, tcp: ConnectionId };
    /// The session is drained.
    0x15 Drain { now: Time, limit: Duration };
    /// The session is closed.
    0x16 Close { now: Time, error: ErrorCode, reason: Text };
    /// Data is written, `len` bytes are offered.
    0x17 Write { id: StreamId, len: usize };
    /// The same without a copy.
    0x18 WriteChunk { id: StreamId, len: usize };
    /// How much could be written.
    0x19 Writable { id: StreamId };
    /// Writing ends.
    0x1a Finish { id: StreamId };
    /// A stream is reset.
    0x1b Reset { id: StreamId, error: ErrorCode };
    /// Data is read.
    0x1c Read { id: StreamId, max: usize };
    /// Reading ends.
    0x1d Stop { id: StreamId, error: ErrorCode };
    /// A stream is attached to a TCP connection.
    0x1e Attach { id: StreamId, tcp: ConnectionId };
    /// And detached.
    0x1f Detach { id: StreamId, tcp: ConnectionId };
    /// The priority of a stream.
    0x20 SetPriority { id: StreamId, priority: i8 };
    /// The class of a stream.
    0x21 SetClass { id: StreamId, class: StreamClass };
    /// A client joins a TCP connection.
    0x22 OpenTcp { now: Time, options: JoinOptions };
    /// A server gets a join; `resumption` is the length of the hello's records if it is a TLS resumption, plus one.
    0x23 HandleJoin { now: Time, session: SessionId, sequence: u32, hello: Hello, resumption: Option<u64> };
    /// The socket of a claim ended.
    0x24 HandleClaimEnd { claim: u32 };
    /// Bytes of a claim; `len` are in the buffer.
    0x25 HandleClaimBytes { now: Time, claim: u32, len: usize };
    /// A claim's socket has room.
    0x26 PollClaimTransmit { claim: u32 };
    /// The idle timeout of a plain session.
    0x27 SetPlainIdleTimeout { now: Time, timeout: Option<Duration> };
    /// The interval of keep-alives.
    0x28 SetKeepAlive { interval: Option<Duration> };
    /// The session is evicted.
    0x29 Evict { now: Time };
    /// The peer is asked for a TCP option.
    0x2a AskTcpOption { tcp: ConnectionId, kind: u8, value: Text };
    /// A request of the peer for a TCP option is answered, with the code of the frame.
    0x2b AnswerTcpOption { request: u32, outcome: u8 };

    /// What a call returned: a number.
    0x40 Returned { value: u64 };
    /// What a call returned: nothing.
    0x41 Nothing { };
    /// What a call returned: it would block.
    0x42 Blocked { };
    /// What a call returned: an error.
    0x43 Refused { error: Name };
    /// Data that was written, in a recording with data.
    0x44 Written { data: Name };
    /// An event for the driver; `about` is a TCP connection, a stream or a count.
    0x45 Reported { kind: u8, about: u64, detail: Name };
    /// The deadline before the call, if it has changed; `reason` is 0 if there is none.
    0x46 Deadline { at: Moment, reason: u8 };

    /// A record of the peer: the content type in its header, and the bytes behind that.
    0x50 Record { content_type: u8, len: usize };
    /// It decrypted, with the keys of this generation; `padding` is TLS's.
    0x51 Opened { generation: u32, content_type: u8, padding: usize, content: Content };
    /// It decrypted, but has no content type or is too long.
    0x52 OpenedInvalid { generation: u32 };
    /// What follows is no record: 1 is not TLS, 2 too long, 3 empty.
    0x53 BadHeader { error: u8 };
    /// What the answer to a join's hello is: 0 the hello, 1 without effect, 2 invalid, 3 an alert.
    0x54 JoinAnswer { kind: u8, alert: u8 };
    /// Whether the server asks for another hello of a join.
    0x55 RetryRequest { is_one: bool };
    /// Whether a record of a claim is a valid ChangeCipherSpec.
    0x56 ChangeCipherSpec { is_valid: bool };
    /// The name that joins show: 0 that of the session, 1 none, 2 another.
    0x57 JoinName { kind: u8, name: Name };
    /// The number of the server's instance, which its Session Parameters have.
    0x58 Instance { number: u64 };
    /// What a server without the session says behind its handshake: 0 nothing of its instance, 1 its instance, 2 what none is.
    0x59 Stranger { kind: u8, number: u64 };

    /// What the TLS library says of its handshake. Bits from the lowest: complete, TCPLS known, TCPLS, draft alone,
    /// resumed, resumes joins.
    0x60 TlsState { handshake: u32, bits: u8, alpn: Option<Name>, early: Option<Name> };
    /// The library took a record; 0, or the kind of the error.
    0x61 TlsHandled { error: u8, alert: u8 };
    /// The library wrote records: content type and length with header of each.
    0x62 TlsWrote { records: Vec<u16>, types: Vec<u8> };
    /// The library was asked to seal a record ahead of the end of the handshake, and did it or not.
    0x63 TlsSealed { done: bool, records: Vec<u16>, types: Vec<u8> };
    /// The library was asked for early data.
    0x64 TlsEarly { is_some: bool, content: Content };
    /// The handshake failed at its end.
    0x65 TlsFailed { error: u8, alert: u8 };
    /// The handshake is complete.
    0x66 TlsAgreed {
        bits: u8, offer: u8, application_protocol: Option<Name>, alpn: Option<Name>, server_name: Option<Name>,
        early_token: Option<Token>, certificates: Vec<usize>, early_data: u8, suite: u16, sealed: u64, opened: u64,
        seal_limit: u64, open_limit: u64
    };
    /// The library was asked for the next keys: 0 to seal, 1 to open; whether it has them.
    0x67 TlsKeys { direction: u8, done: bool };
    /// The library took a ticket or not.
    0x68 TlsTicket { done: bool };
    /// The library was asked for the handshake of a join.
    0x69 TlsJoin { done: bool };

    /// A record was built.
    0x70 Sent { tcp: ConnectionId, seq: RecordSeq, bytes: usize, kind: u8, content: Content };
    /// The scheduler was asked: 0 send, 1 wait, 2 duplicate.
    0x71 Scheduled { tcp: ConnectionId, choice: u8 };
    /// Another event of the trace.
    0x72 Traced { kind: u8, tcp: Option<u64> };
    /// A record of early data was built.
    0x73 EarlySent { tcp: ConnectionId, bytes: usize, content: Content };
}

/// Memory that the items of one entry may take, in bytes. That of a driver's longest buffer takes less.
const MAX_ENTRY: usize = 256 << 20;

/// Reads the items of an entry.
pub(super) fn items(entry: &[u8], clock: Time) -> Result<(Vec<Item>, Time), Malformed> {
    let mut from = Reader { get: super::format::Get::new(entry), clock };
    let (mut all, mut memory) = (Vec::new(), 0);
    while !from.get.is_empty() {
        let item = Item::get(&mut from)?;
        memory += size_of::<Item>() + item.content_len();
        if memory > MAX_ENTRY {
            return Err(Malformed("an entry would take more than 256 MiB of memory"));
        }
        all.push(item);
    }
    if all.is_empty() { Err(Malformed("it is empty")) } else { Ok((all, from.clock)) }
}

impl Item {
    /// The length of the content in it, for which a few bytes of a file may stand.
    fn content_len(&self) -> usize {
        match self {
            Self::Opened { content, .. }
            | Self::Sent { content, .. }
            | Self::EarlySent { content, .. }
            | Self::TlsEarly { content, .. } => content.0.len(),
            _ => 0,
        }
    }

    /// The time of a call that has one.
    pub(super) fn now(&self) -> Option<Time> {
        match self {
            Self::Client { now, .. }
            | Self::Server { now, .. }
            | Self::HandleBytes { now, .. }
            | Self::HandleTcpEnd { now, .. }
            | Self::HandlePathDown { now, .. }
            | Self::HandleTimeout { now }
            | Self::PollTransmit { now, .. }
            | Self::UpdateKeys { now }
            | Self::RetireTcp { now, .. }
            | Self::Drain { now, .. }
            | Self::Close { now, .. }
            | Self::OpenTcp { now, .. }
            | Self::HandleJoin { now, .. }
            | Self::HandleClaimBytes { now, .. }
            | Self::SetPlainIdleTimeout { now, .. }
            | Self::Evict { now } => Some(*now),
            _ => None,
        }
    }
}

/// The codes of items with a content that is written in place.
pub(super) const OPENED: u8 = 0x51;
pub(super) const SENT: u8 = 0x70;
pub(super) const EARLY_SENT: u8 = 0x73;

/// Writes an entry's length and the entry.
pub(super) fn put_entry(entry: &[u8], block: &mut Vec<u8>) {
    block.bytes(entry);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_bytes_of_a_file_take_no_more_than_the_limit() {
        // TlsEarly with 16,512 repeated bytes.
        let early = [0x64, 1, 0x80, 0x81, 0x01, 0x82, 0x84, 0x04, 0xff];
        assert!(items(&early, Time::ZERO).is_ok());
        assert!(items(&early.repeat(MAX_ENTRY / 16_512 + 1), Time::ZERO).is_err());
    }
}
