//! The account of the simulated server, with the same [`Budget`] and the same reports as `net::Listener`; and the check
//! that the right holder gives way, by comparison with all others.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use tcpls_core::Time;
use tcpls_core::budget::{Budget, Client, Eviction, HolderId, Resource};

use crate::net::account::reports::{Report, Told};
use crate::sim::network::SocketId;
use crate::sim::scenario::Bounds;
use crate::sim::trace::Host;

/// A session that delivered less counts as one that delivered nothing.
const DELIVERED: u64 = 1024;

/// The client or attacker that opened a TCP connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SocketOwner {
    /// A client, by its number.
    Client(usize),
    Attacker,
}

impl From<SocketOwner> for Host {
    fn from(owner: SocketOwner) -> Self {
        match owner {
            SocketOwner::Client(number) => Self::Client(number),
            SocketOwner::Attacker => Self::Attacker,
        }
    }
}

/// The client of each TCP connection, as a server sees it by address.
pub(crate) type SocketOwners = BTreeMap<SocketId, SocketOwner>;

/// See the module's description.
#[derive(Debug)]
pub(super) struct Account {
    bounds: Bounds,
    budget: Budget,
}

/// A session's entry in the account.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) id: HolderId,
    told: Told,
}

/// One of all that hold something, as it is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Holder {
    pub(super) id: HolderId,
    pub(super) client: Client,
    pub(super) held: u64,
    pub(super) delivered: u64,
}

impl Account {
    /// `None` if the server has no bounds.
    pub(super) fn new(bounds: &Bounds) -> Option<Self> {
        bounds.is_set().then(|| Self { bounds: bounds.clone(), budget: Budget::new(bounds.limits()) })
    }

    /// The client that a TCP connection counts for.
    pub(super) fn client(&self, owner: Option<SocketOwner>) -> Client {
        let address = match owner {
            _ if self.bounds.one_address => Ipv4Addr::new(192, 0, 2, 1),
            Some(SocketOwner::Client(number)) => Ipv4Addr::from_bits(0xc633_6400 + number as u32), // 198.51.100.0
            Some(SocketOwner::Attacker) => Ipv4Addr::new(203, 0, 113, 1),
            None => return Client::ALONE,
        };
        Client::at(IpAddr::V4(address))
    }

    /// A new holder.
    pub(super) fn enter(&mut self, now: Time, client: Client, held: &[(Resource, u64)]) -> HolderId {
        let id = self.budget.enter(now, client);
        held.iter().for_each(|(resource, amount)| self.budget.set_held(id, *resource, *amount));
        id
    }

    /// A new session.
    pub(super) fn enter_session(&mut self, now: Time, client: Client, held: &[(Resource, u64)]) -> Entry {
        Entry { id: self.enter(now, client, held), told: Told::new(now) }
    }

    /// Reports what a session holds and has delivered, at every change: there is no lock to save here.
    pub(super) fn report(&mut self, now: Time, entry: &mut Entry, report: Report) {
        if let Some(next) = entry.told.due(now, report, true) {
            entry.told.tell(now, next, &mut self.budget, entry.id);
        }
    }

    /// What a claim holds has changed.
    pub(super) fn set_memory(&mut self, holder: HolderId, memory: u64) {
        self.budget.set_held(holder, Resource::Memory, memory);
    }

    pub(super) fn leave(&mut self, holder: HolderId) {
        self.budget.leave(holder);
    }

    /// The holder that has to give way, if any.
    pub(super) fn poll_eviction(&mut self, now: Time) -> Option<Eviction> {
        self.budget.poll_eviction(now)
    }

    /// The error that `resource` exceeds its limit, although all selected holders have given way.
    pub(super) fn exceeded(&self, resource: Resource, held: u64) -> Option<String> {
        let limit = self.bounds.limits().get(resource);
        (held > limit).then(|| format!("{held} of {resource} are held, and the limit is {limit}"))
    }
}

/// Returns why `victim` was the wrong one of `all` holders of `resource` to give way, if it was.
pub(super) fn check_eviction(resource: Resource, victim: &Holder, all: &[Holder]) -> Option<String> {
    let sum = |client: Client| all.iter().filter(|other| other.client == client).map(|other| other.held).sum::<u64>();
    let idle = |other: &&Holder| other.client == victim.client && other.held > 0 && other.delivered < DELIVERED;
    if victim.delivered >= DELIVERED && all.iter().any(|other| idle(&other)) {
        let delivered = victim.delivered;
        return Some(format!("a session that delivered {delivered} bytes gave way before one that delivered nothing"));
    }
    // Memory is compared to three binary digits.
    let share = sum(victim.client);
    let enough = if resource == Resource::Memory { share + share / 8 + 1 } else { share };
    let largest = all.iter().map(|other| sum(other.client)).max().unwrap_or_default();
    (enough < largest).then(|| format!("a client with {share} of {resource} gave way before one with {largest}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holders(budget: &mut Budget, all: &[(u8, u64, u64)]) -> Vec<Holder> {
        let holder = |(host, held, delivered): &(u8, u64, u64)| {
            let client = Client::at(IpAddr::V4(Ipv4Addr::new(192, 0, 2, *host)));
            Holder { id: budget.enter(Time::ZERO, client), client, held: *held, delivered: *delivered }
        };
        all.iter().map(holder).collect()
    }

    #[test]
    fn wrong_choice_of_a_holder_is_detected() {
        let mut budget = Budget::new(tcpls_core::budget::Limits::UNLIMITED);
        let all = holders(&mut budget, &[(1, 1, 5000), (1, 1, 0), (2, 1, 0)]);
        let wrong = |victim: usize| check_eviction(Resource::Sessions, &all[victim], &all);
        assert!(wrong(0).unwrap().contains("before one that delivered nothing"));
        assert_eq!(wrong(1), None);
        assert!(wrong(2).unwrap().contains("before one with 2"));
        let account = Account::new(&Bounds { sessions: Some(1), ..Bounds::default() }).unwrap();
        assert_eq!(account.exceeded(Resource::Sessions, 1), None);
        assert!(account.exceeded(Resource::Sessions, 2).is_some());
    }
}
