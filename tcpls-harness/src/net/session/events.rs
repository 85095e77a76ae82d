//! What an application hears of its session.

use tcpls_core::event::Event;

use super::error::PathFailure;
use super::feed::Subscriber;
#[cfg(doc)]
use crate::net::Session;

/// A session's events, from [`Session::events`]: TCP connections that come and go, tokens, addresses, the end. What happens
/// to streams is reported by the streams.
#[derive(Debug)]
pub struct Events {
    pub(super) subscriber: Subscriber<Event>,
}

impl Events {
    /// Waits for the next event; `None` after the last, which is [`Event::Closed`]. A listener that lags far behind misses
    /// the oldest. Cancel safe.
    pub async fn next(&mut self) -> Option<Event> {
        self.subscriber.next().await
    }

    /// The next event, if it happened already.
    pub fn try_next(&mut self) -> Option<Event> {
        self.subscriber.try_next()
    }
}

/// What goes wrong when a session makes TCP connections by itself, from [`Session::path_failures`].
#[derive(Debug)]
pub struct PathFailures {
    pub(super) subscriber: Subscriber<PathFailure>,
}

impl PathFailures {
    /// Waits for the next; `None` once the session is over. A listener that lags far behind misses the oldest. Cancel safe.
    pub async fn next(&mut self) -> Option<PathFailure> {
        self.subscriber.next().await
    }
}
