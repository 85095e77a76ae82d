//! The page: markup, style and scripts from the folder `page`, and the data of a trace, in one file.

use std::collections::BTreeMap;
use std::io::{self, BufRead, Read, Write};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use ring::digest::{SHA256, digest};
use serde::Serialize;
use tcpls_core::Side;

use super::columns::{Place, join};
use super::ends::{End, Tcp};
use super::events::{FRAMES, Group, KINDS};
use super::reader::{Tables, TraceError, read};
use super::replays;
use super::story::{Mood, who};
use super::summary::{Ends, summary};

const MARKUP: &str = include_str!("page/page.html");
const STYLE: &str = include_str!("page/style.css");
/// In the order in which they use each other.
const SCRIPTS: [&str; 12] = [
    include_str!("page/words.js"),
    include_str!("page/data.js"),
    include_str!("page/events.js"),
    include_str!("page/session.js"),
    include_str!("page/state.js"),
    include_str!("page/chart.js"),
    include_str!("page/rows.js"),
    include_str!("page/lanes.js"),
    include_str!("page/streams.js"),
    include_str!("page/panels.js"),
    include_str!("page/input.js"),
    include_str!("page/main.js"),
];
/// What browsers need to show the page: one script and one style, named by their hashes, and nothing from elsewhere.
const POLICY: &str = "default-src 'none'; script-src 'sha256-SCRIPT'; style-src 'sha256-STYLE'; img-src data:; base-uri 'none'; form-action 'none'";
/// How a recording begins.
const RECORDING: &[u8] = b"TCPLSREC";
/// How captures of packets in the format pcap begin.
const PCAPS: [&[u8]; 4] = [b"\xd4\xc3\xb2\xa1", b"\xa1\xb2\xc3\xd4", b"\x4d\x3c\xb2\xa1", b"\xa1\xb2\x3c\x4d"];
/// The bytes that are encoded at once; a multiple of three, so that no padding is between them.
const ENCODED_AT_ONCE: usize = 48 << 10;

/// A page that shows a trace.
#[derive(Debug)]
pub struct Page {
    tables: Tables,
    title: Option<String>,
}

impl Page {
    /// Reads a file of any kind that there is a page of; how it begins decides which kind it is: a trace or a qlog
    /// file ([`Page::of_trace`]), or a recording ([`Page::of_recording`]). `session` chooses one session of a recording.
    ///
    /// Blocks until the input ends.
    ///
    /// # Errors
    /// Those of the two, and a session is chosen of what is no recording.
    pub fn of_input(mut input: impl BufRead, session: Option<u32>) -> Result<Self, TraceError> {
        let mut begin = Vec::new();
        input.by_ref().take(12).read_to_end(&mut begin).map_err(TraceError::Read)?;
        if begin.starts_with(RECORDING) {
            input.read_to_end(&mut begin).map_err(TraceError::Read)?;
            return Self::of_recording(&begin, session);
        }
        if is_capture(&begin) {
            return Err(TraceError::Capture);
        }
        if session.is_some() {
            return Err(TraceError::NotARecording);
        }
        Self::of_trace(begin.chain(input))
    }

    /// Replays the sessions of a recording, or the one of this number, and shows what they did. If one cannot be replayed
    /// to its end, the page has what comes before, and says so.
    ///
    /// # Errors
    /// It is no recording, it has no such session or no event, or more than a page can show.
    pub fn of_recording(file: &[u8], session: Option<u32>) -> Result<Self, TraceError> {
        replays::page_of(file, session)
    }

    /// Reads a trace: JSON lines, as `docs/trace.md` describes them, or a qlog file (`docs/qlog.md`). It may come from anyone:
    /// what it can make the page hold is limited.
    ///
    /// Blocks until the input ends.
    ///
    /// # Errors
    /// The input can't be read, a line is not one of a trace, there is no event, or more than a page can show.
    pub fn of_trace(input: impl BufRead) -> Result<Self, TraceError> {
        read(input).map(Self::new)
    }

    pub(super) fn new(tables: Tables) -> Self {
        Self { tables, title: None }
    }

    #[cfg(test)]
    pub(super) fn tables(&self) -> &Tables {
        &self.tables
    }

    /// Sets the title, if the trace has none of its own.
    #[must_use]
    pub fn title(mut self, title: impl Into<String>) -> Self {
        self.title = Some(title.into());
        self
    }

