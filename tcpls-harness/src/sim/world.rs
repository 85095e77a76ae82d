//! One run: a client, a server, a network and a timeline, from the first SYN until both ends are at rest. One loop decides
//! what happens next; all act at the present moment, in a fixed order.

use std::io::Write;
use std::rc::Rc;

use tcpls_core::testing::Ledger;
use tcpls_core::{ErrorCode, Side, State, Time};

use super::account::Origins;
use super::actions::perform;
use super::agenda::Agenda;
use super::chance::{Chance, Purpose};
use super::client::Client;
use super::driver::{Driver, Env};
use super::flood::Flood;
use super::net::Network;
use super::packets::Packets;
use super::pipes::Pipes;
use super::report::{Meter, Remains, Report};
use super::rest::Rest;
use super::scenario::{Action, ActionKind, Fault, FaultKind, Scenario, Transport};
use super::server::Server;
use super::tls;
use super::trace::{Note, Trace};
use super::transfer::Book;
use super::verdict::verdicts_on;

/// Steps in one moment. A world that wants more does not move on.
const MAX_STEPS: u32 = 100_000;

/// What is noted of a run beside its outcome.
#[derive(Default)]
pub struct Watch {
    /// Where to write what happens, as JSON lines.
    pub trace: Option<Box<dyn Write>>,
    /// No trace and no hash of it, for speed.
    pub blind: bool,
}

/// See the module's description.
pub(crate) struct World<'a> {
    scenario: &'a Scenario,
    seed: u64,
    now: Time,
    net: Box<dyn Network>,
    clients: Vec<Client>,
    floods: Vec<Flood>,
    server: Server,
    origins: Origins,
    timeline: Agenda<Step>,
    upcoming: usize,
    /// The applications of each client's session.
    books: Vec<Book>,
    trace: Trace,
    meter: Meter,
    /// Clients that have closed their sessions, and how these were then.
    closing: Vec<Option<Rest>>,
    ledger: Ledger,
    complaints: Vec<String>,
    /// What boxes on paths did to TCP connections.
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

/// Runs a scenario with a seed.
pub fn run(scenario: &Scenario, seed: u64, watch: Watch) -> Report {
    World::new(scenario, seed, watch).run()
}

impl<'a> World<'a> {
    fn new(scenario: &'a Scenario, seed: u64, watch: Watch) -> Self {
        let ledger = Ledger::default();
        let (client, server) = tls::identities(scenario.crypto, seed, &ledger);
        let client = Rc::new(client);
        let clients = 0..scenario.clients;
        let chance = |number| Chance::numbered(seed, Purpose::Client, number);
        let flood = |number| Chance::numbered(seed, Purpose::Flood, number);
        let (timeline, upcoming) = timeline(scenario);
        Self {
            scenario,
            seed,
            now: Time::ZERO,
            net: match scenario.transport {
                Transport::Pipes => Box::new(Pipes::new(&scenario.path, seed)),
                Transport::Packets => Box::new(Packets::new(&scenario.path, seed)),
            },
            clients: clients.map(|n| Client::new(scenario, n, client.clone(), chance(n))).collect(),
            floods: (0..scenario.flood.len()).map(|n| Flood::new(scenario, n, client.clone(), flood(n))).collect(),
            origins: Origins::new(),
            server: Server::new(scenario, server, Chance::new(seed, Purpose::Server)),
            timeline,
            upcoming,
            books: vec![Book::new(&scenario.transfer); scenario.clients],
            trace: if watch.blind { Trace::off() } else { Trace::new(watch.trace) },
            meter: Meter::new(&scenario.path),
            closing: vec![None; scenario.clients],
            ledger,
            complaints: Vec::new(),
            killed: Vec::new(),
        }
    }

    fn run(mut self) -> Report {
        let limit = Time::ZERO + self.scenario.limit.0;
        let mut steps = 0;
        self.act(true);
        while !self.is_over() {
            let Some(next) = self.next().filter(|next| *next <= limit) else { break };
            steps = if next > self.now { 0 } else { steps + 1 };
            if steps > MAX_STEPS {
                self.complaints.push("the world does not move on".to_owned());
                break;
            }
            self.now = self.now.max(next);
            self.step();
            if !self.is_right() {
                break;
            }
        }
        self.report()
    }

    /// When something happens.
    fn next(&self) -> Option<Time> {
        let clients =
            self.clients.iter().zip(&self.books).filter_map(|(client, book)| client.next(book.next(Side::Client)));
        let floods = self.floods.iter().filter_map(Flood::next);
        clients.chain(floods).chain(self.net.next()).chain(self.timeline.next()).chain(self.server_next()).min()
    }

