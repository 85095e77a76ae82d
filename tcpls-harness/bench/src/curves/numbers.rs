//! Cost against the number of streams, TCP connections and sessions.

use std::sync::Arc;

use tcpls_core::wire::record::MAX_STREAM_DATA;
use tcpls_core::{Config, Connection, StreamId};

use super::{Curve, Drawn, Effort, Point, alone, rate_and_cpu, rate_and_cpu_of, spent};
use crate::Outcome;
use crate::loopback::{BATCH, tcpls};
use crate::memory::pair::Pair;
use crate::memory::work::{Work, drain, fill, move_records, reordered};
use crate::meter::{Mark, live_bytes};
use crate::tls::Tls;

/// In memory.
pub const STREAMS: Curve = Curve {
    name: "streams",
    title: "Number of streams at once, 1 KiB of each in turn, in memory",
    x: "streams",
    columns: &[("Gbit/s", 2), ("CPU s/GB", 3), ("CPU ns/KiB", 0), ("bytes/stream, both ends", 0)],
    drawn: Drawn::First,
    exact: false,
    points: streams,
};

/// In memory, where what was sent last arrives first, and over loopback.
pub const TCPS: Curve = Curve {
    name: "tcp-connections",
    title: "One stream on a number of TCP connections",
    x: "TCP connections",
    columns: &[("Gbit/s", 2), ("CPU s/GB", 3)],
    drawn: Drawn::First,
    exact: false,
    points: tcps,
};

/// In memory.
pub const SESSIONS: Curve = Curve {
    name: "sessions",
    title: "Number of sessions in one process, a full record of each in turn, in memory",
    x: "sessions",
    columns: &[("Gbit/s", 2), ("CPU s/GB", 3), ("CPU µs/handshake and join", 0), ("KiB/session, both ends", 1)],
    drawn: Drawn::First,
    exact: false,
    points: sessions,
};

fn points(
    series: &str,
    numbers: &[usize],
    measure: impl Fn(usize) -> Outcome<Vec<f64>> + Copy + 'static,
) -> Vec<Point> {
    numbers.iter().map(|&n| Point::new(series, n as f64, move || measure(n))).collect()
}

fn streams(effort: Effort) -> Vec<Point> {
    let numbers = effort.choose(&[1, 3, 10, 30, 100, 300, 1000, 3000, 10_000][..], &[1, 300]);
    points("in memory", numbers, move |number| {
        alone(|| {
            let units = effort.choose(100_000, 400);
            let (work, memory) = busy_streams(number);
            let (rate, cpu) = rate_and_cpu(spent(work, units), f64::from(units) * PIECE as f64);
            Ok(vec![rate, cpu, cpu * PIECE as f64, memory])
        })
    })
}

const PIECE: usize = 1024;

/// Each stream has as much to send as each other, and all of them at once. A unit is a piece of one stream. Also gives the
/// memory of one stream at both ends, idle after its first piece.
fn busy_streams(number: usize) -> (Work, f64) {
    let config = Config::default().with(|config| config.max_streams = u32::try_from(number).expect("few streams"));
    let mut pair = Pair::established(config, 1);
    pair.rest().expect("both endpoints are at rest");
    let before = live_bytes();
    let ids: Vec<StreamId> = (0..number).map(|_| pair.client.open_stream().expect("within the limit")).collect();
    write_and_read(&mut pair, &ids, 0, number);
    pair.rest().expect("everything has been read");
    let memory = (live_bytes() - before) as f64 / number as f64;
    let mut at = 0;
    let work = move |units| {
        let mut left = units as usize;
        while left > 0 {
            let pieces = left.min(number.max(BATCH / PIECE));
            write_and_read(&mut pair, &ids, at, pieces);
            at += pieces;
            left -= pieces;
        }
    };
    (Box::new(work), memory)
}

/// Writes and reads `pieces` pieces, the first on the stream with this index, the next on the next.
fn write_and_read(pair: &mut Pair, ids: &[StreamId], first: usize, pieces: usize) {
    let stream = |index: usize| ids[index % ids.len()];
    for index in first..first + pieces {
        let mut len = PIECE;
        fill(&mut pair.client, stream(index), &mut len, PIECE);
        assert_eq!(len, 0, "the send buffers hold a round");
    }
    let (mut wanted, mut first) = (pieces * PIECE, first);
    while wanted > 0 {
        let said = pair.turn();
        // Streams are served in turn: behind those that got something, none did. When nothing more comes, all are asked.
        let (mut read, mut last) = (0, first);
        for index in first..first + ids.len() {
            let len = drain(&mut pair.server, stream(index));
            read += len;
            if len > 0 {
                last = index;
            } else if said && read > 0 && index > last + 8 {
                break;
            }
        }
        assert!(said || read > 0, "it stands still");
        (wanted, first) = (wanted - read, last);
    }
}

fn tcps(effort: Effort) -> Vec<Point> {
    let numbers = effort.choose(&[1, 2, 3, 4, 5, 6, 7, 8][..], &[1, 3]);
    let mut all = points("in memory, the last first", numbers, move |number| {
        alone(|| {
            let units = effort.choose(8192, 64);
            let span = spent(reordered(number), units);
            let (rate, cpu) = rate_and_cpu(span, f64::from(units) * MAX_STREAM_DATA as f64);
            Ok(vec![rate, cpu])
        })
    });
    all.extend(points("over loopback", numbers, move |number| {
        let (rate, cpu) = rate_and_cpu_of(&tcpls::run(&effort.job(512, BATCH)?, number, 1)?);
        Ok(vec![rate, cpu])
    }));
    all
}

fn sessions(effort: Effort) -> Vec<Point> {
    let numbers = effort.choose(&[1, 4, 16, 64, 250, 1000, 4000, 10_000][..], &[1, 8]);
    points("in memory", numbers, move |number| alone(|| many_sessions(number, effort.choose(8192, 16))))
}

fn many_sessions(number: usize, records: usize) -> Outcome<Vec<f64>> {
    let (tls, config) = (Tls::new()?, Arc::new(Config::default()));
    let mark = Mark::now();
    let mut all = Vec::with_capacity(number);
    for _ in 0..number {
        let (mut pair, _) = Pair::handshake(&tls, &config)?;
        pair.join()?;
        let id = pair.client.open_stream()?;
        all.push((pair, id));
    }
    let handshakes = mark.until_now().cpu_seconds * 1e6 / number as f64;
    let rounds = records.div_ceil(number);
    let mut act = |rounds| (0..rounds).for_each(|_| all.iter_mut().for_each(|(pair, id)| move_records(pair, *id, 1)));
    act(2);
    let mark = Mark::now();
    act(rounds);
    let (rate, cpu) = rate_and_cpu(mark.until_now(), (rounds * number * MAX_STREAM_DATA) as f64);
    let bytes: i64 = all.into_iter().map(|(Pair { client, server, .. }, _)| bytes_of(client) + bytes_of(server)).sum();
    Ok(vec![rate, cpu, handshakes, bytes as f64 / 1024.0 / number as f64])
}

/// On the heap and in place.
fn bytes_of(conn: Connection) -> i64 {
    let before = live_bytes();
    drop(conn);
    before - live_bytes() + size_of::<Connection>() as i64
}
