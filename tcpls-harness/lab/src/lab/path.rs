//! A path: a link in each direction, a middlebox, and their faults. It has no sockets and no clock of its own: `wire`
//! has them.

use std::collections::VecDeque;
use std::net::Ipv4Addr;
use std::time::Duration;

use serde::Serialize;

use super::forge::{self, Segment};
use super::link::{Link, LinkSpec};
use super::middlebox::{Middlebox, Verdict};

/// Towards the client.
pub(crate) const DOWN: usize = 0;
/// Towards the server.
pub(crate) const UP: usize = 1;

/// The properties of a path, the same in both directions.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct PathSpec {
    /// In Mbit/s, of whole IP packets.
    pub(crate) rate: f64,
    /// Round-trip time in milliseconds while nothing waits.
    pub(crate) rtt: f64,
    /// How long a packet that finds the queue almost full waits, in milliseconds.
    pub(crate) queue: f64,
    /// The probability that a packet is lost on the wire, behind the queue.
    pub(crate) loss: f64,
}

/// What [`PathSpec::parse`] wants.
const WANTED: &str = "a path is MBIT,RTT,QUEUE or MBIT,RTT,QUEUE,LOSS, as in 25,20,50,0.1";

impl PathSpec {
    /// Reads `MBIT,RTT,QUEUE[,LOSS]`: Mbit/s, twice milliseconds, and per cent.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let numbers: Vec<f64> = text.split(',').map(str::parse).collect::<Result<_, _>>().map_err(|_| WANTED)?;
        let (rate, rtt, queue, loss) = match numbers[..] {
            [rate, rtt, queue] => (rate, rtt, queue, 0.0),
            [rate, rtt, queue, loss] => (rate, rtt, queue, loss),
            _ => return Err(WANTED.to_owned()),
        };
        let is_possible = rate > 0.0 && rtt >= 0.0 && rate * queue >= 12.0 && (0.0..100.0).contains(&loss);
        let spec = Self { rate, rtt, queue, loss: loss / 100.0 };
        let is_finite = numbers.iter().all(|number| number.is_finite());
        if is_possible && is_finite { Ok(spec) } else { Err(format!("{WANTED}; the queue holds a packet")) }
    }

    fn link(&self) -> LinkSpec {
        let rate = bits_per_second(self.rate);
        LinkSpec {
            rate,
            delay: Duration::from_secs_f64(self.rtt / 2e3),
            queue: (self.rate * 1e3 * self.queue / 8.0) as usize,
        }
    }
}

fn bits_per_second(mbit: f64) -> u64 {
    ((mbit * 1e6) as u64).max(1)
}

/// An event on a path.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Change {
    /// Nothing is delivered any more, in the directions that are true.
    Dark { down: bool, up: bool },
    /// A middlebox resets all TCP connections; new ones may begin, or are reset too.
    Reset { new_ones_may_begin: bool },
    /// Everything is delivered again.
    Well,
    /// A new rate in both directions, as a part of what it was at first. The queue keeps its size.
    Rate(f64),
}

/// The sequence of lost packets, determined by a seed (xorshift64*).
#[derive(Clone, Copy, Debug)]
struct Chance(u64);

