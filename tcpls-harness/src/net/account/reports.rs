//! When a session reports to the account what it holds and has delivered: rarely, but never less memory than it has.
//! [`Told`] decides; it has no sockets, so that the simulator uses the same rules.

use std::time::Duration;

use tcpls_core::budget::{Budget, HolderId, Resource};
use tcpls_core::connection::{Connection, State};
use tcpls_core::time::Time;

use super::Place;

/// Memory of a session besides its state machine: its task, its timer, and what the runtime keeps of its sockets. Measured
/// with `tcpls-bench footprint`.
const BASE: u64 = 20 * 1024;
/// Memory of a TCP connection whose ClientHello has not come: its task, its buffer.
pub(crate) const PENDING_MEMORY: u64 = 8 * 1024;
/// Memory of a claim without what its socket has read.
pub(crate) const CLAIM_MEMORY: u64 = 8 * 1024;
/// Memory is reported in steps of this size, rounded up.
const STEP: u64 = 16 * 1024;
/// Deliveries are reported when they are as large as this, or as old as [`MAX_DELAY`].
const MIN_DELIVERED: u64 = 64 * 1024;
/// Up to this total, at which the account counts a session as used, every delivery is reported.
const FIRST_DELIVERED: u64 = 1024;
const MAX_DELAY: Duration = Duration::from_secs(1);

/// What a session has to report.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Report {
    memory: u64,
    descriptors: u64,
    delivered: u64,
    handshaking: bool,
    stranded: bool,
    authenticated: bool,
}

impl Report {
    /// Of a session with this many sockets, whose buffers hold `buffers` bytes.
    pub(crate) fn of(conn: &Connection, sockets: usize, buffers: usize) -> Self {
        let state = conn.state();
        Self {
            memory: BASE + (conn.memory() + buffers) as u64,
            descriptors: sockets as u64,
            delivered: conn.delivered(),
            // One with early data is reported to its application before the client has shown that it is there.
            handshaking: state != State::Closed && (state == State::Handshaking || !conn.is_confirmed()),
            stranded: matches!(state, State::Stranded { .. }),
            authenticated: conn.is_authenticated(),
        }
    }

    /// How much of a resource the session holds, as it is reported.
    #[cfg(feature = "sim")]
    pub(crate) fn held(&self, resource: Resource) -> u64 {
        match resource {
            Resource::Memory => self.memory.next_multiple_of(STEP),
            Resource::Descriptors => self.descriptors,
            Resource::Handshakes => u64::from(self.handshaking),
            Resource::Sessions => 1,
            // Pending TCP connections and claims are no sessions.
            _ => 0,
        }
    }

    /// Bytes delivered since the session began.
    #[cfg(feature = "sim")]
    pub(crate) fn delivered(&self) -> u64 {
        self.delivered
    }
}

/// What a session holds at its start.
pub(crate) const FIRST: [(Resource, u64); 4] =
    [(Resource::Sessions, 1), (Resource::Handshakes, 1), (Resource::Descriptors, 1), (Resource::Memory, BASE + STEP)];

/// A session's reports to the account of its listener.
pub(crate) struct Reports {
    place: Place,
    told: Told,
}

impl Reports {
    /// A session that has just begun its handshake.
    pub(crate) fn new(place: Place, now: Time) -> Self {
        Self { place, told: Told::new(now) }
    }

    /// Reports what has changed enough. `is_quiet`: nothing will change soon, so everything is reported.
    pub(crate) fn tell(&mut self, now: Time, report: Report, is_quiet: bool) {
        if let Some(next) = self.told.due(now, report, is_quiet) {
            self.place.report(|budget, id| self.told.tell(now, next, budget, id));
        }
    }
}

/// What the account knows of a session.
#[derive(Debug)]
pub(crate) struct Told {
    report: Report,
    /// When deliveries were reported last.
    at: Time,
}

impl Told {
    /// Of a session that has just begun its handshake.
    pub(crate) fn new(now: Time) -> Self {
        Self { report: Report::default(), at: now }
    }

