//! The places of a server's clients: how many connections each has, of all that there may be, and the rate they share.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tcpls_core::budget::Client;
use tcpls_core::time::Time;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::rate::Rate;
use super::refusal::Refusal;
use super::server::Limits;

/// The fewest clients that are looked through for those that can be forgotten.
const MIN_SWEEP: usize = 64;

/// Who sends a request: connections, bytes and look-ups of names are limited for each.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Requester {
    /// A user of the server.
    User(Arc<str>),
    /// A client that is no user, by its IPv4 address or /64 of IPv6.
    Network(Client),
}

impl Requester {
    /// All clients behind a trusted proxy.
    pub(super) const SHARED: Self = Self::Network(Client::ALONE);

    /// The user if there are users, otherwise the network that the client is in.
    pub(super) fn new(user: Option<Arc<str>>, client: Client) -> Self {
        user.map_or(Self::Network(client), Self::User)
    }

    /// Whether it is several clients: those behind a trusted proxy are not told apart.
    pub(super) fn is_shared(&self) -> bool {
        *self == Self::SHARED
    }
}

/// The places of all clients.
#[derive(Debug)]
pub(super) struct Places {
    per_client: usize,
    rate: Option<u64>,
    total: Arc<Semaphore>,
    clients: Mutex<Clients>,
}

#[derive(Debug, Default)]
struct Clients {
    held: BTreeMap<Requester, Held>,
    /// How many clients there are when the next look is taken for those that can be forgotten.
    sweep_at: usize,
}

/// What a client has.
#[derive(Debug)]
struct Held {
    places: usize,
    rate: Option<Rate>,
}

impl Places {
    pub(super) fn new(limits: &Limits) -> Self {
        let total = Arc::new(Semaphore::new(limits.total.min(Semaphore::MAX_PERMITS)));
        Self { per_client: limits.per_client, rate: limits.rate, total, clients: Mutex::default() }
    }

    /// Takes one of the connections that a client may have, and one of all.
    pub(super) fn take(self: &Arc<Self>, key: Requester, now: Time) -> Result<Place, Refusal> {
        let total = self.total.clone().try_acquire_owned().map_err(|_| Refusal::Overloaded)?;
        let mut clients = self.clients();
        let count = clients.held.get(&key).map_or(0, |held| held.places);
        // Of clients that are not told apart, the total is the limit.
        if count >= self.per_client && !key.is_shared() {
            return Err(Refusal::TooMany);
        }
        clients.sweep(now);
        let new = || Held { places: 0, rate: self.rate.filter(|_| !key.is_shared()).map(Rate::new) };
        let held = clients.held.entry(key.clone()).or_insert_with(new);
        held.places += 1;
        let rate = held.rate.clone();
        drop(clients);
        Ok(Place { places: self.clone(), key, rate, _total: total })
    }

    fn clients(&self) -> MutexGuard<'_, Clients> {
        self.clients.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Clients {
    /// Forgets clients without connections that have paid for what they moved, each time that the number has doubled.
    fn sweep(&mut self, now: Time) {
        if self.held.len() >= self.sweep_at {
            self.held.retain(|_, held| held.places > 0 || held.rate.as_ref().is_some_and(|rate| !rate.is_settled(now)));
            self.sweep_at = (2 * self.held.len()).max(MIN_SWEEP);
        }
    }
}

/// A place among a client's connections, free again when it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    places: Arc<Places>,
    pub(super) key: Requester,
    /// What the client's connections share.
    pub(super) rate: Option<Rate>,
    _total: OwnedSemaphorePermit,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut clients = self.places.clients();
        if let Some(held) = clients.held.get_mut(&self.key) {
            held.places -= 1;
            // With a rate it is remembered: a client that closes its connections has moved its bytes nevertheless.
            if held.places == 0 && held.rate.is_none() {
                clients.held.remove(&self.key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(name: &str) -> Requester {
        Requester::User(name.into())
    }

    fn places(rate: Option<u64>) -> Arc<Places> {
        let limits = Limits::default().with(|limits| {
            (limits.per_client, limits.total, limits.rate) = (2, 3, rate);
        });
        Arc::new(Places::new(&limits))
    }

    #[test]
    fn clients_have_their_number_of_places_and_all_together_the_total() {
        let places = places(None);
        let take = |key| places.take(key, Time::ZERO);
        let taken = (take(user("ann")).unwrap(), take(user("ann")).unwrap());
        assert_eq!(take(user("ann")).unwrap_err(), Refusal::TooMany);
        let other = take(user("bob")).unwrap();
        assert_eq!(take(user("eve")).unwrap_err(), Refusal::Overloaded);
        drop((taken, other));
        assert!(places.clients().held.is_empty());
        let shared = || take(Requester::new(None, Client::ALONE));
        assert!((shared(), shared(), shared()).2.is_ok(), "clients behind a trusted proxy");
    }

    #[test]
    fn a_rate_outlives_the_connections_until_it_is_paid_for() {
        let places = places(Some(1000));
        let place = places.take(user("ann"), Time::ZERO).unwrap();
        let rate = place.rate.clone().unwrap();
        drop(super::super::rate::Pacer::new(rate, super::super::rate::Way::ToPeer, Time::ZERO, 5000));
        drop(place);
        let is_known = |at: u64| {
            let mut clients = places.clients();
            clients.sweep_at = 0;
            clients.sweep(Time::from_millis(at));
            clients.held.contains_key(&user("ann"))
        };
        assert!(is_known(4_999) && !is_known(5_000));
        assert!(places.take(Requester::new(None, Client::ALONE), Time::ZERO).unwrap().rate.is_none());
    }

    #[test]
    fn clients_without_connections_are_forgotten_in_time() {
        let places = places(Some(1000));
        for client in 0..10_000 {
            drop(places.take(user(&client.to_string()), Time::ZERO).unwrap());
            assert!(places.clients().held.len() <= MIN_SWEEP);
        }
    }
}
