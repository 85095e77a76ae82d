//! What a trace says of each end of a session: its TCP connections, and the data of its streams in both directions.

use std::collections::{BTreeMap, HashMap};

use tcpls_core::Side;

use super::carriers::Carriers;
use super::line::{Frame, Line};
use super::pieces::{Piece, REASONS, Why};

/// The direction of data, as one end sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Way {
    Sent,
    Received,
}

/// A host's part of a session, or of what belongs to none.
#[derive(Debug)]
pub(super) struct End {
    /// The name of the host; a trace of one session has none.
    pub(super) host: Option<String>,
    pub(super) session: Option<u64>,
    pub(super) side: Option<Side>,
    pub(super) tcps: BTreeMap<u32, Tcp>,
    /// The data of streams, by direction.
    pub(super) sent: Data,
    pub(super) received: Data,
    flows: HashMap<(Way, u64), Flow>,
    /// When the session was closed, and why.
    pub(super) closed: Option<(u64, String)>,
}

/// A TCP connection of a session.
#[derive(Debug, Default)]
pub(super) struct Tcp {
    /// The number of its path, in a simulation.
    pub(super) path: Option<u64>,
    /// Its first event.
    pub(super) from: u64,
    pub(super) joined: Option<u64>,
    pub(super) lost: Option<(u64, String)>,
    /// When its socket was closed.
    pub(super) discarded: Option<u64>,
    /// Its stalls, begin and end; the last may have none.
    pub(super) stalls: Vec<(u64, Option<u64>)>,
    /// It joined as a backup.
    pub(super) backup: bool,
    pub(super) lane: bool,
    pub(super) retiring: bool,
    /// New bytes of streams that it carried, by direction.
    pub(super) fresh: [u64; 2],
    /// Data of streams that became pending on others because it stalled, and because it was lost.
    pub(super) hedged: u64,
    pub(super) requeued: u64,
}

impl Tcp {
    pub(super) fn is_stalled(&self) -> bool {
        self.stalls.last().is_some_and(|(_, until)| until.is_none())
    }

    fn resume(&mut self, t: u64) {
        if let Some((_, until)) = self.stalls.last_mut() {
            until.get_or_insert(t);
        }
    }
}

/// The data of all streams in one direction.
#[derive(Debug, Default)]
pub(super) struct Data {
    pub(super) fresh: u64,
    /// The bytes that were not new, by reason.
    pub(super) again: [u64; REASONS],
    /// When the first and the last new byte came.
    pub(super) first: Option<u64>,
    pub(super) last: u64,
    /// The longest time without a new byte while a stream was incomplete, and when it began.
    pub(super) gap: (u64, u64),
    pub(super) streams: u64,
    pub(super) complete: u64,
}

/// One direction of a stream.
#[derive(Debug, Default)]
struct Flow {
    carriers: Carriers,
    final_size: Option<u64>,
    is_complete: bool,
}

impl End {
    pub(super) fn new(host: Option<String>, session: Option<u64>) -> Self {
        let side = host.as_deref().and_then(side_of);
        let (sent, received) = Default::default();
        Self { host, session, side, tcps: BTreeMap::new(), sent, received, flows: HashMap::new(), closed: None }
    }

    /// Whether lines name it. Those of a trace of one end need not.
    pub(super) fn is_named(&self) -> bool {
        self.host.is_some() || self.session.is_some()
    }

    /// Whether it is an end of a session. Otherwise it is a host, or the network.
    pub(super) fn is_of_session(&self) -> bool {
        self.session.is_some() || self.host.is_none()
    }

    /// The TCP connection that a line is about.
    pub(super) fn tcp(&mut self, t: u64, tcp: u32) -> &mut Tcp {
        self.tcps.entry(tcp).or_insert_with(|| Tcp { from: t, ..Tcp::default() })
    }

