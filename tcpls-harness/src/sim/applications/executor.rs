//! Runs the applications of a simulation: one thread, tasks in the order in which they were woken, virtual time. The same
//! tasks and events give the same order each time.

use std::any::Any;
use std::collections::{BTreeMap, VecDeque};
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, Wake, Waker};

use tcpls_core::Time;
use tokio::task::coop::unconstrained;

use crate::net::runtime::{Backend, BoxFuture, Runtime};
use crate::sim::rng::SimRng;
use crate::sim::trace::{Host, Lines, Metric, Note, Place};

/// Turns that tasks may have in one moment. Tasks that want more keep time from passing.
const MAX_TURNS: usize = 1_000_000;

/// An error of an application.
pub(crate) type AppError = Box<dyn std::error::Error + Send + Sync>;
/// What applications come to.
pub(crate) type Output = Result<(), AppError>;
/// Names a task.
pub(crate) type TaskId = u64;

/// See the module's description.
pub(crate) struct Executor {
    core: Core,
    tasks: BTreeMap<TaskId, Task>,
    failures: Vec<String>,
}

/// What tasks reach through their wakers and their [`Runtime`]. The lock is never held while anything else is called.
#[derive(Clone)]
struct Core(Arc<Mutex<State>>);

struct State {
    now: Time,
    ready: VecDeque<TaskId>,
    /// Spawned, and not in the hands of the executor yet.
    spawned: Vec<(TaskId, Task)>,
    timers: BTreeMap<(Time, u64), Waker>,
    /// Tasks and timers named so far.
    named: u64,
    /// Whose task has its turn; none before the first.
    running: Option<Owner>,
    rng: SimRng,
    /// Where notes and metrics go besides the report.
    lines: Option<Lines>,
    metrics: Vec<Metric>,
}

/// The application that a task is part of.
#[derive(Clone)]
struct Owner {
    /// For error messages.
    name: Arc<str>,
    place: Place,
}

struct Task {
    owner: Owner,
    future: BoxFuture<Output>,
    waker: Arc<TaskWaker>,
}

struct TaskWaker {
    id: TaskId,
    core: Weak<Mutex<State>>,
    is_queued: AtomicBool,
}

impl Executor {
    pub(crate) fn new(rng: SimRng) -> Self {
        let state = State {
            now: Time::ZERO,
            ready: VecDeque::new(),
            spawned: Vec::new(),
            timers: BTreeMap::new(),
            named: 0,
            running: None,
            rng,
            lines: None,
            metrics: Vec::new(),
        };
        Self { core: Core(Arc::new(Mutex::new(state))), tasks: BTreeMap::new(), failures: Vec::new() }
    }

    /// The runtime that applications see.
    pub(crate) fn runtime(&self) -> Runtime {
        Runtime::simulated(Arc::new(self.core.clone()))
    }

    /// Notes and metrics are written there, too.
    pub(crate) fn write_to(&self, lines: Option<Lines>) {
        self.core.lock().lines = lines;
    }

    /// Runs an application from now on; it is called `name` in errors, and what it notes happens at `place`. Returns the
    /// ID of its task.
    pub(crate) fn start(&mut self, name: &str, place: Place, application: BoxFuture<Output>) -> TaskId {
        self.core.enter(Owner { name: name.into(), place }, application)
    }

    /// Whether the task has ended, or panicked.
    pub(crate) fn is_over(&self, id: TaskId) -> bool {
        !self.tasks.contains_key(&id) && !self.core.lock().spawned.iter().any(|(spawned, _)| *spawned == id)
    }

    /// When there is something to do: at once if a task is ready.
    pub(crate) fn next(&self) -> Option<Time> {
        let state = self.core.lock();
        let ready = (!state.ready.is_empty()).then_some(state.now);
        ready.into_iter().chain(state.timers.keys().next().map(|(at, _)| *at)).min()
    }

    /// It is `now` for tasks and their [`Runtime`]; timers that are due wake their tasks.
    pub(crate) fn pass(&mut self, now: Time) {
        self.core.pass(now);
    }

    /// Tasks have their turns until none is ready; whether any had one.
    pub(crate) fn run(&mut self, now: Time) -> bool {
        self.core.pass(now);
        for turn in 0..MAX_TURNS {
            let (spawned, next) = {
                let mut state = self.core.lock();
                (std::mem::take(&mut state.spawned), state.ready.pop_front())
            };
            self.tasks.extend(spawned);
            let Some(id) = next else { return turn > 0 };
            self.turn(id);
        }
        let running = self.core.lock().running.as_ref().map(|owner| owner.name.clone()).unwrap_or_default();
        self.failures.push(format!("{running} wants more than {MAX_TURNS} turns in one moment"));
        self.core.lock().ready.clear();
        true
    }

