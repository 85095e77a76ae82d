//! Keeps TCP connections during a session: dials and joins wanted pairs, and replaces lost and stalled TCP connections.
//! A dial is *urgent* while no TCP connection answers.
//!
//! Each join costs a token, and a server that does not receive the join issues no new one. So the last token is
//! reserved for urgent joins, and then for pairs that have not dropped or refused a join, if there are any. It is used
//! without 0-RTT data, so that it can be used again if the TCP connection is closed before any answer.

use std::net::SocketAddr;
use std::time::Duration;

use tcpls_core::connection::{JoinOptions, TcpEnd};
use tcpls_core::error::TcpFault;
use tcpls_core::time::Time;
use tcpls_core::wire::ids::ConnectionId;

use super::pair::{Attempt, Failure, GRACE, Haste, Link, Live, Pair, Purpose, Stage};
use super::{Action, Dialer, Keep, Local, Path};

/// The longest wait before another TCP connection replaces a stalled one; one that has answered for this time has
/// lasted.
const MAX_PATIENCE: Duration = Duration::from_secs(8);
/// How long the last token waits for a pair without failed joins. If there is none it also waits, because a later TCP
/// connection leaves more of the server's time limit for the join.
pub(super) const LAST_RESORT: Duration = Duration::from_secs(5);
/// The shortest time before an alternative is dialed beside the pairs before it.
pub(super) const ALTERNATIVE_DELAY: Duration = Duration::from_millis(250);
/// A session without unsent data, and without delivery for this time, is quiet.
const QUIET: Duration = Duration::from_secs(2);

impl Dialer {
    /// Decides what is due for an open session.
    pub(super) fn keep(&mut self, now: Time) {
        self.note_urgency(now);
        self.consider_asking(now);
        self.note_traffic(now);
        self.close_cut(now);
        self.divide_groups(now);
        // Each step may enable others; tokens and delays bound their number.
        let mut before = usize::MAX;
        while before != self.actions.len() {
            before = self.actions.len();
            self.keep_pairs(now);
        }
        self.keep_lanes(now);
    }

    fn keep_pairs(&mut self, now: Time) {
        for index in 0..self.pairs.len() {
            if self.urgent_since.is_none() {
                self.give_up_overdue(now, index, |attempt| !attempt.is_wanted());
            }
            if !self.wants(index) {
                self.abandon_where(index, Attempt::is_idle);
            } else if self.pairs[index].ready().is_some() && self.has_token(&self.pairs[index]) {
                self.join(now, index);
            } else if self.dial_deadline(index).is_some_and(|at| at <= now) {
                self.redial(now, index);
            }
        }
    }

    /// Returns when a decision changes by time alone.
    pub(super) fn keep_deadline(&self) -> Option<Time> {
        let dials = (0..self.pairs.len()).filter_map(|index| self.dial_deadline(index));
        let last_resorts = self.urgent_since.map(|since| since + LAST_RESORT).into_iter().chain(self.refused_resort());
        let is_full = self.view.tcp_connections >= self.view.limit;
        let displacement = self.displacement_deadline().filter(|at| is_full && *at > self.advanced);
        let last_resorts = last_resorts.filter(|at| self.view.tokens == 1 && *at > self.advanced);
        let returns = self.groups_deadline();
        dials.chain(displacement).chain(last_resorts).chain(self.cut_deadline()).chain(returns).min()
    }

    /// Whether this pair should have a TCP connection, and has none, not even a joining one.
    fn wants(&self, index: usize) -> bool {
        let pair = &self.pairs[index];
        let is_unfit = pair.withdrawn
            || (self.is_barred(pair) && !self.may_ask(pair))
            || pair.is_cut
            || (pair.is_metered && self.spares_metered());
        !(is_unfit || pair.is_taken())
            && self.has_room(pair)
            && match self.options.keep {
                Keep::Nothing => false,
                Keep::Session => self.is_stranded(),
                Keep::Paths => {
                    !self.can_wait(pair) && (self.is_stranded() || (!pair.parked && self.missing_for(pair) > 0))
                }
            }
    }

    /// Whether a path answers that is not metered.
    fn spares_metered(&self) -> bool {
        self.pairs.iter().any(|pair| pair.answers() && !pair.is_metered)
    }

