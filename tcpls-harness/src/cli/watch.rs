//! Observes a download: how many bytes arrived over which TCP connection, and when. Shown live, and summarized at the
//! end.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde::Serialize;
use tcpls_core::event::{Event, TcpEvent};
use tcpls_core::stats::TcpStats;
use tcpls_core::wire::ids::ConnectionId;

use super::plot::{Curve, Picture};
use super::progress::bar_line;
use super::report::{TcpReport, table};
use super::units::{bits_per_second, rate, size, time};
use super::{Outcome, output};
use crate::net::Session;

/// The interval of samples.
pub(crate) const INTERVAL: Duration = Duration::from_millis(100);
/// Rates are averages over this many samples: a single one varies too much.
const WINDOW: usize = 2;

/// One sample: bytes so far, in sum and by TCP connection.
struct Sample {
    at: Duration,
    total: u64,
    by_tcp: BTreeMap<ConnectionId, u64>,
}

/// Watches a session's download.
pub(crate) struct Watch {
    session: Session,
    begin: Instant,
    total: u64,
    /// When the application last read data, and the longest time between two reads.
    last_read: Option<Instant>,
    longest_wait: Duration,
    samples: Vec<Sample>,
    marks: Vec<(Duration, String)>,
    /// The name of each TCP connection.
    paths: BTreeMap<ConnectionId, String>,
    /// When it joined, and when it was lost.
    lives: BTreeMap<ConnectionId, (Duration, Option<Duration>)>,
    /// The total size, and whether a terminal shows the progress.
    len: u64,
    shown: bool,
}

impl Watch {
    /// `shown`: whether a terminal shows the progress.
    pub(crate) fn new(session: Session, len: u64, shown: bool) -> Self {
        let lives = session.tcp_connections().into_iter().map(|tcp| (tcp, (Duration::ZERO, None))).collect();
        let mut watch = Self {
            session,
            begin: Instant::now(),
            total: 0,
            last_read: None,
            longest_wait: Duration::ZERO,
            samples: Vec::new(),
            marks: Vec::new(),
            paths: BTreeMap::new(),
            lives,
            len,
            shown,
        };
        watch.look();
        watch
    }

    /// Sets the name of the path of TCP connection `tcp`.
    pub(crate) fn name(&mut self, tcp: ConnectionId, path: String) {
        self.paths.insert(tcp, path);
    }

    /// The application read this much.
    pub(crate) fn received(&mut self, len: usize) {
        let now = Instant::now();
        let wait = self.last_read.replace(now).map_or(Duration::ZERO, |last| now - last);
        self.longest_wait = self.longest_wait.max(wait);
        self.total += len as u64;
    }

    /// Records an event with the current time.
    pub(crate) fn note(&mut self, what: String) {
        self.marks.push((self.begin.elapsed(), what));
    }

    /// Records the events of TCP connections.
    pub(crate) fn hear(&mut self, event: &Event) {
        let at = self.begin.elapsed();
        match event {
            Event::Tcp(TcpEvent::Joined { tcp }) => {
                self.lives.entry(*tcp).or_insert((at, None));
                self.marks.push((at, format!("{tcp} joined")));
            }
            Event::Tcp(TcpEvent::Lost { tcp, fault }) => {
                self.lives.entry(*tcp).or_insert((at, None)).1 = Some(at);
                self.marks.push((at, format!("{tcp} lost: {fault}")));
            }
            _ => return,
        }
        self.look();
    }

    /// Takes a sample of the counters.
    pub(crate) fn look(&mut self) {
        let stats = self.session.stats();
        let by_tcp = stats.tcp.iter().map(|tcp| (tcp.tcp, tcp.counters.stream_bytes_received)).collect();
        self.samples.push(Sample { at: self.begin.elapsed(), total: self.total, by_tcp });
        self.show(&stats.tcp);
    }

    fn show(&mut self, stats: &[TcpStats]) {
        if !self.shown {
            return;
        }
        let last = self.samples.len().saturating_sub(1);
        let rate_of_all = rate(self.rate_at(last, |sample| sample.total));
        let mut lines = vec![bar_line(self.total, self.len, &rate_of_all, output::shown_columns())];
        for stats in stats {
            let rate = rate(self.rate_at(last, of(stats.tcp)));
            let path = self.paths.get(&stats.tcp).map_or("", String::as_str);
            let (tcp, phase) = (stats.tcp.to_string(), stats.phase);
            lines.push(format!("  {tcp:<6} {path:<24} {rate:>14}  {phase}"));
        }
        output::show(lines);
    }

    /// Bits per second around one sample.
    fn rate_at(&self, index: usize, count: impl Fn(&Sample) -> u64) -> f64 {
        let before = &self.samples[index.saturating_sub(WINDOW)];
        let here = &self.samples[index];
        bits_per_second(count(here).saturating_sub(count(before)), here.at.saturating_sub(before.at))
    }

    /// Ends the observation.
    pub(crate) fn end(mut self) -> Story {
        self.look();
        let elapsed = self.begin.elapsed();
        let rows = self.session.stats().tcp.into_iter().map(|stats| self.row(stats, elapsed)).collect();
        let joined = self.lives.iter().filter(|(_, (from, _))| !from.is_zero()).map(|(tcp, _)| *tcp).collect();
        let has_failure = self.lives.values().any(|(_, lost)| lost.is_some());
        let (curves, longest_wait) = (self.curves(), self.longest_wait);
        Story { bytes: self.total, elapsed, longest_wait, has_failure, joined, rows, curves, marks: self.marks }
    }