    fn turn(&mut self, id: TaskId) {
        let Some(task) = self.tasks.get_mut(&id) else { return };
        self.core.lock().running = Some(task.owner.clone());
        task.waker.is_queued.store(false, Ordering::Relaxed);
        let waker = Waker::from(task.waker.clone());
        let polled = catch_unwind(AssertUnwindSafe(|| task.future.as_mut().poll(&mut Context::from_waker(&waker))));
        let failure = match polled {
            Ok(Poll::Pending) => return,
            Ok(Poll::Ready(Ok(()))) => None,
            Ok(Poll::Ready(Err(error))) => Some(format!("{}: {error}", task.owner.name)),
            Err(panic) => Some(format!("{} panicked: {}", task.owner.name, panic_text(&*panic))),
        };
        self.failures.extend(failure);
        self.tasks.remove(&id);
    }

    /// What went wrong in applications since the last call.
    pub(crate) fn take_failures(&mut self) -> Vec<String> {
        std::mem::take(&mut self.failures)
    }

    /// The values that applications recorded since the last call.
    pub(crate) fn take_metrics(&mut self) -> Vec<Metric> {
        std::mem::take(&mut self.core.lock().metrics)
    }

    /// Ends all tasks where they are.
    pub(crate) fn stop(&mut self) {
        // A task that is dropped may spawn another.
        loop {
            let tasks = std::mem::take(&mut self.tasks);
            let spawned = std::mem::take(&mut self.core.lock().spawned);
            if tasks.is_empty() && spawned.is_empty() {
                break;
            }
            drop((tasks, spawned));
        }
        let mut state = self.core.lock();
        state.ready.clear();
        let timers = std::mem::take(&mut state.timers);
        drop(state);
        drop(timers);
    }
}

impl Drop for Executor {
    /// Spawned tasks hold what they are kept in.
    fn drop(&mut self) {
        self.stop();
    }
}

/// The text of a panic.
pub(crate) fn panic_text(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("with something that is no text")
}

impl Core {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn enter(&self, owner: Owner, future: BoxFuture<Output>) -> TaskId {
        // tokio's types count turns if the simulation runs on a thread of tokio's.
        let future = Box::pin(unconstrained(future));
        let mut state = self.lock();
        state.named += 1;
        let id = state.named;
        let waker = Arc::new(TaskWaker { id, core: Arc::downgrade(&self.0), is_queued: AtomicBool::new(true) });
        state.spawned.push((id, Task { owner, future, waker }));
        state.ready.push_back(id);
        id
    }

    /// It is `now`: timers that are due wake their tasks, in their order.
    fn pass(&self, now: Time) {
        let due = {
            let mut state = self.lock();
            state.now = state.now.max(now);
            let later = state.timers.split_off(&(now, u64::MAX));
            std::mem::replace(&mut state.timers, later)
        };
        due.into_values().for_each(Waker::wake);
    }
}

impl State {
    /// Where the task is whose turn it is.
    fn place(&self) -> Place {
        self.running.as_ref().map_or(Owner::outside().place, |owner| owner.place)
    }

    fn write(&self, note: &Note<'_>) {
        if let Some(lines) = &self.lines {
            lines.append(self.now, self.place(), note);
        }
    }
}

impl Owner {
    /// Of what happens before any task had a turn, or outside of all.
    fn outside() -> Self {
        Self { name: "".into(), place: Host::Network.place() }
    }
}

impl Backend for Core {
    fn now(&self) -> Time {
        self.lock().now
    }

    fn sleep_until(&self, at: Time) -> BoxFuture<()> {
        Box::pin(Sleep { core: self.clone(), at, number: None })
    }

    fn spawn(&self, task: BoxFuture<()>) {
        let owner = self.lock().running.clone().unwrap_or_else(Owner::outside);
        self.enter(
            owner,
            Box::pin(async move {
                task.await;
                Ok(())
            }),
        );
    }

    fn fill_random(&self, bytes: &mut [u8]) {
        self.lock().rng.fill(bytes);
    }

    fn note(&self, text: &str) {
        let state = self.lock();
        state.write(&Note::Said { text });
    }

    fn metric(&self, name: &str, value: f64) {
        let mut state = self.lock();
        state.write(&Note::Metric { name, value });
        let metric = Metric::new(state.now, state.place(), name, value);
        state.metrics.push(metric);
    }
}

