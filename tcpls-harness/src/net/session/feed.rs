//! Distributes events to subscribers. A bounded number of events is kept for the first subscriber.
//!
//! Used while the session's lock is held, so a feed wakes no task: it gives the wakers to its caller.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::{Arc, PoisonError};
use std::task::{Context, Poll, Waker};

use crate::sync::{Mutex, MutexGuard};

/// How many events a slow subscriber may lag behind before it misses the oldest.
const BACKLOG: usize = 256;
/// How many events are kept for the first subscriber; the oldest are dropped.
const KEPT: usize = 64;

/// Reports everything to all subscribers, until it ends.
#[derive(Debug)]
pub(crate) struct Feed<T>(Arc<Shared<T>>);

#[derive(Debug)]
struct Shared<T>(Mutex<Queue<T>>);

/// No code of the application runs while it is locked.
#[derive(Debug)]
struct Queue<T> {
    /// What a subscriber has not got, the oldest first; before the first subscription, what is kept for it.
    events: VecDeque<T>,
    /// The number of the first of `events`.
    first: u64,
    places: Vec<Place>,
    /// The subscriptions that there ever were.
    subscriptions: u64,
    is_over: bool,
}

/// How far a subscriber is.
#[derive(Debug)]
struct Place {
    subscription: u64,
    /// The number of its next event.
    next: u64,
    /// If its task waits for that.
    waker: Option<Waker>,
}

impl<T> Feed<T> {
    /// A feed without subscribers.
    pub(crate) fn new() -> Self {
        let (events, places) = (VecDeque::new(), Vec::new());
        Self(Arc::new(Shared(Mutex::new(Queue { events, first: 0, places, subscriptions: 0, is_over: false }))))
    }

    /// A subscriber to all from now on; the first also gets what was kept for it.
    pub(crate) fn subscribe(&self) -> Subscriber<T> {
        let queue = &mut *self.0.lock();
        let subscription = queue.subscriptions;
        queue.subscriptions += 1;
        let next = if subscription == 0 { queue.first } else { queue.end() };
        queue.places.push(Place { subscription, next, waker: None });
        Subscriber { feed: self.0.clone(), subscription, missed: 0 }
    }

    /// Reports to all subscribers, or keeps it for the first. `wake` gets the wakers of those that wait for it.
    pub(crate) fn tell(&self, news: T, wake: impl FnMut(Waker)) {
        let queue = &mut *self.0.lock();
        if queue.is_over || (queue.subscriptions > 0 && queue.places.is_empty()) {
            return;
        }
        let limit = if queue.subscriptions == 0 { KEPT } else { BACKLOG };
        if queue.events.len() == limit {
            queue.events.pop_front();
            queue.first += 1;
        }
        queue.events.push_back(news);
        queue.take_wakers().for_each(wake);
    }

    /// Frees the memory that is kept for further events.
    pub(crate) fn shrink_to_fit(&self) {
        self.0.lock().events.shrink_to_fit();
    }

    /// Ends the feed. `wake` gets the wakers of all that wait.
    pub(crate) fn end(&self, wake: impl FnMut(Waker)) {
        let queue = &mut *self.0.lock();
        queue.is_over = true;
        queue.take_wakers().for_each(wake);
    }
}

impl<T> Drop for Feed<T> {
    fn drop(&mut self) {
        let mut wakers = Vec::new();
        self.end(|waker| wakers.push(waker));
        wakers.into_iter().for_each(Waker::wake);
    }
}

impl<T> Shared<T> {
    /// A panic elsewhere while the lock was held is no reason for a second one.
    fn lock(&self) -> MutexGuard<'_, Queue<T>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> Queue<T> {
    /// The number of the next event.
    fn end(&self) -> u64 {
        self.first + self.events.len() as u64
    }

    fn place(&mut self, subscription: u64) -> &mut Place {
        let place = self.places.iter_mut().find(|place| place.subscription == subscription);
        place.expect("a subscriber has a place until it is dropped")
    }

    fn take_wakers(&mut self) -> impl Iterator<Item = Waker> {
        self.places.iter_mut().filter_map(|place| place.waker.take())
    }

    /// Drops the events that all subscribers have got.
    fn tidy(&mut self) {
        let end = self.end();
        let first = self.places.iter().map(|place| place.next).min().unwrap_or(end);
        if first > self.first {
            self.events.drain(..(first - self.first) as usize);
            self.first = first;
        }
        if self.events.is_empty() && self.events.capacity() > KEPT {
            self.events = VecDeque::new();
        }
    }
}

impl<T: Clone> Queue<T> {
    /// Takes the subscriber's next event; `None` at the end. `missed` grows by what was dropped before it got it.
    fn take(&mut self, subscription: u64, missed: &mut u64) -> Poll<Option<T>> {
        let (first, is_over) = (self.first, self.is_over);
        let place = self.place(subscription);
        if place.next < first {
            *missed += first - place.next;
            place.next = first;
        }
        let index = (place.next - first) as usize;
        let Some(event) = self.events.get(index).cloned() else {
            return if is_over { Poll::Ready(None) } else { Poll::Pending };
        };
        self.place(subscription).next += 1;
        self.tidy();
        Poll::Ready(Some(event))
    }
}

