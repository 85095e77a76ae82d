//! [`Runtime`]: time, tasks and random numbers for an application, from tokio or from a simulation.

use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::thread;
use std::time::Duration;

use tcpls_core::time::Time;
use tokio::sync::oneshot;

use crate::net::{log, os};

/// A future on the heap that any thread may poll.
pub(crate) type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// The replacement of tokio in a simulation.
pub(crate) trait Backend: Send + Sync {
    fn now(&self) -> Time;
    fn sleep_until(&self, at: Time) -> BoxFuture<()>;
    fn spawn(&self, task: BoxFuture<()>);
    fn fill_random(&self, bytes: &mut [u8]);
    fn note(&self, text: &str);
    fn metric(&self, name: &str, value: f64);
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
        let end = End(Some(sender));
        let task = async move { end.report(future.await) };
        match &self.backend {
            Some(backend) => backend.spawn(Box::pin(task)),
            None => _ = tokio::spawn(task),
        }
        Task { output: Some(output) }
    }

    /// Fills `bytes`: unpredictable from the operating system, repeatable in a simulation.
    pub fn fill_random(&self, bytes: &mut [u8]) {
        match &self.backend {
            Some(backend) => backend.fill_random(bytes),
            None => bytes.chunks_mut(32).for_each(|chunk| chunk.copy_from_slice(&os::random()[..chunk.len()])),
        }
    }

    /// Notes what the application does: a line in the trace of a simulation, an event of the `tracing` crate over sockets.
    ///
    /// A simulation writes it at the host and session of the application, between what its session does before and after.
    /// Over sockets, with the feature `tracing`, it has the level `INFO` and the target `tcpls`, and is in the span that the
    /// application is in. The text should contain no secret.
    pub fn note(&self, text: impl fmt::Display) {
        match &self.backend {
            Some(backend) => backend.note(&text.to_string()),
            None => log::note(&text),
        }
    }

    /// Records a value, in a unit of your choice: in the report of a simulation, or as an event like those of [`Runtime::note`].
    ///
    /// With the values of a report, seeds can be compared:
    #[cfg_attr(feature = "sim", doc = "```")]
    #[cfg_attr(not(feature = "sim"), doc = "```ignore")]
    /// use std::time::Duration;
    /// use tcpls_harness::net::Session;
    /// use tcpls_harness::sim::scenario::{Path, Transport};
    /// use tcpls_harness::sim::{Failure, Simulation};
    /// use tokio::io::{AsyncReadExt, AsyncWriteExt};
    ///
    /// async fn echo(session: Session) {
    ///     while let Some(mut stream) = session.accept_stream().await {
    ///         let mut all = Vec::new();
    ///         stream.read_to_end(&mut all).await.unwrap();
    ///         stream.write_all(&all).await.unwrap();
    ///         stream.shutdown().await.unwrap();
    ///     }
    /// }
    ///
    /// async fn ask(session: Session) {
    ///     let runtime = session.runtime();
    ///     let before = runtime.now();
    ///     let mut stream = session.open_stream().await.unwrap();
    ///     stream.write_all(&[7; 30_000]).await.unwrap();
    ///     stream.shutdown().await.unwrap();
    ///     runtime.note("the question is on its way");
    ///     stream.read_to_end(&mut Vec::new()).await.unwrap();
    ///     runtime.metric("seconds to the answer", (runtime.now() - before).as_secs_f64());
    /// }
    ///
    /// let run = |seed| {
    ///     let path = Path::new("lossy").rate(4_000_000).delay(Duration::from_millis(20)).loss(0.05);
    ///     let simulation = Simulation::new(seed).path(path).transport(Transport::Packets).server(echo).client(ask);
    ///     Ok::<_, Failure>(simulation.run()?.metric("seconds to the answer").next().unwrap())
    /// };
    /// let times = (0..8).map(run).collect::<Result<Vec<f64>, Failure>>()?;
    /// let (best, worst) = times.iter().fold((f64::MAX, 0.0_f64), |(best, worst), time| (best.min(*time), worst.max(*time)));
    /// assert!(best >= 0.040 && worst < 10.0, "from {best} s to {worst} s");
    /// # Ok::<(), Failure>(())
    /// ```
    pub fn metric(&self, name: &str, value: f64) {
        match &self.backend {
            Some(backend) => backend.metric(name, value),
            None => log::metric(name, value),
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

/// A task from [`Runtime::spawn`]: a future of its output. Cancel safe.
///
/// A panic of the task is reported where it happens: it fails a simulation, and goes to the panic hook over sockets. What
/// waits for the output then panics, too. If the runtime is shut down first, the output never comes.
///
/// ```
/// # async fn example(session: tcpls_harness::net::Session) {
/// let runtime = session.runtime();
/// let task = runtime.spawn(async { 6 * 7 });
/// assert_eq!(task.await, 42);
/// # }
/// ```
#[derive(Debug)]
#[must_use = "a task runs by itself; drop this on purpose if its output does not matter"]
pub struct Task<T> {
    /// `None`: it never comes.
    output: Option<oneshot::Receiver<Result<T, Panicked>>>,
}

/// The task panicked.
#[derive(Debug)]
struct Panicked;

impl<T> Future for Task<T> {
    type Output = T;

    /// # Panics
    /// The task panicked.
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        let Some(output) = &mut self.output else { return Poll::Pending };
        match ready!(Pin::new(output).poll(cx)) {
            Ok(Ok(output)) => Poll::Ready(output),
            Ok(Err(Panicked)) => panic!("a task panicked that this one waits for"),
            Err(_) => {
                self.output = None;
                Poll::Pending
            }
        }
    }
}

/// The end of a task, which reports its output, or that there is none because of a panic.
struct End<T>(Option<oneshot::Sender<Result<T, Panicked>>>);

impl<T> End<T> {
    fn report(mut self, output: T) {
        if let Some(sender) = self.0.take() {
            _ = sender.send(Ok(output));
        }
    }
}

impl<T> Drop for End<T> {
    fn drop(&mut self) {
        if let Some(sender) = self.0.take()
            && thread::panicking()
        {
            _ = sender.send(Err(Panicked));
        }
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
        assert_eq!(runtime.spawn(async { 7 }).await, 7);
        assert_eq!(runtime.timeout(brief, std::future::pending::<()>()).await, None);
        assert_eq!(runtime.timeout(brief, std::future::ready(3)).await, Some(3));
        assert_ne!(runtime.random(), runtime.random());
    }

    #[tokio::test]
    async fn what_waits_for_a_task_that_panics_panics_too() {
        let runtime = Runtime::tokio();
        let failing = runtime.spawn(async { panic!("on purpose") });
        let waiting = tokio::spawn(failing);
        let panic = waiting.await.unwrap_err().into_panic();
        assert_eq!(panic.downcast_ref::<&str>(), Some(&"a task panicked that this one waits for"));
    }

    #[test]
    fn output_of_a_task_whose_runtime_is_shut_down_never_comes() {
        let tokio = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let entered = tokio.enter();
        let mut task = Runtime::tokio().spawn(std::future::pending::<()>());
        drop(entered);
        drop(tokio);
        let mut cx = Context::from_waker(std::task::Waker::noop());
        for _ in 0..2 {
            assert!(Pin::new(&mut task).poll(&mut cx).is_pending());
        }
    }
}
