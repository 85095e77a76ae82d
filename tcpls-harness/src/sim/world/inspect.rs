//! What a user can see of a run between its steps.

use std::collections::VecDeque;

use tcpls_core::{Connection, Side, Time};

use super::World;
use crate::sim::hosts::env::SessionEvent;

impl World {
    /// Whether the run is over, for whatever reason but its limit.
    pub(crate) fn has_ended(&self) -> bool {
        self.is_over() || !self.is_right()
    }

    /// Ends the run where a panic stopped it; what was traced before is written.
    pub(crate) fn end_by_panic(&mut self, what: String) {
        self.has_panicked = true;
        self.complaints.push(what);
        self.env.trace.write_all();
    }

    /// Whether a panic ended the run: then no report can be made of it.
    pub(crate) fn has_panicked(&self) -> bool {
        self.has_panicked
    }

    /// Nothing happens until then; false if that is beyond the limit.
    pub(crate) fn pass(&mut self, until: Time) -> bool {
        let limit = Time::ZERO + self.scenario.limit.0;
        self.env.now = self.env.now.max(until.min(limit));
        until <= limit
    }

    pub(crate) fn now(&self) -> Time {
        self.env.now
    }

    /// The sessions' events from the first call on.
    pub(crate) fn log(&mut self) -> &mut VecDeque<SessionEvent> {
        self.env.log.get_or_insert_default()
    }

    /// One end of a client's session.
    pub(crate) fn session(&self, side: Side, client: usize) -> Option<&Connection> {
        let driver = match side {
            Side::Client => self.clients.get(client)?.driver.as_ref(),
            Side::Server => self.server.driver(client),
        };
        driver.map(|driver| &driver.conn)
    }

    /// What went wrong so far.
    pub(crate) fn wrong(&self) -> Vec<String> {
        let own = self.complaints.iter().chain(&self.server.complaints).cloned();
        let oracles = self.all_ends().flat_map(|(_, driver)| {
            let side = driver.side();
            driver.oracle.complaints().iter().map(move |what| format!("the {side}: {what}"))
        });
        own.chain(oracles).collect()
    }
}
