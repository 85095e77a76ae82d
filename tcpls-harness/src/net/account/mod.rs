//! The account of a listener: what its sockets, sessions and claims hold, and how they give way.
//!
//! [`Budget`] selects a holder; this module has the holders, and makes them give way without holding a lock. `reports`
//! decides when a session reports what it holds.

pub(crate) mod reports;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError, Weak};

use tcpls_core::budget::{Budget, Client, Eviction, HolderId, Limits, Resource};
use tokio::sync::oneshot;

use crate::net::os::now;
use crate::net::session::{Descriptors, Shared, State};
use crate::sync::{AtomicBool, Mutex, MutexGuard};

/// The account of one listener.
pub(crate) struct Account {
    trusted_proxies: Vec<IpAddr>,
    state: Mutex<Ledger>,
}

struct Ledger {
    budget: Budget,
    holdings: BTreeMap<HolderId, Holding>,
    /// Holders that are giving way.
    closing: BTreeMap<HolderId, Closing>,
    /// Descriptors of all of them.
    closing_descriptors: u64,
}

/// A holder that is giving way. It has left the budget, but its descriptors are not closed yet.
struct Closing {
    descriptors: u64,
    /// A session that may still send the reason of its end.
    lingering: Option<Weak<Shared>>,
}

impl Ledger {
    /// Takes out the holder that gives way.
    fn take(&mut self, eviction: Eviction, at_once: bool) -> Option<Holding> {
        let holding = self.holdings.remove(&eviction.holder)?;
        let lingering = match &holding {
            Holding::Session(session) if !at_once => Some(session.clone()),
            _ => None,
        };
        self.closing_descriptors += eviction.descriptors;
        self.closing.insert(eviction.holder, Closing { descriptors: eviction.descriptors, lingering });
        Some(holding)
    }

    /// Descriptors that are open: of all holders, and of those that are giving way.
    fn open_descriptors(&self) -> u64 {
        self.budget.used(Resource::Descriptors).saturating_add(self.closing_descriptors)
    }

    fn max_descriptors(&self) -> u64 {
        self.budget.limits().get(Resource::Descriptors)
    }

    /// Sessions that are giving way and have descriptors: they are to close at once.
    fn take_lingering(&mut self) -> Vec<Weak<Shared>> {
        let closing = self.closing.values_mut().filter(|closing| closing.descriptors > 0);
        closing.filter_map(|closing| closing.lingering.take()).collect()
    }
}

/// The kind of a holder, and how it gives way.
pub(crate) enum Holding {
    /// A TCP connection without a complete ClientHello, or one that is passed on to another server; its task gets the
    /// resource that is short.
    Pending(oneshot::Sender<Resource>),
    /// A session.
    Session(Weak<Shared>),
    /// A claim of this session.
    Claim(Weak<Shared>, Arc<AtomicBool>),
}

impl Holding {
    /// `at_once`: its sockets are reset, because final bytes would keep their descriptors.
    fn give_way(self, resource: Resource, at_once: bool) {
        match self {
            // It fails if the task has just recognized the TCP connection.
            Self::Pending(task) => _ = task.send(if at_once { Resource::Descriptors } else { resource }),
            Self::Session(session) => {
                if let Some(session) = session.upgrade() {
                    session.give_way(at_once);
                }
            }
            Self::Claim(session, has_to_go) => {
                has_to_go.store(true, Ordering::Release);
                if let Some(session) = session.upgrade() {
                    session.drive(State::wake_task);
                }
            }
        }
    }
}

impl Account {
    pub(crate) fn new(limits: Limits, trusted_proxies: Vec<IpAddr>) -> Arc<Self> {
        let state = Ledger {
            budget: Budget::new(limits),
            holdings: BTreeMap::new(),
            closing: BTreeMap::new(),
            closing_descriptors: 0,
        };
        Arc::new(Self { trusted_proxies, state: Mutex::new(state) })
    }

    /// Returns the client that a TCP connection from `address` counts for.
    pub(crate) fn client(&self, address: IpAddr) -> Client {
        let address = address.to_canonical();
        if self.trusted_proxies.iter().any(|proxy| proxy.to_canonical() == address) {
            return Client::ALONE;
        }
        Client::at(address)
    }

    /// Adds a holder; others, or this one, may have to give way.
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

    /// Frees a descriptor because the operating system has none left, even below the limit: a holder gives way, unless
    /// others are closing already. Returns whether a descriptor will be free within milliseconds.
    pub(crate) fn free_descriptor(&self) -> bool {
        let (lingering, victim) = {
            let state = &mut *self.lock();
            let lingering = state.take_lingering();
            let victim = if state.closing_descriptors == 0 {
                let eviction = state.budget.evict(now(), Resource::Descriptors);
                eviction.and_then(|eviction| state.take(eviction, true))
            } else {
                None
            };
            if state.closing_descriptors == 0 {
                return false;
            }
            (lingering, victim)
        };
        lingering.iter().for_each(close_at_once);
        victim.into_iter().for_each(|holding| holding.give_way(Resource::Descriptors, true));
        true
    }

