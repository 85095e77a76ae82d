//! What happened, as sentences for people who have never seen TCPLS: one for each moment that changes what a session can
//! do.

use std::collections::HashSet;

use serde::Serialize;
use tcpls_core::Side;

use super::ends::End;
use super::line::{Alert, Cause, Line, Path};
use super::reader::Tables;
use crate::units::size;

/// The most moments of a page.
const MAX_MOMENTS: usize = 20_000;

/// The kind of a moment; the page has a color and a mark for each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Mood {
    /// Something fails.
    Trouble,
    /// The session copes with it, or the failure is over.
    Recovery,
    /// Anything else.
    Progress,
}

/// A moment of the story.
#[derive(Debug)]
pub(super) struct Moment {
    pub(super) t: u64,
    /// The number of the end where it happened.
    pub(super) end: usize,
    /// The number of its event.
    pub(super) event: usize,
    pub(super) tcp: Option<u32>,
    pub(super) mood: Mood,
    pub(super) text: String,
}

/// Tells the story of a trace.
#[derive(Debug, Default)]
pub(super) struct Story {
    /// Hosts whose sessions have used a path, and its number. At its start, a client may try paths that it then leaves to another
    /// attempt.
    used: HashSet<(Option<String>, u64)>,
}

impl Story {
    /// Adds a moment to the story, if the line is worth one.
    pub(super) fn tell(&mut self, tables: &mut Tables, t: u64, end: usize, line: &Line) {
        let Some((mood, text)) = self.moment(tables, end, line) else { return };
        if tables.story.len() == MAX_MOMENTS {
            tables.untold += 1;
            return;
        }
        let event = tables.events.len();
        tables.story.push(Moment { t, end, event, tcp: line.tcp, mood, text });
    }

    fn moment(&mut self, tables: &Tables, number: usize, line: &Line) -> Option<(Mood, String)> {
        let end = &tables.ends[number];
        let who = who(end);
        let tcp = line.tcp.map(|tcp| tcp_name(tables, end, tcp)).unwrap_or_default();
        let bytes = line.bytes.filter(|bytes| *bytes > 0).map(size);
        let flag = |flag: Option<bool>| flag.unwrap_or_default();
        // Both ends report what the client does; a trace of both tells it once.
        let is_told = end.host.is_none() || end.side == Some(Side::Client);
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        Some(match line.what.as_str() {
            "fault" => return fault(line),
            "killed" => (Mood::Trouble, format!("A middlebox ends a TCP connection: {}.", text(&line.why))),
            "connect" => {
                let path = line.path.as_ref().and_then(Path::number)?;
                let is_again = self.used.contains(&(end.host.clone(), path)) && end.host.as_deref() != Some("attacker");
                return is_again.then(|| (Mood::Recovery, format!("{who} dials {} again.", path_name(tables, path))));
            }
            "attached" => {
                let path = end.tcps.get(&line.tcp?)?.path?;
                self.used.insert((end.host.clone(), path));
                return None;
            }
            "joined" if line.tcp != Some(0) && is_told => {
                (Mood::Recovery, format!("{tcp} joins the session, without a TLS handshake of its own."))
            }
            "state-changed" => return state(&who, line).filter(|_| is_told),
            "stalled" => {
                let owed = line.in_flight.filter(|bytes| *bytes > 0).map(size);
                let owed = owed.map_or(String::new(), |owed| format!(", with {owed} not acknowledged"));
                (Mood::Trouble, format!("{tcp} is stalled, {} notices: no answer in time{owed}.", lower(&who)))
            }
            "hedged" => {
                let again = format!("{who} sends {} again on other TCP connections", bytes?);
                (Mood::Recovery, format!("{again}, in case {} has lost it (hedging).", lower(&tcp)))
            }
            "resumed" => (Mood::Recovery, format!("{tcp} answers {} again.", lower(&who))),
            "requeued" => {
                let again = format!("{who} sends {} again on other TCP connections", bytes?);
                (
                    Mood::Recovery,
                    format!("{again}, because it is unknown whether {} delivered it (reinjection).", lower(&tcp)),
                )
            }
            "lost" => (Mood::Trouble, format!("{who} loses {}: {}.", lower(&tcp), text(&line.fault))),
            "early-rejected" => {
                let again = format!("{} of early data", bytes?);
                (Mood::Trouble, format!("The server rejects {again}; {} sends them again.", lower(&who)))
            }
            "retiring" => {
                (Mood::Progress, format!("{who} retires {}: it finishes what it carries, then ends.", lower(&tcp)))
            }
            "status-changed" if flag(line.backup) => {
                (Mood::Progress, format!("{who} is asked to use {} only as a backup.", lower(&tcp)))
            }
            "status-changed" => (Mood::Progress, format!("{who} is asked to use {} like any other.", lower(&tcp))),
            "claim-refused" => {
                let alert = line.alert.as_ref().map(Alert::text).unwrap_or_default();
                (Mood::Trouble, format!("{who} refuses a TCP connection that wants to join: {alert}."))
            }
            "key-update-started" => (Mood::Progress, format!("{who} changes its keys.")),
            "limit-reached" => (Mood::Trouble, format!("{who} reaches a limit: {}.", text(&line.limit))),
            "draining" => (Mood::Progress, format!("{who} drains the session: it takes no new streams.")),
            "closing" => {
                let error = line.error.as_ref().map(Cause::text).unwrap_or_default();
                (Mood::Progress, format!("{who} closes the session ({error})."))
            }
            "evicted" => (Mood::Trouble, format!("The server evicts a session, to free {}.", text(&line.resource))),
            "events-lost" => {
                let count = line.count.unwrap_or_default();
                (Mood::Trouble, format!("{count} events are missing here: what wrote the trace could not keep up."))
            }
            "stream-end" if line.end.as_deref() != Some("whole") => {
                (Mood::Trouble, format!("A stream ends early for its reader: {}.", text(&line.end)))
            }
            "action" => {
                let path =
                    line.path.as_ref().and_then(Path::name).map_or(String::new(), |path| format!(" on path {path}"));
                let refused =
                    line.error.as_ref().map_or(String::new(), |error| format!(", which is refused: {}", error.text()));
                (
                    Mood::Progress,
                    format!("The application of {} acts: {}{path}{refused}.", lower(&who), text(&line.action)),
                )
            }
            "note" => (Mood::Progress, format!("{who} notes: {}", text(&line.text))),
            _ => return None,
        })
    }
}

