//! The log of a tunnel's client: each line with its time and session, or, below another program, only what explains why
//! nothing moves. Its status shows why there is no session, too.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use crate::cli::paths::Weight;
use crate::cli::validity::timestamp;
use crate::cli::{output, status};

/// The log. Clones write to the same.
#[derive(Clone, Debug)]
pub(super) struct Journal(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    is_quiet: bool,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// The number of the latest session, as "tcpls status" shows it.
    session: u64,
    /// Why there was no session, as reported last.
    failure: Option<String>,
}

impl Journal {
    /// Returns the log of a command that runs for long.
    pub(super) fn of_service() -> Self {
        Self::new(false)
    }

    /// Returns the log of a command that another program starts for each connection, such as ssh. Its standard error is
    /// that program's terminal.
    pub(super) fn of_child() -> Self {
        Self::new(true)
    }

    fn new(is_quiet: bool) -> Self {
        Self(Arc::new(Shared { is_quiet, state: Mutex::default() }))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Logs `text`.
    pub(super) fn tell(&self, weight: Weight, text: impl fmt::Display) {
        if let Some(lines) = self.lines(weight, &text.to_string(), SystemTime::now()) {
            output::tell(lines);
        }
    }

    /// Returns what is written for `text`; `None` if it is left out.
    fn lines(&self, weight: Weight, text: &str, now: SystemTime) -> Option<String> {
        let prefix = match (self.0.is_quiet, weight) {
            (true, Weight::Detail) => return None,
            (true, Weight::Important) => "tcpls:".to_owned(),
            (false, _) => timestamp(now),
        };
        Some(text.lines().map(|line| format!("{prefix} {line}")).collect::<Vec<_>>().join("\n"))
    }

    /// Logs `text` about session number `session`.
    pub(super) fn tell_of(&self, session: u64, weight: Weight, text: impl fmt::Display) {
        if self.0.is_quiet {
            self.tell(weight, text);
        } else {
            self.tell(weight, format_args!("session {session}: {text}"));
        }
    }

    /// Logs that session number `session` began, over `path`.
    pub(super) fn began(&self, session: u64, path: &str) {
        status::set_no_session(None);
        let failed = {
            let mut state = self.state();
            state.session = session;
            state.failure.take().is_some()
        };
        let weight = if failed { Weight::Important } else { Weight::Detail };
        self.tell_of(session, weight, format_args!("connected to {path}"));
    }

    /// Logs that the server drains the session: its connections go on.
    pub(super) fn drained(&self) {
        let session = self.state().session;
        self.tell_of(session, Weight::Detail, "the server is being replaced; connecting again");
    }

    /// Logs why the session ended.
    pub(super) fn ended(&self, reason: &str) {
        let session = self.state().session;
        status::set_no_session(Some(format!("session {session} ended: {reason}")));
        let what = if self.0.is_quiet { "the session ended" } else { "ended" };
        self.tell_of(session, Weight::Important, format_args!("{what}: {reason}; connecting again"));
    }

    /// Logs why there is no session, unless that is known from the attempt before.
    pub(super) fn failed(&self, failure: &str) {
        status::set_no_session(Some(failure.to_owned()));
        if self.is_news(failure) {
            self.tell(Weight::Important, format_args!("trying again: {failure}"));
        }
    }

    fn is_news(&self, failure: &str) -> bool {
        let mut state = self.state();
        let is_news = state.failure.as_deref() != Some(failure);
        state.failure = Some(failure.to_owned());
        is_news
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    #[test]
    fn each_line_of_a_service_has_its_time() {
        let at = UNIX_EPOCH + Duration::from_millis(1_772_323_200_250);
        let lines = Journal::of_service().lines(Weight::Detail, "one\n  two", at).unwrap();
        assert_eq!(lines, "2026-03-01T00:00:00.250Z one\n2026-03-01T00:00:00.250Z   two");
    }

    #[test]
    fn below_another_program_only_what_is_important_is_reported() {
        let journal = Journal::of_child();
        assert_eq!(journal.lines(Weight::Detail, "tcp 0 lost: reset", UNIX_EPOCH), None);
        assert_eq!(journal.lines(Weight::Important, "no network", UNIX_EPOCH).unwrap(), "tcpls: no network");
    }

    #[test]
    fn the_same_failure_is_reported_once_until_a_session_begins() {
        let journal = Journal::of_service();
        let news = ["refused", "refused", "no route", "refused"].map(|failure| journal.is_news(failure));
        assert_eq!(news, [true, false, true, true]);
        journal.began(0, "192.0.2.1:443");
        assert!(journal.is_news("refused"));
    }
}