    /// Without a stream the session needs only one TCP connection that answers, or is joining. Others that were lost
    /// are replaced when there is a stream; otherwise middleboxes that cut idle TCP connections would cause endless
    /// joins.
    fn can_wait(&self, pair: &Pair) -> bool {
        let is_idle = self.view.streams == 0 && !self.view.has_data;
        is_idle && pair.was_used && self.pairs.iter().any(Pair::is_taken)
    }

    /// Whether more TCP connections are useful now.
    fn is_busy(&self) -> bool {
        self.view.has_data || (self.view.streams > 0 && self.moved.0 + QUIET > self.advanced)
    }

    /// How eagerly to dial.
    fn haste(&self) -> Haste {
        match self.urgent_since {
            Some(_) if self.view.streams > 0 || self.view.has_data => Haste::Urgent,
            Some(_) => Haste::Stranded,
            None if self.is_busy() => Haste::Busy,
            None => Haste::Quiet,
        }
    }

    /// Whether one more TCP connection may be opened: beyond the limit, the server retires another for it. While none
    /// answers, the wait before this doubles, because each may only be slow, and its data starts again on the next.
    fn has_room(&self, pair: &Pair) -> bool {
        let may_displace = match self.displacement_deadline() {
            Some(deadline) => deadline <= self.advanced,
            None => pair.live.is_some(),
        };
        self.view.tcp_connections < self.view.limit || may_displace
    }

    fn displacement_deadline(&self) -> Option<Time> {
        self.urgent_since.map(|since| since + self.patience)
    }

    /// Returns how many more TCP connections there should be.
    fn missing(&self) -> usize {
        self.target.saturating_sub(self.pairs.iter().filter(|pair| pair.is_taken()).count())
    }

    /// The same for TCP connections from the local end of `pair`. Those on metered paths take no place of others.
    fn missing_for(&self, pair: &Pair) -> usize {
        let counts = |other: &&Pair| other.is_taken() && (pair.is_metered || !other.is_metered);
        let missing = self.target.saturating_sub(self.pairs.iter().filter(counts).count());
        match self.local_of(pair) {
            Some((_, share)) => {
                missing.min(share.saturating_sub(self.rivals(pair).filter(|pair| pair.is_taken()).count()))
            }
            None => missing,
        }
    }

    pub(super) fn local_of(&self, pair: &Pair) -> Option<(Local, usize)> {
        self.locals.iter().find(|(local, _)| local.is_of(&pair.path)).copied()
    }

    /// The pairs that a share of TCP connections is for: those from the same local end, or all if none was given.
    pub(super) fn rivals(&self, pair: &Pair) -> impl Iterator<Item = &Pair> {
        let local = self.local_of(pair);
        self.pairs.iter().filter(move |other| local.is_none_or(|(local, _)| local.is_of(&other.path)))
    }

    fn is_stranded(&self) -> bool {
        self.pairs.iter().all(|pair| pair.live.is_none_or(|live| live.link != Link::Up))
    }

    /// Returns when a wanted pair is to be dialed. Alternatives wait a short time for the pairs before them.
    fn dial_deadline(&self, index: usize) -> Option<Time> {
        let pair = &self.pairs[index];
        let in_vain = pair.unused && !self.has_token(pair);
        if !self.wants(index) || pair.ready().is_some() || in_vain {
            return None;
        }
        let tries = |pair: &&Pair| pair.attempts.iter().any(Attempt::is_idle);
        let stands_back = self.urgent_since.is_none()
            && !tries(&pair)
            && self.rivals(pair).filter(tries).count() >= self.missing_for(pair);
        let next = if self.is_barred(pair) { self.ask_at.map_or(pair.next, |at| pair.next.max(at)) } else { pair.next };
        Some(if stands_back { next.max(self.next_start) } else { next })
    }

    fn redial(&mut self, now: Time, index: usize) {
        if !self.pairs[index].attempts.iter().any(Attempt::is_idle) {
            self.next_start = now + self.options.stagger.max(ALTERNATIVE_DELAY);
        }
        let haste = self.haste();
        if self.urgent_since.is_none() {
            self.abandon_where(index, |attempt| attempt.stage == Stage::Connecting); // one at a time
        }
        self.dial(now, index);
        let pair = &mut self.pairs[index];
        pair.pause(now, haste, &self.options, &mut self.rng);
        // On a slow path SYNs would delay the expected answer.
        pair.next = pair.next.max(now + self.view.join_time);
    }