impl Wake for TaskWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if let Some(core) = self.core.upgrade()
            && !self.is_queued.swap(true, Ordering::Relaxed)
        {
            Core(core).lock().ready.push_back(self.id);
        }
    }
}

/// Waits until `at`.
struct Sleep {
    core: Core,
    at: Time,
    /// The timer's, once it is set.
    number: Option<u64>,
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let core = self.core.clone();
        // Wakers are foreign code, which may call this: cloned before the lock is taken, dropped after it.
        let waker = cx.waker().clone();
        let mut state = core.lock();
        if state.now >= self.at {
            return Poll::Ready(());
        }
        let number = *self.number.get_or_insert_with(|| {
            state.named += 1;
            state.named
        });
        let replaced = state.timers.insert((self.at, number), waker);
        drop(state);
        drop(replaced);
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        if let Some(number) = self.number {
            let timer = self.core.lock().timers.remove(&(self.at, number));
            drop(timer);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::sim::rng::Purpose;

    type Log = Arc<Mutex<Vec<String>>>;

    fn executor() -> Executor {
        Executor::new(SimRng::new(1, Purpose::Applications))
    }

    /// Sleeps twice and notes when it woke.
    async fn sleeper(runtime: Runtime, log: Log, name: &'static str, millis: u64) {
        for _ in 0..2 {
            runtime.sleep(Duration::from_millis(millis)).await;
            log.lock().unwrap().push(format!("{name} {}", runtime.now().as_nanos() / 1_000_000));
        }
    }

    fn run_to_end(executor: &mut Executor) {
        while let Some(next) = executor.next() {
            executor.run(next);
        }
    }

    #[test]
    fn tasks_run_in_the_order_of_their_timers_and_then_of_their_wakes() {
        let (mut executor, log) = (executor(), Log::default());
        for (name, millis) in [("a", 20), ("b", 10), ("c", 20)] {
            let task = sleeper(executor.runtime(), log.clone(), name, millis);
            executor.start(
                name,
                Host::Network.place(),
                Box::pin(async {
                    task.await;
                    Ok(())
                }),
            );
        }
        run_to_end(&mut executor);
        assert_eq!(*log.lock().unwrap(), ["b 10", "a 20", "c 20", "b 20", "a 40", "c 40"]);
        assert!(executor.take_failures().is_empty() && executor.tasks.is_empty());
    }

    #[test]
    fn spawned_tasks_give_their_output_and_panics_are_reported_with_the_name() {
        let mut executor = executor();
        let runtime = executor.runtime();
        let id = executor.start("client 1", Host::Network.place(), {
            Box::pin(async move {
                assert_eq!(runtime.spawn(async { 3 }).await, 3);
                let failing = runtime.clone();
                let waiting = runtime.spawn(async move { failing.spawn(async { panic!("on purpose") }).await });
                drop(waiting);
                Err("not well".into())
            })
        });
        assert!(!executor.is_over(id));
        run_to_end(&mut executor);
        assert!(executor.is_over(id));
        let failures = executor.take_failures();
        let second = "client 1 panicked: a task panicked that this one waits for";
        assert_eq!(failures, ["client 1: not well", "client 1 panicked: on purpose", second]);
    }

    #[test]
    fn task_that_never_rests_is_stopped() {
        let mut executor = executor();
        let spin = std::future::poll_fn(|cx| {
            cx.waker().wake_by_ref();
            Poll::Pending
        });
        executor.start("spinner", Host::Network.place(), Box::pin(spin));
        executor.run(Time::ZERO);
        assert_eq!(executor.take_failures(), [format!("spinner wants more than {MAX_TURNS} turns in one moment")]);
    }

    #[test]
    fn dropped_executor_drops_its_tasks_and_their_timers() {
        let (mut executor, held) = (executor(), Arc::new(()));
        let (runtime, inner) = (executor.runtime(), held.clone());
        executor.start("a", Host::Network.place(), {
            Box::pin(async move {
                let again = inner.clone();
                let spawner = runtime.clone();
                drop(runtime.spawn(async move { (spawner.sleep(Duration::MAX / 4).await, drop(again)).0 }));
                std::future::pending::<()>().await;
                drop(inner);
                Ok(())
            })
        });
        executor.run(Time::ZERO);
        assert_eq!(Arc::strong_count(&held), 3);
        drop(executor);
        assert_eq!(Arc::strong_count(&held), 1);
    }
}