    /// Takes in what a line says of TCP connections and the session.
    pub(super) fn note(&mut self, t: u64, line: &Line) {
        match line.what.as_str() {
            "join-started" => self.side = self.side.or(Some(Side::Client)),
            "claim-made" | "lane-declared" => self.side = self.side.or(Some(Side::Server)),
            "closed" => self.close(t, line),
            _ => {}
        }
        // A claim may name any TCP connection.
        let Some(number) = line.tcp.filter(|_| line.what != "claim-made") else { return };
        let tcp = self.tcp(t, number);
        let bytes = line.bytes.unwrap_or_default();
        match line.what.as_str() {
            "joined" => tcp.joined = tcp.joined.or(Some(t)),
            "join-started" => {
                tcp.backup = line.backup.unwrap_or_default();
                tcp.lane = line.lane.unwrap_or_default();
            }
            "lane-declared" => tcp.lane = true,
            "stalled" if !tcp.is_stalled() => tcp.stalls.push((t, None)),
            "resumed" => tcp.resume(t),
            "retiring" => tcp.retiring = true,
            "hedged" => tcp.hedged = tcp.hedged.saturating_add(bytes),
            "requeued" => tcp.requeued = tcp.requeued.saturating_add(bytes),
            "lost" => {
                tcp.resume(t);
                tcp.lost.get_or_insert_with(|| (t, line.fault.clone().unwrap_or_default()));
            }
            "discarded" => {
                tcp.resume(t);
                tcp.discarded = tcp.discarded.or(Some(t));
            }
            _ => {}
        }
    }

    fn close(&mut self, t: u64, line: &Line) {
        // Once: a hostile trace may say it many times, beside many TCP connections.
        if self.closed.is_none() {
            self.closed = Some((t, line.reason.clone().unwrap_or_default()));
            self.tcps.values_mut().for_each(|tcp| tcp.resume(t));
        }
    }

    /// A record of event `event` carries a range of a stream on TCP connection `number`.
    pub(super) fn carry(&mut self, t: u64, event: usize, way: Way, number: u32, frame: &Frame) -> Option<Piece> {
        let (stream, start, end) = (frame.id?, frame.start?, frame.end?);
        let len = end.checked_sub(start)?;
        let is_new_flow = !self.flows.contains_key(&(way, stream));
        let flow = self.flows.entry((way, stream)).or_default();
        let added = flow.carriers.add(start..end, number);
        if frame.fin == Some(true) {
            flow.final_size = Some(end);
        }
        let is_complete = flow.final_size.is_some_and(|size| flow.carriers.covered() >= size);
        let completes = is_complete && !std::mem::replace(&mut flow.is_complete, is_complete);
        let why = match added.before {
            Some(carrier) if way == Way::Sent => self.why(carrier, number),
            Some(_) => Why::Duplicate,
            None => Why::New,
        };
        let data = match way {
            Way::Sent => &mut self.sent,
            Way::Received => &mut self.received,
        };
        data.count(t, added.fresh, is_new_flow, completes);
        data.again[why as usize] = data.again[why as usize].saturating_add(len - added.fresh);
        let tcp = self.tcp(t, number);
        tcp.fresh[way as usize] = tcp.fresh[way as usize].saturating_add(added.fresh);
        Some(Piece { event, stream, start, len, fresh: added.fresh, why })
    }

    /// Why bytes that `carrier` carried go out on `number`.
    fn why(&self, carrier: u32, number: u32) -> Why {
        match self.tcps.get(&carrier) {
            _ if carrier == number => Why::Repeated,
            Some(tcp) if tcp.lost.is_some() || tcp.retiring => Why::Reinjected,
            Some(tcp) if tcp.is_stalled() => Why::Hedged,
            _ => Why::Redundant,
        }
    }
}

impl Data {
    fn count(&mut self, t: u64, fresh: u64, is_new_flow: bool, completes: bool) {
        if fresh > 0 {
            let is_waiting = self.first.is_some() && self.streams > self.complete;
            if is_waiting && t.saturating_sub(self.last) > self.gap.0 {
                self.gap = (t - self.last, self.last);
            }
            self.first = self.first.or(Some(t));
            self.last = t;
        }
        self.fresh = self.fresh.saturating_add(fresh);
        self.streams += u64::from(is_new_flow);
        self.complete += u64::from(completes);
    }
}

