//! One account of what all sessions of a server hold, and the order in which they give way when a limit is exceeded.
//!
//! Its configuration bounds each session; a [`Budget`] bounds their sum. Everything that costs the server resources is
//! a *holder*: a TCP connection without a complete ClientHello, a session, a claim. The driver reports what it holds
//! and delivers; [`Budget::poll_eviction`] returns a holder that has to give way while a limit is exceeded.
//!
//! While there is room, no holder gives way. Otherwise they do in this order (`docs/decisions/0007-budgets.md`):
//!
//! 1. clients without a certificate before those with one;
//! 2. the [client prefix](Client) that holds most of the resource;
//! 3. within it, the holder that delivered least in the last 30 s for each byte of memory that it holds; among those that
//!    delivered nothing (less than 1 KiB), the one that delivered least since it began, stranded ones before live ones, the
//!    longest inactive first.
//!
//! The account has no clock, no sockets and no sessions of its own; the same calls give the same answers. A call costs
//! O(log n) for n holders.

mod client;
mod rank;
mod recent;
#[cfg(test)]
mod tests;

use core::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

pub use self::client::Client;

use self::client::Group;
use self::rank::Rank;
use self::recent::{Recent, epoch};
use crate::time::Time;

/// Holders whose recent deliveries one call updates, unless one has to give way.
const UPDATES_PER_CALL: usize = 16;

/// A resource that all sessions share.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Resource {
    /// Bytes of memory.
    Memory,
    /// File descriptors: sockets and open files.
    Descriptors,
    /// TCP connections without a complete ClientHello.
    Pending,
    /// Sessions in their TLS handshake.
    Handshakes,
    /// Sessions, including those in their handshake and stranded ones.
    Sessions,
    /// Joins that are not authenticated yet.
    Claims,
    /// TCP connections that are passed on to other servers of a farm.
    HandOvers,
}

impl Resource {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Memory,
        Self::Descriptors,
        Self::Pending,
        Self::Handshakes,
        Self::Sessions,
        Self::Claims,
        Self::HandOvers,
    ];

    const fn index(self) -> usize {
        self as usize
    }
}

impl core::fmt::Display for Resource {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::Memory => "memory",
            Self::Descriptors => "file descriptors",
            Self::Pending => "TCP connections without a ClientHello",
            Self::Handshakes => "handshakes",
            Self::Sessions => "sessions",
            Self::Claims => "claims",
            Self::HandOvers => "hand-overs",
        })
    }
}

/// A limit for each [`Resource`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits([u64; Resource::ALL.len()]);

impl Limits {
    /// No limits.
    pub const UNLIMITED: Self = Self([u64::MAX; Resource::ALL.len()]);

    /// Returns these limits with another one for `resource`.
    #[must_use]
    pub const fn with(mut self, resource: Resource, limit: u64) -> Self {
        self.0[resource.index()] = limit;
        self
    }

    /// Returns the limit of `resource`.
    pub const fn get(&self, resource: Resource) -> u64 {
        self.0[resource.index()]
    }
}

/// Identifies a holder. One [`Budget`] never uses a value twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HolderId(u64);

/// A holder that has to give way. It has left the account: its resources count as free.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Eviction {
    /// The holder.
    pub holder: HolderId,
    /// The resource whose limit is exceeded.
    pub resource: Resource,
    /// File descriptors that it held: free in the account, but in the operating system only when they are closed.
    pub descriptors: u64,
}

/// What one holder holds and has delivered.
#[derive(Clone, Debug)]
struct Holder {
    client: Client,
    authenticated: bool,
    held: [u64; Resource::ALL.len()],
    recent: Recent,
    delivered: u64,
    is_stranded: bool,
    /// The last time that it began, delivered another KiB, or became stranded or live.
    active: Time,
}

impl Holder {
    fn group(&self, id: HolderId) -> Group {
        self.client.group(self.authenticated, id)
    }

    fn rank(&self, id: HolderId) -> Rank {
        let memory = self.held[Resource::Memory.index()];
        Rank::new(self.recent.sum(), memory, self.delivered, self.is_stranded, self.active, id)
    }
}

