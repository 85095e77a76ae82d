//! One run: a client, a server, a network and a timeline, from the first SYN until both ends are at rest. One loop decides
//! what happens next; all act at the present moment, in a fixed order.
//!
//! | file | subject |
//! | --- | --- |
//! | `mod` | the loop and the timeline |
//! | `turns` | whose turn it is, and what became of whom |
//! | `applications` | the turns of users' applications, and what else users add to a run |
//! | `actions` | actions of a scenario |
//! | `quiescence`, `final_checks` | checks after a quiet time and at the end |
//! | `inspect` | what a simulation that is taken step by step shows |

use std::collections::BTreeSet;
use std::io::Write;
use std::rc::Rc;
use std::time::Duration;

use tcpls_core::testing::{Ledger, Recordings};
use tcpls_core::{ErrorCode, Side, Time};

use self::actions::perform;
use self::final_checks::{drains_late, final_checks};
use self::quiescence::Quiescence;
use self::turns::Turns;
use crate::sim::applications::Applications;
use crate::sim::event_queue::EventQueue;
use crate::sim::hosts::account::SocketOwners;
use crate::sim::hosts::attacker::Attacker;
use crate::sim::hosts::client::Client;
use crate::sim::hosts::driver::Driver;
use crate::sim::hosts::env::Env;
use crate::sim::hosts::server::Server;
use crate::sim::hosts::setup::Setup;
use crate::sim::hosts::tls;
use crate::sim::network::packets::Packets;
use crate::sim::network::pipes::Pipes;
use crate::sim::report::{Meter, Report, RunResult};
use crate::sim::rng::{Purpose, SimRng};
use crate::sim::scenario::{Action, ActionKind, Fault, FaultKind, FloodKind, Scenario, Transport};
use crate::sim::trace::{Host, Note, QlogFiles, Trace};
use crate::sim::traffic::transfers::Transfers;
use crate::trace::qlog::Qlog;

mod actions;
mod applications;
mod final_checks;
mod inspect;
mod quiescence;
mod turns;

pub(crate) use self::applications::Extensions;

/// Steps in one moment. A world that wants more does not move on.
const MAX_STEPS: u32 = 100_000;

/// Records of a run besides its outcome.
pub struct RunOptions {
    /// The output of the trace, as JSON lines.
    pub trace: Option<Box<dyn Write>>,
    /// Whether to hash what is sent and received.
    pub hash: bool,
    /// Where all sessions are recorded.
    pub recordings: Option<Recordings>,
    /// What writes a qlog file for each end of a session. It should be [lossless](crate::trace::qlog::QlogOptions::lossless).
    pub qlog: Option<Qlog>,
}

impl Default for RunOptions {
    fn default() -> Self {
        Self { trace: None, hash: true, recordings: None, qlog: None }
    }
}

/// See the module's description.
pub(crate) struct World {
    scenario: Rc<Scenario>,
    seed: u64,
    /// Steps in this moment.
    steps: u32,
    has_begun: bool,
    env: Env,
    clients: Vec<Client>,
    turns: Turns,
    attackers: Vec<Attacker>,
    server: Server,
    applications: Option<Applications>,
    timeline: EventQueue<Step>,
    upcoming: usize,
    meter: Meter,
    /// Clients that have closed their sessions, and how these were then.
    closing: Vec<Option<Quiescence>>,
    ledger: Ledger,
    complaints: Vec<String>,
    /// A step panicked: what it was about to change is in an unknown state.
    has_panicked: bool,
    /// The clients' hosts are suspended.
    is_suspended: bool,
    /// What middleboxes did to TCP connections.
    killed: Vec<String>,
}

/// What the scenario has for a moment.
#[derive(Clone, Copy, Debug)]
enum Step {
    Fault {
        number: usize,
        over: bool,
    },
    Action(usize),
    Transfer(usize),
    /// The run may not end before.
    Wait,
}