/// The side of a session that a host of a simulation takes.
fn side_of(host: &str) -> Option<Side> {
    match host {
        "server" => Some(Side::Server),
        host if host == "attacker" || host.starts_with("client") => Some(Side::Client),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn end() -> End {
        End::new(Some("server".to_owned()), Some(0))
    }

    fn note(end: &mut End, t: u64, what: &str, tcp: u32) {
        end.note(t, &Line { what: what.to_owned(), tcp: Some(tcp), ..Line::default() });
    }

    fn frame(start: u64, end: u64, fin: bool) -> Frame {
        Frame { ty: "stream".to_owned(), id: Some(4), start: Some(start), end: Some(end), fin: Some(fin) }
    }

    #[test]
    fn reason_for_sending_again_follows_from_the_state_of_the_first_carrier() {
        let mut end = end();
        let why = |end: &mut End, tcp, range: [u64; 2]| {
            let piece = end.carry(9, 0, Way::Sent, tcp, &frame(range[0], range[1], false)).unwrap();
            (piece.why, piece.fresh)
        };
        assert_eq!(why(&mut end, 0, [0, 100]), (Why::New, 100));
        assert_eq!(why(&mut end, 0, [0, 10]), (Why::Repeated, 0));
        assert_eq!(why(&mut end, 1, [0, 10]), (Why::Redundant, 0));
        note(&mut end, 1, "stalled", 0);
        assert_eq!(why(&mut end, 1, [10, 20]), (Why::Hedged, 0));
        note(&mut end, 2, "resumed", 0);
        assert_eq!(why(&mut end, 1, [20, 30]), (Why::Redundant, 0));
        note(&mut end, 3, "lost", 0);
        assert_eq!(why(&mut end, 1, [90, 110]), (Why::Reinjected, 10));
        assert_eq!((end.sent.fresh, end.sent.again.iter().sum::<u64>()), (110, 50));
        let mut end = self::end();
        end.carry(1, 0, Way::Received, 0, &frame(0, 10, false)).unwrap();
        assert_eq!(end.carry(1, 0, Way::Received, 1, &frame(5, 10, false)).unwrap().why, Why::Duplicate);
    }

    #[test]
    fn longest_wait_counts_only_while_a_stream_is_incomplete() {
        let mut end = end();
        for (t, range, fin) in [(10, [0, 10], false), (30, [10, 20], true), (90, [20, 20], true)] {
            end.carry(t, 0, Way::Received, 0, &frame(range[0], range[1], fin)).unwrap();
        }
        let other = Frame { id: Some(8), ..frame(0, 5, true) };
        end.carry(500, 0, Way::Received, 0, &other).unwrap();
        let data = &end.received;
        assert_eq!((data.gap, data.streams, data.complete), ((20, 10), 2, 2));
    }

    #[test]
    fn stalls_end_when_a_tcp_connection_resumes_is_lost_or_its_session_ends() {
        let mut end = end();
        for (t, what, tcp) in [(1, "stalled", 0), (2, "stalled", 0), (3, "resumed", 0), (4, "stalled", 0)] {
            note(&mut end, t, what, tcp);
        }
        note(&mut end, 5, "lost", 0);
        note(&mut end, 6, "stalled", 1);
        assert_eq!((&end.tcps[&0].stalls[..], end.tcps[&1].is_stalled()), (&[(1, Some(3)), (4, Some(5))][..], true));
        end.note(9, &Line { what: "closed".to_owned(), ..Line::default() });
        assert_eq!(end.tcps[&1].stalls, [(6, Some(9))]);
    }

    #[test]
    fn side_follows_from_the_host_or_from_what_an_end_does() {
        assert_eq!((end().side, End::new(Some("network".to_owned()), None).side), (Some(Side::Server), None));
        let mut end = End::new(None, None);
        note(&mut end, 1, "join-started", 1);
        assert_eq!(end.side, Some(Side::Client));
    }

    #[test]
    fn frames_with_impossible_ranges_are_left_out() {
        let mut end = end();
        assert!(end.carry(1, 0, Way::Sent, 0, &frame(10, 5, false)).is_none());
        assert!(end.carry(1, 0, Way::Sent, 0, &Frame::default()).is_none());
        assert!(end.carry(1, 0, Way::Sent, 0, &frame(0, u64::MAX, true)).is_some());
        assert_eq!(end.sent.complete, 1);
    }
}
