//! [`Simulation`]: a network and applications of your own, built in Rust, run to the end or step by step.

use std::error::Error;
use std::fmt;
use std::future::Future;
use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tcpls_core::connection::schedule::Scheduler;
use tcpls_core::{Config, Connection, Side, Time};

use crate::dial::{self, MakeDialPolicy};
use crate::net::Session;
use crate::sim::applications::NetworkHandle;
use crate::sim::applications::executor::panic_text;
use crate::sim::applications::{ApplicationOutput, Applications, Serve, Start, StartFaults, boxed};
use crate::sim::hosts::env::SessionEvent;
use crate::sim::network::addresses;
use crate::sim::network::link_model::{LinkModel, OwnLinks};
use crate::sim::report::Report;
use crate::sim::scenario::{Direction, Fault, Path, Scenario, Span, Transport};
use crate::sim::world::{Extensions, RunOptions, World};
use crate::trace::qlog::Qlog;

/// A simulation with applications of your own: async functions over [`Session`]s, in virtual time.
///
/// Each call of [`Simulation::client`] adds a client, which connects to the server over all paths; its application gets the
/// session. The server's application gets each session that clients begin. A run ends when the applications of all clients
/// have returned and both ends of all sessions are closed.
pub struct Simulation {
    scenario: Scenario,
    seed: u64,
    options: RunOptions,
    clients: Vec<Start>,
    serve: Option<Serve>,
    faults: Vec<StartFaults>,
    links: Vec<(String, Direction, Box<dyn LinkModel>)>,
    extensions: Extensions,
}

impl Simulation {
    /// A simulation without paths and applications. Everything that is random in it follows from `seed`.
    pub fn new(seed: u64) -> Self {
        Self::of(Scenario::default(), seed)
    }

    /// A simulation of what a scenario describes, perhaps read from TOML. Its transfers and clients are replaced by the
    /// applications that are added here.
    pub fn of(scenario: Scenario, seed: u64) -> Self {
        Self {
            scenario,
            seed,
            options: RunOptions::default(),
            clients: Vec::new(),
            serve: None,
            faults: Vec::new(),
            links: Vec::new(),
            extensions: Extensions::default(),
        }
    }

    /// Adds a path between clients and server.
    #[must_use]
    pub fn path(mut self, path: Path) -> Self {
        self.scenario.path.push(path);
        self
    }

    /// Returns the addresses between which the TCP connections of a path run, as [`Session::path_of`] shows them to a client.
    pub fn addresses(&self, path: &str) -> Option<dial::Path> {
        self.scenario.path_number(path).map(addresses)
    }

    /// Sets what TCP connections are made of; byte pipes if not set.
    #[must_use]
    pub fn transport(mut self, transport: Transport) -> Self {
        self.scenario.transport = transport;
        self
    }

    /// Adds a fault.
    #[must_use]
    pub fn fault(mut self, fault: Fault) -> Self {
        self.scenario.fault.push(fault);
        self
    }

