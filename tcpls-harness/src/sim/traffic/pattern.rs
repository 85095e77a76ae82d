//! The bytes of a transfer, and their rate. No byte is stored: the transfer and the offset determine it.

use std::time::Duration;

use bytes::Bytes;
use tcpls_core::Time;

use crate::sim::scenario;

/// What an application writes, or a slow one reads, at once.
pub(super) const PIECE: u64 = 16 << 10;

/// What is written in one direction of a transfer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pattern {
    key: u64,
    pub(crate) total: u64,
}

impl Pattern {
    /// What the opener writes in transfer number `number`, or (`back`) the other end.
    pub(crate) fn new(plan: &scenario::Transfer, number: usize, back: bool) -> Self {
        let key = ((number as u64) << 1 | u64::from(back)).wrapping_mul(0xd6e8_feb8_6659_fd93);
        Self { key, total: if back { plan.receive.0 } else { plan.send.0 } }
    }

    /// Bytes at `offset`, at most `len`.
    pub(crate) fn content(&self, offset: u64, len: u64) -> Bytes {
        let len = len.min(self.total - offset);
        let (first, last) = (offset / 8, (offset + len).div_ceil(8));
        let mut bytes = Vec::with_capacity(((last - first) * 8) as usize);
        (first..last).for_each(|word| bytes.extend_from_slice(&scramble(self.key.wrapping_add(word)).to_le_bytes()));
        let skip = (offset - first * 8) as usize;
        Bytes::from(bytes).slice(skip..skip + len as usize)
    }

    /// Whether these are the bytes at `offset`.
    pub(crate) fn fits(&self, offset: u64, bytes: &Bytes) -> bool {
        offset + bytes.len() as u64 <= self.total && self.content(offset, bytes.len() as u64) == bytes
    }
}

/// SplitMix64's last step: every bit depends on every other.
fn scramble(number: u64) -> u64 {
    let mut z = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// A number of bytes in a time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Throttle {
    rate: Option<u64>,
    since: Option<Time>,
    pub(super) used: u64,
}

impl Throttle {
    pub(super) fn new(rate: Option<scenario::Rate>) -> Self {
        Self { rate: rate.map(|rate| rate.0.max(1)), since: None, used: 0 }
    }

    /// At most this many bytes now: nothing, or a piece's worth.
    pub(super) fn allowance(&mut self, now: Time) -> u64 {
        let Some(rate) = self.rate else { return u64::MAX };
        let since = *self.since.get_or_insert(now);
        let earned = (u128::from(rate) * (now - since).as_nanos() / 1_000_000_000) as u64;
        let free = earned.saturating_sub(self.used);
        if free < self.piece() { 0 } else { free }
    }

    fn piece(&self) -> u64 {
        (self.rate.unwrap_or(u64::MAX) / 100).clamp(1, PIECE)
    }

    /// When there is an allowance again.
    pub(super) fn next(&self) -> Option<Time> {
        let (rate, since) = (self.rate?, self.since?);
        let nanos = (u128::from(self.used + self.piece()) * 1_000_000_000).div_ceil(u128::from(rate));
        Some(since + Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX)))
    }
}