impl Chance {
    fn new(seed: u64) -> Self {
        // Seeds that differ by a bit must not begin alike.
        Self((seed + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn strikes(&mut self, probability: f64) -> bool {
        if probability <= 0.0 {
            return false;
        }
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let bits = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11;
        (bits as f64) < probability * (1_u64 << 53) as f64
    }
}

/// A path with what is under way on it.
#[derive(Debug)]
pub(crate) struct Path {
    spec: PathSpec,
    links: [Link; 2],
    chance: Chance,
    dark: [bool; 2],
    /// At the client's end.
    middlebox: Middlebox,
    /// What the middlebox has for the client.
    for_client: VecDeque<Vec<u8>>,
    /// The addresses of client and server, of each pair of devices that it connects.
    ends: Vec<[Ipv4Addr; 2]>,
    /// Payload of TCP delivered to the client and to the server of each pair, with what was sent twice.
    pub(crate) delivered: Vec<[u64; 2]>,
}

impl Path {
    /// A path between the addresses of a client and a server. `seed` decides which packets are lost.
    pub(crate) fn new(spec: PathSpec, client: Ipv4Addr, server: Ipv4Addr, seed: u64) -> Self {
        Self::shared(spec, vec![[client, server]], seed)
    }

    /// A path that several pairs of a client's and a server's address share: one queue in each direction for all.
    pub(crate) fn shared(spec: PathSpec, ends: Vec<[Ipv4Addr; 2]>, seed: u64) -> Self {
        Self {
            spec,
            links: [Link::new(spec.link()), Link::new(spec.link())],
            chance: Chance::new(seed),
            dark: [false; 2],
            middlebox: Middlebox::default(),
            for_client: VecDeque::new(),
            delivered: vec![[0; 2]; ends.len()],
            ends,
        }
    }

    /// Which pair of addresses the packet is between, if it is on its way in this direction.
    pub(crate) fn end_of(&self, direction: usize, packet: &[u8]) -> Option<usize> {
        let (from, to) = forge::addresses(packet)?;
        self.ends.iter().position(|ends| ends[1 - direction] == from && ends[direction] == to)
    }

    /// How many pairs of devices it connects.
    pub(crate) fn width(&self) -> usize {
        self.ends.len()
    }

    /// A packet enters. What is not from one end to the other has no business here.
    pub(crate) fn enter(&mut self, now: Duration, direction: usize, packet: Vec<u8>) {
        if self.end_of(direction, &packet).is_none() {
            return;
        }
        match if direction == UP { self.middlebox.pass_up(&packet) } else { Verdict::Pass } {
            Verdict::Pass => self.links[direction].push(now, packet),
            Verdict::Answer(reset) => self.for_client.extend(reset),
        }
    }

    /// The next packet that is to be delivered by `now`, and when it should have been. A path goes dark at the far end: what is
    /// under way is lost.
    pub(crate) fn leave(&mut self, now: Duration, direction: usize) -> Option<(Duration, Vec<u8>)> {
        if direction == DOWN
            && let Some(packet) = self.for_client.pop_front()
        {
            return Some((now, packet));
        }
        while let Some((at, packet)) = self.links[direction].pop(now) {
            if self.dark[direction] || self.chance.strikes(self.spec.loss) {
                continue;
            }
            match if direction == DOWN { self.middlebox.pass_down(&packet) } else { Verdict::Pass } {
                Verdict::Pass => {
                    let end = self.end_of(direction, &packet).unwrap_or_default();
                    self.delivered[end][direction] += Segment::parse(&packet).map_or(0, |segment| segment.len as u64);
                    return Some((at, packet));
                }
                Verdict::Answer(reset) => reset.into_iter().for_each(|reset| self.links[UP].push(now, reset)),
            }
        }
        None
    }

    /// Changes the path.
    pub(crate) fn change(&mut self, now: Duration, change: Change) {
        match change {
            Change::Dark { down, up } => self.dark = [down, up],
            Change::Reset { new_ones_may_begin } => {
                let [to_client, to_server] = self.middlebox.forget(new_ones_may_begin);
                self.for_client.extend(to_client);
                to_server.into_iter().for_each(|reset| self.links[UP].push(now, reset));
            }
            Change::Well => {
                self.dark = [false; 2];
                self.middlebox.let_all_pass();
            }
            Change::Rate(part) => {
                let rate = bits_per_second(self.spec.rate * part);
                self.links.iter_mut().for_each(|link| link.set_rate(now, rate));
            }
        }
    }

    /// When something is to be done next.
    pub(crate) fn next(&self) -> Option<Duration> {
        if !self.for_client.is_empty() {
            return Some(Duration::ZERO);
        }
        self.links.iter().filter_map(Link::next_arrival).min()
    }

    /// How long a small packet there and its answer back would take now.
    pub(crate) fn round_trip(&self, now: Duration) -> Duration {
        self.links.iter().map(|link| link.delay(now)).sum()
    }
}

#[cfg(test)]
mod tests {
    use etherparse::PacketBuilder;

    use super::*;

    const MS: Duration = Duration::from_millis(1);
    const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 0, 1, 1);
    const SERVER: Ipv4Addr = Ipv4Addr::new(10, 0, 1, 2);

    fn path() -> Path {
        Path::new(PathSpec { rate: 8.0, rtt: 20.0, queue: 50.0, loss: 0.0 }, CLIENT, SERVER, 0)
    }

    /// From the server to the client, 1000 bytes in all.
    fn data() -> Vec<u8> {
        segment(SERVER, CLIENT, &[7; 960])
    }

    fn segment(from: Ipv4Addr, to: Ipv4Addr, payload: &[u8]) -> Vec<u8> {
        let mut packet = Vec::new();
        let builder = PacketBuilder::ipv4(from.octets(), to.octets(), 64).tcp(443, 1234, 1, 500).ack(9);
        builder.write(&mut packet, payload).unwrap();
        packet
    }

    #[test]
    fn what_fits_the_path_is_delivered_and_counted() {
        let mut path = path();
        path.enter(Duration::ZERO, DOWN, data());
        path.enter(Duration::ZERO, DOWN, segment(Ipv4Addr::new(10, 0, 2, 2), CLIENT, b"stray"));
        assert_eq!(path.next(), Some(11 * MS));
        assert_eq!(path.leave(11 * MS, DOWN), Some((11 * MS, data())));
        assert_eq!(path.leave(99 * MS, DOWN), None);
        assert_eq!(path.delivered, [[960, 0]]);
    }

    #[test]
    fn pairs_of_devices_share_a_queue_and_are_counted_apart() {
        let other = Ipv4Addr::new(10, 0, 3, 1);
        let mut path = Path::shared(path().spec, vec![[CLIENT, SERVER], [other, SERVER]], 0);
        path.enter(Duration::ZERO, DOWN, data());
        path.enter(Duration::ZERO, DOWN, segment(SERVER, other, &[7; 460]));
        path.enter(Duration::ZERO, DOWN, segment(SERVER, Ipv4Addr::new(10, 0, 4, 1), b"stray"));
        let ends = std::iter::from_fn(|| path.leave(99 * MS, DOWN)).map(|(at, packet)| (at, path_end(&packet)));
        fn path_end(packet: &[u8]) -> Option<Ipv4Addr> {
            forge::addresses(packet).map(|(_, to)| to)
        }
        assert_eq!(ends.collect::<Vec<_>>(), [(11 * MS, Some(CLIENT)), (11 * MS + MS / 2, Some(other))]);
        assert_eq!(path.end_of(DOWN, &segment(SERVER, other, b"")), Some(1));
        assert_eq!((path.delivered.clone(), path.width()), (vec![[960, 0], [460, 0]], 2));
    }

    #[test]
    fn packets_in_flight_are_lost_when_a_path_goes_dark() {
        let mut path = path();
        path.enter(Duration::ZERO, DOWN, data());
        path.enter(Duration::ZERO, UP, segment(CLIENT, SERVER, b"request"));
        path.change(5 * MS, Change::Dark { down: true, up: false });
        assert_eq!(path.leave(30 * MS, DOWN), None);
        assert!(path.leave(30 * MS, UP).is_some());
        path.change(40 * MS, Change::Well);
        path.enter(40 * MS, DOWN, data());
        assert!(path.leave(51 * MS, DOWN).is_some());
    }

    #[test]
    fn reset_reaches_both_ends_at_once() {
        let mut path = path();
        path.enter(Duration::ZERO, UP, segment(CLIENT, SERVER, b"request"));
        path.change(20 * MS, Change::Reset { new_ones_may_begin: false });
        assert_eq!(path.next(), Some(Duration::ZERO));
        let is_reset = |packet: Option<(Duration, Vec<u8>)>| Segment::parse(&packet.unwrap().1).unwrap().rst;
        assert!(is_reset(path.leave(20 * MS, DOWN)));
        assert!(!is_reset(path.leave(31 * MS, UP)));
        assert!(is_reset(path.leave(31 * MS, UP)));
        // What the server had under way is answered at the client's end.
        path.enter(40 * MS, DOWN, data());
        assert_eq!(path.leave(51 * MS, DOWN), None);
        assert!(is_reset(path.leave(62 * MS, UP)));
    }

    #[test]
    fn a_path_that_gets_slow_keeps_its_queue() {
        let mut path = path();
        (0..50).for_each(|_| path.enter(Duration::ZERO, DOWN, data()));
        assert_eq!(path.round_trip(Duration::ZERO), 70 * MS);
        path.change(Duration::ZERO, Change::Rate(0.01));
        assert_eq!(path.round_trip(Duration::ZERO), 5020 * MS);
    }

    #[test]
    fn a_lossy_path_loses_the_part_that_it_should_and_the_same_packets_for_a_seed() {
        let lost = |seed| {
            let mut chance = Chance::new(seed);
            (0..100_000).map(|_| chance.strikes(0.01)).collect::<Vec<bool>>()
        };
        let count = |lost: &[bool]| lost.iter().filter(|lost| **lost).count();
        for seed in 0..8 {
            assert!((900..1100).contains(&count(&lost(seed))), "{} of 100,000 packets", count(&lost(seed)));
        }
        assert_eq!(lost(1), lost(1));
        assert_ne!(lost(1), lost(2));
        let mut path = Path { spec: PathSpec { loss: 1.0, ..path().spec }, ..path() };
        path.enter(Duration::ZERO, DOWN, data());
        assert_eq!(path.leave(99 * MS, DOWN), None);
        assert_eq!(path.delivered, [[0, 0]]);
    }

    #[test]
    fn a_path_is_read_from_numbers() {
        let spec = PathSpec { rate: 25.0, rtt: 20.0, queue: 50.0, loss: 0.001 };
        assert_eq!(PathSpec::parse("25,20,50,0.1"), Ok(spec));
        assert_eq!(PathSpec::parse("25,20,50"), Ok(PathSpec { loss: 0.0, ..spec }));
        for wrong in
            ["", "25", "25,20", "25,20,x", "0,20,50", "-1,20,50", "25,20,0.1", "25,20,50,100", "inf,1,1", "1,NaN,99"]
        {
            assert!(PathSpec::parse(wrong).is_err(), "{wrong}");
        }
    }
}
