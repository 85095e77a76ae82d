//! How TCP connections join a session: its tokens, and the claims that present one.
//!
//! A client [spends](Joins::spend) the tokens that it holds (`client`). The server checks claims (`claims`), burns the
//! tokens that were presented, and replaces them. A join is an apparent handshake of the draft's form, or a TLS resumption
//! (`resumption`), which a server that has lost the session answers with a handshake of its own (`instance`). All decisions
//! about tokens are made here; the rest of the session sees sequence numbers.

mod admission;
mod claims;
mod client;
mod expect;
mod instance;
mod resumption;
mod tokens;

use std::net::SocketAddr;

pub use self::claims::{Claim, ClaimId};
pub use self::client::JoinOptions;

use self::claims::Claims;
use self::resumption::Resumptions;
use self::tokens::{Held, Issued, MAX_STORED};
use super::Connection;
use crate::endpoint::NewSession;
use crate::error::Violation;
use crate::time::Time;
use crate::wire::hello::Cover;
use crate::wire::ids::{ConnectionId, SessionId, Token};

/// The last number that the draft's New Token has room for.
const LAST_OF_DRAFT: u32 = u8::MAX as u32;

/// The state of one endpoint's joins.
pub(super) struct Joins {
    tokens: Tokens,
    claims: Claims,
    resumptions: Resumptions,
    /// Server: what the client may show in its joins, if Encrypted ClientHello may hide the server's name. A session seldom has
    /// it.
    cover: Option<Box<Cover>>,
}

enum Tokens {
    /// Client: the tokens that it holds.
    Held(Held),
    /// Server: the tokens that it has issued.
    Issued(Issued),
}

impl Joins {
    pub(super) fn client() -> Self {
        Self {
            tokens: Tokens::Held(Held::default()),
            claims: Claims::default(),
            resumptions: Resumptions::default(),
            cover: None,
        }
    }

    pub(super) fn server(session: NewSession) -> Self {
        let NewSession { id, secret, cover, instance: _ } = session;
        let tokens = Tokens::Issued(Issued::new(secret, id));
        let (claims, resumptions) = (Claims::default(), Resumptions::default());
        Self { tokens, claims, resumptions, cover: cover.map(Box::new) }
    }

    /// The driver reports the peer's address of `tcp`.
    pub(super) fn note_remote(&mut self, tcp: ConnectionId, remote: Option<SocketAddr>) {
        if tcp == ConnectionId::FIRST {
            self.resumptions.began_at = remote;
        }
    }

    fn held(&mut self) -> Option<&mut Held> {
        match &mut self.tokens {
            Tokens::Held(held) => Some(held),
            Tokens::Issued(_) => None,
        }
    }

    fn issued(&self) -> Option<&Issued> {
        match &self.tokens {
            Tokens::Issued(issued) => Some(issued),
            Tokens::Held(_) => None,
        }
    }

    /// The number of usable tokens: see [`Connection::tokens`].
    pub(super) fn tokens(&self) -> usize {
        match &self.tokens {
            Tokens::Held(held) => held.count(),
            Tokens::Issued(issued) => issued.count(),
        }
    }

    /// Server: the session's name.
    pub(super) fn session(&self) -> Option<SessionId> {
        self.issued().map(Issued::session)
    }

    /// Whether this is a client that can no longer join.
    pub(super) fn is_out_of_tokens(&self) -> bool {
        matches!(&self.tokens, Tokens::Held(held) if held.count() == 0)
    }

    /// Whether `tcp` is, was, or could have become a TCP connection of this session.
    pub(super) fn was_known(&self, tcp: ConnectionId) -> bool {
        tcp == ConnectionId::FIRST
            || match &self.tokens {
                Tokens::Held(held) => held.was_used(tcp),
                Tokens::Issued(issued) => issued.was_issued(tcp),
            }
    }

    /// Client: stores a token from the server; returns whether it is new. Only servers send tokens.
    // draft E12, E13
    pub(super) fn take_in(&mut self, sequence: u32, token: Token) -> Result<bool, Violation> {
        self.held().ok_or(Violation::TokenFromClient)?.insert(sequence, token)
    }

