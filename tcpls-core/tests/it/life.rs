//! Moving data keeps a TCP connection alive: data that waits in a queue does not count as lost, and queues are kept
//! short.

use std::time::Duration;

use tcpls_core::config::Config;
use tcpls_core::connection::{JoinOptions, TcpInfo};
use tcpls_core::error::{CloseReason, TcpFault};
use tcpls_core::event::{Event, TcpEvent};
use tcpls_core::time::Time;
use tcpls_core::wire::frame::Parameters;
use tcpls_core::wire::ids::{ConnectionId, ErrorCode, StreamId};

use crate::support::peer::{DATA, GENEROUS, Peer};
use crate::support::{Client, Pair, Server, Setup, Side, bytes};

const FIRST: ConnectionId = ConnectionId::FIRST;

/// The report of a kernel that has received acknowledgments of `acked` bytes, the last of them now.
fn acked(now: Time, acked: u64) -> TcpInfo {
    let rtt = Duration::from_millis(100);
    TcpInfo::default().with(|info| {
        info.heard = now;
        info.unacked = 20;
        info.rtt = rtt;
        info.min_rtt = rtt;
        info.acked = acked;
    })
}

/// Time passes, and the kernel at `side` gets `bytes` new bytes each second.
fn acknowledge(pair: &mut Pair, side: Side, seconds: u64, bytes: u64) {
    for _ in 0..seconds {
        pair.now += Duration::from_secs(1);
        let info = acked(pair.now, 1000 + pair.now.as_nanos() / 1_000_000_000 * bytes);
        pair.conn(side).handle_tcp_info(FIRST, info);
        pair.advance(Duration::ZERO);
    }
}

/// A record of an answer is on its way to the client, whose Ping is lost.
fn await_answer(pair: &mut Pair) {
    let stream = pair.open_stream(Client);
    pair.write(Client, stream, b"a request");
    pair.drive();
    pair.write(Server, stream, &bytes(16_000));
    pair.step(Server);
    pair.stall_towards(FIRST, Server);
    pair.client().ping(FIRST).unwrap();
    pair.step(Client);
}

/// A session with this configuration that waits for an answer to a Ping, while `bytes` of a long record come in each period.
/// After how many milliseconds it is stalled, and lost.
fn drip(config: Config, bytes: usize, period: u64) -> (u64, u64) {
    let mut peer = Peer::with(Client, config);
    peer.conn.ping(FIRST).unwrap();
    peer.recv(FIRST);
    let record = peer.seal(FIRST, DATA, &[0; 16_384]);
    let (began, mut stalled) = (peer.now, None);
    for piece in record.chunks(bytes) {
        peer.send_bytes(FIRST, piece);
        peer.sleep(period);
        let millis = (peer.now - began).as_millis() as u64;
        if peer.conn.is_stalled(FIRST) {
            stalled.get_or_insert(millis);
        }
        if peer.tcp_events().contains(&TcpEvent::Lost { tcp: FIRST, fault: TcpFault::UserTimeout }) {
            assert_eq!(peer.conn.close_reason(), None);
            return (stalled.expect("it is stalled first"), millis);
        }
    }
    panic!("the record is whole");
}

/// How often the client reported the first TCP connection as stalled.
fn stalls(pair: &mut Pair) -> usize {
    let stalled = Event::Tcp(TcpEvent::Stalled { tcp: FIRST });
    pair.events(Client).iter().filter(|event| **event == stalled).count()
}

#[test]
fn only_tcp_connection_lives_while_bytes_arrive_although_nothing_is_acknowledged() {
    let mut pair = Pair::established();
    await_answer(&mut pair);
    for step in 0..30 {
        acknowledge(&mut pair, Server, 1, 500);
        pair.deliver(FIRST, Client, 500);
        assert_eq!(pair.live(Client), [FIRST], "after {step} s");
    }
    assert!(stalls(&mut pair) <= 1, "once it is known how far apart bytes come, they are waited for");
    acknowledge(&mut pair, Server, 19, 500);
    assert_eq!(pair.live(Client), [FIRST], "a path that takes a second for each segment may take ten to repeat one");
    acknowledge(&mut pair, Server, 2, 500);
    assert_eq!(pair.fault(Client, FIRST), Some(TcpFault::UserTimeout), "and then none for 20 s");
}