    fn server_next(&self) -> Option<Time> {
        // Without a session, as after a restart, a server's applications wait for nothing.
        let served = self.books.iter().enumerate().filter(|(client, _)| self.server.driver(*client).is_some());
        self.server.next(served.filter_map(|(_, book)| book.next(Side::Server)).min())
    }

    fn step(&mut self) {
        let mut disturbed = false;
        while let Some(step) = self.timeline.pop_due(self.now) {
            self.upcoming -= 1;
            disturbed = true;
            self.take(step);
        }
        self.net.advance(self.now);
        for why in self.net.take_killed() {
            self.trace.note(self.now, None, &Note::Killed { why: why.clone() });
            self.killed.push(why);
        }
        self.act(disturbed);
        if self.close_what_is_over() {
            self.act(true);
        }
    }

    /// Clients whose applications have nothing left to do close their sessions; whether any did.
    fn close_what_is_over(&mut self) -> bool {
        let mut any = false;
        for client in 0..self.clients.len() {
            if self.closing[client].is_some() || self.upcoming > 0 || !self.books[client].is_over() {
                continue;
            }
            let rest = Rest::of(self.now, self.ends(client));
            self.complaints.extend(rest.lacks_tokens(self.ends(client)));
            (self.closing[client], any) = (Some(rest), true);
            for side in [Side::Client, Side::Server] {
                self.driver(side, client).into_iter().for_each(Driver::remember);
            }
            if let Some(driver) = &mut self.clients[client].driver {
                driver.conn.close(self.now, ErrorCode(0), b"");
            }
        }
        any
    }

    /// All ends do what they can, if they have reason to.
    fn act(&mut self, all: bool) {
        let due = |next: Option<Time>, now: Time| next.is_some_and(|at| at <= now);
        let delivered = |books: &[Book]| books.iter().map(|book| book.delivered).sum::<u64>();
        let before = delivered(&self.books);
        let mut carried = vec![0; self.scenario.path.len()];
        let ready = self.net.take_ready(Side::Client);
        for (number, client) in self.clients.iter_mut().enumerate() {
            if all || ready || due(client.next(self.books[number].next(Side::Client)), self.now) {
                self.trace.of_client(number);
                client.run(&mut Env {
                    now: self.now,
                    net: &mut *self.net,
                    books: &mut self.books,
                    trace: &mut self.trace,
                    carried: &mut carried,
                    origins: &mut self.origins,
                });
            }
        }
        for flood in &mut self.floods {
            if all || ready || due(flood.next(), self.now) {
                self.trace.of_client(self.clients.len());
                flood.run(&mut Env {
                    now: self.now,
                    net: &mut *self.net,
                    books: &mut self.books,
                    trace: &mut self.trace,
                    carried: &mut carried,
                    origins: &mut self.origins,
                });
            }
        }
        if all | self.net.take_ready(Side::Server) || due(self.server_next(), self.now) {
            for (number, client) in self.clients.iter().enumerate() {
                client.first.into_iter().for_each(|first| self.server.serve(number, first));
            }
            self.server.run(&mut Env {
                now: self.now,
                net: &mut *self.net,
                books: &mut self.books,
                trace: &mut self.trace,
                carried: &mut carried,
                origins: &mut self.origins,
            });
        }
        self.meter.count(self.now, delivered(&self.books) - before, &carried);
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
        match step {
            Step::Fault { number, over } => self.disturb(&self.scenario.fault[number], over),
            Step::Action(number) => {
                (0..self.clients.len()).for_each(|client| self.do_action(&self.scenario.action[number], client));
            }
            Step::Transfer(number) => self.books.iter_mut().for_each(|book| book.start(self.now, number)),
            Step::Wait => {}
        }
    }

    fn disturb(&mut self, fault: &Fault, over: bool) {
        let what = format!("{}{:?}", if over { "end of " } else { "" }, fault.kind);
        let place = fault.path.as_deref().map_or(String::new(), |path| format!(" {path}"));
        let (end, path) = (if over { "end of " } else { "" }, fault.path.as_deref());
        self.meter
            .mark(self.now, format!("{}{end}{}", path.map_or(String::new(), |path| format!("{path}: ")), fault.kind));
        self.trace.note(self.now, None, &Note::Fault { fault: format!("{what}{place}") });
        let path = fault.path.as_deref().and_then(|name| self.scenario.path_number(name)).unwrap_or_default();
        if fault.kind == FaultKind::Restart {
            if !over {
                self.server.restart(self.now, &mut *self.net);
            }
            return;
        }
        self.net.fault(self.now, path, fault, over);
    }

