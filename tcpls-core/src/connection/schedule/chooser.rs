//! Asks the scheduler about one TCP connection with room and the streams that may use it.

use core::cell::RefCell;

use super::{Choice, Scheduler, TcpView};
use crate::connection::trace::{Event, Tracer};
use crate::wire::ids::ConnectionId;

/// The streams whose data one TCP connection may carry now.
pub(in crate::connection) struct Chooser<'a> {
    policy: &'a dyn Scheduler,
    tcp: ConnectionId,
    active: &'a [TcpView],
    unsent: u64,
    /// The answer for unattached streams, which is the same for all of them.
    unattached: Choice,
    trace: RefCell<&'a mut Tracer>,
}

impl<'a> Chooser<'a> {
    /// `active` are the active TCP connections, without joining and retiring ones.
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

    /// Whether data may be sent on several TCP connections.
    pub(in crate::connection) fn is_redundant(&self) -> bool {
        self.unattached == Choice::Duplicate
    }

    /// Whether there can be data to duplicate: the policy duplicates, and there is another TCP connection.
    pub(in crate::connection) fn may_duplicate(&self) -> bool {
        self.active.len() > 1 && self.policy.duplicates()
    }

    /// Returns the choice for a stream that is attached to `attached`. It is made for each stream: otherwise a TCP
    /// connection could wait forever for another that must not carry the stream.
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
        // Joining or retiring: used only when no other is live.
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