/// Whose turn it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Who<'a> {
    All,
    /// These clients, all for whom the network has something, and all whose deadline has come.
    Ready(&'a [usize]),
}

/// Runs a scenario with a seed.
pub fn run(scenario: &Scenario, seed: u64, options: RunOptions) -> Report {
    World::new(Rc::new(scenario.clone()), seed, options, Extensions::default()).run()
}

impl World {
    /// A world that has not begun; `applications` are those of users, one for each client.
    pub(crate) fn new(scenario: Rc<Scenario>, seed: u64, options: RunOptions, extensions: Extensions) -> Self {
        let Extensions { applications, client: client_overrides, server: server_overrides, links, dial } = extensions;
        let ledger = Ledger::default();
        let server_setup = Setup::new(&scenario.server, server_overrides, options.recordings.clone());
        let (client, server) = tls::identities(&scenario, seed, &ledger, &server_setup.config);
        let client = Rc::new(client);
        let rng = |number| SimRng::numbered(seed, Purpose::Client, number);
        let attacker = |number| {
            let rng = SimRng::numbered(seed, Purpose::Flood, number);
            Attacker::new(&scenario, number, client.clone(), rng)
        };
        let setup = Setup::new(&scenario.client, client_overrides, options.recordings.clone());
        let new_client =
            |number| Client::new(&scenario, number, setup.clone(), dial.as_ref(), client.clone(), rng(number));
        let (timeline, upcoming) = timeline(&scenario);
        let qlog = options.qlog.map(|qlog| QlogFiles::new(qlog, format!("{}, seed {seed}", scenario.title)));
        let mut trace = Trace::new(options.hash, options.trace, qlog);
        trace.note(Time::ZERO, &Note::Run { title: &scenario.title, seed });
        for (path, named) in scenario.path.iter().enumerate() {
            trace.note(Time::ZERO, &Note::Path { path, name: &named.name });
        }
        if let Some(applications) = &applications {
            applications.executor.write_to(trace.lines());
        }
        let env = Env {
            now: Time::ZERO,
            net: match scenario.transport {
                Transport::Pipes => Box::new(Pipes::new(&scenario.path, seed)),
                Transport::Packets => {
                    let mut packets = Packets::new(&scenario.path, seed);
                    links.into_iter().for_each(|(path, way, model)| packets.set_link_model(path, way, model, seed));
                    Box::new(packets)
                }
            },
            transfers: vec![Transfers::new(&scenario.transfer); scenario.clients],
            trace,
            carried: vec![0; scenario.path.len()],
            delivered: 0,
            buffer: Vec::new(),
            turns: 0,
            owners: SocketOwners::new(),
            copy: scenario.flood.iter().any(|flood| flood.kind == FloodKind::Replay).then(Default::default),
            runtime: applications.as_ref().map(Applications::runtime),
            log: None,
        };
        Self {
            seed,
            steps: 0,
            has_begun: false,
            env,
            clients: (0..scenario.clients).map(new_client).collect(),
            turns: Turns::new(scenario.clients),
            attackers: (0..scenario.flood.len()).map(attacker).collect(),
            server: Server::new(
                &scenario,
                server_setup,
                server,
                [Purpose::Server, Purpose::Farm].map(|purpose| SimRng::new(seed, purpose)),
            ),
            applications,
            timeline,
            upcoming,
            meter: Meter::new(&scenario.path),
            closing: vec![None; scenario.clients],
            ledger,
            complaints: Vec::new(),
            has_panicked: false,
            is_suspended: false,
            killed: Vec::new(),
            scenario,
        }
    }

    /// Runs to the end.
    pub(crate) fn run(mut self) -> Report {
        while self.advance(Time::MAX) {}
        self.report()
    }

