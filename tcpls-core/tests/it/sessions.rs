//! [`Sessions`]: sockets are routed to their sessions, at both endpoints, and are discarded.

use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use tcpls_core::sessions::{SessionKey, Sessions, SocketId};
use tcpls_core::{
    Config, Connection, ConnectionId, Endpoint, EndpointConfig, Event, OpenTcpError, StreamId, TcpEnd, TcpEvent, Time,
};

use crate::support::*;

const ROOM: usize = 16 << 10;

/// One end of the world: its sessions, and what happened to them.
struct End {
    sessions: Sessions,
    events: Vec<(SessionKey, Event)>,
}

/// A TCP connection between two sockets, without delay.
struct Wire {
    /// The client's and the server's.
    ends: [SocketId; 2],
    /// Neither end receives anything while this is false.
    is_up: bool,
    /// Which of them has shut down its write side.
    shut: [bool; 2],
}

/// Clients and a server, each with all its sessions in one [`Sessions`].
struct World {
    now: Time,
    ends: [End; 2],
    wires: Vec<Wire>,
    accepts: bool,
}

impl World {
    fn new() -> Self {
        let endpoint = Endpoint::new(EndpointConfig::default(), [1; 32], seed(2));
        let ends = [Sessions::new(), Sessions::with_endpoint(endpoint)];
        let ends = ends.map(|sessions| End { sessions, events: Vec::new() });
        Self { now: Time::ZERO, ends, wires: Vec::new(), accepts: true }
    }

    fn client(&mut self) -> &mut Sessions {
        &mut self.ends[0].sessions
    }

    fn server(&mut self) -> &mut Sessions {
        &mut self.ends[1].sessions
    }

    fn wire(&mut self, socket: SocketId) -> usize {
        let now = self.now;
        let accepted = self.server().handle_accepted(now);
        self.wires.push(Wire { ends: [socket, accepted], is_up: true, shut: [false; 2] });
        self.wires.len() - 1
    }

    /// A client begins a session.
    fn connect(&mut self) -> SessionKey {
        let number = self.wires.len() as u64;
        let handshake = Tls::default().start_client(number);
        let conn = Connection::client(self.now, Arc::new(Config::default()), handshake, seed(10 + number));
        let (key, socket) = self.client().connect(conn);
        self.wire(socket);
        key
    }

    /// A client joins a TCP connection to its session.
    fn join(&mut self, key: SessionKey) -> usize {
        let now = self.now;
        let socket = self.client().join(now, key, Default::default()).unwrap();
        self.wire(socket)
    }

    /// Hands `bytes` to an end as if a socket had received them.
    fn deliver(&mut self, end: usize, socket: SocketId, bytes: &[u8]) {
        let (now, accepts) = (self.now, self.accepts);
        let sessions = &mut self.ends[end].sessions;
        sessions.input(socket).extend_from_slice(bytes);
        if let Some(new) = sessions.handle_bytes(now, socket) {
            if accepts {
                let tls = Tls::default().start_server(20 + self.wires.len() as u64);
                let conn = Connection::server(now, Arc::new(Config::default()), tls, new, seed(3));
                assert!(sessions.accept(now, socket, conn).is_some());
            } else {
                sessions.refuse(socket);
            }
        }
    }

    fn take_events(&mut self) {
        for end in &mut self.ends {
            while let Some(event) = end.sessions.poll_event(self.now) {
                end.events.push(event);
            }
        }
    }

    /// Moves bytes until none moves.
    fn drive(&mut self) {
        loop {
            self.take_events();
            let mut moved = 0;
            for at in 0..self.wires.len() {
                let Wire { ends, is_up, shut } = self.wires[at];
                for end in if is_up { 0..2 } else { 0..0 } {
                    let mut out = Vec::new();
                    moved += self.ends[end].sessions.poll_transmit(self.now, ends[end], ROOM, &mut out);
                    self.deliver(1 - end, ends[1 - end], &out);
                    if !shut[end] && !self.ends[end].sessions.is_needed(ends[end]) {
                        self.wires[at].shut[end] = true;
                        moved += 1;
                        self.ends[1 - end].sessions.handle_end(self.now, ends[1 - end], TcpEnd::Fin);
                    }
                }
            }
            if moved == 0 {
                return;
            }
        }
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
        self.ends.iter_mut().for_each(|end| end.sessions.handle_timeout(self.now));
        self.drive();
    }

