//! Tasks that wait for a session, and those to wake: of the application, and the session's own.
//!
//! Knows wakers and events only. Used by `shared`, which wakes them once its lock is released.

use std::collections::BTreeMap;
use std::task::Waker;

use tcpls_core::event::StreamEvent;
use tcpls_core::wire::ids::StreamId;

/// Wakers that can be called at once without an allocation each time.
const MAX_SPARE: usize = 64;

/// Those who wait, and those whose time has come.
#[derive(Debug, Default)]
pub(crate) struct Waiters {
    readers: BTreeMap<StreamId, Waker>,
    writers: BTreeMap<StreamId, Waker>,
    /// Tasks that wait until a stream is delivered, or the peer stops it.
    enders: Vec<(StreamId, Waker)>,
    openers: Vec<Waker>,
    acceptors: Vec<Waker>,
    /// Tasks that wait for the handshake or the end.
    watchers: Vec<Waker>,
    to_wake: Vec<Waker>,
    /// An empty list.
    spare: Vec<Waker>,
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
        self.enders.retain(|(waiting, _)| *waiting != id);
    }

    /// Waits until the stream is delivered, or the peer stops it.
    pub(crate) fn wait_for_end(&mut self, id: StreamId, waker: &Waker) {
        if !self.enders.iter().any(|(waiting, other)| *waiting == id && other.will_wake(waker)) {
            self.enders.push((id, waker.clone()));
        }
    }

    fn wake_enders(&mut self, id: StreamId) {
        let ended = self.enders.extract_if(.., |(waiting, _)| *waiting == id);
        self.to_wake.extend(ended.map(|(_, waker)| waker));
    }

    /// Waits until another stream may be opened.
    pub(crate) fn wait_to_open(&mut self, waker: &Waker) {
        enlist(&mut self.openers, waker);
    }

    /// Waits for a stream of the peer.
    pub(crate) fn wait_to_accept(&mut self, waker: &Waker) {
        enlist(&mut self.acceptors, waker);
    }

    /// Waits until the handshake is complete, the session is, or its sockets are closed.
    pub(crate) fn watch(&mut self, waker: &Waker) {
        enlist(&mut self.watchers, waker);
    }

    /// Those who waited for this are to be woken.
    pub(crate) fn hear(&mut self, event: StreamEvent) {
        match event {
            StreamEvent::Opened => self.to_wake.append(&mut self.acceptors),
            StreamEvent::Available => self.to_wake.append(&mut self.openers),
            StreamEvent::Readable { id } => self.to_wake.extend(self.readers.remove(&id)),
            StreamEvent::Writable { id } => self.to_wake.extend(self.writers.remove(&id)),
            StreamEvent::Stopped { id, .. } => {
                self.to_wake.extend(self.writers.remove(&id));
                self.wake_enders(id);
            }
            StreamEvent::Delivered { id } => self.wake_enders(id),
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
        self.to_wake.extend(std::mem::take(&mut self.enders).into_iter().map(|(_, waker)| waker));
        self.to_wake.append(&mut self.acceptors);
        self.to_wake.append(&mut self.openers);
        self.wake_watchers();
    }

    /// This one is to be woken.
    pub(crate) fn wake(&mut self, waker: Option<Waker>) {
        self.to_wake.extend(waker);
    }

    /// Whether any task is to be woken.
    pub(crate) fn has_any_to_wake(&self) -> bool {
        !self.to_wake.is_empty()
    }

    /// Takes out those who are to be woken: mostly one, and others. Their list is wanted back.
    pub(crate) fn take_to_wake(&mut self) -> (Option<Waker>, Vec<Waker>) {
        let last = self.to_wake.pop();
        if self.to_wake.is_empty() {
            return (last, Vec::new());
        }
        (last, std::mem::replace(&mut self.to_wake, std::mem::take(&mut self.spare)))
    }

    /// Takes the list back, for the sake of its memory.
    pub(crate) fn give_back(&mut self, woken: Vec<Waker>) {
        if woken.capacity() <= MAX_SPARE {
            self.spare = woken;
        }
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

    fn wake(waiters: &mut Waiters) -> usize {
        let (last, mut others) = waiters.take_to_wake();
        let count = others.drain(..).chain(last).count();
        waiters.give_back(others);
        count
    }

    #[test]
    fn reader_is_woken_once_for_its_stream() {
        let mut waiters = Waiters::default();
        waiters.wait_readable(StreamId(0), Waker::noop());
        waiters.hear(StreamEvent::Readable { id: StreamId(4) });
        assert!(!waiters.has_any_to_wake());
        waiters.hear(StreamEvent::Readable { id: StreamId(0) });
        assert_eq!((wake(&mut waiters), wake(&mut waiters)), (1, 0));
        waiters.hear(StreamEvent::Readable { id: StreamId(0) });
        assert!(!waiters.has_any_to_wake());
    }

    #[test]
    fn the_lists_of_those_to_be_woken_are_used_again() {
        let mut waiters = Waiters::default();
        for count in [1, 10] {
            let mut lists = Vec::new();
            for _ in 0..6 {
                (0..count).for_each(|_| waiters.wake(Some(Waker::noop().clone())));
                lists.push(waiters.to_wake.as_ptr());
                assert_eq!(wake(&mut waiters), count);
            }
            assert_eq!(lists[2..4], lists[4..], "one or two, in turns");
        }
    }

    #[test]
    fn at_the_end_all_are_woken() {
        struct NoTask;
        impl std::task::Wake for NoTask {
            fn wake(self: std::sync::Arc<Self>) {}
        }
        let (mut waiters, waker) = (Waiters::default(), Waker::from(std::sync::Arc::new(NoTask)));
        waiters.wait_readable(StreamId(0), &waker);
        waiters.wait_writable(StreamId(0), &waker);
        waiters.wait_to_open(&waker);
        waiters.wait_to_accept(&waker);
        waiters.watch(&waker);
        waiters.watch(&waker);
        waiters.wake_all();
        assert_eq!(wake(&mut waiters), 5, "the same one watches once");
    }
}