    /// Takes the next step before this time, if the run has not ended; returns whether there was one.
    pub(crate) fn advance(&mut self, until: Time) -> bool {
        if !std::mem::replace(&mut self.has_begun, true) {
            self.act(Who::All);
        }
        if self.has_ended() {
            return false;
        }
        let until = until.min(Time::ZERO + self.scenario.limit.0);
        let Some(next) = self.next().filter(|next| *next <= until) else { return false };
        self.steps = if next > self.env.now { 0 } else { self.steps + 1 };
        if self.steps > MAX_STEPS {
            self.complaints.push("the world does not move on".to_owned());
            return false;
        }
        self.env.now = self.env.now.max(next);
        self.step();
        true
    }

    /// When something happens.
    fn next(&self) -> Option<Time> {
        let clients = self.turns.next().filter(|_| !self.is_suspended).into_iter();
        let attackers = self.attackers.iter().filter_map(Attacker::next);
        let applications = self.applications.as_ref().and_then(|applications| applications.executor.next());
        let clients = clients.chain(applications);
        clients.chain(attackers).chain(self.env.net.next()).chain(self.timeline.next()).chain(self.server.next()).min()
    }

    fn step(&mut self) {
        let mut disturbed = false;
        while let Some(step) = self.timeline.pop_due(self.env.now) {
            self.upcoming -= 1;
            disturbed = true;
            self.take(step);
        }
        self.env.net.advance(self.env.now);
        for why in self.env.net.take_killed() {
            self.env.trace.set_place(Host::Network.place());
            self.env.trace.note(self.env.now, &Note::Killed { why: &why });
            self.killed.push(why);
        }
        let acted = self.act(if disturbed { Who::All } else { Who::Ready(&[]) });
        if self.applications.is_some() {
            self.run_applications();
            return self.note_all();
        }
        let closing = self.close_what_is_over(acted);
        if !closing.is_empty() {
            self.act(Who::Ready(&closing));
        }
    }

    /// Of these clients, those whose applications have nothing left to do close their sessions; which did.
    fn close_what_is_over(&mut self, clients: BTreeSet<usize>) -> Vec<usize> {
        let mut closing = Vec::new();
        if self.upcoming > 0 {
            return closing;
        }
        for client in clients {
            if self.closing[client].is_some() || !self.env.transfers[client].is_over() {
                continue;
            }
            // A session that is drained ends by itself.
            if self.ends(client).into_iter().flatten().any(|driver| driver.drained_by.is_some()) {
                continue;
            }
            let quiescence = Quiescence::of(self.env.now, self.ends(client));
            self.complaints.extend(quiescence.lacks_tokens(self.ends(client)));
            self.complaints.extend(quiescence.owes_answers(self.ends(client)));
            self.closing[client] = Some(quiescence);
            closing.push(client);
            for side in [Side::Client, Side::Server] {
                self.driver(side, client).into_iter().for_each(Driver::keep_stats);
            }
            if let Some(driver) = &mut self.clients[client].driver {
                driver.conn.close(self.env.now, ErrorCode(0), b"");
            }
        }
        closing
    }

    /// All ends that have reason to do what they can; the clients whose sessions did anything.
    fn act(&mut self, who: Who<'_>) -> BTreeSet<usize> {
        let (now, before, all) = (self.env.now, self.env.delivered, who == Who::All);
        let ready = self.env.net.take_ready(Side::Client);
        let mut acted = self.clients_to_run(&who, &ready);
        for number in acted.iter().copied().filter(|_| !self.is_suspended) {
            self.clients[number].run(&mut self.env);
            self.turns.has_run(number);
        }
        let is_due = |next: Option<Time>| next.is_some_and(|at| at <= now);
        for attacker in &mut self.attackers {
            if all || !ready.is_empty() || is_due(attacker.next()) {
                attacker.run(&mut self.env);
            }
        }
        let ready = self.env.net.take_ready(Side::Server);
        if all || !ready.is_empty() || is_due(self.server.next()) {
            for number in self.turns.take_run() {
                self.server.serve(number, self.clients[number].first);
            }
            acted.append(&mut self.server.run(&mut self.env, all, &ready));
        }
        acted.iter().for_each(|client| self.note(*client));
        self.meter.count(now, self.env.delivered - before, &self.env.carried);
        self.env.carried.fill(0);
        self.env.trace.write();
        acted
    }

