//! How the sessions of one end are configured: as the scenario says, or with parts of the user's own.

use std::rc::Rc;
use std::sync::Arc;

use tcpls_core::connection::schedule::Scheduler;
use tcpls_core::record::Recorder;
use tcpls_core::testing::Recordings;
use tcpls_core::{Config, Connection};

use super::driver::scheduler;
use crate::sim::scenario::Settings;

/// Makes a scheduler for each session.
pub(crate) type MakeScheduler = Rc<dyn Fn() -> Box<dyn Scheduler>>;

/// See the module's description.
#[derive(Clone, Default)]
pub(crate) struct Setup {
    pub(crate) config: Arc<Config>,
    scheduler: Option<MakeScheduler>,
    recordings: Option<Recordings>,
}

/// What a user sets in place of a scenario's settings.
#[derive(Clone, Default)]
pub(crate) struct Overrides {
    pub(crate) config: Option<Config>,
    pub(crate) scheduler: Option<MakeScheduler>,
}

impl Setup {
    pub(crate) fn new(settings: &Settings, overrides: Overrides, recordings: Option<Recordings>) -> Self {
        let named = settings.scheduler.map(|name| Rc::new(move || scheduler(name)) as MakeScheduler);
        Self {
            config: Arc::new(overrides.config.unwrap_or_else(|| settings.config())),
            scheduler: overrides.scheduler.or(named),
            recordings,
        }
    }

    /// Returns the recorder of a new session, if sessions are recorded.
    pub(crate) fn recorder(&self) -> Option<Recorder> {
        self.recordings.as_ref().map(Recordings::recorder)
    }

    /// Gives a new session its scheduler.
    pub(crate) fn apply(&self, conn: &mut Connection) {
        self.scheduler.iter().for_each(|make| conn.set_scheduler(make()));
    }
}
