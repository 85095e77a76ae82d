//! Recorded sessions that are replayed one after the other: their events, put in order of time.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tcpls_core::record::replay::{Recording, Replay, Session};
use tcpls_core::trace::{Event, Sink};
use tcpls_core::{Side, Time};

use super::line::Line;
use super::page::Page;
use super::reader::{Reader, TraceError};
use crate::trace::{EventJson, append};

/// The most memory that events of all sessions take until they are put in order, in bytes.
const MAX_BYTES: usize = 1 << 30;
/// The most notes about single sessions that are kept.
const MAX_NOTES: usize = 1000;

/// Collects a page while sessions of a recording are replayed.
///
/// Clones share what they collect.
///
/// ```
/// use tcpls_harness::core::record::replay::{Replay, Session};
/// use tcpls_harness::view::Replays;
///
/// fn replay(session: &Session<'_>, replays: &Replays) {
///     let mut replay = Replay::new(session);
///     // The first call makes the session, which has no event before it.
///     _ = replay.step();
///     if let Some(conn) = replay.connection() {
///         let side = conn.side();
///         replay.set_trace(replays.sink(session.number(), side));
///     }
///     while let Ok(Some(_)) = replay.step() {}
/// }
/// ```
#[derive(Clone, Debug, Default)]
pub struct Replays(Arc<Mutex<Kept>>);

#[derive(Debug, Default)]
struct Kept {
    sessions: BTreeMap<u32, Trace>,
    /// Of all sessions.
    bytes: usize,
    notes: Vec<(Option<u64>, String)>,
    /// Of single sessions, with those that are not kept.
    session_notes: usize,
}

/// The events of one session.
#[derive(Debug)]
struct Trace {
    side: Side,
    /// JSON lines.
    lines: Vec<u8>,
    /// The time of each line, and where it ends.
    ends: Vec<(Time, usize)>,
}

impl Replays {
    fn get(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns a sink for the session of this number in its recording.
    pub fn sink(&self, session: u32, side: Side) -> Box<dyn Sink> {
        self.get().sessions.entry(session).or_insert(Trace { side, lines: Vec::new(), ends: Vec::new() });
        Box::new(ReplaySink { replays: self.clone(), session, line: Vec::new() })
    }

    /// Adds a sentence to the summary of a session, or of all: for example, why the replay stopped. Of notes about
    /// single sessions, the first 1,000 are kept, and the others counted.
    pub fn note(&self, session: Option<u32>, text: impl Into<String>) {
        let mut kept = self.get();
        kept.session_notes += usize::from(session.is_some());
        if session.is_none() || kept.session_notes <= MAX_NOTES {
            kept.notes.push((session.map(u64::from), text.into()));
        }
    }

    /// Makes the page of what was replayed until now. Each session is an end of its own: a recording does not say which
    /// two sessions were peers.
    ///
    /// # Errors
    /// There is no event, or more than a page can show.
    pub fn page(&self) -> Result<Page, TraceError> {
        let Kept { sessions, bytes, mut notes, session_notes } = std::mem::take(&mut *self.get());
        if bytes > MAX_BYTES {
            return Err(TraceError::LongRecording(MAX_BYTES));
        }
        let mut reader = Reader::new();
        // The next line of each session, the earliest first.
        let first = |(number, trace): (&u32, &Trace)| trace.ends.first().map(|(t, _)| Reverse((*t, *number, 0)));
        let mut next: BinaryHeap<_> = sessions.iter().filter_map(first).collect();
        while let Some(Reverse((_, number, at))) = next.pop() {
            let Some(trace) = sessions.get(&number) else { continue };
            reader.take(at + 1, &trace.line(number, at)?)?;
            next.extend(trace.ends.get(at + 1).map(|(t, _)| Reverse((*t, number, at + 1))));
        }
        if session_notes > MAX_NOTES {
            let dropped = session_notes - MAX_NOTES;
            notes.push((None, format!("{dropped} more notes about single sessions are left out.")));
        }
        reader.tables.notes = notes;
        reader.finish().map(Page::new)
    }
}

impl Trace {
    /// A line, with the end where it is from.
    fn line(&self, session: u32, at: usize) -> Result<Line, TraceError> {
        let from = at.checked_sub(1).map_or(0, |before| self.ends[before].1);
        let line = serde_json::from_slice(&self.lines[from..self.ends[at].1]);
        let line: Line = line.map_err(|error| TraceError::Line { number: at + 1, what: error.to_string() })?;
        let host = if self.side == Side::Client { "client" } else { "server" };
        Ok(Line { at: Some(host.to_owned()), session: Some(session.into()), ..line })
    }
}

struct ReplaySink {
    replays: Replays,
    session: u32,
    line: Vec<u8>,
}

impl Sink for ReplaySink {
    fn event(&mut self, now: Time, event: &Event<'_>) {
        #[derive(serde::Serialize)]
        struct Line<'a> {
            t: u64,
            #[serde(flatten)]
            event: EventJson<'a>,
        }
        self.line.clear();
        if !append(&mut self.line, &Line { t: now.as_nanos(), event: EventJson(event) }) {
            return;
        }
        let mut kept = self.replays.get();
        kept.bytes = kept.bytes.saturating_add(self.line.len());
        // `page` has the error.
        if kept.bytes <= MAX_BYTES
            && let Some(trace) = kept.sessions.get_mut(&self.session)
        {
            trace.lines.extend_from_slice(&self.line);
            trace.ends.push((now, trace.lines.len()));
        }
    }
}

