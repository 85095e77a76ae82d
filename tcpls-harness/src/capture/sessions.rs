//! The keys and tokens of all sessions of a capture, and the search for the session of a join.

use std::collections::{BTreeMap, VecDeque};

use tcpls_core::crypto::Suite;
use tcpls_core::wire::frame::{Frame, Frames};
use tcpls_core::{ConnectionId, Side};

use super::key_log::{KeyLog, Secrets};
use super::keys::{Keys, Opened, Secret, suites};

/// Sessions that are known at the same time.
const MAX_SESSIONS: usize = 10_000;
/// Tokens that are known at the same time; the oldest is forgotten for another.
const MAX_TOKENS: usize = 100_000;
/// Generations of keys that are kept: an endpoint uses at most 4 at a time.
const MAX_GENERATIONS: usize = 8;
/// Connection IDs that are tried for a join with an unknown token.
const TRIED_IDS: u32 = 64;
/// Generations that are tried for it.
const TRIED_GENERATIONS: u32 = 3;
/// Records that are tried to open for all such joins of a capture.
const MAX_TRIALS: u32 = 200_000;

/// Identifies a session of one capture.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct SessionIndex(usize);

pub(super) struct Sessions<'a> {
    key_log: &'a KeyLog,
    all: Vec<Session>,
    /// By the random bytes of the first ClientHello, and the suite.
    by_random: BTreeMap<([u8; 32], u16), SessionIndex>,
    tokens: BTreeMap<[u8; 32], (SessionIndex, ConnectionId)>,
    token_order: VecDeque<[u8; 32]>,
    trials: u32,
    /// Sessions of which a record was opened.
    numbered: u32,
}

struct Session {
    number: Option<u32>,
    client: Chain,
    server: Chain,
}

/// The generations of one direction. Each TCP connection steps through them on its own.
struct Chain {
    /// The generation of the first that is kept.
    base: u32,
    kept: VecDeque<(Secret, Keys)>,
    /// The newest that opened a record.
    newest: u32,
}

impl Chain {
    fn new(suite: Suite, secret: Option<&[u8]>) -> Option<Self> {
        let secret = Secret::new(suite, secret?)?;
        let keys = secret.keys()?;
        Some(Self { base: 0, kept: VecDeque::from([(secret, keys)]), newest: 0 })
    }

    /// The keys of a generation; the next one is derived.
    fn keys(&mut self, generation: u32) -> Option<&Keys> {
        let end = self.base + self.kept.len() as u32;
        if generation == end {
            let secret = self.kept.back()?.0.next()?;
            let keys = secret.keys()?;
            self.kept.push_back((secret, keys));
            if self.kept.len() > MAX_GENERATIONS {
                self.kept.pop_front();
                self.base += 1;
            }
        }
        let at = generation.checked_sub(self.base)?;
        Some(&self.kept.get(at as usize)?.1)
    }
}

/// How a record of a join was opened.
pub(super) struct Joined {
    pub(super) session: SessionIndex,
    pub(super) tcp: ConnectionId,
    pub(super) generation: u32,
    pub(super) opened: Opened,
}

impl<'a> Sessions<'a> {
    pub(super) fn new(key_log: &'a KeyLog) -> Self {
        Self {
            key_log,
            all: Vec::new(),
            by_random: BTreeMap::new(),
            tokens: BTreeMap::new(),
            token_order: VecDeque::new(),
            trials: 0,
            numbered: 0,
        }
    }

    /// How many sessions have a number.
    pub(super) fn numbered(&self) -> u32 {
        self.numbered
    }