/// The rank of a group among all that hold some of a resource: the first gives way.
type Place = (bool, Reverse<u64>, Rank, Group);

/// The shares of one resource.
#[derive(Debug, Default)]
struct Shares {
    used: u64,
    sums: BTreeMap<Group, u64>,
    members: BTreeSet<(Group, Rank)>,
    places: BTreeSet<Place>,
}

impl Shares {
    fn place_of(&self, resource: Resource, group: Group) -> Option<Place> {
        let (_, first) = self.members.range((group, Rank::FIRST)..).next().filter(|(of, _)| *of == group)?;
        let sum = self.sums.get(&group).copied().unwrap_or_default();
        Some((group.is_authenticated(), Reverse(rank::size(resource, sum)), *first, group))
    }

    /// Changes a group and updates its rank.
    fn change(&mut self, resource: Resource, group: Group, change: impl FnOnce(&mut Self)) {
        if let Some(place) = self.place_of(resource, group) {
            self.places.remove(&place);
        }
        change(self);
        if let Some(place) = self.place_of(resource, group) {
            self.places.insert(place);
        }
    }

    fn add(&mut self, resource: Resource, group: Group, rank: Rank, amount: u64) {
        self.change(resource, group, |shares| {
            shares.used = shares.used.saturating_add(amount);
            let sum = shares.sums.entry(group).or_default();
            *sum = sum.saturating_add(amount);
            shares.members.insert((group, rank));
        });
    }

    fn remove(&mut self, resource: Resource, group: Group, rank: Rank, amount: u64) {
        self.change(resource, group, |shares| {
            shares.used = shares.used.saturating_sub(amount);
            shares.members.remove(&(group, rank));
            if let Some(sum) = shares.sums.get_mut(&group) {
                *sum = sum.saturating_sub(amount);
                if *sum == 0 {
                    shares.sums.remove(&group);
                }
            }
        });
    }
}

/// The account; see the [module](self).
///
/// Calls are valid in any order: a [`HolderId`] that is unknown or has left is ignored. Time does not run backwards
/// here.
#[derive(Debug)]
pub struct Budget {
    limits: Limits,
    now: Time,
    next: u64,
    holders: BTreeMap<HolderId, Holder>,
    shares: [Shares; Resource::ALL.len()],
    /// When the recent deliveries of holders expire, in epochs.
    ageing: BTreeSet<(u64, HolderId)>,
}

