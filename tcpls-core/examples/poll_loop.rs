//! A driver on an event loop of one's own: readiness from `mio`, one thread, no async runtime. Both ends of a session run in it: a
//! download over two TCP connections, of which one is cut on the way.
//!
//! It follows `docs/driving.md`: report what happened, take the events, fill every writable socket. [`Sessions`] knows which
//! socket belongs to which session; the application is in `support`.
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
use std::time::{Duration, Instant};

use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};
use tcpls_core::crypto::rustls::RustlsServer;
use tcpls_core::{Endpoint, EndpointConfig, Seed, SessionKey, Sessions, SocketId, TcpEnd, Time};

use self::support::{Download, SIZE, Wish, random};

mod support;

/// Offered to a session at once: what is taken can't be moved to a faster path any more.
const ROOM: usize = 64 << 10;
const LISTENER: Token = Token(0);

/// A socket of the operating system, and what it is to the sessions.
struct Socket {
    stream: TcpStream,
    part: Part,
    readable: bool,
    writable: bool,
    ended: bool, // it gives no more bytes
    unsent: Vec<u8>,
}

#[derive(Clone, Copy)]
enum Part {
    /// TCP is connecting, and is to join this session then.
    Dialled(SessionKey),
    Known(SocketId),
}

struct Driver {
    poll: Poll,
    started: Instant,
    listener: TcpListener,
    tls: RustlsServer,
    sessions: Sessions,
    sockets: BTreeMap<Token, Socket>,
    next: usize,
    download: Download,
}

