//! A session in a few sentences.

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::time::Duration;

use tcpls_core::Side;

use super::ends::{Data, End, Tcp};
use super::reader::Tables;
use super::story::{lower, path_name, tcp_name, who};
use crate::units::{bits_per_second, rate, size, time};

/// Lists in sentences are not longer.
const LISTED: usize = 4;

/// The ends of a session that are in the trace.
pub(super) struct Ends<'a> {
    pub(super) tables: &'a Tables,
    pub(super) ends: Vec<&'a End>,
    /// Sentences from elsewhere.
    pub(super) notes: Vec<&'a str>,
}

/// Data in one direction, as the end that knows best has it.
struct Flow<'a> {
    data: &'a Data,
    /// What the receiver got; otherwise what the sender sent.
    is_received: bool,
    /// The end that has the data, and the other.
    end: &'a End,
    peer: String,
    /// Which of the two counts of a TCP connection belongs to it.
    way: usize,
}

/// What the page says first about a session.
pub(super) fn summary(session: &Ends<'_>) -> Vec<String> {
    let flows = flows(session);
    let mut sentences: Vec<String> = flows.iter().map(Flow::sentence).collect();
    if sentences.is_empty() {
        sentences.push("No data of streams was exchanged.".to_owned());
    }
    sentences.extend(flows.first().and_then(|flow| shares(session, flow)));
    sentences.extend(faults(session.tables));
    sentences.extend(failures(session));
    sentences.extend(flows.first().map(effect));
    sentences.push(ending(session));
    if session.tables.missing > 0 {
        let missing = session.tables.missing;
        sentences
            .push(format!("{missing} events are missing: what wrote the trace could not keep up. Sums are too small."));
    }
    sentences.extend(session.notes.iter().map(|note| (*note).to_owned()));
    if session.tables.is_cut {
        sentences.push("The last line of the trace is incomplete: what wrote it was interrupted.".to_owned());
    }
    sentences
}

/// The directions in which there was data, the larger one first. One that is a small part of the other is left out.
fn flows<'a>(session: &Ends<'a>) -> Vec<Flow<'a>> {
    let mut flows = Vec::new();
    for (receiver, peer) in [(Side::Client, "the server"), (Side::Server, "the client")] {
        let is_sender = |end: &End| end.side.is_some() && end.side != Some(receiver);
        let received = session.ends.iter().copied().find(|end| end.side == Some(receiver) && end.received.fresh > 0);
        let sent = session.ends.iter().copied().find(|end| is_sender(end) && end.sent.fresh > 0);
        let receiver = if receiver == Side::Client { "the client" } else { "the server" };
        flows.extend(match (received, sent) {
            (Some(end), _) => Some(Flow { data: &end.received, is_received: true, end, peer: peer.to_owned(), way: 1 }),
            (None, Some(end)) => {
                Some(Flow { data: &end.sent, is_received: false, end, peer: receiver.to_owned(), way: 0 })
            }
            (None, None) => None,
        });
    }
    // A trace of one end that does not say which.
    for end in session.ends.iter().copied().filter(|end| end.side.is_none()) {
        let peer = || "its peer".to_owned();
        flows.push(Flow { data: &end.received, is_received: true, end, peer: peer(), way: 1 });
        flows.push(Flow { data: &end.sent, is_received: false, end, peer: peer(), way: 0 });
    }
    flows.sort_by_key(|flow| Reverse(flow.data.fresh));
    let most = flows.first().map_or(0, |flow| flow.data.fresh);
    flows.retain(|flow| flow.data.fresh > 0 && flow.data.fresh >= most / 10);
    flows
}

impl Flow<'_> {
    fn took(&self) -> Duration {
        Duration::from_nanos(self.data.last.saturating_sub(self.data.first.unwrap_or_default()))
    }

    fn sentence(&self) -> String {
        let (verb, preposition) = if self.is_received { ("received", "from") } else { ("sent", "to") };
        let what = format!("{} {verb} {} {preposition} {}", who(self.end), size(self.data.fresh), self.peer);
        let took = self.took();
        if took.is_zero() {
            return format!("{what}.");
        }
        let rate = rate(bits_per_second(self.data.fresh, took));
        format!("{what} in {}: {rate} on average.", time(took))
    }
}