#[test]
fn only_tcp_connection_lives_while_the_peers_kernel_acknowledges_new_bytes() {
    let mut pair = Pair::established();
    let stream = pair.open_stream(Client);
    pair.write(Client, stream, &bytes(60_000));
    pair.step(Client);
    acknowledge(&mut pair, Client, 30, 1000);
    assert_eq!(pair.live(Client), [FIRST]);
    acknowledge(&mut pair, Client, 9, 0);
    assert_eq!(pair.live(Client), [FIRST], "as many bytes as before, again and again: probes are answered");
    acknowledge(&mut pair, Client, 2, 0);
    assert_eq!(pair.fault(Client, FIRST), Some(TcpFault::UserTimeout));
}

#[test]
fn second_tcp_connection_takes_over_from_one_that_acknowledges_no_records() {
    let mut pair = Pair::with_tcp_connections(2);
    let stream = pair.open_stream(Client);
    pair.client().stream(stream).attach(FIRST).unwrap();
    pair.write(Client, stream, &bytes(60_000));
    pair.step(Client);
    pair.client().stream(stream).detach(FIRST).unwrap();
    pair.stall(FIRST);
    for _ in 0..5 {
        acknowledge(&mut pair, Client, 1, 100);
        while pair.round() {}
    }
    assert_eq!(pair.read_all(Server, stream).len(), 60_000, "what it carries went out again on the other");
    assert_eq!(stalls(&mut pair), 1);
}

/// Moves the bytes of a join to `to`, `n` of them every 2 s, `steps` times.
fn join_slowly(pair: &mut Pair, tcp: ConnectionId, to: Side, steps: usize, n: usize) {
    for _ in 0..steps {
        pair.advance(Duration::from_secs(2));
        pair.deliver(tcp, to, n);
    }
}

#[test]
fn join_lives_while_bytes_of_its_answer_arrive_up_to_four_timeouts() {
    for is_whole in [true, false] {
        let mut pair = Pair::established();
        let second = pair.open_tcp();
        pair.step(Client);
        pair.deliver(second, Server, usize::MAX);
        pair.step(Server);
        join_slowly(&mut pair, second, Client, 9, 5);
        assert_eq!(pair.fault(Client, second), None, "18 s");
        if is_whole {
            pair.deliver(second, Client, usize::MAX);
            assert!(pair.tcp_events(Client).contains(&TcpEvent::Joined { tcp: second }));
        } else {
            join_slowly(&mut pair, second, Client, 1, 5);
            assert_eq!(pair.fault(Client, second), Some(TcpFault::JoinTimeout), "20 s");
        }
    }
}

#[test]
fn claim_lives_while_bytes_of_its_first_record_arrive_up_to_four_timeouts() {
    for is_whole in [true, false] {
        let mut pair = Pair::established();
        let second = pair.open_tcp();
        pair.step(Client);
        let len = pair.flow(second, Server).in_flight.len();
        pair.deliver(second, Server, len - 20);
        join_slowly(&mut pair, second, Server, 9, 1);
        if !is_whole {
            join_slowly(&mut pair, second, Server, 1, 1);
        }
        pair.deliver(second, Server, usize::MAX);
        let joined = pair.tcp_events(Server).contains(&TcpEvent::Joined { tcp: second });
        assert_eq!(joined, is_whole);
    }
}

