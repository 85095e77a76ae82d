//! Reads the lines of a trace, or the records of a qlog file, into tables.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::io::{self, BufRead};

use tcpls_core::Side;

use super::columns::MAX_EXACT;
use super::ends::{End, Way};
use super::events::Events;
use super::line::Line;
use super::pieces::Pieces;
use super::qlog::{self, Record};
use super::story::{Moment, Story};

/// The longest line in bytes. Those of sessions are shorter: a record has at most 16 KiB of frames.
const MAX_LINE: usize = 4 << 20;
/// The most events of a page; a browser opens that many in about 30 s.
const MAX_EVENTS: usize = 10_000_000;
/// The most ranges of streams in them.
const MAX_PIECES: usize = 20_000_000;
/// The most hosts and ends of sessions.
const MAX_ENDS: usize = 20_000;
/// The most faults of a simulated network.
const MAX_FAULTS: usize = 10_000;
/// Names of hosts and paths are cut to this number of characters.
const LONGEST_NAME: usize = 60;

/// Why a trace cannot be read.
#[derive(Debug)]
#[non_exhaustive]
pub enum TraceError {
    /// The file can't be read.
    Read(io::Error),
    /// A line is not one of a trace.
    Line {
        /// Its number, from 1.
        number: usize,
        /// What is wrong with it.
        what: String,
    },
    /// There is more than a page can show.
    TooMuch(&'static str, usize),
    /// There is no event.
    Empty,
    /// A recording cannot be read or replayed: why.
    Recording(String),
    /// The sessions of a recording have more bytes of events, together, than this.
    LongRecording(usize),
    /// The recording has no session of this number.
    NoSession {
        /// The number that was asked for.
        number: u32,
        /// How many sessions there are.
        count: usize,
    },
    /// A session was chosen, but the file is no recording.
    NotARecording,
    /// The file is a capture of packets.
    Capture,
}

impl fmt::Display for TraceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Read(error) => error.fmt(f),
            Self::Line { number, what } => {
                write!(
                    f,
                    "line {number} is not a line of a trace: {what}; docs/trace.md and docs/qlog.md describe the formats"
                )
            }
            Self::TooMuch(what, limit) => {
                write!(
                    f,
                    "the file has more than {limit} {what}; keep a part of a trace, for example with head or grep, or \
                     choose a session of a recording with --session"
                )
            }
            Self::Empty => f.write_str("the trace has no events"),
            Self::Recording(why) => f.write_str(why),
            Self::LongRecording(limit) => {
                let limit = crate::units::size(*limit as u64);
                write!(f, "the sessions of the recording have more than {limit} of events together; choose one of them")
            }
            Self::NoSession { number, count } => write!(f, "the recording has no session {number}; it has {count}"),
            Self::NotARecording => f.write_str(
                "the file is not a recording: its page shows all its sessions, and none can be chosen before",
            ),
            Self::Capture => {
                f.write_str("the file is a capture of packets; \"tcpls decrypt\" shows one, with a key log")
            }
        }
    }
}

impl std::error::Error for TraceError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Read(error) => Some(error),
            _ => None,
        }
    }
}

/// A fault of a simulated network.
#[derive(Debug)]
pub(super) struct Fault {
    pub(super) kind: String,
    pub(super) path: Option<String>,
    pub(super) from: u64,
    pub(super) until: Option<u64>,
}

/// What is in a trace. Times are in nanoseconds since its first event.
#[derive(Debug)]
pub(super) struct Tables {
    pub(super) title: Option<String>,
    pub(super) seed: Option<u64>,
    /// The names of paths, by number.
    pub(super) paths: BTreeMap<u64, String>,
    pub(super) faults: Vec<Fault>,
    pub(super) ends: Vec<End>,
    pub(super) events: Events,
    pub(super) pieces: Pieces,
    pub(super) story: Vec<Moment>,
    /// Moments that the story has no room for.
    pub(super) untold: usize,
    /// The last event.
    pub(super) end: u64,
    /// The last line is cut off.
    pub(super) is_cut: bool,
    /// Events that the writer of the trace dropped.
    pub(super) missing: u64,
    /// Sentences for the summary of a session, or of all.
    pub(super) notes: Vec<(Option<u64>, String)>,
}

/// Reads a trace to its end.
pub(super) fn read(mut input: impl BufRead) -> Result<Tables, TraceError> {
    let mut lines = Lines::new();
    loop {
        let bytes = input.fill_buf().map_err(TraceError::Read)?;
        if bytes.is_empty() {
            return lines.finish();
        }
        let len = bytes.len();
        lines.push(bytes)?;
        input.consume(len);
    }
}

