//! Asks the policy, for one TCP connection that has room and the streams that may use it.

use core::cell::RefCell;

use super::{Choice, Scheduler, TcpView};
use crate::connection::trace::{Event, Tracer};
use crate::wire::ids::ConnectionId;

/// Which streams' data one TCP connection may take right now.
pub(in crate::connection) struct Chooser<'a> {
    policy: &'a dyn Scheduler,
    tcp: ConnectionId,
    active: &'a [TcpView],
    unsent: u64,
    /// The answer for streams that are attached to none: all of them get the same.
    unattached: Choice,
    trace: RefCell<&'a mut Tracer>,
}

impl<'a> Chooser<'a> {
    /// `active` are the TCP connections in use; those that open or are being left are not.
    pub(super) fn new(
        policy: &'a dyn Scheduler,
        tcp: ConnectionId,
        active: &'a [TcpView],
        unsent: u64,
        trace: &'a mut Tracer,
    ) -> Self {
        let unattached = ask(policy, tcp, active, unsent, trace);
        Self { policy, tcp, active, unsent, unattached, trace: RefCell::new(trace) }
    }

    /// Whether data is to go out on several TCP connections.
    pub(in crate::connection) fn is_redundant(&self) -> bool {
        self.unattached == Choice::Duplicate
    }

    /// Whether there can be anything to duplicate: a policy that does, and another TCP connection.
    pub(in crate::connection) fn may_duplicate(&self) -> bool {
        self.active.len() > 1 && self.policy.duplicates()
    }

    /// What it may do for a stream that is attached to `attached`. Asked for each stream, so that no TCP connection waits for
    /// one that may not carry the stream: it would wait forever.
    pub(in crate::connection) fn choice(&self, attached: &[ConnectionId]) -> Choice {
        if attached.is_empty() {
            return self.unattached;
        }
        let usable = self.active.iter().filter(|view| attached.contains(&view.tcp));
        let usable: Vec<TcpView> = usable.copied().collect();
        ask(self.policy, self.tcp, &usable, self.unsent, &mut self.trace.borrow_mut())
    }
}

fn ask(policy: &dyn Scheduler, tcp: ConnectionId, usable: &[TcpView], unsent: u64, trace: &mut Tracer) -> Choice {
    match usable.iter().position(|view| view.tcp == tcp) {
        // Opening or being left: used only when nothing better lives.
        None if usable.is_empty() => Choice::Send,
        None => Choice::Wait,
        Some(_) if usable.len() == 1 => Choice::Send,
        Some(asked) => {
            let choice = policy.choose(asked, usable, unsent);
            trace.emit(|| Event::Scheduled { tcp, choice, unsent, views: usable });
            choice
        }
    }
}