/// How much each TCP connection carried.
fn shares(session: &Ends<'_>, flow: &Flow<'_>) -> Option<String> {
    let tcps = &flow.end.tcps;
    let total: u64 = tcps.values().fold(0, |sum, tcp| sum.saturating_add(tcp.fresh[flow.way]));
    let (first, _) = tcps.first_key_value()?;
    let count = tcps.len();
    if count == 1 {
        return Some(format!("All of it went over {}.", tcp_name(session.tables, flow.end, *first)));
    }
    // In order of their numbers; of many, those that carried most.
    let mut largest: Vec<(&u32, &Tcp)> = tcps.iter().collect();
    if count > LISTED {
        largest.sort_by_key(|(number, tcp)| (Reverse(tcp.fresh[flow.way]), **number));
        largest.truncate(LISTED);
    }
    let share = |(number, tcp): (&u32, &Tcp)| share(session.tables, *number, tcp, flow.way, total);
    let mut list: Vec<String> = largest.into_iter().map(share).collect();
    if count > LISTED {
        list.push(format!("the rest over {} more", count - LISTED));
    }
    Some(format!("It went over {count} TCP connections: {}.", and(&list)))
}

/// The part of a TCP connection.
fn share(tables: &Tables, number: u32, tcp: &Tcp, way: usize, total: u64) -> String {
    let path = tcp.path.map(|path| format!(" ({})", path_name(tables, path))).unwrap_or_default();
    let percent = 100.0 * tcp.fresh[way] as f64 / total.max(1) as f64;
    let percent = if percent > 0.0 && percent < 0.5 { "under 1".to_owned() } else { format!("{percent:.0}") };
    format!("{percent} % over number {number}{path}")
}

/// The faults of the simulated network.
fn faults(tables: &Tables) -> Option<String> {
    let name = |fault: &super::reader::Fault| {
        let path = fault.path.as_ref().map(|path| format!(" on path {path}")).unwrap_or_default();
        let until = fault.until.filter(|until| *until > fault.from).map(|until| format!(" to {}", at(until)));
        let from = if until.is_some() { "from" } else { "at" };
        format!("{}{path} ({from} {}{})", fault.kind.replace('-', " "), at(fault.from), until.unwrap_or_default())
    };
    let mut list: Vec<String> = tables.faults.iter().take(LISTED).map(name).collect();
    if tables.faults.len() > LISTED {
        list.push(format!("{} more", tables.faults.len() - LISTED));
    }
    (!list.is_empty()).then(|| format!("The network failed on purpose: {}.", and(&list)))
}

