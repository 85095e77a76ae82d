//! Draining a session: what runs is finished, what comes too late is refused and safe to repeat, then the session closes.

use std::time::Duration;

use tcpls_core::config::Config;
use tcpls_core::connection::{SendProgress, State, TimeoutReason};
use tcpls_core::error::{CloseReason, OpenStreamError, ReadError, code};
use tcpls_core::event::{Event, StreamEvent};
use tcpls_core::wire::frame::{self, Frame, Parameters, ty};
use tcpls_core::wire::ids::{ConnectionId, StreamId};

use crate::support::peer::frames::{fin, stream};
use crate::support::peer::{GENEROUS, Peer, frames_of};
use crate::support::{Client, Pair, Server, Setup, Side, bytes};

const FIRST: ConnectionId = ConnectionId::FIRST;
const LIMIT: Duration = Duration::from_secs(30);

fn drain(pair: &mut Pair, side: Side) {
    let now = pair.now;
    pair.conn(side).drain(now, LIMIT);
}

fn local() -> Option<CloseReason> {
    Some(CloseReason::Local { error: code::NO_ERROR })
}

fn drained() -> Option<CloseReason> {
    Some(CloseReason::Peer { error: code::NO_ERROR, reason: b"drained".to_vec() })
}

/// Both halves of the stream end at its opener with the code that makes it safe to repeat.
fn assert_refused(pair: &mut Pair, opener: Side, id: StreamId) {
    assert_eq!(pair.conn(opener).stream(id).read(1), Err(ReadError::Reset(code::NOT_PROCESSED)));
    assert_eq!(pair.conn(opener).stream(id).sending(), SendProgress::Stopped(code::NOT_PROCESSED));
    assert_eq!(pair.conn(opener.peer()).accept_stream(), None);
}

#[test]
fn streams_that_run_are_finished_and_then_the_session_closes() {
    for side in [Client, Server] {
        let mut pair = Pair::established();
        let data = bytes(700_000);
        let (theirs, own) = (pair.open_stream(side.peer()), pair.open_stream(side));
        pair.write(side.peer(), theirs, b"begin");
        pair.write(side, own, b"begin");
        pair.drive();
        drain(&mut pair, side);
        pair.drive_for(Duration::from_secs(5));
        assert!(pair.events(side.peer()).contains(&Event::PeerDraining));
        for end in [Client, Server] {
            assert_eq!(pair.conn(end).state(), State::Established, "two streams are open");
            assert_eq!(pair.conn(end).open_stream(), Err(OpenStreamError::Draining));
        }
        pair.submit(side.peer(), theirs, &data);
        pair.submit(side, theirs, &data);
        pair.submit(side, own, &data);
        pair.submit(side.peer(), own, &data);
        pair.drive();
        pair.assert_received(side, theirs, &[b"begin", &data[..]].concat());
        pair.assert_received(side.peer(), theirs, &data);
        pair.assert_received(side.peer(), own, &[b"begin", &data[..]].concat());
        pair.assert_received(side, own, &data);
        assert_eq!((pair.close_reason(side), pair.close_reason(side.peer())), (local(), drained()));
    }
}

#[test]
fn idle_session_closes_once_the_peer_knows() {
    let mut pair = Pair::established();
    drain(&mut pair, Server);
    pair.step(Server);
    assert_eq!(pair.server().state(), State::Established, "the client may have streams under way");
    pair.drive();
    assert_eq!((pair.close_reason(Server), pair.close_reason(Client)), (local(), drained()));
    let told = pair.events(Client).to_vec();
    let at = |event: &dyn Fn(&Event) -> bool| told.iter().position(event).unwrap();
    assert!(at(&|event| *event == Event::PeerDraining) < at(&|event| matches!(event, Event::PeerClosing { .. })));
}

#[test]
fn stream_that_crosses_the_drain_is_refused_at_both_ends_and_delays_nothing() {
    let mut pair = Pair::established();
    let id = pair.open_stream(Client);
    pair.write(Client, id, b"GET /");
    pair.step(Client); // under way
    drain(&mut pair, Server);
    pair.drive();
    assert_eq!((pair.close_reason(Server), pair.close_reason(Client)), (local(), drained()));
    assert_refused(&mut pair, Client, id);
    assert!(!pair.events(Server).contains(&Event::Stream(StreamEvent::Opened)));
}

