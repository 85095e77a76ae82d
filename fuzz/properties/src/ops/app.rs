//! The application of one endpoint: data written to and read from each stream, and what it expects of its session.

use std::collections::BTreeMap;

use tcpls_core::error::{ReadError, WriteError};
use tcpls_core::testing::End;
use tcpls_core::{AddressId, Config, Connection, ErrorCode, Event, StreamId};

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

/// An application. It does only what the input says, in any order, until [`App::read_all`] drives it.
pub(super) struct App {
    /// The streams that it knows, and what it did with each.
    pub(super) streams: BTreeMap<StreamId, (Written, Read)>,
    pub(super) advertised: Vec<AddressId>,
    /// Duplicates were asked for.
    pub(super) redundant: bool,
    /// Tighter than what the oracle of the pair allows: no receive buffers here have an unused rest.
    read_bound: u64,
}

impl App {
    pub(super) fn new(config: &Config) -> Self {
        Self {
            streams: BTreeMap::new(),
            advertised: Vec::new(),
            redundant: false,
            read_bound: config.max_session_window * 5 / 4 + SLACK,
        }
    }

    pub(super) fn check(&self, conn: &Connection) {
        let held = conn.stats().bytes_to_read as u64;
        assert!(held <= self.read_bound, "{held} bytes are held for reading");
    }

    pub(super) fn open(&mut self, conn: &mut Connection) {
        if let Ok(id) = conn.open_stream() {
            self.streams.insert(id, Default::default());
        }
    }

    pub(super) fn accept(&mut self, conn: &mut Connection) {
        while let Some(id) = conn.accept_stream() {
            assert!(self.streams.insert(id, Default::default()).is_none(), "{id} comes twice");
        }
    }

    /// One of its streams.
    pub(super) fn stream(&self, choice: u8) -> Option<StreamId> {
        self.streams.keys().nth(usize::from(choice) % self.streams.len().max(1)).copied()
    }

    pub(super) fn write(&mut self, conn: &mut Connection, id: StreamId, len: u16, shared: bool) {
        let Some((written, _)) = self.streams.get_mut(&id) else { return };
        let data = pattern(id, written.len..(written.len + u64::from(len)).min(MAX_WRITTEN));
        let mut stream = conn.stream(id);
        let result = if shared { stream.write_chunk(&mut data.into()) } else { stream.write(&data) };
        match result {
            Ok(len) => written.len += len as u64,
            Err(WriteError::Stopped(_)) => written.given_up = true,
            Err(_) => {}
        }
    }

    pub(super) fn finish(&mut self, conn: &mut Connection, id: StreamId) {
        let Some((written, _)) = self.streams.get_mut(&id) else { return };
        written.finished |= conn.stream(id).finish().is_ok();
    }

    pub(super) fn reset(&mut self, conn: &mut Connection, id: StreamId) {
        let Some((written, _)) = self.streams.get_mut(&id) else { return };
        written.given_up |= conn.stream(id).reset(ErrorCode(1)).is_ok();
    }

    /// Reads at most `max` bytes, which must be the next ones.
    pub(super) fn read(&mut self, conn: &mut Connection, id: StreamId, max: usize) {
        let Some((_, read)) = self.streams.get_mut(&id) else { return };
        let mut left = max;
        while left > 0 && read.end.is_none() {
            match conn.stream(id).read(left) {
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

    pub(super) fn stop(&mut self, conn: &mut Connection, id: StreamId) {
        let Some((_, read)) = self.streams.get_mut(&id) else { return };
        read.stopped |= conn.stream(id).stop(ErrorCode(2)).is_ok();
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

    pub(super) fn read_all(&mut self, conn: &mut Connection) {
        self.accept(conn);
        let ids: Vec<StreamId> = self.streams.keys().copied().collect();
        ids.into_iter().for_each(|id| self.read(conn, id, usize::MAX));
    }

    /// Each byte went out again at most once for each TCP connection that failed it.
    pub(super) fn check_thrift(&self, conn: &Connection) {
        let stats = conn.stats();
        let sent: u64 = stats.tcp.iter().map(|tcp| tcp.counters.stream_bytes_sent).sum();
        let again: u64 = stats.tcp.iter().map(|tcp| tcp.counters.requeued_bytes).sum();
        let written: u64 = self.streams.values().map(|(written, _)| written.len).sum();
        assert!(self.redundant || sent <= written + again, "{sent} bytes sent, {again} again, {written} written");
    }

    /// A session that is over, and whose application has read what was left, holds nothing at all.
    pub(super) fn check_empty(&mut self, end: &mut End) {
        let conn = &mut end.conn;
        self.read_all(conn);
        assert!(is_closed(&end.events), "the session does not end: {:?}", conn.state());
        let stats = conn.stats();
        assert!(stats.bytes_to_read == 0 && stats.streams_open == 0, "it is over and holds {stats:?}");
    }
}

/// Whether the application knows that its session has ended.
pub(super) fn is_closed(events: &[Event]) -> bool {
    events.iter().any(|event| matches!(event, Event::Closed { .. }))
}
