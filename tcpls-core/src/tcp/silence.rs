//! What the TCP stack underneath knows and records can't tell: whether anything at all comes back from the peer's kernel.
//! Optional: without an owner that reports it, nothing here has a deadline.
//!
//! During a transfer TCP's acknowledgments come every few milliseconds, also while it repairs a loss. So a path that went dark
//! shows within some tens of them, where a record's acknowledgment takes a round trip through every queue.

use core::time::Duration;

use crate::time::Time;

/// How long nothing may come back while TCP's acknowledgments should follow each other closely: a few ticks of the kernels'
/// clocks, and what busy hosts and radio links put together in one burst.
const MIN_PATIENCE: Duration = Duration::from_millis(16);
/// And this multiple of the distance between two segments, which is long on a slow path.
const SPACING: u32 = 4;
/// How long a receiver may hold back the acknowledgment of a segment that is alone (Linux; RFC 9293, 3.8.6.3 allows 500 ms).
const DELAYED_ACK: Duration = Duration::from_millis(40);
/// With this many segments in flight, the receiver acknowledges without delay: it must acknowledge every second one.
const UNDELAYED: u32 = 3;
/// The longest that one segment is taken to be on its way through a slow link.
const MAX_SEGMENT: Duration = Duration::from_secs(3);
/// Doublings of the patience with a TCP connection that was repeatedly taken for stalled without being so.
const MAX_DOUBTS: u32 = 4;
/// A doubt is forgotten after so long.
const FORGET_AFTER: Duration = Duration::from_secs(10);

/// What the TCP stack says about one TCP connection of this host. On Linux, `TCP_INFO` has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TcpInfo {
    /// When a segment of the peer's came last (`tcpi_last_ack_recv`, which is an age).
    pub heard: Time,
    /// Segments that are sent and not acknowledged (`tcpi_unacked`). Bytes that wait to be sent do not count.
    pub unacked: u32,
    /// TCP's smoothed round-trip time (`tcpi_rtt`).
    pub rtt: Duration,
    /// The smallest that it measured (`tcpi_min_rtt`).
    pub min_rtt: Duration,
    /// A number that grows with each byte that the peer's kernel acknowledges for the first time (`tcpi_bytes_acked`), selectively
    /// too (`tcpi_delivered`), and with data that came behind a hole (`tcpi_rcv_ooopack`). Only that it grows matters.
    pub acked: u64,
}

/// Since when the peer's kernel owes a sign of life.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Silence {
    since: Option<Time>,
    /// When bytes went to the socket last, and when the first of them did after a pause.
    wrote: Time,
    burst: Time,
    info: Option<TcpInfo>,
    doubts: u32,
    doubted: Time,
    /// The last verdict was wrong, and the stack was not queried since.
    refuted: bool,
}

impl Silence {
    /// Bytes went to the socket.
    pub(crate) fn wrote(&mut self, now: Time) {
        let answered = || self.rtt().unwrap_or_default() + DELAYED_ACK;
        if self.since.is_none() || now > self.wrote && now > self.wrote + answered() {
            self.burst = now;
        }
        self.wrote = now;
        self.since.get_or_insert(now);
    }

    /// The stack was asked.
    pub(crate) fn update(&mut self, info: TcpInfo) {
        self.since = self.since.filter(|_| info.unacked > 0).map(|since| since.max(info.heard));
        self.info = Some(info);
        self.refuted = false;
    }

    /// It was taken for stalled and lives: its patience restarts, or it would stall again at once. What the stack reported is
    /// good for two wrong verdicts: an owner who never queries it again must not cause one after the other.
    pub(crate) fn was_wrong(&mut self, now: Time) {
        if core::mem::replace(&mut self.refuted, true) {
            self.info = None;
        }
        self.doubts = (self.doubts_at(now) + 1).min(MAX_DOUBTS);
        self.doubted = now;
        self.since = self.since.map(|since| since.max(now));
    }

    /// Whether a sign of life is owed, and the owner tells.
    #[inline]
    pub(crate) fn is_owed(&self) -> bool {
        self.since.is_some() && self.info.is_some()
    }

    /// When the silence has lasted too long; `None` if nothing is owed or no `TcpInfo` has come. The path is known to take `segment`
    /// for a full one.
    pub(crate) fn deadline(&self, segment: Duration) -> Option<Time> {
        let (since, info, rtt) = (self.since?, self.info?, self.rtt()?);
        let segment = segment.min(MAX_SEGMENT);
        let spacing = MIN_PATIENCE + segment * SPACING;
        let doubts = 1 << self.doubts_at(since);
        // What begins a flight is not acknowledged before it has been to the peer and back.
        let first = self.burst + (MIN_PATIENCE + rtt + segment) * doubts;
        // A lone segment may just have been sent.
        let since = if info.unacked < UNDELAYED { since.max(self.wrote) } else { since };
        Some(first.max(since + patience(&info, segment).max(spacing) * doubts))
    }

    /// TCP's smoothed round-trip time, if it has measured one.
    pub(crate) fn rtt(&self) -> Option<Duration> {
        self.info.map(|info| info.rtt).filter(|rtt| !rtt.is_zero())
    }

    /// The smallest round trip that TCP measured, if that is known.
    pub(crate) fn min_rtt(&self) -> Option<Duration> {
        self.info.map(|info| info.min_rtt)
    }

