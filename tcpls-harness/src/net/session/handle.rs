//! The application's handles of a session: counted, so that a session without handles is closed.
//!
//! Sessions, streams and their halves each have one.

use std::sync::{Arc, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use tcpls_core::error::code;

use super::advice::Advice;
use super::shared::{Shared, State};
use super::waiters::Wait;

/// A handle of a session. Dropping the last one closes the session after written data is delivered.
pub(crate) struct Handle(Arc<Shared>);

impl Handle {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        shared.access(|state| state.handles += 1);
        Self(shared)
    }

    pub(crate) fn with<R>(&self, f: impl FnOnce(&mut State) -> R) -> R {
        self.0.with(f)
    }

    /// Lets the session end without loss; see [`Shared::drain`].
    pub(crate) fn drain(&self, limit: Duration) {
        self.0.drain(limit);
    }

    /// See [`Shared::poll`].
    pub(crate) fn poll<R>(
        &self,
        what: Wait,
        cx: &Context<'_>,
        operation: impl FnMut(&mut State) -> Poll<R>,
    ) -> Poll<R> {
        self.0.poll(what, cx.waker(), operation)
    }

    /// The session without a claim to keep it open.
    pub(crate) fn downgrade(&self) -> Weak<Shared> {
        Arc::downgrade(&self.0)
    }

    pub(crate) fn advice(&self) -> Option<&Advice> {
        self.0.advice.as_ref()
    }
}

impl Clone for Handle {
    fn clone(&self) -> Self {
        Self::new(self.0.clone())
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.0.with(|state| {
            state.handles -= 1;
            if state.handles == 0 {
                state.conn.close(state.now(), code::NO_ERROR, b"");
                state.wake_task();
            }
        });
    }
}