    /// Adds a fault of your own: an async function that acts on the network, and is dropped when the run ends.
    #[must_use]
    pub fn faults<F>(mut self, faults: impl FnOnce(NetworkHandle) -> F + 'static) -> Self
    where
        F: Future<Output: ApplicationOutput> + Send + 'static,
    {
        self.faults.push(Box::new(|network| boxed(faults(network))));
        self
    }

    /// Replaces one direction of a path by a model of your own, which sees each packet: a [`LinkModel`] or a closure.
    /// The path's own rate, delay, queue and
    /// losses do not matter there. The transport becomes [`Transport::Packets`].
    #[must_use]
    pub fn link(mut self, path: impl Into<String>, direction: Direction, model: impl LinkModel + 'static) -> Self {
        self.scenario.transport = Transport::Packets;
        self.links.push((path.into(), direction, Box::new(model)));
        self
    }

    /// Sets the configuration of clients' sessions.
    #[must_use]
    pub fn client_config(mut self, config: Config) -> Self {
        self.extensions.client.config = Some(config);
        self
    }

    /// Sets the configuration of the server's sessions.
    #[must_use]
    pub fn server_config(mut self, config: Config) -> Self {
        self.extensions.server.config = Some(config);
        self
    }

    /// Sets how clients' sessions spread data over TCP connections: `make` is called for each session.
    #[must_use]
    pub fn client_scheduler(mut self, make: impl Fn() -> Box<dyn Scheduler> + 'static) -> Self {
        self.extensions.client.scheduler = Some(Rc::new(make));
        self
    }

    /// Sets how the server's sessions spread data over TCP connections: `make` is called for each session.
    #[must_use]
    pub fn server_scheduler(mut self, make: impl Fn() -> Box<dyn Scheduler> + 'static) -> Self {
        self.extensions.server.scheduler = Some(Rc::new(make));
        self
    }

    /// Sets what decides which TCP connections clients open when, as [`ClientOptions::dial_policy`] does over sockets.
    ///
    /// [`ClientOptions::dial_policy`]: crate::net::ClientOptions::dial_policy
    #[must_use]
    pub fn dial_policy(mut self, policy: MakeDialPolicy) -> Self {
        self.extensions.dial = Some(policy);
        self
    }

    /// Ends the run after this virtual time; applications that have not returned by then fail it. 2 minutes if not set.
    #[must_use]
    pub fn limit(mut self, limit: Duration) -> Self {
        self.scenario.limit = Span(limit);
        self
    }

    /// Changes what has no method of its own: crypto, settings by name, bounds, goals.
    #[must_use]
    pub fn with(mut self, change: impl FnOnce(&mut Scenario)) -> Self {
        change(&mut self.scenario);
        self
    }

    /// Writes what happens as JSON lines, which `docs/trace.md` describes. After a panic they end where it happened.
    #[must_use]
    pub fn trace(mut self, writer: impl Write + 'static) -> Self {
        self.options.trace = Some(Box::new(writer));
        self
    }

    /// Writes a qlog file for each end of a session. `qlog` should be [lossless]: the run waits for the disk then.
    ///
    /// [lossless]: crate::trace::qlog::QlogOptions::lossless
    #[must_use]
    pub fn qlog(mut self, qlog: Qlog) -> Self {
        self.options.qlog = Some(qlog);
        self
    }

    /// Adds a client with this application.
    #[must_use]
    pub fn client<F>(mut self, application: impl FnOnce(Session) -> F + 'static) -> Self
    where
        F: Future<Output: ApplicationOutput> + Send + 'static,
    {
        self.clients.push(Box::new(|session| boxed(application(session))));
        self
    }

    /// Sets the application that the server runs for each session. Without one, the server accepts sessions and does nothing.
    #[must_use]
    pub fn server<F>(mut self, application: impl Fn(Session) -> F + 'static) -> Self
    where
        F: Future<Output: ApplicationOutput> + Send + 'static,
    {
        self.serve = Some(Box::new(move |session| boxed(application(session))));
        self
    }

    /// Runs to the end.
    ///
    /// # Errors
    /// The failure: an application failed, did not return in time, an invariant was violated, or something panicked: an
    /// application, a fault, a link, a scheduler or a dial policy.
    pub fn run(self) -> Result<Report, Failure> {
        self.start()?.finish()
    }

    /// Begins a run that is taken step by step.
    ///
    /// # Errors
    /// The simulation is invalid: it has no path, two paths of one name, no client, an invalid configuration …
    pub fn start(self) -> Result<RunningSimulation, Failure> {
        let seed = self.seed;
        let world = catch(|| self.world()).unwrap_or_else(|panic| Err(panicked(Time::ZERO, &panic)));
        let world = world.map_err(|what| Failure { seed, what: vec![what], report: None })?;
        Ok(RunningSimulation { world, seed })
    }

    fn world(mut self) -> Result<World, String> {
        if !self.scenario.transfer.is_empty() {
            return Err("a scenario with transfers takes no applications".to_owned());
        }
        if self.clients.is_empty() {
            return Err("a simulation needs a client".to_owned());
        }
        self.scenario.clients = self.clients.len();
        self.scenario.check()?;
        let own_links = Arc::new(OwnLinks::of(&self.links));
        self.scenario.fault.iter().try_for_each(|fault| own_links.check(fault))?;
        let mut extensions = self.extensions;
        for (end, overrides) in [("client", &extensions.client), ("server", &extensions.server)] {
            let checked = overrides.config.as_ref().map_or(Ok(()), Config::validate);
            checked.map_err(|error| format!("{end}: {error}"))?;
        }
        for (name, direction, model) in self.links {
            let path = self.scenario.path_number(&name).ok_or_else(|| format!("no path is called {name:?}"))?;
            extensions.links.push((path, direction, model));
        }
        if !extensions.links.is_empty() && self.scenario.transport == Transport::Pipes {
            return Err("links of your own carry packets: the transport must be packets".to_owned());
        }
        let mut applications = Applications::new(self.seed, self.clients, self.serve);
        let paths: Arc<[String]> = self.scenario.path.iter().map(|path| path.name.clone()).collect();
        for faults in self.faults {
            applications.start_faults(faults, paths.clone(), own_links.clone());
        }
        extensions.applications = Some(applications);
        Ok(World::new(Rc::new(self.scenario), self.seed, self.options, extensions))
    }
}

/// What may panic besides applications and faults, in the texts of failures.
const MAY_PANIC: &str = "a link, a scheduler, a dial policy or the simulator";

/// Returns the text of a panic in place of unwinding further. What `of` has changed may be in any state then.
fn catch<T>(of: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(of)).map_err(|panic| panic_text(&*panic).to_owned())
}

/// A simulation that is taken step by step, from [`Simulation::start`].
pub struct RunningSimulation {
    world: World,
    seed: u64,
}

impl RunningSimulation {
    /// The virtual time.
    pub fn now(&self) -> Time {
        self.world.now()
    }

    /// Lets everything happen until this time, and stops then. Returns false if the run has ended before: because all
    /// applications have returned, something went wrong, or the limit is reached.
    pub fn advance_until(&mut self, until: Time) -> bool {
        while self.advance(until) {}
        !self.world.has_ended() && self.world.pass(until)
    }

    /// Continues to the next event of any session, and returns it; `None` if the run has ended. Events at the same time
    /// are returned one by one. Those before the first call are not returned.
    pub fn next_event(&mut self) -> Option<SessionEvent> {
        loop {
            if let Some(event) = self.world.log().pop_front() {
                return Some(event);
            }
            if !self.advance(Time::MAX) {
                return None;
            }
        }
    }

    /// One end of a client's session, the client counted from 0; `None` as long as there is none. Its counters, states and TCP
    /// connections can be read.
    pub fn session(&self, side: Side, client: usize) -> Option<&Connection> {
        self.world.session(side, client)
    }

    /// Returns the errors so far.
    pub fn wrong(&self) -> Vec<String> {
        self.world.wrong()
    }

    /// Runs to the end.
    ///
    /// # Errors
    /// See [`Simulation::run`].
    pub fn finish(mut self) -> Result<Report, Failure> {
        while self.advance(Time::MAX) {}
        let (seed, now) = (self.seed, self.now());
        if self.world.has_panicked() {
            return Err(Failure { seed, what: self.wrong(), report: None });
        }
        let report = catch(|| self.world.report());
        let failure = |panic: String| Failure { seed, what: vec![panicked(now, &panic)], report: None };
        let report = report.map_err(failure)?;
        if report.is_good() {
            return Ok(report);
        }
        let what = if report.wrong.is_empty() { &report.missed } else { &report.wrong }.clone();
        Err(Failure { seed, what, report: Some(Box::new(report)) })
    }

    /// Takes the next step before this time; returns whether there was one. A panic in it ends the run.
    fn advance(&mut self, until: Time) -> bool {
        catch(|| self.world.advance(until)).unwrap_or_else(|panic| {
            self.world.end_by_panic(panicked(self.now(), &panic));
            false
        })
    }
}

fn panicked(at: Time, panic: &str) -> String {
    format!("{MAY_PANIC} panicked at {at}: {panic}")
}

impl fmt::Debug for RunningSimulation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RunningSimulation").field("seed", &self.seed).field("now", &self.now()).finish_non_exhaustive()
    }
}

impl fmt::Debug for Simulation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("Simulation");
        debug.field("seed", &self.seed).field("clients", &self.clients.len()).field("scenario", &self.scenario);
        debug.finish_non_exhaustive()
    }
}

/// A simulation that failed; its message has the seed to replay it. `Debug` prints the same text as `Display`, for `unwrap`.
#[derive(Clone)]
#[non_exhaustive]
pub struct Failure {
    /// The seed of the run.
    pub seed: u64,
    /// The errors, the first cause first; without any, the missed goals.
    pub what: Vec<String>,
    /// The outcome of the run; `None` if it could not begin, or was ended by a panic outside of applications and faults.
    pub report: Option<Box<Report>>,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; replay with seed {}", self.what.join("; "), self.seed)
    }
}

impl fmt::Debug for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Error for Failure {}