/// The name of an end at the start of a sentence.
pub(super) fn who(end: &End) -> String {
    match (&end.host, end.side) {
        (None, Some(Side::Client)) => "The client".to_owned(),
        (None, Some(Side::Server)) => "The server".to_owned(),
        (None, None) => "This end".to_owned(),
        (Some(host), _) => match host.strip_prefix("client ") {
            Some(number) => format!("Client {number}"),
            None => format!("The {host}"),
        },
    }
}

/// Words for the middle of a sentence.
pub(super) fn lower(words: &str) -> String {
    match words.strip_prefix('T') {
        Some(rest) if !words.starts_with("TC") => format!("t{rest}"),
        _ => words.strip_prefix('C').map_or(words.to_owned(), |rest| format!("c{rest}")),
    }
}

/// The name of a path by its number.
pub(super) fn path_name(tables: &Tables, path: u64) -> String {
    tables.paths.get(&path).map_or_else(|| format!("path number {path}"), |name| format!("path {name}"))
}

/// The name of a TCP connection, with its path.
pub(super) fn tcp_name(tables: &Tables, end: &End, tcp: u32) -> String {
    let path = end.tcps.get(&tcp).and_then(|tcp| tcp.path).map(|path| format!(" ({})", path_name(tables, path)));
    format!("TCP connection {tcp}{}", path.unwrap_or_default())
}

/// A change of a session's state that people care about.
fn state(who: &str, line: &Line) -> Option<(Mood, String)> {
    Some(match line.to.as_deref()? {
        "established" if line.from.as_deref() == Some("stranded") => {
            (Mood::Recovery, format!("{who} has a TCP connection again: the session goes on."))
        }
        "established" => (Mood::Progress, "The session is established: its TLS handshake is complete.".to_owned()),
        "stranded" => (Mood::Trouble, format!("{who} has no TCP connection left: the session waits for one.")),
        _ => return None,
    })
}