#[test]
fn handshake_lives_while_bytes_arrive_up_to_four_timeouts() {
    for seconds in [36, 44] {
        let mut pair = Setup::default().start();
        pair.step(Client);
        pair.deliver(FIRST, Server, usize::MAX);
        pair.step(Server);
        for _ in 0..seconds / 4 {
            pair.now += Duration::from_secs(4);
            let info = acked(pair.now, pair.now.as_nanos());
            pair.server().handle_tcp_info(FIRST, info);
            pair.advance(Duration::ZERO);
            pair.deliver(FIRST, Client, 10);
        }
        assert_eq!(pair.close_reason(Client).is_some(), seconds > 40, "{:?}", pair.close_reason(Client));
    }
}

/// A second of a path that carries `rate` bytes a second towards the client, and everything at once towards the server.
fn second_of(pair: &mut Pair, rate: usize) {
    for _ in 0..20 {
        pair.now += Duration::from_millis(50);
        let flow = pair.flow(FIRST, Client);
        let arrived = flow.log.len() - flow.in_flight.len();
        let info = acked(pair.now, arrived as u64);
        pair.server().handle_tcp_info(FIRST, info);
        pair.advance(Duration::ZERO);
        pair.step(Server);
        pair.deliver(FIRST, Client, rate / 20);
        pair.step(Client);
        pair.deliver(FIRST, Server, usize::MAX);
    }
}

#[test]
fn data_in_flight_on_a_slow_path_is_limited_to_two_seconds() {
    for rate in [500, 1000, 4000, 16_000] {
        let mut pair = Pair::established();
        let stream = pair.open_stream(Client);
        pair.write(Client, stream, b"a request");
        pair.drive();
        pair.submit(Server, stream, &bytes(1_000_000));
        // What went out before anything was known of the path.
        (0..100_000 / rate).for_each(|_| second_of(&mut pair, rate));
        let mut largest = 0;
        for _ in 0..20 {
            second_of(&mut pair, rate);
            let queued = pair.flow(FIRST, Client).in_flight.len();
            largest = largest.max(queued);
            assert!(queued > 0, "{rate} bytes/s: the path is idle");
        }
        // A quarter more is tried now and then.
        assert!(largest <= rate * 3, "{rate} bytes/s: {largest} bytes are under way");
        let log = &pair.flow(FIRST, Client).log;
        let longest = lengths(log).rev().take(10).max().unwrap();
        assert!(longest <= (rate * 5 / 4).max(400), "{rate} bytes/s: a record of {longest} bytes");
    }
}

/// Ten milliseconds of paths that carry 1 MB/s each towards the client, and everything at once towards the server.
fn ten_ms_of(pair: &mut Pair, tcps: &[ConnectionId]) {
    pair.now += Duration::from_millis(10);
    pair.advance(Duration::ZERO);
    pair.step(Server);
    tcps.iter().for_each(|tcp| _ = pair.deliver(*tcp, Client, 10_000));
    pair.step(Client);
    tcps.iter().for_each(|tcp| _ = pair.deliver(*tcp, Server, usize::MAX));
}

#[test]
fn reinjected_data_goes_out_in_short_records() {
    const SECOND: ConnectionId = ConnectionId(1);
    let mut pair = Pair::with_tcp_connections(2);
    pair.spread();
    let stream = pair.open_stream(Server);
    pair.submit(Server, stream, &bytes(8_000_000));
    (0..100).for_each(|_| ten_ms_of(&mut pair, &[FIRST, SECOND]));
    let before = pair.flow(SECOND, Client).log.len();
    assert!(lengths(&pair.flow(SECOND, Client).log).rev().take(5).max() > Some(4096));
    pair.cut(FIRST);
    (0..5).for_each(|_| ten_ms_of(&mut pair, &[SECOND]));
    let longest = lengths(&pair.flow(SECOND, Client).log[before..]).take(5).max();
    assert!(longest > Some(1000) && longest <= Some(2048 + 64), "with acknowledgments: {longest:?}");
    (0..100).for_each(|_| ten_ms_of(&mut pair, &[SECOND]));
    assert!(lengths(&pair.flow(SECOND, Client).log).rev().take(5).max() > Some(4096), "what is new goes out as before");
}

