//! Recovery of a client that has lost its TCP connections, and when it is impossible.

use std::time::Duration;

use tcpls_core::connection::{JoinOptions, State, TcpEnd};
use tcpls_core::crypto::plaintext_alert;
use tcpls_core::error::{Alert, CloseReason, OpenStreamError, OpenTcpError, ReadError, TcpFault};
use tcpls_core::event::Event;
use tcpls_core::wire::frame::{ConnectionStatus, Frame};
use tcpls_core::wire::ids::Side::{Client, Server};
use tcpls_core::wire::ids::{ConnectionId, Side};

use crate::support::peer::frames::token;
use crate::support::peer::{FIRST, Peer, frames_of};
use crate::support::{Pair, bytes};

/// All tokens are spent on TCP connections that end before they have carried anything.
fn lose_all(pair: &mut Pair) {
    let joins: Vec<ConnectionId> = (0..pair.client().tokens()).map(|_| pair.open_tcp()).collect();
    for join in joins {
        pair.step(Client);
        pair.cut(join);
    }
    assert_eq!(pair.client().state(), State::Established);
    pair.cut(FIRST);
}

#[test]
fn client_without_tcp_connection_and_token_ends_with_out_of_tokens() {
    let mut pair = Pair::established();
    let (up, down) = (pair.open_stream(Client), pair.open_stream(Server));
    pair.write(Client, up, b"half of it");
    pair.write(Server, down, b"half of it");
    pair.drive();
    lose_all(&mut pair);
    let reason = CloseReason::OutOfTokens { fault: TcpFault::Reset };
    assert_eq!(pair.close_reason(Client), Some(reason.clone()));
    assert_eq!(pair.events(Client).last(), Some(&Event::Closed { reason }));
    assert!(!pair.events(Client).iter().any(|event| matches!(event, Event::Stranded { .. })));
    assert_eq!(pair.client().poll_timeout(), None);
    let now = pair.now;
    assert_eq!(pair.client().open_tcp(now), Err(OpenTcpError::Closed));
    assert_eq!(pair.client().open_stream(), Err(OpenStreamError::Closed));
    assert_eq!(pair.stream_end(Client, down), Some(Err(ReadError::Truncated)));
    assert!(matches!(pair.server().state(), State::Stranded { .. }), "the server can't know");
}

#[test]
fn client_with_a_join_under_way_and_no_token_waits_for_its_outcome() {
    let mut pair = Pair::established();
    while pair.client().tokens() > 1 {
        let join = pair.open_tcp();
        pair.step(Client);
        pair.cut(join);
    }
    let last = pair.open_tcp();
    pair.cut(FIRST);
    assert_eq!(pair.close_reason(Client), None);
    pair.drive();
    assert_eq!(pair.live(Client), [last]);
    pair.transfer(Client, b"and it goes on");
}

#[test]
fn client_whose_server_has_forgotten_the_session_ends_with_the_last_refusal() {
    let mut peer = Peer::server();
    peer.let_open(1, true);
    peer.let_open(2, true);
    peer.conn.handle_tcp_end(peer.now, FIRST, TcpEnd::Reset);
    peer.send_bytes(ConnectionId(1), &plaintext_alert(Alert::IllegalParameter));
    assert_eq!(peer.conn.close_reason(), None, "another join is under way");
    peer.send_bytes(ConnectionId(2), &plaintext_alert(Alert::IllegalParameter));
    let reason = CloseReason::OutOfTokens { fault: TcpFault::Alert(47) };
    assert_eq!(peer.conn.close_reason(), Some(&reason));
    assert!(reason.to_string().contains("the server refused the last token"), "{reason}");
}

#[test]
fn server_waits_for_a_client_that_may_hold_a_token() {
    let mut pair = Pair::established();
    pair.cut(FIRST);
    pair.drive_for(Duration::from_secs(59));
    for side in [Client, Server] {
        assert!(matches!(pair.conn(side).state(), State::Stranded { .. }), "{side:?}");
    }
}

