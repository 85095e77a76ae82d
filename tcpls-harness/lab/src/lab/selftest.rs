//! `tcpls-lab selftest`: checks rate, delay and faults of the paths with real sockets, and `tcpls` over two
//! uplinks. Needs root, takes seconds.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use super::netns::{self, Namespaces};
use super::path::{Change, Path, PathSpec};
use super::wire::{Event, Record, Wire};
use super::{Outcome, sys, uplinks};

const SPEC: PathSpec = PathSpec { rate: 20.0, rtt: 30.0, queue: 50.0, loss: 0.0 };
const PORT: u16 = 7;
/// What a transfer's payload is at most of the rate: 1448 of 1500 bytes.
const PAYLOAD: f64 = 1448.0 / 1500.0;
/// After the start of the transfer.
const WHEN: Duration = Duration::from_millis(500);

/// A client's observations of a transfer.
struct Seen {
    /// From the SYN to the SYN+ACK.
    connecting: Duration,
    /// Goodput in Mbit/s, without the first fifth of a second.
    mbit: f64,
    longest_gap: Duration,
    end: std::io::Result<()>,
}

/// Runs all checks and prints their results.
///
/// # Errors
/// A check failed, or could not be made.
pub(crate) fn run() -> Outcome {
    let mut failed = 0;
    for (name, check) in CHECKS {
        match check() {
            Ok(()) => println!("ok      {name}"),
            Err(error) => {
                failed += 1;
                println!("FAILED  {name}: {error}");
            }
        }
    }
    if failed == 0 { Ok(()) } else { Err(format!("{failed} checks failed").into()) }
}

type Check = (&'static str, fn() -> Outcome);

const CHECKS: [Check; 8] = [
    ("a path has the rate and the round trip that it should", has_rate_and_round_trip),
    ("nothing comes over a dark path until it is well again", dark_for_a_while),
    ("a reset reaches both ends", reset_reaches_both_ends),
    ("a path that gets slow goes on", slow_but_alive),
    ("two uplinks without policy routing are both used", uplinks::both_are_used),
    ("a metered uplink carries nothing", uplinks::metered_is_spared),
    ("a strict reverse path filter is named", uplinks::strict_filter_is_named),
    ("nothing is left behind", nothing_is_left),
];

fn has_rate_and_round_trip() -> Outcome {
    let (seen, record, _) = transfer(3_000_000, Vec::new())?;
    seen.end?;
    let expected = SPEC.rate * PAYLOAD;
    check((0.93 * expected..=1.02 * expected).contains(&seen.mbit), format!("{:.2} Mbit/s", seen.mbit))?;
    let connecting = seen.connecting.as_secs_f64() * 1e3;
    check((SPEC.rtt..=SPEC.rtt + 5.0).contains(&connecting), format!("connecting took {connecting:.1} ms"))?;
    check(record.bytes[0][0] >= 3_000_000, format!("{:?} bytes were counted", record.bytes))
}

fn dark_for_a_while() -> Outcome {
    let dark = Event { at: WHEN, path: 0, change: Change::Dark { down: true, up: true } };
    let well = Event { at: WHEN + Duration::from_millis(300), path: 0, change: Change::Well };
    let (seen, record, _) = transfer(3_000_000, vec![dark, well])?;
    seen.end?;
    let gap = seen.longest_gap.as_secs_f64() * 1e3;
    check((290.0..3000.0).contains(&gap), format!("a gap of {gap:.0} ms"))?;
    let [dark, well] = &record.events[..] else { return Err("not all changes were made".into()) };
    let apart = (well.time - dark.time) * 1e3;
    check((apart - 300.0).abs() < 5.0, format!("the changes were {apart:.1} ms apart"))
}

fn reset_reaches_both_ends() -> Outcome {
    let reset = Event { at: WHEN, path: 0, change: Change::Reset { new_ones_may_begin: true } };
    let (seen, _, server) = transfer(20_000_000, vec![reset])?;
    let kind = |end: std::io::Result<()>| end.map_or_else(|error| Some(error.kind()), |()| None);
    let (client, server) = (kind(seen.end), kind(server));
    check(client == Some(ErrorKind::ConnectionReset), format!("the client saw {client:?}"))?;
    let known = [Some(ErrorKind::ConnectionReset), Some(ErrorKind::BrokenPipe)];
    check(known.contains(&server), format!("the server saw {server:?}"))
}

fn slow_but_alive() -> Outcome {
    let slow = Event { at: WHEN, path: 0, change: Change::Rate(0.1) };
    let (seen, ..) = transfer(1_500_000, vec![slow])?;
    seen.end?;
    check((1.9..18.0).contains(&seen.mbit), format!("{:.2} Mbit/s", seen.mbit))
}

fn nothing_is_left() -> Outcome {
    let namespaces = Namespaces::new()?;
    let names = [namespaces.client.clone(), namespaces.server.clone()];
    drop(namespaces);
    let left = names.iter().filter(|name| std::path::Path::new("/var/run/netns").join(name).exists()).count();
    check(left == 0, format!("{left} namespaces"))
}

fn check(holds: bool, otherwise: String) -> Outcome {
    if holds { Ok(()) } else { Err(otherwise.into()) }
}

/// A server sends bytes to a client; what both saw, and the wire.
fn transfer(bytes: usize, events: Vec<Event>) -> Outcome<(Seen, Record, std::io::Result<()>)> {
    let namespaces = Namespaces::new()?;
    let devices = namespaces.add_paths(1)?;
    let wire = Wire::start(vec![Path::new(SPEC, netns::client(0), netns::server(0), 0)], devices, events);
    let address = SocketAddr::from((netns::server(0), PORT));
    let listener = sys::in_namespace(&namespaces.server, || TcpListener::bind(address))?;
    let server = std::thread::spawn(move || send(&listener, bytes));
    let seen = sys::in_namespace(&namespaces.client, || receive(address))?;
    let server = server.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    Ok((seen, wire.stop(), server))
}

fn send(listener: &TcpListener, bytes: usize) -> std::io::Result<()> {
    let (mut stream, _) = listener.accept()?;
    stream.write_all(&vec![7; bytes])?;
    stream.shutdown(std::net::Shutdown::Write)?;
    stream.read(&mut [0]).map(|_| ())
}

fn receive(address: SocketAddr) -> std::io::Result<Seen> {
    let start = Instant::now();
    let mut stream = TcpStream::connect(address)?;
    let connecting = start.elapsed();
    let (start, mut last, mut longest_gap) = (Instant::now(), Instant::now(), Duration::ZERO);
    let (skipped, mut counted, mut counting) = (Duration::from_millis(200), 0, None);
    let mut buffer = vec![0; 256 * 1024];
    let end = loop {
        match stream.read(&mut buffer) {
            Ok(0) => break Ok(()),
            Err(error) => break Err(error),
            Ok(len) => {
                let now = Instant::now();
                longest_gap = longest_gap.max(now - last);
                last = now;
                match counting {
                    Some(_) => counted += len,
                    None if now - start > skipped => counting = Some(now),
                    None => {}
                }
            }
        }
    };
    let seconds = counting.map_or(f64::INFINITY, |counting| (last - counting).as_secs_f64());
    Ok(Seen { connecting, mbit: counted as f64 * 8e-6 / seconds, longest_gap, end })
}