    /// Resets a TCP connection.
    fn cut(&mut self, wire: usize) {
        self.wires[wire].is_up = false;
        for end in 0..2 {
            let socket = self.wires[wire].ends[end];
            self.ends[end].sessions.handle_end(self.now, socket, TcpEnd::Reset);
        }
    }

    fn events(&self, end: usize) -> impl Iterator<Item = &Event> {
        self.ends[end].events.iter().map(|(_, event)| event)
    }

    fn are_needed(&self, wire: usize) -> [bool; 2] {
        [0, 1].map(|end| self.ends[end].sessions.is_needed(self.wires[wire].ends[end]))
    }

    /// Writes `data` on a new stream of a client's session.
    fn send(&mut self, key: SessionKey, data: &[u8]) -> StreamId {
        let conn = self.client().session(key).unwrap();
        let id = conn.open_stream().unwrap();
        assert_eq!(conn.stream(id).write(data), Ok(data.len()));
        conn.stream(id).finish().unwrap();
        id
    }

    /// All that a session of the server has received on a stream.
    fn received(&mut self, key: SessionKey, id: StreamId) -> Vec<u8> {
        let conn = self.server().session(key).unwrap();
        let mut all = Vec::new();
        while let Ok(Some(data)) = conn.stream(id).read(usize::MAX) {
            all.extend_from_slice(&data);
        }
        all
    }
}

#[test]
fn sockets_are_routed_to_sessions_and_discarded() {
    let mut world = World::new();
    let clients = [world.connect(), world.connect()];
    world.drive();
    let wires = clients.map(|key| world.join(key));
    world.drive();
    let servers: Vec<SessionKey> = world.server().keys().collect();
    assert_eq!(servers.len(), 2);
    for (at, wire) in wires.into_iter().enumerate() {
        let Wire { ends: [client, server], .. } = world.wires[wire];
        let (key, tcp) = world.client().tcp(client).unwrap();
        assert_eq!((key, world.server().tcp(server)), (clients[at], Some((servers[at], tcp))));
        assert_eq!(world.server().socket(servers[at], tcp), Some(server));
    }

    world.cut(0);
    let streams = clients.map(|key| world.send(key, &bytes(20_000)));
    world.drive();
    assert_eq!(world.are_needed(0), [false, false], "it was reset");
    assert_eq!(world.are_needed(wires[0]), [true, true]);
    for (key, stream) in servers.iter().zip(streams) {
        assert_eq!(world.received(*key, stream), bytes(20_000));
    }

    let now = world.now;
    world.client().session(clients[0]).unwrap().close(now, Default::default(), b"");
    world.drive();
    world.pass(Duration::from_millis(100)); // acknowledgments may be delayed
    let closed = |end: &End| -> Vec<SessionKey> {
        let closed = end.events.iter().filter(|(_, event)| matches!(event, Event::Closed { .. }));
        closed.map(|(key, _)| *key).collect()
    };
    assert_eq!(closed(&world.ends[0]), [clients[0]]);
    assert_eq!(closed(&world.ends[1]), [servers[0]]);
    assert_eq!(world.are_needed(wires[0]), [false, false], "the session is closed");
    assert_eq!(world.are_needed(wires[1]), [true, true], "it belongs to the other session");
}

