//! Server: sockets that presented a token of the session and are not authenticated.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};

use tcpls_core::budget::{Client, Resource};
use tcpls_core::connection::{Claim, ClaimId, TcpEnd};
use tcpls_core::endpoint::Join;
use tcpls_core::error::JoinRefusal;
use tcpls_core::wire::ids::ConnectionId;

use crate::net::account::reports::CLAIM_MEMORY;
use crate::net::account::{Account, Holding, Place};
use crate::net::os::now;
use crate::net::session::{Shared, State};
use crate::net::socket::Socket;
use crate::sync::AtomicBool;

/// Bytes that a claim may send before it is authenticated.
const MAX_HELD: usize = 64 * 1024;

/// Gets reports of joins that fail.
pub(crate) trait FailedJoins: Send + Sync {
    fn report(&self, failure: JoinFailure);
}

/// Why a join failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum JoinFailure {
    /// Its TCP connection ended before it was authenticated.
    Ended,
    /// The session refused it.
    Refused(JoinRefusal),
    /// It gave way to others.
    Evicted,
}

/// A claim's place in the listener's account.
pub(crate) struct ClaimPlace {
    place: Place,
    has_to_go: Arc<AtomicBool>,
    reports: Option<Box<dyn FailedJoins>>,
}

impl ClaimPlace {
    /// A claim of `session`'s, made by a TCP connection from `client`.
    pub(crate) fn new(account: &Arc<Account>, client: Client, session: &Arc<Shared>) -> Self {
        let has_to_go = Arc::new(AtomicBool::new(false));
        let holding = Holding::Claim(Arc::downgrade(session), has_to_go.clone());
        let held = [(Resource::Claims, 1), (Resource::Descriptors, 1), (Resource::Memory, CLAIM_MEMORY)];
        Self { place: account.enter(client, holding, &held), has_to_go, reports: None }
    }

    /// Reports it there if the join fails.
    pub(crate) fn reporting(mut self, reports: Box<dyn FailedJoins>) -> Self {
        self.reports = Some(reports);
        self
    }

    fn has_to_go(&self) -> bool {
        self.has_to_go.load(Ordering::Acquire)
    }

    fn holds(&self, buffers: usize) {
        self.place.report(|budget, id| budget.set_held(id, Resource::Memory, CLAIM_MEMORY + buffers as u64));
    }
}

/// A socket with a claim.
pub(crate) struct Claimant {
    claim: ClaimId,
    pub(crate) socket: Socket,
    place: ClaimPlace,
    /// Memory of the socket's buffers, as the account knows it.
    told: usize,
}

impl Claimant {
    /// Presents the claim to the session.
    pub(crate) fn new(shared: &Shared, mut socket: Socket, join: Join, place: ClaimPlace) -> Self {
        let claim = shared.drive(|state| {
            let claim = state.conn.handle_join(now(), join);
            state.conn.handle_claim_bytes(now(), claim, socket.input());
            claim
        });
        Self { claim, socket, place, told: 0 }
    }

    /// Returns whether it has to give way and is to be reset; the session forgets it.
    pub(crate) fn gives_way(&self, shared: &Shared) -> bool {
        let has_to_go = self.place.has_to_go();
        if has_to_go {
            shared.drive(|state| state.conn.handle_claim_end(self.claim));
            self.report_failure(JoinFailure::Evicted);
        }
        has_to_go
    }

    /// Reports why the session refused it, if it did not just end.
    pub(crate) fn report_refusal(&self, shared: &Shared) {
        let refusal = shared.drive(|state| state.conn.claim_refusal(self.claim));
        self.report_failure(refusal.map_or(JoinFailure::Ended, JoinFailure::Refused));
    }

    fn report_failure(&self, failure: JoinFailure) {
        if let Some(reports) = &self.place.reports {
            reports.report(failure);
        }
    }

    /// Reports what it holds.
    pub(crate) fn report(&mut self) {
        let memory = self.socket.memory();
        if memory != self.told {
            self.place.holds(memory);
            self.told = memory;
        }
    }

    /// Exchanges bytes; returns the state of the claim, and whether anything arrived.
    pub(crate) fn poll(&mut self, shared: &Shared, cx: &mut Context<'_>) -> (Claim, bool) {
        let read = if self.socket.input().len() < MAX_HELD { self.socket.poll_read(cx) } else { Poll::Pending };
        let outcome = shared.drive(|state| self.exchange(state, read));
        _ = self.socket.poll_flush(now(), cx);
        (outcome, read.is_ready())
    }

    fn exchange(&mut self, state: &mut State, read: Poll<Result<usize, TcpEnd>>) -> Claim {
        if !self.socket.input().is_empty() {
            state.conn.handle_claim_bytes(now(), self.claim, self.socket.input());
        }
        let outcome = state.conn.claim(self.claim);
        if self.socket.is_flushed() {
            state.conn.poll_claim_transmit(self.claim, self.socket.out());
        }
        match outcome {
            Claim::Authenticated(tcp) => {
                self.settle(state, tcp);
                if let Poll::Ready(Err(how)) = read {
                    state.conn.handle_tcp_end(now(), tcp, how);
                }
                outcome
            }
            Claim::Waiting if matches!(read, Poll::Ready(Err(_))) => {
                state.conn.handle_claim_end(self.claim);
                Claim::Refused
            }
            _ => outcome,
        }
    }

    fn settle(&self, state: &mut State, tcp: ConnectionId) {
        let (local, remote) = self.socket.addresses();
        state.set_ends(tcp, local, remote);
        state.conn.handle_claim_end(self.claim);
    }
}
