//! The same configuration, seed and calls give the same bytes on every TCP connection; another seed gives others.

use crate::support::{Client, Pair, Server, Setup, bytes};

/// A session with some of everything; all bytes that were ever sent.
fn run(seed: u64) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut pair = Setup { seed, ..Setup::default() }.established();
    let second = pair.join();
    let data = bytes(300_000);
    let (up, down) = (pair.open_stream(Client), pair.open_stream(Server));
    pair.submit(Client, up, &data);
    pair.submit(Server, down, &data);
    pair.round();
    pair.update_keys(Client);
    pair.join();
    pair.cut(second);
    pair.drive();
    pair.close(Server, 0, b"done");
    pair.drive();
    pair.assert_received(Server, up, &data);
    owned(&pair)
}

fn owned(pair: &Pair) -> Vec<(Vec<u8>, Vec<u8>)> {
    pair.wire().into_iter().map(|(up, down)| (up.to_vec(), down.to_vec())).collect()
}

#[test]
fn the_same_seed_and_calls_give_the_same_bytes() {
    let (one, two) = (run(7), run(7));
    assert_eq!(one.len(), 3);
    for (number, (one, two)) in one.iter().zip(&two).enumerate() {
        assert!(one.0 == two.0, "the client's bytes on TCP connection {number} differ");
        assert!(one.1 == two.1, "the server's bytes on TCP connection {number} differ");
    }
}

#[test]
fn another_seed_gives_other_bytes_everywhere() {
    let (one, two) = (run(7), run(8));
    for (one, two) in one.iter().zip(&two) {
        assert!(one.0[..64] != two.0[..64] && one.1[..64] != two.1[..64]);
    }
}

#[test]
fn a_sessions_tokens_keys_and_randoms_are_its_own() {
    let first = |seed| {
        let mut pair = Setup { seed, ..Setup::default() }.established();
        (pair.server().session_id(), owned(&pair))
    };
    let ((id, wire), (other_id, other_wire)) = (first(1), first(2));
    assert_ne!(id, other_id);
    let random = |wire: &[(Vec<u8>, Vec<u8>)]| (wire[0].0[11..43].to_vec(), wire[0].1[11..43].to_vec());
    let ((client, server), (other_client, other_server)) = (random(&wire), random(&other_wire));
    assert!(client != server && client != other_client && server != other_server);
}

#[test]
fn additional_polls_have_no_effect() {
    let quiet = run(3);
    let mut pair = Setup { seed: 3, ..Setup::default() }.start();
    for _ in 0..50 {
        let now = pair.now;
        pair.client().handle_timeout(now);
        pair.client().poll_timeout();
        pair.client().stats();
        let mut nothing = ::bytes::BytesMut::new();
        pair.client().handle_bytes(now, tcpls_core::wire::ids::ConnectionId::FIRST, &mut nothing);
        if !pair.round() {
            break;
        }
    }
    let asked = owned(&pair);
    assert!(quiet[0].0.starts_with(&asked[0].0[..300]));
    assert!(quiet[0].1.starts_with(&asked[0].1[..300]));
}