/// TCP connections that stalled or were lost, at whichever end noticed first.
fn failures(session: &Ends<'_>) -> Vec<String> {
    let mut lost: Vec<(u64, u32, &End, &str)> = Vec::new();
    let mut stalled: Vec<Stall<'_>> = Vec::new();
    for end in &session.ends {
        for (number, tcp) in &end.tcps {
            lost.extend(tcp.lost.as_ref().map(|(t, fault)| (*t, *number, *end, fault.as_str())));
            stalled.extend(Stall::longest(session.tables, *number, tcp, end));
        }
    }
    lost.sort_by_key(|(t, number, ..)| (*t, *number));
    let mut gone = BTreeSet::new();
    lost.retain(|(_, number, ..)| gone.insert(*number));
    stalled.sort_by_key(|stall| (Reverse(stall.len), stall.begin, stall.number));
    let mut seen = BTreeSet::new();
    let longest = stalled.first().map_or(0, |stall| stall.len);
    // Short ones beside a long one are noise.
    stalled.retain(|stall| seen.insert(stall.number) && !gone.contains(&stall.number) && stall.len >= longest / 10);
    if lost.is_empty() && stalled.is_empty() {
        return vec!["No TCP connection stalled or was lost.".to_owned()];
    }
    let name = |end: &End, number: u32| tcp_name(session.tables, end, number);
    let mut sentences: Vec<String> = lost
        .iter()
        .take(LISTED)
        .map(|(t, number, end, fault)| {
            let silence = silent_before(session, *number, *t);
            format!("{} was lost at {}{silence}: {fault}.", name(end, *number), at(*t))
        })
        .collect();
    if lost.len() > LISTED {
        sentences.push(format!("{} more were lost.", lost.len() - LISTED));
    }
    let silence = |stall: &Stall<'_>| {
        let took = time(Duration::from_nanos(stall.len));
        format!("{} gave no answer for {took}, from {} on (stalled).", name(stall.end, stall.number), at(stall.begin))
    };
    sentences.extend(stalled.iter().take(LISTED).map(silence));
    if stalled.len() > LISTED {
        sentences.push(format!("{} more stalled.", stalled.len() - LISTED));
    }
    let again = |end: &&End| {
        let [_, reinjected, hedged, ..] = end.sent.again;
        reinjected.saturating_add(hedged)
    };
    let again = session.ends.iter().map(again).fold(0, u64::saturating_add);
    if again > 0 {
        let why = "because it was uncertain whether it had arrived";
        sentences.push(format!("{} went out again on other TCP connections, {why}.", size(again)));
    }
    sentences
}

/// Since when a TCP connection had been stalled when it was lost at `t`, at either end.
fn silent_before(session: &Ends<'_>, number: u32, t: u64) -> String {
    let stalls = session.ends.iter().filter_map(|end| end.tcps.get(&number)?.stalls.last());
    let open = stalls.filter(|(begin, until)| *begin < t && until.is_none_or(|until| until >= t));
    let begin = open.map(|(begin, _)| *begin).min();
    begin.map(|begin| format!(", after it had given no answer since {} (stalled)", at(begin))).unwrap_or_default()
}

/// The longest stall of a TCP connection.
struct Stall<'a> {
    len: u64,
    begin: u64,
    number: u32,
    end: &'a End,
}

impl<'a> Stall<'a> {
    fn longest(tables: &Tables, number: u32, tcp: &Tcp, end: &'a End) -> Option<Self> {
        let stalls =
            tcp.stalls.iter().map(|(begin, until)| (until.unwrap_or(tables.end).saturating_sub(*begin), *begin));
        stalls.max_by_key(|(len, begin)| (*len, Reverse(*begin))).map(|(len, begin)| Self { len, begin, number, end })
    }
}

/// What the application noticed of it.
fn effect(flow: &Flow<'_>) -> String {
    let Data { gap: (gap, begin), streams, complete, .. } = *flow.data;
    let whole = match (flow.is_received, streams == complete, streams) {
        (true, true, 1) => "All data of the stream arrived".to_owned(),
        (true, true, _) => format!("All data of all {streams} streams arrived"),
        (true, false, 1) => "The stream is not complete when the trace ends".to_owned(),
        (true, false, _) => format!("{complete} of {streams} streams are complete when the trace ends"),
        (false, ..) => return format!("{} streams carried it.", streams).replace("1 streams", "One stream"),
    };
    match gap {
        0 => format!("{whole}."),
        gap => {
            format!("{whole}; the longest wait for new data was {}, at {}.", time(Duration::from_nanos(gap)), at(begin))
        }
    }
}

/// How the session ended.
fn ending(session: &Ends<'_>) -> String {
    let closed = session.ends.iter().find_map(|end| end.closed.as_ref().map(|closed| (*end, closed)));
    match closed {
        Some((end, (t, reason))) => {
            let reason = reason
                .replace("this endpoint", &lower(&who(end)))
                .replace("the peer", &format!("the peer of {}", lower(&who(end))));
            format!("The session ended at {}: {reason}.", at(*t))
        }
        None => "The trace ends before the session does.".to_owned(),
    }
}

