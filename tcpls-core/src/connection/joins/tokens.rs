//! The session's tokens: which the server has issued and which the client holds (draft, 4.2.1 and 5.2.5).
//!
//! A token's sequence number becomes the connection ID of the TCP connection that joins with it. A repeated number
//! would repeat nonces: numbers only grow, and each works once.

mod few;

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use self::few::Few;
use crate::error::Violation;
use crate::token::TokenSecret;
use crate::wire::ids::{ConnectionId, SessionId, Token};

/// Tokens that a client stores; more are a violation by the server.
pub(super) const MAX_STORED: usize = 16;
/// Used tokens whose value a client remembers to detect conflicts. Of older ones it knows only that they are used.
const MAX_REMEMBERED: usize = 64;
/// Missing numbers that a client remembers: their tokens may arrive late, over a slow TCP connection.
const MAX_MISSING: usize = 64;

/// Server: issued tokens. Their values are computed from the secret, never stored.
pub(super) struct Issued {
    secret: Arc<TokenSecret>,
    session: SessionId,
    next: u32,
    outstanding: BTreeSet<u32>,
}

impl Issued {
    pub(super) fn new(secret: Arc<TokenSecret>, session: SessionId) -> Self {
        Self { secret, session, next: 1, outstanding: BTreeSet::new() }
    }

    pub(super) fn session(&self) -> SessionId {
        self.session
    }

    /// Issues one more token, whose number is at most `last`. `None` once all are used up: they never wrap.
    pub(super) fn issue(&mut self, last: u32) -> Option<u32> {
        let sequence = self.next;
        self.next = sequence.checked_add(1).filter(|_| sequence <= last)?;
        self.outstanding.insert(sequence);
        Some(sequence)
    }

    pub(super) fn value(&self, sequence: u32) -> Token {
        self.secret.seal(self.session, sequence)
    }

    /// Whether a join may still use it.
    pub(super) fn is_outstanding(&self, sequence: u32) -> bool {
        self.outstanding.contains(&sequence)
    }

    /// Makes a token unusable.
    // draft I11
    pub(super) fn burn(&mut self, sequence: u32) {
        self.outstanding.remove(&sequence);
    }

    pub(super) fn count(&self) -> usize {
        self.outstanding.len()
    }

    /// Whether `tcp` could name a TCP connection of this session: its token was issued.
    pub(super) fn was_issued(&self, tcp: ConnectionId) -> bool {
        tcp.0 < self.next
    }
}

/// Client: unused and used tokens.
#[derive(Default)]
pub(super) struct Held {
    unused: Few,
    used: Few,
    /// Tokens of failed joins whose sockets the driver may still hold.
    returning: Few,
    /// Tokens of failed joins whose sockets are closed, the least recently used first: used when no other token is
    /// left.
    spare: VecDeque<(u32, Token)>,
    /// All numbers up to this one are used or dropped, except those in `missing`.
    forgotten: u32,
    missing: BTreeSet<u32>,
}

impl Held {
    /// Stores a token; returns whether it is new.
    pub(super) fn insert(&mut self, sequence: u32, token: Token) -> Result<bool, Violation> {
        if sequence == 0 {
            return Err(Violation::ConflictingToken(0));
        }
        if let Some(known) = self.unused.get(sequence).or_else(|| self.used.get(sequence)) {
            return if known == token { Ok(false) } else { Err(Violation::ConflictingToken(sequence)) };
        }
        if sequence <= self.forgotten && !self.missing.contains(&sequence) {
            return Ok(false);
        }
        if self.unused.len() >= MAX_STORED {
            return Err(Violation::TooManyTokens);
        }
        self.missing.remove(&sequence);
        self.unused.insert(sequence, token);
        Ok(true)
    }

    /// Spends the token with the lowest number; a returned one only if there is no other.
    // draft I11, I15
    pub(super) fn spend(&mut self) -> Option<(ConnectionId, Token)> {
        let (sequence, token) = self.unused.pop_first().or_else(|| self.spare.pop_front())?;
        self.used.insert(sequence, token);
        if self.used.len() > MAX_REMEMBERED
            && let Some((oldest, _)) = self.used.pop_first()
        {
            self.forget_up_to(oldest);
        }
        Some((ConnectionId(sequence), token))
    }

    /// Drops all numbers up to `oldest`, except the newest missing ones.
    fn forget_up_to(&mut self, oldest: u32) {
        let newest_few = oldest.saturating_sub(MAX_MISSING as u32).max(self.forgotten) + 1..oldest;
        self.missing.extend(newest_few.filter(|number| !self.unused.contains(*number)));
        while self.missing.len() > MAX_MISSING {
            self.missing.pop_first();
        }
        self.forgotten = self.forgotten.max(oldest);
    }

    /// The join with this token failed, and no record was sealed under its number: it can be used again after
    /// [`Held::release`].
    pub(super) fn give_back(&mut self, sequence: u32) {
        if let Some(token) = self.used.get(sequence) {
            self.returning.insert(sequence, token);
        }
    }

    /// The driver has dropped the socket of the join with `sequence`.
    pub(super) fn release(&mut self, sequence: u32) {
        if let Some(token) = self.returning.remove(sequence) {
            self.spare.push_back((sequence, token));
        }
        while self.spare.len() > MAX_STORED {
            self.spare.pop_front();
        }
    }

    /// Drops the returned tokens; returns their numbers.
    pub(super) fn drop_spare(&mut self) -> Vec<u32> {
        let spare = self.spare.drain(..).map(|(sequence, _)| sequence);
        spare.chain(core::mem::take(&mut self.returning).into_numbers()).collect()
    }

