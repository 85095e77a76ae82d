//! The thread that carries packets between the two ends of each path, and changes the paths when it is time.
//!
//! It alone owns the devices and the paths. What it saw is in the [`Record`] that it returns.

use std::fs::File;
use std::io::{Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde::Serialize;

use super::path::{Change, DOWN, Path, UP};
use super::sys;

/// Bytes in one direction after which a transfer has started: more than any handshake has, and no round trip of data.
const STARTED: u64 = 8 * 1024;
/// How often it looks whether it shall stop.
const IDLE: Duration = Duration::from_millis(20);
/// How often it notes what was delivered.
const SAMPLE: Duration = Duration::from_millis(100);
/// Larger than the MTU.
const MAX_PACKET: usize = 2048;

/// A change to be made to a path.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Event {
    /// After the start of the transfer.
    pub(crate) at: Duration,
    pub(crate) path: usize,
    pub(crate) change: Change,
}

/// A change that was made.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Fired {
    /// Seconds after the start of the transfer.
    pub(crate) at: f64,
    /// Seconds since 1970.
    pub(crate) time: f64,
    pub(crate) path: usize,
    pub(crate) change: Change,
    /// The round-trip time of each path just before, with what waited on it, in milliseconds.
    pub(crate) rtt_ms: Vec<f64>,
}

/// What the wire saw at a time.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Sample {
    /// Seconds after the wire was made.
    pub(crate) at: f64,
    /// Payload delivered so far, as in [`Record::bytes`].
    pub(crate) bytes: Vec<[u64; 2]>,
    /// The round-trip time of each path, with what waits on it, in milliseconds.
    pub(crate) rtt_ms: Vec<f64>,
}

/// What the wire saw.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Record {
    pub(crate) events: Vec<Fired>,
    /// Payload delivered between each pair of devices, towards the client and towards the server.
    pub(crate) bytes: Vec<[u64; 2]>,
    pub(crate) samples: Vec<Sample>,
    /// The latest that a packet was delivered behind its time, in milliseconds; how many were more than a millisecond late.
    pub(crate) late_ms: f64,
    pub(crate) late: u64,
    /// Packets delivered.
    pub(crate) packets: u64,
}

/// The running thread. Stopped when this is dropped.
#[derive(Debug)]
pub(crate) struct Wire {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Record>>,
}

impl Wire {
    /// Starts the thread. `files` are the devices at the clients' and at the servers' ends, in the order of the paths and
    /// of the pairs that share one; `events` are in the order of time.
    pub(crate) fn start(paths: Vec<Path>, files: [Vec<File>; 2], events: Vec<Event>) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let mut carrier = Carrier::new(paths, files, events);
        let stopped = stop.clone();
        let thread = std::thread::spawn(move || {
            sys::be_nice(-20);
            sys::be_urgent();
            while !stopped.load(Ordering::Relaxed) {
                carrier.turn();
            }
            carrier.finish()
        });
        Self { stop, thread: Some(thread) }
    }

    /// Stops the thread and returns what it saw.
    pub(crate) fn stop(mut self) -> Record {
        self.stop.store(true, Ordering::Relaxed);
        let thread = self.thread.take().expect("only taken here and when dropped");
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            _ = thread.join();
        }
    }
}

struct Carrier {
    origin: Instant,
    paths: Vec<Path>,
    /// The path of each pair of devices.
    path_of: Vec<usize>,
    /// Indexed by the direction whose packets are delivered there.
    files: [Vec<File>; 2],
    events: std::vec::IntoIter<Event>,
    next_event: Option<Event>,
    started: Option<Duration>,
    record: Record,
}

impl Carrier {
    fn new(paths: Vec<Path>, files: [Vec<File>; 2], events: Vec<Event>) -> Self {
        let mut events = events.into_iter();
        let next_event = events.next();
        let (origin, record) = (Instant::now(), Record::default());
        let path_of = paths.iter().enumerate().flat_map(|(index, path)| vec![index; path.width()]).collect();
        Self { origin, paths, path_of, files, events, next_event, started: None, record }
    }

