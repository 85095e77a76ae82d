//! One stream over several TCP connections at the same time, under each scheduler.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tcpls_core::connection::schedule::{
    ActiveStandby, Aggregate, Choice, EarliestDelivery, LowestRtt, Redundant, RoundRobin, Scheduler, TcpView,
};
use tcpls_core::wire::ids::ConnectionId;
use tcpls_core::wire::record::{HEADER_LEN, MAX_INNER_PLAINTEXT};

use crate::support::peer::frames::ack;
use crate::support::peer::{FIRST, Peer};
use crate::support::{Client, Pair, Server, bytes};

/// A policy, to be made anew for each run.
type Maker = fn() -> Box<dyn Scheduler>;

fn shares(pair: &mut Pair) -> Vec<u64> {
    pair.client().stats().tcp.iter().map(|tcp| tcp.counters.stream_bytes_sent).collect()
}

/// Sends `len` bytes over `n` TCP connections; what each of them carried.
fn bulk(n: usize, scheduler: Box<dyn Scheduler>, len: usize) -> Vec<u64> {
    let mut pair = Pair::with_tcp_connections(n);
    pair.client().set_scheduler(scheduler);
    pair.transfer(Client, &bytes(len));
    shares(&mut pair)
}

// draft I08
#[test]
fn stream_arrives_in_order_over_any_tcp_connections_under_any_scheduler() {
    let makers: [Maker; 7] = [
        || Box::new(EarliestDelivery),
        || Box::new(Aggregate),
        || Box::new(LowestRtt),
        || Box::new(RoundRobin),
        || Box::new(Redundant),
        || Box::new(ActiveStandby),
        || Box::new(Alternating),
    ];
    for n in 1..=4 {
        for make in makers {
            assert!(bulk(n, make(), 700_000).iter().sum::<u64>() >= 700_000);
        }
    }
}

#[test]
fn aggregation_uses_every_tcp_connection_that_has_room() {
    for n in 2..=4 {
        let shares = bulk(n, Box::new(Aggregate), 2_000_000);
        assert_eq!(shares.iter().sum::<u64>(), 2_000_000);
        assert!(shares.iter().all(|share| *share > 100_000), "{shares:?}");
    }
}

#[test]
fn round_robin_gives_equal_shares() {
    for n in 2..=4 {
        let shares = bulk(n, Box::new(RoundRobin), 4_000_000);
        let (most, least) = (shares.iter().max().unwrap(), shares.iter().min().unwrap());
        assert!(most - least <= 3 * RoundRobin::QUANTUM, "{shares:?}");
    }
}

#[test]
fn round_robin_gives_a_new_tcp_connection_only_its_share() {
    let mut pair = Pair::with_tcp_connections(2);
    pair.client().set_scheduler(Box::new(RoundRobin));
    // Little at a time, so that no socket is ever full.
    let send = |pair: &mut Pair| (0..60).for_each(|_| pair.transfer(Client, &bytes(30_000)));
    send(&mut pair);
    let before = shares(&mut pair);
    pair.join();
    send(&mut pair);
    let gains: Vec<u64> =
        shares(&mut pair).iter().zip(before.iter().chain([&0])).map(|(now, before)| now - before).collect();
    assert_eq!(gains.len(), 3);
    assert!(gains.iter().all(|gain| gain.abs_diff(600_000) < 3 * RoundRobin::QUANTUM), "{gains:?}");
}

#[test]
fn redundant_data_is_delivered_once() {
    let mut pair = Pair::with_tcp_connections(3);
    pair.client().set_scheduler(Box::new(Redundant));
    let data = bytes(300_000);
    pair.transfer(Client, &data);
    let sent: u64 = shares(&mut pair).iter().sum();
    assert!(sent > 500_000, "little went out more than once: {sent}");
    let stream = pair.open_stream(Client);
    pair.submit(Client, stream, &data);
    pair.round();
    pair.cut(ConnectionId(1));
    pair.drive();
    pair.assert_received(Server, stream, &data);
}

#[test]
fn with_redundancy_one_stalled_tcp_connection_delays_nothing() {
    let mut pair = Pair::with_tcp_connections(2);
    pair.client().set_scheduler(Box::new(Redundant));
    pair.stall(ConnectionId::FIRST);
    pair.transfer(Client, &bytes(40_000));
}

#[test]
fn a_standby_carries_nothing_until_it_is_needed() {
    let mut pair = Pair::with_tcp_connections(2);
    pair.client().set_scheduler(Box::new(ActiveStandby));
    pair.transfer(Client, &bytes(500_000));
    assert_eq!(shares(&mut pair), [500_000, 0]);
    pair.cut(ConnectionId::FIRST);
    pair.transfer(Client, &bytes(500_000));
    assert_eq!(shares(&mut pair)[1], 500_000);
}

#[test]
fn a_scheduler_of_the_users_decides() {
    let mut pair = Pair::with_tcp_connections(3);
    pair.client().set_scheduler(Box::new(OnlyTheLast));
    pair.transfer(Client, &bytes(300_000));
    assert_eq!(shares(&mut pair), [0, 0, 300_000]);
}