/// A trace that comes in pieces of any size.
#[derive(Debug)]
pub(super) struct Lines {
    reader: Reader,
    /// The begin of a line.
    rest: Vec<u8>,
    /// The number of lines before it.
    number: usize,
}

impl Lines {
    pub(super) fn new() -> Self {
        Self { reader: Reader::new(), rest: Vec::new(), number: 0 }
    }

    /// Takes the next piece. After an error, no more should come.
    pub(super) fn push(&mut self, mut bytes: &[u8]) -> Result<(), TraceError> {
        loop {
            // Faster than an iterator without optimization, in which tests read a million lines.
            let len = { bytes }.skip_until(b'\n').map_err(TraceError::Read)?;
            let (line, rest) = bytes.split_at(len);
            if line.last() != Some(&b'\n') {
                break;
            }
            bytes = rest;
            self.number += 1;
            if self.rest.is_empty() {
                self.take(line)?;
            } else {
                let mut whole = std::mem::take(&mut self.rest);
                whole.extend_from_slice(line);
                self.take(&whole)?;
            }
        }
        self.rest.extend_from_slice(bytes);
        self.check_length(self.rest.len(), self.number + 1)
    }

    fn check_length(&self, len: usize, number: usize) -> Result<(), TraceError> {
        let error = || TraceError::Line { number, what: format!("it is longer than {MAX_LINE} bytes") };
        if len > MAX_LINE { Err(error()) } else { Ok(()) }
    }

    /// Takes the line `self.number`.
    fn take(&mut self, line: &[u8]) -> Result<(), TraceError> {
        self.check_length(line.len(), self.number)?;
        if line.iter().all(u8::is_ascii_whitespace) {
            return Ok(());
        }
        let number = self.number;
        let wrong = |what: String| TraceError::Line { number, what };
        if let Some(record) = line.strip_prefix(&[qlog::SEPARATOR]) {
            return match qlog::record(record).map_err(wrong)? {
                Record::Header { side, title } => self.reader.begin(number, side, title.as_deref()),
                Record::Event(line) => self.reader.take(number, &line),
                Record::Other => Ok(()),
            };
        }
        let line = serde_json::from_slice(line).map_err(|error| wrong(error.to_string()))?;
        self.reader.take(number, &line)
    }

    /// What is in the trace, which ends here.
    pub(super) fn finish(mut self) -> Result<Tables, TraceError> {
        let last = std::mem::take(&mut self.rest);
        self.number += 1;
        match self.take(&last) {
            // What wrote the file was killed.
            Err(TraceError::Line { .. }) if self.number > 1 => self.reader.tables.is_cut = true,
            result => result?,
        }
        self.reader.finish()
    }
}

/// A host and a session, as lines name them.
type Place = (Option<String>, Option<u64>);

#[derive(Debug)]
pub(super) struct Reader {
    pub(super) tables: Tables,
    /// The end that the header of a qlog file names.
    header: Option<Option<Side>>,
    /// The numbers of ends.
    places: HashMap<Place, usize>,
    /// The place of the last line, which often is that of the next.
    last: Option<(Place, usize)>,
    story: Story,
    /// The paths of sockets.
    sockets: HashMap<u64, u64>,
    start: Option<u64>,
    /// The numbers of the faults that go on, by kind and path.
    open_faults: HashMap<(String, Option<String>), Vec<usize>>,
}

impl Reader {
    pub(super) fn new() -> Self {
        let tables = Tables {
            title: None,
            seed: None,
            paths: BTreeMap::new(),
            faults: Vec::new(),
            ends: Vec::new(),
            events: Events::new(),
            pieces: Pieces::new(),
            story: Vec::new(),
            untold: 0,
            end: 0,
            is_cut: false,
            missing: 0,
            notes: Vec::new(),
        };
        let (places, sockets, open_faults) = Default::default();
        Self { tables, header: None, places, last: None, story: Story::default(), sockets, start: None, open_faults }
    }

    /// Takes the header of a qlog file. The times of a second one would have another origin.
    fn begin(&mut self, number: usize, side: Option<Side>, title: Option<&str>) -> Result<(), TraceError> {
        if self.header.replace(side).is_some() {
            let what = "another qlog file begins; make a page of each".to_owned();
            return Err(TraceError::Line { number, what });
        }
        self.tables.title = title.map(cut).or(self.tables.title.take());
        Ok(())
    }