/// The page of a recording: replays its sessions, or the one of this number.
pub(super) fn page_of(file: &[u8], chosen: Option<u32>) -> Result<Page, TraceError> {
    let recording = Recording::read(file).map_err(|error| TraceError::Recording(error.to_string()))?;
    let is_chosen = |session: &&Session<'_>| chosen.is_none_or(|number| session.number() == number);
    let sessions: Vec<_> = recording.sessions().iter().filter(is_chosen).collect();
    if let Some(number) = chosen.filter(|_| sessions.is_empty()) {
        return Err(TraceError::NoSession { number, count: recording.sessions().len() });
    }
    let (replays, mut stopped) = (Replays::default(), None);
    for session in sessions {
        let number = session.number();
        if let Err(error) = replay(session, &replays) {
            let what = error.lines().next().unwrap_or_default();
            let note = format!("The recording of session {number} cannot be replayed further: {what}.");
            replays.note(Some(number), note);
            stopped.get_or_insert(error);
        }
        if replays.get().bytes > MAX_BYTES {
            break;
        }
    }
    if let Some(damage) = recording.damage() {
        replays.note(None, format!("The recording cannot be read to its end: {damage}."));
        stopped.get_or_insert_with(|| damage.to_string());
    }
    match (replays.page(), stopped) {
        (Err(TraceError::Empty), Some(error)) => Err(TraceError::Recording(error)),
        (page, _) => page,
    }
}

fn replay(session: &Session<'_>, replays: &Replays) -> Result<(), String> {
    let mut replay = Replay::new(session);
    let mut is_traced = false;
    while replay.step().map_err(|error| error.to_string())?.is_some() {
        if !is_traced && let Some(side) = replay.connection().map(tcpls_core::Connection::side) {
            replay.set_trace(replays.sink(session.number(), side));
            is_traced = true;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use tcpls_core::ConnectionId;

    use super::*;

    #[test]
    fn sessions_that_are_replayed_one_after_the_other_are_put_in_order() {
        let replays = Replays::default();
        for (session, side, times) in [(3, Side::Server, [10, 40]), (5, Side::Client, [20, 30])] {
            let mut sink = replays.sink(session, side);
            times.iter().for_each(|t| sink.event(Time::from_millis(*t), &Event::Probed { tcp: ConnectionId(0) }));
        }
        replays.note(Some(5), "It stops here.");
        let page = replays.page().unwrap();
        let ends: Vec<_> = page.tables().ends.iter().map(|end| (end.host.as_deref(), end.session)).collect();
        assert_eq!(ends, [(Some("server"), Some(3)), (Some("client"), Some(5))]);
        // Out of order, the last event would be at the time of the latest before it.
        let mut html = Vec::new();
        page.write(&mut html).unwrap();
        let html = String::from_utf8(html).unwrap();
        assert_eq!((page.events(), page.tables().end), (4, 30_000_000));
        assert_eq!(page.tables().ends[1].tcps[&0].from, 10_000_000);
        assert_eq!(html.matches("It stops here.").count(), 1);
        assert!(matches!(replays.page(), Err(TraceError::Empty)));
    }

    #[test]
    fn notes_of_sessions_without_events_are_on_the_page_up_to_a_limit() {
        let replays = Replays::default();
        replays.sink(1, Side::Client).event(Time::ZERO, &Event::Probed { tcp: ConnectionId(0) });
        (0..MAX_NOTES as u32 + 5).for_each(|session| replays.note(Some(session), format!("It stops in {session}.")));
        replays.note(None, "It is damaged.");
        let page = replays.page().unwrap();
        let mut html = Vec::new();
        page.write(&mut html).unwrap();
        let html = String::from_utf8(html).unwrap();
        assert_eq!((html.matches("It stops in ").count(), page.notes().count()), (MAX_NOTES, MAX_NOTES + 2));
        for part in ["It stops in 0.", "It stops in 999.", "5 more notes", "It is damaged."] {
            assert_eq!(html.matches(part).count(), 1, "{part}");
        }
    }

    #[test]
    fn what_is_no_recording_or_lacks_the_session_is_refused() {
        let refused = |file: &[u8], session| page_of(file, session).unwrap_err().to_string();
        assert!(refused(b"", None).contains("not a recording"));
        assert!(refused(b"TCPLSREC", None).contains("the file ends"));
        let empty = tcpls_core::record::file_header(false);
        assert_eq!(refused(&empty, None), TraceError::Empty.to_string());
        assert_eq!(refused(&empty, Some(2)), "the recording has no session 2; it has 0");
    }
}
