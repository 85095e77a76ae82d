//! What models are made of: threads, tasks, and sessions with a peer.

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, Wake, Waker};

use bytes::BytesMut;
use tcpls_core::endpoint::{Incoming, Join};
use tcpls_core::testing::{NullHandshake, Setup};
use tcpls_core::{Config, Connection, ConnectionId, Seed, Side, Time};

use crate::net::os::{NOW, seed};
use crate::net::runtime::{Backend, BoxFuture, Runtime};
use crate::net::session::{Handle, Session, Shared};
use crate::net::socket::{Socket, TcpStream};
use crate::net::task::Driver;
use crate::sync::{AtomicBool, thread};

/// Room for a state machine built without optimisation. The checker's unit is a word.
const STACK: usize = (1 << 20) / size_of::<usize>();
/// Room of a socket that is never full.
pub(crate) const ENDLESS: usize = usize::MAX / 2;

/// A thread of the model. There may be three beside the one that runs the model's function.
pub(crate) fn spawn<R: Send + 'static>(f: impl FnOnce() -> R + Send + 'static) -> thread::JoinHandle<R> {
    thread::Builder::new().stack_size(STACK).spawn(f).expect("the checker has room for a thread")
}

/// The waker of a task that runs on a thread of the model.
struct Parker {
    is_woken: AtomicBool,
    thread: thread::Thread,
}

impl Wake for Parker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.is_woken.swap(true, Ordering::AcqRel);
        self.thread.unpark();
    }
}

/// Runs a task on this thread, which parks while the task waits.
pub(crate) fn block_on<F: Future>(future: F) -> F::Output {
    let parker = Arc::new(Parker { is_woken: AtomicBool::new(false), thread: thread::current() });
    let waker = Waker::from(parker.clone());
    let (mut future, mut cx) = (pin!(future), Context::from_waker(&waker));
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut cx) {
            return output;
        }
        while !parker.is_woken.swap(false, Ordering::AcqRel) {
            thread::park();
        }
    }
}

/// A clock that stands still, in place of tokio's.
struct Still;

/// Time that stands still, for sessions.
pub(crate) fn still() -> Runtime {
    Runtime::simulated(Arc::new(Still))
}

impl Backend for Still {
    fn now(&self) -> Time {
        NOW
    }

    fn sleep_until(&self, _: Time) -> BoxFuture<()> {
        Box::pin(std::future::pending())
    }

    fn spawn(&self, _: BoxFuture<()>) {
        unreachable!("threads of a model are spawned by the model")
    }

    fn fill_random(&self, bytes: &mut [u8]) {
        bytes.fill(7);
    }

    fn note(&self, _: &str) {}

    fn metric(&self, _: &str, _: f64) {}
}

/// A client's session, its task's socket, and its peer.
pub(crate) struct World {
    pub(crate) shared: Arc<Shared>,
    pub(crate) session: Session,
    pub(crate) wire: TcpStream,
}

impl World {
    /// An established session, and a socket that is never full.
    pub(crate) fn new() -> Self {
        Self::with(|_| {})
    }

    /// Acknowledgments are sent at once: no timer of the model fires.
    pub(crate) fn with(configure: impl Fn(&mut Config)) -> Self {
        let configure = |config: &mut Config| {
            (config.ack_every_records, config.probe_after, config.idle_timeout) = (1, None, None);
            configure(config);
        };
        let mut pair = Setup { tls: None, ..Setup::default() }.both(configure).established();
        let (client, peer) = (take(pair.client()), take(pair.server()));
        Self::of(client, TcpStream::new(Some(peer), ENDLESS))
    }

