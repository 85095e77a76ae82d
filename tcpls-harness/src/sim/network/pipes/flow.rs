//! One direction of a TCP connection: written bytes, bytes in flight, arrived bytes.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::BytesMut;
use tcpls_core::{TcpEnd, Time};

/// Bytes that may be in flight or unread: the receive window.
const WINDOW: usize = 4 << 20;
/// Unsent bytes that fit, by default.
const UNSENT_LIMIT: usize = 256 << 10;

/// Whether the writer has closed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Fin {
    #[default]
    None,
    Wanted,
    Sent,
}

/// See the module's description.
#[derive(Debug)]
pub(super) struct Flow {
    /// Written, and not yet through the link.
    buffer: BytesMut,
    /// Bytes of it in the link's queue.
    admitted: usize,
    /// Bytes of it that were sent before, and lost.
    pub(super) lost: usize,
    pub(super) limit: usize,
    was_full: bool,
    pub(super) fin: Fin,
    in_flight: usize,
    /// What has arrived and will be acknowledged to the sender: when it does, how long it is, when it was sent.
    acks: VecDeque<(Time, usize, Time)>,
    /// Bytes in there, and bytes whose acknowledgment is lost.
    unacked: usize,
    unheard: usize,
    /// Bytes that the sender knows to have arrived.
    pub(super) acked: u64,
    pub(super) smoothed_rtt: Duration,
    pub(super) min_rtt: Duration,
    pub(super) last_arrival: Time,
    /// Arrived and not read.
    pub(super) inbox: BytesMut,
    /// The end that the reader sees behind the arrived bytes.
    pub(super) end: Option<TcpEnd>,
    /// Whether the link knows that there is something to send.
    pub(super) waiting: bool,
    /// Whether this TCP connection is blocked.
    pub(super) clogged: bool,
    /// As long as no acknowledgments come back: what may still be sent.
    pub(super) credit: Option<usize>,
    /// When it found the path dark.
    pub(super) stuck_since: Option<Time>,
    /// Whether the path is free, but TCP has not tried again.
    pub(super) held: bool,
    /// Whether the TCP connection is lost; a writer that does not know it fills the socket's buffer.
    dead: bool,
    swallowed: usize,
}

impl Default for Flow {
    fn default() -> Self {
        Self {
            buffer: BytesMut::new(),
            admitted: 0,
            lost: 0,
            limit: UNSENT_LIMIT,
            was_full: false,
            fin: Fin::None,
            in_flight: 0,
            acks: VecDeque::new(),
            unacked: 0,
            unheard: 0,
            acked: 0,
            smoothed_rtt: Duration::ZERO,
            min_rtt: Duration::MAX,
            last_arrival: Time::ZERO,
            inbox: BytesMut::new(),
            end: None,
            waiting: false,
            clogged: false,
            credit: None,
            stuck_since: None,
            held: false,
            dead: false,
            swallowed: 0,
        }
    }
}

impl Flow {
    fn unadmitted(&self) -> usize {
        self.buffer.len() - self.admitted
    }

    fn unsent(&self) -> usize {
        self.unadmitted().saturating_sub(self.lost)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.buffer.is_empty()
    }

    pub(super) fn has_work(&self) -> bool {
        !self.dead && (self.unadmitted() > 0 || (self.fin == Fin::Wanted && self.buffer.is_empty()))
    }

    /// Whether this TCP connection alone is blocked.
    pub(super) fn is_dark(&self) -> bool {
        self.clogged || self.credit == Some(0)
    }

    pub(super) fn is_blocked(&self) -> bool {
        self.is_dark() || self.held
    }

    pub(super) fn is_writable(&self) -> bool {
        self.fin == Fin::None && self.unsent() + self.swallowed < self.limit
    }

    pub(super) fn write(&mut self, bytes: &[u8]) {
        if self.dead {
            self.swallowed += bytes.len();
        } else if self.fin == Fin::None {
            self.buffer.extend_from_slice(bytes);
            self.was_full = !self.is_writable();
        }
    }