    fn row(&self, stats: TcpStats, end: Duration) -> (TcpStats, String, Option<f64>) {
        let path = self.paths.get(&stats.tcp).cloned().unwrap_or_default();
        let life = self.lives.get(&stats.tcp).map(|(from, to)| to.unwrap_or(end).saturating_sub(*from));
        let mean = life.map(|life| bits_per_second(stats.counters.stream_bytes_received, life));
        (stats, path, mean)
    }

    fn curves(&self) -> Vec<Curve> {
        let sum = self.points(|sample| sample.total, Duration::ZERO, Duration::MAX);
        let sum = Curve { label: "in total".to_owned(), points: sum };
        let single = self.lives.iter().map(|(tcp, (from, to))| {
            let path = self.paths.get(tcp).map(|path| format!(" over {path}")).unwrap_or_default();
            // The rate comes down to nothing only once the last bytes are out of the window.
            let to = to.map_or(Duration::MAX, |to| to + 2 * WINDOW as u32 * INTERVAL);
            Curve { label: format!("{tcp}{path}"), points: self.points(of(*tcp), *from, to) }
        });
        std::iter::once(sum).chain(single).collect()
    }

    /// Rates in Mbit/s between two times.
    fn points(&self, count: impl Fn(&Sample) -> u64, from: Duration, to: Duration) -> Vec<(f64, f64)> {
        (0..self.samples.len())
            .filter(|index| (from..=to).contains(&self.samples[*index].at))
            .map(|index| (self.samples[index].at.as_secs_f64(), self.rate_at(index, &count) / 1e6))
            .collect()
    }
}

fn of(tcp: ConnectionId) -> impl Fn(&Sample) -> u64 {
    move |sample| sample.by_tcp.get(&tcp).copied().unwrap_or(0)
}

/// The observations of a download, from start to end.
#[derive(Debug)]
pub(crate) struct Story {
    bytes: u64,
    elapsed: Duration,
    /// The longest time that the application waited for data, from the first data on.
    longest_wait: Duration,
    /// Whether a TCP connection was lost on the way.
    has_failure: bool,
    /// TCP connections that joined on the way.
    joined: Vec<ConnectionId>,
    rows: Vec<(TcpStats, String, Option<f64>)>,
    curves: Vec<Curve>,
    marks: Vec<(Duration, String)>,
}

#[derive(Serialize)]
struct Summary<'a> {
    bytes: u64,
    seconds: f64,
    bits_per_second: f64,
    longest_wait_seconds: f64,
    sha256: &'a str,
    intact: bool,
    tcp: Vec<TcpReport>,
    events: Vec<Moment<'a>>,
}

#[derive(Serialize)]
struct Moment<'a> {
    seconds: f64,
    event: &'a str,
}

impl Story {
    /// Prints a table on standard output, with a summary.
    pub(crate) fn print(&self, sha256: &str, intact: bool) -> Outcome {
        for (at, what) in &self.marks {
            output::result(format_args!("{:>7}  {what}", time(*at)))?;
        }
        output::result(table(&self.rows, output::columns()))?;
        let mean = rate(bits_per_second(self.bytes, self.elapsed));
        output::result(format_args!("{} in {}: {mean}", size(self.bytes), time(self.elapsed)))?;
        if intact { self.print_verdict(sha256) } else { Ok(()) }
    }

    fn print_verdict(&self, sha256: &str) -> Outcome {
        output::result(match self.has_failure {
            true => "\nA TCP connection failed during the download, and the application did not notice:",
            false => "\nAll data arrived before a TCP connection could fail; try more, for example --size 256MiB:",
        })?;
        output::result(format_args!("- nothing was lost: sent and received data have the same SHA-256,\n  {sha256}"))?;
        output::result(format_args!("- nothing stopped: the longest wait for data was {}", time(self.longest_wait)))?;
        for tcp in &self.joined {
            let what = "the session recovered by itself";
            output::result(format_args!("- {what}: {tcp} joined when the path was back, without a TLS handshake"))?;
        }
        Ok(())
    }

    /// Prints one line of JSON on standard output.
    pub(crate) fn print_json(&self, sha256: &str, intact: bool) -> Outcome {
        Ok(output::result_json(&Summary {
            bytes: self.bytes,
            seconds: self.elapsed.as_secs_f64(),
            bits_per_second: bits_per_second(self.bytes, self.elapsed),
            longest_wait_seconds: self.longest_wait.as_secs_f64(),
            sha256,
            intact,
            tcp: self.rows.iter().map(|(stats, ..)| TcpReport::from(stats)).collect(),
            events: self.marks.iter().map(|(at, event)| Moment { seconds: at.as_secs_f64(), event }).collect(),
        })?)
    }

    /// Returns the plot.
    pub(crate) fn into_picture(self) -> Picture {
        Picture {
            title: format!("{} over two paths, one of which fails", size(self.bytes)),
            curves: self.curves,
            marks: self.marks.into_iter().map(|(at, what)| (at.as_secs_f64(), what)).collect(),
        }
    }
}
