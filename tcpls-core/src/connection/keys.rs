//! The session's keys: one chain of generations per direction, shared by all TCP connections. Each TCP connection steps
//! through it separately.
//!
//! Every record of the session gets a nonce of its own because connection ID and sequence number are part of it
//! (draft, 4.3); the AEAD limits are counted over all TCP connections, because they share the key.

use std::collections::VecDeque;

use crate::crypto::limits::{OpenBudget, SealBudget};
use crate::crypto::nonce::nonce;
use crate::crypto::{Handshake, KeySchedule, OpenKeys, SealKeys, TAG_LEN};
use crate::error::HandshakeError;
use crate::tcp::KeyPosition;
use crate::wire::ids::{ConnectionId, Token};

/// Generations that are kept at the same time: the previous, the current and the next one, and one more for a slow TCP
/// connection. A peer that needs more has not waited for its key updates to arrive.
const MAX_GENERATIONS: usize = 4;

/// Why a record could not be opened or sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum KeyError {
    /// It failed to decrypt.
    BadRecord,
    /// The limit on records that failed to decrypt is reached: the keys must not be used any more.
    IntegrityLimit,
    /// The key may seal no more.
    ConfidentialityLimit,
    /// The TLS library returned no further keys, or too many generations are in use.
    NoKeys,
}

impl From<HandshakeError> for KeyError {
    fn from(_: HandshakeError) -> Self {
        Self::NoKeys
    }
}

/// One generation of sealing keys and how often it may still be used.
struct SealGeneration {
    keys: SealKeys,
    budget: SealBudget,
}

/// Consecutive generations of one direction, the oldest first.
struct Chain<K> {
    oldest: u32,
    generations: VecDeque<K>,
}

impl<K> Chain<K> {
    fn new(first: K) -> Self {
        Self { oldest: 0, generations: VecDeque::from([first]) }
    }

    fn newest(&self) -> u32 {
        self.oldest + self.generations.len() as u32 - 1
    }

    fn peek(&self, generation: u32) -> Option<&K> {
        self.generations.get(generation.checked_sub(self.oldest)? as usize)
    }

    fn get(&mut self, generation: u32) -> Option<&mut K> {
        self.generations.get_mut(generation.checked_sub(self.oldest)? as usize)
    }

    fn push(&mut self, keys: K) {
        self.generations.push_back(keys);
    }

    /// Drops generations before `needed`; the newest always stays.
    fn forget_before(&mut self, needed: u32) {
        while self.oldest < needed && self.generations.len() > 1 {
            self.generations.pop_front();
            self.oldest += 1;
        }
    }
}

/// The keys of both directions.
pub(crate) struct Keys {
    schedule: Box<dyn KeySchedule>,
    seal: Chain<SealGeneration>,
    open: Chain<OpenKeys>,
    /// The newest generation that the peer has used.
    open_current: u32,
    /// The generation that this endpoint's TCP connections should be at.
    seal_target: u32,
    /// The newest generation that the peer has acknowledged a record of. It is never more than one behind the target: the
    /// first record of a join opens with at most the generation after the newest that the receiver has seen.
    seal_confirmed: u32,
    failures: OpenBudget,
    confidentiality_limit: u64,
}

impl Keys {
    /// `sealed` records were sealed by the TLS library already; the limits are lowered by the configuration, never raised.
    pub(crate) fn new(
        seal: SealKeys,
        sealed: u64,
        open: OpenKeys,
        schedule: Box<dyn KeySchedule>,
        confidentiality_limit: Option<u64>,
        integrity_limit: Option<u64>,
    ) -> Self {
        let suite_limit = seal.key.confidentiality_limit();
        let suite_failures = open.key.integrity_limit();
        let confidentiality_limit = confidentiality_limit.map_or(suite_limit, |limit| limit.min(suite_limit));
        let integrity_limit = integrity_limit.map_or(suite_failures, |limit| limit.min(suite_failures));
        let budget = SealBudget::new(confidentiality_limit, sealed);
        Self {
            schedule,
            confidentiality_limit,
            seal: Chain::new(SealGeneration { keys: seal, budget }),
            open: Chain::new(open),
            open_current: 0,
            seal_target: 0,
            seal_confirmed: 0,
            failures: OpenBudget::new(integrity_limit),
        }
    }

    /// The generation that every TCP connection should seal with; one that is behind sends a key update first.
    pub(crate) fn seal_target(&self) -> u32 {
        self.seal_target
    }

    /// The newest generation that the peer has used.
    pub(crate) fn open_current(&self) -> u32 {
        self.open_current
    }

    /// Whether half of the newest sealing key's limit is used.
    pub(crate) fn wants_update(&self) -> bool {
        self.seal.peek(self.seal_target).is_some_and(|sealer| sealer.budget.wants_update())
    }

    /// Whether [`Keys::seal`] would work at this position.
    pub(crate) fn can_seal(&self, at: &KeyPosition) -> bool {
        at.aead_seq < u64::MAX && self.seal.peek(at.generation).is_some_and(|sealer| sealer.budget.has_left())
    }

    /// The peer has opened a record of this generation.
    pub(crate) fn confirm_seal(&mut self, generation: u32) {
        self.seal_confirmed = self.seal_confirmed.max(generation);
    }

    /// Whether the peer has acknowledged a record of the newest generation.
    pub(crate) fn is_confirmed(&self) -> bool {
        self.seal_confirmed >= self.seal_target
    }