impl Budget {
    /// Creates an account with these limits.
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            now: Time::ZERO,
            next: 0,
            holders: BTreeMap::new(),
            shares: Default::default(),
            ageing: BTreeSet::new(),
        }
    }

    /// Returns the limit of each resource.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Changes the limits, from the next [`Budget::poll_eviction`] on.
    pub fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
    }

    /// Returns how much of `resource` all holders hold.
    pub fn used(&self, resource: Resource) -> u64 {
        self.shares[resource.index()].used
    }

    /// Returns the number of holders.
    pub fn len(&self) -> usize {
        self.holders.len()
    }

    /// Returns whether there are no holders.
    pub fn is_empty(&self) -> bool {
        self.holders.is_empty()
    }

    /// Returns how much of `resource` a holder holds.
    pub fn held(&self, holder: HolderId, resource: Resource) -> u64 {
        self.holders.get(&holder).map_or(0, |holder| holder.held[resource.index()])
    }

    /// Adds a holder, which holds nothing yet.
    pub fn enter(&mut self, now: Time, client: Client) -> HolderId {
        self.advance(now, UPDATES_PER_CALL);
        let id = HolderId(self.next);
        self.next += 1;
        let holder = Holder {
            client,
            authenticated: false,
            held: Default::default(),
            recent: Recent::default(),
            delivered: 0,
            is_stranded: false,
            active: self.now,
        };
        self.holders.insert(id, holder);
        id
    }

    /// Removes a holder and all that it holds.
    pub fn leave(&mut self, holder: HolderId) {
        let Some(left) = self.holders.remove(&holder) else { return };
        self.unlist(holder, &left);
        if let Some(at) = left.recent.next_change() {
            self.ageing.remove(&(at, holder));
        }
    }

    /// Sets how much of `resource` a holder holds: bytes, or a count.
    pub fn set_held(&mut self, holder: HolderId, resource: Resource, amount: u64) {
        if self.held(holder, resource) != amount {
            self.change(holder, |holder| holder.held[resource.index()] = amount);
        }
    }

    /// Marks the holder's client as authenticated by a certificate.
    pub fn set_authenticated(&mut self, holder: HolderId) {
        self.change(holder, |holder| holder.authenticated = true);
    }

    /// Sets whether the session is stranded.
    pub fn set_stranded(&mut self, now: Time, holder: HolderId, is_stranded: bool) {
        self.advance(now, UPDATES_PER_CALL);
        let now = self.now;
        self.change(holder, |holder| {
            if holder.is_stranded != is_stranded {
                (holder.is_stranded, holder.active) = (is_stranded, now);
            }
        });
    }

    /// Adds `bytes` that the holder delivered to its client, or from it to the application.
    pub fn add_delivered(&mut self, now: Time, holder: HolderId, bytes: u64) {
        self.advance(now, UPDATES_PER_CALL);
        let now = self.now;
        self.change(holder, |holder| {
            holder.recent.add(epoch(now), bytes);
            let before = holder.delivered;
            holder.delivered = before.saturating_add(bytes);
            if rank::whole_kib(before) < rank::whole_kib(holder.delivered) {
                holder.active = now;
            }
        });
    }

    /// Returns a holder that has to give way because a limit is exceeded.
    ///
    /// After every call that may have added something, call it until it returns `None`. The newest holder is not
    /// exempt.
    pub fn poll_eviction(&mut self, now: Time) -> Option<Eviction> {
        let resource = Resource::ALL.into_iter().find(|resource| self.used(*resource) > self.limits.get(*resource))?;
        self.evict(now, resource)
    }

    /// Returns the holder that has to give way because `resource` is used up, regardless of the limit.
    ///
    /// `None` if no holder has any.
    pub fn evict(&mut self, now: Time, resource: Resource) -> Option<Eviction> {
        self.advance(now, usize::MAX);
        let (_, _, rank, _) = self.shares[resource.index()].places.first()?;
        let holder = rank.holder();
        let descriptors = self.held(holder, Resource::Descriptors);
        self.leave(holder);
        Some(Eviction { holder, resource, descriptors })
    }

    /// Expires old deliveries of up to `updates` holders.
    fn advance(&mut self, now: Time, updates: usize) {
        self.now = self.now.max(now);
        let current = epoch(self.now);
        for _ in 0..updates {
            let Some((_, holder)) = self.ageing.first().copied().filter(|(at, _)| *at <= current) else { return };
            self.change(holder, |holder| holder.recent.advance(current));
        }
    }

    /// Changes a holder, and updates the sums and ranks.
    fn change(&mut self, id: HolderId, change: impl FnOnce(&mut Holder)) {
        let Some(mut holder) = self.holders.remove(&id) else { return };
        self.unlist(id, &holder);
        let due = holder.recent.next_change();
        change(&mut holder);
        let next = holder.recent.next_change();
        if due != next {
            due.map(|at| self.ageing.remove(&(at, id)));
            next.map(|at| self.ageing.insert((at, id)));
        }
        self.list(id, &holder);
        self.holders.insert(id, holder);
    }

    fn list(&mut self, id: HolderId, holder: &Holder) {
        let (group, rank) = (holder.group(id), holder.rank(id));
        for resource in Resource::ALL {
            let amount = holder.held[resource.index()];
            if amount > 0 {
                self.shares[resource.index()].add(resource, group, rank, amount);
            }
        }
    }

    fn unlist(&mut self, id: HolderId, holder: &Holder) {
        let (group, rank) = (holder.group(id), holder.rank(id));
        for resource in Resource::ALL {
            let amount = holder.held[resource.index()];
            if amount > 0 {
                self.shares[resource.index()].remove(resource, group, rank, amount);
            }
        }
    }
}