    /// A session of plain TLS whose peer is the model; of a stream it buffers `window` bytes at most.
    pub(crate) fn plain(window: u64) -> Self {
        let config = Config::default().with(|config| {
            (config.initial_stream_window, config.max_stream_window) = (window, window);
            (config.probe_after, config.idle_timeout) = (None, None);
        });
        let tls = Box::new(NullHandshake::plain(Side::Client));
        let mut conn = Connection::client(NOW, Arc::new(config), tls, seed());
        conn.handle_bytes(NOW, ConnectionId::FIRST, &mut BytesMut::from(&[22, 3, 3, 0, 1, 0][..]));
        Self::of(conn, TcpStream::new(None, ENDLESS))
    }

    /// The server's end of an established session whose client presents a token: the session, and a socket with that claim.
    pub(crate) fn server() -> (Self, TcpStream, Join, BytesMut) {
        let mut pair = Setup { tls: None, ..Setup::default() }.established();
        let (now, mut bytes) = (pair.now, Vec::new());
        let tcp = pair.client().open_tcp(now).expect("a client has a token");
        pair.client().poll_transmit(now, tcp, 16 << 10, &mut bytes);
        let (incoming, mut input) = (pair.endpoint.handle_accepted(now), BytesMut::from(&bytes[..]));
        let Some(Incoming::Join(join)) = pair.endpoint.handle_bytes(now, incoming, &mut input) else {
            unreachable!("the hello of a join is recognized")
        };
        let (server, peer) = (take(pair.server()), take(pair.client()));
        (Self::of(server, TcpStream::new(Some(peer), ENDLESS)), TcpStream::new(None, ENDLESS), join, input)
    }

    fn of(conn: Connection, wire: TcpStream) -> Self {
        let shared = Shared::new(conn, None);
        shared.access(|state| state.runtime = still());
        let session = Session::new(Handle::new(shared.clone()));
        Self { shared, session, wire }
    }

    /// The session's task.
    pub(crate) fn driver(&self) -> Driver {
        Driver::new(self.shared.clone(), ConnectionId::FIRST, Socket::new(self.wire.clone(), BytesMut::new()))
    }

    /// Waits with a thread of its own until `f` is ready: the application's other task.
    pub(crate) fn task<F: Future<Output: Send> + 'static>(
        &self,
        f: impl FnOnce(Session) -> F + Send + 'static,
    ) -> thread::JoinHandle<F::Output> {
        let session = self.session.clone();
        spawn(move || block_on(f(session)))
    }

    /// A thread that runs the task until it ends, also by a panic.
    pub(crate) fn run(&self) -> thread::JoinHandle<()> {
        run(Box::pin(self.driver()))
    }
}

/// Runs a session's task until it waits.
pub(crate) fn step(driver: &mut Pin<Box<Driver>>) {
    assert!(driver.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
}

/// Runs a session's task as a runtime does: it drops the task after a panic.
pub(crate) fn run(mut driver: Pin<Box<Driver>>) -> thread::JoinHandle<()> {
    spawn(move || {
        let outcome = catch_unwind(AssertUnwindSafe(|| block_on(driver.as_mut())));
        drop(driver);
        drop(outcome);
    })
}

/// A session that is closed, in the place of this one.
fn take(conn: &mut Connection) -> Connection {
    let tls = Box::new(NullHandshake::new(Side::Client, [0; 32]));
    std::mem::replace(conn, Connection::client(NOW, Arc::default(), tls, Seed([0; 32])))
}

/// A waker that enters the session when it is called, as one of an executor that runs the task at once would.
pub(crate) struct Entering {
    shared: Arc<Shared>,
    inner: Waker,
}

impl Wake for Entering {
    fn wake(self: Arc<Self>) {
        self.shared.access(|state| _ = state.is_closed());
        self.inner.wake_by_ref();
    }
}

/// A future that is polled with such a waker.
pub(crate) async fn entering<F: Future>(shared: &Arc<Shared>, future: F) -> F::Output {
    let mut future = pin!(future);
    std::future::poll_fn(|cx| {
        let entering = Arc::new(Entering { shared: shared.clone(), inner: cx.waker().clone() });
        future.as_mut().poll(&mut Context::from_waker(&entering.into()))
    })
    .await
}
