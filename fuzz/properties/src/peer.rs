//! A scripted server, and a client under test: the script says which frames come, on which of several TCP connections, and
//! sees the frames that the client sends. The keys protect nothing. Used by `reassembly` and `acks`; `bytes` seals with it.

use std::sync::Arc;

use bytes::BytesMut;
use tcpls_core::connection::JoinOptions;
use tcpls_core::crypto::TAG_LEN;
use tcpls_core::wire::frame::{ConnectionResetReason, Frame, Frames, NewTokenWide, Parameters, SessionParameters};
use tcpls_core::wire::ids::Token;
use tcpls_core::{Config, Connection, ConnectionId, Event, Seed, Side, Time};

use tcpls_core::testing::NullHandshake;

/// Content types of records (RFC 8446, B.1).
const HANDSHAKE: u8 = 22;
const DATA: u8 = 23;
const HEADER_LEN: usize = 5;
/// More room than anything needs.
pub(crate) const ROOM: usize = 1 << 20;

/// A record that lenient null keys open: `content` of type `content_type`, cut to what a record can hold.
pub(crate) fn protect(content_type: u8, content: &[u8]) -> Vec<u8> {
    let content = &content[..content.len().min(1 << 14)];
    let len = content.len() + 1 + TAG_LEN;
    let mut record = vec![DATA, 3, 3, (len >> 8) as u8, len as u8];
    record.extend_from_slice(content);
    record.push(content_type);
    record.extend_from_slice(&[0; TAG_LEN]);
    record
}

/// A protected record of the client's.
pub(crate) struct Record {
    /// Bytes on the wire.
    pub(crate) len: usize,
    content_type: u8,
    content: Vec<u8>,
}

impl Record {
    /// Its frames, the last one first.
    pub(crate) fn frames(&self) -> impl Iterator<Item = Frame<'_>> {
        let content = if self.content_type == DATA { &self.content[..] } else { &[] };
        Frames::new(content).map(|frame| frame.expect("it sends good frames"))
    }
}

/// See the description of this file.
pub(crate) struct Peer {
    pub(crate) conn: Connection,
    pub(crate) now: Time,
    next_token: u32,
}

impl Peer {
    /// A session that is established; the client has the server's parameters and a token.
    pub(crate) fn new(config: Config, parameters: &Parameters) -> Self {
        let now = Time::from_millis(1);
        let tls = Box::new(NullHandshake::lenient(Side::Client));
        let conn = Connection::client(now, Arc::new(config), tls, Seed([3; 32]));
        let mut peer = Self { conn, now, next_token: 1 };
        peer.conn.handle_bytes(now, ConnectionId::FIRST, &mut BytesMut::from(&[HANDSHAKE, 3, 3, 0, 1, 0][..]));
        let mut entries = Vec::new();
        parameters.encode_entries(&mut entries);
        peer.send(ConnectionId::FIRST, &[Frame::SessionParameters(SessionParameters { entries: &entries })]);
        peer.give_token(ConnectionId::FIRST);
        peer
    }

    /// Sends one record, with frames in the order of the wire: the last one acts first.
    pub(crate) fn send(&mut self, tcp: ConnectionId, frames: &[Frame<'_>]) {
        let mut content = Vec::new();
        frames.iter().for_each(|frame| frame.encode(&mut content));
        let mut bytes = BytesMut::from(&protect(DATA, &content)[..]);
        self.conn.handle_bytes(self.now, tcp, &mut bytes);
        assert!(bytes.is_empty(), "a whole record is taken whole");
    }

    /// What the client puts into `room` bytes of TCP connection `tcp`: its protected records.
    pub(crate) fn receive(&mut self, tcp: ConnectionId, room: usize) -> Vec<Record> {
        let mut out = Vec::new();
        let written = self.conn.poll_transmit(self.now, tcp, room, &mut out);
        assert!(written == out.len() && written <= room);
        let mut records = Vec::new();
        let mut rest = &out[..];
        while let Some((header, after)) = rest.split_first_chunk::<HEADER_LEN>() {
            let len = usize::from(u16::from_be_bytes([header[3], header[4]]));
            let (body, after) = after.split_at(len);
            if header[0] == DATA {
                let (content_type, content) = body[..len - TAG_LEN].split_last().expect("it has a content type");
                let (content_type, content) = (*content_type, content.to_vec());
                records.push(Record { len: HEADER_LEN + len, content_type, content });
            }
            rest = after;
        }
        assert!(rest.is_empty(), "records are written whole");
        records
    }

    /// One more TCP connection joins. With its first record comes another token: the client always has one.
    pub(crate) fn join(&mut self) -> ConnectionId {
        let tcp = self.conn.open_tcp_with(self.now, JoinOptions::default()).expect("there is a token");
        let mut hello = Vec::new();
        self.conn.poll_transmit(self.now, tcp, ROOM, &mut hello);
        assert_eq!(hello.first(), Some(&HANDSHAKE), "nothing is sealed before the answer");
        self.give_token(tcp);
        tcp
    }

    fn give_token(&mut self, on: ConnectionId) {
        let (sequence, token) = (self.next_token, Token([self.next_token as u8; 32]));
        self.next_token += 1;
        self.send(on, &[Frame::NewTokenWide(NewTokenWide { sequence, token })]);
    }

    /// Says, on `on`, that TCP connection `named` is lost.
    pub(crate) fn reset(&mut self, on: ConnectionId, named: ConnectionId) {
        self.send(on, &[Frame::ConnectionResetReason(ConnectionResetReason { tcp: named, reason: 1 })]);
    }

    /// What the client tells its application.
    pub(crate) fn events(&mut self) -> Vec<Event> {
        core::iter::from_fn(|| self.conn.poll_event()).collect()
    }

    /// The client's TCP connections.
    pub(crate) fn live(&self) -> Vec<ConnectionId> {
        self.conn.tcp_connections().collect()
    }

    /// A session that is over asks for nothing and holds nothing for sending.
    pub(crate) fn check_closed(&mut self) {
        let events = self.events();
        assert!(matches!(events.last(), Some(Event::Closed { .. })), "Closed comes last: {events:?}");
        assert!(self.conn.poll_timeout().is_none() && self.conn.poll_event().is_none() && self.live().is_empty());
        let stats = self.conn.stats();
        assert!(stats.bytes_to_send == 0 && stats.tcp.is_empty());
    }
}