    /// Client: spends the next token.
    fn spend(&mut self) -> Option<(ConnectionId, Token)> {
        self.held()?.spend()
    }

    /// Client: the join of `tcp` failed, and no record was sealed under its number.
    pub(super) fn give_back(&mut self, tcp: ConnectionId) {
        self.held().into_iter().for_each(|held| held.give_back(tcp.0));
    }

    /// Client: the driver has dropped the socket of `tcp`.
    pub(super) fn release(&mut self, tcp: ConnectionId) {
        self.held().into_iter().for_each(|held| held.release(tcp.0));
    }

    /// Client: drops the returned tokens; returns their connection IDs.
    pub(super) fn drop_spare(&mut self) -> Vec<ConnectionId> {
        let spare = self.held().map(Held::drop_spare).unwrap_or_default();
        spare.into_iter().map(ConnectionId).collect()
    }

    /// Server: returns the token with this number, unless it was used or burned.
    pub(super) fn value(&self, sequence: u32) -> Option<Token> {
        let issued = self.issued().filter(|issued| issued.is_outstanding(sequence))?;
        Some(issued.value(sequence))
    }

    /// Server: makes the token unusable.
    fn burn(&mut self, sequence: u32) {
        if let Tokens::Issued(issued) = &mut self.tokens {
            issued.burn(sequence);
        }
    }

    /// Server: issues one more token, whose number is at most `last`, if the client has fewer than `wanted`.
    fn issue(&mut self, wanted: usize, last: u32) -> Option<u32> {
        match &mut self.tokens {
            Tokens::Issued(issued) if issued.count() < wanted => issued.issue(last),
            _ => None,
        }
    }

    /// The number of claims that wait, or whose decision the driver has not fetched.
    pub(super) fn claims(&self) -> usize {
        self.claims.len()
    }

    /// When the first claim has waited long enough.
    pub(super) fn deadline(&self) -> Option<Time> {
        self.claims.deadline()
    }

    /// TCP connection `tcp` is lost: forgets its claim and its handshake.
    pub(super) fn forget_tcp(&mut self, tcp: ConnectionId) {
        self.claims.forget_tcp(tcp);
        self.resumptions.forget_tcp(tcp);
    }

    /// The handshakes of joins that the TLS library keeps.
    pub(super) fn handshakes(&self) -> usize {
        self.claims.handshakes() + self.resumptions.handshakes()
    }

    /// Client: whether records of TCP connection `tcp` belong to a handshake of the TLS library, or follow it.
    #[inline]
    pub(super) fn is_resuming(&self, tcp: ConnectionId) -> bool {
        self.resumptions.is_resuming(tcp)
    }

    /// Client: how many bytes may be sent on a TCP connection before the server's flight; no limit in all other cases.
    #[inline]
    pub(super) fn early_room(&self, tcp: ConnectionId) -> usize {
        self.resumptions.early_room(tcp)
    }

    /// Bytes were sent on a TCP connection.
    #[inline]
    pub(super) fn handle_written(&mut self, tcp: ConnectionId, bytes: usize) {
        self.resumptions.handle_written(tcp, bytes);
    }

    /// Whether a record is due that takes the place of one of the TLS library's.
    #[inline]
    pub(super) fn has_stand_in(&self, tcp: ConnectionId) -> bool {
        self.resumptions.stand_in(tcp).is_some()
    }
}

impl Connection {
    /// Server: issues tokens until the client has enough, within the limit of TCP connections (draft E14).
    // draft I43
    pub(super) fn replenish_tokens(&mut self) {
        let free = self.max_tcp_connections().saturating_sub(self.tcps.len());
        // The client stores at most 16. It always has one, or a session that lost all TCP connections could never
        // recover.
        let wanted = (self.config.spare_tokens as usize).min(free).clamp(1, MAX_STORED);
        let last = if self.is_draft_only() { LAST_OF_DRAFT } else { u32::MAX };
        while let Some(sequence) = self.joins.issue(wanted, last) {
            self.control.owe_token(sequence);
        }
    }

    /// Server: makes a token unusable, and does not send it any more.
    pub(super) fn burn_token(&mut self, sequence: u32) {
        self.joins.burn(sequence);
        self.control.drop_token(sequence);
    }
}