impl Driver {
    fn new() -> io::Result<Self> {
        let (client, tls) = support::tls();
        let mut listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0)))?;
        let (poll, address) = (Poll::new()?, listener.local_addr()?);
        poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
        let mut sessions = Sessions::with_endpoint(Endpoint::new(EndpointConfig::default(), random(), Seed(random())));
        let (_, first) = sessions.connect(support::client(&client));
        let (started, sockets, download) = (Instant::now(), BTreeMap::new(), Download::default());
        let mut driver = Self { poll, started, listener, tls, sessions, sockets, next: 1, download };
        driver.add(TcpStream::connect(address)?, Part::Known(first))?;
        Ok(driver)
    }

    fn now(&self) -> Time {
        Time::ZERO + self.started.elapsed()
    }

    /// Runs until all sockets are closed.
    fn run(&mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(64);
        while !self.sockets.is_empty() {
            let timeout = self.sessions.poll_timeout().map(|deadline| deadline.saturating_since(self.now()));
            // A moment longer, because mio rounds down to milliseconds.
            self.poll.poll(&mut events, timeout.map(|timeout| timeout + Duration::from_millis(1)))?;
            for event in &events {
                if let Some(socket) = self.sockets.get_mut(&event.token()) {
                    socket.readable |= event.is_readable();
                    socket.writable |= event.is_writable();
                }
            }
            self.accept()?;
            self.sessions.handle_timeout(self.now());
            while self.turn()? {}
        }
        Ok(())
    }

    /// The three steps, once. Whether any byte moved: it may be another socket's turn then.
    fn turn(&mut self) -> io::Result<bool> {
        let now = self.now();
        let tokens: Vec<Token> = self.sockets.keys().copied().collect();
        let mut moved = false;
        for token in &tokens {
            self.join(*token, now);
            moved |= self.read(*token, now);
        }
        while let Some((key, event)) = self.sessions.poll_event(now) {
            let wish = self.download.handle_event(&mut self.sessions, key, event);
            self.fulfil(wish)?;
        }
        let wish = self.download.run(&mut self.sessions, now);
        self.fulfil(wish)?;
        for token in tokens {
            moved |= self.write(token, now);
            self.close(token, now);
        }
        Ok(moved)
    }

    fn add(&mut self, mut stream: TcpStream, part: Part) -> io::Result<()> {
        let token = Token(self.next);
        self.next += 1;
        _ = stream.set_nodelay(true); // some systems refuse it while TCP is connecting
        self.poll.registry().register(&mut stream, token, Interest::READABLE | Interest::WRITABLE)?;
        let (readable, writable, ended, unsent) = (false, false, false, Vec::new());
        self.sockets.insert(token, Socket { stream, part, readable, writable, ended, unsent });
        Ok(())
    }

    fn accept(&mut self) -> io::Result<()> {
        loop {
            match self.listener.accept() {
                Ok((stream, _)) => {
                    let id = self.sessions.handle_accepted(self.now());
                    self.add(stream, Part::Known(id))?;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }

    /// Client: a token is spent only once TCP is connected. A dial that failed ends with an error from `read`.
    fn join(&mut self, token: Token, now: Time) {
        if let Some(Socket { stream, part, writable: true, .. }) = self.sockets.get_mut(&token)
            && let Part::Dialled(session) = *part
            && stream.peer_addr().is_ok()
            && let Ok(id) = self.sessions.join(now, session, Default::default())
        {
            *part = Part::Known(id);
        }
    }

    fn fulfil(&mut self, wish: Option<Wish>) -> io::Result<()> {
        match wish {
            Some(Wish::Dial(session)) => {
                self.add(TcpStream::connect(self.listener.local_addr()?)?, Part::Dialled(session))
            }
            Some(Wish::Cut(cut)) => {
                let is_it = |socket: &&Socket| matches!(socket.part, Part::Known(id) if id == cut);
                self.sockets.values().find(is_it).map_or(Ok(()), |socket| socket.stream.shutdown(Shutdown::Both))
            }
            None => Ok(()),
        }
    }

    /// Step 1, report what happened: reads once. Whether there was anything.
    fn read(&mut self, token: Token, now: Time) -> bool {
        let Some(socket) = self.sockets.get_mut(&token).filter(|socket| socket.readable) else { return false };
        if let Part::Known(id) = socket.part
            && !self.sessions.wants_read(id)
        {
            return false; // the application is behind
        }
        let mut block = [0; 64 << 10];
        let how = match (socket.stream.read(&mut block), socket.part) {
            (Ok(len @ 1..), Part::Known(id)) => {
                self.sessions.input(id).extend_from_slice(&block[..len]);
                if let Some(new) = self.sessions.handle_bytes(now, id) {
                    self.sessions.accept(now, id, support::server(&self.tls, now, new));
                }
                return true;
            }
            (Ok(_), _) => TcpEnd::Fin,
            (Err(error), _) if error.kind() == ErrorKind::WouldBlock => {
                socket.readable = false;
                return false;
            }
            (Err(error), _) => error.kind().into(),
        };
        (socket.readable, socket.ended) = (false, true);
        if let Part::Known(id) = socket.part {
            self.sessions.handle_end(now, id, how);
        }
        true
    }

    /// Step 3, fill every writable socket: writes once. Whether the socket took anything.
    fn write(&mut self, token: Token, now: Time) -> bool {
        let Some(socket) = self.sockets.get_mut(&token).filter(|socket| socket.writable) else { return false };
        let Part::Known(id) = socket.part else { return false };
        if socket.unsent.is_empty() && self.sessions.poll_transmit(now, id, ROOM, &mut socket.unsent) == 0 {
            return false;
        }
        match socket.stream.write(&socket.unsent) {
            Ok(len) => {
                socket.unsent.drain(..len);
                return true;
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => socket.writable = false,
            Err(error) => {
                self.sessions.handle_end(now, id, error.kind().into());
                self.sessions.remove(now, id);
                self.sockets.remove(&token);
            }
        }
        false
    }

    /// Closes a socket that no session needs, once the peer has closed it, too: closing it earlier would reset what the peer has
    /// not read. A server limits how long that may take.
    fn close(&mut self, token: Token, now: Time) {
        let Some(Socket { stream, part, ended, unsent, .. }) = self.sockets.get(&token) else { return };
        match *part {
            Part::Known(id) if self.sessions.is_needed(id) || !unsent.is_empty() => return,
            Part::Known(_) if !*ended => return drop(stream.shutdown(Shutdown::Write)),
            Part::Known(id) => self.sessions.remove(now, id),
            Part::Dialled(_) if *ended => {}
            Part::Dialled(_) => return,
        }
        self.sockets.remove(&token);
    }
}

fn main() -> io::Result<()> {
    let mut driver = Driver::new()?;
    driver.run()?;
    assert_eq!(driver.download.received, SIZE);
    println!("{} bytes received", driver.download.received);
    Ok(())
}

#[test]
fn download_survives_the_cut() {
    main().unwrap();
}
