//! Memory for the lines of all sessions, in chunks. When it is used up, the oldest chunk of all gives way.
//!
//! A chunk is counted, with its capacity, from the moment that a session gets it until it is written or dropped.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The usual capacity of a chunk in bytes.
pub(super) const CHUNK: usize = 16 << 10;
/// The least memory of all sessions in bytes.
const MIN_TOTAL: usize = 4 * CHUNK;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct SessionId(u64);

/// The lines of a session, and whether others in front of them gave way since the last time.
#[derive(Debug, Default)]
pub(super) struct Taken {
    pub(super) chunks: Vec<Vec<u8>>,
    pub(super) has_lost: bool,
}

/// Clones are the same memory.
#[derive(Clone, Debug)]
pub(super) struct Pool(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    max_session: usize,
    max_total: usize,
    total: usize,
    next: u64,
    /// Full chunks in the order in which they became full.
    chunks: BTreeMap<u64, (SessionId, Vec<u8>)>,
    sessions: BTreeMap<SessionId, Session>,
}

#[derive(Debug, Default)]
struct Session {
    chunks: VecDeque<u64>,
    /// Capacity of its full chunks.
    full: usize,
    /// That of the chunk that it writes to.
    open: usize,
    has_lost: bool,
}

impl Pool {
    pub(super) fn new(max_session: usize, max_total: usize) -> Self {
        let max_total = max_total.max(MIN_TOTAL);
        let (chunks, sessions) = (BTreeMap::new(), BTreeMap::new());
        Self(Arc::new(Mutex::new(State { max_session, max_total, total: 0, next: 0, chunks, sessions })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A session begins.
    pub(super) fn begin(&self) -> SessionId {
        let mut state = self.state();
        let id = SessionId(state.number());
        state.sessions.insert(id, Session::default());
        id
    }

    /// A chunk to write to; `None` if chunks that others write to take all memory.
    pub(super) fn reserve(&self, id: SessionId) -> Option<Vec<u8>> {
        let mut state = self.state();
        let mut chunk = Vec::new();
        while state.total + CHUNK > state.max_total {
            chunk = state.drop_oldest()?;
        }
        if chunk.capacity() != CHUNK {
            chunk = Vec::with_capacity(CHUNK);
        }
        chunk.clear();
        state.count(id, chunk.capacity());
        Some(chunk)
    }

    /// The chunk that a session writes to grew.
    pub(super) fn grew(&self, id: SessionId, by: usize) {
        self.state().count(id, by);
    }

    /// A line had no memory.
    pub(super) fn lose(&self, id: SessionId) {
        self.state().sessions.entry(id).or_default().has_lost = true;
    }

    /// Takes the chunk that a session wrote to.
    pub(super) fn put(&self, id: SessionId, chunk: Vec<u8>) {
        let mut state = self.state();
        let (number, max) = (state.number(), state.max_session);
        let session = state.sessions.entry(id).or_default();
        session.full += session.open;
        session.open = 0;
        session.chunks.push_back(number);
        state.chunks.insert(number, (id, chunk));
        while let Some(oldest) = state.beyond(id, max) {
            state.drop_chunk(oldest);
        }
        while state.total > state.max_total && state.drop_oldest().is_some() {}
    }

    /// Takes the full chunks of a session, which stay counted until [`free`](Self::free).
    pub(super) fn take(&self, id: SessionId) -> Taken {
        let mut state = self.state();
        let Some(session) = state.sessions.get_mut(&id) else { return Taken::default() };
        let has_lost = std::mem::take(&mut session.has_lost);
        session.full = 0;
        let numbers = std::mem::take(&mut session.chunks);
        let chunks = numbers.iter().filter_map(|number| Some(state.chunks.remove(number)?.1)).collect();
        Taken { chunks, has_lost }
    }

    /// Chunks of this capacity are written.
    pub(super) fn free(&self, capacity: usize) {
        self.state().total -= capacity;
    }

    /// A session ends; its chunks are dropped.
    pub(super) fn end(&self, id: SessionId) {
        let mut state = self.state();
        let Some(session) = state.sessions.remove(&id) else { return };
        state.total -= session.full + session.open;
        session.chunks.iter().for_each(|number| _ = state.chunks.remove(number));
    }

    /// The memory of a session.
    pub(super) fn held(&self, id: SessionId) -> usize {
        self.state().sessions.get(&id).map_or(0, |session| session.full + session.open)
    }

    /// That of all.
    pub(super) fn memory(&self) -> usize {
        self.state().total
    }
}

impl State {
    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    fn count(&mut self, id: SessionId, more: usize) {
        self.total += more;
        self.sessions.entry(id).or_default().open += more;
    }

    /// The oldest chunk of a session that holds more than it may.
    fn beyond(&self, id: SessionId, max: usize) -> Option<u64> {
        let session = self.sessions.get(&id)?;
        session.chunks.front().copied().filter(|_| session.full > max)
    }

    fn drop_oldest(&mut self) -> Option<Vec<u8>> {
        let oldest = *self.chunks.first_key_value()?.0;
        self.drop_chunk(oldest)
    }

    fn drop_chunk(&mut self, number: u64) -> Option<Vec<u8>> {
        let (id, chunk) = self.chunks.remove(&number)?;
        self.total -= chunk.capacity();
        if let Some(session) = self.sessions.get_mut(&id) {
            session.full -= chunk.capacity();
            session.has_lost = true;
            session.chunks.retain(|other| *other != number);
        }
        Some(chunk)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Fills a chunk with a byte.
    fn fill(pool: &Pool, id: SessionId, byte: u8) -> bool {
        let Some(mut chunk) = pool.reserve(id) else { return false };
        chunk.resize(CHUNK, byte);
        pool.put(id, chunk);
        true
    }

    fn bytes(taken: &Taken) -> Vec<u8> {
        taken.chunks.iter().map(|chunk| chunk[0]).collect()
    }

    #[test]
    fn oldest_chunk_of_a_session_gives_way_at_its_limit_and_of_all_at_the_total() {
        let pool = Pool::new(2 * CHUNK, 5 * CHUNK);
        let (one, other, third) = (pool.begin(), pool.begin(), pool.begin());
        assert!((1..=3).all(|byte| fill(&pool, one, byte)));
        assert_eq!((pool.held(one), pool.memory()), (2 * CHUNK, 2 * CHUNK));
        assert!((4..=5).all(|byte| fill(&pool, other, byte)) && fill(&pool, third, 6));
        assert_eq!(pool.memory(), 5 * CHUNK);
        assert!(fill(&pool, third, 7));
        assert_eq!((pool.held(one), pool.memory()), (CHUNK, 5 * CHUNK), "the oldest of all is the first session's");
        let taken = pool.take(one);
        assert_eq!((bytes(&taken), taken.has_lost), (vec![3], true));
        assert_eq!((pool.held(one), pool.memory()), (0, 5 * CHUNK), "what waits to be written counts");
        pool.free(CHUNK);
        assert_eq!((bytes(&pool.take(other)), bytes(&pool.take(third))), (vec![4, 5], vec![6, 7]));
        assert!(!pool.take(one).has_lost);
        pool.free(4 * CHUNK);
        assert_eq!(pool.memory(), 0);
    }

    #[test]
    fn chunks_that_sessions_write_to_count_and_are_not_taken_from_them() {
        let pool = Pool::new(1 << 20, 4 * CHUNK);
        let ids: Vec<SessionId> = (0..5).map(|_| pool.begin()).collect();
        let open: Vec<_> = ids[..4].iter().map(|id| pool.reserve(*id).unwrap()).collect();
        assert_eq!((pool.reserve(ids[4]), pool.memory()), (None, 4 * CHUNK));
        drop(open);
        ids[..4].iter().for_each(|id| pool.end(*id));
        assert_eq!(pool.memory(), 0);
        assert!(fill(&pool, ids[4], 1));
        pool.grew(ids[4], 0);
        let mut long = pool.reserve(ids[4]).unwrap();
        let before = long.capacity();
        long.resize(100 * CHUNK, 9);
        pool.grew(ids[4], long.capacity() - before);
        pool.put(ids[4], long);
        assert_eq!((pool.memory(), pool.held(ids[4])), (0, 0), "a chunk that is longer than the total is dropped");
    }
}
