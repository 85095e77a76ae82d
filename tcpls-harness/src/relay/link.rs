//! One direction of a relay's path: its rate, delay and bit errors. It computes when bytes arrive, and writes none.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::PathOptions;

/// What a path may carry in one burst, as time at its rate.
pub(super) const BURST: Duration = Duration::from_millis(4);

/// One direction of the path: a token bucket, a delay, and bits to be flipped.
#[derive(Debug)]
pub(super) struct Link(Mutex<LinkState>);

#[derive(Debug)]
pub(super) struct LinkState {
    pub(super) rate: Option<u64>,
    pub(super) delay: Duration,
    pub(super) corrupts: u32,
    /// When everything that was let through so far has passed at `rate`.
    paid_until: Instant,
}

impl Link {
    pub(super) fn new(PathOptions { rate, delay }: PathOptions) -> Self {
        Self(Mutex::new(LinkState { rate, delay, corrupts: 0, paid_until: Instant::now() }))
    }

    pub(super) fn state(&self) -> MutexGuard<'_, LinkState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn chunks_under_way(&self) -> usize {
        let state = self.state();
        state.rate.map_or(0, |rate| (rate as f64 * state.delay.as_secs_f64()) as usize / 1024)
    }

    /// Waits until `len` bytes may pass.
    pub(super) async fn take(&self, len: usize) {
        let until = {
            let mut state = self.state();
            let Some(rate) = state.rate else { return };
            let cost = Duration::from_secs_f64(len as f64 / rate.max(1) as f64);
            state.paid_until = state.paid_until.max(Instant::now()) + cost;
            state.paid_until
        };
        tokio::time::sleep_until(until.checked_sub(BURST).unwrap_or(until)).await;
    }

    /// What arrives of these bytes, and after which delay.
    pub(super) fn carry(&self, bytes: &[u8]) -> (Vec<u8>, Duration) {
        let (mut state, mut bytes) = (self.state(), bytes.to_vec());
        if state.corrupts > 0 {
            state.corrupts -= 1;
            let middle = bytes.len() / 2;
            bytes[middle] ^= 4;
        }
        (bytes, state.delay)
    }
}