    /// Makes the next generation of this endpoint's keys the one to seal with, once the peer has the one before.
    pub(crate) fn start_seal_update(&mut self) -> Result<(), KeyError> {
        if !self.is_confirmed() {
            return Err(KeyError::NoKeys);
        }
        if self.seal_target == self.seal.newest() {
            let budget = SealBudget::new(self.confidentiality_limit, 0);
            self.seal.push(SealGeneration { keys: self.schedule.next_seal()?, budget });
        }
        self.seal_target += 1;
        Ok(())
    }

    /// Seals `out[start..]`, header first, in place and appends the tag. The position advances.
    // draft I26
    pub(crate) fn seal(
        &mut self,
        tcp: ConnectionId,
        at: &mut KeyPosition,
        out: &mut Vec<u8>,
        start: usize,
        header_len: usize,
    ) -> Result<(), KeyError> {
        let SealGeneration { keys, budget } = self.seal.get(at.generation).ok_or(KeyError::NoKeys)?;
        budget.spend().map_err(|_| KeyError::ConfidentialityLimit)?;
        let next_seq = at.aead_seq.checked_add(1).ok_or(KeyError::ConfidentialityLimit)?;
        let (header, content) = out[start..].split_at_mut(header_len);
        let tag = keys.key.seal(nonce(&keys.iv, tcp, at.aead_seq), header, content);
        out.extend_from_slice(&tag);
        at.aead_seq = next_seq;
        Ok(())
    }

    /// Opens `body` (ciphertext and tag) in place. The position advances only on success (draft, 4.3).
    // draft I24
    pub(crate) fn open(
        &mut self,
        tcp: ConnectionId,
        at: &mut KeyPosition,
        header: &[u8],
        body: &mut [u8],
    ) -> Result<(), KeyError> {
        let keys = self.open.get(at.generation).ok_or(KeyError::NoKeys)?;
        let nonce = nonce(&keys.iv, tcp, at.aead_seq);
        if body.len() <= TAG_LEN || keys.key.open(nonce, header, body).is_err() {
            return Err(self.count_failure());
        }
        at.aead_seq += 1;
        Ok(())
    }

    /// Opens the first record of a joined TCP connection, whose generation is not known: the newest, the one before or
    /// the one after. A failed attempt destroys its input, hence the copy.
    pub(crate) fn open_first(
        &mut self,
        tcp: ConnectionId,
        header: &[u8],
        body: &mut [u8],
    ) -> Result<KeyPosition, KeyError> {
        let sealed = body.to_vec();
        let current = self.open_current;
        for generation in [Some(current), current.checked_sub(1), Some(current + 1)].into_iter().flatten() {
            if generation > self.open.newest() {
                let keys = self.schedule.next_open()?;
                self.open.push(keys);
            }
            let Some(candidate) = self.open.get(generation) else { continue };
            body.copy_from_slice(&sealed);
            let nonce = nonce(&candidate.iv, tcp, 0);
            if body.len() > TAG_LEN && candidate.key.open(nonce, header, body).is_ok() {
                self.open_current = current.max(generation);
                return Ok(KeyPosition { generation, aead_seq: 1 });
            }
        }
        Err(self.count_failure())
    }

    /// The peer's next record at this position uses the next generation.
    pub(crate) fn step_open(&mut self, at: &mut KeyPosition) -> Result<(), KeyError> {
        let generation = at.generation + 1;
        if generation > self.open.newest() {
            if self.open.generations.len() >= MAX_GENERATIONS {
                return Err(KeyError::NoKeys);
            }
            let keys = self.schedule.next_open()?;
            self.open.push(keys);
        }
        self.open_current = self.open_current.max(generation);
        *at = KeyPosition { generation, aead_seq: 0 };
        Ok(())
    }

    /// Drops keys that no TCP connection needs any more: those before the oldest position in use, and before the one that a
    /// new join may still begin with.
    pub(crate) fn forget_unused(&mut self, oldest_seal: Option<u32>, oldest_open: Option<u32>) {
        self.seal.forget_before(oldest_seal.unwrap_or(self.seal_target).min(self.seal_target));
        let joinable = self.open_current.saturating_sub(1);
        self.open.forget_before(oldest_open.map_or(joinable, |oldest| oldest.min(joinable)));
    }

    /// Sets what is kept with the tickets that follow.
    pub(crate) fn remember(&mut self, state: &[u8]) {
        self.schedule.remember(state);
    }

    pub(crate) fn handle_new_session_ticket(&mut self, body: &[u8]) -> Result<(), HandshakeError> {
        self.schedule.handle_new_session_ticket(body)
    }

    /// The memory of tickets that are kept for joins.
    pub(crate) fn memory(&self) -> usize {
        self.schedule.memory()
    }

    /// Whether [`Keys::join`] returns a handshake.
    pub(crate) fn can_join(&self) -> bool {
        self.schedule.can_join()
    }

    /// Starts the handshake of a join that is a resumption, if the TLS library can.
    pub(crate) fn join(&mut self, token: &Token, early_data: bool) -> Option<Box<dyn Handshake>> {
        self.schedule.join(&token.0, early_data)
    }

    fn count_failure(&mut self) -> KeyError {
        if self.failures.spend().is_err() { KeyError::IntegrityLimit } else { KeyError::BadRecord }
    }
}
