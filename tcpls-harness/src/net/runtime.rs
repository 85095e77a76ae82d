//! [`Runtime`]: time, tasks and random numbers for an application, from tokio or from a simulation.

use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tcpls_core::time::Time;
use tokio::sync::oneshot;

use super::os;

/// A future on the heap that any thread may poll.
pub(crate) type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// The replacement of tokio in a simulation.
pub(crate) trait Backend: Send + Sync {
    fn now(&self) -> Time;
    fn sleep_until(&self, at: Time) -> BoxFuture<()>;
    fn spawn(&self, task: BoxFuture<()>);
    fn fill_random(&self, bytes: &mut [u8]);
}

/// The clock, timers, tasks and random numbers for an application, from tokio or from a simulation.
///
/// An application that uses this type instead of tokio and the operating system runs unchanged over sockets and in a
/// simulation (`sim`, feature `sim`). [`Session::runtime`] returns the one to use. Clones are handles of the same
/// runtime.
///
/// [`Session::runtime`]: super::Session::runtime
#[derive(Clone)]
pub struct Runtime {
    /// `None`: tokio's.
    backend: Option<Arc<dyn Backend>>,
}

impl Runtime {
    /// Tokio and the operating system: for real sockets, within a tokio runtime with its time driver switched on.
    pub fn tokio() -> Self {
        Self { backend: None }
    }

    #[cfg(feature = "sim")]
    pub(crate) fn simulated(backend: Arc<dyn Backend>) -> Self {
        Self { backend: Some(backend) }
    }

    /// Returns the current time. Only differences are meaningful: the origin is the start of the simulation, or some
    /// time in the life of the process.
    pub fn now(&self) -> Time {
        match &self.backend {
            Some(backend) => backend.now(),
            None => os::now(),
        }
    }

    /// Waits for `duration`. Cancel safe.
    pub async fn sleep(&self, duration: Duration) {
        self.sleep_until(self.now() + duration).await;
    }

    /// Waits until `at`; returns at once if that has passed. Cancel safe.
    pub async fn sleep_until(&self, at: Time) {
        match &self.backend {
            Some(backend) => backend.sleep_until(at).await,
            None => tokio::time::sleep_until(os::instant(at).into()).await,
        }
    }

    /// Returns the output of `future`; `None` if it takes longer than `duration`: then `future` is dropped. As cancel
    /// safe as `future`.
    pub async fn timeout<F: Future>(&self, duration: Duration, future: F) -> Option<F::Output> {
        let (mut future, mut sleep) = (pin!(future), pin!(self.sleep(duration)));
        poll_fn(|cx| match future.as_mut().poll(cx) {
            Poll::Ready(output) => Poll::Ready(Some(output)),
            Poll::Pending => sleep.as_mut().poll(cx).map(|()| None),
        })
        .await
    }

    /// Runs `future` as a task of its own, which continues if the [`Task`] is dropped.
    ///
    /// # Panics
    /// On tokio's, outside of a runtime.
    pub fn spawn<F>(&self, future: F) -> Task<F::Output>
    where
        F: Future<Output: Send> + Send + 'static,
    {
        let (sender, output) = oneshot::channel();
        let task = async move { _ = sender.send(future.await) };
        match &self.backend {
            Some(backend) => backend.spawn(Box::pin(task)),
            None => _ = tokio::spawn(task),
        }
        Task { output }
    }

    /// Fills `bytes`: unpredictable from the operating system, repeatable in a simulation.
    pub fn fill_random(&self, bytes: &mut [u8]) {
        match &self.backend {
            Some(backend) => backend.fill_random(bytes),
            None => bytes.chunks_mut(32).for_each(|chunk| chunk.copy_from_slice(&os::random()[..chunk.len()])),
        }
    }

    /// Returns a random number.
    pub fn random(&self) -> u64 {
        let mut bytes = [0; 8];
        self.fill_random(&mut bytes);
        u64::from_le_bytes(bytes)
    }
}

impl fmt::Debug for Runtime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.backend.is_some() { "Runtime(simulated)" } else { "Runtime(tokio)" })
    }
}

/// A task from [`Runtime::spawn`]: waits for its output, which is `None` if the task panicked or its runtime was shut down.
#[derive(Debug)]
#[must_use = "a task runs by itself; drop this on purpose if its output does not matter"]
pub struct Task<T> {
    output: oneshot::Receiver<T>,
}

impl<T> Future for Task<T> {
    type Output = Option<T>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.output).poll(cx).map(Result::ok)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn tokio_runtime_sleeps_spawns_and_times_out() {
        let runtime = Runtime::tokio();
        let (before, brief) = (runtime.now(), Duration::from_millis(1));
        runtime.sleep(brief).await;
        assert!(runtime.now() - before >= brief);
        assert_eq!(runtime.spawn(async { 7 }).await, Some(7));
        assert_eq!(runtime.timeout(brief, std::future::pending::<()>()).await, None);
        assert_eq!(runtime.timeout(brief, std::future::ready(3)).await, Some(3));
        assert_ne!(runtime.random(), runtime.random());
    }
}