/// Lets everything pass, and notes the most bytes that were unsent when it was asked.
struct Noting(Arc<AtomicU64>);

impl Scheduler for Noting {
    fn choose(&self, _asked: usize, _all: &[TcpView], unsent: u64) -> Choice {
        self.0.fetch_max(unsent, Ordering::Relaxed);
        Choice::Send
    }
}

#[test]
fn scheduler_sees_unsent_and_requeued_bytes() {
    let mut pair = Pair::with_tcp_connections(3);
    let noted = Arc::new(AtomicU64::new(0));
    pair.client().set_scheduler(Box::new(Noting(noted.clone())));
    let unsent = |pair: &mut Pair| {
        pair.step(Client);
        noted.swap(0, Ordering::Relaxed)
    };
    let stream = pair.open_stream(Client);
    for _ in 0..2 {
        pair.write(Client, stream, &bytes(1_000));
        assert_eq!(unsent(&mut pair), 1_000);
        assert_eq!(unsent(&mut pair), 0);
    }
    pair.cut(ConnectionId::FIRST);
    pair.write(Client, stream, &bytes(500));
    assert_eq!(unsent(&mut pair), 2_500, "what was lost, and more");
    pair.drive();
    pair.write(Client, stream, &bytes(300));
    assert_eq!(unsent(&mut pair), 300);
}

/// Lets everything pass, and notes the highest delivery rate that it was given.
struct Rates(Arc<AtomicU64>);

impl Scheduler for Rates {
    fn choose(&self, asked: usize, all: &[TcpView], _unsent: u64) -> Choice {
        self.0.fetch_max(all[asked].delivery_rate.unwrap_or(0), Ordering::Relaxed);
        Choice::Send
    }
}

#[test]
fn how_fast_a_tcp_connection_is_is_known_once_there_was_more_to_send_than_it_took() {
    let mut pair = Pair::with_tcp_connections(2);
    let highest = Arc::new(AtomicU64::new(0));
    pair.client().set_scheduler(Box::new(Rates(highest.clone())));
    for _ in 0..20 {
        pair.transfer(Client, &bytes(100));
    }
    assert_eq!(highest.load(Ordering::Relaxed), 0);
    pair.transfer(Client, &bytes(1_000_000));
    pair.transfer(Client, &bytes(100));
    assert!(highest.load(Ordering::Relaxed) > 1_000_000);
}

/// Lets nothing pass.
struct Never;

impl Scheduler for Never {
    fn choose(&self, _asked: usize, _all: &[TcpView], _unsent: u64) -> Choice {
        Choice::Wait
    }
}

#[test]
fn ping_alone_shows_no_rate_although_data_waits() {
    let mut peer = Peer::client();
    let second = peer.join();
    let attach = |peer: &mut Peer, tcp| {
        let id = peer.conn.open_stream().unwrap();
        peer.conn.stream(id).attach(tcp).unwrap();
        peer.conn.stream(id).write(&[0; 20_000]).unwrap();
    };
    attach(&mut peer, second);
    peer.conn.ping(FIRST).unwrap();
    assert!(peer.recv(FIRST)[0].wire_len() < 100, "what waits is for the other TCP connection");
    peer.sleep(100);
    let last = peer.received(FIRST) - 1;
    peer.send(FIRST, &[ack(FIRST, last)]);
    attach(&mut peer, FIRST);
    let first = peer.recv(FIRST)[0].wire_len();
    assert!(first > 1300, "a record of {first} bytes: 23 bytes in 100 ms are no sign of a slow path");
}

#[test]
fn scheduler_is_not_asked_about_a_stream_that_may_use_one_tcp_connection() {
    let mut pair = Pair::with_tcp_connections(2);
    pair.client().set_scheduler(Box::new(Never));
    let stream = pair.open_stream(Client);
    pair.client().stream(stream).attach(ConnectionId(1)).unwrap();
    pair.submit(Client, stream, b"attached");
    pair.drive();
    pair.assert_received(Server, stream, b"attached");
}

#[test]
fn a_stalled_tcp_connection_holds_nothing_back() {
    let mut pair = Pair::with_tcp_connections(2);
    pair.stall(ConnectionId::FIRST);
    let stream = pair.open_stream(Client);
    let data = bytes(1_000_000);
    pair.submit(Client, stream, &data);
    pair.drive();
    pair.assert_received(Server, stream, &data);
    let [stalled, other] = shares(&mut pair)[..] else { panic!("there are two") };
    assert!(stalled < 70_000, "{stalled} bytes on one that is silent");
    assert_eq!(other, 1_000_000, "what the silent one carries went out again, once, and nothing else did");
    pair.unstall(ConnectionId::FIRST);
    pair.drive();
    assert_eq!(shares(&mut pair), [stalled, other], "an answer must not cause another copy");
}

/// Lets every other record pass.
struct Alternating;

impl Scheduler for Alternating {
    fn choose(&self, asked: usize, all: &[TcpView], _unsent: u64) -> Choice {
        let sent: u64 = all.iter().map(|view| view.bytes_sent).sum();
        let turn = (sent % all.len() as u64) as usize;
        if asked == turn || all[turn].blocked { Choice::Send } else { Choice::Wait }
    }
}