/// A moment, in seconds since the first event.
fn at(t: u64) -> String {
    format!("{:.3} s", Duration::from_nanos(t).as_secs_f64())
}

/// A list in a sentence.
fn and(list: &[String]) -> String {
    match list {
        [] => String::new(),
        [one] => one.clone(),
        [rest @ .., last] => format!("{} and {last}", rest.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::view::reader::read;

    fn said(lines: &[&str]) -> String {
        let tables = read(lines.join("\n").as_bytes()).unwrap();
        let ends = tables.ends.iter().filter(|end| end.is_of_session()).collect();
        summary(&Ends { tables: &tables, ends, notes: Vec::new() }).join(" ")
    }

    fn record(t: u64, at: &str, what: &str, tcp: u32, range: [u64; 2]) -> String {
        let [start, end] = range;
        format!(
            r#"{{"t":{t},"at":"{at}","session":0,"what":"{what}","tcp":{tcp},"seq":0,"bytes":1,"content":{{"frames":[{{"type":"stream","id":0,"start":{start},"end":{end},"fin":{}}}]}}}}"#,
            end == 4096
        )
    }

    #[test]
    fn summary_says_what_moved_what_failed_and_what_was_noticed() {
        let second = 1_000_000_000;
        let lines = [
            record(0, "server", "record-sent", 0, [0, 2048]),
            record(0, "client", "record-received", 0, [0, 1024]),
            format!(r#"{{"t":{second},"at":"server","session":0,"what":"lost","tcp":0,"fault":"reset"}}"#),
            record(second, "server", "record-sent", 1, [1024, 4096]),
            record(2 * second, "client", "record-received", 1, [1024, 4096]),
            format!(
                r#"{{"t":{},"at":"client","session":0,"what":"closed","reason":"closed by this endpoint (no error)"}}"#,
                3 * second
            ),
        ];
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        assert_eq!(
            said(&lines),
            "The client received 4.0 KiB from the server in 2.00 s: 16.4 kbit/s on average. \
             It went over 2 TCP connections: 25 % over number 0 and 75 % over number 1. \
             TCP connection 0 was lost at 1.000 s: reset. \
             1.0 KiB went out again on other TCP connections, because it was uncertain whether it had arrived. \
             All data of the stream arrived; the longest wait for new data was 2.00 s, at 0.000 s. \
             The session ended at 3.000 s: closed by the client (no error)."
        );
        assert!(
            said(&lines[..1])
                .starts_with("The server sent 2.0 KiB to the client. All of it went over TCP connection 0. No TCP")
        );
    }

    #[test]
    fn loss_is_told_with_the_stall_before_it_and_many_shares_are_cut() {
        let line = |t: u64, what: &str, tcp: u32, rest: &str| {
            format!(r#"{{"t":{t},"at":"server","session":0,"what":"{what}","tcp":{tcp}{rest}}}"#)
        };
        let mut lines: Vec<String> = (0..6)
            .map(|tcp| record(tcp, "server", "record-sent", tcp as u32, [tcp * 10, tcp * 10 + tcp + 1]))
            .collect();
        lines.push(line(1_000_000_000, "stalled", 2, ""));
        lines.push(line(3_000_000_000, "lost", 2, r#","fault":"reset""#));
        let text = said(&lines.iter().map(String::as_str).collect::<Vec<_>>());
        for part in [
            "over 6 TCP connections: 29 % over number 5, 24 % over number 4, 19 % over number 3, 14 % over number 2 and the rest over 2 more.",
            "TCP connection 2 was lost at 3.000 s, after it had given no answer since 1.000 s (stalled): reset.",
        ] {
            assert!(text.contains(part), "{text}");
        }
    }

    #[test]
    fn session_without_data_has_a_summary() {
        let text = said(&[r#"{"t":0,"what":"probed","tcp":0}"#]);
        assert_eq!(
            text,
            "No data of streams was exchanged. No TCP connection stalled or was lost. The trace ends before the session does."
        );
    }
}
