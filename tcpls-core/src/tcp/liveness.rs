//! Signs of life of one TCP connection: what moved on it, what its kernel has heard, whether it is stalled, and what it is asked.

use core::time::Duration;

use super::life::Life;
use super::probes::Probes;
use super::silence::{Silence, TcpInfo};
use crate::time::Time;

/// When a TCP connection showed that it lives, and what is done to find out.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Liveness {
    /// When bytes last moved.
    life: Life,
    /// The reports of the TCP stack.
    silence: Silence,
    /// When it was asked for a sign of life.
    probes: Probes,
    /// When an authentic record arrived on it last.
    heard: Time,
    /// It is stalled.
    is_stalled: bool,
    /// When a stall began or ended last.
    judged: Time,
    /// The peer is still to be notified that it is stalled.
    owes_status: bool,
    /// A Ping is to go out on it.
    wants_ping: bool,
    /// When the peer made it a backup, as long as it was not probed for that.
    reported: Option<Time>,
}

impl Liveness {
    pub(super) fn new(now: Time) -> Self {
        Self {
            life: Life::new(now),
            silence: Silence::default(),
            probes: Probes::default(),
            heard: now,
            is_stalled: false,
            judged: Time::ZERO,
            owes_status: false,
            wants_ping: false,
            reported: None,
        }
    }

    // What happened.

    /// The driver's buffer had `before` bytes, of which `left` are the beginning of a record.
    pub(super) fn came(&mut self, now: Time, before: usize, left: usize) {
        self.life.came(now, before, left);
    }

    /// The socket took bytes.
    pub(super) fn wrote(&mut self, now: Time) {
        self.silence.wrote(now);
        self.life.took(now);
    }

    /// Whether the socket left data behind.
    pub(super) fn set_full(&mut self, now: Time, full: bool) {
        self.life.set_full(now, full);
    }

    /// An authentic record arrived.
    pub(crate) fn heard(&mut self, now: Time) {
        self.heard = now;
    }

    /// Stream data passed: the interval between probes starts anew.
    pub(super) fn carried_data(&mut self) {
        self.probes.forget();
    }

    /// Stores the report of the TCP stack.
    pub(crate) fn handle_tcp_info(&mut self, info: TcpInfo) {
        self.silence.update(info);
        self.life.acked(info.heard, info.acked);
    }

    /// Marks it as stalled: notifies the peer, and sends a Ping that the peer has to answer.
    pub(crate) fn stall(&mut self, now: Time) {
        (self.is_stalled, self.judged) = (true, now);
        self.owes_status = true;
        self.wants_ping = true;
    }

    /// Ends the stall; returns whether the peer was notified of it.
    pub(crate) fn resume(&mut self, now: Time) -> bool {
        (self.is_stalled, self.judged) = (false, now);
        self.silence.was_wrong(now);
        !core::mem::take(&mut self.owes_status)
    }

    /// The peer is notified that it is stalled.
    pub(crate) fn status_noted(&mut self) {
        self.owes_status = false;
    }

    /// Requests a Ping.
    pub(crate) fn ask(&mut self) {
        self.wants_ping = true;
    }

    /// The peer makes it a backup, or no longer: it may receive nothing on it.
    pub(super) fn handle_status(&mut self, now: Time, backup: bool) {
        self.reported = backup.then_some(now);
    }

    /// Requests a Ping because it was quiet, or the peer made it a backup.
    pub(crate) fn probe(&mut self, now: Time) {
        self.wants_ping = true;
        if self.reported.take().is_none() {
            self.probes.note(now);
        }
    }

    /// Cancels the Ping: the peer does not know the frame.
    pub(crate) fn ask_nothing(&mut self) {
        self.wants_ping = false;
    }

    /// Takes the pending Ping, if there is one.
    pub(crate) fn take_ping(&mut self) -> bool {
        core::mem::take(&mut self.wants_ping)
    }

    // What is known.

    pub(crate) fn is_stalled(&self) -> bool {
        self.is_stalled
    }

    /// When it became stalled or resumed last.
    pub(crate) fn judged_at(&self) -> Time {
        self.judged
    }

    pub(crate) fn owes_status(&self) -> bool {
        self.owes_status
    }

    pub(crate) fn wants_ping(&self) -> bool {
        self.wants_ping
    }

    /// When the peer made it a backup, as long as it was not probed for that.
    pub(crate) fn reported_at(&self) -> Option<Time> {
        self.reported
    }

    /// When an authentic record arrived last.
    pub(crate) fn heard_at(&self) -> Time {
        self.heard
    }

    /// See [`Life::progressed`].
    pub(crate) fn progressed(&self) -> Time {
        self.life.progressed()
    }

    /// When bytes moved, in either direction: those that arrived, or were acknowledged by the peer's kernel.
    pub(crate) fn moved(&self) -> Time {
        self.life.moved()
    }

    /// The same, and what the socket took.
    pub(crate) fn moved_or_taken(&self) -> Time {
        self.life.moved_or_taken()
    }

    /// The longest recent pause within a record.
    pub(crate) fn gap(&self) -> Duration {
        self.life.gap()
    }

    /// When the peer's kernel acknowledged something last.
    pub(crate) fn acked_at(&self) -> Time {
        self.life.acked_at()
    }

    /// When bytes arrived last, if they are the beginning of a record.
    pub(crate) fn partial_at(&self) -> Option<Time> {
        self.life.partial_at()
    }

    /// Since when data waits and the socket takes none of it.
    pub(crate) fn stuck_since(&self) -> Option<Time> {
        self.life.stuck_since()
    }

    /// Returns when the TCP connection stalls without a segment, if one is due and a segment takes `segment`.
    #[inline] // nothing is owed, as nearly always
    pub(crate) fn silence_deadline(&self, segment: impl FnOnce() -> Duration) -> Option<Time> {
        if self.silence.is_owed() { self.silence.deadline(segment()) } else { None }
    }

    /// The kernel's round-trip time.
    pub(crate) fn kernel_rtt(&self) -> Option<Duration> {
        self.silence.rtt()
    }

    /// The kernel's least round-trip time.
    pub(super) fn kernel_min_rtt(&self) -> Option<Duration> {
        self.silence.min_rtt()
    }

    /// Returns when to send the next probe: see [`Probes::next`].
    pub(crate) fn next_probe(&self, first: Duration, longest: Duration) -> Time {
        self.probes.next(self.heard, first, longest)
    }
}
