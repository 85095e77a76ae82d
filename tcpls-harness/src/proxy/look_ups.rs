//! Turns for look-ups of names. Each takes a thread of the resolver until it gives up, so there are few at a time; no client
//! can take them all.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::places::Requester;
use super::refusal::Refusal;

/// Look-ups of all clients at the same time.
const ALL: usize = 64;
/// Look-ups of one client at the same time.
const EACH: usize = 16;
/// Look-ups of one client that wait behind those.
const WAITING: usize = 240;

/// Look-ups that take place or wait.
#[derive(Clone, Debug)]
pub(super) struct LookUps(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    all: Arc<Semaphore>,
    clients: Mutex<BTreeMap<Requester, Client>>,
}

#[derive(Debug)]
struct Client {
    /// How many take place or wait.
    asked: usize,
    slots: Arc<Semaphore>,
}

impl LookUps {
    pub(super) fn new() -> Self {
        Self(Arc::new(Shared { all: Arc::new(Semaphore::new(ALL)), clients: Mutex::default() }))
    }

    /// Waits for a slot, which is free when it is dropped. Cancel safe.
    ///
    /// First a client waits for its own look-ups, then all wait in the order of asking: behind at most 16 of each other client.
    pub(super) async fn slot(&self, from: &Requester) -> Result<Slot, Refusal> {
        let asked = self.ask(from)?;
        let own = asked.slots.clone().acquire_owned().await.map_err(|_| Refusal::Overloaded)?;
        let of_all = self.0.all.clone().acquire_owned().await.map_err(|_| Refusal::Overloaded)?;
        Ok(Slot { _permits: (own, of_all), _asked: asked })
    }

    fn ask(&self, from: &Requester) -> Result<Asked, Refusal> {
        let mut clients = self.0.clients();
        // Those that are not told apart share what all have.
        let (each, waiting) = if from.is_shared() { (ALL, usize::MAX) } else { (EACH, EACH + WAITING) };
        if clients.get(from).is_some_and(|client| client.asked >= waiting) {
            return Err(Refusal::TooManyNames);
        }
        let new = || Client { asked: 0, slots: Arc::new(Semaphore::new(each)) };
        let client = clients.entry(from.clone()).or_insert_with(new);
        client.asked += 1;
        let slots = client.slots.clone();
        drop(clients);
        Ok(Asked { shared: self.0.clone(), from: from.clone(), slots })
    }
}

impl Shared {
    fn clients(&self) -> MutexGuard<'_, BTreeMap<Requester, Client>> {
        self.clients.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A look-up that takes place.
#[derive(Debug)]
pub(super) struct Slot {
    _permits: (OwnedSemaphorePermit, OwnedSemaphorePermit),
    _asked: Asked,
}

/// A look-up that takes place or waits.
#[derive(Debug)]
struct Asked {
    shared: Arc<Shared>,
    from: Requester,
    slots: Arc<Semaphore>,
}

impl Drop for Asked {
    fn drop(&mut self) {
        let mut clients = self.shared.clients();
        if let Some(client) = clients.get_mut(&self.from) {
            client.asked -= 1;
            if client.asked == 0 {
                clients.remove(&self.from);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::Pin;
    use std::task::{Context, Poll, Waker};

    use tcpls_core::budget;

    use super::*;

    type Waiting = Pin<Box<dyn Future<Output = Result<Slot, Refusal>>>>;

    fn user(name: &str) -> Requester {
        Requester::User(name.into())
    }

    fn ask(look_ups: &LookUps, from: &Requester) -> Waiting {
        let (look_ups, from) = (look_ups.clone(), from.clone());
        Box::pin(async move { look_ups.slot(&from).await })
    }

    fn poll(waiting: &mut Waiting) -> Poll<Result<Slot, Refusal>> {
        waiting.as_mut().poll(&mut Context::from_waker(Waker::noop()))
    }

    /// Asks for this many at once; returns those that take place, wait, and are refused.
    fn flood(look_ups: &LookUps, from: &Requester, number: usize) -> (Vec<Slot>, Vec<Waiting>, usize) {
        let (mut slots, mut waiting, mut refused) = (Vec::new(), Vec::new(), 0);
        for _ in 0..number {
            let mut asked = ask(look_ups, from);
            match poll(&mut asked) {
                Poll::Ready(Ok(slot)) => slots.push(slot),
                Poll::Ready(Err(refusal)) => {
                    assert_eq!(refusal, Refusal::TooManyNames);
                    refused += 1;
                }
                Poll::Pending => waiting.push(asked),
            }
        }
        (slots, waiting, refused)
    }

    #[test]
    fn a_client_takes_a_quarter_of_the_look_ups_and_others_have_their_turn() {
        let look_ups = LookUps::new();
        let (mut slots, mut waiting, refused) = flood(&look_ups, &user("ann"), 1000);
        assert_eq!((slots.len(), waiting.len(), refused), (EACH, WAITING, 1000 - EACH - WAITING));
        let others: Vec<_> = ["bob", "eve", "joe"].iter().map(|name| flood(&look_ups, &user(name), 100)).collect();
        assert!(others.iter().all(|(slots, _, refused)| slots.len() == EACH && *refused == 0));
        // All are taken: a fifth client waits for the first that ends, before those of Ann that wait longer.
        let mut fifth = ask(&look_ups, &user("zoe"));
        assert!(poll(&mut fifth).is_pending());
        drop(slots.pop());
        let Poll::Ready(Ok(slot)) = poll(&mut fifth) else { panic!("it has its turn") };
        // What waits and is given up leaves nothing behind.
        assert!(poll(&mut waiting[0]).is_pending());
        drop((slots, waiting, others, fifth, slot));
        assert!(look_ups.0.clients().is_empty());
        assert_eq!(look_ups.0.all.available_permits(), ALL);
    }

    #[test]
    fn clients_behind_a_trusted_proxy_share_all_look_ups() {
        let look_ups = LookUps::new();
        let (slots, waiting, refused) = flood(&look_ups, &Requester::Network(budget::Client::ALONE), 1000);
        assert_eq!((slots.len(), waiting.len(), refused), (ALL, 1000 - ALL, 0));
    }
}
