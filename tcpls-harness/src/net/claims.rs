//! Server: sockets that showed a token of the session and have not proven themselves.

use std::net::SocketAddr;
use std::task::{Context, Poll};

use bytes::BytesMut;
use tcpls_core::connection::{Claim, ClaimId, TcpEnd};
use tcpls_core::endpoint::Join;
use tcpls_core::wire::ids::ConnectionId;
use tokio::net::TcpStream;

use super::os::now;
use super::shared::{Shared, State};
use super::socket::Socket;

/// What a claim may send before it has proven itself.
const MAX_HELD: usize = 64 * 1024;

/// A socket with a claim.
pub(crate) struct Claimant {
    claim: ClaimId,
    pub(crate) socket: Socket,
}

impl Claimant {
    /// Presents the claim to the session.
    pub(crate) fn new(shared: &Shared, stream: TcpStream, join: Join, input: BytesMut) -> Self {
        let mut socket = Socket::new(stream, input);
        let claim = shared.drive(|state| {
            let claim = state.conn.handle_join(now(), join);
            state.conn.handle_claim_bytes(now(), claim, socket.input());
            claim
        });
        Self { claim, socket }
    }

    /// Exchanges bytes, and tells what has become of the claim and whether anything came.
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
            Claim::Proven(tcp) => {
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
        let address = |address: std::io::Result<SocketAddr>| address.ok();
        let stream = self.socket.stream();
        state.conn.set_tcp_addresses(tcp, address(stream.local_addr()), address(stream.peer_addr()));
        state.conn.handle_claim_end(self.claim);
    }
}