    /// The next piece goes into the link's queue, if it fits into the receive window; its length.
    pub(super) fn admit(&mut self, most: usize) -> usize {
        let window = WINDOW.saturating_sub(self.in_flight + self.admitted + self.inbox.len());
        let len = most.min(self.unadmitted()).min(window).min(self.credit.unwrap_or(usize::MAX));
        self.admitted += len;
        self.lost = self.lost.saturating_sub(len);
        self.credit = self.credit.map(|credit| credit - len);
        len
    }

    /// Whether there is room again for a writer that had none.
    pub(super) fn became_writable(&mut self) -> bool {
        self.was_full && self.is_writable() && std::mem::take(&mut self.was_full)
    }

    pub(super) fn depart(&mut self, len: usize) -> BytesMut {
        self.admitted -= len;
        self.in_flight += len;
        self.buffer.split_to(len)
    }

    /// `len` bytes in the link's queue are lost.
    pub(super) fn lose(&mut self, now: Time, len: usize) {
        self.admitted -= len;
        self.lost += len;
        if len > 0 {
            self.stuck_since.get_or_insert(now);
        }
    }

    /// `len` bytes have arrived through the link.
    pub(super) fn land(&mut self, len: usize) {
        self.in_flight = self.in_flight.saturating_sub(len);
    }

    /// Whether the reader has something to look at.
    pub(super) fn deliver(&mut self, bytes: &[u8], is_unread: bool) -> bool {
        if bytes.is_empty() || is_unread || self.end.is_some() {
            return false;
        }
        self.inbox.extend_from_slice(bytes);
        true
    }

    /// The acknowledgment of `len` bytes that were sent at `sent` is on its way.
    pub(super) fn acknowledge(&mut self, at: Time, len: usize, sent: Time) {
        self.unacked += len;
        self.acks.push_back((at, len + std::mem::take(&mut self.unheard), sent));
    }

    /// That acknowledgment is lost; a later one will do.
    pub(super) fn lose_ack(&mut self, now: Time, len: usize) {
        self.unacked += len;
        self.unheard += len;
        self.stuck_since.get_or_insert(now);
    }

    /// Acknowledgments whose time has come count; when the last of them came.
    pub(super) fn take_acks(&mut self, now: Time) -> Option<Time> {
        let mut last = None;
        while let Some((at, len, sent)) = self.acks.front().copied().filter(|(at, ..)| *at <= now) {
            self.acks.pop_front();
            self.unacked -= len;
            self.acked += len as u64;
            self.measure(at - sent);
            last = Some(at);
        }
        last
    }

    /// A round trip took so long.
    pub(super) fn measure(&mut self, rtt: Duration) {
        self.smoothed_rtt = if self.smoothed_rtt.is_zero() { rtt } else { (self.smoothed_rtt * 7 + rtt) / 8 };
        self.min_rtt = self.min_rtt.min(rtt);
    }

    /// Bytes that were sent and are not known to have arrived.
    pub(super) fn outstanding(&self) -> usize {
        self.admitted + self.lost + self.in_flight + self.unacked + self.swallowed
    }

    /// How much was read, and whether the window opened by that.
    pub(super) fn read(&mut self, into: &mut BytesMut) -> (usize, bool) {
        let len = self.inbox.len();
        let was_full = self.in_flight + self.admitted + len >= WINDOW;
        if into.is_empty() {
            std::mem::swap(into, &mut self.inbox);
        } else {
            into.extend_from_slice(&self.inbox);
        }
        self.inbox.clear();
        (len, was_full)
    }

    pub(super) fn end_to_read(&self) -> Option<TcpEnd> {
        self.end.filter(|_| self.inbox.is_empty())
    }

    /// What is to be sent, or on its way, arrives nowhere.
    pub(super) fn hang_up(&mut self) {
        (self.dead, self.admitted, self.lost) = (true, 0, 0);
        self.buffer.clear();
    }
}
