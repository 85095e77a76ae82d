//! The start of a session: pairs are dialed one after the other with short delays (RFC 8305). The first that connects
//! gets a TLS handshake; if that does not progress, the next one does, too. The first complete handshake wins.

use tcpls_core::time::Time;

use super::pair::{Attempt, Failure, Live, Stage};
use super::{Action, Dialer, Keep, Phase};
use tcpls_core::wire::ids::ConnectionId;

impl Dialer {
    /// Decides what is due before there is a session.
    pub(super) fn race(&mut self, now: Time) {
        if !self.is_hopeful() {
            self.shake_hands(now);
        }
        if self.attempts().any(|attempt| matches!(attempt.stage, Stage::Handshaking { .. })) {
            self.dial_company(now);
        }
        while !self.is_hopeful() && self.next_start <= now {
            let Some(next) = self.untried() else { break };
            self.dial(now, next);
            self.next_start = now + self.options.stagger;
        }
        if self.attempts().next().is_none() && self.untried().is_none() {
            self.phase = Phase::Over;
            self.actions.push_back(Action::GiveUp);
        }
    }

    /// When the next pair is to be dialed.
    pub(super) fn start_deadline(&self) -> Option<Time> {
        let waits = !self.is_hopeful() && self.untried().is_some();
        waits.then_some(self.next_start)
    }

    fn attempts(&self) -> impl Iterator<Item = &Attempt> {
        self.pairs.iter().flat_map(|pair| &pair.attempts)
    }

    /// Whether a handshake is in progress that is not overdue.
    fn is_hopeful(&self) -> bool {
        self.attempts().any(|attempt| matches!(attempt.stage, Stage::Handshaking { overdue: false, .. }))
    }

    fn untried(&self) -> Option<usize> {
        self.pairs.iter().position(|pair| !pair.tried)
    }

    /// Starts TLS on the first TCP connection, if there is one.
    fn shake_hands(&mut self, now: Time) {
        let ready = self.pairs.iter_mut().flat_map(|pair| &mut pair.attempts);
        let first = ready.filter(|attempt| attempt.stage == Stage::Ready).min_by_key(|attempt| attempt.since);
        if let Some(attempt) = first {
            (attempt.stage, attempt.since) = (Stage::Handshaking { heard: 0, overdue: false }, now);
            self.actions.push_back(Action::Handshake { attempt: attempt.id });
        }
    }

    /// During the handshake, the pairs that will join connect and wait for tokens.
    fn dial_company(&mut self, now: Time) {
        if self.options.keep != Keep::Paths {
            return;
        }
        for index in 0..self.pairs.len() {
            let under_way = self.pairs.iter().filter(|pair| !pair.attempts.is_empty()).count();
            if under_way < self.target && !self.pairs[index].tried {
                self.dial(now, index);
            }
        }
    }

    /// The handshake on pair `index` is complete. Drops other handshakes; connected attempts continue with joins.
    pub(super) fn begin_keeping(&mut self, now: Time, index: usize, tcpls: bool) {
        self.phase = Phase::Running;
        self.pairs[index].live = Some(Live { tcp: ConnectionId::FIRST, since: now, silent: false });
        self.pairs[index].was_used = true;
        for index in 0..self.pairs.len() {
            let is_handshake = |attempt: &Attempt| matches!(attempt.stage, Stage::Handshaking { .. });
            let pair = &mut self.pairs[index];
            pair.next = now;
            if pair.attempts.iter().any(|attempt| is_handshake(attempt) && attempt.is_overdue()) {
                pair.note_failed_join(now, Failure::Silence, false, &mut self.rng);
                pair.zero_rtt = true; // it was no join that went wrong
            }
            self.abandon_where(index, is_handshake);
        }
        if !tcpls {
            self.end();
        }
    }
}
