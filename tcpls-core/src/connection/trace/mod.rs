//! Events inside a session, for logs, simulations and recordings.
//!
//! A [`Sink`] receives the events of one [`Connection`] from [`set_trace`](crate::Connection::set_trace) on. With and
//! without a sink the session gives the same bytes; without one an event costs one comparison. Events borrow from the
//! session, which allocates nothing for them. They contain no stream data, no token and no key. [`Event`] lists them;
//! `docs/trace.md` has the table.
//!
//! ```
//! use std::sync::{Arc, Mutex};
//! use tcpls_core::trace::{Event, Sink};
//! use tcpls_core::Time;
//!
//! /// Counts the bytes of the records that a session sent.
//! struct Sent(Arc<Mutex<usize>>);
//!
//! impl Sink for Sent {
//!     fn event(&mut self, _now: Time, event: &Event<'_>) {
//!         if let Event::RecordSent { bytes, .. } = event {
//!             *self.0.lock().unwrap() += bytes;
//!         }
//!     }
//! }
//!
//! # fn trace(conn: &mut tcpls_core::Connection) {
//! let sent = Arc::default();
//! conn.set_trace(Some(Box::new(Sent(Arc::clone(&sent)))));
//! # }
//! ```

mod event;
mod frames;

pub use self::event::{Content, Event, Limit};
pub use self::frames::{Frame, Frames};

use super::record::Recorder;
use super::{Connection, State};
use crate::time::Time;

/// Receives the events of a session.
pub trait Sink: Send {
    /// Handles one event. It must not block: the session waits for it.
    ///
    /// `now` is the time of the call during which the event happened or, if that call has no time, of the call before.
    fn event(&mut self, now: Time, event: &Event<'_>);

    /// Returns the memory that the sink holds for this session, in bytes: [`Connection::memory`] counts it.
    fn memory(&self) -> usize {
        0
    }
}

/// All get the same events, in their order.
impl Sink for Vec<Box<dyn Sink>> {
    fn event(&mut self, now: Time, event: &Event<'_>) {
        self.iter_mut().for_each(|sink| sink.event(now, event));
    }

    fn memory(&self) -> usize {
        self.iter().map(|sink| sink.memory()).sum()
    }
}

/// The sink and the recorder of a session, if it has them.
#[derive(Default)]
pub(super) struct Tracer(pub(super) Option<On>);

pub(super) struct On {
    sink: Option<Box<dyn Sink>>,
    pub(super) record: Option<Box<Recorder>>,
    now: Time,
    state: State,
}

impl Tracer {
    /// A call with a time begins.
    #[inline(always)]
    pub(super) fn set_now(&mut self, now: Time) {
        if let Some(on) = &mut self.0 {
            on.now = now;
        }
    }

    #[inline(always)]
    pub(super) fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// Memory of the recorder and of the sink.
    pub(super) fn memory(&self) -> usize {
        let Some(on) = &self.0 else { return 0 };
        let record = on.record.as_ref().map_or(0, |record| record.memory());
        record + on.sink.as_ref().map_or(0, |sink| sink.memory())
    }

    /// Frees memory that the recorder keeps for more.
    pub(super) fn shrink_to_fit(&mut self) {
        let record = self.0.as_mut().and_then(|on| on.record.as_mut());
        record.into_iter().for_each(|record| record.shrink_to_fit());
    }

    /// Reports an event to the sink; `make` is called only if there is one.
    #[inline(always)]
    pub(super) fn emit<'a>(&mut self, event: impl FnOnce() -> Event<'a>) {
        if let Some(on) = &mut self.0 {
            on.emit(event);
        }
    }
}

impl On {
    #[cold]
    #[inline(never)]
    fn emit<'a>(&mut self, event: impl FnOnce() -> Event<'a>) {
        let event = event();
        self.record.iter_mut().for_each(|record| record.trace(&event));
        self.sink.iter_mut().for_each(|sink| sink.event(self.now, &event));
    }
}

impl Connection {
    /// Reports the events of this session to `sink` from now on; `None` stops that.
    ///
    /// The session owns its sink. A sink that reports elsewhere holds a channel or an `Arc`.
    pub fn set_trace(&mut self, sink: Option<Box<dyn Sink>>) {
        let (now, state) = (self.last_heard, self.state());
        let record = self.trace.0.take().and_then(|on| on.record);
        let is_on = sink.is_some() || record.is_some();
        self.trace = Tracer(is_on.then_some(On { sink, record, now, state }));
    }

    /// Records this session from now on.
    pub(super) fn set_recorder(&mut self, recorder: Recorder, now: Time) {
        let state = self.state();
        self.trace = Tracer(Some(On { sink: None, record: Some(Box::new(recorder)), now, state }));
    }

    /// Reports the events of this session to `sink`, too, from now on.
    pub fn add_trace(&mut self, sink: Box<dyn Sink>) {
        let before = self.trace.0.as_mut().and_then(|on| on.sink.take());
        self.set_trace(Some(match before {
            Some(before) => Box::new(vec![before, sink]),
            None => sink,
        }));
    }

    /// Reports the session's state if it has changed.
    #[inline]
    pub(super) fn trace_state(&mut self) {
        if self.trace.is_on() {
            self.trace_change();
        }
    }

    #[cold]
    fn trace_change(&mut self) {
        let to = self.state();
        let Some(on) = &mut self.trace.0 else { return };
        let from = core::mem::replace(&mut on.state, to);
        if from != to {
            on.emit(|| Event::StateChanged { from, to });
        }
    }
}
