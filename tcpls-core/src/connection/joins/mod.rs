//! How TCP connections join a session: its tokens, and the claims of those who show one.
//!
//! A client [spends](Joins::spend) what it holds (`client`); the server judges claims (`claims`), burns the tokens that were shown
//! to it, and replaces them. Everything about tokens is decided here; the rest of the session sees sequence numbers.

mod admission;
mod claims;
mod client;
mod expect;
mod tokens;

use std::sync::Arc;

pub use self::claims::{Claim, ClaimId};
pub use self::client::JoinOptions;

use self::claims::Claims;
use self::tokens::{Held, Issued, MAX_STORED};
use super::Connection;
use crate::error::Violation;
use crate::time::Time;
use crate::token::TokenSecret;
use crate::wire::ids::{ConnectionId, SessionId, Token};

/// What one side knows of its session's joins.
pub(super) struct Joins {
    tokens: Tokens,
    claims: Claims,
}

enum Tokens {
    /// Client: in hand.
    Held(Held),
    /// Server: in the client's hands.
    Issued(Issued),
}

impl Joins {
    pub(super) fn client() -> Self {
        Self { tokens: Tokens::Held(Held::default()), claims: Claims::default() }
    }

    pub(super) fn server(secret: Arc<TokenSecret>, session: SessionId) -> Self {
        Self { tokens: Tokens::Issued(Issued::new(secret, session)), claims: Claims::default() }
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

    /// Tokens that are good for a join: see [`Connection::tokens`].
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

    /// Whether this is a client that no server would let in again.
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

    /// Client: takes in a token of the server's; whether it is new. Only servers send tokens.
    // draft E12, E13
    pub(super) fn take_in(&mut self, sequence: u32, token: Token) -> Result<bool, Violation> {
        self.held().ok_or(Violation::TokenFromClient)?.insert(sequence, token)
    }

    /// Client: the next token is shown now.
    fn spend(&mut self) -> Option<(ConnectionId, Token)> {
        self.held()?.spend()
    }

    /// Client: the join of `tcp` came to nothing, and nothing was sealed under its number.
    pub(super) fn give_back(&mut self, tcp: ConnectionId) {
        self.held().into_iter().for_each(|held| held.give_back(tcp.0));
    }

    /// Client: the owner has let go of the socket that `tcp` named.
    pub(super) fn release(&mut self, tcp: ConnectionId) {
        self.held().into_iter().for_each(|held| held.release(tcp.0));
    }

    /// Client: gives up the tokens that came back; the TCP connections that they named.
    pub(super) fn drop_spare(&mut self) -> Vec<ConnectionId> {
        let spare = self.held().map(Held::drop_spare).unwrap_or_default();
        spare.into_iter().map(ConnectionId).collect()
    }

    /// Server: the token with this number, unless it was used or burned in the meantime.
    pub(super) fn value(&self, sequence: u32) -> Option<Token> {
        let issued = self.issued().filter(|issued| issued.is_outstanding(sequence))?;
        Some(issued.value(sequence))
    }

    /// Server: it works never again.
    fn burn(&mut self, sequence: u32) {
        if let Tokens::Issued(issued) = &mut self.tokens {
            issued.burn(sequence);
        }
    }

    /// Server: issues one more token if the client has fewer than `wanted`.
    fn issue(&mut self, wanted: usize) -> Option<u32> {
        match &mut self.tokens {
            Tokens::Issued(issued) if issued.count() < wanted => issued.issue(),
            _ => None,
        }
    }

    /// Claims that wait, or have not been asked about since they were decided.
    pub(super) fn claims(&self) -> usize {
        self.claims.len()
    }

    /// When the first claim has waited long enough.
    pub(super) fn deadline(&self) -> Option<Time> {
        self.claims.deadline()
    }

    /// TCP connection `tcp` is lost: which claim it came from need not be known any more.
    pub(super) fn forget_tcp(&mut self, tcp: ConnectionId) {
        self.claims.forget_tcp(tcp);
    }
}

impl Connection {
    /// Server: gives the client tokens until it has enough, within the limit of TCP connections (draft E14).
    // draft I43
    pub(super) fn replenish_tokens(&mut self) {
        let free = self.max_tcp_connections().saturating_sub(self.tcps.len());
        // The client stores 16 and no more; one is always out, or a session that fails whole could never come back.
        let wanted = (self.config.spare_tokens as usize).min(free).clamp(1, MAX_STORED);
        while let Some(sequence) = self.joins.issue(wanted) {
            self.control.owe_token(sequence);
        }
    }

    /// Server: a token works never again, and is not worth sending any more.
    pub(super) fn burn_token(&mut self, sequence: u32) {
        self.joins.burn(sequence);
        self.control.drop_token(sequence);
    }
}
