//! Distributes events to subscribers. A bounded number of events is kept for the first subscriber.

use std::collections::VecDeque;

use tokio::sync::broadcast::error::{RecvError, TryRecvError};
use tokio::sync::broadcast::{Receiver, Sender, channel};

/// How many events a slow subscriber may lag behind before it misses the oldest.
const BACKLOG: usize = 256;
/// How many events are kept for the first subscriber; the oldest are dropped.
const KEPT: usize = 64;

/// Reports everything to all subscribers, until it ends.
#[derive(Debug)]
pub(crate) struct Feed<T> {
    subscribers: Option<Sender<T>>,
    /// The events for the first subscriber; `None` once there was one.
    kept: Option<VecDeque<T>>,
    is_over: bool,
}

impl<T: Clone> Feed<T> {
    /// A feed without subscribers.
    pub(crate) fn new() -> Self {
        Self { subscribers: None, kept: Some(VecDeque::new()), is_over: false }
    }

    /// A subscriber to all from now on; the first also gets what was kept for it.
    pub(crate) fn subscribe(&mut self) -> Subscriber<T> {
        let kept = self.kept.take().unwrap_or_default();
        let receiver = if self.is_over {
            channel(1).1
        } else {
            self.subscribers.get_or_insert_with(|| Sender::new(BACKLOG)).subscribe()
        };
        Subscriber { kept, receiver, missed: 0 }
    }

    /// Reports to all subscribers, or keeps it for the first.
    pub(crate) fn tell(&mut self, news: T) {
        if let Some(kept) = &mut self.kept {
            if kept.len() == KEPT {
                kept.pop_front();
            }
            kept.push_back(news);
        } else if let Some(subscribers) = &self.subscribers
            && subscribers.send(news).is_err()
        {
            self.subscribers = None; // all have left
        }
    }

    /// Ends the feed.
    pub(crate) fn end(&mut self) {
        (self.subscribers, self.is_over) = (None, true);
    }
}

/// Receives all events of a feed from its subscription on.
#[derive(Debug)]
pub(crate) struct Subscriber<T> {
    kept: VecDeque<T>,
    receiver: Receiver<T>,
    /// How many events were dropped because this subscriber did not keep up.
    missed: u64,
}

impl<T: Clone> Subscriber<T> {
    /// Waits for the next event; `None` at the end. Cancel safe: no event is lost.
    pub(crate) async fn next(&mut self) -> Option<T> {
        if let Some(news) = self.kept.pop_front() {
            return Some(news);
        }
        loop {
            match self.receiver.recv().await {
                Ok(news) => return Some(news),
                Err(RecvError::Lagged(missed)) => self.missed += missed,
                Err(RecvError::Closed) => return None,
            }
        }
    }

    /// How many were dropped since the last call.
    pub(crate) fn take_missed(&mut self) -> u64 {
        std::mem::take(&mut self.missed)
    }

    /// Returns the next event, if there is one now.
    pub(crate) fn try_next(&mut self) -> Option<T> {
        if let Some(news) = self.kept.pop_front() {
            return Some(news);
        }
        loop {
            match self.receiver.try_recv() {
                Ok(news) => return Some(news),
                Err(TryRecvError::Lagged(missed)) => self.missed += missed,
                Err(_) => return None,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(subscriber: &mut Subscriber<usize>) -> Vec<usize> {
        std::iter::from_fn(|| subscriber.try_next()).collect()
    }

    #[test]
    fn the_first_subscriber_gets_what_happened_before_and_no_other_does() {
        let mut feed = Feed::new();
        (1..=2).for_each(|news| feed.tell(news));
        let (mut first, mut second) = (feed.subscribe(), feed.subscribe());
        feed.tell(3);
        assert_eq!((all(&mut first), all(&mut second)), (vec![1, 2, 3], vec![3]));
    }

    #[test]
    fn events_kept_for_the_first_subscriber_are_bounded() {
        let mut feed = Feed::new();
        (0..100_000).for_each(|news| feed.tell(news));
        assert_eq!(all(&mut feed.subscribe()), (100_000 - KEPT..100_000).collect::<Vec<_>>());
    }

    #[test]
    fn nothing_is_held_once_all_subscribers_have_left() {
        let mut feed = Feed::new();
        drop(feed.subscribe());
        feed.tell(1);
        assert!(feed.subscribers.is_none() && feed.kept.is_none());
        let mut subscriber = feed.subscribe();
        feed.tell(2);
        assert_eq!(all(&mut subscriber), [2]);
    }

    #[tokio::test]
    async fn late_subscribers_get_the_end_after_the_last_event() {
        let mut feed = Feed::new();
        feed.tell(1);
        feed.end();
        let mut subscriber = feed.subscribe();
        assert_eq!((subscriber.next().await, subscriber.next().await), (Some(1), None));
        assert_eq!(feed.subscribe().next().await, None);
    }
}