    /// The number of events that the page shows.
    pub fn events(&self) -> usize {
        self.tables.events.len()
    }

    /// Returns sentences about what the page lacks: why a recording was not replayed to its end.
    pub fn notes(&self) -> impl Iterator<Item = &str> {
        self.tables.notes.iter().map(|(_, note)| note.as_str())
    }

    /// Writes the page. Give it a buffered writer.
    ///
    /// # Errors
    /// The first error of a write.
    pub fn write(&self, mut out: impl Write) -> io::Result<()> {
        let columns = self.tables.events.columns();
        let (columns, data) = join(columns.into_iter().chain(self.tables.pieces.columns()));
        let script = SCRIPTS.concat();
        let policy = POLICY.replace("SCRIPT", &hash(&script)).replace("STYLE", &hash(STYLE));
        let description = self.description(columns);
        let title = escape(&description.title);
        // In a script element, only `<` could end the data.
        let description = serde_json::to_string(&description).map_err(io::Error::other)?.replace('<', "\\u003c");
        for (number, part) in MARKUP.split("@@").enumerate() {
            // Between two marks is the name of what belongs there.
            match part {
                _ if number % 2 == 0 => out.write_all(part.as_bytes())?,
                "policy" => out.write_all(policy.as_bytes())?,
                "title" => out.write_all(title.as_bytes())?,
                "style" => out.write_all(STYLE.as_bytes())?,
                "script" => out.write_all(script.as_bytes())?,
                "description" => out.write_all(description.as_bytes())?,
                _ => encode(&data, &mut out)?,
            }
        }
        out.flush()
    }

    fn description(&self, columns: Vec<Place>) -> Description<'_> {
        let tables = &self.tables;
        let title = tables.title.clone().or_else(|| self.title.clone());
        Description {
            title: title.unwrap_or_else(|| "a TCPLS session".to_owned()),
            seed: tables.seed.map(|seed| seed.to_string()),
            version: env!("CARGO_PKG_VERSION"),
            end: tables.end,
            paths: &tables.paths,
            kinds: KINDS.to_vec(),
            frames: FRAMES,
            texts: tables.events.texts.list(),
            faults: tables
                .faults
                .iter()
                .map(|fault| (&*fault.kind, fault.path.as_deref(), fault.from, fault.until))
                .collect(),
            ends: tables.ends.iter().map(|end| EndDescription::new(end, tables.end)).collect(),
            sessions: sessions(tables),
            story: tables
                .story
                .iter()
                .map(|moment| (moment.t, moment.end, moment.event, moment.tcp, moment.mood, &*moment.text))
                .collect(),
            untold: tables.untold,
            columns,
        }
    }
}

/// Time, number of the end and of the event, TCP connection, mood and text of a moment.
type Moment<'a> = (u64, usize, usize, Option<u32>, Mood, &'a str);

/// What the page gets as JSON. Times are in nanoseconds since the first event.
#[derive(Serialize)]
struct Description<'a> {
    title: String,
    /// As text: a browser would round it.
    seed: Option<String>,
    version: &'static str,
    end: u64,
    paths: &'a BTreeMap<u64, String>,
    kinds: Vec<(&'static str, Group)>,
    frames: &'static [&'static str],
    texts: &'a [String],
    faults: Vec<(&'a str, Option<&'a str>, u64, Option<u64>)>,
    ends: Vec<EndDescription<'a>>,
    sessions: Vec<Session>,
    story: Vec<Moment<'a>>,
    untold: usize,
    columns: Vec<Place>,
}

#[derive(Serialize)]
struct EndDescription<'a> {
    who: String,
    host: Option<&'a str>,
    session: Option<u64>,
    side: Option<&'static str>,
    tcps: Vec<TcpDescription<'a>>,
    /// New bytes of streams, sent and received.
    fresh: [u64; 2],
}

#[derive(Serialize)]
struct TcpDescription<'a> {
    id: u32,
    path: Option<u64>,
    from: u64,
    until: u64,
    joined: Option<u64>,
    lost: Option<(u64, &'a str)>,
    stalls: Vec<(u64, u64)>,
    backup: bool,
    lane: bool,
}

#[derive(Serialize)]
struct Session {
    number: Option<u64>,
    /// Its ends that are in the trace.
    ends: Vec<usize>,
    summary: Vec<String>,
}

