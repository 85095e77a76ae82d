//! The table of events: what each line of a trace becomes, in columns.

use std::collections::HashMap;

use serde::Serialize;

use super::columns::Column;
use super::line::{Content, Line};

/// Texts are cut to this number of characters.
const LONGEST_TEXT: usize = 300;
/// The page has at most this number of different texts; events have none beyond.
const MAX_TEXTS: usize = 100_000;

/// What an event is about: the page filters by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Group {
    Record,
    Acknowledgment,
    Decision,
    TcpConnection,
    Session,
    Application,
    Network,
}

/// The names of events in traces, and the group of each. The page knows them by their place in this list.
pub(super) const KINDS: &[(&str, Group)] = &[
    ("record-sent", Group::Record),
    ("record-received", Group::Record),
    ("early-sent", Group::Record),
    ("early-received", Group::Record),
    ("early-rejected", Group::Record),
    ("acknowledged", Group::Acknowledgment),
    ("rtt-sample", Group::Acknowledgment),
    ("rate-sample", Group::Acknowledgment),
    ("scheduled", Group::Decision),
    ("timed-out", Group::Decision),
    ("probed", Group::TcpConnection),
    ("tcp-addresses", Group::TcpConnection),
    ("join-started", Group::TcpConnection),
    ("lane-declared", Group::TcpConnection),
    ("claim-made", Group::TcpConnection),
    ("claim-accepted", Group::TcpConnection),
    ("claim-refused", Group::TcpConnection),
    ("joined", Group::TcpConnection),
    ("status-changed", Group::TcpConnection),
    ("stalled", Group::TcpConnection),
    ("hedged", Group::TcpConnection),
    ("resumed", Group::TcpConnection),
    ("retiring", Group::TcpConnection),
    ("requeued", Group::TcpConnection),
    ("lost", Group::TcpConnection),
    ("discarded", Group::TcpConnection),
    ("connect", Group::TcpConnection),
    ("accepted", Group::TcpConnection),
    ("attached", Group::TcpConnection),
    ("socket-end", Group::TcpConnection),
    ("key-update-started", Group::Session),
    ("key-update-sent", Group::Session),
    ("key-update-received", Group::Session),
    ("limit-reached", Group::Session),
    ("state-changed", Group::Session),
    ("draining", Group::Session),
    ("peer-draining", Group::Session),
    ("closing", Group::Session),
    ("peer-closing", Group::Session),
    ("closed", Group::Session),
    ("evicted", Group::Session),
    ("events-lost", Group::Session),
    ("stream-opened", Group::Application),
    ("stream-read", Group::Application),
    ("stream-end", Group::Application),
    ("action", Group::Application),
    ("note", Group::Application),
    ("metric", Group::Application),
    ("fault", Group::Network),
    ("killed", Group::Network),
];

/// The names of frames in traces. A record's event has a bit for each, and the last for all others.
pub(super) const FRAMES: &[&str] = &[
    "padding",
    "ping",
    "stream",
    "ack",
    "new-token",
    "connection-reset",
    "new-address",
    "remove-address",
    "stream-change",
    "session-parameters",
    "max-data",
    "max-stream-data",
    "max-streams",
    "reset-stream",
    "stop-sending",
    "close-session",
    "connection-status",
    "tcp-option",
    "tcp-option-request",
    "tcp-option-answer",
    "lane",
    "drain",
    "invalid",
    "other",
];

/// Texts, each once.
#[derive(Debug, Default)]
pub(super) struct Texts {
    numbers: HashMap<String, usize>,
    list: Vec<String>,
}

impl Texts {
    /// The number of a text, if there is room for it.
    fn number(&mut self, text: &str) -> Option<u64> {
        let text: String = text.chars().take(LONGEST_TEXT).collect();
        if let Some(number) = self.numbers.get(&text) {
            return Some(*number as u64);
        }
        if self.list.len() == MAX_TEXTS {
            return None;
        }
        self.numbers.insert(text.clone(), self.list.len());
        self.list.push(text);
        Some(self.list.len() as u64 - 1)
    }

