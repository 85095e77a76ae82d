//! One direction of a path, for packets: a rate, a queue that drops what does not fit (senders wait for it if it is their own),
//! a delay, and what goes wrong by chance.

use std::time::Duration;

use tcpls_core::Time;

use super::super::link_model::LinkModel;
use crate::sim::rng::SimRng;
use crate::sim::scenario::{Bottleneck, Burst, Path, Rate};

/// The queue of a path that says nothing about it, as time at its rate and as the least size.
const QUEUE: Duration = Duration::from_millis(50);
const MIN_QUEUE: usize = 32 << 10;
/// A large packet.
const PACKET: usize = 1500;
/// By how much a packet that is reordered is late, if the path has no jitter.
const LATE: Duration = Duration::from_millis(5);

/// See the module's description.
pub(super) struct Link {
    pub(super) rate: Option<u64>,
    pub(super) delay: Duration,
    jitter: Duration,
    limit: usize,
    bottleneck: Bottleneck,
    /// Packets that the queue had no room for.
    pub(super) dropped: usize,
    loss: f64,
    burst: Option<Burst>,
    in_burst: bool,
    reorder: f64,
    free_at: Time,
    last_arrival: Time,
    /// Nothing gets through.
    pub(super) dark: bool,
    /// How many packets get a bit of their payload flipped.
    pub(super) corrupts: usize,
    /// What takes the place of rate, queue, delay and losses.
    pub(super) model: Option<(Box<dyn LinkModel>, SimRng)>,
}

impl Link {
    pub(super) fn new(path: &Path, rate: Option<Rate>) -> Self {
        let rate = rate.map(|Rate(rate)| rate.max(1));
        let default = || {
            let bytes = rate.map_or(0, |rate| u128::from(rate) * QUEUE.as_nanos() / 1_000_000_000);
            (bytes as usize).max(MIN_QUEUE)
        };
        Self {
            rate,
            delay: path.delay.0,
            jitter: path.jitter.0,
            limit: path.queue.map_or_else(default, |queue| queue.0 as usize).max(PACKET),
            bottleneck: path.bottleneck,
            dropped: 0,
            loss: path.loss,
            burst: path.burst,
            in_burst: false,
            reorder: path.reorder,
            free_at: Time::ZERO,
            last_arrival: Time::ZERO,
            dark: false,
            corrupts: 0,
            model: None,
        }
    }

    /// Bytes that the sender may give now: it sees no queue but its own.
    pub(super) fn room(&self, now: Time) -> usize {
        let limits = self.bottleneck == Bottleneck::Host && self.model.is_none();
        let Some(rate) = self.rate.filter(|_| limits) else { return usize::MAX };
        let queued = (u128::from(rate) * (self.free_at - now).as_nanos() / 1_000_000_000) as usize;
        self.limit.saturating_sub(queued)
    }

    /// When a queue that is full will have room for a packet.
    pub(super) fn has_room_at(&self) -> Time {
        let Some(rate) = self.rate else { return Time::ZERO };
        let room = self.limit.saturating_sub(PACKET) as u128 * 1_000_000_000 / u128::from(rate);
        Time::from_nanos(self.free_at.as_nanos().saturating_sub(room as u64))
    }

    /// When a packet arrives; `None` if it never does.
    pub(super) fn send(&mut self, now: Time, packet: &[u8], rng: &mut SimRng) -> Option<Time> {
        if let Some((model, own)) = &mut self.model {
            let arrival = model.carry(now, packet, own);
            return arrival.filter(|_| !self.dark).map(|at| at.max(now));
        }
        let len = packet.len();
        let time_for =
            |len: usize, rate: u64| Duration::from_nanos((len as u128 * 1_000_000_000 / u128::from(rate)) as u64);
        let start = self.free_at.max(now);
        if let Some(rate) = self.rate {
            if start - now > time_for(self.limit, rate) {
                self.dropped += 1;
                return None;
            }
            self.free_at = start + time_for(len, rate);
        }
        if self.dark || self.is_lost(rng) {
            return None;
        }
        let sent = self.free_at.max(now);
        let jitter = Duration::from_nanos(rng.below(self.jitter.as_nanos() as u64 + 1));
        if self.reorder > 0.0 && rng.happens(self.reorder) {
            return Some(sent + self.delay + jitter.max(LATE));
        }
        self.last_arrival = self.last_arrival.max(sent + self.delay + jitter);
        Some(self.last_arrival)
    }

    /// Each for itself, or in bursts as Gilbert and Elliott have it.
    fn is_lost(&mut self, rng: &mut SimRng) -> bool {
        if let Some(burst) = self.burst {
            self.in_burst = if self.in_burst { !rng.happens(burst.end) } else { rng.happens(burst.begin) };
            if self.in_burst && rng.happens(burst.loss) {
                return true;
            }
        }
        self.loss > 0.0 && rng.happens(self.loss)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::rng::Purpose;
    use crate::sim::scenario::Scenario;

    fn link(options: &str) -> Link {
        let text = format!("title = \"t\"\ntransport = \"packets\"\n[[path]]\nname = \"a\"\n{options}");
        let path = &Scenario::parse(&text).unwrap().path[0];
        Link::new(path, path.rate)
    }

    fn arrivals(link: &mut Link, count: u64) -> Vec<Option<Time>> {
        let mut rng = SimRng::new(1, Purpose::Network);
        (0..count).map(|number| link.send(Time::from_millis(number), &[0; 1000], &mut rng)).collect()
    }

    #[test]
    fn packets_take_their_time_and_what_does_not_fit_into_the_queue_is_dropped() {
        let mut link = link("rate = \"4Mbit/s\"\ndelay = \"10ms\"\nqueue = \"4kB\"");
        let arrived = arrivals(&mut link, 1000);
        assert_eq!(arrived[..2], [Some(Time::from_millis(12)), Some(Time::from_millis(14))]);
        let through = arrived.iter().flatten().count();
        assert!((500..510).contains(&through), "half of it fits: {through}");
    }

    #[test]
    fn losses_have_the_configured_frequency_single_or_in_bursts() {
        let lost = |options| arrivals(&mut link(options), 10_000).iter().filter(|at| at.is_none()).count();
        assert!((80..120).contains(&lost("loss = 0.01")));
        // A fortieth of the time is bad.
        let burst = lost("burst = { begin = 0.005, end = 0.195, loss = 0.8 }");
        assert!((130..310).contains(&burst), "{burst}");
    }

    #[test]
    fn packets_keep_their_order_without_reordering() {
        let is_sorted = |options| arrivals(&mut link(options), 1000).iter().flatten().collect::<Vec<_>>().is_sorted();
        assert!(is_sorted("jitter = \"20ms\""));
        assert!(!is_sorted("jitter = \"20ms\"\nreorder = 0.05"));
    }
}
