//! What happens, for whoever wants to hear of it. A feed that nobody listens to holds no memory.

use tokio::sync::broadcast::{Receiver, Sender, channel};

/// How far a slow listener may lag behind before it misses the oldest.
const BACKLOG: usize = 256;

/// Tells all listeners everything, until it ends.
#[derive(Debug)]
pub(crate) struct Feed<T> {
    listeners: Option<Sender<T>>,
    is_over: bool,
}

impl<T: Clone> Feed<T> {
    /// A feed without listeners.
    pub(crate) fn new() -> Self {
        Self { listeners: None, is_over: false }
    }

    /// Listens from now on. Of a feed that is over, there is nothing but the end to be heard.
    pub(crate) fn subscribe(&mut self) -> Receiver<T> {
        if self.is_over {
            return channel(1).1;
        }
        self.listeners.get_or_insert_with(|| Sender::new(BACKLOG)).subscribe()
    }

    /// Tells those who listen.
    pub(crate) fn tell(&mut self, news: T) {
        if let Some(listeners) = &self.listeners
            && listeners.send(news).is_err()
        {
            self.listeners = None; // all have left
        }
    }

    /// There will be nothing more.
    pub(crate) fn end(&mut self) {
        (self.listeners, self.is_over) = (None, true);
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::broadcast::error::TryRecvError;

    use super::*;

    #[test]
    fn there_is_memory_for_news_as_long_as_somebody_listens() {
        let mut feed = Feed::new();
        feed.tell(1);
        assert!(feed.listeners.is_none());
        let mut listener = feed.subscribe();
        feed.tell(2);
        assert_eq!(listener.try_recv(), Ok(2));
        drop(listener);
        feed.tell(3);
        assert!(feed.listeners.is_none());
        let mut listener = feed.subscribe();
        feed.tell(4);
        assert_eq!(listener.try_recv(), Ok(4));
    }

    #[test]
    fn the_end_is_heard_after_the_last_news_also_by_who_comes_late() {
        let mut feed = Feed::new();
        let mut listener = feed.subscribe();
        feed.tell(1);
        feed.end();
        assert_eq!((listener.try_recv(), listener.try_recv()), (Ok(1), Err(TryRecvError::Closed)));
        assert_eq!(feed.subscribe().try_recv(), Err(TryRecvError::Closed));
    }
}
