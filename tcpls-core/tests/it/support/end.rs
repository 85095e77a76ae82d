//! One end of a session with its application: it writes what it was given to write, reads what can be read, and notes what
//! it was told. The invariants that hold for one end at any moment are checked here.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use tcpls_core::config::Config;
use tcpls_core::connection::Connection;
use tcpls_core::error::{ReadError, WriteError};
use tcpls_core::event::{Event, StreamEvent, TcpEvent};
use tcpls_core::wire::ids::{ConnectionId, StreamId};

/// What the memory for reading may exceed the window by: the unused rest of receive buffers.
const SLACK: u64 = 1 << 20;

/// What came on one stream.
#[derive(Default)]
pub struct Inbox {
    pub bytes: Vec<u8>,
    /// `Ok`: the stream came to its end.
    pub end: Option<Result<(), ReadError>>,
}

/// What is still to be written on one stream.
struct Outbox {
    bytes: Bytes,
    finish: bool,
}

/// One end.
pub struct End {
    pub conn: Connection,
    pub events: Vec<Event>,
    /// Streams that the peer opened, in the order that they were accepted in.
    pub accepted: Vec<StreamId>,
    /// Whether the application reads.
    pub reads: bool,
    inbox: BTreeMap<StreamId, Inbox>,
    outbox: BTreeMap<StreamId, Outbox>,
    readable: BTreeSet<StreamId>,
    /// How far each TCP connection has come in `Joined`, `Lost`, `Discarded`.
    ranks: BTreeMap<ConnectionId, u8>,
    /// Those that were `Joined`.
    joined: BTreeSet<ConnectionId>,
    /// TCP connections that owe an answer.
    stalled: BTreeSet<ConnectionId>,
    closed: bool,
    window: u64,
}

impl End {
    pub fn new(conn: Connection, config: &Config) -> Self {
        Self {
            conn,
            events: Vec::new(),
            accepted: Vec::new(),
            reads: true,
            inbox: BTreeMap::new(),
            outbox: BTreeMap::new(),
            readable: BTreeSet::new(),
            ranks: BTreeMap::new(),
            joined: BTreeSet::new(),
            stalled: BTreeSet::new(),
            closed: false,
            window: config.max_session_window.max(config.initial_session_window),
        }
    }

    /// Takes all events; which TCP connections' sockets are to be closed.
    pub fn take_events(&mut self) -> Vec<ConnectionId> {
        let mut discarded = Vec::new();
        while let Some(event) = self.conn.poll_event() {
            self.check_order(&event);
            match &event {
                Event::Tcp(TcpEvent::Discarded { tcp }) => discarded.push(*tcp),
                Event::Stream(StreamEvent::Opened) => self.accept(),
                Event::Stream(StreamEvent::Readable { id }) => _ = self.readable.insert(*id),
                _ => {}
            }
            self.events.push(event);
        }
        discarded
    }

    fn accept(&mut self) {
        while let Some(id) = self.conn.accept_stream() {
            self.accepted.push(id);
            self.readable.insert(id);
        }
    }

    fn check_order(&mut self, event: &Event) {
        assert!(!self.closed, "{event:?} after Closed");
        self.closed = matches!(event, Event::Closed { .. });
        let Event::Tcp(event) = event else { return };
        let (tcp, rank) = match event {
            TcpEvent::Joined { tcp } => (*tcp, 1),
            TcpEvent::Lost { tcp, .. } => (*tcp, 2),
            TcpEvent::Discarded { tcp } => (*tcp, 3),
            TcpEvent::Stalled { tcp } => {
                assert_eq!(self.ranks.get(tcp), Some(&1), "{event:?} of one that is not in use");
                return assert!(self.stalled.insert(*tcp), "{event:?} twice");
            }
            TcpEvent::Resumed { tcp } => {
                assert_eq!(self.ranks.get(tcp), Some(&1), "{event:?} of one that is not in use");
                return assert!(self.stalled.remove(tcp), "{event:?} without a stall");
            }
            TcpEvent::Status { tcp, .. } => {
                return assert!(self.ranks.get(tcp) <= Some(&1), "{event:?} comes too late");
            }
            other => panic!("no test knows {other:?}"),
        };
        let before = self.ranks.insert(tcp, rank).unwrap_or(0);
        assert!(before < rank, "{event:?} comes too late");
        match event {
            TcpEvent::Joined { tcp } => _ = self.joined.insert(*tcp),
            // A join that came to nothing: its token may be used again.
            TcpEvent::Discarded { tcp } if before == 2 && !self.joined.contains(tcp) => _ = self.ranks.remove(tcp),
            _ => {}
        }
    }

    /// The bound on memory, and what follows from the end of the session.
    pub fn check(&self) {
        let held = self.conn.stats().bytes_to_read as u64;
        assert!(held <= self.window.saturating_add(SLACK), "{held} bytes are held for reading");
        assert_eq!(self.closed, self.conn.close_reason().is_some(), "Closed and the state disagree");
        if self.closed {
            assert_eq!(self.conn.tcp_connections().count(), 0, "TCP connections outlive the session");
            assert_eq!(self.conn.poll_timeout(), None, "a session that is over waits for something");
        }
    }

    /// Gives the application something to write.
    pub fn submit(&mut self, id: StreamId, bytes: Bytes, finish: bool) {
        self.outbox.insert(id, Outbox { bytes, finish });
    }

    /// The application does what it can.
    pub fn run_application(&mut self) {
        self.write_all();
        if self.reads {
            std::mem::take(&mut self.readable).into_iter().for_each(|id| self.read(id));
        }
    }

    fn write_all(&mut self) {
        let conn = &mut self.conn;
        self.outbox.retain(|id, out| {
            while !out.bytes.is_empty() {
                match conn.stream(*id).write_chunk(&mut out.bytes) {
                    Ok(n) => assert!(n > 0, "a write took nothing and said nothing"),
                    Err(WriteError::Blocked) => return true,
                    Err(_) => return false,
                }
            }
            if out.finish {
                _ = conn.stream(*id).finish();
            }
            false
        });
    }

    /// Reads a stream until there is nothing more for now.
    pub fn read(&mut self, id: StreamId) {
        self.read_at_most(id, usize::MAX);
    }

    /// The same, but no more than `max` bytes.
    pub fn read_at_most(&mut self, id: StreamId, max: usize) {
        let inbox = self.inbox.entry(id).or_default();
        let end = inbox.bytes.len().saturating_add(max);
        while inbox.end.is_none() && inbox.bytes.len() < end {
            match self.conn.stream(id).read(end - inbox.bytes.len()) {
                Ok(Some(bytes)) => {
                    assert!(!bytes.is_empty(), "a read gave nothing and said nothing");
                    inbox.bytes.extend_from_slice(&bytes);
                }
                Ok(None) => inbox.end = Some(Ok(())),
                Err(ReadError::Blocked) => break,
                Err(ReadError::Unknown) if inbox.bytes.is_empty() => break, // the peer has not begun it
                Err(error) => inbox.end = Some(Err(error)),
            }
        }
    }

    /// What came on a stream until now.
    pub fn inbox(&mut self, id: StreamId) -> &mut Inbox {
        if self.reads {
            self.read(id);
        }
        self.inbox.entry(id).or_default()
    }
}