struct OnlyTheLast;

impl Scheduler for OnlyTheLast {
    fn choose(&self, asked: usize, all: &[TcpView], _unsent: u64) -> Choice {
        if asked + 1 == all.len() { Choice::Send } else { Choice::Wait }
    }
}

#[test]
fn stream_attached_to_a_standby_continues_while_others_have_data() {
    // The standby holds back for what the first may carry, and for nothing else.
    let makers: [Maker; 3] = [|| Box::new(Aggregate), || Box::new(LowestRtt), || Box::new(ActiveStandby)];
    for make in makers {
        let mut pair = Pair::with_tcp_connections(2);
        let standby = ConnectionId(1);
        pair.client().set_scheduler(make());
        pair.client().set_backup(standby, true).unwrap();
        let (bulk, own) = (pair.open_stream(Client), pair.open_stream(Client));
        pair.client().stream(own).attach(standby).unwrap();
        let (now, mut out) = (pair.now, Vec::new());
        while pair.client().poll_transmit(now, ConnectionId::FIRST, 0, &mut out) > 0 {}
        pair.write(Client, bulk, &[1; 1_000_000]);
        pair.write(Client, own, &[2; 1000]);
        while pair.client().poll_transmit(now, standby, 20_000, &mut out) > 0 {}
        let carried = pair.client().tcp_stats(standby).unwrap().counters.stream_bytes_sent;
        assert_eq!(carried, 1000, "its own stream's data and nothing of the other's");
    }
}

#[test]
fn a_tcp_connection_that_stands_back_does_not_want_to_write() {
    let mut pair = Pair::with_tcp_connections(2);
    pair.client().set_backup(ConnectionId(1), true).unwrap();
    pair.drive();
    let stream = pair.open_stream(Client);
    pair.write(Client, stream, &[1; 1000]);
    assert!(pair.client().wants_write(ConnectionId::FIRST));
    assert!(!pair.client().wants_write(ConnectionId(1)), "a driver that trusted this would never come to rest");
}

#[test]
fn tcp_connection_with_room_acknowledges_for_a_full_one() {
    let mut pair = Pair::with_tcp_connections(2);
    let stream = pair.open_stream(Server);
    pair.server().stream(stream).attach(ConnectionId::FIRST).unwrap();
    let (now, mut out) = (pair.now, Vec::new());
    pair.client().ping(ConnectionId::FIRST).unwrap();
    pair.client().handle_full(now, ConnectionId::FIRST);
    pair.write(Server, stream, &[1; 1000]);
    pair.step(Server);
    pair.deliver(ConnectionId::FIRST, Client, usize::MAX);
    pair.now += std::time::Duration::from_millis(30);
    let now = pair.now;
    pair.client().handle_timeout(now);
    assert!(pair.client().wants_write(ConnectionId(1)));
    assert!(pair.client().poll_transmit(now, ConnectionId(1), 1000, &mut out) > 0);
}

/// The lengths of the records in `bytes`, headers not counted.
fn record_lengths(mut bytes: &[u8]) -> Vec<usize> {
    let mut lengths = Vec::new();
    while let [_, _, _, high, low, rest @ ..] = bytes {
        let len = usize::from(*high) << 8 | usize::from(*low);
        lengths.push(len);
        bytes = &rest[len..];
    }
    lengths
}

#[test]
fn bulk_records_are_full_while_another_acknowledgment_is_due() {
    const FULL: usize = MAX_INNER_PLAINTEXT + 16;
    let mut pair = Pair::with_tcp_connections(2);
    // Records begin small and grow with what a TCP connection has shown to carry.
    pair.transfer(Client, &bytes(2_000_000));
    let (asked, bulk) = (pair.open_stream(Server), pair.open_stream(Client));
    pair.server().stream(asked).attach(ConnectionId::FIRST).unwrap();
    pair.write(Server, asked, &[1; 1000]);
    pair.step(Server);
    pair.deliver(ConnectionId::FIRST, Client, usize::MAX);
    pair.write(Client, bulk, &bytes(200_000));
    let (now, mut out) = (pair.now, Vec::new());
    pair.client().poll_transmit(now, ConnectionId(1), 3 * (FULL + HEADER_LEN), &mut out);
    assert_eq!(record_lengths(&out), [FULL; 3]);
    out.clear();
    pair.client().poll_transmit(now, ConnectionId::FIRST, 3 * (FULL + HEADER_LEN), &mut out);
    assert_eq!(record_lengths(&out), [FULL; 3], "the first of them acknowledges");
}

#[test]
fn redundancy_does_not_send_the_same_twice_on_one_tcp_connection() {
    let mut pair = Pair::with_tcp_connections(2);
    pair.client().set_scheduler(Box::new(Redundant));
    let stream = pair.open_stream(Client);
    pair.submit(Client, stream, &bytes(200_000));
    pair.drive();
    assert!(shares(&mut pair).iter().all(|share| *share <= 200_000), "{:?}", shares(&mut pair));
}