/// The lengths of the records in what was sent.
fn lengths(mut log: &[u8]) -> impl DoubleEndedIterator<Item = usize> {
    let mut all = Vec::new();
    while let Some(header) = log.first_chunk::<5>() {
        all.push(5 + usize::from(u16::from_be_bytes([header[3], header[4]])));
        log = log.get(all[all.len() - 1]..).unwrap_or_default();
    }
    all.into_iter()
}

#[test]
fn slow_handshake_keeps_the_first_flight_small() {
    let mut pair = Setup::default().start();
    pair.client().handle_tcp_info(FIRST, acked(Time::ZERO, 0));
    pair.step(Client);
    pair.deliver(FIRST, Server, usize::MAX);
    pair.server().handle_tcp_info(FIRST, acked(Time::ZERO, 0));
    pair.step(Server);
    pair.advance(Duration::from_secs(2));
    pair.drive();
    let stream = pair.open_stream(Client);
    pair.write(Client, stream, b"a request");
    pair.drive();
    pair.submit(Server, stream, &bytes(1_000_000));
    pair.step(Server);
    let in_flight = pair.flow(FIRST, Client).in_flight.len();
    assert!(in_flight < 8000, "{in_flight} bytes, after a handshake at 1 kB/s");
}

/// Both ends with this idle timeout, after the handshake.
fn with_idle_timeout(client: u64, server: u64) -> Pair {
    let mut setup = Setup::default();
    setup.client.idle_timeout = Some(Duration::from_millis(client));
    setup.server.idle_timeout = Some(Duration::from_millis(server));
    setup.established()
}

#[test]
fn open_stream_keeps_a_session_whose_peer_answers_at_any_idle_timeout() {
    for (client, server) in [(60_000, 60_000), (20_000, 10_000), (3000, 60_000), (60_000, 1500), (1100, 1100)] {
        let mut pair = with_idle_timeout(client, server);
        let stream = pair.open_stream(Client);
        pair.write(Client, stream, b"a question that is answered much later");
        pair.drive_for(Duration::from_millis(client.min(server) * 12));
        assert_eq!(pair.close_reason(Client), None, "{client} and {server} ms");
        let since = pair.now;
        pair.stall(FIRST);
        pair.drive_for(Duration::from_millis(client.min(server) * 5 / 2).min(Duration::from_secs(9)));
        let closed = [Client, Server].map(|side| pair.close_reason(side).is_some());
        let expected = client.min(server) * 5 / 2 < 9000;
        assert_eq!(closed.contains(&true), expected, "{client} and {server} ms: silent since {since:?}");
    }
}

#[test]
fn probes_that_are_switched_off_do_not_keep_a_session() {
    let setup = Setup::default().both(|config| {
        config.probe_after = None;
        config.idle_timeout = Some(Duration::from_secs(10));
    });
    let mut pair = setup.established();
    let stream = pair.open_stream(Client);
    pair.write(Client, stream, b"a question that is answered much later");
    pair.drive_for(Duration::from_millis(9900));
    assert_eq!(pair.close_reason(Client), None);
    pair.drive_for(Duration::from_millis(200));
    let reasons = [Client, Server].map(|side| pair.close_reason(side));
    assert!(reasons.contains(&Some(CloseReason::IdleTimeout)), "{reasons:?}");
}