    /// Returns whether another socket may be accepted. If not, holders that are giving way are about to close their
    /// descriptors. Without this limit, a flood of new TCP connections could use up all descriptors of the operating
    /// system.
    pub(crate) fn has_room(&self) -> bool {
        let state = &*self.lock();
        let limit = state.max_descriptors();
        state.closing_descriptors == 0 || state.open_descriptors() <= limit.saturating_add(limit / 16)
    }

    /// Makes holders give way until all limits are met.
    fn settle(&self) {
        loop {
            let (resource, holding, at_once) = {
                let state = &mut *self.lock();
                let Some(eviction) = state.budget.poll_eviction(now()) else { break };
                let is_crowded = state.open_descriptors() + eviction.descriptors >= state.max_descriptors() / 2;
                let at_once = is_crowded || eviction.resource == Resource::Descriptors;
                (eviction.resource, state.take(eviction, at_once), at_once)
            };
            if let Some(holding) = holding {
                holding.give_way(resource, at_once);
            }
        }
        let lingering = {
            let state = &mut *self.lock();
            let is_full = state.closing_descriptors > 0 && state.open_descriptors() > state.max_descriptors();
            if is_full { state.take_lingering() } else { Vec::new() }
        };
        lingering.iter().for_each(close_at_once);
    }

    /// A panic elsewhere while the lock was held is no reason for a second one.
    fn lock(&self) -> MutexGuard<'_, Ledger> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Descriptors for Account {
    fn free_one(&self) -> bool {
        self.free_descriptor()
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
        // A holding may have a task that waits for it: it is dropped without the lock.
        let _holding = {
            let state = &mut *self.account.lock();
            state.budget.leave(self.id);
            if let Some(closing) = state.closing.remove(&self.id) {
                state.closing_descriptors -= closing.descriptors;
            }
            state.holdings.remove(&self.id)
        };
    }
}

/// Resets the remaining sockets of a session that gives way.
fn close_at_once(session: &Weak<Shared>) {
    if let Some(session) = session.upgrade() {
        session.give_way(true);
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use tcpls_core::config::Config;
    use tcpls_core::connection::Connection;

    use super::*;
    use crate::net::os::seed;
    use crate::tls::{Identity, Trust};

    const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

    fn account(resource: Resource, limit: u64) -> Arc<Account> {
        let limits = Limits::UNLIMITED.with(Resource::Descriptors, 32).with(resource, limit);
        Account::new(limits, Vec::new())
    }

    fn session(account: &Arc<Account>) -> (Arc<Shared>, Place) {
        let identity = Identity::self_signed(&["localhost".to_owned()]).unwrap();
        let tls = Trust::Pem(identity.certificate_pem().to_owned()).client(&[b"test"]).unwrap();
        let tls = tls.handshake("localhost".try_into().unwrap()).unwrap();
        let shared = Shared::new(Connection::client(now(), Arc::new(Config::default()), tls, seed()), None);
        let held = [(Resource::Sessions, 1), (Resource::Descriptors, 1)];
        let holding = Holding::Session(Arc::downgrade(&shared));
        let place = account.enter(account.client(CLIENT), holding, &held);
        (shared, place)
    }

    #[test]
    fn no_socket_is_accepted_while_too_many_that_give_way_are_not_closed() {
        let account = account(Resource::Pending, 8);
        let mut places = Vec::new();
        while account.has_room() {
            let held = [(Resource::Pending, 1), (Resource::Descriptors, 1)];
            places.push(account.enter(account.client(CLIENT), Holding::Pending(oneshot::channel().0), &held));
        }
        assert_eq!(places.len(), 32 + 2 + 1, "all that the limit allows, and a sixteenth");
        places.pop();
        assert!(account.has_room());
    }

    #[test]
    fn a_session_that_gives_way_is_reset_when_its_descriptors_are_needed() {
        let account = account(Resource::Sessions, 1);
        let (lingering, _place) = session(&account);
        let _newcomer = session(&account);
        let resets = || lingering.access(|state| state.inbox.len());
        // A session in its handshake has no final bytes, and is reset at once when it gives way: it is not counted.
        let before = resets();
        assert!(account.free_descriptor(), "it is closing");
        assert_eq!(resets(), before + 1);
        assert!(account.free_descriptor());
        assert_eq!(resets(), before + 1, "once is enough");
    }
}
