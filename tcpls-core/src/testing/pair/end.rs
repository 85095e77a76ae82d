//! One end of a pair with its application.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use super::super::oracle::Oracle;
use crate::config::Config;
use crate::connection::Connection;
use crate::error::{ReadError, WriteError};
use crate::event::{Event, OptionOutcome, StreamEvent, TcpEvent};
use crate::wire::ids::{ConnectionId, StreamId};

/// The data that an application has read from one stream.
#[derive(Debug, Default)]
pub struct Inbox {
    /// The bytes, in order.
    pub bytes: Vec<u8>,
    /// How the stream ended; `None` while it is open.
    pub end: Option<Result<(), ReadError>>,
}

/// The data that is still to be written on one stream.
struct Outbox {
    bytes: Bytes,
    finish: bool,
}

/// One endpoint of a session with its application, which writes submitted data and reads everything.
pub struct End {
    /// The session.
    pub conn: Connection,
    /// Every event of the session so far.
    pub events: Vec<Event>,
    /// The streams that the peer opened, in the order of [`Connection::accept_stream`].
    pub accepted: Vec<StreamId>,
    /// Whether the application reads on its own; `true` at the start.
    pub reads: bool,
    /// Whether the application accepts streams on its own; `true` at the start.
    pub accepts: bool,
    /// Whether the application applies the TCP options that the peer asks for; `true` at the start.
    pub answers: bool,
    pub(super) oracle: Oracle,
    inbox: BTreeMap<StreamId, Inbox>,
    outbox: BTreeMap<StreamId, Outbox>,
    readable: BTreeSet<StreamId>,
}

impl End {
    pub(super) fn new(conn: Connection, config: &Config) -> Self {
        Self {
            conn,
            events: Vec::new(),
            accepted: Vec::new(),
            reads: true,
            accepts: true,
            answers: true,
            oracle: Oracle::new(config),
            inbox: BTreeMap::new(),
            outbox: BTreeMap::new(),
            readable: BTreeSet::new(),
        }
    }

    /// Takes all events and returns the TCP connections whose sockets are to be closed.
    pub(super) fn take_events(&mut self) -> Vec<ConnectionId> {
        let mut discarded = Vec::new();
        while let Some(event) = self.conn.poll_event() {
            self.oracle.event(&event);
            match &event {
                Event::Tcp(TcpEvent::Discarded { tcp }) => discarded.push(*tcp),
                Event::Stream(StreamEvent::Opened) if self.accepts => self.accept(),
                Event::Stream(StreamEvent::Readable { id }) => _ = self.readable.insert(*id),
                Event::TcpOption { request: Some(request), .. } if self.answers => {
                    self.conn.answer_tcp_option(*request, OptionOutcome::Applied);
                }
                _ => {}
            }
            self.events.push(event);
        }
        discarded
    }

    /// Accepts every stream that the peer has opened.
    pub fn accept(&mut self) {
        while let Some(id) = self.conn.accept_stream() {
            self.accepted.push(id);
            self.readable.insert(id);
        }
    }

    /// Panics if the session has broken a promise.
    pub(super) fn check(&mut self) {
        self.oracle.check(&self.conn);
        assert!(self.oracle.complaints().is_empty(), "{:?}: {:?}", self.conn.side(), self.oracle.complaints());
    }

    /// Has the application write `bytes` as there is room, and then finish the stream if `finish`.
    pub fn submit(&mut self, id: StreamId, bytes: Bytes, finish: bool) {
        self.outbox.insert(id, Outbox { bytes, finish });
    }

    /// The application does what it can.
    pub(super) fn run_application(&mut self) {
        self.write_all();
        if self.reads {
            core::mem::take(&mut self.readable).into_iter().for_each(|id| self.read(id));
        }
    }

    fn write_all(&mut self) {
        let conn = &mut self.conn;
        self.outbox.retain(|id, out| {
            while !out.bytes.is_empty() {
                match conn.stream(*id).write_chunk(&mut out.bytes) {
                    Ok(n) => assert!(n > 0, "a write took nothing and reported no error"),
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

    /// Reads a stream until nothing more is there for now.
    pub fn read(&mut self, id: StreamId) {
        self.read_at_most(id, usize::MAX);
    }

    /// Reads at most `max` bytes of a stream.
    pub fn read_at_most(&mut self, id: StreamId, max: usize) {
        let inbox = self.inbox.entry(id).or_default();
        let end = inbox.bytes.len().saturating_add(max);
        while inbox.end.is_none() && inbox.bytes.len() < end {
            match self.conn.stream(id).read(end - inbox.bytes.len()) {
                Ok(Some(bytes)) => {
                    assert!(!bytes.is_empty(), "a read gave nothing and reported no error");
                    inbox.bytes.extend_from_slice(&bytes);
                }
                Ok(None) => inbox.end = Some(Ok(())),
                Err(ReadError::Blocked) => break,
                Err(ReadError::Unknown) if inbox.bytes.is_empty() => break, // the peer has not begun it
                Err(error) => inbox.end = Some(Err(error)),
            }
        }
    }

    /// Returns what was read from a stream until now.
    pub fn inbox(&mut self, id: StreamId) -> &mut Inbox {
        if self.reads {
            self.read(id);
        }
        self.inbox.entry(id).or_default()
    }
}
