//! A driver on an event loop of one's own: readiness from `mio`, one thread, no async runtime. Both ends of a session run in it: a
//! download over two TCP connections, of which one is cut on the way.
//!
//! It follows `docs/driving.md`: report what happened, take the events, fill every writable socket.
//!
//! ```sh
//! cargo run -p tcpls-core --example poll_loop
//! ```

#![allow(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "a driver has the clock and the random numbers"
)]

use std::collections::BTreeMap;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};
use ring::rand::{SecureRandom, SystemRandom};
use tcpls_core::crypto::rustls::{RustlsClient, RustlsServer};
use tcpls_core::{
    Claim, ClaimId, Config, Connection, ConnectionId, Endpoint, EndpointConfig, Event, Incoming, IncomingId, Seed,
    Side, StreamId, TcpEnd, TcpEvent, Time,
};

/// Bytes that the client downloads.
const SIZE: usize = 16 << 20;
/// Offered to a session at once: what is taken can't be moved to a faster path any more.
const ROOM: usize = 64 << 10;
/// The session of the client; those of the server follow.
const CLIENT: usize = 0;
const LISTENER: Token = Token(0);

/// What a socket is to the protocol.
#[derive(Clone, Copy)]
enum Role {
    /// Client: TCP is connecting, and is to join the session then.
    Dialled,
    /// Server: its first bytes have not come.
    Incoming(IncomingId),
    /// Server: it shows a token of this session.
    Claim(usize, ClaimId),
    /// A TCP connection of this session.
    Tcp(usize, ConnectionId),
    /// Let go: what is left goes out, then the peer's end is waited for.
    Leaving,
}

struct Socket {
    stream: TcpStream,
    role: Role,
    readable: bool,
    writable: bool,
    /// Bytes of records that are not whole yet.
    received: BytesMut,
    unsent: Vec<u8>,
}

struct Driver {
    poll: Poll,
    started: Instant,
    listener: TcpListener,
    address: SocketAddr,
    endpoint: Endpoint,
    tls: RustlsServer,
    sessions: Vec<Connection>,
    sockets: BTreeMap<Token, Socket>,
    next: usize,
    // The applications: what is downloaded, and what the server has written of it.
    stream: Option<StreamId>,
    written: usize,
    received: usize,
    is_cut: bool,
}

