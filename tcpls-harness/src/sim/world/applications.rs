//! What users add to a run: applications and their turns, faults and links of their own.

use std::rc::Rc;

use super::{MAX_STEPS, Who, World};
use crate::dial::MakeDialPolicy;
use crate::sim::applications::Applications;
use crate::sim::applications::handles::Handles;
use crate::sim::hosts::client::Client;
use crate::sim::hosts::driver::Driver;
use crate::sim::hosts::setup::Overrides;
use crate::sim::network::link_model::LinkModel;
use crate::sim::scenario::{Direction, Fault, FaultKind};

/// What users add to a scenario.
#[derive(Default)]
pub(crate) struct Extensions {
    /// Async functions, one for each client, in place of transfers.
    pub(crate) applications: Option<Applications>,
    pub(crate) client: Overrides,
    pub(crate) server: Overrides,
    /// What decides what clients dial, made from what would decide otherwise.
    pub(crate) dial: Option<MakeDialPolicy>,
    /// Links of their own, by path and direction; for packets.
    pub(crate) links: Vec<(usize, Direction, Box<dyn LinkModel>)>,
}

impl World {
    /// The applications of users and the ends of their sessions have their turns until neither has anything to do.
    pub(super) fn run_applications(&mut self) {
        let Some(mut applications) = self.applications.take() else { return };
        for round in 0.. {
            let has_news = self.app_drivers().any(|driver| driver.handles.as_ref().is_some_and(Handles::has_news));
            if !has_news && applications.executor.next().is_none_or(|at| at > self.env.now) {
                break;
            }
            if round == MAX_STEPS {
                self.complaints.push("the applications do not come to rest".to_owned());
                break;
            }
            applications.executor.pass(self.env.now); // handles read the clock as soon as they have the session
            self.clients.iter_mut().for_each(Client::lend);
            self.server.drivers().for_each(Driver::lend);
            self.start_applications(&mut applications);
            let had_turns = applications.executor.run(self.env.now);
            self.clients.iter_mut().for_each(|client| client.take_back(&mut self.env));
            self.server.drivers().for_each(|driver| _ = driver.take_back(&mut self.env));
            for (fault, over) in applications.orders.take() {
                self.take_order(&fault, over);
            }
            if had_turns {
                self.act(Who::All);
            }
        }
        self.complaints.extend(applications.executor.take_failures());
        self.applications = Some(applications);
    }

    /// A fault of the user's own.
    fn take_order(&mut self, fault: &Fault, over: bool) {
        if let Err(what) = self.scenario.check_fault(fault, over) {
            return self.complaints.push(format!("faults: {what}"));
        }
        if fault.kind == FaultKind::Corrupt {
            Rc::make_mut(&mut self.scenario).fault.push(fault.clone()); // final checks have to know
        }
        self.disturb(fault, over);
    }

    /// Both ends of all sessions that applications may have.
    fn app_drivers(&mut self) -> impl Iterator<Item = &mut Driver> {
        self.clients.iter_mut().filter_map(|client| client.driver.as_mut()).chain(self.server.drivers())
    }

    /// Sessions that are established get their applications.
    fn start_applications(&mut self, applications: &mut Applications) {
        for (number, client) in self.clients.iter_mut().enumerate() {
            let Some(driver) = &mut client.driver else { continue };
            if let Some(session) = driver.handles.as_mut().and_then(Handles::take_session) {
                applications.start_client(number, session, driver.place);
            }
        }
        let established = self.server.drivers().filter(|driver| driver.established && applications.has_server());
        let sessions = established.filter_map(|driver| Some((driver.handles.as_mut()?.take_session()?, driver.place)));
        for (session, place) in sessions.collect::<Vec<_>>() {
            applications.start_server(session, place);
        }
    }
}