#[test]
fn joins_do_not_keep_a_session_without_streams() {
    // A proxy ends quiet TCP connections after 15 s, and the client joins again each time.
    for has_stream in [false, true] {
        let mut pair = Pair::established();
        let stream = pair.open_stream(Client);
        pair.write(Client, stream, b"a request");
        pair.drive();
        if !has_stream {
            pair.finish(Client, stream);
            pair.finish(Server, stream);
            pair.drive();
        }
        for _ in 0..8 {
            pair.drive_for(Duration::from_secs(15));
            let Some(last) = pair.live(Client).last().copied() else { break };
            pair.cut(last);
            pair.drive();
            pair.join();
        }
        let reasons = [Client, Server].map(|side| pair.close_reason(side));
        assert_eq!(reasons.contains(&Some(CloseReason::IdleTimeout)), !has_stream, "{reasons:?}");
    }
}

#[test]
fn quiet_session_waits_the_idle_timeout_for_an_answer() {
    let mut pair = with_idle_timeout(10_000, 10_000);
    pair.drive_for(Duration::from_secs(9));
    let stream = pair.open_stream(Client);
    pair.write(Client, stream, b"a request");
    pair.step(Client);
    for _ in 0..8 {
        pair.advance(Duration::from_secs(1));
        pair.server().handle_tcp_info(FIRST, acked(Time::ZERO, 0).with(|info| info.heard = Time::ZERO));
    }
    assert_eq!(pair.close_reason(Client), None, "8 s after the request, 17 s after the last answer");
}

#[test]
fn data_without_acknowledgments_does_not_wait_on_a_slow_path() {
    let mut pair = Pair::established();
    let stream = pair.open_stream(Client);
    pair.write(Client, stream, b"a request");
    pair.drive();
    pair.submit(Server, stream, &bytes(100_000));
    (0..80).for_each(|_| second_of(&mut pair, 1000));
    // Both close at once: nothing is acknowledged from here on.
    pair.close(Client, 0, b"");
    pair.close(Server, 0, b"");
    (0..40).for_each(|_| second_of(&mut pair, 10_000));
    pair.drive();
    assert_eq!(pair.read_all(Client, stream).len(), 100_000);
}

#[test]
fn incomplete_record_does_not_keep_a_tcp_connection_until_idle() {
    let (_, lost) = drip(Config::default(), 260, 1000);
    assert!((52_000..=53_000).contains(&lost), "{lost} ms");
}

#[test]
fn incomplete_record_extends_the_user_timeout_up_to_sixfold() {
    let (_, lost) = drip(Config::default().with(|config| config.idle_timeout = None), 260, 1000);
    assert!((60_000..=61_000).contains(&lost), "{lost} ms");
}

#[test]
fn single_bytes_of_a_record_put_off_neither_a_stall_nor_the_user_timeout() {
    for (bytes, period, longest) in [(1, 50, 12_000), (10, 100, 19_000), (1, 1000, 21_000), (10, 1000, 21_000)] {
        let (stalled, lost) = drip(Config::default(), bytes, period);
        // TCP may need ten times as long as lies between the pieces to repeat a segment.
        assert!(stalled <= 3000 && lost <= longest, "{bytes} bytes in {period} ms: {stalled} ms, {lost} ms");
    }
}

#[test]
fn longest_user_timeout_never_passes() {
    let parameters = Parameters { user_timeout_ms: 0, ..GENEROUS };
    let config = Config::default().with(|config| config.user_timeout = Duration::MAX);
    let mut peer = Peer::with_parameters(Client, config, parameters);
    peer.conn.ping(FIRST).unwrap();
    peer.recv(FIRST);
    peer.sleep(1_000);
    assert_eq!(peer.conn.close_reason(), None);
}

/// Lets `seconds` pass on a path that takes 1.5 s each way.
fn drive_far(pair: &mut Pair, seconds: u64) {
    let ack_delay = Duration::from_millis(30);
    for _ in 0..seconds * 2 / 3 {
        pair.step(Client);
        pair.step(Server);
        pair.advance(ack_delay);
        pair.step(Client);
        pair.step(Server);
        pair.advance(Duration::from_millis(1500) - ack_delay);
        pair.deliver_all();
    }
}