    pub(super) fn secrets(&self, client_random: &[u8; 32]) -> Option<&'a Secrets> {
        self.key_log.get(client_random)
    }

    /// The session of a ClientHello; `None` without both of its secrets.
    pub(super) fn open(&mut self, client_random: &[u8; 32], suite: Suite) -> Option<SessionIndex> {
        let known = (*client_random, suite.code());
        if let Some(&index) = self.by_random.get(&known) {
            return Some(index);
        }
        if self.all.len() == MAX_SESSIONS {
            return None;
        }
        let secrets = self.key_log.get(client_random)?;
        let client = Chain::new(suite, secrets.client.as_deref())?;
        let server = Chain::new(suite, secrets.server.as_deref())?;
        let index = SessionIndex(self.all.len());
        self.all.push(Session { number: None, client, server });
        self.by_random.insert(known, index);
        Some(index)
    }

    fn chain(&mut self, session: SessionIndex, sender: Side) -> &mut Chain {
        let session = &mut self.all[session.0];
        if sender == Side::Client { &mut session.client } else { &mut session.server }
    }

    /// The session's number in the output, which it gets with its first record.
    pub(super) fn number(&mut self, session: SessionIndex) -> u32 {
        let numbered = &mut self.numbered;
        *self.all[session.0].number.get_or_insert_with(|| {
            *numbered += 1;
            *numbered - 1
        })
    }

    /// Opens the record with this sequence number.
    pub(super) fn open_record(
        &mut self,
        session: SessionIndex,
        sender: Side,
        (tcp, generation, sequence): (ConnectionId, u32, u64),
        record: &[u8],
    ) -> Option<Opened> {
        let chain = self.chain(session, sender);
        let opened = chain.keys(generation)?.open(tcp, sequence, record)?;
        chain.newest = chain.newest.max(generation);
        Some(opened)
    }

    /// Opens the first record of a joined TCP connection in one direction (decision D14), and returns its generation.
    pub(super) fn open_first(
        &mut self,
        session: SessionIndex,
        sender: Side,
        tcp: ConnectionId,
        record: &[u8],
    ) -> Option<(u32, Opened)> {
        let newest = self.chain(session, sender).newest;
        let tried = [Some(newest), newest.checked_sub(1), newest.checked_add(1)];
        tried
            .into_iter()
            .flatten()
            .find_map(|generation| Some((generation, self.open_record(session, sender, (tcp, generation, 0), record)?)))
    }

    /// The session and the connection ID that a token stands for.
    pub(super) fn find(&self, token: &[u8; 32]) -> Option<(SessionIndex, ConnectionId)> {
        self.tokens.get(token).copied()
    }

    /// Remembers a token.
    pub(super) fn insert(&mut self, token: [u8; 32], session: SessionIndex, tcp: ConnectionId) {
        if self.tokens.insert(token, (session, tcp)).is_none() {
            self.token_order.push_back(token);
            if self.token_order.len() > MAX_TOKENS
                && let Some(oldest) = self.token_order.pop_front()
            {
                self.tokens.remove(&oldest);
            }
        }
    }

    /// Remembers the tokens in a record of the server.
    pub(super) fn take_tokens(&mut self, session: SessionIndex, content: &[u8]) {
        for frame in Frames::new(content).flatten() {
            match frame {
                Frame::NewToken(new) => self.insert(new.token.0, session, ConnectionId(new.sequence.into())),
                Frame::NewTokenWide(new) => self.insert(new.token.0, session, ConnectionId(new.sequence)),
                _ => {}
            }
        }
    }

    /// Tries the sessions of the key log, and the first connection IDs, on the first record of a client whose token is
    /// unknown.
    pub(super) fn search(&mut self, record: &[u8]) -> Option<Joined> {
        if self.trials >= MAX_TRIALS {
            return None;
        }
        // Each walk through the log costs something, too, or any number of joins of others would take any time.
        self.trials += 1 + u32::try_from(self.key_log.len() / 1000).unwrap_or(u32::MAX / 2);
        // The sessions of the capture first: a join usually belongs to one of them.
        let known = self.all.len();
        (0..known).find_map(|index| self.try_session(SessionIndex(index), record)).or_else(|| {
            let key_log = self.key_log;
            key_log.iter().find_map(|(random, secrets)| {
                let suites = suites(secrets.client.as_deref().unwrap_or_default());
                suites.iter().find_map(|&suite| {
                    let is_known = self.by_random.contains_key(&(*random, suite.code()));
                    if is_known || self.trials >= MAX_TRIALS {
                        return None;
                    }
                    self.trials += 1; // keys are derived
                    let session = self.open(random, suite)?;
                    let found = self.try_session(session, record);
                    if found.is_none() {
                        self.by_random.remove(&(*random, suite.code()));
                        self.all.pop();
                    }
                    found
                })
            })
        })
    }

    fn try_session(&mut self, session: SessionIndex, record: &[u8]) -> Option<Joined> {
        let newest = self.chain(session, Side::Client).newest;
        let generations = newest.saturating_sub(1)..=newest.saturating_add(TRIED_GENERATIONS);
        for generation in generations {
            for tcp in (1..=TRIED_IDS).map(ConnectionId) {
                if self.trials >= MAX_TRIALS {
                    return None;
                }
                self.trials += 1;
                if let Some(opened) = self.open_record(session, Side::Client, (tcp, generation, 0), record) {
                    return Some(Joined { session, tcp, generation, opened });
                }
            }
        }
        None
    }
}

#[cfg(test)]
mod tests;