#[test]
fn final_bytes_of_a_discarded_tcp_connection_are_returned() {
    let mut world = World::new();
    let key = world.connect();
    world.drive();
    let Wire { ends: [socket, _], .. } = world.wires[0];
    world.wires[0].is_up = false;
    world.deliver(0, socket, &[23, 3, 3, 0, 20, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9]);
    world.take_events();
    let discarded = TcpEvent::Discarded { tcp: ConnectionId::FIRST };
    assert!(world.events(0).any(|event| *event == Event::Tcp(discarded)));
    assert!(world.client().is_needed(socket), "its alert is not written");
    let (now, mut last) = (world.now, Vec::new());
    assert!(world.client().poll_transmit(now, socket, 4, &mut last) == 4, "no more than there is room");
    world.client().poll_transmit(now, socket, ROOM, &mut last);
    assert!(last.len() > 20, "a protected alert");
    assert!(!world.client().is_needed(socket));
    assert_eq!(world.client().socket(key, ConnectionId::FIRST), None);
}

#[test]
fn join_before_the_end_of_the_handshake_waits_for_it() {
    let mut world = World::new();
    let key = world.connect();
    let Wire { ends: [client, server], .. } = world.wires[0];
    let (now, mut out) = (world.now, Vec::new());
    world.client().poll_transmit(now, client, ROOM, &mut out);
    world.deliver(1, server, &out);
    out.clear();
    world.server().poll_transmit(now, server, ROOM, &mut out);
    world.deliver(0, client, &out);
    world.wires[0].is_up = false; // the client's Finished is late
    world.take_events();
    let wire = world.join(key);
    world.drive();
    let claimed = world.wires[wire].ends[1];
    assert!(world.server().is_needed(claimed));
    assert_eq!(world.server().tcp(claimed), None, "the handshake is not over");
    world.wires[0].is_up = true;
    world.drive();
    assert!(world.server().tcp(claimed).is_some(), "what had come before is judged");
}

#[test]
fn socket_of_a_claim_gets_no_more_bytes_than_it_has_room_for() {
    let mut world = World::new();
    let key = world.connect();
    world.drive();
    let wire = world.join(key);
    let ([client, server], now) = (world.wires[wire].ends, world.now);
    let mut out = Vec::new();
    world.client().poll_transmit(now, client, ROOM, &mut out);
    world.deliver(1, server, &out);
    assert_eq!(world.server().tcp(server), None, "the claim waits for its answer to be answered");
    for room in [0, 1, 40] {
        out.clear();
        assert_eq!(world.server().poll_transmit(now, server, room, &mut out), room);
        assert_eq!(out.len(), room);
        world.deliver(0, client, &out);
    }
    world.drive();
    assert!(world.server().tcp(server).is_some(), "the rest came in order");
}

#[test]
fn sockets_without_a_session_get_an_alert_and_are_discarded() {
    let mut world = World::new();
    let key = world.connect();
    world.drive();
    let servers: Vec<SessionKey> = world.server().keys().collect();
    assert!(world.server().remove_session(servers[0]).is_some());
    assert_eq!(world.are_needed(0), [true, false]);
    let joining = world.join(key);
    world.accepts = false;
    world.connect();
    let now = world.now;
    let (garbage, silent) = (world.server().handle_accepted(now), world.server().handle_accepted(now));
    world.deliver(1, garbage, b"GET / HTTP/1.1\r\n\r\n");
    world.now = world.server().poll_timeout().unwrap() + Duration::from_secs(1);
    let refused = [world.wires[joining].ends[1], world.wires[2].ends[1], garbage, silent];
    for wire in [joining, 2] {
        let (now, mut out) = (world.now, Vec::new());
        let [client, server] = world.wires[wire].ends;
        world.client().poll_transmit(now, client, ROOM, &mut out);
        world.deliver(1, server, &out);
    }
    let now = world.now;
    world.server().handle_timeout(now);
    for socket in refused {
        let mut out = Vec::new();
        world.server().poll_transmit(now, socket, ROOM, &mut out);
        assert_eq!(out.first(), Some(&21), "{socket}: an alert");
        assert!(!world.server().is_needed(socket), "{socket}");
        world.server().remove(now, socket);
    }
    assert_eq!(world.server().keys().count(), 0);
    assert_eq!(world.server().poll_timeout(), None, "nothing is left");
}