    fn driver(&mut self, side: Side, client: usize) -> Option<&mut Driver> {
        match side {
            Side::Client => self.clients[client].driver.as_mut(),
            Side::Server => self.server.driver_mut(client),
        }
    }

    /// Both ends of a client's session.
    fn ends(&self, client: usize) -> [Option<&Driver>; 2] {
        [self.clients[client].driver.as_ref(), self.server.driver(client)]
    }

    /// All ends of all sessions, and whose they are.
    fn all_ends(&self) -> impl Iterator<Item = (usize, &Driver)> {
        let ends = |client| self.ends(client).into_iter().flatten().map(move |driver| (client, driver));
        (0..self.clients.len()).flat_map(ends)
    }

    fn take(&mut self, step: Step) {
        let scenario = self.scenario.clone();
        match step {
            Step::Fault { number, over } => self.disturb(&scenario.fault[number], over),
            Step::Action(number) => {
                (0..self.clients.len()).for_each(|client| self.do_action(&scenario.action[number], client));
            }
            Step::Transfer(number) => {
                self.env.transfers.iter_mut().for_each(|transfers| transfers.start(self.env.now, number))
            }
            Step::Wait => {}
        }
    }

    fn disturb(&mut self, fault: &Fault, over: bool) {
        let (end, path) = (if over { "end of " } else { "" }, fault.path.as_deref());
        self.meter.mark(
            self.env.now,
            format!("{}{end}{}", path.map_or(String::new(), |path| format!("{path}: ")), fault.kind),
        );
        self.env.trace.set_place(Host::Network.place());
        self.env.trace.note(self.env.now, &Note::Fault { fault: fault.kind, path, over });
        let path = fault.path.as_deref().and_then(|name| self.scenario.path_number(name)).unwrap_or_default();
        if fault.kind == FaultKind::Restart {
            if !over {
                self.server.restart(self.env.now, &mut *self.env.net);
            }
            return;
        }
        if fault.kind == FaultKind::Suspend {
            return self.suspend(over);
        }
        self.env.net.fault(self.env.now, path, fault, over);
        if fault.kind == FaultKind::InterfaceDown {
            self.clients.iter_mut().for_each(|client| client.note_interface(self.env.now, path, over));
        }
    }

    /// The clients' hosts fall asleep, or (`over`) wake up.
    fn suspend(&mut self, over: bool) {
        self.is_suspended = !over;
        let silence = Fault::new(FaultKind::BlackHole, Duration::ZERO);
        for path in 0..self.scenario.path.len() {
            self.env.net.fault(self.env.now, path, &silence, over);
        }
        if over {
            self.clients.iter_mut().for_each(|client| client.note_resumed(self.env.now));
        }
    }

    /// What an application of one client's session does.
    fn do_action(&mut self, action: &Action, client: usize) {
        let side = Side::from(action.by);
        let name = action.path.as_deref().unwrap_or_default();
        let path = self.scenario.path_number(name).unwrap_or_default();
        if action.kind == ActionKind::Join {
            self.clients[client].join(path);
        }
        let (now, stream) =
            (self.env.now, action.transfer.and_then(|number| self.env.transfers[client].stream_of(number)));
        let outcome = match self.driver(side, client) {
            None => Err("there is no session".to_owned()),
            Some(driver) => perform(driver, now, action, path, stream),
        };
        if action.kind == ActionKind::Drain
            && self.driver(side, client).is_some_and(|driver| driver.drained_by.is_some())
        {
            self.env.transfers[client].drains(now, side);
        }
        if client == 0 {
            self.meter.mark(now, format!("{} {name}", action.kind).trim_end().to_owned());
        }
        let host = if side == Side::Client { Host::Client(client) } else { Host::Server };
        let place = self.driver(side, client).map_or(host.place(), |driver| driver.place);
        self.env.trace.set_place(place);
        let (path, error) = (action.path.as_deref(), outcome.as_ref().err().map(String::as_str));
        self.env.trace.note(now, &Note::Action { action: action.kind, path, error });
    }

