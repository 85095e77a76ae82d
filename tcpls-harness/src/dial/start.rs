//! The start of a session: pairs are dialed one after the other with short delays (RFC 8305). The first that connects
//! gets a TLS handshake; if that does not progress, the next one does, too. The first complete handshake wins.

use std::time::Duration;

use tcpls_core::time::Time;

use super::keep::ALTERNATIVE_DELAY;
use super::pair::{Attempt, Failure, Live, Pair, Stage};
use super::{Action, Dialer, Keep, Phase};
use tcpls_core::wire::ids::ConnectionId;

/// How long metered pairs wait for the others at the start, unless those have failed.
const METERED_DELAY: Duration = Duration::from_secs(1);

impl Dialer {
    /// Decides what is due before there is a session.
    pub(super) fn race(&mut self, now: Time) {
        if !self.is_hopeful() {
            self.shake_hands(now);
        }
        if self.attempts().any(|attempt| matches!(attempt.stage, Stage::Handshaking { .. })) {
            self.dial_company(now);
        }
        while !self.is_hopeful() {
            let Some(next) = self.untried().filter(|next| self.start_of(*next) <= now) else { break };
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
        self.untried().filter(|_| !self.is_hopeful()).map(|next| self.start_of(next))
    }

    /// When this pair is to be dialed.
    fn start_of(&self, index: usize) -> Time {
        let others = self.pairs.iter().filter(|pair| !pair.is_metered && !pair.attempts.is_empty());
        let last = others.filter_map(|pair| pair.last_dial).max().filter(|_| self.pairs[index].is_metered);
        last.map_or(self.next_start, |last| self.next_start.max(last + METERED_DELAY))
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
        let is_under_way = |pair: &&Pair| !pair.attempts.is_empty();
        for index in 0..self.pairs.len() {
            let pair = &self.pairs[index];
            let share = self.local_of(pair).map_or(self.target, |(_, share)| share);
            let has_room = self.pairs.iter().filter(is_under_way).count() < self.target
                && self.rivals(pair).filter(is_under_way).count() < share;
            let is_spared = pair.is_metered && self.pairs.iter().any(|pair| !pair.is_metered && is_under_way(&pair));
            if has_room && !is_spared && !pair.tried {
                self.dial(now, index);
            }
        }
    }

    /// The handshake on pair `index` is complete. Drops other handshakes; connected attempts continue with joins.
    pub(super) fn begin_keeping(&mut self, now: Time, index: usize, tcpls: bool) {
        self.phase = Phase::Running;
        self.next_start = now + ALTERNATIVE_DELAY;
        self.pairs[index].live = Some(Live::new(ConnectionId::FIRST, now, false));
        (self.pairs[index].was_used, self.pairs[index].is_origin) = (true, true);
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
