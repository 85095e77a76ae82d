//! How many bytes a client may move in a second: a token bucket for each direction, which all of its connections share.
//!
//! A connection moves up to one turn of bytes, and then waits until the bucket has paid for all that was moved before. So
//! each connection has its turn, in the order in which they began to wait, and wakes once for it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tcpls_core::time::Time;

use crate::net::Runtime;
use crate::net::runtime::BoxFuture;

/// How much a client saves up while it moves less than its rate, in time at the rate.
const BURST: Duration = Duration::from_millis(100);
/// A turn, in parts of a second at the rate.
const TURNS_PER_SECOND: u64 = 64;
/// The fewest and the most bytes of a turn.
const TURN: (u64, u64) = (1024, 64 * 1024);

/// The rate of one client, in each direction. Clones share it.
///
/// After a pause the client moves up to 0.1 s of the rate at once. In the long run it moves no more than the rate, except
/// for one turn of each connection: what the rate moves in 1/64 s, at least 1 KiB and at most 64 KiB.
#[derive(Clone, Debug)]
pub struct Rate(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    bytes_per_second: u64,
    to_stream: Mutex<Bucket>,
    to_peer: Mutex<Bucket>,
}

/// A direction of a tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    ToStream,
    ToPeer,
}

impl Rate {
    /// Makes a rate in bytes per second, at least 1.
    pub fn new(bytes_per_second: u64) -> Self {
        let (to_stream, to_peer) = Default::default();
        Self(Arc::new(Shared { bytes_per_second: bytes_per_second.max(1), to_stream, to_peer }))
    }

    /// Whether all that was moved is paid for, so that a new rate in its place permits the same.
    pub(super) fn is_settled(&self, now: Time) -> bool {
        [Way::ToStream, Way::ToPeer].into_iter().all(|way| self.bucket(way).settled <= now)
    }

    /// Counts bytes that were moved.
    fn charge(&self, way: Way, now: Time, bytes: usize) {
        let nanos = bytes as u128 * 1_000_000_000 / u128::from(self.0.bytes_per_second);
        self.bucket(way).charge(now, Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX)));
    }

    fn turn(&self) -> usize {
        (self.0.bytes_per_second / TURNS_PER_SECOND).clamp(TURN.0, TURN.1) as usize
    }

    fn bucket(&self, way: Way) -> MutexGuard<'_, Bucket> {
        let bucket = match way {
            Way::ToStream => &self.0.to_stream,
            Way::ToPeer => &self.0.to_peer,
        };
        bucket.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Debug, Default)]
struct Bucket {
    /// When all that was moved is paid for.
    settled: Time,
}

impl Bucket {
    fn charge(&mut self, now: Time, cost: Duration) {
        self.settled = self.settled.max(now) + cost;
    }

    /// When a connection that asks now may move its next turn; `None`: at once.
    fn next_turn(&self, now: Time) -> Option<Time> {
        let begin = Time::from_nanos(self.settled.as_nanos().saturating_sub(BURST.as_nanos() as u64));
        (begin > now).then_some(begin)
    }
}

/// Holds one direction of a connection to a rate.
pub(super) struct Pacer {
    rate: Rate,
    way: Way,
    /// What is left of the turn.
    left: usize,
    pause: Option<BoxFuture<()>>,
}

impl Pacer {
    /// Makes one for a connection that has moved `bytes` already.
    pub(super) fn new(rate: Rate, way: Way, now: Time, bytes: usize) -> Self {
        rate.charge(way, now, bytes);
        Self { rate, way, left: 0, pause: None }
    }

    /// Waits for the connection's turn. Returns how many bytes it may move, at least 1.
    pub(super) fn poll_turn(&mut self, runtime: &Runtime, cx: &mut Context<'_>) -> Poll<usize> {
        while self.left == 0 {
            if self.pause.is_none()
                && let Some(turn) = self.rate.bucket(self.way).next_turn(runtime.now())
            {
                let runtime = runtime.clone();
                self.pause = Some(Box::pin(async move { runtime.sleep_until(turn).await }));
            }
            if let Some(pause) = &mut self.pause {
                ready!(pause.as_mut().poll(cx));
                self.pause = None;
            }
            self.left = self.rate.turn();
        }
        Poll::Ready(self.left)
    }

    /// Counts bytes that were moved.
    pub(super) fn moved(&mut self, now: Time, bytes: usize) {
        self.rate.charge(self.way, now, bytes);
        self.left = self.left.saturating_sub(bytes);
    }

    /// Whether the connection waits for its turn.
    pub(super) fn is_paused(&self) -> bool {
        self.pause.is_some()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::*;

    const SECOND: u64 = 1_000_000_000;

    /// Lets connections move bytes as fast as they may for 10 s, each in pieces of `piece`. Returns the bytes of each,
    /// and how often one had to wait.
    fn run(rate: &Rate, connections: usize, piece: usize) -> (Vec<u64>, u64) {
        let mut moved = vec![0; connections];
        let mut waits = 0;
        let (start, end) = (Time::from_nanos(5 * SECOND), Time::from_nanos(15 * SECOND));
        // When each one has its turn, in the order of asking.
        let mut due: VecDeque<(Time, usize)> = (0..connections).map(|connection| (start, connection)).collect();
        while let Some((now, connection)) = due.pop_front().filter(|(now, _)| *now < end) {
            let mut left = rate.turn();
            while left > 0 {
                let bytes = left.min(piece);
                rate.charge(Way::ToPeer, now, bytes);
                (left, moved[connection]) = (left - bytes, moved[connection] + bytes as u64);
            }
            let turn = rate.bucket(Way::ToPeer).next_turn(now);
            waits += u64::from(turn.is_some());
            due.push_back((turn.unwrap_or(now), connection));
        }
        (moved, waits)
    }

    #[test]
    fn connections_share_the_rate_evenly_and_wake_once_for_each_turn() {
        for (bytes_per_second, connections, piece) in
            [(1_000_000, 1, 1460), (1_000_000, 20, 65_536), (100_000_000, 3, 65_536), (50_000, 100, 7)]
        {
            let rate = Rate::new(bytes_per_second);
            let (moved, waits) = run(&rate, connections, piece);
            let (sum, turn) = (moved.iter().sum::<u64>(), rate.turn() as u64);
            let least = bytes_per_second * 10;
            let most = least + bytes_per_second / 10 + (connections as u64 + 1) * turn;
            assert!((least..=most).contains(&sum), "{sum} bytes at {bytes_per_second}");
            let range = moved.iter().max().unwrap() - moved.iter().min().unwrap();
            assert!(range <= 2 * turn, "shares differ by {range} bytes");
            assert!(waits <= sum / turn, "{waits} waits for {sum} bytes");
            assert!(!rate.is_settled(Time::from_nanos(15 * SECOND)));
            assert!(rate.is_settled(Time::from_nanos(15 * SECOND + (connections as u64 + 8) * SECOND)));
        }
    }

    #[test]
    fn any_rate_and_time_are_handled_without_overflow() {
        for bytes_per_second in [0, 1, u64::MAX] {
            let rate = Rate::new(bytes_per_second);
            for now in [Time::ZERO, Time::MAX] {
                rate.charge(Way::ToStream, now, usize::MAX);
                _ = rate.bucket(Way::ToStream).next_turn(now);
            }
            assert!((1024..=65_536).contains(&rate.turn()));
        }
    }
}