#[test]
fn stream_opened_before_the_drain_and_not_written_is_refused_without_a_round_trip() {
    let mut pair = Pair::established();
    drain(&mut pair, Server);
    pair.step(Server);
    let id = pair.open_stream(Client);
    pair.deliver(FIRST, Client, usize::MAX);
    assert_refused(&mut pair, Client, id);
    pair.drive();
    assert_eq!(pair.close_reason(Server), local());
}

#[test]
fn opener_that_waits_for_the_stream_limit_learns_that_the_session_drains() {
    for drains in [Client, Server] {
        let mut pair = Setup::default().both(|config| config.max_streams = 1).established();
        let id = pair.open_stream(Client);
        pair.write(Client, id, b"runs");
        pair.drive();
        assert_eq!(pair.client().open_stream(), Err(OpenStreamError::Limit));
        drain(&mut pair, drains);
        pair.drive();
        assert!(pair.events(Client).contains(&Event::Stream(StreamEvent::Available)), "{drains:?}");
        assert_eq!(pair.client().open_stream(), Err(OpenStreamError::Draining));
    }
}

#[test]
fn limit_closes_a_session_whose_streams_do_not_end() {
    let mut pair = Pair::established();
    let id = pair.open_stream(Client);
    pair.write(Client, id, b"no end");
    pair.drive();
    drain(&mut pair, Server);
    pair.drive_for(LIMIT / 2);
    assert_eq!(pair.server().state(), State::Established);
    pair.drive_for(LIMIT);
    assert_eq!((pair.close_reason(Server), pair.close_reason(Client)), (local(), drained()));
    assert_eq!(pair.stream_end(Server, id), Some(Err(ReadError::Truncated)));
}

#[test]
fn session_closes_when_the_application_reads_the_last_stream_to_its_end() {
    for is_stranded in [false, true] {
        let mut pair = Pair::established();
        pair.end(Server).reads = false;
        let id = pair.open_stream(Client);
        pair.submit(Client, id, b"question");
        pair.drive();
        pair.submit(Server, id, b"answer");
        drain(&mut pair, Server);
        pair.drive();
        if is_stranded {
            pair.cut(FIRST);
            pair.drive();
        }
        let begin = pair.now;
        pair.end(Server).read(id);
        pair.drive();
        pair.assert_received(Server, id, b"question");
        assert_eq!(pair.close_reason(Server), local());
        assert!(pair.now - begin < Duration::from_secs(1), "it does not wait for the limit");
    }
}

#[test]
fn another_call_replaces_the_limit_and_nothing_else() {
    let mut pair = Pair::established();
    let id = pair.open_stream(Client);
    pair.write(Client, id, b"no end");
    pair.drive();
    drain(&mut pair, Server);
    pair.drive();
    let now = pair.now;
    pair.server().drain(now, Duration::from_millis(10));
    assert_eq!(pair.server().timeout_reason(), Some(TimeoutReason::Drain));
    pair.drive_for(Duration::from_secs(1));
    assert_eq!(pair.close_reason(Server), local());
    assert_eq!(pair.server().stats().frames_sent.get(ty::DRAIN), 1);
}

#[test]
fn drain_lost_with_its_tcp_connection_is_sent_again() {
    for loses in [Client, Server] {
        let mut pair = Pair::with_tcp_connections(2);
        let id = pair.open_stream(Client);
        pair.write(Client, id, b"runs");
        pair.drive();
        drain(&mut pair, Server);
        pair.step(Server);
        let carrier = [FIRST, ConnectionId(1)].into_iter().find(|tcp| pair.is_under_way(*tcp, Client)).unwrap();
        pair.cut(carrier);
        pair.drive();
        assert!(pair.events(Client).contains(&Event::PeerDraining), "{loses:?}");
        assert_eq!(pair.server().stats().frames_sent.get(ty::DRAIN), 2);
        pair.finish(Client, id);
        pair.finish(Server, id);
        pair.drive();
        assert_eq!((pair.close_reason(Server), pair.close_reason(Client)), (local(), drained()));
    }
}