    fn turn(&mut self) {
        self.change();
        self.deliver();
        self.sample();
        self.wait();
        self.take();
    }

    fn now(&self) -> Duration {
        self.origin.elapsed()
    }

    /// Makes the changes that are due.
    fn change(&mut self) {
        let now = self.now();
        let Some(started) = self.started else { return };
        while let Some(event) = self.next_event.filter(|event| started + event.at <= now) {
            let rtt_ms = self.round_trips(now);
            let (at, time) = ((now - started).as_secs_f64(), unix_time());
            self.record.events.push(Fired { at, time, path: event.path, change: event.change, rtt_ms });
            self.paths[event.path].change(now, event.change);
            self.next_event = self.events.next();
        }
    }

    fn round_trips(&self, now: Duration) -> Vec<f64> {
        self.paths.iter().map(|path| path.round_trip(now).as_secs_f64() * 1e3).collect()
    }

    fn bytes(&self) -> Vec<[u64; 2]> {
        self.paths.iter().flat_map(|path| path.delivered.iter().copied()).collect()
    }

    fn sample(&mut self) {
        let now = self.now();
        if now >= SAMPLE * self.record.samples.len() as u32 {
            let (bytes, rtt_ms) = (self.bytes(), self.round_trips(now));
            self.record.samples.push(Sample { at: now.as_secs_f64(), bytes, rtt_ms });
        }
    }

    fn deliver(&mut self) {
        let now = self.now();
        let mut first = 0;
        for path in &mut self.paths {
            for direction in [DOWN, UP] {
                while let Some((at, packet)) = path.leave(now, direction) {
                    let late = (now - at).as_secs_f64() * 1e3;
                    self.record.late_ms = self.record.late_ms.max(late);
                    self.record.late += u64::from(late > 1.0);
                    self.record.packets += 1;
                    // A device that is full or gone loses it, as any other would.
                    let end = first + path.end_of(direction, &packet).unwrap_or_default();
                    _ = (&self.files[direction][end]).write(&packet);
                }
            }
            first += path.width();
        }
        let has_started = |direction: usize| self.bytes().iter().map(|bytes| bytes[direction]).sum::<u64>() > STARTED;
        if self.started.is_none() && [DOWN, UP].into_iter().any(has_started) {
            self.started = Some(now);
        }
    }

    /// Until a packet comes or something is to be done.
    fn wait(&mut self) {
        let event = self.next_event.zip(self.started).map(|(event, started)| started + event.at);
        let now = self.now();
        let next = self.paths.iter().filter_map(Path::next).chain(event).min();
        let wait = next.map_or(IDLE, |next| next.saturating_sub(now)).min(IDLE);
        let wait = Timespec { tv_sec: wait.as_secs() as i64, tv_nsec: i64::from(wait.subsec_nanos()) };
        let mut ready: Vec<PollFd<'_>> =
            self.files.iter().flatten().map(|file| PollFd::new(file, PollFlags::IN)).collect();
        _ = poll(&mut ready, Some(&wait));
    }

    /// Takes all packets that wait at the devices.
    fn take(&mut self) {
        let mut buffer = [0; MAX_PACKET];
        let now = self.now();
        for (end, files) in self.files.iter().enumerate() {
            for (index, mut file) in files.iter().enumerate() {
                while let Ok(len @ 1..) = file.read(&mut buffer) {
                    self.paths[self.path_of[index]].enter(now, 1 - end, buffer[..len].to_vec());
                }
            }
        }
    }

    fn finish(mut self) -> Record {
        self.record.bytes = self.bytes();
        self.record
    }
}

/// Seconds since 1970: what the lab and the processes that it starts have in common.
pub(crate) fn unix_time() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |time| time.as_secs_f64())
}
