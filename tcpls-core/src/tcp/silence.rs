//! What only the TCP stack knows: whether segments arrive from the peer's kernel. Optional: without a driver that
//! reports it, nothing here has a deadline.
//!
//! During a transfer TCP's acknowledgments arrive every few milliseconds, even while it repairs a loss. So their
//! absence shows a dark path within some tens of milliseconds, while the acknowledgment of a record takes a round trip
//! through every queue.

use core::time::Duration;

use crate::time::Time;

/// How long no segment may arrive while TCP's acknowledgments should follow each other closely: a few ticks of the
/// kernels' clocks, and the bursts of busy hosts and radio links.
const MIN_PATIENCE: Duration = Duration::from_millis(16);
/// In addition, this multiple of the time between two segments, which is long on a slow path.
const SPACING: u32 = 4;
/// How long a receiver may delay the acknowledgment of a single segment (Linux; RFC 9293, 3.8.6.3 allows 500 ms).
const DELAYED_ACK: Duration = Duration::from_millis(40);
/// With this many segments in flight, the receiver acknowledges without delay: it must acknowledge every second one.
const UNDELAYED: u32 = 3;
/// The longest round-trip time that a stack is believed: sums and multiples of it must not overflow.
const MAX_RTT: Duration = Duration::from_secs(3600);
/// The longest that one segment is taken to be on its way through a slow link.
const MAX_SEGMENT: Duration = Duration::from_secs(3);
/// The threshold of a TCP connection doubles with each false stall, at most this many times.
const MAX_DOUBTS: u32 = 4;
/// A false stall is forgotten after this time.
const FORGET_AFTER: Duration = Duration::from_secs(10);

/// State of the TCP stack for one TCP connection, on Linux from `TCP_INFO`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct TcpInfo {
    /// When the last segment of the peer arrived (`tcpi_last_ack_recv`, which is an age).
    pub heard: Time,
    /// Segments that are sent and not acknowledged (`tcpi_unacked`), without bytes that wait to be sent.
    pub unacked: u32,
    /// TCP's smoothed round-trip time (`tcpi_rtt`).
    pub rtt: Duration,
    /// The smallest round-trip time that TCP measured (`tcpi_min_rtt`).
    pub min_rtt: Duration,
    /// A number that grows with each byte that the peer's kernel newly acknowledges (`tcpi_bytes_acked`), also
    /// selectively (`tcpi_delivered`), and with data that arrives behind a gap (`tcpi_rcv_ooopack`). Only its growth
    /// matters.
    pub acked: u64,
}

impl TcpInfo {
    /// Returns this report with a change, for drivers that make one from [`TcpInfo::default`].
    #[must_use]
    pub fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }
}

/// Since when a segment of the peer's kernel is due.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Silence {
    since: Option<Time>,
    /// When bytes were last written to the socket, and when the first of them after a pause were.
    wrote: Time,
    burst: Time,
    info: Option<TcpInfo>,
    doubts: u32,
    doubted: Time,
    /// The last stall was false, and the stack has not been queried since.
    refuted: bool,
}

impl Silence {
    /// Bytes were written to the socket.
    pub(crate) fn wrote(&mut self, now: Time) {
        let answered = || self.rtt().unwrap_or_default() + DELAYED_ACK;
        if self.since.is_none() || now > self.wrote && now > self.wrote + answered() {
            self.burst = now;
        }
        self.wrote = now;
        self.since.get_or_insert(now);
    }

    /// Stores a report of the stack.
    pub(crate) fn update(&mut self, info: TcpInfo) {
        self.since = self.since.filter(|_| info.unacked > 0).map(|since| since.max(info.heard));
        let (rtt, min_rtt) = (info.rtt.min(MAX_RTT), info.min_rtt.min(MAX_RTT));
        self.info = Some(TcpInfo { rtt, min_rtt, ..info });
        self.refuted = false;
    }

    /// The stall was false: the threshold restarts, or the TCP connection would stall again at once. After two false
    /// stalls the report of the stack is dropped: a driver that never queries the stack again must not cause endless
    /// ones.
    pub(crate) fn was_wrong(&mut self, now: Time) {
        if core::mem::replace(&mut self.refuted, true) {
            self.info = None;
        }
        self.doubts = (self.doubts_at(now) + 1).min(MAX_DOUBTS);
        self.doubted = now;
        self.since = self.since.map(|since| since.max(now));
    }

    /// Returns whether a segment is due, and the driver reports them.
    #[inline]
    pub(crate) fn is_owed(&self) -> bool {
        self.since.is_some() && self.info.is_some()
    }

    /// Returns when the TCP connection stalls without a segment; `None` if none is due or no `TcpInfo` was reported.
    /// `segment` is the time that the path takes for a full segment.
    pub(crate) fn deadline(&self, segment: Duration) -> Option<Time> {
        let (since, info, rtt) = (self.since?, self.info?, self.rtt()?);
        let segment = segment.min(MAX_SEGMENT);
        let spacing = MIN_PATIENCE + segment * SPACING;
        let doubts = 1 << self.doubts_at(since);
        // The acknowledgment of the beginning of a flight takes a round trip.
        let first = self.burst + (MIN_PATIENCE + rtt + segment) * doubts;
        // A single segment may just have been sent.
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

/// With a queue on the path, which the round-trip time shows, acknowledgments come as evenly as the path carries
/// segments. Without a queue, a flight may be shorter than the path: then no segment arrives for up to a round trip.
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
    fn wild_report_of_a_stack_overflows_nothing() {
        for unacked in [1, 3, u32::MAX] {
            let mut silence = Silence::default();
            silence.wrote(Time::ZERO);
            silence.update(TcpInfo { unacked, rtt: Duration::MAX, min_rtt: Duration::MAX, ..Default::default() });
            silence.wrote(Time::from_millis(1));
            assert!(silence.deadline(Duration::MAX).is_some());
        }
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
    fn false_stall_restarts_the_threshold() {
        let mut silence = Silence::default();
        silence.wrote(Time::ZERO);
        silence.update(info(0, 60, 60, 10));
        silence.was_wrong(Time::from_millis(500));
        silence.update(info(0, 60, 60, 10));
        assert_eq!(silence.deadline(Duration::ZERO), Some(Time::from_millis(540)));
    }

    #[test]
    fn single_tcp_info_report_expires() {
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
