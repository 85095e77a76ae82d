//! `tcpls replay`: recordings of sessions, decision for decision.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;
use tcpls_core::record::replay::{Recording, Replay, ReplayError, Session, Step};
use tcpls_core::record::{EVENTS, Mark, TRACED};
use tcpls_core::trace::Sink;
use tcpls_core::{Connection, Side, Time};

use super::files::{OutFile, check_output};
use super::text::visible_lines;
use super::units::parse_duration;
use super::{Outcome, output, report, view};
use crate::trace::JsonLines;
use crate::view::Replays;

/// Replay a recording of sessions, and compare
///
/// The recording, from --record, has what came into each session: calls of the application, times, and the records of the
/// peer. The same calls are made again on sessions without cryptography, and each record, event and deadline that follows
/// is compared with the recording. The first difference is shown, and the exit code is 1. With the release that recorded
/// a session there is none.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Args {
    /// The recording
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Replay this session alone; they are numbered from 0
    #[arg(long, value_name = "NUMBER")]
    session: Option<u32>,
    /// Stop at the first event of this name, such as lost or stalled, or at this time after the begin of the session, such
    /// as 2.5s; and show the state of the session there
    #[arg(long, value_name = "EVENT|TIME", value_parser = parse_until)]
    until: Option<Until>,
    /// Show each call with what it did, the state of the session and its deadline, and what each TCP connection carries
    #[arg(long)]
    step: bool,
    /// Write what happens in the sessions to this file, as lines of JSON (docs/trace.md)
    #[arg(long, value_name = "FILE")]
    trace: Option<PathBuf>,
    /// Write a page that shows the sessions to this file, for a browser
    #[arg(long, value_name = "PAGE.html")]
    view: Option<PathBuf>,
    /// Write a Rust test that replays the recording, for the folder tests of a crate, and beside it the recording. It needs
    /// tcpls-core as a dependency
    #[arg(long, value_name = "FILE.rs")]
    test: Option<PathBuf>,
    /// Print a JSON object for each session instead of text
    #[arg(long)]
    json: bool,
}

/// Where a replay stops.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Until {
    Event(String),
    After(Duration),
}

fn parse_until(text: &str) -> Result<Until, String> {
    if EVENTS.iter().chain(TRACED).any(|name| *name == text) {
        return Ok(Until::Event(text.to_owned()));
    }
    parse_duration(text).map(Until::After).map_err(|_| {
        let mut names: Vec<&str> = EVENTS.iter().chain(TRACED).copied().collect();
        names.sort_unstable();
        names.dedup();
        format!("neither a time nor an event; the events are: {}", names.join(", "))
    })
}

/// The result for one session.
#[derive(Serialize)]
struct Replayed {
    session: u32,
    side: &'static str,
    calls: u64,
    seconds: f64,
    records_sent: usize,
    records_received: usize,
    end: &'static str,
    /// The first difference, or why the recording cannot be read further.
    difference: Option<String>,
}

/// Replays, and prints what came of it.
///
/// # Errors
/// The file cannot be read, or a session decides otherwise.
pub(super) fn run(args: &Args) -> Outcome {
    let name = args.file.display();
    let file = std::fs::read(&args.file).map_err(|error| format!("cannot read {name}: {error}").into());
    let file = report::or_error(file, args.json)?;
    let recording = Recording::read(&file).map_err(|error| format!("{name}: {error}").into());
    let recording = report::or_error(recording, args.json)?;
    let mut failed = recording.damage().map(|damage| format!("{name}: {damage}"));
    let chosen = |session: &&Session<'_>| args.session.is_none_or(|number| session.number() == number);
    let sessions: Vec<&Session<'_>> = recording.sessions().iter().filter(chosen).collect();
    if sessions.is_empty() {
        let numbers = recording.sessions().len();
        return Err(failed.unwrap_or_else(|| format!("{name} has no such session; it has {numbers}")).into());
    }
    if let Some(test) = &args.test {
        write_test(test, &file)?;
    }
    let page = args.view.as_deref().map_or(Ok(()), |page| check_output(page, &args.file, "--view"));
    report::or_error(page, args.json)?;
    let replays = Replays::default();
    if let Some(damage) = recording.damage() {
        replays.note(None, format!("The recording cannot be read to its end: {damage}."));
    }
    for session in sessions {
        let replayed = replay(args, session, &replays)?;
        if let Some(difference) = &replayed.difference {
            failed.get_or_insert_with(|| format!("session {}: {difference}", session.number()));
        }
        if args.json {
            output::result_json(&replayed)?;
        } else {
            output::result(replayed.text())?;
        }
    }
    if let Some(path) = &args.view {
        match replays.page() {
            Ok(page) => {
                let name = args.file.file_name().unwrap_or(args.file.as_os_str());
                let file = report::or_error(OutFile::create(path), args.json)?;
                view::write(path, page.title(name.to_string_lossy()), file)?;
            }
            Err(error) if failed.is_none() => {
                return report::or_error(Err(format!("{name}: {error}").into()), args.json);
            }
            // Where the replay failed is the cause.
            Err(_) => {}
        }
    }
    failed.map_or(Ok(()), |failed| Err(failed.into()))
}

