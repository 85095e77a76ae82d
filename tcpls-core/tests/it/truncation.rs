//! An attacker on all paths can end every TCP connection between any two records. An application must never take a part
//! of its data for complete (docs/threat-model.md, attack 19).

use std::collections::VecDeque;
use std::time::Duration;

use tcpls_core::connection::TcpEnd;
use tcpls_core::connection::schedule::Aggregate;
use tcpls_core::error::{CloseReason, ReadError};
use tcpls_core::wire::ids::{ConnectionId, StreamId};

use crate::support::{Client, Pair, Server, Setup, bytes};

/// More than a record holds, so that a cut lands between pieces of one stream.
const LEN: usize = 50_000;

/// Where the complete records that are under way end.
fn record_ends(in_flight: &VecDeque<u8>) -> Vec<usize> {
    let mut ends = Vec::new();
    let mut at = 0;
    while at + 5 <= in_flight.len() {
        at += 5 + usize::from(u16::from_be_bytes([in_flight[at + 3], in_flight[at + 4]]));
        ends.push(at);
    }
    ends
}

/// A server that has sent all of a stream, its end, and perhaps the end of the session; nothing of that has arrived.
fn all_under_way(n: usize, closing: bool) -> (Pair, StreamId) {
    let mut pair = Setup::default().established();
    (1..n).for_each(|_| _ = pair.join());
    pair.server().set_scheduler(Box::new(Aggregate)); // all carry data
    let id = pair.open_stream(Client);
    pair.submit(Client, id, b"GET /file\r\n");
    pair.drive();
    pair.socket_buffer = 60_000 / n;
    pair.write(Server, id, &bytes(LEN));
    pair.finish(Server, id);
    if closing {
        pair.close(Server, 0, b"");
    }
    pair.step(Server);
    (pair, id)
}

fn end_all(pair: &mut Pair, n: usize, how: TcpEnd) {
    for number in 0..n {
        let tcp = ConnectionId(number as u32);
        if how == TcpEnd::Reset {
            pair.cut(tcp);
        } else {
            let flow = pair.flow(tcp, Client);
            flow.in_flight.clear();
            flow.finish();
        }
    }
    pair.deliver_all();
    pair.drive_for(Duration::from_secs(120));
}

#[test]
fn stream_cut_at_any_record_is_never_reported_complete() {
    for (n, how, closing) in
        [(1, TcpEnd::Fin, false), (1, TcpEnd::Reset, true), (2, TcpEnd::Fin, true), (2, TcpEnd::Reset, false)]
    {
        let (mut pair, _) = all_under_way(n, closing);
        let tcps: Vec<ConnectionId> = (0..n as u32).map(ConnectionId).collect();
        let ends: Vec<Vec<usize>> = tcps.iter().map(|tcp| record_ends(&pair.flow(*tcp, Client).in_flight)).collect();
        assert!(ends.iter().all(|ends| ends.len() >= 2), "{ends:?}");
        let cuts = ends.iter().map(|ends| ends.len() + 1).product::<usize>();
        let (mut whole, mut part) = (0, 0);
        for cut in 0..cuts {
            let (mut pair, id) = all_under_way(n, closing);
            let mut rest = cut;
            for (tcp, ends) in tcps.iter().zip(&ends) {
                let records = rest % (ends.len() + 1);
                rest /= ends.len() + 1;
                let len = records.checked_sub(1).map_or(0, |last| ends[last]);
                pair.deliver(*tcp, Client, len);
            }
            end_all(&mut pair, n, how);
            let got = pair.read_all(Client, id);
            assert!(bytes(LEN).starts_with(&got), "what came is a prefix");
            match pair.stream_end(Client, id) {
                Some(Ok(())) => {
                    assert_eq!(got.len(), LEN, "cut {cut} of {n}, {how:?}: an end without all that was before it");
                    whole += 1;
                }
                Some(Err(ReadError::Truncated)) => part += 1,
                other => panic!("cut {cut} of {n}, {how:?}: the reader waits for ever: {other:?}"),
            }
            let reason = pair.close_reason(Client);
            assert!(reason.is_some(), "cut {cut} of {n}: the session has ended");
            if got.len() < LEN {
                assert_eq!(reason, Some(CloseReason::Stranded), "and says that it was not the peer who ended it");
            }
        }
        assert!(whole > 0 && part > 0, "{whole} and {part} of {cuts}");
    }
}

#[test]
fn ending_all_tcp_connections_does_not_look_like_the_end_of_a_session() {
    let mut pair = Pair::with_tcp_connections(2);
    let id = pair.open_stream(Client);
    pair.write(Client, id, b"all of it, or is it?");
    pair.drive();
    end_all(&mut pair, 2, TcpEnd::Fin);
    for side in [Client, Server] {
        assert_eq!(pair.close_reason(side), Some(CloseReason::Stranded), "{side:?}");
    }
    assert_eq!(pair.stream_end(Server, id), Some(Err(ReadError::Truncated)));
}
