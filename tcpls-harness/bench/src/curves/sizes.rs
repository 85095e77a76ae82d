//! Cost against the size of records, and against the size of writes.

use bytes::BytesMut;
use tcpls_core::wire::record::MAX_STREAM_DATA;
use tcpls_core::{Config, ConnectionId, Side};

use super::{Curve, Drawn, Effort, Point, alone, rate_and_cpu, rate_and_cpu_of, spent};
use crate::Outcome;
use crate::loopback::own_loop::{Habits, Then, run_as};
use crate::loopback::{BATCH, DATA};
use crate::memory::pair::Pair;
use crate::memory::work::{Work, drain, fill};
use crate::records::{Opener, Sealer};

/// The one is in memory on one thread, the other over loopback on two.
pub const RECORDS: Curve = Curve {
    name: "record-size",
    title: "Records by size of stream data, in batches of 256 KiB",
    x: "bytes in a record",
    columns: &[("Gbit/s", 2), ("CPU s/GB", 3), ("CPU ns/record", 0)],
    drawn: Drawn::First,
    exact: false,
    points: records,
};

/// Over loopback.
pub const WRITES: Curve = Curve {
    name: "write-size",
    title: "Writes by size in bytes, over loopback",
    x: "bytes in a write",
    columns: &[("Gbit/s", 2), ("CPU s/GB", 3), ("CPU ns/write", 0)],
    drawn: Drawn::First,
    exact: false,
    points: writes,
};

fn records(effort: Effort) -> Vec<Point> {
    let sizes =
        effort.choose(&[64, 128, 256, 512, 1024, 2048, 4096, 8192, MAX_STREAM_DATA][..], &[64, MAX_STREAM_DATA]);
    let mut points = Vec::new();
    for (series, prepare) in [("in memory, nothing above records", bare as fn(usize) -> Work), ("in memory", session)] {
        points.extend(
            sizes
                .iter()
                .map(|&size| Point::new(series, size as f64, move || alone(|| in_memory(effort, size, prepare)))),
        );
    }
    points.extend(sizes.iter().map(|&size| {
        let habits = Habits { write: size, then: Then::Seal, ..Habits::default() };
        Point::new("over loopback", size as f64, move || over_loopback(effort, &habits))
    }));
    points
}

fn in_memory(effort: Effort, size: usize, prepare: fn(usize) -> Work) -> Outcome<Vec<f64>> {
    let units = effort.choose(100_000.min((128 << 20) / size), 100);
    let span = spent(prepare(size), u32::try_from(units)?);
    let (rate, cpu) = rate_and_cpu(span, (units * size) as f64);
    Ok(vec![rate, cpu, cpu * size as f64])
}

fn over_loopback(effort: Effort, habits: &Habits) -> Outcome<Vec<f64>> {
    let (sample, _) = run_as(&effort.job(256, habits.write)?, habits)?;
    let (rate, cpu) = rate_and_cpu_of(&sample);
    Ok(vec![rate, cpu, cpu * habits.write as f64])
}

/// Records of `size` bytes that fit in one batch.
fn records_at_once(size: usize) -> usize {
    BATCH / (size + 64)
}

/// Copied, sealed, moved, opened.
fn bare(size: usize) -> Work {
    let (mut sealer, mut opener) = (Sealer::new(), Opener::new());
    let (mut out, mut input) = (Vec::new(), BytesMut::new());
    Box::new(move |units| {
        let mut left = units as usize;
        while left > 0 {
            let records = left.min(records_at_once(size));
            out.clear();
            DATA.chunks_exact(size).cycle().take(records).for_each(|data| sealer.seal(data, &mut out));
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

/// Each write becomes a record.
fn session(size: usize) -> Work {
    let mut pair = Pair::established(Config::default(), 1);
    let id = pair.client.open_stream().expect("the first stream");
    let tcp = ConnectionId::FIRST;
    Box::new(move |units| {
        let (mut left, mut expected) = (units as usize, 0);
        while left > 0 {
            let records = left.min(records_at_once(size));
            pair.tick();
            for _ in 0..records {
                let mut len = size;
                fill(&mut pair.client, id, &mut len, size);
                pair.transmit(Side::Client, tcp, BATCH);
            }
            expected += records * size;
            pair.deliver(Side::Server, tcp);
            expected -= drain(&mut pair.server, id);
            pair.transmit(Side::Server, tcp, BATCH);
            pair.deliver(Side::Client, tcp);
            left -= records;
        }
        while expected > 0 {
            assert!(pair.turn(), "it stands still");
            expected -= drain(&mut pair.server, id);
        }
    })
}

fn writes(effort: Effort) -> Vec<Point> {
    let sizes: &[usize] = effort.choose(&[64, 256, 1024, 4096, 16_384, 65_536, 262_144, 1_048_576], &[64, 65_536]);
    let mut points = Vec::new();
    for (series, then) in [("256 KiB collected", Then::Write), ("each sent at once", Then::Send)] {
        points.extend(sizes.iter().map(|&size| {
            let habits = Habits { write: size, copy: true, at_once: BATCH.max(size), then, ..Habits::default() };
            Point::new(series, size as f64, move || over_loopback(effort, &habits))
        }));
    }
    points
}