    pub(super) fn list(&self) -> &[String] {
        &self.list
    }
}

/// The events, in order of time.
#[derive(Debug)]
pub(super) struct Events {
    t: Column,
    end: Column,
    kind: Column,
    tcp: Column,
    values: [Column; 3],
    text: Column,
    pub(super) texts: Texts,
    kinds: HashMap<&'static str, usize>,
    frames: HashMap<&'static str, usize>,
}

impl Events {
    pub(super) fn new() -> Self {
        Self {
            t: Column::ascending(),
            end: Column::default(),
            kind: Column::default(),
            tcp: Column::default(),
            values: Default::default(),
            text: Column::default(),
            texts: Texts::default(),
            kinds: KINDS.iter().enumerate().map(|(number, (name, _))| (*name, number)).collect(),
            frames: FRAMES.iter().enumerate().map(|(number, name)| (*name, number)).collect(),
        }
    }

    /// Appends what `line` says, at time `t`.
    pub(super) fn push(&mut self, t: u64, end: usize, line: &Line) {
        let kind = self.kinds.get(line.what.as_str()).copied();
        // Moments in fields count from the same start as `t`.
        let start = line.t.saturating_sub(t);
        let (values, text) = self.details(line, start, kind.is_some());
        self.t.push(t);
        self.end.push(end as u64);
        self.kind.push(kind.unwrap_or(KINDS.len()) as u64);
        self.tcp.push_option(line.tcp.map(u64::from));
        self.values.iter_mut().zip(values).for_each(|(column, value)| column.push_option(value));
        let text = text.and_then(|text| self.texts.number(&text));
        self.text.push_option(text);
    }

    pub(super) fn len(&self) -> usize {
        self.t.len()
    }

