//! The receiving side of acknowledgments: the last record that arrived, and when to acknowledge it (draft, 4.2.3).

use core::time::Duration;

use crate::time::Time;
use crate::wire::ids::RecordSeq;

/// Maximum delay of an acknowledgment while more than one record waits. Records that are unacknowledged when a TCP
/// connection fails are sent twice, so during bulk transfers the delay is short.
const BULK_INTERVAL: Duration = Duration::from_millis(5);

/// How long, and for how many records, an acknowledgment may be delayed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AckPolicy {
    pub(crate) max_delay: Duration,
    pub(crate) every_records: u32,
}

/// The state of received records on one TCP connection.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Received {
    next: RecordSeq,
    /// Ack-eliciting records since the last acknowledgment.
    owed: u32,
    /// When the acknowledgment is due at the latest.
    deadline: Option<Time>,
    /// When the first record arrived that the last acknowledgment did not cover.
    since: Time,
    /// Due at once, after a Ping or enough records.
    now_due: bool,
}

impl Received {
    /// Starts counting at `next`: records that the TLS library opened during the handshake count too.
    pub(crate) fn start_at(&mut self, next: RecordSeq) {
        self.next = next;
    }

    /// Counts one record that opened.
    pub(crate) fn count(&mut self) {
        self.next = self.next.next();
    }

    /// The number of the record that was counted last; that of the first if none was.
    pub(crate) fn newest(&self) -> RecordSeq {
        RecordSeq(self.next.0.saturating_sub(1))
    }

    /// The record counted last was ack-eliciting.
    pub(crate) fn owe(&mut self, now: Time, policy: AckPolicy, at_once: bool) {
        if self.owed == 0 {
            self.since = now;
        }
        self.owed = self.owed.saturating_add(1);
        self.now_due |= at_once || self.owed >= policy.every_records;
        let delay = if self.owed > 1 { policy.max_delay.min(BULK_INTERVAL) } else { policy.max_delay };
        self.deadline = Some(self.since + delay);
    }

    /// Whether any record arrived.
    pub(crate) fn any(&self) -> bool {
        self.next > RecordSeq(0)
    }

    /// Makes a delayed acknowledgment due if its time has come.
    pub(crate) fn expire(&mut self, now: Time) {
        self.now_due |= self.is_due(now);
    }

    /// Makes an acknowledgment due now, if any record has arrived: the TCP connection has ended and the peer must learn
    /// the last record, or the previous acknowledgment may be lost.
    pub(crate) fn owe_again(&mut self) {
        self.now_due = self.any();
    }

    /// Whether anything is owed: an acknowledgment may be put in a record that goes out anyway.
    pub(crate) fn is_owed(&self) -> bool {
        self.owed > 0 || self.now_due
    }

    /// Whether the acknowledgment can be held back no longer.
    pub(crate) fn is_due(&self, now: Time) -> bool {
        self.now_due || self.deadline.is_some_and(|deadline| deadline <= now)
    }

    /// When it will be due if nothing else happens; `None` if it is not owed or due already.
    pub(crate) fn deadline(&self) -> Option<Time> {
        if self.now_due { None } else { self.deadline }
    }

    /// The number to acknowledge; nothing is owed afterwards. `None` before the first record: an ACK can't say "nothing".
    // draft I42
    pub(crate) fn take(&mut self) -> Option<RecordSeq> {
        let highest = self.next.0.checked_sub(1)?;
        (self.owed, self.deadline, self.now_due) = (0, None, false);
        Some(RecordSeq(highest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: AckPolicy = AckPolicy { max_delay: Duration::from_millis(25), every_records: 3 };

    #[test]
    fn no_ack_is_sent_before_a_record_arrives() {
        let mut received = Received::default();
        received.owe_again();
        assert!(!received.is_owed());
        assert_eq!(received.take(), None);
    }

    #[test]
    fn ack_is_due_after_the_delay_or_enough_records_whichever_is_first() {
        let (mut received, start) = (Received::default(), Time::from_millis(5));
        received.count();
        received.owe(start, POLICY, false);
        assert!(received.is_owed() && !received.is_due(start));
        assert_eq!(received.deadline(), Some(Time::from_millis(30)));
        assert!(received.is_due(Time::from_millis(30)));
        for _ in 0..2 {
            received.count();
            received.owe(Time::from_millis(6), POLICY, false);
        }
        assert!(received.is_due(Time::from_millis(6)));
        assert_eq!(received.take(), Some(RecordSeq(2)));
        assert!(!received.is_owed() && received.deadline().is_none());
    }

    #[test]
    fn more_than_one_record_is_acknowledged_sooner() {
        let mut received = Received::default();
        for ms in [10, 12] {
            received.count();
            received.owe(Time::from_millis(ms), POLICY, false);
        }
        assert_eq!(received.deadline(), Some(Time::from_millis(15)));
        received.take();
        received.count();
        received.owe(Time::from_millis(20), POLICY, false);
        assert_eq!(received.deadline(), Some(Time::from_millis(45)));
        received.count();
        received.owe(Time::from_millis(40), POLICY, false);
        assert!(received.is_due(Time::from_millis(40)), "it has waited for long enough");
    }

    #[test]
    fn a_ping_is_answered_at_once() {
        let mut received = Received::default();
        received.count();
        received.owe(Time::ZERO, POLICY, true);
        assert!(received.is_due(Time::ZERO));
    }
}
