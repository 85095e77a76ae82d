//! Holders give way until the account's limits are kept: `net::account` has the same for sockets.

use tcpls_core::budget::{Eviction, Resource};
use tcpls_core::error::CloseReason;
use tcpls_core::{Endpoint, State};

use super::super::account::{Holder, check_eviction};
use super::super::env::Env;
use super::arrivals::refuse;
use super::{Entry, SIDE, Server};
use crate::net::account::reports::{CLAIM_MEMORY, PENDING_MEMORY};
use crate::sim::trace::{Host, Note};

impl Server {
    /// Reports what is held, and has holders give way; whether a session did, which has to be run once more.
    pub(super) fn settle(&mut self, env: &mut Env) -> bool {
        let mut has_any = false;
        self.report(env);
        while let Some(eviction) = self.account.as_mut().and_then(|account| account.poll_eviction(env.now)) {
            let all = self.holders(eviction.resource);
            if let Some(victim) = all.iter().find(|holder| holder.id == eviction.holder) {
                self.complaints.extend(check_eviction(eviction.resource, victim, &all));
            } else {
                self.complaints.push("a holder gave way that was not there".to_owned());
            }
            env.trace.set_place(Host::Server.place());
            env.trace.note(env.now, &Note::Evicted { resource: &eviction.resource.to_string() });
            has_any |= self.give_way(env, eviction);
        }
        self.check_limits();
        has_any
    }

    fn report(&mut self, env: &Env) {
        let Some(account) = &mut self.account else { return };
        for session in &mut self.sessions {
            if session.driver.conn.state() == State::Closed {
                session.entry.take().into_iter().for_each(|entry| account.leave(entry.id));
            } else if let Some(entry) = &mut session.entry {
                account.report(env.now, entry, session.driver.usage());
            }
        }
    }

    fn give_way(&mut self, env: &mut Env, eviction: Eviction) -> bool {
        let holder = Some(eviction.holder);
        let is_victim = |entry: &Option<Entry>| entry.as_ref().map(|entry| entry.id) == holder;
        if let Some(session) = self.sessions.iter_mut().find(|session| is_victim(&session.entry)) {
            session.entry = None;
            let at_once = eviction.resource == Resource::Descriptors || !session.driver.established;
            session.driver.conn.evict(env.now);
            let reason = session.driver.conn.close_reason();
            if reason != Some(&CloseReason::Evicted) {
                let reason = reason.map_or("nothing".to_owned(), ToString::to_string);
                self.complaints.push(format!("a session that gave way ended with: {reason}"));
            }
            if at_once {
                session.driver.reset_all(env);
            }
            self.evicted += 1;
            return true;
        }
        let pending = self.unidentified.iter().find(|(_, (pending, _))| pending.holder == holder);
        let claim = self.claims.iter().find(|(_, (pending, ..))| pending.holder == holder);
        let (pending, claim) = (pending.map(|(number, _)| *number), claim.map(|(number, _)| *number));
        if let Some((pending, incoming)) = pending.and_then(|number| self.unidentified.remove(&number)) {
            self.index.sockets.remove(&pending.socket);
            self.farm.endpoint(pending.server).handle_end(incoming);
            match eviction.resource {
                Resource::Pending | Resource::Memory => refuse(env, &pending, &Endpoint::refuse_crowded()),
                _ => env.net.reset(env.now, SIDE, pending.socket),
            }
        } else if let Some((number, (pending, claim, session))) =
            claim.and_then(|claim| self.claims.remove_entry(&claim))
        {
            self.index.remove_claim(pending.socket, number, session);
            self.sessions[session].driver.conn.handle_claim_end(claim);
            env.net.reset(env.now, SIDE, pending.socket);
        }
        false
    }

    /// All that hold some of a resource, as they are.
    fn holders(&self, resource: Resource) -> Vec<Holder> {
        let sessions = self.sessions.iter().filter_map(|session| {
            let (entry, usage) = (session.entry.as_ref()?, session.driver.usage());
            let (held, delivered) = (usage.held(resource), usage.delivered());
            Some(Holder { id: entry.id, client: session.client, held, delivered })
        });
        let one = |of: Resource, memory: u64| match resource {
            Resource::Memory => memory,
            Resource::Descriptors => 1,
            other => u64::from(other == of),
        };
        let unidentified = self.unidentified.values().filter_map(|(pending, _)| {
            let held = one(Resource::Pending, PENDING_MEMORY);
            Some(Holder { id: pending.holder?, client: pending.client, held, delivered: 0 })
        });
        let claims = self.claims.values().filter_map(|(pending, ..)| {
            let held = one(Resource::Claims, CLAIM_MEMORY + pending.input.len() as u64);
            Some(Holder { id: pending.holder?, client: pending.client, held, delivered: 0 })
        });
        sessions.chain(unidentified).chain(claims).collect()
    }

    fn check_limits(&mut self) {
        let Some(account) = &self.account else { return };
        for resource in Resource::ALL {
            let held = self.holders(resource).iter().map(|holder| holder.held).sum();
            self.complaints.extend(account.exceeded(resource, held));
        }
    }
}
