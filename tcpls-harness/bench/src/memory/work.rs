//! The workloads in memory: each is prepared once and then done any number of times.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tcpls_core::error::{ReadError, WriteError};
use tcpls_core::wire::record::MAX_STREAM_DATA;
use tcpls_core::{Config, Connection, ConnectionId, Side, StreamId};

use super::pair::Pair;
use crate::loopback::{BATCH, DATA};
use crate::records::{Opener, Sealer};

/// Does a number of units of work.
pub type Work = Box<dyn FnMut(u32)>;

/// One piece of work.
pub struct Workload {
    /// Its name on the command line and in the file of counts.
    pub name: &'static str,
    /// The unit.
    pub unit: &'static str,
    /// Work whose instructions are not counted here: what the AEAD and the copies need would hide everything else.
    pub above: Option<&'static str>,
    /// How many are done between two looks at the clock.
    pub units: u32,
    /// Sets everything up.
    pub prepare: fn() -> Work,
}

/// Records are full: 16369 bytes of stream data. Those that are meant to be compared have the same unit.
pub const WORKLOADS: &[Workload] = &[
    Workload { name: "bare", unit: "full record", above: None, units: 4096, prepare: bare },
    Workload { name: "bulk", unit: "full record", above: Some("bare"), units: 4096, prepare: bulk },
    Workload { name: "bulk-2-tcp", unit: "full record", above: Some("bare"), units: 4096, prepare: || reordered(2) },
    Workload { name: "bulk-4-tcp", unit: "full record", above: Some("bare"), units: 4096, prepare: || reordered(4) },
    Workload { name: "streams-1000", unit: "full record", above: Some("bare"), units: 4096, prepare: thousand_streams },
    Workload { name: "small-writes", unit: "write of 100 bytes", above: None, units: 20_000, prepare: small_writes },
    Workload { name: "stream", unit: "stream opened, used, over", above: None, units: 5_000, prepare: streams },
    Workload { name: "ping", unit: "ping and answer", above: None, units: 10_000, prepare: pings },
    Workload { name: "timer", unit: "timer that finds nothing due", above: None, units: 100_000, prepare: timer },
    Workload {
        name: "idle-turn",
        unit: "turn of a driver with nothing to do",
        above: None,
        units: 100_000,
        prepare: idle_turn,
    },
    Workload { name: "join", unit: "TCP connection joined and left", above: None, units: 500, prepare: joins },
];

/// Copied, sealed, moved, opened, in batches of 16 records, of the same 256 KiB as the other work; and nothing above. The moving is a copy more than the ends of a
/// session make, which they are charged for, too.
fn bare() -> Work {
    let (mut sealer, mut opener) = (Sealer::new(), Opener::new());
    let (mut out, mut input) = (Vec::new(), BytesMut::new());
    Box::new(move |units| {
        let mut left = units as usize;
        while left > 0 {
            let records = left.min(BATCH / (MAX_STREAM_DATA + 15));
            out.clear();
            for data in DATA.chunks_exact(MAX_STREAM_DATA).take(records) {
                sealer.seal(data, &mut out);
            }
            input.clear();
            input.extend_from_slice(&out);
            let mut rest = &mut input[..];
            while let Some((record, _)) = opener.open(rest).expect("what was sealed opens") {
                rest = &mut rest[record..];
            }
            left -= records;
        }
    })
}

/// Fills a stream as far as it takes data, with at most `wanted` bytes.
pub fn fill(conn: &mut Connection, id: StreamId, wanted: &mut usize, most: usize) {
    while *wanted > 0 {
        let mut data = Bytes::from_static(&DATA[..most.min(*wanted)]);
        match conn.stream(id).write_chunk(&mut data) {
            Ok(len) => *wanted -= len,
            Err(WriteError::Blocked) => return,
            Err(error) => panic!("{error}"),
        }
    }
}

/// Reads what is there.
pub fn drain(conn: &mut Connection, id: StreamId) -> usize {
    let mut len = 0;
    loop {
        match conn.stream(id).read(usize::MAX) {
            Ok(Some(data)) => len += data.len(),
            // A stream is unknown until something of it has arrived.
            Ok(None) | Err(ReadError::Blocked | ReadError::Unknown) => return len,
            Err(error) => panic!("{error}"),
        }
    }
}

/// One stream on one TCP connection.
fn bulk() -> Work {
    let mut pair = Pair::established(Config::default(), 1);
    let id = pair.client.open_stream().expect("the first stream");
    Box::new(move |units| move_records(&mut pair, id, units))
}

/// Moves full records on a stream of their own, which ends.
pub fn move_bulk(pair: &mut Pair, records: u32) {
    let id = pair.client.open_stream().expect("the first stream");
    move_records(pair, id, records);
    for (conn, peer) in [(Side::Client, Side::Server), (Side::Server, Side::Client)] {
        let conn = if conn == Side::Client { &mut pair.client } else { &mut pair.server };
        conn.stream(id).finish().expect("it is open");
        pair.turn();
        let peer = if peer == Side::Client { &mut pair.client } else { &mut pair.server };
        drain(peer, id);
    }
    pair.server.accept_stream();
}

/// Moves full records on a stream.
pub fn move_records(pair: &mut Pair, id: StreamId, records: u32) {
    let wanted = records as usize * MAX_STREAM_DATA;
    let (mut left, mut read) = (wanted, 0);
    while read < wanted {
        fill(&mut pair.client, id, &mut left, BATCH);
        pair.turn();
        read += drain(&mut pair.server, id);
    }
}

