//! Curves from the simulator: virtual time, always the same figures.

use tcpls_harness::sim::{Report, RunOptions, Scenario, run};

use super::{Curve, Drawn, Effort, Point};
use crate::Outcome;

/// Goodput of one and two paths.
pub const PATHS: Curve = Curve {
    name: "rtt-loss",
    title: "Share of the rate of one or two paths of 20 Mbit/s, 20 s, simulated",
    x: "round-trip time, ms",
    columns: &[("share of the rate", 3), ("Mbit/s", 2)],
    drawn: Drawn::First,
    exact: true,
    points: paths,
};

/// The reinjected data.
pub const UNACKNOWLEDGED: Curve = Curve {
    name: "ack-lost",
    title: "Data that arrived twice when a TCP connection failed: 100 Mbit/s, round trips of 20 ms, simulated",
    x: "records for each acknowledgment",
    columns: &[("KiB that came twice", 1), ("KiB not acknowledged", 0), ("most", 0)],
    drawn: Drawn::First,
    exact: true,
    points: unacknowledged,
};

/// Mbit/s of each path.
const RATE: f64 = 20.0;
/// Seconds, the handshake included.
const SPAN: f64 = 20.0;

fn paths(effort: Effort) -> Vec<Point> {
    let trips = effort.choose(&[5.0, 10.0, 20.0, 40.0, 80.0, 160.0, 320.0][..], &[10.0, 80.0]);
    let losses = effort.choose(&[0.0, 0.001, 0.01][..], &[0.001]);
    let mut points = Vec::new();
    for (number, name) in [(1, "one path"), (2, "two paths")] {
        let mut add = |series: String, trips: &[f64], transport, loss| {
            let point =
                |&trip: &f64| Point::new(&series, trip, move || goodput(effort, number, &path(transport, trip, loss)));
            points.extend(trips.iter().map(point));
        };
        add(format!("{name}, byte pipes"), trips, "pipes", 0.0);
        // The stack behind the packets tries again too early when a queue makes longer round trips still longer.
        let short: Vec<f64> = trips.iter().copied().filter(|trip| *trip < 100.0).collect();
        losses.iter().for_each(|loss| add(format!("{name}, {} % lost", loss * 100.0), &short, "packets", *loss));
    }
    points
}

/// The scenario's transport, and a path without its name.
fn path(transport: &'static str, trip: f64, loss: f64) -> (&'static str, String) {
    (transport, format!("rate = '{RATE}Mbit/s'\ndelay = '{}ms'\nloss = {loss}\n", trip / 2.0))
}

/// The mean over some seeds.
fn goodput(effort: Effort, paths: usize, (transport, path): &(&str, String)) -> Outcome<Vec<f64>> {
    let (span, seeds) = (effort.choose(SPAN, 2.0), effort.choose(5, 2));
    let mut text = format!("title = 'goodput'\ncrypto = 'null'\ntransport = '{transport}'\nlimit = '{span}s'\n");
    text += "goals = { complete = false }\ntransfer = [{ send = '1GB' }]\n";
    (0..paths).for_each(|number| text += &format!("[[path]]\nname = '{number}'\n{path}"));
    let mut bytes = 0;
    for seed in 0..seeds {
        bytes += simulate(&text, seed)?.sessions[0].transfers[0].read[0];
    }
    let rate = bytes as f64 * 8.0 / 1e6 / span / seeds as f64;
    Ok(vec![rate / (RATE * paths as f64), rate])
}

fn unacknowledged(effort: Effort) -> Vec<Point> {
    let numbers = effort.choose(&[1, 2, 4, 8, 16, 32, 64][..], &[1, 8]);
    let delays = effort.choose(&[1, 2, 5][..], &[5]);
    let mut points = Vec::new();
    for &delay in delays {
        let series = format!("or {delay} ms");
        points.extend(numbers.iter().map(|&n| Point::new(&series, f64::from(n), move || resets(n, delay, effort))));
    }
    points
}

/// The mean over resets at different times since the last acknowledgment.
fn resets(records: u32, delay: u32, effort: Effort) -> Outcome<Vec<f64>> {
    let times = effort.choose(16, 2);
    let (mut requeued, mut twice, mut most) = (0, 0, 0);
    for number in 0..times {
        let at = 1000.0 + 7.3 * f64::from(number);
        let text = format!(
            "title = 'reset'\ncrypto = 'null'\n[server]\nack-every-records = {records}\n\
             max-ack-delay = '{delay}ms'\n[[path]]\nname = 'a'\nrate = '100Mbit/s'\ndelay = '10ms'\n\
             [[transfer]]\nsend = '20MB'\n[[fault]]\nkind = 'reset'\npath = 'a'\nat = '{at}ms'\n"
        );
        let report = simulate(&text, 1)?;
        if !report.is_good() {
            return Err(report.missed.join("; ").into());
        }
        let session = &report.sessions[0];
        let again: u64 = session.tcp[0].iter().map(|tcp| tcp.requeued).sum();
        let received: u64 = session.tcp[1].iter().map(|tcp| tcp.received).sum();
        (requeued, twice, most) = (requeued + again, twice + received - session.transfers[0].read[0], most.max(again));
    }
    let mean = |bytes: u64| bytes as f64 / 1024.0 / f64::from(times);
    Ok(vec![mean(twice), mean(requeued), most as f64 / 1024.0])
}

/// Runs a scenario of which nothing may be wrong, whatever becomes of its goals.
fn simulate(text: &str, seed: u64) -> Outcome<Report> {
    let report = run(&Scenario::parse(text)?, seed, RunOptions { hash: false, ..RunOptions::default() });
    if report.wrong.is_empty() { Ok(report) } else { Err(report.wrong.join("; ").into()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn longer_ack_delay_causes_more_reinjection() {
        let twice = |records, delay| resets(records, delay, Effort::Quick).unwrap()[0];
        assert!(twice(1, 5) < twice(8, 5), "by number");
        assert!(twice(8, 1) < twice(8, 5), "by time");
    }

    #[test]
    fn two_paths_carry_more_than_one_and_a_lossy_one_carries_less() {
        let rate = |paths, loss| goodput(Effort::Quick, paths, &path("packets", 20.0, loss)).unwrap()[1];
        assert!(rate(2, 0.0) > 1.5 * rate(1, 0.0));
        assert!(rate(1, 0.01) < 0.8 * rate(1, 0.0));
    }
}
