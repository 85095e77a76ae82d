//! Key updates of this endpoint: when one is needed, what it waits for, and its start.

use core::time::Duration;

use super::Connection;
use super::carried::Carried;
use super::keys::Keys;
use super::trace::Event;
use crate::error::TcpFault;
use crate::tcp::Tcp;
use crate::time::Time;
use crate::wire::ids::ConnectionId;

/// How long after a key update the next requested one may begin: a peer allows 32 a second (decision D17), wherever
/// its seconds begin. Updates that the AEAD's limit makes necessary do not wait.
const KEY_UPDATE_INTERVAL: Duration = Duration::from_millis(40);

/// Key updates of this endpoint.
#[derive(Debug, Default)]
pub(super) struct Renewal {
    /// The peer or the application has asked for one that could not be started yet.
    pub(super) owed: bool,
    /// When it may start, if it waits only for time.
    due: Option<Time>,
    /// When the last started.
    last: Option<Time>,
    /// The newest generation of the peer's whose KeyUpdate asked for one.
    asked_in: u32,
}

impl Renewal {
    /// The peer's KeyUpdate in this generation of its keys asks for one; whether none did before.
    pub(super) fn handle_request(&mut self, generation: u32) -> bool {
        let is_new = generation > self.asked_in;
        self.asked_in = self.asked_in.max(generation);
        is_new
    }
}

impl Connection {
    /// Starts the requested key update, if it is time. If the peer has not shown that it has the generation
    /// before, it is asked to with a Ping on `tcp`, or on any, and the update starts then: the first record of a join must not
    /// be more than one generation ahead of it.
    pub(super) fn start_owed_key_update(&mut self, now: Time, tcp: Option<ConnectionId>) {
        if !self.renewal.owed {
            return;
        }
        let before = self.key_updates.0;
        let earliest = self.renewal.last.filter(|_| !self.plain).map_or(now, |last| last + KEY_UPDATE_INTERVAL);
        self.renewal.due = (now < earliest).then_some(earliest);
        if now >= earliest {
            self.start_key_update(now);
        }
        if self.key_updates.0 > before {
            self.renewal.owed = false;
        } else {
            let any =
                self.tcps.iter().find(|entry| entry.is_active() && !self.is_bypassed(entry)).map(|entry| entry.id());
            tcp.or(any).into_iter().for_each(|tcp| self.ask_for_confirmation(tcp));
        }
    }

    /// When the requested key update may start, if it waits for nothing but that.
    pub(super) fn renewal_deadline(&self) -> Option<Time> {
        self.renewal.due
    }

    pub(super) fn start_due_key_update(&mut self, now: Time) {
        if self.renewal.due.is_some_and(|due| due <= now) {
            self.start_owed_key_update(now, None);
        }
    }

    /// Renews the keys when half of their uses are behind them; called after each record.
    pub(super) fn renew_keys(&mut self, now: Time, tcp: ConnectionId) {
        // The draft has no key updates: its peers may not follow one on several TCP connections.
        if self.keys.as_ref().is_none_or(|keys| !keys.wants_update()) || self.is_draft_only() {
            return;
        }
        self.scratch.views_are_right = false; // others may be lost
        self.give_up_silent_laggards(now, tcp);
        let before = self.key_updates.0;
        self.start_key_update(now);
        if self.key_updates.0 == before {
            // An endpoint that only sends ACKs gets no ACKs: its key update could never complete.
            self.ask_for_confirmation(tcp);
        }
    }

    /// Has the peer show, by acknowledging a Ping, that it has the newest generation of keys.
    fn ask_for_confirmation(&mut self, tcp: ConnectionId) {
        let is_confirmed = self.keys.as_ref().is_none_or(Keys::is_confirmed);
        if let Some(entry) = self.tcps.get_mut(tcp).filter(|entry| !is_confirmed && entry.sent().is_empty()) {
            entry.live().ask();
        }
    }

    /// Makes stalled TCP connections with old keys lost: they must not delay a key update until the others' key is used
    /// up.
    fn give_up_silent_laggards(&mut self, now: Time, tcp: ConnectionId) {
        let target = self.keys.as_ref().map_or(0, Keys::seal_target);
        let is_silent =
            |entry: &&Tcp<Carried>| entry.liveness().is_stalled() && entry.id() != tcp && entry.lags(target);
        let silent: Vec<ConnectionId> = self.tcps.iter().filter(is_silent).map(|entry| entry.id()).collect();
        silent.into_iter().for_each(|tcp| self.lose_tcp(now, tcp, TcpFault::UserTimeout, None));
    }

    /// Whether the peer may still need an older generation than the newest, for what is under way on a TCP connection. It
    /// keeps few (decision D15), and opens the first record of a join with at most the one before its newest. A Ping finds
    /// out.
    fn has_laggard(&mut self) -> bool {
        let target = self.keys.as_ref().map_or(0, Keys::seal_target);
        let mut laggards = self.tcps.iter_mut().filter(|entry| entry.lags(target)).peekable();
        let has_one = laggards.peek().is_some();
        laggards.filter(|entry| entry.sent().is_empty()).for_each(|entry| entry.live().ask());
        has_one
    }

    /// Starts a new generation of this endpoint's keys; each TCP connection steps to it before its next record.
    fn start_key_update(&mut self, now: Time) {
        if !self.plain && self.has_laggard() {
            return;
        }
        let Some(keys) = &mut self.keys else { return };
        if self.plain {
            // Nothing is acknowledged there, and there are no joins: the peer steps in order on its one TCP connection.
            keys.confirm_seal(keys.seal_target());
        }
        if keys.start_seal_update().is_ok() {
            self.key_updates.0 += 1;
            self.trace.emit(|| Event::KeyUpdateStarted { generation: keys.seal_target() });
            self.renewal.last = Some(now);
        }
    }
}
