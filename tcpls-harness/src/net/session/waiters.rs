//! Tasks that wait for a session, and those to wake: of the application, and the session's own.
//!
//! Knows wakers and events only. A waker is code of the application's runtime: `shared` clones, calls and drops wakers
//! while its lock is released.

use std::collections::BTreeMap;
use std::task::Waker;

use tcpls_core::event::StreamEvent;
use tcpls_core::wire::ids::StreamId;

/// Wakers that can be called at once without an allocation each time.
const MAX_SPARE: usize = 64;

/// What a task waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wait {
    /// The stream can be read. One task waits for this: the last one.
    Readable(StreamId),
    /// The stream can be written to. One task waits for this: the last one.
    Writable(StreamId),
    /// The stream is delivered, or the peer stops it.
    End(StreamId),
    /// Another stream may be opened.
    Open,
    /// The peer has opened a stream.
    Accept,
    /// The handshake is complete, the session is drained or has ended, or its sockets are closed.
    Session,
}

/// Tasks that wait, and those to wake.
#[derive(Debug, Default)]
pub(crate) struct Waiters {
    readers: BTreeMap<StreamId, Waker>,
    writers: BTreeMap<StreamId, Waker>,
    enders: Vec<(StreamId, Waker)>,
    openers: Vec<Waker>,
    acceptors: Vec<Waker>,
    watchers: Vec<Waker>,
    to_wake: Vec<Waker>,
    /// Wakers that are no longer needed, to be dropped without the lock.
    retired: Vec<Waker>,
    /// An empty list.
    spare: Vec<Waker>,
}

/// Wakers to call and to drop without the lock: mostly at most one of each.
#[derive(Debug, Default)]
pub(crate) struct Released {
    last_to_wake: Option<Waker>,
    to_wake: Vec<Waker>,
    last_retired: Option<Waker>,
    retired: Vec<Waker>,
}

impl Released {
    /// Calls and drops the wakers. Returns a list whose memory is of use again.
    pub(crate) fn settle(mut self) -> Option<Vec<Waker>> {
        self.to_wake.drain(..).chain(self.last_to_wake).for_each(Waker::wake);
        drop((self.retired, self.last_retired));
        (self.to_wake.capacity() > 0).then_some(self.to_wake)
    }
}

impl Waiters {
    /// Whether a task with this waker waits for `what` already.
    pub(crate) fn has(&self, what: Wait, waker: &Waker) -> bool {
        let is_same = |other: &Waker| other.will_wake(waker);
        match what {
            Wait::Readable(id) => self.readers.get(&id).is_some_and(is_same),
            Wait::Writable(id) => self.writers.get(&id).is_some_and(is_same),
            Wait::End(id) => self.enders.iter().any(|(waiting, other)| *waiting == id && is_same(other)),
            Wait::Open => self.openers.iter().any(is_same),
            Wait::Accept => self.acceptors.iter().any(is_same),
            Wait::Session => self.watchers.iter().any(is_same),
        }
    }

    /// Makes the task with this waker wait for `what`.
    pub(crate) fn wait(&mut self, what: Wait, waker: Waker) {
        match what {
            Wait::Readable(id) => self.retired.extend(self.readers.insert(id, waker)),
            Wait::Writable(id) => self.retired.extend(self.writers.insert(id, waker)),
            Wait::End(id) => self.enders.push((id, waker)),
            Wait::Open => self.openers.push(waker),
            Wait::Accept => self.acceptors.push(waker),
            Wait::Session => self.watchers.push(waker),
        }
    }

    /// The application holds the stream no more.
    pub(crate) fn forget_reader(&mut self, id: StreamId) {
        self.retired.extend(self.readers.remove(&id));
    }

    /// The application holds the stream no more.
    pub(crate) fn forget_writer(&mut self, id: StreamId) {
        self.retired.extend(self.writers.remove(&id));
        let forgotten = self.enders.extract_if(.., |(waiting, _)| *waiting == id);
        self.retired.extend(forgotten.map(|(_, waker)| waker));
    }

    fn wake_enders(&mut self, id: StreamId) {
        let ended = self.enders.extract_if(.., |(waiting, _)| *waiting == id);
        self.to_wake.extend(ended.map(|(_, waker)| waker));
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

    /// This one is no longer needed.
    pub(crate) fn retire(&mut self, waker: Option<Waker>) {
        self.retired.extend(waker);
    }

    /// Frees the memory of empty lists.
    pub(crate) fn shrink_to_fit(&mut self) {
        [&mut self.readers, &mut self.writers]
            .into_iter()
            .filter(|map| map.is_empty())
            .for_each(|map| *map = BTreeMap::new());
        self.enders.shrink_to_fit();
        for list in [&mut self.openers, &mut self.acceptors, &mut self.watchers, &mut self.to_wake, &mut self.spare] {
            list.shrink_to_fit();
        }
    }

    /// Whether any task is to be woken.
    pub(crate) fn has_any_to_wake(&self) -> bool {
        !self.to_wake.is_empty()
    }

    /// Takes out what is to be called and dropped without the lock.
    pub(crate) fn release(&mut self) -> Released {
        let mut released =
            Released { last_to_wake: self.to_wake.pop(), last_retired: self.retired.pop(), ..Released::default() };
        if !self.to_wake.is_empty() {
            released.to_wake = std::mem::replace(&mut self.to_wake, std::mem::take(&mut self.spare));
        }
        if !self.retired.is_empty() {
            released.retired = std::mem::take(&mut self.retired);
        }
        released
    }

    /// Takes a list back, for the sake of its memory.
    pub(crate) fn give_back(&mut self, woken: Vec<Waker>) {
        if woken.capacity() <= MAX_SPARE {
            self.spare = woken;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wake(waiters: &mut Waiters) -> usize {
        let released = waiters.release();
        let count = released.to_wake.len() + usize::from(released.last_to_wake.is_some());
        if let Some(list) = released.settle() {
            waiters.give_back(list);
        }
        count
    }

    fn wait(waiters: &mut Waiters, what: Wait, waker: &Waker) {
        if !waiters.has(what, waker) {
            waiters.wait(what, waker.clone());
        }
    }

    #[test]
    fn reader_is_woken_once_for_its_stream() {
        let mut waiters = Waiters::default();
        wait(&mut waiters, Wait::Readable(StreamId(0)), Waker::noop());
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
        for what in [Wait::Readable(StreamId(0)), Wait::Writable(StreamId(0)), Wait::End(StreamId(0))] {
            wait(&mut waiters, what, &waker);
        }
        for what in [Wait::Open, Wait::Accept, Wait::Session, Wait::Session] {
            wait(&mut waiters, what, &waker);
        }
        waiters.wake_all();
        assert_eq!(wake(&mut waiters), 6, "the same one watches once");
    }
}