fn replay(args: &Args, session: &Session<'_>, replays: &Replays) -> Outcome<Replayed> {
    let mut replay = Replay::new(session);
    let mut sinks: Vec<Box<dyn Sink>> = Vec::new();
    if let Some(path) = &args.trace {
        let file = std::fs::File::options().create(true).append(true).open(path);
        let file = file.map_err(|error| format!("cannot write {}: {error}", path.display()))?;
        sinks.push(Box::new(JsonLines::new(std::io::BufWriter::new(file))));
    }
    let mut replayed = Replayed::new(session);
    let mut begin = None;
    let outcome = loop {
        match replay.step() {
            Ok(Some(step)) => {
                if begin.is_none() {
                    // The first call makes the session, which has no event before it.
                    let side = replay.connection().map(Connection::side);
                    let side = side.filter(|_| args.view.is_some());
                    sinks.extend(side.map(|side| replays.sink(session.number(), side)));
                    replay.set_trace(Box::new(std::mem::take(&mut sinks)));
                }
                let begin = *begin.get_or_insert(step.now());
                replayed.count(&step, begin);
                if args.step {
                    output::result(visible_lines(&format!("{step}\n{}", state(&replay))))?;
                }
                let stops = match &args.until {
                    None => false,
                    Some(Until::Event(name)) => step.events().any(|event| event == name),
                    Some(Until::After(after)) => step.now() >= begin + *after,
                };
                if stops {
                    if !args.step {
                        output::result(visible_lines(&format!("{step}\n{}", state(&replay))))?;
                    }
                    replayed.end = "stopped as --until says";
                    break Ok(());
                }
            }
            Ok(None) => break Ok(()),
            Err(error) => break Err(error),
        }
    };
    if let Some(conn) = replay.connection() {
        replayed.side = if conn.side() == Side::Client { "client" } else { "server" };
    }
    replayed.difference = outcome.err().map(|error: ReplayError| visible_lines(&error.to_string()));
    if let Some(first) = replayed.difference.as_deref().and_then(|difference| difference.lines().next()) {
        let number = session.number();
        replays.note(Some(number), format!("The recording of session {number} cannot be replayed further: {first}."));
    }
    Ok(replayed)
}

impl Replayed {
    fn new(session: &Session<'_>) -> Self {
        let end = match session.mark() {
            Some(Mark::Complete) => "the session ended",
            Some(Mark::Limit) => "the file reached its limit",
            Some(Mark::Behind) => "the disk was too slow",
            _ => "the end is missing",
        };
        let (session, side) = (session.number(), "");
        let (records_sent, records_received) = (0, 0);
        Self { session, side, calls: 0, seconds: 0.0, records_sent, records_received, end, difference: None }
    }

    fn count(&mut self, step: &Step, begin: Time) {
        self.calls = step.number() + 1;
        self.seconds = step.now().saturating_since(begin).as_secs_f64();
        let (sent, received) = step.records();
        self.records_sent += sent;
        self.records_received += received;
    }

    fn text(&self) -> String {
        let Self { session, side, calls, seconds, records_sent, records_received, end, difference } = self;
        let verdict = if difference.is_some() { "DIFFERS" } else { "the same" };
        format!(
            "session {session} ({side}): {verdict}; {calls} calls in {seconds:.3} s, {records_sent} records sent, \
             {records_received} received; {end}"
        )
    }
}

/// The state of the session between two calls.
fn state(replay: &Replay<'_>) -> String {
    replay.connection().map_or_else(String::new, describe)
}

fn describe(conn: &Connection) -> String {
    let mut text = format!("    state: {:?}", conn.state());
    match conn.poll_timeout().zip(conn.timeout_reason()) {
        Some((at, reason)) => _ = write!(text, "; next deadline: {at:.6}, {reason:?}"),
        None => text.push_str("; no deadline"),
    }
    let stats = conn.stats();
    _ = write!(
        text,
        "; {} streams, {} bytes to send, {} to read, {} tokens",
        stats.streams_open, stats.bytes_to_send, stats.bytes_to_read, stats.tokens
    );
    for tcp in &stats.tcp {
        let flags = [(tcp.stalled, " stalled"), (tcp.backup, " backup"), (tcp.lane, " lane")];
        let flags: String = flags.iter().filter(|(is_set, _)| *is_set).map(|(_, name)| *name).collect();
        _ = write!(text, "\n    {}: {}{flags}, {} bytes in flight", tcp.tcp, tcp.phase, tcp.bytes_in_flight);
        if let Some(rtt) = tcp.smoothed_rtt {
            _ = write!(text, ", RTT {:.1} ms", rtt.as_secs_f64() * 1e3);
        }
    }
    text
}

/// Writes a test, and beside it the recording.
fn write_test(path: &Path, recording: &[u8]) -> Outcome {
    let stem = path.file_stem().and_then(|stem| stem.to_str()).filter(|_| path.extension().is_some_and(|x| x == "rs"));
    let stem = stem.ok_or("--test needs the name of a Rust file, for example tests/stall.rs")?;
    let beside = path.with_extension("tcplsrec");
    let failed = |path: &Path, error: std::io::Error| format!("cannot write {}: {error}", path.display());
    std::fs::write(&beside, recording).map_err(|error| failed(&beside, error))?;
    std::fs::write(path, test_source(stem)).map_err(|error| failed(path, error))?;
    Ok(())
}

fn test_source(stem: &str) -> String {
    let name: String =
        stem.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '_' }).collect();
    format!(
        r#"//! Replays a recorded session: it must decide as it did when it was recorded.

use tcpls_core::record::replay::{{Recording, Replay}};

#[test]
fn {name}_replays_as_recorded() {{
    let recording = Recording::read(include_bytes!("{stem}.tcplsrec")).unwrap();
    for session in recording.sessions() {{
        let mut replay = Replay::new(session);
        while replay.step().unwrap_or_else(|error| panic!("session {{}}: {{error}}", session.number())).is_some() {{}}
    }}
}}
"#
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_is_an_event_or_a_time() {
        assert_eq!(parse_until("lost"), Ok(Until::Event("lost".to_owned())));
        assert_eq!(parse_until("2s"), Ok(Until::After(Duration::from_secs(2))));
        assert!(parse_until("nonsense").unwrap_err().contains("stalled"));
    }
}
