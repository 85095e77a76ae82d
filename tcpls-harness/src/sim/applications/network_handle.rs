//! [`NetworkHandle`]: the network of a simulation for faults of your own.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::net::Runtime;
use crate::sim::network::link_model::OwnLinks;
use crate::sim::scenario::{Direction, Fault, FaultKind, Rate, Span};

/// Changes the paths of a simulation, for faults of your own; from [`Simulation::faults`].
///
/// A kind of fault is a function that takes this: it may wait for times of its own, repeat what it does, and decide at
/// random ([`NetworkHandle::runtime`]). Its changes apply at the current time, after all tasks have had their turns.
///
/// ```
/// # use std::time::Duration;
/// use tcpls_harness::sim::NetworkHandle;
///
/// /// A path that is away for half of the time.
/// async fn flap(network: NetworkHandle, path: &str, period: Duration) {
///     loop {
///         network.set_dark(path, true);
///         network.runtime().sleep(period / 2).await;
///         network.set_dark(path, false);
///         network.runtime().sleep(period / 2).await;
///     }
/// }
/// ```
///
/// # Panics
/// All methods that take a path panic if none has that name, which fails the simulation. [`NetworkHandle::set_rate`] and
/// [`NetworkHandle::set_delay`] also panic if both links of the path are models of your own ([`Simulation::link`]), which
/// have neither; of one such link and one other, they change the other. All other methods work on links of your own.
///
/// [`Simulation::faults`]: crate::sim::Simulation::faults
/// [`Simulation::link`]: crate::sim::Simulation::link
#[derive(Clone, Debug)]
pub struct NetworkHandle {
    runtime: Runtime,
    paths: Arc<[String]>,
    own_links: Arc<OwnLinks>,
    orders: Orders,
}

/// What is to be done to the network: a fault that begins, or (true) ends.
#[derive(Clone, Debug, Default)]
pub(crate) struct Orders(Arc<Mutex<Vec<(Fault, bool)>>>);

impl Orders {
    fn lock(&self) -> MutexGuard<'_, Vec<(Fault, bool)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What was ordered since the last call.
    pub(crate) fn take(&self) -> Vec<(Fault, bool)> {
        std::mem::take(&mut self.lock())
    }
}

impl NetworkHandle {
    pub(crate) fn new(runtime: Runtime, paths: Arc<[String]>, own_links: Arc<OwnLinks>, orders: Orders) -> Self {
        Self { runtime, paths, own_links, orders }
    }

    /// The clock, timers and random numbers of the simulation.
    pub fn runtime(&self) -> &Runtime {
        &self.runtime
    }

    /// The names of the paths.
    pub fn paths(&self) -> &[String] {
        &self.paths
    }

    /// Begins a fault; `at` and `until` do not matter. For kinds without a method here.
    pub fn begin(&self, fault: Fault) {
        self.order(fault, false);
    }

    /// Ends it.
    pub fn end(&self, fault: Fault) {
        self.order(fault, true);
    }

    /// Resets the TCP connections of a path, at both ends.
    pub fn reset(&self, path: &str) {
        self.begin(self.fault(FaultKind::Reset, path));
    }

    /// Resets them at the client's end alone; the server's end notices nothing.
    pub fn reset_at_client(&self, path: &str) {
        self.begin(self.fault(FaultKind::ResetClient, path));
    }

    /// Resets them at the server's end alone; the client's end notices nothing.
    pub fn reset_at_server(&self, path: &str) {
        self.begin(self.fault(FaultKind::ResetServer, path));
    }

    /// Lets nothing through in either direction, without a sign to the ends, or all again.
    pub fn set_dark(&self, path: &str, dark: bool) {
        self.order(self.fault(FaultKind::BlackHole, path), !dark);
    }

    /// The same in one direction.
    pub fn set_dark_one_way(&self, path: &str, direction: Direction, dark: bool) {
        self.order(Fault { direction: Some(direction), ..self.fault(FaultKind::BlackHole, path) }, !dark);
    }

    /// Resets the TCP connections of a path and refuses new ones, or accepts them again.
    pub fn set_down(&self, path: &str, down: bool) {
        self.order(self.fault(FaultKind::Down, path), !down);
    }

    /// Takes down the clients' interface of a path, or up again: nothing gets through, and their operating systems report
    /// it.
    pub fn set_interface_down(&self, path: &str, down: bool) {
        self.order(self.fault(FaultKind::InterfaceDown, path), !down);
    }

    /// Suspends the clients' hosts, or wakes them.
    pub fn set_suspended(&self, suspended: bool) {
        self.order(Fault::new(FaultKind::Suspend, Duration::ZERO), !suspended);
    }

    /// Changes the rate of both links, in bits per second; `None`: as it was at the start.
    pub fn set_rate(&self, path: &str, bits_per_second: Option<u64>) {
        let rate = bits_per_second.map(|rate| Rate(rate / 8));
        self.order(Fault { rate, ..self.fault(FaultKind::Rate, path) }, rate.is_none());
    }

    /// Changes the delay of both links; `None`: as it was at the start.
    pub fn set_delay(&self, path: &str, delay: Option<Duration>) {
        let delay = delay.map(Span);
        self.order(Fault { delay, ..self.fault(FaultKind::Delay, path) }, delay.is_none());
    }

    /// Flips a bit of the next bytes in this direction.
    pub fn corrupt(&self, path: &str, direction: Direction) {
        self.begin(Fault { direction: Some(direction), ..self.fault(FaultKind::Corrupt, path) });
    }

    /// Replaces the server's process: its TCP connections are reset, and it knows none of its sessions.
    pub fn restart_server(&self) {
        self.begin(Fault::new(FaultKind::Restart, Duration::ZERO));
    }

    fn fault(&self, kind: FaultKind, path: &str) -> Fault {
        Fault::new(kind, Duration::ZERO).on(path)
    }

    fn order(&self, fault: Fault, over: bool) {
        if let Some(path) = &fault.path {
            assert!(self.paths.contains(path), "no path is called {path:?}");
            self.own_links.check(&fault).unwrap_or_else(|why| panic!("{why}"));
        }
        self.orders.lock().push((fault, over));
    }
}