/// A fault of a simulated network, in plain words.
fn fault(line: &Line) -> Option<(Mood, String)> {
    let kind = line.fault.as_deref()?;
    let path = line.path.as_ref().and_then(Path::name).map_or("a path".to_owned(), |path| format!("path {path}"));
    if line.over == Some(true) {
        return Some((
            Mood::Recovery,
            match kind {
                "black-hole" | "down" | "interface-down" | "backend-away" => format!("{} works again.", upper(&path)),
                "suspend" => "The clients' hosts wake up.".to_owned(),
                "rate" | "delay" => format!("{} has its usual {kind} again.", upper(&path)),
                kind => format!("The fault {kind} is over."),
            },
        ));
    }
    Some((
        Mood::Trouble,
        match kind {
            "reset" => format!("The TCP connections of {path} are reset."),
            "reset-client" => {
                format!("The TCP connections of {path} are reset at the client; the server is not notified.")
            }
            "reset-server" => {
                format!("The TCP connections of {path} are reset at the server; the client is not notified.")
            }
            "fin" => format!("A device closes the TCP connections of {path}."),
            "forget" => format!("A device on {path} forgets its TCP connections: their bytes no longer get through."),
            "black-hole" => format!("{} goes dark: nothing gets through, and neither end is notified.", upper(&path)),
            "down" => format!("{} goes down: its TCP connections are reset, new ones are refused.", upper(&path)),
            "interface-down" => format!("The client's interface on {path} goes down."),
            "suspend" => "The clients' hosts are suspended.".to_owned(),
            "backend-away" => format!("The load balancer on {path} loses its server."),
            "restart" => "The server's process is replaced: it knows none of its sessions.".to_owned(),
            "clog" => "One TCP connection goes dark: nothing gets through on it.".to_owned(),
            "rate" | "delay" => format!("The {kind} of {path} changes."),
            "corrupt" => format!("A bit is flipped on {path}."),
            "shred" => format!("Bytes on {path} arrive in small pieces from now on."),
            kind => format!("A fault on {path}: {kind}."),
        },
    ))
}

fn upper(path: &str) -> String {
    let mut chars = path.chars();
    chars.next().map(|first| first.to_uppercase().chain(chars).collect()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use crate::view::reader::read;

    fn told(lines: &[&str]) -> Vec<String> {
        let tables = read(lines.join("\n").as_bytes()).unwrap();
        tables.story.iter().map(|moment| moment.text.clone()).collect()
    }

    #[test]
    fn a_failure_is_told_from_its_cause_to_the_recovery() {
        let story = told(&[
            r#"{"t":0,"at":"network","what":"path","path":0,"name":"wifi"}"#,
            r#"{"t":0,"at":"client","what":"connect","socket":0,"path":0}"#,
            r#"{"t":0,"at":"client","what":"connect","socket":2,"path":1}"#,
            r#"{"t":1,"at":"client","session":0,"what":"attached","socket":0,"tcp":0}"#,
            r#"{"t":1,"at":"client","what":"connect","socket":3,"path":1}"#,
            r#"{"t":2,"at":"network","what":"fault","fault":"black-hole","path":"wifi","over":false}"#,
            r#"{"t":3,"at":"client","session":0,"what":"stalled","tcp":0,"owed_since":1,"in_flight":2048}"#,
            r#"{"t":3,"at":"client","session":0,"what":"hedged","tcp":0,"bytes":1024}"#,
            r#"{"t":3,"at":"client","session":0,"what":"hedged","tcp":0,"bytes":0}"#,
            r#"{"t":3,"at":"client","session":0,"what":"requeued","tcp":0,"bytes":2048}"#,
            r#"{"t":4,"at":"client","session":0,"what":"lost","tcp":0,"fault":"reset"}"#,
            r#"{"t":5,"at":"client","what":"connect","socket":1,"path":0}"#,
            r#"{"t":6,"at":"client","session":0,"what":"joined","tcp":1}"#,
            r#"{"t":6,"at":"server","session":0,"what":"joined","tcp":1}"#,
        ]);
        assert_eq!(
            story,
            [
                "Path wifi goes dark: nothing gets through, and neither end is notified.",
                "TCP connection 0 (path wifi) is stalled, the client notices: no answer in time, with 2.0 KiB not acknowledged.",
                "The client sends 1.0 KiB again on other TCP connections, in case TCP connection 0 (path wifi) has lost it (hedging).",
                "The client sends 2.0 KiB again on other TCP connections, because it is unknown whether TCP connection 0 (path wifi) delivered it (reinjection).",
                "The client loses TCP connection 0 (path wifi): reset.",
                "The client dials path wifi again.",
                "TCP connection 1 joins the session, without a TLS handshake of its own.",
            ]
        );
    }

    #[test]
    fn trace_of_one_end_is_told_as_its_own() {
        let story = told(&[
            r#"{"t":0,"what":"state-changed","from":"handshaking","to":"established"}"#,
            r#"{"t":1,"what":"key-update-started","generation":1}"#,
            r#"{"t":2,"what":"claim-made","claim":0,"tcp":4294967295}"#,
            r#"{"t":2,"what":"claim-refused","claim":0,"alert":{"number":40,"name":"handshake_failure"}}"#,
        ]);
        assert_eq!(
            story,
            [
                "The session is established: its TLS handshake is complete.",
                "This end changes its keys.",
                "The server refuses a TCP connection that wants to join: alert 40 (handshake_failure).",
            ]
        );
    }
}
