//! Savings of rare acknowledgments, and their cost in memory held for failover: a session in an event loop of its own,
//! over loopback.

use std::time::Duration;

use tcpls_core::Config;

use super::{Curve, Drawn, Effort, Point};
use crate::Outcome;
use crate::loopback::BATCH;
use crate::loopback::own_loop::{Habits, run_as};

const COLUMNS: &[(&str, usize)] = &[
    ("Gbit/s", 2),
    ("CPU s/GB send", 3),
    ("CPU s/GB receive", 3),
    ("ACKs/GB", 0),
    ("records back/GB", 0),
    ("KiB in flight, mean", 0),
    ("most", 0),
];

/// By number.
pub const RECORDS: Curve = Curve {
    name: "ack-records",
    title: "An acknowledgment every N full records, over loopback",
    x: "records",
    columns: COLUMNS,
    drawn: Drawn::Multiples(&[0, 1, 2, 3, 5]),
    exact: false,
    points: by_number,
};

/// By time.
pub const DELAYS: Curve = Curve {
    name: "ack-delay",
    title: "An acknowledgment every N milliseconds, over loopback",
    x: "milliseconds",
    columns: COLUMNS,
    drawn: Drawn::Multiples(&[0, 1, 2, 3, 5]),
    exact: false,
    points: by_time,
};

/// Longer than it takes that many records to come.
const LONG: Duration = Duration::from_secs(1);

fn by_number(effort: Effort) -> Vec<Point> {
    let numbers = effort.choose(&[1, 2, 4, 8, 16, 32, 64, 128, 256, 512][..], &[1, 64]);
    let config = |number| {
        Config::default().with(|config| {
            config.ack_every_records = number;
            config.max_ack_delay = LONG;
        })
    };
    numbers.iter().map(|&n| point(effort, "every N records", f64::from(n), config(n))).collect()
}

fn by_time(effort: Effort) -> Vec<Point> {
    // Bulk data is acknowledged every 5 ms anyway.
    let delays = effort.choose(&[0.1, 0.2, 0.5, 1.0, 2.0, 5.0][..], &[0.1, 5.0]);
    let delay = |ms: f64| Duration::from_secs_f64(ms / 1000.0);
    let config = |ms| {
        Config::default().with(|config| {
            config.ack_every_records = u32::MAX;
            config.max_ack_delay = delay(ms);
        })
    };
    delays.iter().map(|&ms| point(effort, "after so long", ms, config(ms))).collect()
}

fn point(effort: Effort, series: &str, x: f64, config: Config) -> Point {
    let habits = Habits { config, ..Habits::default() };
    Point::new(series, x, move || measure(effort, &habits))
}

fn measure(effort: Effort, habits: &Habits) -> Outcome<Vec<f64>> {
    let job = effort.job(1024, BATCH)?;
    let (sample, seen) = run_as(&job, habits)?;
    let gigabytes = job.total() as f64 / 1e9;
    Ok(vec![
        sample.rate / 1e9,
        sample.sender.cpu_seconds,
        sample.receiver.cpu_seconds,
        seen.acks as f64 / gigabytes,
        seen.records_back as f64 / gigabytes,
        seen.mean_in_flight() / 1024.0,
        seen.most_in_flight as f64 / 1024.0,
    ])
}
