//! A semaphore whose waiters are served round-robin by client: a client with a thousand requests delays another's only
//! request by one permit.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tcpls_core::budget::Client;
use tokio::sync::oneshot;

/// Whose turn it is: a client, or one of the sessions whose client is unknown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Share(Client, u64);

/// Hands out a fixed number of permits.
#[derive(Debug)]
pub(super) struct FairSemaphore {
    queue: Mutex<Queue>,
}

#[derive(Debug)]
struct Queue {
    /// Permits that are free; 0 while any request waits.
    free: usize,
    /// In the order of shares, and of arrival within each.
    waiting: BTreeMap<(Share, u64), oneshot::Sender<FairPermit>>,
    arrivals: u64,
    /// The share that was served last from the queue.
    last: Option<Share>,
    /// Sessions of unknown clients so far.
    unknown: u64,
}

impl Queue {
    /// Takes out the first waiter of the share that follows the last one served; if none waits, the permit is free.
    fn next(&mut self) -> Option<oneshot::Sender<FairPermit>> {
        let later = self.last.and_then(|last| self.waiting.range((last, u64::MAX)..).next());
        let Some(key) = later.or_else(|| self.waiting.first_key_value()).map(|(key, _)| *key) else {
            self.free += 1;
            return None;
        };
        self.last = Some(key.0);
        self.waiting.remove(&key)
    }
}

impl FairSemaphore {
    pub(super) fn new(permits: usize) -> Arc<Self> {
        let queue = Queue { free: permits, waiting: BTreeMap::new(), arrivals: 0, last: None, unknown: 0 };
        Arc::new(Self { queue: Mutex::new(queue) })
    }

    /// The share of a session of `client`. A session of an unknown client has one of its own.
    pub(super) fn share(&self, client: Client) -> Share {
        if client != Client::ALONE {
            return Share(client, 0);
        }
        let queue = &mut *self.lock();
        queue.unknown += 1;
        Share(client, queue.unknown)
    }

    /// Waits for a permit. Cancel safe: a waiter that is dropped leaves the queue and takes no permit with it.
    pub(super) async fn acquire(self: &Arc<Self>, share: Share) -> Result<FairPermit, oneshot::error::RecvError> {
        let mut waiting = {
            let queue = &mut *self.lock();
            if queue.free > 0 {
                queue.free -= 1;
                return Ok(FairPermit(self.clone()));
            }
            let (permit, turn) = oneshot::channel();
            let key = (share, queue.arrivals);
            queue.arrivals += 1;
            queue.waiting.insert(key, permit);
            Waiting { semaphore: self, key, turn }
        };
        (&mut waiting.turn).await
    }

    /// A panic elsewhere while the lock was held is no reason for a second one.
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A place in the queue, until it is dropped.
struct Waiting<'a> {
    semaphore: &'a FairSemaphore,
    key: (Share, u64),
    turn: oneshot::Receiver<FairPermit>,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.semaphore.lock().waiting.remove(&self.key);
    }
}

/// A permit, returned when it is dropped.
#[derive(Debug)]
pub(super) struct FairPermit(Arc<FairSemaphore>);

impl Drop for FairPermit {
    fn drop(&mut self) {
        let next = self.0.lock().next();
        if let Some(next) = next {
            // A waiter that is just being dropped drops the permit, which goes to the next one.
            _ = next.send(Self(self.0.clone()));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::pin::Pin;
    use std::task::{Context, Poll, Waker};

    use super::*;

    type Acquiring = Pin<Box<dyn Future<Output = FairPermit>>>;

    /// A request that waits, or has a permit already.
    fn acquire(semaphore: &Arc<FairSemaphore>, share: Share) -> Acquiring {
        let semaphore = semaphore.clone();
        Box::pin(async move { semaphore.acquire(share).await.unwrap() })
    }

    fn poll(acquiring: &mut Acquiring) -> Option<FairPermit> {
        match acquiring.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(permit) => Some(permit),
            Poll::Pending => None,
        }
    }

    fn at(semaphore: &FairSemaphore, address: &str) -> Share {
        semaphore.share(Client::at(address.parse().unwrap()))
    }

    /// The order in which waiters of these shares are served, all of which wait for one permit.
    fn order(semaphore: &Arc<FairSemaphore>, shares: &[Share]) -> Vec<usize> {
        let mut held = poll(&mut acquire(semaphore, shares[0]));
        assert!(held.is_some());
        let mut waiters: Vec<_> = shares.iter().map(|share| Some(acquire(semaphore, *share))).collect();
        assert!(waiters.iter_mut().flatten().all(|waiter| poll(waiter).is_none()));
        let mut order = Vec::new();
        while order.len() < shares.len() {
            drop(held.take());
            let served = waiters.iter_mut().enumerate().find_map(|(number, waiter)| {
                let permit = poll(waiter.as_mut()?)?;
                *waiter = None;
                Some((number, permit))
            });
            let (number, permit) = served.expect("a permit that is returned goes to a waiter");
            held = Some(permit);
            order.push(number);
        }
        order
    }

    #[test]
    fn one_request_waits_for_one_permit_behind_a_thousand_of_another_client() {
        let semaphore = FairSemaphore::new(1);
        for (hostile, honest) in [("127.0.0.1", "127.0.0.2"), ("127.0.0.2", "127.0.0.1")] {
            let mut shares = vec![at(&semaphore, hostile); 1000];
            shares.push(at(&semaphore, honest));
            let order = order(&semaphore, &shares);
            assert!(order[..2].contains(&1000), "{:?}", &order[..2]);
        }
    }

    #[test]
    fn clients_take_turns_and_requests_of_one_are_served_in_their_order() {
        let semaphore = FairSemaphore::new(1);
        let [a, b, c] = ["192.0.2.1", "192.0.2.2", "2001:db8::1"].map(|address| at(&semaphore, address));
        assert_eq!(order(&semaphore, &[a, a, a, b, b, c]), [0, 3, 5, 1, 4, 2]);
        assert_eq!(at(&semaphore, "2001:db8::2"), c, "one /64");
    }

    #[test]
    fn sessions_of_unknown_clients_take_turns_one_by_one() {
        let semaphore = FairSemaphore::new(1);
        let (first, second) = (semaphore.share(Client::ALONE), semaphore.share(Client::ALONE));
        assert_eq!(order(&semaphore, &[first, first, first, second]), [0, 3, 1, 2]);
    }

    #[test]
    fn waiters_that_are_dropped_take_no_permit_with_them() {
        let semaphore = FairSemaphore::new(1);
        let share = at(&semaphore, "192.0.2.1");
        let held = poll(&mut acquire(&semaphore, share)).unwrap();
        let [mut dropped, mut served, mut last] = [(); 3].map(|()| acquire(&semaphore, share));
        for waiter in [&mut dropped, &mut served, &mut last] {
            assert!(poll(waiter).is_none());
        }
        drop(dropped);
        drop(held);
        // It has been given the permit, and goes before it looks.
        drop(served);
        assert!(poll(&mut last).is_some());
        drop(last);
        let queue = semaphore.lock();
        assert_eq!((queue.free, queue.waiting.len()), (1, 0));
    }
}
