//! One direction of a path: a queue in front of a transmitter of a certain rate, then a wire of a certain length.
//!
//! Knows no sockets, no threads and no faults. Time is what the caller says it is: the time since an origin of its
//! choosing, which never goes back.

use std::collections::VecDeque;
use std::time::Duration;

/// The properties of a link.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LinkSpec {
    /// Bits per second of the transmitter; at least 1.
    pub(crate) rate: u64,
    /// From the end of the transmission to the arrival.
    pub(crate) delay: Duration,
    /// Bytes that may wait, the one under transmission among them. What comes when it is full is dropped.
    pub(crate) queue: usize,
}

/// A link with what is on it.
#[derive(Debug)]
pub(crate) struct Link {
    spec: LinkSpec,
    waiting: VecDeque<Vec<u8>>,
    waiting_bytes: usize,
    /// When the first that waits is transmitted.
    head_done: Duration,
    /// With the time of arrival.
    flying: VecDeque<(Duration, Vec<u8>)>,
    /// The number of packets that found the queue full.
    pub(crate) dropped: u64,
}

impl Link {
    pub(crate) fn new(spec: LinkSpec) -> Self {
        let (waiting, flying) = (VecDeque::new(), VecDeque::new());
        Self { spec, waiting, waiting_bytes: 0, head_done: Duration::ZERO, flying, dropped: 0 }
    }

    /// A packet enters; dropped if the queue is full.
    pub(crate) fn push(&mut self, now: Duration, packet: Vec<u8>) {
        self.transmit(now);
        if self.waiting_bytes + packet.len() > self.spec.queue {
            self.dropped += 1;
            return;
        }
        if self.waiting.is_empty() {
            self.head_done = now + self.transmission(packet.len());
        }
        self.waiting_bytes += packet.len();
        self.waiting.push_back(packet);
    }

    /// The next packet that has arrived by `now`, and when it did.
    pub(crate) fn pop(&mut self, now: Duration) -> Option<(Duration, Vec<u8>)> {
        self.transmit(now);
        if self.flying.front().is_some_and(|(arrival, _)| *arrival <= now) { self.flying.pop_front() } else { None }
    }

    /// When the next packet arrives, if nothing changes.
    pub(crate) fn next_arrival(&self) -> Option<Duration> {
        let head = (!self.waiting.is_empty()).then(|| self.head_done + self.spec.delay);
        self.flying.front().map(|(arrival, _)| *arrival).or(head)
    }

    /// From now on it transmits `rate` bits per second, also the rest of the packet under transmission.
    pub(crate) fn set_rate(&mut self, now: Duration, rate: u64) {
        self.transmit(now);
        if !self.waiting.is_empty() {
            let left = self.head_done.saturating_sub(now);
            self.head_done = now + left.mul_f64(self.spec.rate as f64 / rate as f64);
        }
        self.spec.rate = rate;
    }

    /// How long a packet that enters now is on its way, without its own transmission.
    pub(crate) fn delay(&self, now: Duration) -> Duration {
        let head = if self.waiting.is_empty() { Duration::ZERO } else { self.head_done.saturating_sub(now) };
        let behind: usize = self.waiting.iter().skip(1).map(Vec::len).sum();
        head + self.transmission(behind) + self.spec.delay
    }

    /// Moves what has been transmitted by `now` from the queue to the wire, at the time that it happened: a caller who comes
    /// late costs no rate.
    fn transmit(&mut self, now: Duration) {
        while self.head_done <= now
            && let Some(packet) = self.waiting.pop_front()
        {
            self.waiting_bytes -= packet.len();
            self.flying.push_back((self.head_done + self.spec.delay, packet));
            if let Some(next) = self.waiting.front() {
                self.head_done += self.transmission(next.len());
            }
        }
    }

    fn transmission(&self, bytes: usize) -> Duration {
        Duration::from_nanos((bytes as u128 * 8 * 1_000_000_000 / u128::from(self.spec.rate)) as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// 1000 bytes take a millisecond.
    fn link() -> Link {
        Link::new(LinkSpec { rate: 8_000_000, delay: 10 * MS, queue: 3000 })
    }

    fn arrivals(link: &mut Link) -> Vec<(Duration, u8)> {
        std::iter::from_fn(|| link.pop(Duration::MAX / 2)).map(|(at, packet)| (at, packet[0])).collect()
    }

    #[test]
    fn a_packet_takes_its_transmission_and_the_delay() {
        let mut link = link();
        link.push(5 * MS, vec![1; 1000]);
        assert_eq!(link.next_arrival(), Some(16 * MS));
        assert_eq!(link.pop(16 * MS - Duration::from_nanos(1)), None);
        assert_eq!(link.pop(16 * MS), Some((16 * MS, vec![1; 1000])));
        assert_eq!(link.next_arrival(), None);
    }

    #[test]
    fn packets_leave_at_the_rate_and_in_order() {
        let mut link = link();
        link.push(Duration::ZERO, vec![1; 1000]);
        link.push(Duration::ZERO, vec![2; 500]);
        link.push(20 * MS, vec![3; 1000]);
        assert_eq!(arrivals(&mut link), [(11 * MS, 1), (11 * MS + MS / 2, 2), (31 * MS, 3)]);
    }

    #[test]
    fn late_caller_costs_no_rate() {
        let mut link = link();
        (1..=3).for_each(|n| link.push(Duration::ZERO, vec![n; 1000]));
        link.push(2 * MS + MS / 2, vec![4; 1000]);
        assert_eq!(arrivals(&mut link), [(11 * MS, 1), (12 * MS, 2), (13 * MS, 3), (14 * MS, 4)]);
    }

    #[test]
    fn packets_beyond_the_queue_are_dropped() {
        let mut link = link();
        (1..=4).for_each(|n| link.push(Duration::ZERO, vec![n; 1000]));
        assert_eq!(link.dropped, 1);
        // One has been transmitted: there is room for one.
        link.push(MS, vec![5; 1000]);
        assert_eq!(arrivals(&mut link).iter().map(|(_, n)| *n).collect::<Vec<_>>(), [1, 2, 3, 5]);
    }

    #[test]
    fn a_change_of_rate_counts_for_the_rest_of_what_is_under_way() {
        let mut link = link();
        link.push(Duration::ZERO, vec![1; 1000]);
        link.push(Duration::ZERO, vec![2; 1000]);
        link.set_rate(MS / 2, 80_000);
        assert_eq!(arrivals(&mut link), [(MS / 2 + 50 * MS + 10 * MS, 1), (MS / 2 + 150 * MS + 10 * MS, 2)]);
    }

    #[test]
    fn the_delay_is_what_a_packet_would_have_to_wait() {
        let mut link = link();
        assert_eq!(link.delay(7 * MS), 10 * MS);
        (1..=3).for_each(|n| link.push(7 * MS, vec![n; 1000]));
        assert_eq!(link.delay(7 * MS + MS / 2), 12 * MS + MS / 2);
    }
}
