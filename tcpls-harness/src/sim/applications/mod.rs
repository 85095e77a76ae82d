//! The applications of a simulation: async functions over sessions, from their start to their results.
//!
//! | file | subject |
//! | --- | --- |
//! | `executor` | runs their tasks: one thread, virtual time |
//! | `handles` | their hold on a session, and the loan of its state machine |
//! | `network_handle` | [`NetworkHandle`]: the network, for faults of users |

pub(crate) mod executor;
pub(crate) mod handles;
mod network_handle;

use std::error::Error;
use std::future::Future;
use std::sync::Arc;

use tcpls_core::Time;

use self::executor::{Executor, Output, TaskId};
pub use self::network_handle::NetworkHandle;
use self::network_handle::Orders;
use crate::net::Session;
use crate::net::runtime::{BoxFuture, Runtime};
use crate::sim::network::link_model::OwnLinks;
use crate::sim::rng::{Purpose, SimRng};
use crate::sim::scenario::Span;
use crate::sim::trace::{Host, Place};

/// What an application may return: nothing, or a result whose error fails the simulation.
pub trait ApplicationOutput {
    /// The same as a result.
    ///
    /// # Errors
    /// The application's.
    fn into_result(self) -> Result<(), Box<dyn Error + Send + Sync>>;
}

impl ApplicationOutput for () {
    fn into_result(self) -> Output {
        Ok(())
    }
}

impl<E: Into<Box<dyn Error + Send + Sync>>> ApplicationOutput for Result<(), E> {
    fn into_result(self) -> Output {
        self.map_err(Into::into)
    }
}

/// The start of a client's application.
pub(crate) type Start = Box<dyn FnOnce(Session) -> BoxFuture<Output>>;
/// The start of a server's application, for each of its sessions.
pub(crate) type Serve = Box<dyn Fn(Session) -> BoxFuture<Output>>;

/// The start of faults of the user's own.
pub(crate) type StartFaults = Box<dyn FnOnce(NetworkHandle) -> BoxFuture<Output>>;

/// The future of an application, which has no type of its own.
pub(crate) fn boxed<F>(future: F) -> BoxFuture<Output>
where
    F: Future<Output: ApplicationOutput> + Send + 'static,
{
    Box::pin(async { future.await.into_result() })
}

/// See the module's description.
pub(crate) struct Applications {
    pub(crate) executor: Executor,
    clients: Vec<ClientApplication>,
    serve: Option<Serve>,
    /// What faults of the user's own do to the network.
    pub(crate) orders: Orders,
}

enum ClientApplication {
    Waiting(Option<Start>),
    Running(TaskId),
}

impl Applications {
    pub(crate) fn new(seed: u64, clients: Vec<Start>, serve: Option<Serve>) -> Self {
        Self {
            executor: Executor::new(SimRng::new(seed, Purpose::Applications)),
            clients: clients.into_iter().map(|start| ClientApplication::Waiting(Some(start))).collect(),
            serve,
            orders: Orders::default(),
        }
    }

    /// Runs faults of the user's own, from the start on.
    pub(crate) fn start_faults(&mut self, faults: StartFaults, paths: Arc<[String]>, own_links: Arc<OwnLinks>) {
        let network = NetworkHandle::new(self.runtime(), paths, own_links, self.orders.clone());
        self.executor.start("faults", Host::Network.place(), faults(network));
    }

    /// What applications see as their runtime.
    pub(crate) fn runtime(&self) -> Runtime {
        self.executor.runtime()
    }

    /// A client has its session.
    pub(crate) fn start_client(&mut self, number: usize, session: Session, place: Place) {
        if let Some(application) = self.clients.get_mut(number)
            && let ClientApplication::Waiting(start) = application
            && let Some(start) = start.take()
        {
            let task = self.executor.start(&client_name(number), place, start(session));
            *application = ClientApplication::Running(task);
        }
    }

    /// Whether sessions of the server have an application.
    pub(crate) fn has_server(&self) -> bool {
        self.serve.is_some()
    }

    /// The server has a session.
    pub(crate) fn start_server(&mut self, session: Session, place: Place) {
        if let Some(serve) = &self.serve {
            self.executor.start("the server", place, serve(session));
        }
    }

    /// Whether the applications of all clients have come to their ends.
    pub(crate) fn are_over(&self) -> bool {
        (0..self.clients.len()).all(|number| self.is_over(number))
    }

    fn is_over(&self, number: usize) -> bool {
        match self.clients[number] {
            ClientApplication::Waiting(_) => false,
            ClientApplication::Running(task) => self.executor.is_over(task),
        }
    }

    /// What is wrong with a run that ended with applications under way: `last` was the time of the last event, and the next
    /// one lies beyond `limit`; `None`: there is no next one.
    pub(crate) fn unfinished(&self, last: Time, limit: Option<Span>) -> Vec<String> {
        let end = match limit {
            Some(limit) => format!("within the limit of {limit} (last event at {last})"),
            None => format!("when nothing was left to happen (last event at {last})"),
        };
        let under_way = (0..self.clients.len()).filter(|number| !self.is_over(*number));
        let describe = |number| match &self.clients[number] {
            ClientApplication::Waiting(_) => format!("{}: no session {end}", client_name(number)),
            ClientApplication::Running(_) => format!("{}: not finished {end}", client_name(number)),
        };
        under_way.map(describe).collect()
    }
}

/// How messages call a client's application.
fn client_name(number: usize) -> String {
    format!("client {}", number + 1)
}
