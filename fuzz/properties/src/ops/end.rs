//! One end of the session under test, with its application: what was written to each stream, what was read from it, and what
//! must hold at any moment.

use std::collections::{BTreeMap, BTreeSet};

use tcpls_core::error::{ReadError, WriteError};
use tcpls_core::{AddressId, Config, Connection, ConnectionId, ErrorCode, Event, State, StreamId, TcpEvent};

use crate::model::pattern;

/// The most that is written to a stream.
const MAX_WRITTEN: u64 = 60_000;
/// What memory may exceed the windows by: what pieces cost besides their bytes.
const SLACK: u64 = 1 << 16;

/// What this side writes to a stream.
#[derive(Debug, Default)]
pub(super) struct Written {
    pub(super) len: u64,
    pub(super) finished: bool,
    /// Reset, or the peer was heard to want no more: it need not arrive.
    pub(super) given_up: bool,
}

/// What this side has read from a stream.
#[derive(Debug, Default)]
pub(super) struct Read {
    pub(super) len: u64,
    pub(super) end: Option<Result<(), ReadError>>,
    /// This side wants no more of it.
    pub(super) stopped: bool,
}

pub(super) struct End {
    pub(super) conn: Connection,
    /// The streams that this side knows, and what it did with each.
    pub(super) streams: BTreeMap<StreamId, (Written, Read)>,
    pub(super) advertised: Vec<AddressId>,
    /// Duplicates were asked for.
    pub(super) redundant: bool,
    /// How far each TCP connection has come in `Joined`, `Lost`, `Discarded`.
    ranks: BTreeMap<ConnectionId, u8>,
    /// Those that were `Joined`.
    joined: BTreeSet<ConnectionId>,
    /// Client: there was a token, once.
    pub(super) had_token: bool,
    pub(super) closed: bool,
    read_bound: u64,
    send_bound: usize,
}

impl End {
    pub(super) fn new(conn: Connection, config: &Config) -> Self {
        Self {
            conn,
            streams: BTreeMap::new(),
            advertised: Vec::new(),
            redundant: false,
            ranks: BTreeMap::new(),
            joined: BTreeSet::new(),
            had_token: false,
            closed: false,
            read_bound: config.max_session_window * 5 / 4 + SLACK,
            send_bound: config.send_buffer,
        }
    }

    /// What the session tells; the order of it is judged.
    pub(super) fn hear(&mut self) -> Vec<Event> {
        let events: Vec<Event> = core::iter::from_fn(|| self.conn.poll_event()).collect();
        for event in &events {
            assert!(!self.closed, "{event:?} comes after Closed");
            self.closed |= matches!(event, Event::Closed { .. });
            self.had_token |= matches!(event, Event::TokensAvailable { .. });
            let (tcp, rank) = match event {
                Event::Tcp(TcpEvent::Joined { tcp }) => (tcp, 1),
                Event::Tcp(TcpEvent::Lost { tcp, .. }) => (tcp, 2),
                Event::Tcp(TcpEvent::Discarded { tcp }) => (tcp, 3),
                _ => continue,
            };
            let before = self.ranks.insert(*tcp, rank).unwrap_or(0);
            assert!(before < rank, "{event:?} comes out of order");
            match rank {
                1 => _ = self.joined.insert(*tcp),
                // A join that came to nothing: its token may be used again.
                3 if before == 2 && !self.joined.contains(tcp) => _ = self.ranks.remove(tcp),
                _ => {}
            }
        }
        events
    }

    pub(super) fn check(&self) {
        let stats = self.conn.stats();
        assert!(stats.bytes_to_read as u64 <= self.read_bound, "{} bytes are held for reading", stats.bytes_to_read);
        assert!(stats.bytes_to_send <= self.send_bound, "{} bytes are held for sending", stats.bytes_to_send);
        assert_eq!(self.closed, self.conn.state() == State::Closed);
        if self.closed {
            let quiet = self.conn.poll_timeout().is_none() && self.conn.tcp_connections().next().is_none();
            assert!(
                quiet && stats.bytes_to_send == 0 && stats.tcp.is_empty(),
                "a session that is over holds something"
            );
        }
    }