    pub(super) fn columns(&self) -> [(&'static str, &Column); 8] {
        let [a, b, c] = &self.values;
        [
            ("t", &self.t),
            ("end", &self.end),
            ("kind", &self.kind),
            ("tcp", &self.tcp),
            ("a", a),
            ("b", b),
            ("c", c),
            ("text", &self.text),
        ]
    }

    /// Up to three numbers and a text. `describe` in `page/events.js` gives them back their meaning.
    fn details(&self, line: &Line, start: u64, is_known: bool) -> ([Option<u64>; 3], Option<String>) {
        let flag = |flag: Option<bool>| flag.map(u64::from);
        let alert = || line.alert.as_ref().map(super::line::Alert::text);
        let cause = || line.error.as_ref().map(super::line::Cause::text);
        match line.what.as_str() {
            "record-sent" | "record-received" | "early-sent" | "early-received" => {
                let content = line.content.as_ref();
                let text = content.and_then(|content| content.alert.as_ref()).map(super::line::Alert::text);
                ([line.seq, line.bytes, content.map(|content| self.mask(content))], text)
            }
            "acknowledged" => ([line.highest, line.bytes, line.in_flight], None),
            "rtt-sample" => ([line.sample, line.smoothed, line.min], None),
            "rate-sample" => ([line.sample, line.estimate, flag(line.is_lower_bound)], None),
            "scheduled" => ([line.unsent, None, None], line.choice.clone()),
            "timed-out" => ([None; 3], line.reason.clone()),
            "join-started" => ([flag(line.zero_rtt), flag(line.backup), flag(line.lane)], None),
            "claim-made" | "claim-accepted" | "claim-refused" => ([line.claim, None, None], alert()),
            "status-changed" => ([flag(line.backup), None, None], None),
            "stalled" => ([line.owed_since.map(|since| since.saturating_sub(start)), line.in_flight, None], None),
            "hedged" | "requeued" | "early-rejected" => ([line.bytes, None, None], None),
            "lost" => ([None; 3], line.fault.clone()),
            "tcp-addresses" => (
                [None; 3],
                line.local.as_ref().zip(line.remote.as_ref()).map(|(local, remote)| format!("{local} to {remote}")),
            ),
            "key-update-started" | "key-update-sent" | "key-update-received" => {
                ([line.generation, flag(line.requested), None], None)
            }
            "limit-reached" => ([None; 3], line.limit.clone()),
            "state-changed" => {
                ([None; 3], line.from.as_ref().zip(line.to.as_ref()).map(|(from, to)| format!("{from} → {to}")))
            }
            "draining" | "peer-draining" => ([line.streams, None, None], None),
            "closing" | "peer-closing" => ([None; 3], cause()),
            "closed" => ([None; 3], line.reason.clone()),
            "evicted" => ([None; 3], line.resource.clone()),
            "events-lost" => ([line.count, None, None], None),
            "connect" => ([line.socket, line.path.as_ref().and_then(super::line::Path::number), None], None),
            "accepted" | "attached" => ([line.socket, None, None], None),
            "socket-end" => ([line.socket, None, None], line.end.clone()),
            "stream-opened" => ([line.transfer, line.stream, None], None),
            "stream-read" => ([line.transfer, line.bytes, None], None),
            "stream-end" => ([line.transfer, None, None], line.end.clone()),
            "action" => {
                let words = [line.action.clone(), line.path.as_ref().and_then(|path| path.name().map(str::to_owned))];
                let refused = cause().map(|cause| format!("(refused: {cause})"));
                let words: Vec<String> = words.into_iter().flatten().chain(refused).collect();
                ([None; 3], Some(words.join(" ")))
            }
            "fault" => {
                let path = line.path.as_ref().and_then(super::line::Path::name);
                let words: Vec<&str> = line.fault.as_deref().into_iter().chain(path).collect();
                ([flag(line.over), None, None], Some(words.join(" on ")))
            }
            "killed" => ([None; 3], line.why.clone()),
            "note" => ([None; 3], line.text.clone()),
            "metric" => {
                let value = line.value.map_or("no number".to_owned(), |value| value.to_string());
                ([None; 3], line.name.as_ref().map(|name| format!("{name}: {value}")))
            }
            what => ([None; 3], (!is_known).then(|| what.to_owned())),
        }
    }

    /// A bit for each kind of frame in a record.
    fn mask(&self, content: &Content) -> u64 {
        let other = FRAMES.len() - 1;
        let bit = |name: &str| 1 << self.frames.get(name).copied().unwrap_or(other);
        let frames = content.frames.iter().fold(0, |mask, frame| mask | bit(&frame.ty));
        let others = [content.plain.is_some(), content.handshake.is_some()].contains(&true);
        frames | u64::from(others) << other | if content.invalid.is_some() { bit("invalid") } else { 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_event_of_the_trace_page_has_a_kind() {
        let page = include_str!("../../../docs/trace.md");
        let kebab = |name: &str| -> String {
            let parts = name.chars().enumerate().map(|(number, c)| match c.is_uppercase() && number > 0 {
                true => format!("-{}", c.to_lowercase()),
                false => c.to_lowercase().to_string(),
            });
            parts.collect()
        };
        let names: Vec<String> =
            page.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next()).map(kebab).collect();
        assert!(names.len() > 30, "{names:?}");
        for name in &names {
            assert!(KINDS.iter().any(|(kind, _)| kind == name), "{name}");
        }
    }

    #[test]
    fn texts_are_kept_once_and_cut() {
        let mut texts = Texts::default();
        assert_eq!((texts.number("a"), texts.number("b"), texts.number("a")), (Some(0), Some(1), Some(0)));
        texts.number(&"é".repeat(1000));
        assert_eq!(texts.list()[2].chars().count(), LONGEST_TEXT);
    }

    #[test]
    fn records_have_a_bit_for_each_kind_of_frame() {
        let line = r#"{"t":1,"what":"record-sent","tcp":0,"seq":1,"bytes":9,
            "content":{"frames":[{"type":"padding","len":3},{"type":"stream","id":0,"start":0,"end":2,"fin":true},{"type":"later"}]}}"#;
        let line: Line = serde_json::from_str(line).unwrap();
        let (values, _) = Events::new().details(&line, 0, true);
        assert_eq!(values, [Some(1), Some(9), Some(1 | 1 << 2 | 1 << (FRAMES.len() - 1))]);
    }
}
