//! Asks the scheduler about one TCP connection with room and the streams that may use it. Before, it keeps interactive
//! streams and bulk data apart: bulk data uses no lanes, and interactive streams use lanes and TCP connections without
//! bulk data. Where that leaves none, all may be used. A policy that sends data on several TCP connections sends all of it
//! on all of them.

use core::cell::{Cell, RefCell};

use arrayvec::ArrayVec;

use super::{Choice, Scheduler, TcpView};
use crate::connection::trace::{Event, Tracer};
use crate::stream::Candidate;
use crate::wire::ids::ConnectionId;

/// Up to this many TCP connections are told apart without an allocation.
const FEW: usize = 8;

/// The streams whose data one TCP connection may carry now.
pub(in crate::connection) struct Chooser<'a> {
    policy: &'a dyn Scheduler,
    tcp: ConnectionId,
    active: &'a [TcpView],
    unsent: u64,
    /// The answer for unattached bulk streams, which is the same for all of them.
    bulk: Choice,
    /// The same for interactive ones, once it is known.
    interactive: Cell<Option<Choice>>,
    trace: RefCell<&'a mut Tracer>,
}

impl<'a> Chooser<'a> {
    /// `active` are the active TCP connections, without joining and retiring ones.
    #[inline]
    pub(super) fn new(
        policy: &'a dyn Scheduler,
        tcp: ConnectionId,
        active: &'a [TcpView],
        unsent: u64,
        trace: &'a mut Tracer,
    ) -> Self {
        let interactive = Cell::new(None);
        let mut chooser =
            Self { policy, tcp, active, unsent, bulk: Choice::Send, interactive, trace: RefCell::new(trace) };
        if !active.is_empty() {
            chooser.bulk = chooser.among(active, false);
        }
        chooser
    }

    /// Whether data may be sent on several TCP connections.
    pub(in crate::connection) fn is_redundant(&self) -> bool {
        self.bulk == Choice::Duplicate
    }

    /// Whether there can be data to duplicate: the policy duplicates, and there is another TCP connection.
    pub(in crate::connection) fn may_duplicate(&self) -> bool {
        self.active.len() > 1 && self.policy.duplicates()
    }

    /// Returns the choice for a stream. It is made for each attached stream: otherwise a TCP connection could wait
    /// forever for another that must not carry the stream.
    pub(in crate::connection) fn choice(&self, stream: &Candidate<'_>) -> Choice {
        if !stream.attached.is_empty() {
            let usable = self.active.iter().filter(|view| stream.attached.contains(&view.tcp));
            let usable: Vec<TcpView> = usable.copied().collect();
            return self.among(&usable, stream.is_interactive);
        }
        if !stream.is_interactive {
            return self.bulk;
        }
        let choice = self.interactive.get().unwrap_or_else(|| self.among(self.active, true));
        self.interactive.set(Some(choice));
        choice
    }

    /// The choice if a stream may use these TCP connections.
    #[inline]
    fn among(&self, usable: &[TcpView], is_interactive: bool) -> Choice {
        if !is_interactive && !usable.iter().any(|view| view.lane) {
            return self.ask(usable, self.unsent); // as nearly always
        }
        self.apart(usable, is_interactive)
    }

    /// The same where streams of a class may not use some of them.
    #[inline(never)]
    fn apart(&self, usable: &[TcpView], is_interactive: bool) -> Choice {
        // The policy is asked last: most sessions have no lane.
        let is_apart = |view: &TcpView| match is_interactive {
            true => !view.stalled && (view.lane || !view.bulk || self.policy.duplicates()),
            false => !view.lane || self.policy.duplicates(),
        };
        if usable.iter().all(is_apart) {
            return self.ask(usable, self.unsent);
        }
        // A backup carries bulk data as if there were no lane. It carries no interactive streams beside another that could.
        let counts = |view: &&TcpView| if is_interactive { !view.stalled } else { !view.lane };
        let only_backups = usable.iter().filter(counts).all(|view| view.backup);
        let mut fits = usable.iter().filter(|view| is_apart(view) && (only_backups || !view.backup)).copied();
        let few: ArrayVec<TcpView, FEW> = fits.by_ref().take(FEW).collect();
        // Interactive streams have little to send, and share no TCP connection with what the others have.
        let unsent = if is_interactive { 0 } else { self.unsent };
        match fits.next() {
            // All that an attached stream may use are stalled: new data would only be sent there again.
            None if is_interactive && usable.iter().all(|view| view.stalled) => Choice::Wait,
            None if few.is_empty() => self.ask(usable, self.unsent),
            None => self.ask(&few, unsent),
            Some(next) => self.ask(&few.into_iter().chain([next]).chain(fits).collect::<Vec<_>>(), unsent),
        }
    }

    #[inline]
    fn ask(&self, usable: &[TcpView], unsent: u64) -> Choice {
        let tcp = self.tcp;
        match usable.iter().position(|view| view.tcp == tcp) {
            // Joining or retiring: used only when no other is live.
            None if usable.is_empty() => Choice::Send,
            None => Choice::Wait,
            Some(_) if usable.len() == 1 => Choice::Send,
            Some(asked) => {
                let choice = self.policy.choose(asked, usable, unsent);
                self.trace.borrow_mut().emit(|| Event::Scheduled { tcp, choice, unsent, views: usable });
                choice
            }
        }
    }
}