/// Receives all events of a feed from its subscription on.
#[derive(Debug)]
pub(crate) struct Subscriber<T> {
    feed: Arc<Shared<T>>,
    subscription: u64,
    /// How many events were dropped because this subscriber did not keep up.
    missed: u64,
}

impl<T: Clone> Subscriber<T> {
    /// Waits for the next event; `None` at the end. Cancel safe: no event is lost.
    pub(crate) async fn next(&mut self) -> Option<T> {
        poll_fn(|cx| self.poll_next(cx)).await
    }

    /// The waker is cloned and dropped without the lock.
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<T>> {
        let mut waker = None;
        loop {
            {
                let queue = &mut *self.feed.lock();
                if let Poll::Ready(event) = queue.take(self.subscription, &mut self.missed) {
                    return Poll::Ready(event);
                }
                let place = &mut queue.place(self.subscription).waker;
                if place.as_ref().is_some_and(|place| place.will_wake(cx.waker())) {
                    return Poll::Pending;
                }
                if waker.is_some() {
                    std::mem::swap(place, &mut waker);
                    return Poll::Pending;
                }
            }
            waker = Some(cx.waker().clone());
        }
    }

    /// How many were dropped since the last call.
    pub(crate) fn take_missed(&mut self) -> u64 {
        std::mem::take(&mut self.missed)
    }

    /// Returns the next event, if there is one now.
    pub(crate) fn try_next(&mut self) -> Option<T> {
        match self.feed.lock().take(self.subscription, &mut self.missed) {
            Poll::Ready(event) => event,
            Poll::Pending => None,
        }
    }
}

impl<T> Drop for Subscriber<T> {
    fn drop(&mut self) {
        let mut queue = self.feed.lock();
        let left = queue.places.iter().position(|place| place.subscription == self.subscription);
        let left = left.map(|index| queue.places.remove(index));
        queue.tidy();
        drop(queue);
        drop(left);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(subscriber: &mut Subscriber<usize>) -> Vec<usize> {
        std::iter::from_fn(|| subscriber.try_next()).collect()
    }

    fn tell(feed: &Feed<usize>, news: usize) {
        feed.tell(news, |waker| waker.wake());
    }

    #[test]
    fn the_first_subscriber_gets_what_happened_before_and_no_other_does() {
        let feed = Feed::new();
        (1..=2).for_each(|news| tell(&feed, news));
        let (mut first, mut second) = (feed.subscribe(), feed.subscribe());
        tell(&feed, 3);
        assert_eq!((all(&mut first), all(&mut second)), (vec![1, 2, 3], vec![3]));
    }

    #[test]
    fn events_kept_for_the_first_subscriber_are_bounded() {
        let feed = Feed::new();
        (0..100_000).for_each(|news| tell(&feed, news));
        assert_eq!(all(&mut feed.subscribe()), (100_000 - KEPT..100_000).collect::<Vec<_>>());
    }

    #[test]
    fn slow_subscriber_misses_the_oldest_events_and_learns_how_many() {
        let feed = Feed::new();
        let (mut slow, mut quick) = (feed.subscribe(), feed.subscribe());
        for news in 0..1000 {
            tell(&feed, news);
            assert_eq!(quick.try_next(), Some(news));
        }
        assert_eq!(all(&mut slow), (1000 - BACKLOG..1000).collect::<Vec<_>>());
        assert_eq!((slow.take_missed(), quick.take_missed()), ((1000 - BACKLOG) as u64, 0));
        assert!(feed.0.lock().events.is_empty());
    }

    #[test]
    fn nothing_is_held_once_all_subscribers_have_left() {
        let feed = Feed::new();
        let first = feed.subscribe();
        tell(&feed, 0);
        drop(first);
        tell(&feed, 1);
        assert!(feed.0.lock().events.is_empty());
        let mut subscriber = feed.subscribe();
        tell(&feed, 2);
        assert_eq!(all(&mut subscriber), [2]);
    }

    #[tokio::test]
    async fn late_subscribers_get_the_end_after_the_last_event() {
        let feed = Feed::new();
        tell(&feed, 1);
        feed.end(|waker| waker.wake());
        let mut subscriber = feed.subscribe();
        assert_eq!((subscriber.next().await, subscriber.next().await), (Some(1), None));
        assert_eq!(feed.subscribe().next().await, None);
    }

    #[tokio::test]
    async fn subscriber_that_waits_gets_the_end_when_its_feed_is_dropped() {
        let feed = Feed::<usize>::new();
        let mut subscriber = feed.subscribe();
        let waiting = tokio::spawn(async move { subscriber.next().await });
        tokio::task::yield_now().await;
        drop(feed);
        assert_eq!(waiting.await.unwrap(), None);
    }
}
