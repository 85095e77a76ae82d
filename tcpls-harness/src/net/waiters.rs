//! Who waits for what in a session, and who is to be woken: tasks of the application, and the session's own.
//!
//! Knows wakers and events only. Used by `shared`, which wakes them once its lock is released.

use std::collections::BTreeMap;
use std::task::Waker;

use tcpls_core::event::StreamEvent;
use tcpls_core::wire::ids::StreamId;

/// Those who wait, and those whose time has come.
#[derive(Debug, Default)]
pub(crate) struct Waiters {
    readers: BTreeMap<StreamId, Waker>,
    writers: BTreeMap<StreamId, Waker>,
    openers: Vec<Waker>,
    acceptors: Vec<Waker>,
    /// Who waits for the handshake or the end.
    watchers: Vec<Waker>,
    to_wake: Vec<Waker>,
}

impl Waiters {
    /// Waits until the stream can be read, in the place of who did before.
    pub(crate) fn wait_readable(&mut self, id: StreamId, waker: &Waker) {
        self.readers.insert(id, waker.clone());
    }

    /// Waits until the stream can be written to, in the place of who did before.
    pub(crate) fn wait_writable(&mut self, id: StreamId, waker: &Waker) {
        self.writers.insert(id, waker.clone());
    }

    /// The application holds the stream no more.
    pub(crate) fn forget_reader(&mut self, id: StreamId) {
        self.readers.remove(&id);
    }

    /// The application holds the stream no more.
    pub(crate) fn forget_writer(&mut self, id: StreamId) {
        self.writers.remove(&id);
    }

    /// Waits until another stream may be opened.
    pub(crate) fn wait_to_open(&mut self, waker: &Waker) {
        enlist(&mut self.openers, waker);
    }

    /// Waits for a stream of the peer's.
    pub(crate) fn wait_to_accept(&mut self, waker: &Waker) {
        enlist(&mut self.acceptors, waker);
    }

    /// Waits until the handshake is over, the session is, or its sockets are closed.
    pub(crate) fn watch(&mut self, waker: &Waker) {
        enlist(&mut self.watchers, waker);
    }

    /// Those who waited for this are to be woken.
    pub(crate) fn hear(&mut self, event: StreamEvent) {
        match event {
            StreamEvent::Opened => self.to_wake.append(&mut self.acceptors),
            StreamEvent::Available => self.to_wake.append(&mut self.openers),
            StreamEvent::Readable { id } => self.to_wake.extend(self.readers.remove(&id)),
            StreamEvent::Writable { id } | StreamEvent::Stopped { id, .. } => {
                self.to_wake.extend(self.writers.remove(&id));
            }
            _ => {}
        }
    }

    /// Those who watch are to be woken.
    pub(crate) fn wake_watchers(&mut self) {
        self.to_wake.append(&mut self.watchers);
    }

    /// All who wait are to be woken.
    pub(crate) fn wake_all(&mut self) {
        self.to_wake.extend(std::mem::take(&mut self.readers).into_values());
        self.to_wake.extend(std::mem::take(&mut self.writers).into_values());
        self.to_wake.append(&mut self.acceptors);
        self.to_wake.append(&mut self.openers);
        self.wake_watchers();
    }

    /// This one is to be woken.
    pub(crate) fn wake(&mut self, waker: Option<Waker>) {
        self.to_wake.extend(waker);
    }

    /// Whether anybody is to be woken.
    pub(crate) fn has_any_to_wake(&self) -> bool {
        !self.to_wake.is_empty()
    }

    /// Takes out those who are to be woken. Mostly it is one, and then the memory of the list stays where it is.
    pub(crate) fn take_to_wake(&mut self) -> impl Iterator<Item = Waker> + use<> {
        let last = self.to_wake.pop();
        let others = if self.to_wake.is_empty() { Vec::new() } else { std::mem::take(&mut self.to_wake) };
        others.into_iter().chain(last)
    }
}

fn enlist(waiting: &mut Vec<Waker>, waker: &Waker) {
    if !waiting.iter().any(|other| other.will_wake(waker)) {
        waiting.push(waker.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_reads_is_woken_for_its_stream_once_and_no_memory_is_asked_for_again() {
        let mut waiters = Waiters::default();
        let mut room = None;
        for _ in 0..3 {
            waiters.wait_readable(StreamId(0), Waker::noop());
            waiters.hear(StreamEvent::Readable { id: StreamId(4) });
            assert!(!waiters.has_any_to_wake());
            waiters.hear(StreamEvent::Readable { id: StreamId(0) });
            assert_eq!(waiters.take_to_wake().count(), 1);
            assert_eq!(waiters.take_to_wake().count(), 0);
            let list = (waiters.to_wake.as_ptr(), waiters.to_wake.capacity());
            assert_eq!(*room.get_or_insert(list), list);
        }
    }

    #[test]
    fn at_the_end_all_are_woken() {
        let mut waiters = Waiters::default();
        waiters.wait_readable(StreamId(0), Waker::noop());
        waiters.wait_writable(StreamId(0), Waker::noop());
        waiters.wait_to_open(Waker::noop());
        waiters.wait_to_accept(Waker::noop());
        waiters.watch(Waker::noop());
        waiters.watch(Waker::noop());
        waiters.wake_all();
        assert_eq!(waiters.take_to_wake().count(), 5, "the same one watches once");
    }
}
