//! A scripted server of the test kit and a client under test, with null crypto: the script determines the frames on
//! each of several TCP connections, and sees the client's frames. Used by `reassembly` and `acks`.

use std::ops::{Deref, DerefMut};

use tcpls_core::connection::JoinOptions;
use tcpls_core::testing::peer::joins::answer_bytes;
use tcpls_core::testing::peer::{FIRST, Record, entries, frames};
use tcpls_core::testing::{self, NullHandshake};
use tcpls_core::wire::frame::{Frame, NewTokenWide, Parameters};
use tcpls_core::wire::ids::Token;
use tcpls_core::{Config, ConnectionId, Event, Side};

/// More room than anything needs.
pub(crate) const ROOM: usize = 1 << 20;

/// See the description of this file.
pub(crate) struct Peer {
    peer: testing::Peer,
    next_token: u32,
}

impl Deref for Peer {
    type Target = testing::Peer;

    fn deref(&self) -> &testing::Peer {
        &self.peer
    }
}

impl DerefMut for Peer {
    fn deref_mut(&mut self) -> &mut testing::Peer {
        &mut self.peer
    }
}

impl Peer {
    /// A session that is established; the client has the server's parameters and a token.
    pub(crate) fn new(config: Config, parameters: &Parameters) -> Self {
        let tls = |side| Box::new(NullHandshake::new(side, [3; 32]));
        let peer = testing::Peer::with_handshakes(Side::Server, config, (tls(Side::Client), tls(Side::Server)));
        let mut peer = Self { peer, next_token: 1 };
        peer.send(FIRST, &[frames::parameters(&entries(parameters))]);
        peer.give_token(FIRST);
        peer
    }

    /// The protected records that the client puts into `room` bytes of TCP connection `tcp`.
    pub(crate) fn receive(&mut self, tcp: ConnectionId, room: usize) -> Vec<Record> {
        let records = self.recv_within(tcp, room);
        records.into_iter().filter(|record| record.number.is_some()).collect()
    }

    /// One more TCP connection joins. With its first record comes another token: the client always has one.
    pub(crate) fn join(&mut self) -> ConnectionId {
        let now = self.now;
        let tcp = self.conn.open_tcp_with(now, JoinOptions::default()).expect("there is a token");
        let (hello, flight) = self.take_hello(tcp);
        assert_eq!(flight, [], "nothing is sealed before the answer");
        let answer = answer_bytes(&self.answer(&hello));
        self.send_bytes(tcp, &answer);
        self.give_token(tcp);
        tcp
    }

    fn give_token(&mut self, on: ConnectionId) {
        let (sequence, token) = (self.next_token, Token([self.next_token as u8; 32]));
        self.next_token += 1;
        self.send(on, &[Frame::NewTokenWide(NewTokenWide { sequence, token })]);
    }

    /// Reports, on `on`, that TCP connection `named` is lost.
    pub(crate) fn reset(&mut self, on: ConnectionId, named: ConnectionId) {
        self.send(on, &[frames::connection_reset_reason(named, 1)]);
    }

    /// Returns the client's events.
    pub(crate) fn events(&mut self) -> Vec<Event> {
        self.take_events()
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