impl Driver {
    fn new() -> io::Result<Self> {
        let (client, tls) = tls();
        let mut listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0)))?;
        let (poll, address) = (Poll::new()?, listener.local_addr()?);
        poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
        let name = "localhost".try_into().expect("it is a name");
        let handshake = client.handshake(name).expect("the configuration works");
        let session = Connection::client(Time::ZERO, Arc::new(Config::default()), handshake, Seed(random()));
        let mut driver = Self {
            poll,
            started: Instant::now(),
            listener,
            address,
            endpoint: Endpoint::new(EndpointConfig::default(), random(), Seed(random())),
            tls,
            sessions: vec![session],
            sockets: BTreeMap::new(),
            next: 1,
            stream: None,
            written: 0,
            received: 0,
            is_cut: false,
        };
        driver.dial(Role::Tcp(CLIENT, ConnectionId::FIRST))?;
        Ok(driver)
    }

    fn now(&self) -> Time {
        Time::ZERO + self.started.elapsed()
    }

    /// Runs until both ends of the session are closed.
    fn run(&mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(64);
        while self.sessions.iter().any(|conn| conn.close_reason().is_none()) {
            let deadlines = self.sessions.iter().map(Connection::poll_timeout).chain([self.endpoint.poll_timeout()]);
            let timeout = deadlines.flatten().min().map(|at| at.saturating_since(self.now()));
            // A moment longer, because mio rounds down to milliseconds.
            self.poll.poll(&mut events, timeout.map(|timeout| timeout + Duration::from_millis(1)))?;
            for event in &events {
                if let Some(socket) = self.sockets.get_mut(&event.token()) {
                    socket.readable |= event.is_readable();
                    socket.writable |= event.is_writable();
                }
            }
            self.accept()?;
            let now = self.now();
            self.endpoint.handle_timeout(now);
            self.sessions.iter_mut().for_each(|conn| conn.handle_timeout(now));
            while self.turn()? {}
        }
        Ok(())
    }

    /// The three steps, once. Whether any byte moved: it may be another socket's turn then.
    fn turn(&mut self) -> io::Result<bool> {
        let tokens: Vec<Token> = self.sockets.keys().copied().collect();
        let mut moved = false;
        for token in &tokens {
            moved |= self.read(*token);
        }
        self.settle_roles()?;
        for session in 0..self.sessions.len() {
            self.take_events(session)?;
            self.run_application(session);
        }
        for token in tokens {
            moved |= self.write(token);
        }
        Ok(moved)
    }

    fn add(&mut self, mut stream: TcpStream, role: Role) -> io::Result<()> {
        let token = Token(self.next);
        self.next += 1;
        stream.set_nodelay(true).or_else(|error| if stream.peer_addr().is_err() { Ok(()) } else { Err(error) })?;
        self.poll.registry().register(&mut stream, token, Interest::READABLE | Interest::WRITABLE)?;
        let (received, unsent) = (BytesMut::new(), Vec::new());
        self.sockets.insert(token, Socket { stream, role, readable: false, writable: false, received, unsent });
        Ok(())
    }

    fn dial(&mut self, role: Role) -> io::Result<()> {
        self.add(TcpStream::connect(self.address)?, role)
    }

    fn accept(&mut self) -> io::Result<()> {
        loop {
            match self.listener.accept() {
                Ok((stream, _)) => {
                    let now = self.now();
                    let incoming = self.endpoint.handle_accepted(now);
                    self.add(stream, Role::Incoming(incoming))?;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }

    // 1. Report what happened.

    /// Reads once; whether there was anything.
    fn read(&mut self, token: Token) -> bool {
        let now = self.now();
        let Some(socket) = self.sockets.get_mut(&token).filter(|socket| socket.readable) else { return false };
        if let Role::Tcp(session, tcp) = socket.role
            && !self.sessions[session].wants_read(tcp)
        {
            return false; // the application is behind
        }
        let mut block = [0; 64 << 10];
        match socket.stream.read(&mut block) {
            Ok(0) => self.ended(token, TcpEnd::Fin),
            Ok(len) => {
                socket.received.extend_from_slice(&block[..len]);
                match socket.role {
                    Role::Tcp(session, tcp) => self.sessions[session].handle_bytes(now, tcp, &mut socket.received),
                    Role::Claim(session, claim) => {
                        self.sessions[session].handle_claim_bytes(now, claim, &mut socket.received);
                    }
                    Role::Incoming(incoming) => {
                        let known = self.endpoint.handle_bytes(now, incoming, &mut socket.received);
                        known.into_iter().for_each(|known| self.recognize(token, known));
                    }
                    Role::Dialled | Role::Leaving => socket.received.clear(),
                }
                return true;
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => socket.readable = false,
            Err(error) if error.kind() == ErrorKind::ConnectionReset => self.ended(token, TcpEnd::Reset),
            Err(error) => self.ended(token, TcpEnd::Error(error.kind())),
        }
        false
    }

    /// The socket gives nothing more. That of a TCP connection is kept until the session discards it: what is written may still
    /// go out.
    fn ended(&mut self, token: Token, how: TcpEnd) {
        let now = self.now();
        let Some(socket) = self.sockets.get_mut(&token) else { return };
        socket.readable = false;
        match socket.role {
            Role::Tcp(session, tcp) => return self.sessions[session].handle_tcp_end(now, tcp, how),
            Role::Claim(session, claim) => self.sessions[session].handle_claim_end(claim),
            Role::Incoming(incoming) => self.endpoint.handle_end(incoming),
            Role::Dialled | Role::Leaving => {}
        }
        self.sockets.remove(&token);
    }

    /// Server: the first bytes of a socket say what it is.
    fn recognize(&mut self, token: Token, known: Incoming) {
        let now = self.now();
        let Some(socket) = self.sockets.get_mut(&token) else { return };
        match known {
            Incoming::New(session) => {
                let handshake = self.tls.handshake().expect("the configuration works");
                let config = Arc::new(Config::default());
                let mut conn = Connection::server(now, config, handshake, session, Seed(random()));
                conn.handle_bytes(now, ConnectionId::FIRST, &mut socket.received);
                socket.role = Role::Tcp(self.sessions.len(), ConnectionId::FIRST);
                self.sessions.push(conn);
            }
            Incoming::Join(join) => {
                let is_named = |conn: &Connection| conn.session_id() == Some(join.session());
                match self.sessions.iter().position(is_named) {
                    Some(session) => {
                        let claim = self.sessions[session].handle_join(now, join);
                        self.sessions[session].handle_claim_bytes(now, claim, &mut socket.received);
                        socket.role = Role::Claim(session, claim);
                    }
                    None => (socket.role, socket.unsent) = (Role::Leaving, Endpoint::refuse_join(&join)),
                }
            }
            Incoming::Refused { alert } => (socket.role, socket.unsent) = (Role::Leaving, alert),
        }
    }

    /// What calls on sessions have decided about sockets that are not TCP connections of theirs yet.
    fn settle_roles(&mut self) -> io::Result<()> {
        let now = self.now();
        while let Some((refused, alert)) = self.endpoint.poll_refused() {
            let is_it = |socket: &&mut Socket| matches!(socket.role, Role::Incoming(id) if id == refused);
            if let Some(socket) = self.sockets.values_mut().find(is_it) {
                (socket.role, socket.unsent) = (Role::Leaving, alert.clone());
            }
        }
        for socket in self.sockets.values_mut() {
            match socket.role {
                Role::Claim(session, claim) => {
                    self.sessions[session].poll_claim_transmit(claim, &mut socket.unsent);
                    match self.sessions[session].claim(claim) {
                        Claim::Waiting => {}
                        Claim::Authenticated(tcp) => socket.role = Role::Tcp(session, tcp),
                        Claim::Refused => socket.role = Role::Leaving,
                    }
                }
                // A token is spent only once TCP is connected. A dial that failed ends with an error from `read`.
                Role::Dialled if socket.writable && socket.stream.peer_addr().is_ok() => {
                    if let Ok(tcp) = self.sessions[CLIENT].open_tcp(now) {
                        socket.role = Role::Tcp(CLIENT, tcp);
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }

    // 2. Take the events.

    fn take_events(&mut self, session: usize) -> io::Result<()> {
        while let Some(event) = self.sessions[session].poll_event() {
            let side = self.sessions[session].side();
            match event {
                Event::Established(_) if side == Side::Client => {
                    let id = self.sessions[session].open_stream().expect("the peer allows one");
                    self.sessions[session].stream(id).write(b"all of it").expect("it is open");
                    self.stream = Some(id);
                    self.dial(Role::Dialled)?; // a second one
                }
                Event::Tcp(TcpEvent::Joined { tcp }) => println!("{side:?}: TCP connection {} joined", tcp.0),
                Event::Tcp(TcpEvent::Lost { tcp, fault }) => {
                    println!("{side:?}: TCP connection {} lost: {fault}", tcp.0)
                }
                Event::Tcp(TcpEvent::Discarded { tcp }) => self.discard(session, tcp),
                Event::Stranded { .. } if side == Side::Client => self.dial(Role::Dialled)?,
                Event::Closed { reason } => println!("{side:?}: {reason}"),
                _ => {}
            }
        }
        Ok(())
    }

    /// The session has no more use for a socket, but for its final bytes.
    fn discard(&mut self, session: usize, tcp: ConnectionId) {
        let now = self.now();
        let is_it = |socket: &&mut Socket| matches!(socket.role, Role::Tcp(of, id) if (of, id) == (session, tcp));
        if let Some(socket) = self.sockets.values_mut().find(is_it) {
            self.sessions[session].poll_transmit(now, tcp, ROOM, &mut socket.unsent);
            socket.role = Role::Leaving;
        }
    }

    /// The client opens a stream, the server answers it with [`SIZE`] bytes, the client closes once it has them.
    fn run_application(&mut self, session: usize) {
        let now = self.now();
        let conn = &mut self.sessions[session];
        if conn.side() == Side::Server {
            let Some(id) = self.stream.filter(|_| conn.accept_stream().is_some() || self.written > 0) else { return };
            while let Ok(taken @ 1..) = conn.stream(id).write(&[7; ROOM][..ROOM.min(SIZE - self.written)]) {
                self.written += taken;
            }
            if self.written == SIZE {
                _ = conn.stream(id).finish(); // again and again is harmless
            }
            return;
        }
        let Some(id) = self.stream else { return };
        while let Ok(Some(data)) = conn.stream(id).read(usize::MAX) {
            self.received += data.len();
        }
        if self.received == SIZE {
            conn.close(now, Default::default(), b"");
        }
        if self.received > SIZE / 2 && conn.tcp_connections().count() == 2 && !self.is_cut {
            self.is_cut = true;
            let is_first = |socket: &&Socket| matches!(socket.role, Role::Tcp(CLIENT, ConnectionId::FIRST));
            let first = self.sockets.values().find(is_first);
            first.into_iter().for_each(|socket| _ = socket.stream.shutdown(Shutdown::Both));
            println!("after {} bytes the first TCP connection is cut", self.received);
        }
    }

    // 3. Fill every writable socket.

    /// Writes once; whether the socket took anything.
    fn write(&mut self, token: Token) -> bool {
        let now = self.now();
        let Some(socket) = self.sockets.get_mut(&token).filter(|socket| socket.writable) else { return false };
        if let Role::Tcp(session, tcp) = socket.role
            && socket.unsent.is_empty()
        {
            self.sessions[session].poll_transmit(now, tcp, ROOM, &mut socket.unsent);
        }
        if socket.unsent.is_empty() {
            if matches!(socket.role, Role::Leaving) {
                // Closing now would reset what the peer has not read: its end comes first (`ended`).
                _ = socket.stream.shutdown(Shutdown::Write);
            }
            return false;
        }
        match socket.stream.write(&socket.unsent) {
            Ok(len) => {
                socket.unsent.drain(..len);
                return true;
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => socket.writable = false,
            Err(error) => self.ended(token, TcpEnd::Error(error.kind())),
        }
        false
    }
}

fn random() -> [u8; 32] {
    let mut bytes = [0; 32];
    SystemRandom::new().fill(&mut bytes).expect("the operating system has random numbers");
    bytes
}

/// A certificate made on the spot, and a client that trusts it.
fn tls() -> (RustlsClient, RustlsServer) {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".into()]).expect("it is a name");
    let mut roots = rustls::RootCertStore::empty();
    roots.add(made.cert.der().clone()).expect("it is a certificate");
    let key = rustls::pki_types::PrivateKeyDer::Pkcs8(made.signing_key.serialize_der().into());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls13 = &[&rustls::version::TLS13];
    let client = rustls::ClientConfig::builder_with_provider(provider.clone()).with_protocol_versions(tls13);
    let client = client.expect("it has TLS 1.3").with_root_certificates(roots).with_no_client_auth();
    let server = rustls::ServerConfig::builder_with_provider(provider).with_protocol_versions(tls13);
    let server = server.expect("it has TLS 1.3").with_no_client_auth();
    let server = server.with_single_cert(vec![made.cert.der().clone()], key).expect("key and certificate fit");
    let names: &[&[u8]] = &[b"download"];
    let client = RustlsClient::new(client.into(), names).expect("the configuration works");
    (client, RustlsServer::new(server.into(), names).expect("the configuration works"))
}

fn main() -> io::Result<()> {
    let mut driver = Driver::new()?;
    driver.run()?;
    assert_eq!(driver.received, SIZE);
    println!("{} bytes received", driver.received);
    Ok(())
}

#[test]
fn download_survives_the_cut() {
    main().unwrap();
}
