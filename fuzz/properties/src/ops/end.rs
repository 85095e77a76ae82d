//! One endpoint of the session under test, with its application: data written to and read from each stream, and
//! invariants.

use std::collections::BTreeMap;

use tcpls_core::error::{ReadError, WriteError};
use tcpls_core::testing::Oracle;
use tcpls_core::{AddressId, Config, Connection, ConnectionId, ErrorCode, Event, StreamId, Time};

use crate::model::pattern;

/// The most that is written to a stream.
const MAX_WRITTEN: u64 = 60_000;
/// Memory allowed beyond the windows: the overhead of pieces.
const SLACK: u64 = 1 << 16;

/// What this endpoint writes to a stream.
#[derive(Debug, Default)]
pub(super) struct Written {
    pub(super) len: u64,
    pub(super) finished: bool,
    /// Whether it was reset or the peer stopped it: the data need not arrive.
    pub(super) given_up: bool,
}

/// What this endpoint has read from a stream.
#[derive(Debug, Default)]
pub(super) struct Read {
    pub(super) len: u64,
    pub(super) end: Option<Result<(), ReadError>>,
    /// Whether this endpoint has stopped it.
    pub(super) stopped: bool,
}

pub(super) struct End {
    pub(super) conn: Connection,
    /// The streams that this endpoint knows, and what it did with each.
    pub(super) streams: BTreeMap<StreamId, (Written, Read)>,
    pub(super) advertised: Vec<AddressId>,
    /// Duplicates were asked for.
    pub(super) redundant: bool,
    /// Client: there was a token, once.
    pub(super) had_token: bool,
    pub(super) closed: bool,
    /// Tighter than what the oracle allows: no receive buffers here have an unused rest.
    read_bound: u64,
    oracle: Oracle,
}

impl End {
    pub(super) fn new(conn: Connection, config: &Config) -> Self {
        Self {
            conn,
            streams: BTreeMap::new(),
            advertised: Vec::new(),
            redundant: false,
            had_token: false,
            closed: false,
            read_bound: config.max_session_window * 5 / 4 + SLACK,
            oracle: Oracle::new(config),
        }
    }

    /// Takes the events; their order is checked.
    pub(super) fn hear(&mut self) -> Vec<Event> {
        let events: Vec<Event> = core::iter::from_fn(|| self.conn.poll_event()).collect();
        for event in &events {
            self.oracle.event(event);
            self.closed |= matches!(event, Event::Closed { .. });
            self.had_token |= matches!(event, Event::TokensAvailable { .. });
        }
        events
    }

    /// Fills a TCP connection once.
    pub(super) fn transmit(&mut self, now: Time, tcp: ConnectionId, room: usize, out: &mut Vec<u8>) {
        self.oracle.transmit(&mut self.conn, now, tcp, room, out);
    }

    pub(super) fn check(&mut self) {
        self.oracle.check(&self.conn);
        assert!(self.oracle.complaints().is_empty(), "{:?}", self.oracle.complaints());
        let held = self.conn.stats().bytes_to_read as u64;
        assert!(held <= self.read_bound, "{held} bytes are held for reading");
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