#[test]
fn both_ends_may_drain_at_once() {
    let mut pair = Pair::established();
    let ids = [Client, Server].map(|side| {
        let id = pair.open_stream(side);
        pair.submit(side, id, &bytes(100_000));
        (side, id)
    });
    pair.drive();
    for side in [Client, Server] {
        drain(&mut pair, side);
    }
    pair.drive();
    for (side, id) in ids {
        pair.assert_received(side.peer(), id, &bytes(100_000));
        assert!(pair.events(side).contains(&Event::PeerDraining));
        pair.submit(side.peer(), id, b"answer");
    }
    pair.drive();
    for (side, id) in ids {
        pair.assert_received(side, id, b"answer");
        assert_eq!(pair.conn(side).state(), State::Closed);
        assert_eq!(pair.conn(side).undelivered(), 0);
    }
}

#[test]
fn drain_of_a_stranded_session_waits_for_the_client_up_to_the_limit() {
    for returns in [true, false] {
        let mut pair = Pair::established();
        let id = pair.open_stream(Client);
        pair.write(Client, id, b"before");
        pair.drive();
        pair.cut(FIRST);
        drain(&mut pair, Server);
        pair.drive_for(LIMIT / 2);
        assert!(matches!(pair.server().state(), State::Stranded { .. }));
        if returns {
            pair.join();
            pair.submit(Client, id, b" and after");
            pair.submit(Server, id, b"answer");
            pair.drive();
            pair.assert_received(Server, id, b"before and after");
            pair.assert_received(Client, id, b"answer");
            assert_eq!(pair.close_reason(Client), drained());
        } else {
            pair.drive_for(LIMIT);
        }
        assert_eq!(pair.close_reason(Server), local());
    }
}

#[test]
fn drain_during_the_handshake_serves_no_stream() {
    let mut pair = Setup::default().start();
    pair.step(Client);
    pair.deliver(FIRST, Server, usize::MAX);
    drain(&mut pair, Server);
    pair.drive();
    assert!(pair.events(Client).contains(&Event::PeerDraining));
    assert_eq!((pair.close_reason(Server), pair.close_reason(Client)), (local(), drained()));
}

/// A peer that has not announced that it understands Drain.
#[test]
fn old_peer_gets_resets_and_a_close_but_no_frame() {
    let mut peer = Peer::client();
    peer.send(FIRST, &[stream(0, 0, b"runs")]);
    peer.conn.drain(peer.now, LIMIT);
    let served = peer.conn.accept_stream().unwrap();
    peer.send(FIRST, &[stream(2, 0, b"too late")]);
    let records = peer.recv(FIRST);
    let told = frames_of(&records);
    let reset = frame::ResetStream { id: StreamId(2), error: code::NOT_PROCESSED, final_size: 0 };
    let stop = frame::StopSending { id: StreamId(2), error: code::NOT_PROCESSED };
    assert!(told.contains(&reset.into()) && told.contains(&stop.into()), "{told:?}");
    assert_eq!(peer.conn.accept_stream(), None);
    assert_eq!(peer.conn.stats().frames_sent.get(ty::DRAIN), 0);
    // The refused stream ends, and so does the served one: the session closes.
    peer.send(FIRST, &[frame::ResetStream { id: StreamId(2), error: code::NOT_PROCESSED, final_size: 8 }.into()]);
    peer.conn.stream(served).finish().unwrap();
    peer.conn.stream(served).read(9).unwrap();
    peer.send(FIRST, &[fin(0, 4, b"")]);
    assert_eq!(peer.conn.stream(served).read(9), Ok(None));
    peer.rest();
    assert_eq!(peer.conn.state(), State::Closing);
}

#[test]
fn peer_that_announces_it_gets_the_number_of_its_streams() {
    let knows = Parameters { drain: 1, ..GENEROUS };
    let mut peer = Peer::with_parameters(Client, Config::default(), knows);
    peer.send(FIRST, &[stream(4, 0, b"third")]);
    peer.conn.drain(peer.now, LIMIT);
    let records = peer.recv(FIRST);
    assert!(frames_of(&records).contains(&Frame::Drain(frame::Drain { streams: 3 })));
}
