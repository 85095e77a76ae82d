//! The model checker's locks, flags and threads, in place of those in `tcpls_harness::sync`.

use std::fmt;
use std::future::Future;
use std::ops::{Deref, DerefMut};
use std::pin::Pin;
use std::sync::{LockResult, PoisonError, TryLockError};
use std::task::{Context, Poll, Waker};

pub(crate) use loom::sync::atomic::AtomicBool;
pub(crate) use loom::thread;

/// A mutex that reports poison as the standard library's does: the checker's own stops the model at a panic.
///
/// Whether it is locked is the checker's flag. A thread that finds it locked parks; the checker switches threads only at
/// its own operations, so nothing comes between the look at the flag and the place in the queue.
pub(crate) struct Mutex<T> {
    is_locked: AtomicBool,
    inner: std::sync::Mutex<T>,
    parked: std::sync::Mutex<Vec<thread::Thread>>,
}

impl<T> Mutex<T> {
    pub(crate) fn new(value: T) -> Self {
        Self { is_locked: AtomicBool::new(false), inner: std::sync::Mutex::new(value), parked: Default::default() }
    }

    pub(crate) fn lock(&self) -> LockResult<MutexGuard<'_, T>> {
        while self.is_locked.swap(true, std::sync::atomic::Ordering::AcqRel) {
            self.parked.lock().unwrap().push(thread::current());
            thread::park();
        }
        let guard = |guard| MutexGuard { mutex: self, guard: Some(guard) };
        match self.inner.try_lock() {
            Ok(free) => Ok(guard(free)),
            Err(TryLockError::Poisoned(poisoned)) => Err(PoisonError::new(guard(poisoned.into_inner()))),
            Err(TryLockError::WouldBlock) => unreachable!("the flag says that it is free"),
        }
    }
}

impl<T: Default> Default for Mutex<T> {
    fn default() -> Self {
        Self::new(T::default())
    }
}

impl<T> fmt::Debug for Mutex<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Mutex")
    }
}

pub(crate) struct MutexGuard<'a, T> {
    mutex: &'a Mutex<T>,
    guard: Option<std::sync::MutexGuard<'a, T>>,
}

impl<T> Deref for MutexGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.guard.as_deref().expect("until it is dropped")
    }
}

impl<T> DerefMut for MutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        self.guard.as_deref_mut().expect("until it is dropped")
    }
}

impl<T> Drop for MutexGuard<'_, T> {
    fn drop(&mut self) {
        self.guard = None;
        self.mutex.is_locked.swap(false, std::sync::atomic::Ordering::AcqRel);
        self.mutex.parked.lock().unwrap().drain(..).for_each(|thread| thread.unpark());
    }
}

/// A condition variable for that mutex. Each wait ends with a notification: one that comes too early is lost.
#[derive(Debug, Default)]
pub(crate) struct Condvar {
    waiting: std::sync::Mutex<Vec<thread::Thread>>,
}

impl Condvar {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    pub(crate) fn wait<'a, T>(&self, guard: MutexGuard<'a, T>) -> LockResult<MutexGuard<'a, T>> {
        let (mutex, me) = (guard.mutex, thread::current());
        self.waiting.lock().unwrap().push(me.clone());
        drop(guard);
        // A park can end without a notification: with the token of an earlier one.
        while self.waiting.lock().unwrap().iter().any(|waiting| waiting.id() == me.id()) {
            thread::park();
        }
        mutex.lock()
    }

    pub(crate) fn notify_all(&self) {
        let waiting = std::mem::take(&mut *self.waiting.lock().unwrap());
        waiting.into_iter().for_each(|thread| thread.unpark());
    }
}

/// What of tokio's `Notify` is in use: a future gets the notifications that are made after its creation.
#[derive(Default)]
pub(crate) struct Notify {
    state: Mutex<Notifications>,
}

#[derive(Default)]
struct Notifications {
    made: usize,
    waiting: Vec<Waker>,
}

impl Notify {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    pub(crate) fn notified(&self) -> Notified<'_> {
        Notified { notify: self, made: self.lock().made }
    }

    pub(crate) fn notify_waiters(&self) {
        let mut state = self.lock();
        state.made += 1;
        let waiting = std::mem::take(&mut state.waiting);
        drop(state);
        waiting.into_iter().for_each(Waker::wake);
    }

    fn lock(&self) -> MutexGuard<'_, Notifications> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub(crate) struct Notified<'a> {
    notify: &'a Notify,
    made: usize,
}

impl Notified<'_> {
    pub(crate) fn enable(self: Pin<&mut Self>) -> bool {
        self.notify.lock().made > self.made
    }
}

impl Future for Notified<'_> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let mut state = self.notify.lock();
        if state.made > self.made {
            return Poll::Ready(());
        }
        state.waiting.push(cx.waker().clone());
        Poll::Pending
    }
}
