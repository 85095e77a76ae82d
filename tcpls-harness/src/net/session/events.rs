//! Event subscriptions of applications.

use tcpls_core::event::Event;

use super::error::PathFailure;
use super::feed::Subscriber;
#[cfg(doc)]
use crate::net::Session;

/// A session's events, from [`Session::events`]: TCP connections, tokens, addresses, the end. Streams report their own
/// events.
#[derive(Debug)]
pub struct Events {
    pub(super) subscriber: Subscriber<Event>,
}

impl Events {
    /// Waits for the next event; `None` after the last, which is [`Event::Closed`]. A subscriber that lags far behind
    /// misses the oldest. Cancel safe.
    pub async fn next(&mut self) -> Option<Event> {
        self.subscriber.next().await
    }

    /// Returns the next event, if there is one now.
    pub fn try_next(&mut self) -> Option<Event> {
        self.subscriber.try_next()
    }
}

/// Failures of TCP connections that a session opens by itself, from [`Session::path_failures`].
#[derive(Debug)]
pub struct PathFailures {
    pub(super) subscriber: Subscriber<PathFailure>,
}

impl PathFailures {
    /// Waits for the next failure; `None` once the session has ended. A subscriber that lags far behind misses the
    /// oldest. Cancel safe.
    pub async fn next(&mut self) -> Option<PathFailure> {
        self.subscriber.next().await
    }
}