impl<'a> EndDescription<'a> {
    fn new(end: &'a End, last: u64) -> Self {
        let side = end.side.map(|side| if side == Side::Client { "client" } else { "server" });
        let until = end.closed.as_ref().map_or(last, |(t, _)| *t);
        let tcps = end.tcps.iter().map(|(id, tcp)| TcpDescription::new(*id, tcp, until)).collect();
        let fresh = [end.sent.fresh, end.received.fresh];
        Self { who: who(end), host: end.host.as_deref(), session: end.session, side, tcps, fresh }
    }
}

impl<'a> TcpDescription<'a> {
    /// `last`: the end of the session, or of the trace.
    fn new(id: u32, tcp: &'a Tcp, last: u64) -> Self {
        let lost = tcp.lost.as_ref().map(|(t, fault)| (*t, fault.as_str()));
        let until = lost.map(|(t, _)| t).or(tcp.discarded).unwrap_or(last);
        Self {
            id,
            path: tcp.path,
            from: tcp.from,
            until: until.max(tcp.from),
            joined: tcp.joined,
            lost,
            stalls: tcp.stalls.iter().map(|(from, stall)| (*from, stall.unwrap_or(until.max(*from)))).collect(),
            backup: tcp.backup,
            lane: tcp.lane,
        }
    }
}

/// The sessions of a trace, the one with most data first.
fn sessions(tables: &Tables) -> Vec<Session> {
    let mut numbers: BTreeMap<Option<u64>, Vec<usize>> = BTreeMap::new();
    for (number, end) in tables.ends.iter().enumerate().filter(|(_, end)| end.is_of_session()) {
        numbers.entry(end.session).or_default().push(number);
    }
    let mut notes: BTreeMap<Option<u64>, Vec<&str>> = BTreeMap::new();
    for (of, note) in &tables.notes {
        notes.entry(*of).or_default().push(note);
    }
    let of_all = notes.remove(&None).unwrap_or_default();
    let describe = |(number, ends): (Option<u64>, Vec<usize>)| {
        let mut notes = notes.remove(&number).unwrap_or_default();
        notes.extend(&of_all);
        let of = Ends { tables, ends: ends.iter().map(|end| &tables.ends[*end]).collect(), notes };
        Session { number, summary: summary(&of), ends }
    };
    let mut sessions: Vec<Session> = numbers.into_iter().map(describe).collect();
    let data = |session: &Session| {
        let sum = |sum: u64, end: &usize| {
            let end = &tables.ends[*end];
            sum.saturating_add(end.sent.fresh).saturating_add(end.received.fresh)
        };
        session.ends.iter().fold(0, sum)
    };
    sessions.sort_by_key(|session| std::cmp::Reverse(data(session)));
    // Sessions without an event have no summary of their own.
    if let Some(first) = sessions.first_mut() {
        first.summary.extend(notes.into_values().flatten().map(str::to_owned));
    }
    sessions
}

/// Whether a file that begins so is a capture of packets. A trace may begin with the type of pcapng's first block, which
/// consists of ends of lines; it has no byte-order magic.
fn is_capture(begin: &[u8]) -> bool {
    let is_pcapng = begin.starts_with(b"\x0a\x0d\x0d\x0a")
        && matches!(begin.get(8..12), Some(b"\x1a\x2b\x3c\x4d" | b"\x4d\x3c\x2b\x1a"));
    is_pcapng || PCAPS.iter().any(|magic| begin.starts_with(magic))
}

/// The hash of a script or style, as the policy names it.
fn hash(text: &str) -> String {
    BASE64_STANDARD.encode(digest(&SHA256, text.as_bytes()))
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}