#[test]
fn deadlines_of_all_sessions_are_reported_and_kept() {
    let mut world = World::new();
    let keys = [world.connect(), world.connect()];
    world.drive();
    world.wires.iter_mut().for_each(|wire| wire.is_up = false);
    for _ in 0..200 {
        let Some(deadline) = world.client().poll_timeout() else { break };
        assert!(deadline > world.now, "what was due has been done");
        world.now = deadline;
        world.client().handle_timeout(deadline);
        world.take_events();
    }
    let closed: Vec<&Event> = world.events(0).filter(|event| matches!(event, Event::Closed { .. })).collect();
    assert_eq!(closed.len(), 2, "{:?}", world.ends[0].events);
    let now = world.now;
    assert_eq!(world.client().join(now, keys[0], Default::default()), Err(OpenTcpError::Closed));
}

#[test]
fn unknown_sockets_and_sessions_are_ignored() {
    let mut world = World::new();
    let key = world.connect();
    world.drive();
    let (now, socket) = (world.now, world.wires[0].ends[0]);
    world.client().remove(now, socket);
    world.client().remove_session(key);
    let sessions = world.client();
    sessions.input(socket).extend_from_slice(b"lost");
    assert!(sessions.input(socket).is_empty());
    assert!(sessions.handle_bytes(now, socket).is_none());
    sessions.handle_end(now, socket, TcpEnd::Fin);
    sessions.remove(now, socket);
    sessions.refuse(socket);
    assert_eq!(sessions.poll_transmit(now, socket, ROOM, &mut Vec::new()), 0);
    assert!(!sessions.wants_read(socket) && !sessions.is_needed(socket));
    assert!(sessions.session(key).is_none() && sessions.remove_session(key).is_none());
    assert_eq!(sessions.poll_event(now), None);
    assert_eq!(sessions.join(now, key, Default::default()), Err(OpenTcpError::Closed));
    let accepted = sessions.handle_accepted(now);
    assert!(!sessions.is_needed(accepted), "a client accepts nothing");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    /// Calls in any order, for sockets of any kind, with bytes that are the peer's or not.
    #[test]
    fn any_calls_in_any_order_leave_a_session_that_works(
        calls in prop::collection::vec((0..9u8, 0..6usize, prop::collection::vec(any::<u8>(), 0..40)), 0..60),
    ) {
        let mut world = World::new();
        let key = world.connect();
        world.drive();
        let kept = world.join(key); // no call concerns it
        world.drive();
        let mut sockets = vec![world.wires[0].ends[1]];
        for (call, at, bytes) in calls {
            let (now, socket) = (world.now, sockets[at % sockets.len()]);
            match call {
                0 => sockets.push(world.server().handle_accepted(now)),
                1 => world.deliver(1, socket, &bytes),
                2 => world.server().handle_end(now, socket, TcpEnd::Fin),
                3 => world.server().remove(now, socket),
                4 => _ = world.server().poll_transmit(now, socket, bytes.len(), &mut Vec::new()),
                5 => world.server().refuse(socket),
                6 => world.server().handle_timeout(now),
                7 if world.client().session(key).unwrap().tokens() > 0 => {
                    let joining = world.client().join(now, key, Default::default()).unwrap();
                    let mut hello = Vec::new();
                    world.client().poll_transmit(now, joining, ROOM, &mut hello);
                    sockets.push(world.server().handle_accepted(now));
                    world.deliver(1, *sockets.last().unwrap(), &hello);
                }
                _ => world.take_events(),
            }
        }
        let stream = world.send(key, b"still here");
        world.wires[0].is_up = false;
        world.drive();
        prop_assert_eq!(world.are_needed(kept), [true, true]);
        let server = world.server().keys().next().unwrap();
        prop_assert_eq!(world.received(server, stream), b"still here");
    }
}