/// One stream on several TCP connections; what was sent last arrives first.
pub fn reordered(tcps: usize) -> Work {
    let mut pair = Pair::established(Config::default(), tcps);
    for conn in [&mut pair.client, &mut pair.server] {
        conn.set_scheduler(Box::new(tcpls_core::connection::schedule::Aggregate));
    }
    let id = pair.client.open_stream().expect("the first stream");
    let tcps: Vec<ConnectionId> = pair.tcps();
    Box::new(move |units| {
        let wanted = units as usize * MAX_STREAM_DATA;
        let (mut left, mut read) = (wanted, 0);
        while read < wanted {
            fill(&mut pair.client, id, &mut left, BATCH);
            pair.tick();
            tcps.iter().for_each(|tcp| _ = pair.transmit(Side::Client, *tcp, BATCH / tcps.len()));
            for tcp in tcps.iter().rev() {
                pair.deliver(Side::Server, *tcp);
                read += drain(&mut pair.server, id);
                pair.transmit(Side::Server, *tcp, BATCH);
                pair.deliver(Side::Client, *tcp);
            }
        }
    })
}

/// Pieces of 4 KiB that fit in one batch, frames, records and all.
const AT_ONCE: usize = BATCH / 4096 - 4;

/// A thousand streams share one TCP connection, 4 KiB of each at a time.
fn thousand_streams() -> Work {
    let config = Config::default().with(|config| config.max_streams = 1000);
    let mut pair = Pair::established(config, 1);
    let ids: Vec<StreamId> = (0..1000).map(|_| pair.client.open_stream().expect("1000 streams")).collect();
    let mut next = 0;
    Box::new(move |units| {
        let wanted = units as usize * MAX_STREAM_DATA;
        let (mut left, mut read) = (wanted, 0);
        while read < wanted {
            let written: Vec<StreamId> = (0..AT_ONCE).map(|step| ids[(next + step) % ids.len()]).collect();
            next += written.len();
            for id in &written {
                let mut share = left.min(4096);
                left -= share;
                fill(&mut pair.client, *id, &mut share, 4096);
                left += share;
            }
            pair.turn();
            read += written.iter().map(|id| drain(&mut pair.server, *id)).sum::<usize>();
        }
    })
}

/// Each write is a record of its own, and read before the next.
fn small_writes() -> Work {
    let mut pair = Pair::established(Config::default(), 1);
    let id = pair.client.open_stream().expect("the first stream");
    Box::new(move |units| {
        for _ in 0..units {
            let mut len = 100;
            fill(&mut pair.client, id, &mut len, 100);
            pair.turn();
            assert_eq!(drain(&mut pair.server, id), 100);
        }
    })
}

/// Request and answer of 100 bytes on a stream of their own.
fn streams() -> Work {
    let mut pair = Pair::established(Config::default(), 1);
    Box::new(move |units| (0..units).for_each(|_| one_stream(&mut pair)))
}

/// The life of one stream.
pub fn one_stream(pair: &mut Pair) {
    let id = loop {
        if let Ok(id) = pair.client.open_stream() {
            break id;
        }
        assert!(pair.turn(), "the peer allows no more streams");
    };
    exchange(pair, id, Side::Client);
    assert_eq!(pair.server.accept_stream(), Some(id));
    exchange(pair, id, Side::Server);
}

fn exchange(pair: &mut Pair, id: StreamId, from: Side) {
    let sender = if from == Side::Client { &mut pair.client } else { &mut pair.server };
    let mut len = 100;
    fill(sender, id, &mut len, 100);
    sender.stream(id).finish().expect("it is open");
    pair.turn();
    let receiver = if from == Side::Client { &mut pair.server } else { &mut pair.client };
    assert_eq!(drain(receiver, id), 100);
}

fn pings() -> Work {
    let mut pair = Pair::established(Config::default(), 1);
    Box::new(move |units| {
        for _ in 0..units {
            pair.client.ping(ConnectionId::FIRST).expect("it lives");
            pair.turn();
        }
    })
}

/// A session with two TCP connections and an open stream, nothing under way.
fn quiet() -> Pair {
    let mut pair = Pair::established(Config::default(), 2);
    let id = pair.client.open_stream().expect("the first stream");
    let mut len = 100;
    fill(&mut pair.client, id, &mut len, 100);
    pair.rest().expect("there is little to say");
    pair
}

fn timer() -> Work {
    let mut pair = quiet();
    let now = pair.tick();
    Box::new(move |units| {
        for _ in 0..units {
            pair.client.handle_timeout(now);
            assert!(pair.client.poll_timeout().is_some_and(|due| due > now));
        }
    })
}

fn idle_turn() -> Work {
    let mut pair = quiet();
    let now = pair.tick();
    let (mut out, mut input, tcps) = (Vec::new(), BytesMut::new(), pair.tcps());
    Box::new(move |units| {
        for _ in 0..units {
            for tcp in &tcps {
                pair.client.handle_bytes(now, *tcp, &mut input);
                pair.client.poll_transmit(now, *tcp, BATCH, &mut out);
            }
            assert!(pair.client.poll_event().is_none() && out.is_empty());
        }
    })
}

/// Joins alone do not keep a session from being idle, and in virtual time an hour of them is soon over.
fn joins() -> Work {
    let day = Duration::from_secs(24 * 60 * 60);
    let mut pair = Pair::established(Config::default().with(|config| config.idle_timeout = Some(day)), 1);
    Box::new(move |units| {
        for _ in 0..units {
            let (tcp, _) = pair.join().expect("the server gives a new token for each that was used");
            pair.retire(tcp).expect("another is left");
        }
    })
}