    /// Takes the next line, of this number.
    pub(super) fn take(&mut self, number: usize, line: &Line) -> Result<(), TraceError> {
        if line.t > MAX_EXACT {
            return Err(TraceError::Line { number, what: format!("t is {}, which is beyond 104 days", line.t) });
        }
        match line.what.as_str() {
            "run" => {
                self.tables.title = line.title.as_deref().map(cut);
                self.tables.seed = line.seed;
                return Ok(());
            }
            "path" => {
                let path = line.path.as_ref().and_then(super::line::Path::number);
                let named = path.zip(line.name.as_deref());
                if self.tables.paths.len() < MAX_ENDS {
                    self.tables.paths.extend(named.map(|(path, name)| (path, cut(name))));
                }
                return Ok(());
            }
            // Records say the same, with more.
            "socket-read" | "socket-write" => return Ok(()),
            _ => {}
        }
        let start = *self.start.get_or_insert(line.t);
        // Lines are in order; those of a file that was put together otherwise are shown in its order.
        let t = line.t.saturating_sub(start).max(self.tables.end);
        self.tables.end = t;
        let end = self.end(line)?;
        self.note(t, end, line)?;
        self.carry(t, end, line)?;
        self.tables.events.push(t, end, line);
        if self.tables.events.len() > MAX_EVENTS {
            return Err(TraceError::TooMuch("events", MAX_EVENTS));
        }
        Ok(())
    }

    /// The number of the end where a line is from.
    fn end(&mut self, line: &Line) -> Result<usize, TraceError> {
        if let Some(((host, session), end)) = &self.last
            && (host.as_deref(), *session) == (line.at.as_deref(), line.session)
        {
            return Ok(*end);
        }
        let place = (line.at.clone(), line.session);
        let end = match self.places.get(&place) {
            Some(end) => *end,
            None if self.tables.ends.len() == MAX_ENDS => {
                return Err(TraceError::TooMuch("ends of sessions", MAX_ENDS));
            }
            None => {
                let mut end = End::new(place.0.as_deref().map(cut), place.1);
                end.side = end.side.or(self.header.flatten().filter(|_| !end.is_named()));
                self.tables.ends.push(end);
                self.places.insert(place.clone(), self.tables.ends.len() - 1);
                self.tables.ends.len() - 1
            }
        };
        self.last = Some((place, end));
        Ok(end)
    }

    /// Takes in everything but data.
    fn note(&mut self, t: u64, end: usize, line: &Line) -> Result<(), TraceError> {
        match line.what.as_str() {
            "connect" => {
                let path = line.path.as_ref().and_then(super::line::Path::number);
                self.sockets.extend(line.socket.zip(path));
            }
            "attached" => {
                let of_socket = line.socket.and_then(|socket| self.sockets.get(&socket).copied());
                let path = line.path.as_ref().and_then(super::line::Path::number).or(of_socket);
                if let (Some(tcp), Some(path)) = (line.tcp, path) {
                    self.tables.ends[end].tcp(t, tcp).path = Some(path);
                }
            }
            "fault" => self.disturb(t, line)?,
            "events-lost" => self.tables.missing = self.tables.missing.saturating_add(line.count.unwrap_or_default()),
            _ => {}
        }
        self.tables.ends[end].note(t, line);
        self.story.tell(&mut self.tables, t, end, line);
        Ok(())
    }

    /// A fault begins or ends.
    fn disturb(&mut self, t: u64, line: &Line) -> Result<(), TraceError> {
        let kind = line.fault.as_deref().map(cut).unwrap_or_default();
        let path = line.path.as_ref().and_then(super::line::Path::name).map(cut);
        let faults = &mut self.tables.faults;
        let open = self.open_faults.entry((kind.clone(), path.clone())).or_default();
        if line.over == Some(true) {
            open.pop().into_iter().for_each(|fault| faults[fault].until = Some(t));
        } else if faults.len() == MAX_FAULTS {
            return Err(TraceError::TooMuch("faults", MAX_FAULTS));
        } else {
            open.push(faults.len());
            faults.push(Fault { kind, path, from: t, until: None });
        }
        Ok(())
    }

    /// Takes in the data of a record.
    fn carry(&mut self, t: u64, end: usize, line: &Line) -> Result<(), TraceError> {
        let way = match line.what.as_str() {
            "record-sent" | "early-sent" => Way::Sent,
            "record-received" | "early-received" => Way::Received,
            _ => return Ok(()),
        };
        let (Some(tcp), Some(content)) = (line.tcp, &line.content) else { return Ok(()) };
        let event = self.tables.events.len();
        for frame in content.frames.iter().filter(|frame| frame.ty == "stream") {
            let piece = self.tables.ends[end].carry(t, event, way, tcp, frame);
            piece.iter().for_each(|piece| self.tables.pieces.push(piece));
        }
        if self.tables.pieces.len() > MAX_PIECES {
            return Err(TraceError::TooMuch("ranges of streams", MAX_PIECES));
        }
        Ok(())
    }