    /// What is to be reported, if anything. `is_quiet`: nothing will change soon, so everything is.
    pub(crate) fn due(&self, now: Time, report: Report, is_quiet: bool) -> Option<Report> {
        due(&self.report, report, now.saturating_since(self.at), is_quiet)
    }

    /// Tells the account.
    pub(crate) fn tell(&mut self, now: Time, next: Report, budget: &mut Budget, id: HolderId) {
        let told = std::mem::replace(&mut self.report, next);
        budget.set_held(id, Resource::Memory, next.memory);
        budget.set_held(id, Resource::Descriptors, next.descriptors);
        budget.set_held(id, Resource::Handshakes, u64::from(next.handshaking));
        if next.authenticated && !told.authenticated {
            budget.set_authenticated(id);
        }
        let delivered = next.delivered.saturating_sub(told.delivered);
        if delivered > 0 {
            budget.add_delivered(now, id, delivered);
            self.at = now;
        }
        if next.stranded != told.stranded {
            budget.set_stranded(now, id, next.stranded);
        }
    }
}

/// What is to be reported, if anything; `since` the deliveries that were reported last.
fn due(told: &Report, mut report: Report, since: Duration, is_quiet: bool) -> Option<Report> {
    report.memory = report.memory.next_multiple_of(STEP);
    let shrank = report.memory <= told.memory / 2 || (is_quiet && report.memory < told.memory);
    if report.memory < told.memory && !shrank {
        report.memory = told.memory;
    }
    let delivered = report.delivered.saturating_sub(told.delivered);
    let is_first = told.delivered < FIRST_DELIVERED;
    if !(delivered >= MIN_DELIVERED || is_first || is_quiet || since >= MAX_DELAY) {
        report.delivered = told.delivered;
    }
    (report != *told).then_some(report)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KIB: u64 = 1024;

    fn report(memory: u64, delivered: u64) -> Report {
        Report { memory, delivered, descriptors: 1, ..Report::default() }
    }

    fn after(told: Report, next: Report, since_ms: u64, is_quiet: bool) -> Option<Report> {
        due(&told, next, Duration::from_millis(since_ms), is_quiet)
    }

    #[test]
    fn memory_that_grew_is_reported_at_once_and_rounded_up() {
        assert_eq!(after(report(48 * KIB, 0), report(48 * KIB + 1, 0), 0, false), Some(report(64 * KIB, 0)));
        assert_eq!(after(report(64 * KIB, 0), report(48 * KIB + 1, 0), 0, false), None);
    }

    #[test]
    fn memory_that_shrank_is_reported_when_half_is_left_or_the_session_is_quiet() {
        assert_eq!(after(report(64 * KIB, 0), report(33 * KIB, 0), 0, false), None);
        assert_eq!(after(report(64 * KIB, 0), report(32 * KIB, 0), 0, false), Some(report(32 * KIB, 0)));
        assert_eq!(after(report(64 * KIB, 0), report(33 * KIB, 0), 0, true), Some(report(48 * KIB, 0)));
    }

    #[test]
    fn the_first_kib_delivered_is_reported_at_once_and_more_when_large_or_late() {
        let (request, first, more) = (report(16 * KIB, 10), report(16 * KIB, 2000), report(16 * KIB, 9000));
        assert_eq!(after(report(16 * KIB, 0), request, 0, false), Some(request));
        assert_eq!(after(request, first, 0, false), Some(first));
        assert_eq!(after(first, more, 999, false), None);
        assert_eq!(after(first, more, 1000, false), Some(more));
        assert_eq!(after(first, more, 1, true), Some(more));
        assert_eq!(after(first, report(16 * KIB, 100_000), 1, false), Some(report(16 * KIB, 100_000)));
    }

    #[test]
    fn a_session_that_is_stranded_is_reported_at_once_without_its_deliveries() {
        let told = report(16 * KIB, 2000);
        let next = Report { stranded: true, ..report(16 * KIB, 4000) };
        assert_eq!(after(told, next, 0, false), Some(Report { stranded: true, ..told }));
    }
}