    /// Whether the pair may have a token now.
    pub(super) fn has_token(&self, pair: &Pair) -> bool {
        let is_trusted = |pair: &Pair| {
            pair.doubts == 0
                && !pair.withdrawn
                && !self.is_barred(pair)
                && !pair.attempts.iter().any(Attempt::is_overdue)
        };
        match (self.view.tokens, self.urgent_since) {
            (0, _) => false,
            (1, None) => self.most_tokens <= 1, // a server that gives one at a time has one more soon
            (1, Some(_)) if pair.is_refused && self.pairs.iter().any(is_trusted) => {
                self.refused_resort().is_some_and(|at| at <= self.advanced)
            }
            (1, Some(since)) => {
                let only_chance = self.most_tokens <= 2 && !self.pairs.iter().any(is_trusted);
                is_trusted(pair) || only_chance || since + LAST_RESORT <= self.advanced
            }
            _ => true,
        }
    }

    /// Returns when the last token may be used on a pair that refuses joins, although another pair may work: shortly
    /// before the session ends.
    fn refused_resort(&self) -> Option<Time> {
        self.view.until.map(|until| Time::ZERO + until.saturating_since(Time::ZERO + LAST_RESORT))
    }

    fn join(&mut self, now: Time, index: usize) {
        self.give_up_overdue(now, index, |_| true);
        let purpose = if self.is_barred(&self.pairs[index]) { Purpose::Question } else { Purpose::Keep };
        let pair = &mut self.pairs[index];
        let Some(at) = pair.ready() else { return };
        // If nothing was sealed under its number, the last token can be used again.
        let is_last = self.urgent_since.is_some() && self.view.tokens == 1;
        let zero_rtt = self.options.zero_rtt && pair.sends_early() && !is_last && purpose != Purpose::Question;
        let backup = pair.joins_as_backup();
        let attempt = &mut pair.attempts[at];
        (attempt.stage, attempt.since) = (Stage::Joining { tcp: None, overdue: false, backup, purpose }, now);
        let options = JoinOptions::default().with(|join| (join.zero_rtt, join.backup) = (zero_rtt, backup));
        self.actions.push_back(Action::Join { attempt: attempt.id, options });
        if self.urgent_since.is_some() && self.view.tcp_connections >= self.view.limit {
            self.patience = (self.patience * 2).min(MAX_PATIENCE);
        }
        self.view.tokens -= 1;
        self.view.tcp_connections += 1;
    }

    /// Gives up those of the joins without an answer, whose data others can carry.
    fn give_up_overdue(&mut self, now: Time, index: usize, those: impl Fn(&Attempt) -> bool) {
        let urgent = self.urgent_since.is_some();
        let pair = &mut self.pairs[index];
        let overdue = pair.attempts.extract_if(.., |attempt| attempt.is_overdue() && those(attempt));
        let overdue: Vec<Attempt> = overdue.collect();
        for attempt in overdue {
            pair.note_failed_join(now, Failure::Silence, urgent, &mut self.rng);
            if let Stage::Joining { tcp: Some(tcp), .. } = attempt.stage {
                self.actions.push_back(Action::Reset { tcp, why: TcpEnd::JoinTimeout });
            }
        }
    }

    fn note_urgency(&mut self, now: Time) {
        if self.pairs.iter().any(Pair::answers) {
            self.urgent_since = None;
        } else if self.urgent_since.is_none() {
            self.urgent_since = Some(now);
            let in_grace =
                |pair: &Pair| pair.live.is_some() && pair.away_since.is_some_and(|since| now < since + pair.grace);
            self.pairs.iter_mut().filter(|pair| !in_grace(pair)).for_each(|pair| pair.hurry(now));
        }
    }

    /// Dials postponed pairs as soon as there is data to send or receive.
    fn note_traffic(&mut self, now: Time) {
        if self.view.delivered != self.moved.1 {
            self.moved = (now, self.view.delivered);
        }
        let is_busy = self.is_busy();
        if is_busy && !self.was_busy {
            self.pairs.iter_mut().for_each(|pair| pair.note_work(now));
        }
        self.was_busy = is_busy;
    }