    fn doubts_at(&self, now: Time) -> u32 {
        let forgotten = (now - self.doubted).as_secs() / FORGET_AFTER.as_secs();
        self.doubts.saturating_sub(u32::try_from(forgotten).unwrap_or(u32::MAX))
    }
}

/// With a queue on the path, which the round-trip time shows, acknowledgments come as evenly as the path carries segments.
/// Without, a flight may be shorter than the path: then nothing comes for up to a round trip.
fn patience(info: &TcpInfo, segment: Duration) -> Duration {
    if info.unacked < UNDELAYED {
        return MIN_PATIENCE + DELAYED_ACK + info.rtt + segment;
    }
    let queue = info.rtt.saturating_sub(info.min_rtt);
    let lull = info.min_rtt.saturating_sub(queue);
    MIN_PATIENCE + (info.rtt / info.unacked * SPACING).max(lull)
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn info(heard: u64, unacked: u32, rtt: u64, min_rtt: u64) -> TcpInfo {
        TcpInfo { heard: Time::from_millis(heard), unacked, rtt: ms(rtt), min_rtt: ms(min_rtt), acked: 0 }
    }

    /// The deadline on a path to which bytes are written without a pause since `wrote`.
    fn silence_of(wrote: u64, info: TcpInfo) -> Option<Time> {
        let mut silence = Silence::default();
        (wrote..=wrote.max(info.heard.as_nanos() / 1_000_000)).for_each(|ms| silence.wrote(Time::from_millis(ms)));
        silence.update(info);
        silence.deadline(Duration::ZERO)
    }

    #[test]
    fn without_reports_by_the_owner_there_is_no_deadline() {
        let mut silence = Silence::default();
        silence.wrote(Time::ZERO);
        assert_eq!(silence.deadline(Duration::ZERO), None);
    }

    #[test]
    fn silence_begins_with_the_later_of_first_bytes_and_last_segment() {
        assert_eq!(silence_of(100, info(90, 60, 60, 10)), Some(Time::from_millis(176)), "a round trip, at first");
        assert_eq!(silence_of(100, info(170, 60, 60, 10)), Some(Time::from_millis(190)));
        assert_eq!(silence_of(100, info(170, 0, 60, 10)), None, "nothing is owed");
    }

    #[test]
    fn after_a_sign_of_life_that_the_stack_did_not_see_the_patience_begins_anew() {
        let mut silence = Silence::default();
        silence.wrote(Time::ZERO);
        silence.update(info(0, 60, 60, 10));
        silence.was_wrong(Time::from_millis(500));
        silence.update(info(0, 60, 60, 10));
        assert_eq!(silence.deadline(Duration::ZERO), Some(Time::from_millis(540)));
    }

    #[test]
    fn what_the_stack_said_once_is_not_believed_for_ever() {
        let mut silence = Silence::default();
        silence.wrote(Time::ZERO);
        silence.update(info(0, 60, 60, 10));
        silence.was_wrong(Time::from_millis(100));
        assert!(silence.deadline(Duration::ZERO).is_some(), "a call before each timeout is in time");
        silence.was_wrong(Time::from_millis(200));
        assert_eq!(silence.deadline(Duration::ZERO), None);
        silence.update(info(200, 60, 60, 10));
        assert!(silence.deadline(Duration::ZERO).is_some());
    }

    #[test]
    fn a_path_without_a_queue_may_be_silent_for_a_round_trip() {
        assert_eq!(silence_of(0, info(0, 100, 100, 100)), Some(Time::from_millis(116)));
        assert_eq!(silence_of(0, info(200, 130, 130, 100)), Some(Time::from_millis(286)));
    }

    #[test]
    fn slow_path_may_be_silent_for_a_few_segments_and_lone_segment_for_delayed_ack() {
        assert_eq!(silence_of(0, info(400, 6, 300, 10)), Some(Time::from_millis(616)));
        assert_eq!(silence_of(0, info(0, 1, 100, 100)), Some(Time::from_millis(156)));
        assert_eq!(
            [2, 3].map(|unacked| silence_of(0, info(400, unacked, 300, 10))),
            [756, 816].map(|ms| Some(Time::from_millis(ms)))
        );
    }

    #[test]
    fn each_wrong_verdict_doubles_the_patience_for_a_while() {
        let mut silence = Silence::default();
        let patience = |silence: &mut Silence, at: u64| {
            (at.saturating_sub(2000)..=at).for_each(|ms| silence.wrote(Time::from_millis(ms)));
            silence.update(info(at, 60, 60, 10));
            silence.deadline(Duration::ZERO).unwrap() - Time::from_millis(at)
        };
        for _ in 0..2 {
            silence.was_wrong(Time::from_millis(1000));
        }
        assert_eq!(patience(&mut silence, 1000), ms(80));
        assert_eq!(patience(&mut silence, 6000), ms(80));
        assert_eq!(patience(&mut silence, 12_000), ms(40));
        assert_eq!(patience(&mut silence, 60_000), ms(20));
        (0..99).for_each(|_| silence.was_wrong(Time::from_millis(60_000)));
        assert_eq!(patience(&mut silence, 60_000), ms(320));
    }
}