    /// The number of joins that can be expected to work. Returned tokens may have reached the server, which has burned
    /// them then. So they do not count while there are fresh ones, and count as one join otherwise.
    pub(super) fn count(&self) -> usize {
        let has_returned = !self.spare.is_empty() || !self.returning.is_empty();
        self.unused.len().max(usize::from(has_returned))
    }

    /// Whether `tcp` identifies a TCP connection that this endpoint has opened.
    pub(super) fn was_used(&self, tcp: ConnectionId) -> bool {
        let forgotten = tcp.0 <= self.forgotten && !self.missing.contains(&tcp.0) && !self.unused.contains(tcp.0);
        tcp == ConnectionId::FIRST || forgotten || self.used.contains(tcp.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_start_at_one_grow_and_work_once() {
        let mut issued = Issued::new(Arc::new(TokenSecret::new([7; 32])), SessionId([1; 12]));
        assert_eq!((issued.issue(u32::MAX), issued.issue(u32::MAX)), (Some(1), Some(2)));
        assert!(issued.is_outstanding(1) && !issued.is_outstanding(3) && !issued.is_outstanding(0));
        issued.burn(1);
        assert!(!issued.is_outstanding(1));
        assert!(issued.was_issued(ConnectionId(2)) && !issued.was_issued(ConnectionId(3)));
        issued.next = u32::MAX;
        assert_eq!(issued.issue(u32::MAX), None, "numbers never wrap");
        issued.next = 255;
        assert_eq!((issued.issue(255), issued.issue(255)), (Some(255), None), "the draft's frame has 8 bits");
    }

    #[test]
    fn repeated_token_is_ignored_and_conflicting_token_is_an_error() {
        let mut held = Held::default();
        assert_eq!(held.insert(1, Token([1; 32])), Ok(true));
        assert_eq!(held.insert(1, Token([1; 32])), Ok(false));
        assert_eq!(held.insert(1, Token([2; 32])), Err(Violation::ConflictingToken(1)));
        assert_eq!(held.insert(0, Token([2; 32])), Err(Violation::ConflictingToken(0)));
        assert_eq!(held.spend().map(|(tcp, _)| tcp), Some(ConnectionId(1)));
        assert_eq!(held.insert(1, Token([1; 32])), Ok(false), "a used one does not come back");
        assert_eq!(held.insert(1, Token([3; 32])), Err(Violation::ConflictingToken(1)));
        assert_eq!(held.count(), 0);
    }

    #[test]
    fn a_client_stores_sixteen_tokens_and_not_one_more() {
        let mut held = Held::default();
        for sequence in 1..=16 {
            assert_eq!(held.insert(sequence, Token([0; 32])), Ok(true));
        }
        assert_eq!(held.insert(17, Token([0; 32])), Err(Violation::TooManyTokens));
    }

    #[test]
    fn late_token_is_stored_although_many_later_ones_were_used() {
        let mut held = Held::default();
        for sequence in (1..=200).filter(|sequence| *sequence != 100) {
            held.insert(sequence, Token([0; 32])).unwrap();
            held.spend().unwrap();
        }
        assert!(!held.was_used(ConnectionId(100)));
        assert_eq!(held.insert(100, Token([1; 32])), Ok(true));
        assert!(!held.was_used(ConnectionId(100)));
        assert_eq!(held.spend(), Some((ConnectionId(100), Token([1; 32]))));
        assert!(held.was_used(ConnectionId(100)));
        assert_eq!(held.insert(100, Token([1; 32])), Ok(false), "it works once");
    }

    #[test]
    fn returned_token_is_used_after_all_fresh_ones_once_its_socket_is_discarded() {
        let mut held = Held::default();
        held.insert(1, Token([1; 32])).unwrap();
        held.insert(2, Token([2; 32])).unwrap();
        held.spend().unwrap();
        held.give_back(1);
        assert_eq!(held.count(), 1, "the fresh one: the server may have burned the other");
        assert_eq!(held.spend(), Some((ConnectionId(2), Token([2; 32]))));
        assert_eq!((held.spend(), held.count()), (None, 1), "its socket may still be there");
        held.release(1);
        assert_eq!(held.spend(), Some((ConnectionId(1), Token([1; 32]))));
        assert_eq!((held.spend(), held.count()), (None, 0));
        held.give_back(1);
        held.give_back(2);
        held.release(2);
        assert_eq!(held.drop_spare(), [2, 1]);
        held.release(1);
        assert_eq!((held.spend(), held.count()), (None, 0));
        assert!(held.was_used(ConnectionId(1)) && held.was_used(ConnectionId(2)));
    }

    #[test]
    fn a_server_that_leaves_numbers_out_costs_a_client_no_memory() {
        let mut held = Held::default();
        for n in 1..=1000 {
            held.insert(n * 1_000_000, Token([0; 32])).unwrap();
            held.spend().unwrap();
        }
        assert!(held.missing.len() <= MAX_MISSING && held.used.len() <= MAX_REMEMBERED);
    }

    #[test]
    fn the_memory_of_used_tokens_is_bounded_and_old_numbers_stay_used() {
        let mut held = Held::default();
        for sequence in 1..=1000 {
            held.insert(sequence, Token([0; 32])).unwrap();
            held.spend().unwrap();
        }
        assert!(held.used.len() <= MAX_REMEMBERED);
        assert_eq!(held.insert(5, Token([9; 32])), Ok(false));
        assert!((1..=1000).all(|number| held.was_used(ConnectionId(number))));
        assert!(!held.was_used(ConnectionId(1001)));
    }
}
