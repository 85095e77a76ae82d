//! Paths from 4 kbit/s to 10 Gbit/s, with round trips from 0.1 ms to 3 s and queues of up to 10 s: every transfer ends, soon.

use std::time::Duration;

use tcpls_harness::sim::{RunOptions, Scenario, run};

use crate::support::Lines;

/// What is transferred: the direction, and whether each has one.
const DOWN: [bool; 2] = [false, true];
const UP: [bool; 2] = [true, false];
const BOTH: [bool; 2] = [true, true];
/// The longest that a transfer may take, in times of what TLS takes over one TCP connection.
const MOST: u32 = 3;
/// rate × round trip, at most, in bits.
const MAX_UNDER_WAY: f64 = 32e6 * 8.0;

/// A path, and what is done on it.
#[derive(Clone, Copy, Debug)]
struct Case {
    /// In bits a second.
    rate: f64,
    rtt: Duration,
    queue: Duration,
    paths: usize,
    directions: [bool; 2],
}

impl Case {
    fn bytes(&self) -> u64 {
        (self.rate / 8.0 * 6.0).clamp(3000.0, 500_000.0) as u64
    }

    fn scenario(&self) -> Scenario {
        let (queue, bytes) = ((self.rate / 8.0 * self.queue.as_secs_f64()).max(3000.0), self.bytes());
        let mut text = "title = \"slow\"\nlimit = \"10min\"\n".to_owned();
        for path in 0..self.paths {
            let (rate, delay) = (self.rate, self.rtt.as_micros() / 2);
            text += &format!(
                "[[path]]\nname = \"p{path}\"\nrate = \"{rate}bit/s\"\ndelay = \"{delay}us\"\nqueue = \"{queue:.0}B\"\n"
            );
        }
        // The handshake is complete by then.
        text += "[[transfer]]\nat = \"25s\"\n";
        for (name, _) in ["send", "receive"].iter().zip(self.directions).filter(|(_, wanted)| *wanted) {
            text += &format!("{name} = \"{bytes}B\"\n");
        }
        Scenario::parse(&text).unwrap_or_else(|error| panic!("{error}\n{text}"))
    }

    /// What TLS takes on one of the paths, at best: nothing is lost there, and no sender waits for a window.
    fn tls(&self) -> Duration {
        self.rtt * 2 + Duration::from_secs_f64(self.bytes() as f64 * 8.0 / self.rate) + Duration::from_millis(100)
    }

    fn check(&self) {
        let report = run(&self.scenario(), 1, RunOptions::default());
        assert!(report.is_good(), "{self:?}: {:?} {:?}", report.wrong, report.missed);
        let transfer = &report.sessions[0].transfers[0];
        let took = Duration::from_secs_f64(transfer.ended.unwrap() - transfer.started.unwrap());
        assert!(took <= self.tls() * MOST, "{self:?}: {took:?}, and TLS takes {:?}", self.tls());
    }
}

#[test]
fn transfer_ends_within_three_times_what_tls_takes_at_any_rate_round_trip_and_queue() {
    let mut tried = 0;
    for rate in [4e3, 8e3, 24e3, 64e3, 256e3, 2e6, 50e6, 1e9, 10e9] {
        for rtt in [100, 20_000, 500_000, 3_000_000].map(Duration::from_micros) {
            if rate * rtt.as_secs_f64() > MAX_UNDER_WAY {
                continue;
            }
            // Everything varies, but not everything with everything: chance does that.
            for (paths, directions) in [(1, DOWN), (1, UP), (1, BOTH), (2, DOWN), (2, BOTH)] {
                let queue = [Duration::from_millis(500), Duration::from_secs(10)][tried % 2];
                Case { rate, rtt, queue, paths, directions }.check();
                tried += 1;
            }
        }
    }
    assert!(tried > 100);
}

/// The first TCP connection in a trace that was stalled or timed out, and what happened before.
fn first_stall(trace: &str) -> Option<String> {
    let lines: Vec<&str> = trace.lines().collect();
    let stalls = ["\"what\":\"stalled\"", "no acknowledgment in time", "join timed out"];
    let is_stall = |line: &&str| stalls.iter().any(|stall| line.contains(stall));
    let at = lines.iter().position(is_stall)?;
    Some(lines[at.saturating_sub(25)..=at].join("\n"))
}

/// A session that is quiet for most of the time, on paths that answer.
fn quiet(case: &Case, zero_rtt: bool, user_timeout: &str) -> Scenario {
    let mut text = "title = \"quiet\"\nlimit = \"10min\"\nat-least = \"100s\"\n".to_owned();
    for side in ["client", "server"] {
        text += &format!("[{side}]\nzero-rtt-join = {zero_rtt}\nuser-timeout = \"{user_timeout}\"\n");
    }
    for path in 0..case.paths {
        let (rate, delay) = (case.rate, case.rtt.as_micros() / 2);
        text += &format!("[[path]]\nname = \"p{path}\"\nrate = \"{rate}bit/s\"\ndelay = \"{delay}us\"\n");
    }
    // The first stream is open all the time, and probed.
    text += "[[transfer]]\nat = \"25s\"\nsend = \"400B\"\nreceive = \"400B\"\nwrite-rate = \"8bit/s\"\n";
    for (at, by, bytes) in [(45, "client", 100), (60, "server", 1000), (75, "client", 1000), (90, "server", 20)] {
        text += &format!("[[transfer]]\nat = \"{at}s\"\nby = \"{by}\"\nsend = \"{bytes}B\"\nreceive = \"{bytes}B\"\n");
    }
    Scenario::parse(&text).unwrap_or_else(|error| panic!("{error}\n{text}"))
}

#[test]
fn quiet_tcp_connection_that_answers_is_never_stalled_at_any_rate_and_round_trip() {
    let mut tried = 0;
    for rate in [4e3, 16e3, 128e3, 2e6, 10e9] {
        for rtt in [100, 20_000, 300_000, 1_500_000, 3_000_000].map(Duration::from_micros) {
            for (paths, user_timeout) in [(1, ["10s", "1s"][tried / 2 % 2]), (2, "10s")] {
                let case = Case { rate, rtt, queue: Duration::ZERO, paths, directions: BOTH };
                let lines = Lines::default();
                let options = RunOptions { trace: Some(Box::new(lines.clone())), ..RunOptions::default() };
                let report = run(&quiet(&case, tried % 3 == 0, user_timeout), 1, options);
                assert!(report.is_good(), "{case:?}: {:?} {:?}", report.wrong, report.missed);
                let stall = first_stall(&lines.text());
                assert!(stall.is_none(), "{case:?}, {user_timeout}:\n{}", stall.unwrap_or_default());
                tried += 1;
            }
        }
    }
}
