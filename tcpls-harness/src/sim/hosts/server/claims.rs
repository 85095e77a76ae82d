//! Claims: TCP connections with a token of a session, which decides on them.

use tcpls_core::Claim;

use super::index::{At, Turn};
use super::{SIDE, Server};
use crate::net::account::reports::CLAIM_MEMORY;
use crate::sim::hosts::env::Env;

/// What a claim may send before it is authenticated, as `net::task` has it.
const MAX_HELD: usize = 64 << 10;

impl Server {
    /// Asks those claims whose turn it is; sessions that let one in have another turn.
    pub(super) fn run_claims(&mut self, env: &mut Env, turn: &mut Turn) {
        for number in std::mem::take(&mut turn.claims) {
            let Some((mut pending, claim, session)) = self.claims.remove(&number) else { continue };
            let driver = &mut self.sessions[session].driver;
            env.trace.set_place(driver.place);
            if pending.input.len() < MAX_HELD {
                env.read(SIDE, pending.socket, &mut pending.input);
            }
            let outcome = driver.conn.handle_claim_bytes(env.now, claim, &mut pending.input);
            let mut out = Vec::new();
            driver.conn.poll_claim_transmit(claim, &mut out);
            env.write(SIDE, pending.socket, &out);
            let has_ended = outcome == Claim::Waiting && env.net.end(SIDE, pending.socket).is_some();
            if outcome == Claim::Waiting && !has_ended {
                if let (Some(account), Some(holder)) = (&mut self.account, pending.holder) {
                    account.set_memory(holder, CLAIM_MEMORY + pending.input.len() as u64);
                }
                self.claims.insert(number, (pending, claim, session));
                self.note_deadline(env, session);
                continue;
            }
            self.index.remove_claim(pending.socket, number, session);
            if let Claim::Authenticated(tcp) = outcome {
                driver.conn.handle_claim_end(claim);
                driver.attach(env, tcp, pending.socket, pending.path, std::mem::take(&mut pending.input));
                self.leave(&pending);
                self.index.sockets.insert(pending.socket, At::Session(session));
                turn.sessions.insert(session);
                continue;
            }
            if has_ended {
                driver.conn.handle_claim_end(claim);
            }
            self.leave(&pending);
            env.net.close(env.now, SIDE, pending.socket);
            self.note_deadline(env, session);
        }
    }
}