fn encode(data: &[u8], out: &mut impl Write) -> io::Result<()> {
    let mut text = String::new();
    for part in data.chunks(ENCODED_AT_ONCE) {
        text.clear();
        BASE64_STANDARD.encode_string(part, &mut text);
        out.write_all(text.as_bytes())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(page: &Page) -> String {
        let mut html = Vec::new();
        page.write(&mut html).unwrap();
        String::from_utf8(html).unwrap()
    }

    fn between<'a>(html: &'a str, start: &str, end: &str) -> &'a str {
        html.split_once(start).unwrap().1.split_once(end).unwrap().0
    }

    #[test]
    fn policy_names_the_script_and_the_style_and_allows_nothing_else() {
        let html = written(&Page::of_trace(&br#"{"t":0,"what":"probed","tcp":0}"#[..]).unwrap());
        let policy = between(&html, "http-equiv=\"Content-Security-Policy\" content=\"", "\"");
        let script = between(&html, "<script type=\"module\">", "</script>");
        let style = between(&html, "<style>", "</style>");
        assert!(policy.contains(&format!("script-src 'sha256-{}'", hash(script))), "{policy}");
        assert!(policy.contains(&format!("style-src 'sha256-{}'", hash(style))), "{policy}");
        assert!(policy.starts_with("default-src 'none';") && !policy.contains("unsafe"));
        // Not even a link leads elsewhere.
        assert!(
            !html.contains("http://")
                && !html.contains("https://")
                && !html.contains(" style=")
                && !html.contains(" onclick")
        );
    }

    #[test]
    fn text_of_a_trace_is_no_markup() {
        let trace = concat!(
            r#"{"t":0,"at":"network","what":"run","title":"</title><script>alert(1)</script>","seed":1}"#,
            "\n",
            r#"{"t":0,"what":"note","text":"</script><img src=x>"}"#
        );
        let html = written(&Page::of_trace(trace.as_bytes()).unwrap());
        assert!(!html.contains("<script>alert") && !html.contains("<img src=x"));
        let description = between(&html, "<script id=\"description\" type=\"application/json\">", "</script>");
        let description: serde_json::Value = serde_json::from_str(description).unwrap();
        assert_eq!(description["title"], "</title><script>alert(1)</script>");
        assert_eq!(description["texts"][0], "</script><img src=x>");
    }

    #[test]
    fn seed_is_exact_however_large() {
        let trace = r#"{"t":0,"what":"run","title":"a","seed":18446744073709551615}
{"t":0,"what":"probed","tcp":0}"#;
        let html = written(&Page::of_trace(trace.as_bytes()).unwrap());
        assert!(html.contains(r#""seed":"18446744073709551615""#));
    }

    #[test]
    fn content_of_an_input_decides_its_kind() {
        let of = |input: &[u8], session| {
            Page::of_input(input, session).map(|page| page.events()).map_err(|error| error.to_string())
        };
        let trace = &br#"{"t":0,"what":"probed","tcp":0}"#[..];
        assert_eq!(of(trace, None), Ok(1));
        assert_eq!(of(trace, Some(0)), Err(TraceError::NotARecording.to_string()));
        assert_eq!(of(b"{}", None).unwrap_err(), of(b"{}\n", None).unwrap_err());
        assert!(of(b"TCPLSREC\x00\x09", None).unwrap_err().contains("the file ends"));
        assert_eq!(of(b"\xd4\xc3\xb2\xa1....", None), Err(TraceError::Capture.to_string()));
        for magic in [b"\x1a\x2b\x3c\x4d", b"\x4d\x3c\x2b\x1a"] {
            let pcapng = [&b"\x0a\x0d\x0d\x0a\0\0\0\x1c"[..], magic].concat();
            assert_eq!(of(&pcapng, None), Err(TraceError::Capture.to_string()));
        }
        assert_eq!(of(&[b"\n\r\r\n", trace].concat(), None), Ok(1), "lines may be empty");
        assert_eq!(of(b"", None), Err(TraceError::Empty.to_string()));
        assert_eq!(of(b"\x1e", None).unwrap_err().split(':').next(), Some("line 1 is not a line of a trace"));
    }

    #[test]
    fn data_is_encoded_as_if_at_once() {
        let data: Vec<u8> = (0..2 * ENCODED_AT_ONCE + 5).map(|byte| byte as u8).collect();
        let mut text = Vec::new();
        encode(&data, &mut text).unwrap();
        assert_eq!(text, BASE64_STANDARD.encode(&data).into_bytes());
    }

    #[test]
    fn session_with_most_data_comes_first() {
        let record = |session: u64, end: u64| {
            format!(
                r#"{{"t":1,"at":"client","session":{session},"what":"record-sent","tcp":0,"seq":0,"bytes":9,"content":{{"frames":[{{"type":"stream","id":0,"start":0,"end":{end},"fin":true}}]}}}}"#
            )
        };
        let trace = [record(1, 5), record(2, 50), record(3, 7)].join("\n");
        let page = Page::of_trace(trace.as_bytes()).unwrap();
        let numbers: Vec<_> = sessions(&page.tables).iter().map(|session| session.number).collect();
        assert_eq!(numbers, [Some(2), Some(3), Some(1)]);
    }
}