    /// What can be said of the whole run only at its end.
    fn final_checks(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        let corrupt = self.scenario.fault.iter().any(|fault| fault.kind == FaultKind::Corrupt);
        // Whatever happens to it, to the network it is TLS.
        wrong.extend(self.killed.iter().filter(|_| !corrupt).map(|why| format!("a box killed {why}")));
        for (client, quiescence) in self.closing.iter().enumerate() {
            let quiescence = quiescence.as_ref();
            wrong.extend(quiescence.and_then(|then| then.closes_late(self.env.now, &self.scenario, self.ends(client))));
        }
        let early: usize = self.clients.iter().map(|client| client.early_sessions).sum();
        if self.server.early_sessions > early {
            wrong.push(format!("the server took early data {} times, of {early} tickets", self.server.early_sessions));
        }
        for (client, driver) in self.all_ends() {
            wrong.extend(final_checks(&self.scenario, &self.env.transfers[client], driver));
            wrong.extend(drains_late(&self.scenario, self.env.now, driver));
        }
        wrong
    }

    /// Ends the run where it is.
    pub(crate) fn report(mut self) -> Report {
        let mut wrong = std::mem::take(&mut self.complaints);
        let has_more = self.next().is_some();
        let mut metrics = Vec::new();
        if let Some(mut applications) = self.applications.take() {
            if wrong.is_empty() {
                let limit = has_more.then_some(self.scenario.limit);
                wrong.extend(applications.unfinished(self.env.now, limit));
            }
            applications.executor.stop();
            metrics = applications.executor.take_metrics();
        }
        wrong.append(&mut self.server.complaints);
        self.env.transfers.iter_mut().for_each(|transfers| wrong.append(&mut transfers.wrong));
        wrong.extend(self.ledger.take_repeated());
        for (_, driver) in self.all_ends() {
            let side = driver.side();
            wrong.extend(driver.oracle.complaints().iter().map(|what| format!("the {side}: {what}")));
        }
        wrong.extend(self.final_checks());
        let (trace, meter) = (
            std::mem::replace(&mut self.env.trace, Trace::new(false, None, None)).finish(),
            std::mem::take(&mut self.meter),
        );
        let killed = std::mem::take(&mut self.killed);
        let sessions = (0..self.clients.len()).map(|client| (&self.env.transfers[client], self.ends(client))).collect();
        let result = RunResult {
            seed: self.seed,
            now: self.env.now,
            sessions,
            established: self.server.has_established(),
            evicted: self.server.evicted,
            hand_overs: self.server.hand_overs(),
            turns: self.env.turns,
            meter,
            trace,
            wrong,
            killed,
            metrics,
        };
        Report::new(&self.scenario, result)
    }
}

fn timeline(scenario: &Scenario) -> (EventQueue<Step>, usize) {
    let mut steps = vec![(scenario.at_least, Step::Wait)];
    for (number, fault) in scenario.fault.iter().enumerate() {
        steps.push((fault.at, Step::Fault { number, over: false }));
        steps.extend(fault.until.map(|until| (until, Step::Fault { number, over: true })));
    }
    steps.extend(scenario.action.iter().enumerate().map(|(number, action)| (action.at, Step::Action(number))));
    steps.extend(scenario.transfer.iter().enumerate().map(|(number, transfer)| (transfer.at, Step::Transfer(number))));
    let mut events = EventQueue::default();
    for (at, step) in &steps {
        events.schedule(Time::ZERO + at.0, *step);
    }
    (events, steps.len())
}