    /// A join succeeded: cancels other attempts on its pair.
    pub(super) fn note_joined(&mut self, now: Time, tcp: ConnectionId) {
        let Some(index) = self.pairs.iter().position(|pair| joining(pair, tcp).is_some()) else { return };
        let pair = &mut self.pairs[index];
        let joins_as_backup = |attempt: &Attempt| matches!(attempt.stage, Stage::Joining { backup: true, .. });
        let backup = joining(pair, tcp).is_some_and(joins_as_backup);
        pair.attempts.retain(|attempt| !is_join_of(attempt, tcp));
        let before = pair.live.replace(Live::new(tcp, now, backup));
        if before.is_some() {
            // It was replaced but may only have been slow; then the next one needs more time.
            pair.grace = (pair.grace * 2).min(MAX_PATIENCE);
        }
        pair.note_success();
        self.actions.extend(before.map(|live| Action::Retire { tcp: live.tcp }));
        self.abandon_where(index, Attempt::is_idle);
    }

    pub(super) fn note_silence(&mut self, now: Time, tcp: ConnectionId, silent: bool) {
        let is_only = !self.pairs.iter().any(|pair| pair.answers() && !pair.is_on(tcp));
        let Some(pair) = self.pairs.iter_mut().find(|pair| pair.is_on(tcp)) else { return };
        let has_lasted = |live: &Live| now - live.since >= MAX_PATIENCE;
        if silent && pair.live.as_ref().is_some_and(has_lasted) {
            (self.patience, pair.grace) = (GRACE, GRACE);
        }
        if let Some(live) = &mut pair.live {
            if live.silent && !silent {
                live.answers_since = now;
            }
            live.silent = silent;
            live.link = if silent { live.link } else { Link::Up };
        }
        let is_known = pair.live.is_some_and(|live| live.link != Link::Up);
        // The session does not probe a backup: it may have failed long ago.
        let is_untested = is_only && pair.grace == GRACE && pair.live.is_some_and(|live| live.backup);
        pair.away_since = silent.then_some(now);
        pair.next = if is_known || is_untested { now } else { now + pair.grace };
    }

    pub(super) fn note_lost(&mut self, now: Time, tcp: ConnectionId, fault: TcpFault) {
        let urgent = !self.pairs.iter().any(|pair| pair.answers() && !pair.is_on(tcp));
        for pair in &mut self.pairs {
            if joining(pair, tcp).is_some() {
                pair.attempts.retain(|attempt| !is_join_of(attempt, tcp));
                pair.note_failed_join(now, fault.into(), urgent, &mut self.rng);
            }
            let Some(lost) = pair.live.take_if(|live| live.tcp == tcp) else { continue };
            if fault.was_meant() {
                pair.parked = true;
                self.target = (self.target - 1).max(1);
                let local = self.locals.iter_mut().find(|(local, _)| local.is_of(&pair.path));
                local.into_iter().for_each(|(_, share)| *share = share.saturating_sub(1));
            } else {
                pair.note_loss(now, lost, &mut self.rng);
            }
        }
    }

    pub(super) fn set_withdrawn(&mut self, address: SocketAddr, withdrawn: bool) {
        let pairs = self.pairs.iter_mut().filter(|pair| pair.path.remote == address);
        pairs.for_each(|pair| pair.withdrawn = withdrawn);
    }

    /// Returns the pair for one more TCP connection of the application: a known unused one, or a new one.
    pub(super) fn enlist(&mut self, now: Time, path: Path) -> usize {
        let spare = self.missing() == 0;
        let is_free = |pair: &Pair| pair.path == path && pair.live.is_none() && !pair.is_joining();
        let known = self.pairs.iter().position(is_free);
        let index = known.unwrap_or(self.pairs.len());
        if known.is_none() {
            self.pairs.reserve_exact(1);
            self.pairs.push(self.pair(path, now));
        }
        let parked = std::mem::take(&mut self.pairs[index].parked);
        if known.is_none() || parked || spare {
            self.target += 1;
            let local = self.locals.iter_mut().find(|(local, _)| local.is_of(&path));
            local.into_iter().for_each(|(_, share)| *share += 1);
        }
        self.pairs[index].next = now;
        self.pairs[index].was_used = false; // it is wanted now, with or without a stream
        index
    }
}

fn is_join_of(attempt: &Attempt, tcp: ConnectionId) -> bool {
    matches!(attempt.stage, Stage::Joining { tcp: Some(other), .. } if other == tcp)
}

fn joining(pair: &Pair, tcp: ConnectionId) -> Option<&Attempt> {
    pair.attempts.iter().find(|attempt| is_join_of(attempt, tcp))
}