    /// What an application of one client's session does.
    fn do_action(&mut self, action: &Action, client: usize) {
        let side = Side::from(action.by);
        let name = action.path.as_deref().unwrap_or_default();
        let path = self.scenario.path_number(name).unwrap_or_default();
        if action.kind == ActionKind::Join {
            self.clients[client].join(path);
        }
        let (now, stream) = (self.now, action.transfer.and_then(|number| self.books[client].stream_of(number)));
        let outcome = match self.driver(side, client) {
            None => Err("there is no session".to_owned()),
            Some(driver) => perform(driver, now, action, path, stream),
        };
        let (what, outcome) = (format!("{:?} {name}", action.kind), outcome.err().unwrap_or_default());
        if client == 0 {
            self.meter.mark(now, format!("{} {name}", action.kind).trim_end().to_owned());
        }
        self.trace.of_client(client);
        self.trace.note(now, Some(side), &Note::Action { action: what, outcome });
    }

    /// Whether there is nothing left to see: both ends of each session are closed, or never came to be.
    fn is_over(&self) -> bool {
        let closed = |driver: &Driver| driver.conn.state() == State::Closed;
        (0..self.clients.len()).all(|number| {
            let client = &self.clients[number];
            client.driver.as_ref().map_or(client.failed, closed) && self.server.driver(number).is_none_or(closed)
        })
    }

    fn is_right(&self) -> bool {
        self.complaints.is_empty()
            && self.server.complaints.is_empty()
            && self.books.iter().all(|book| book.wrong.is_empty())
            && self.all_ends().all(|(_, driver)| driver.oracle.complaints().is_empty())
    }

    /// What can be said of the whole run only at its end.
    fn verdicts(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        let corrupt = self.scenario.fault.iter().any(|fault| fault.kind == FaultKind::Corrupt);
        // Whatever happens to it, to the network it is TLS.
        wrong.extend(self.killed.iter().filter(|_| !corrupt).map(|why| format!("a box killed {why}")));
        for (client, rest) in self.closing.iter().enumerate() {
            let late = rest.as_ref().and_then(|rest| rest.closes_late(self.now, self.scenario, self.ends(client)));
            wrong.extend(late);
        }
        for (client, driver) in self.all_ends() {
            wrong.extend(verdicts_on(self.scenario, &self.books[client], driver));
        }
        wrong
    }

    fn report(mut self) -> Report {
        let mut wrong = std::mem::take(&mut self.complaints);
        wrong.append(&mut self.server.complaints);
        self.books.iter_mut().for_each(|book| wrong.append(&mut book.wrong));
        wrong.extend(self.ledger.take_repeated());
        for (_, driver) in self.all_ends() {
            let side = driver.side();
            wrong.extend(driver.oracle.complaints().iter().map(|what| format!("{side:?}: {what}")));
        }
        wrong.extend(self.verdicts());
        let (trace, meter) =
            (std::mem::replace(&mut self.trace, Trace::off()).finish(), std::mem::take(&mut self.meter));
        let killed = std::mem::take(&mut self.killed);
        let sessions = (0..self.clients.len()).map(|client| (&self.books[client], self.ends(client))).collect();
        let remains = Remains {
            seed: self.seed,
            now: self.now,
            sessions,
            established: self.server.has_established(),
            evicted: self.server.evicted,
            meter,
            trace,
            wrong,
            killed,
        };
        Report::new(self.scenario, remains)
    }
}

fn timeline(scenario: &Scenario) -> (Agenda<Step>, usize) {
    let mut steps = vec![(scenario.at_least, Step::Wait)];
    for (number, fault) in scenario.fault.iter().enumerate() {
        steps.push((fault.at, Step::Fault { number, over: false }));
        steps.extend(fault.until.map(|until| (until, Step::Fault { number, over: true })));
    }
    steps.extend(scenario.action.iter().enumerate().map(|(number, action)| (action.at, Step::Action(number))));
    steps.extend(scenario.transfer.iter().enumerate().map(|(number, transfer)| (transfer.at, Step::Transfer(number))));
    let mut agenda = Agenda::default();
    for (at, step) in &steps {
        agenda.enter(Time::ZERO + at.0, *step);
    }
    (agenda, steps.len())
}