/// Something in front of the server accepts a TCP connection and closes it.
fn join_in_vain(pair: &mut Pair) -> ConnectionId {
    let tcp = pair.open_tcp_slowly();
    pair.step(Client);
    pair.cut(tcp);
    tcp
}

#[test]
fn token_of_a_join_that_ended_before_any_byte_is_used_again_after_all_others() {
    let mut pair = Pair::established();
    let (stream, data) = (pair.open_stream(Client), bytes(100_000));
    pair.submit(Client, stream, &data);
    pair.round();
    let tokens = pair.client().tokens();
    pair.cut(FIRST);
    let mut tried: Vec<ConnectionId> = (0..tokens * 3).map(|_| join_in_vain(&mut pair)).collect();
    assert_eq!(pair.client().tokens(), 1, "all that came back is one last resort");
    assert!(matches!(pair.client().state(), State::Stranded { .. }));
    let again = tried.split_off(tokens);
    assert!(again.chunks(tokens).all(|turn| turn == tried), "in turns: {tried:?} {again:?}");
    let back = pair.open_tcp_slowly();
    pair.drive();
    assert_eq!((back, pair.live(Client)), (tried[0], vec![back]));
    pair.assert_received(Server, stream, &data);
    assert_eq!(pair.client().tokens(), tokens, "the server has replaced those that were seen on the wire");
    let next = pair.join();
    assert!(tried.iter().all(|tcp| *tcp < next), "they are not used once there are others");
}

#[test]
fn token_of_a_join_that_carried_a_record_is_spent() {
    let mut pair = Pair::established();
    let tokens = pair.client().tokens();
    pair.cut(FIRST);
    let join = pair.open_tcp();
    pair.step(Client);
    pair.cut(join);
    assert_eq!(pair.client().tokens(), tokens - 1, "its nonces are used up");
}

#[test]
fn token_of_a_join_that_was_answered_in_clear_is_spent() {
    let mut peer = Peer::server();
    peer.let_open(1, false);
    peer.let_open(2, false);
    peer.conn.handle_tcp_end(peer.now, FIRST, TcpEnd::Reset);
    peer.send_bytes(ConnectionId(1), &plaintext_alert(Alert::IllegalParameter));
    assert_eq!(peer.conn.tokens(), 0);
    peer.conn.handle_tcp_end(peer.now, ConnectionId(2), TcpEnd::Fin);
    assert_eq!(peer.conn.tokens(), 1, "of this one nothing is known");
    assert!(matches!(peer.conn.state(), State::Stranded { .. }));
}

#[test]
fn token_of_a_join_that_ended_within_a_record_of_its_answer_is_spent() {
    for (answer, kept) in [(&b""[..], 1), (b"\x16", 0), (b"\x16\x03\x03\x00\x7a\x02", 0)] {
        for end in [Some(TcpEnd::Fin), Some(TcpEnd::Reset), None] {
            let mut peer = Peer::server();
            peer.let_open(1, false);
            peer.conn.handle_tcp_end(peer.now, FIRST, TcpEnd::Reset);
            peer.send_bytes(ConnectionId(1), answer);
            match end {
                Some(end) => peer.conn.handle_tcp_end(peer.now, ConnectionId(1), end),
                None => peer.sleep(6000),
            }
            assert_eq!(peer.conn.tokens(), kept, "{answer:?}, {end:?}");
        }
    }
}

#[test]
fn server_replaces_the_token_at_once_while_another_tcp_connection_lives() {
    let mut pair = Pair::established();
    let tokens = pair.client().tokens();
    let vain = join_in_vain(&mut pair);
    assert_eq!(pair.client().tokens(), tokens - 1);
    pair.drive();
    assert_eq!(pair.client().tokens(), tokens);
    let joins: Vec<ConnectionId> = (0..tokens).map(|_| pair.join()).collect();
    assert!(!joins.contains(&vain));
}

