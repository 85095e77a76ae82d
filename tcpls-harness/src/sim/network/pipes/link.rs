//! One direction of a path: a queue, a rate, a delay. TCP connections add bytes to the queue in turns.

use std::collections::VecDeque;
use std::time::Duration;

use tcpls_core::Time;

use crate::sim::scenario::{Path, Rate};

/// Size of a piece that a link sends: what it carries in 1 ms, within these bounds.
const MIN_PIECE: usize = 1448;
const MAX_PIECE: usize = 16 << 10;
/// The default queue of a path, as time at its rate and as the smallest size.
const QUEUE: Duration = Duration::from_millis(50);
const MIN_QUEUE: usize = 32 << 10;

/// See the module's description.
#[derive(Debug)]
pub(super) struct Link {
    /// Bytes per second; `None` is without limit.
    pub(super) rate: Option<u64>,
    pub(super) delay: Duration,
    pub(super) jitter: Duration,
    limit: usize,
    queue: VecDeque<Piece>,
    queued: usize,
    /// Pipes that have something to put into the queue.
    pub(super) waiting: VecDeque<u64>,
    /// A piece is being sent until then.
    pub(super) busy_until: Option<Time>,
    /// Whether it is blocked.
    pub(super) dark: bool,
    /// Whether pieces have random sizes.
    pub(super) shreds: bool,
    /// How many pieces get a bit flipped.
    pub(super) corrupts: usize,
}

/// Bytes in a queue.
#[derive(Clone, Copy, Debug)]
pub(super) struct Piece {
    pub(super) pipe: u64,
    pub(super) len: usize,
    /// When TCP sent it.
    pub(super) sent: Time,
}

impl Link {
    pub(super) fn new(path: &Path, rate: Option<Rate>) -> Self {
        let rate = rate.map(|Rate(rate)| rate.max(1));
        let default = || rate.map_or(MIN_QUEUE, |rate| bytes_in(rate, QUEUE).max(MIN_QUEUE));
        Self {
            rate,
            delay: path.delay.0,
            jitter: path.jitter.0,
            limit: path.queue.map_or_else(default, |queue| (queue.0 as usize).max(1)),
            queue: VecDeque::new(),
            queued: 0,
            waiting: VecDeque::new(),
            busy_until: None,
            dark: false,
            shreds: false,
            corrupts: 0,
        }
    }

    pub(super) fn has_room(&self) -> bool {
        self.queued < self.limit
    }

    pub(super) fn put(&mut self, piece: Piece) {
        self.queue.push_back(piece);
        self.queued += piece.len;
    }

    pub(super) fn take(&mut self) -> Option<Piece> {
        let piece = self.queue.pop_front()?;
        self.queued -= piece.len;
        Some(piece)
    }

    /// Takes all of a pipe's pieces out of the queue; how many bytes those were.
    pub(super) fn remove(&mut self, pipe: u64) -> usize {
        let before = self.queued;
        self.queue.retain(|piece| piece.pipe != pipe);
        self.queued = self.queue.iter().map(|piece| piece.len).sum();
        before - self.queued
    }

    /// The largest piece.
    pub(super) fn piece(&self) -> usize {
        self.rate.map_or(MAX_PIECE, |rate| bytes_in(rate, Duration::from_millis(1)).clamp(MIN_PIECE, MAX_PIECE))
    }

    /// How long the link is busy with `len` bytes.
    pub(super) fn time_for(&self, len: usize) -> Duration {
        match self.rate {
            Some(rate) => Duration::from_nanos((len as u128 * 1_000_000_000 / u128::from(rate)) as u64),
            None => Duration::ZERO,
        }
    }

    /// How long a small piece takes now, behind the queued bytes.
    pub(super) fn transit(&self) -> Duration {
        self.time_for(self.queued) + self.delay
    }

    /// What a sender puts on its way before it needs an answer: what the way there and back and the queue hold.
    pub(super) fn credit(&self, back: Duration) -> usize {
        self.rate.map_or(MAX_PIECE, |rate| bytes_in(rate, self.delay + back) + self.limit).max(MIN_PIECE * 10)
    }
}

fn bytes_in(rate: u64, time: Duration) -> usize {
    (u128::from(rate) * time.as_nanos() / 1_000_000_000) as usize
}
