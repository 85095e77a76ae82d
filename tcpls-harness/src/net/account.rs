//! What the sockets, sessions and claims of a listener hold together, and how one gives way to another.
//!
//! [`Budget`] decides which; here is what it decides about. No lock is held while a holder gives way.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use tcpls_core::budget::{Budget, Client, HolderId, Limits, Resource};
use tokio::sync::oneshot;

use super::os::now;
use super::shared::Shared;

/// The account of one listener.
pub(crate) struct Account {
    trusted_proxies: Vec<IpAddr>,
    state: Mutex<State>,
}

struct State {
    budget: Budget,
    holdings: BTreeMap<HolderId, Holding>,
    /// Holders that are giving way, and whose descriptors are free in a moment.
    closing: BTreeSet<HolderId>,
}

impl State {
    /// Takes out who gives way; `at_once`: with its descriptors.
    fn take(&mut self, holder: HolderId, at_once: bool) -> Option<Holding> {
        let holding = self.holdings.remove(&holder);
        if at_once && holding.is_some() {
            self.closing.insert(holder);
        }
        holding
    }
}

/// What a holder is, and how it is made to give way.
pub(crate) enum Holding {
    /// A TCP connection whose ClientHello has not come; its task is notified of what is short.
    Pending(oneshot::Sender<Resource>),
    /// A session.
    Session(Weak<Shared>),
    /// A claim of this session.
    Claim(Weak<Shared>, Arc<AtomicBool>),
}

impl Holding {
    /// `at_once`: its sockets are reset, because what they would still say takes a descriptor.
    fn give_way(self, resource: Resource, at_once: bool) {
        match self {
            // It fails if the task has just found out what the TCP connection is.
            Self::Pending(task) => _ = task.send(if at_once { Resource::Descriptors } else { resource }),
            Self::Session(session) => {
                if let Some(session) = session.upgrade() {
                    session.give_way(at_once);
                }
            }
            Self::Claim(session, has_to_go) => {
                has_to_go.store(true, Ordering::Release);
                if let Some(session) = session.upgrade() {
                    session.drive(super::shared::State::wake_task);
                }
            }
        }
    }
}

impl Account {
    pub(crate) fn new(limits: Limits, trusted_proxies: Vec<IpAddr>) -> Arc<Self> {
        let state = State { budget: Budget::new(limits), holdings: BTreeMap::new(), closing: BTreeSet::new() };
        Arc::new(Self { trusted_proxies, state: Mutex::new(state) })
    }

    /// Whose share a TCP connection from `address` is part of.
    pub(crate) fn client(&self, address: IpAddr) -> Client {
        let address = address.to_canonical();
        if self.trusted_proxies.iter().any(|proxy| proxy.to_canonical() == address) {
            return Client::ALONE;
        }
        Client::at(address)
    }

    /// A new holder; others give way to it, or it itself does.
    pub(crate) fn enter(self: &Arc<Self>, client: Client, holding: Holding, held: &[(Resource, u64)]) -> Place {
        let place = {
            let state = &mut *self.lock();
            let id = state.budget.enter(now(), client);
            held.iter().for_each(|(resource, amount)| state.budget.set_held(id, *resource, *amount));
            state.holdings.insert(id, holding);
            Place { account: self.clone(), id }
        };
        self.settle();
        place
    }

    /// There are no descriptors left: the holder that has to go does, unless others are about to. Whether there was one.
    pub(crate) fn free_descriptor(&self) -> bool {
        let victim = {
            let state = &mut *self.lock();
            if !state.closing.is_empty() {
                return true;
            }
            let eviction = state.budget.evict(now(), Resource::Descriptors);
            eviction.and_then(|eviction| state.take(eviction.holder, true))
        };
        let was_one = victim.is_some();
        victim.into_iter().for_each(|holding| holding.give_way(Resource::Descriptors, true));
        was_one
    }

    /// Has holders give way until all limits are kept.
    fn settle(&self) {
        loop {
            let (resource, holding, at_once) = {
                let state = &mut *self.lock();
                let Some(eviction) = state.budget.poll_eviction(now()) else { return };
                let used = state.budget.used(Resource::Descriptors);
                let is_crowded = used >= state.budget.limits().get(Resource::Descriptors) / 2;
                let at_once = is_crowded || eviction.resource == Resource::Descriptors;
                (eviction.resource, state.take(eviction.holder, at_once), at_once)
            };
            if let Some(holding) = holding {
                holding.give_way(resource, at_once);
            }
        }
    }

    /// A panic elsewhere while the lock was held is no reason for a second one.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A holder's place in the account, until it is dropped.
pub(crate) struct Place {
    account: Arc<Account>,
    id: HolderId,
}

impl Place {
    /// Reports a change; others may have to give way, or this holder.
    pub(crate) fn report(&self, change: impl FnOnce(&mut Budget, HolderId)) {
        change(&mut self.account.lock().budget, self.id);
        self.account.settle();
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let state = &mut *self.account.lock();
        state.budget.leave(self.id);
        state.holdings.remove(&self.id);
        state.closing.remove(&self.id);
    }
}