    pub(super) fn finish(self) -> Result<Tables, TraceError> {
        if self.start.is_none() {
            return Err(TraceError::Empty);
        }
        Ok(self.tables)
    }
}

/// A name, cut.
fn cut(name: &str) -> String {
    name.chars().take(LONGEST_NAME).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tables(text: &str) -> Tables {
        read(text.as_bytes()).unwrap()
    }

    fn refused(text: &str) -> String {
        read(text.as_bytes()).unwrap_err().to_string()
    }

    #[test]
    fn sockets_lead_tcp_connections_to_their_paths() {
        let tables = tables(concat!(
            r#"{"t":0,"at":"network","what":"path","path":1,"name":"mobile"}"#,
            "\n",
            r#"{"t":5,"at":"client","what":"connect","socket":7,"path":1}"#,
            "\n\n",
            r#"{"t":9,"at":"server","session":7,"what":"attached","socket":7,"tcp":0}"#,
            "\n"
        ));
        assert_eq!((tables.paths[&1].as_str(), tables.events.len(), tables.end), ("mobile", 2, 4));
        let server = tables.ends.iter().find(|end| end.host.as_deref() == Some("server")).unwrap();
        assert_eq!((server.tcps[&0].path, server.is_of_session()), (Some(1), true));
        assert!(!tables.ends[0].is_of_session(), "the client has no session yet");
    }

    #[test]
    fn faults_end_when_their_kind_on_their_path_does() {
        let fault = |t: u64, kind: &str, path: &str, over: bool| {
            format!(r#"{{"t":{t},"at":"network","what":"fault","fault":"{kind}","path":"{path}","over":{over}}}"#)
                + "\n"
        };
        let text = [
            fault(1, "down", "a", false),
            fault(2, "down", "b", false),
            fault(3, "rate", "a", false),
            fault(4, "down", "a", true),
        ];
        let ends: Vec<_> = tables(&text.concat()).faults.iter().map(|fault| (fault.from, fault.until)).collect();
        assert_eq!(ends, [(0, Some(3)), (1, None), (2, None)]);
    }

    /// In a debug build, quadratic work would take minutes.
    #[test]
    fn work_is_linear_in_the_trace() {
        let text = |what: &str, tcp: usize| format!("{{\"t\":0,\"what\":\"{what}\",\"tcp\":{tcp}}}\n");
        let fault = |over: bool| format!("{{\"t\":0,\"what\":\"fault\",\"fault\":\"a\",\"over\":{over}}}\n");
        let mut trace = String::new();
        (0..50_000).for_each(|tcp| trace += &(text("stalled", tcp) + &text("lost", 50_000 + tcp)));
        (0..50_000).for_each(|_| trace += &(text("closed", 0) + &fault(true)));
        trace += &fault(false).repeat(MAX_FAULTS);
        let tables = tables(&trace);
        let ends = tables.ends.iter().collect();
        assert!(
            !super::super::summary::summary(&super::super::summary::Ends { tables: &tables, ends, notes: Vec::new() })
                .is_empty()
        );
        assert_eq!(tables.faults.len(), MAX_FAULTS);
        assert_eq!(refused(&(trace + &fault(false))), TraceError::TooMuch("faults", MAX_FAULTS).to_string());
    }

    #[test]
    fn errors_name_the_line() {
        let line = r#"{"t":1,"what":"probed","tcp":0}"#;
        assert!(
            refused(&format!("{line}\n{{\"t\":2}}\n{line}\n"))
                .starts_with("line 2 is not a line of a trace: missing field")
        );
        assert!(refused("\n\x1e{}\n").starts_with("line 2 "), "qlog");
        assert!(refused(r#"{"t":9007199254740993,"what":"probed"}"#).contains("104 days"));
        assert_eq!(refused("\n"), TraceError::Empty.to_string());
        let long = format!("{line}\n{}", " ".repeat(MAX_LINE + 1));
        assert!(refused(&long).contains("longer than"), "even if it is empty");
    }

    #[test]
    fn last_line_may_be_cut_off() {
        let line = r#"{"t":1,"what":"probed","tcp":0}"#;
        let tables = tables(&format!("{line}\n{}", &line[..20]));
        assert_eq!((tables.events.len(), tables.is_cut), (1, true));
        assert!(refused(&line[..20]).starts_with("line 1 "), "a file of one line may be anything");
    }

    #[test]
    fn time_never_goes_back() {
        let line = |t: u64| format!("{{\"t\":{t},\"what\":\"probed\",\"tcp\":0}}\n");
        let tables = tables(&[line(10), line(30), line(20)].concat());
        assert_eq!(tables.end, 20);
    }
}
