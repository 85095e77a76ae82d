//! Where a session's task gets sockets that others have made.

use std::sync::{Arc, PoisonError};

use tcpls_core::endpoint::Join;

use super::claims::ClaimPlace;
use super::dials::Dials;
use crate::net::session::Shared;
use crate::net::socket::Socket;
use crate::sync::{Mutex, MutexGuard};

/// Sockets for a session's task.
pub(crate) enum Delivery {
    /// Server: a TCP connection that presented a token of this session, with what was read after its ClientHello.
    Join(Box<Socket>, Join, ClaimPlace),
    /// Client: sockets that are being connected, or wait for their use.
    Dials(Dials),
}

/// The mailbox of a session's task. It lives as long as the task; others have weak references.
pub(crate) struct Mailbox {
    shared: Arc<Shared>,
    deliveries: Mutex<Vec<Delivery>>,
}

impl Mailbox {
    pub(super) fn new(shared: Arc<Shared>) -> Arc<Self> {
        Arc::new(Self { shared, deliveries: Mutex::default() })
    }

    /// The session.
    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Hands something to the task, and wakes it. Returns it if the task has ended.
    pub(crate) fn deliver(&self, delivery: Delivery) -> Option<Delivery> {
        self.shared.drive(|state| {
            if state.has_task_ended() {
                return Some(delivery);
            }
            self.lock().push(delivery);
            state.wake_task();
            None
        })
    }

    pub(super) fn take(&self) -> Vec<Delivery> {
        std::mem::take(&mut self.lock())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }

    /// A panic elsewhere while the lock was held is no reason for a second one.
    fn lock(&self) -> MutexGuard<'_, Vec<Delivery>> {
        self.deliveries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