#[test]
fn server_replaces_the_token_when_the_stalled_tcp_connection_answers() {
    let mut pair = Pair::established();
    let tokens = pair.client().tokens();
    pair.stall(FIRST);
    pair.client().ping(FIRST).unwrap();
    pair.drive_for(Duration::from_secs(1));
    assert!(pair.client().is_stalled(FIRST));
    let vain = join_in_vain(&mut pair);
    assert_eq!(pair.client().tokens(), tokens - 1, "it came back, and counts only when it is the last");
    pair.unstall(FIRST);
    pair.drive();
    assert_eq!((pair.live(Client), pair.client().tokens()), (vec![FIRST], tokens));
    assert!((0..tokens).map(|_| pair.join()).all(|join| join != vain));
}

#[test]
fn client_whose_joins_are_always_closed_ends_as_stranded() {
    let mut pair = Pair::established();
    pair.cut(FIRST);
    for _ in 0..30 {
        join_in_vain(&mut pair);
        pair.drive_for(Duration::from_secs(1));
    }
    assert!(matches!(pair.client().state(), State::Stranded { .. }));
    pair.drive_for(Duration::from_secs(31));
    assert_eq!(pair.close_reason(Client), Some(CloseReason::Stranded));
}

/// Stream bytes that `side` has put on `tcp`.
fn carried(pair: &mut Pair, side: Side, tcp: ConnectionId) -> u64 {
    pair.conn(side).tcp_stats(tcp).map_or(0, |stats| stats.counters.stream_bytes_sent)
}

#[test]
fn backup_join_carries_no_stream_data_of_either_side_while_another_lives() {
    for zero_rtt in [true, false] {
        let mut pair = Pair::established();
        pair.spread();
        let data = bytes(600_000);
        let streams = [Client, Server].map(|side| (side, pair.open_stream(side)));
        streams.into_iter().for_each(|(side, id)| pair.submit(side, id, &data));
        pair.round();
        let backup = pair.open_tcp_with(JoinOptions::default().with(|join| {
            join.zero_rtt = zero_rtt;
            join.backup = true;
        }));
        pair.drive();
        assert_eq!(pair.live(Server), [FIRST, backup]);
        for (side, id) in streams {
            assert_eq!(carried(&mut pair, side, backup), 0, "{side:?}, 0-RTT: {zero_rtt}");
            assert!(pair.conn(side).tcp_stats(backup).unwrap().backup, "{side:?}");
            pair.assert_received(side.peer(), id, &data);
        }
        pair.cut(FIRST);
        pair.transfer(Client, &data);
        assert!(carried(&mut pair, Client, backup) >= 600_000, "now it is the only one");
        pair.client().set_backup(backup, false).unwrap();
        pair.drive();
        assert!(!pair.server().tcp_stats(backup).unwrap().backup);
    }
}

#[test]
fn status_of_a_backup_join_is_in_its_first_record_and_on_no_other_tcp_connection() {
    let mut peer = Peer::server();
    peer.send(FIRST, &[token(1, 1)]);
    let tcp = peer
        .conn
        .open_tcp_with(
            peer.now,
            JoinOptions::default().with(|join| {
                join.zero_rtt = true;
                join.backup = true;
            }),
        )
        .unwrap();
    let status = Frame::ConnectionStatus(ConnectionStatus { tcp, backup: true });
    peer.conn.ping(FIRST).unwrap();
    let on_first = peer.recv(FIRST);
    assert!(!frames_of(&on_first).contains(&status), "{on_first:?}");
    let on_join = peer.recv(tcp);
    let first = on_join.iter().find(|record| record.number == Some(0)).expect("a protected record");
    assert!(first.frames().contains(&status) && first.frames().contains(&Frame::Ping), "{first:?}");
}

#[test]
fn backup_join_that_fails_leaves_no_status_behind() {
    let mut pair = Pair::established();
    let backup = pair.open_tcp_with(JoinOptions::default().with(|join| join.backup = true));
    pair.step(Client);
    pair.cut(backup);
    pair.cut(FIRST);
    let vain = pair.open_tcp_with(JoinOptions::default().with(|join| join.backup = true));
    pair.step(Client);
    pair.cut(vain);
    let back = pair.join();
    pair.transfer(Client, b"on a join that is no backup");
    assert!(!pair.server().tcp_stats(back).unwrap().backup);
    assert_eq!(pair.client().stats().frames_due, 0);
}