/// A session on a path with round trips of 3 s, before any record was acknowledged, and those of its TCP connections.
fn far_away(change: impl Fn(&mut Config)) -> (Pair, StreamId, [ConnectionId; 3]) {
    let mut pair = Setup::default().both(change).start();
    drive_far(&mut pair, 9);
    let stream = pair.open_stream(Client);
    pair.write(Client, stream, b"a request");
    let joins = [true, false].map(|zero_rtt| {
        let tcp = pair.open_tcp_with(JoinOptions::default().with(|join| join.zero_rtt = zero_rtt));
        drive_far(&mut pair, 9);
        tcp
    });
    (pair, stream, [FIRST, joins[0], joins[1]])
}

#[test]
fn tcp_connection_is_not_stalled_before_its_first_round_trip_is_over() {
    let (mut pair, _, tcps) = far_away(|_| ());
    assert_eq!(pair.live(Server), tcps);
    for side in [Client, Server] {
        let is_stall = |event: &&Event| matches!(event, Event::Tcp(TcpEvent::Stalled { .. } | TcpEvent::Lost { .. }));
        assert_eq!(pair.events(side).iter().find(is_stall), None, "{side:?}");
    }
}

#[test]
fn timeouts_shorter_than_a_round_trip_end_neither_tcp_connection_nor_session() {
    let (mut pair, stream, tcps) = far_away(|config| {
        config.user_timeout = Duration::from_secs(1);
        config.idle_timeout = Some(Duration::from_secs(2));
        config.close_timeout = Duration::from_secs(1);
    });
    assert_eq!(pair.live(Server), tcps);
    assert_eq!(pair.read_all(Server, stream), b"a request");
    pair.write(Server, stream, b"an answer");
    pair.finish(Server, stream);
    pair.close(Server, 0, b"");
    drive_far(&mut pair, 15);
    assert_eq!(pair.read_all(Client, stream), b"an answer");
    assert_eq!(pair.server().undelivered(), 0);
    assert_eq!(pair.close_reason(Server), Some(CloseReason::Local { error: ErrorCode(0) }));
}

#[test]
fn untried_tcp_connection_gets_an_initial_window_while_another_lives() {
    for has_other in [true, false] {
        let mut pair = Pair::with_tcp_connections(2);
        let second = pair.live(Server)[1];
        pair.stall_towards(second, Client);
        if !has_other {
            pair.cut(FIRST);
        }
        let stream = pair.open_stream(Server);
        pair.submit(Server, stream, &bytes(1_000_000));
        pair.step(Server);
        let under_way = pair.flow(second, Client).in_flight.len();
        assert_eq!(under_way < 32_000, has_other, "{under_way}");
    }
}

#[test]
fn session_is_idle_at_once_when_the_slow_tcp_connection_that_it_waited_for_is_lost() {
    let mut pair = Setup::default()
        .both(|config| {
            config.user_timeout = Duration::from_secs(8);
            config.idle_timeout = Some(Duration::from_secs(7));
        })
        .established();
    let second = pair.open_tcp_with(JoinOptions::default());
    drive_far(&mut pair, 4);
    assert_eq!(pair.live(Client), [FIRST, second]);
    pair.client().ping(FIRST).unwrap();
    drive_far(&mut pair, 4);
    // From here on, the first TCP connection answers quickly.
    for _ in 0..20 {
        pair.client().ping(FIRST).unwrap();
        pair.drive();
    }
    pair.stall(second);
    pair.client().ping(second).unwrap();
    pair.drive_for(Duration::from_secs(1));
    pair.client().ping(FIRST).unwrap();
    pair.drive();
    let asked = pair.now;
    while pair.fault(Client, second).is_none() {
        pair.advance(Duration::from_millis(100)); // leaves no timeout in the past
    }
    assert!(pair.now - asked > Duration::from_secs(7), "it waits for a slow answer");
    assert_eq!(pair.close_reason(Client), Some(CloseReason::IdleTimeout));
}