    pub(super) fn open(&mut self) {
        if let Ok(id) = self.conn.open_stream() {
            self.streams.insert(id, Default::default());
        }
    }

    pub(super) fn accept(&mut self) {
        while let Some(id) = self.conn.accept_stream() {
            assert!(self.streams.insert(id, Default::default()).is_none(), "{id} comes twice");
        }
    }

    /// One of its streams.
    pub(super) fn stream(&self, choice: u8) -> Option<StreamId> {
        self.streams.keys().nth(usize::from(choice) % self.streams.len().max(1)).copied()
    }

    pub(super) fn write(&mut self, id: StreamId, len: u16, shared: bool) {
        let Some((written, _)) = self.streams.get_mut(&id) else { return };
        let data = pattern(id, written.len..(written.len + u64::from(len)).min(MAX_WRITTEN));
        let mut stream = self.conn.stream(id);
        let result = if shared { stream.write_chunk(&mut data.into()) } else { stream.write(&data) };
        match result {
            Ok(len) => written.len += len as u64,
            Err(WriteError::Stopped(_)) => written.given_up = true,
            Err(_) => {}
        }
    }

    pub(super) fn finish(&mut self, id: StreamId) {
        let Some((written, _)) = self.streams.get_mut(&id) else { return };
        written.finished |= self.conn.stream(id).finish().is_ok();
    }

    pub(super) fn reset(&mut self, id: StreamId) {
        let Some((written, _)) = self.streams.get_mut(&id) else { return };
        written.given_up |= self.conn.stream(id).reset(ErrorCode(1)).is_ok();
    }

    /// Reads at most `max` bytes, which must be the next ones.
    pub(super) fn read(&mut self, id: StreamId, max: usize) {
        let Some((_, read)) = self.streams.get_mut(&id) else { return };
        let mut left = max;
        while left > 0 && read.end.is_none() {
            match self.conn.stream(id).read(left) {
                Ok(Some(data)) => {
                    let range = read.len..read.len + data.len() as u64;
                    assert!(data == pattern(id, range.clone()), "{id}: {range:?} is not as written");
                    (read.len, left) = (range.end, left - data.len());
                }
                Ok(None) => read.end = Some(Ok(())),
                Err(ReadError::Blocked) => return,
                Err(error) => read.end = Some(Err(error)),
            }
        }
    }

    pub(super) fn stop(&mut self, id: StreamId) {
        let Some((_, read)) = self.streams.get_mut(&id) else { return };
        read.stopped |= self.conn.stream(id).stop(ErrorCode(2)).is_ok();
    }

    /// Whether all that the peer wrote to a stream was read here, or is not wanted.
    pub(super) fn has_read(&self, id: StreamId, written: &Written) -> bool {
        let nothing = Read::default();
        let read = self.streams.get(&id).map_or(&nothing, |(_, read)| read);
        if written.given_up || read.stopped {
            return true;
        }
        let end = written.finished.then_some(Ok(()));
        assert!(read.end.is_none() || read.end == end, "{id} ends with {:?} in place of {end:?}", read.end);
        read.len == written.len && read.end == end
    }

    pub(super) fn read_all(&mut self) {
        self.accept();
        let ids: Vec<StreamId> = self.streams.keys().copied().collect();
        ids.into_iter().for_each(|id| self.read(id, usize::MAX));
    }

    /// Each byte went out again at most once for each TCP connection that failed it.
    pub(super) fn check_thrift(&self) {
        let stats = self.conn.stats();
        let sent: u64 = stats.tcp.iter().map(|tcp| tcp.counters.stream_bytes_sent).sum();
        let again: u64 = stats.tcp.iter().map(|tcp| tcp.counters.requeued_bytes).sum();
        let written: u64 = self.streams.values().map(|(written, _)| written.len).sum();
        assert!(self.redundant || sent <= written + again, "{sent} bytes sent, {again} again, {written} written");
    }

    /// A session that is over, and whose application has read what was left, holds nothing at all.
    pub(super) fn check_empty(&mut self) {
        self.read_all();
        assert!(self.closed, "the session does not end: {:?}", self.conn.state());
        let stats = self.conn.stats();
        assert!(stats.bytes_to_read == 0 && stats.streams_open == 0, "it is over and holds {stats:?}");
    }
}
