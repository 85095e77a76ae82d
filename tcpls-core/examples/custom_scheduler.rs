//! A scheduler of one's own: a metered TCP connection helps only while much data waits.
//!
//! A scheduler answers one question: may the TCP connection that has room now take the next piece of stream data? This one
//! keeps small transfers off an expensive path, uses it for large ones, and for everything when no other lives: then the
//! session asks no scheduler.
//!
//! `cargo run -p tcpls-core --example custom_scheduler` prints which path carried how much. The two ends and the paths are
//! those of `tcpls_core::testing`; a real application calls [`Connection::set_scheduler`] in the same way.
//!
//! [`Connection::set_scheduler`]: tcpls_core::Connection::set_scheduler

use tcpls_core::ConnectionId;
use tcpls_core::Side::{Client, Server};
use tcpls_core::schedule::{Choice, Scheduler, TcpView};
use tcpls_core::testing::{Pair, bytes};

/// Keeps stream data off one TCP connection unless more than `backlog` bytes wait.
#[derive(Clone, Copy, Debug)]
struct Metered {
    tcp: ConnectionId,
    backlog: u64,
}

impl Scheduler for Metered {
    fn choose(&self, asked: usize, all: &[TcpView], unsent: u64) -> Choice {
        let is_metered = all[asked].tcp == self.tcp;
        // A scheduler that never uses a free TCP connection stops the session: the others always may send.
        if is_metered && unsent <= self.backlog { Choice::Wait } else { Choice::Send }
    }

    fn duplicates(&self) -> bool {
        false
    }
}

/// Transfers `len` bytes from the client and returns how many of them each TCP connection carried.
fn transfer(pair: &mut Pair, len: usize) -> Vec<u64> {
    let carried = |pair: &mut Pair| -> Vec<u64> {
        pair.client().stats().tcp.iter().map(|tcp| tcp.counters.stream_bytes_sent).collect()
    };
    let before = carried(pair);
    let (stream, data) = (pair.open_stream(Client), bytes(len));
    pair.submit(Client, stream, &data);
    pair.drive();
    pair.assert_received(Server, stream, &data);
    carried(pair).iter().zip(before).map(|(after, before)| after - before).collect()
}

fn main() {
    let mut pair = Pair::with_tcp_connections(2);
    let (cheap, metered) = (ConnectionId(0), ConnectionId(1));
    pair.client().set_scheduler(Box::new(Metered { tcp: metered, backlog: 256 << 10 }));

    println!("{:>10} {:>12} {:>14}", "bytes", "cheap path", "metered path");
    let small = transfer(&mut pair, 50_000);
    println!("{:>10} {:>12} {:>14}", 50_000, small[0], small[1]);
    assert_eq!(small, [50_000, 0], "a small transfer costs nothing");

    let large = transfer(&mut pair, 2_000_000);
    println!("{:>10} {:>12} {:>14}", 2_000_000, large[0], large[1]);
    assert!(large[0] > 0 && large[1] > 0, "a large transfer uses both");

    pair.cut(cheap);
    let last = transfer(&mut pair, 50_000);
    println!("{:>10} {:>12} {:>14}  (the cheap path is lost)", 50_000, last[0], last[1]);
    assert_eq!(last, [0, 50_000], "without another path, the metered one carries everything");
}

#[test]
fn metered_path_carries_only_large_transfers_while_another_lives() {
    main();
}
