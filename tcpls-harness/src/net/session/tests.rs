//! What runs while a session's lock is held: no code of an application's runtime.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, RawWaker, RawWakerVTable, Waker};

use tcpls_core::config::Config;
use tcpls_core::connection::Connection;
use tcpls_core::error::AskOptionError;
use tcpls_core::event::{Event, StreamEvent, TcpEvent};
use tcpls_core::wire::ids::StreamId;

use super::*;
use crate::dial::{DialOptions, Dialer, Path};
use crate::net::os::{now, seed};
use crate::net::tcp_option::TcpOption;
use crate::tls::{Identity, Trust};

fn session() -> (Arc<Shared>, Session) {
    let identity = Identity::self_signed(&["localhost".to_owned()]).unwrap();
    let tls = Trust::Pem(identity.certificate_pem().to_owned()).client(&[b"test"]).unwrap();
    let tls = tls.handshake("localhost".try_into().unwrap()).unwrap();
    let conn = Connection::client(now(), Arc::new(Config::default()), tls, seed());
    let shared = Shared::new(conn, None);
    let session = Session::new(Handle::new(shared.clone()));
    (shared, session)
}

/// A waker that enters the session whenever it is cloned, called or dropped, as one of an executor that runs the task at
/// once may do.
struct Entering {
    shared: Arc<Shared>,
    clones: AtomicUsize,
    calls: AtomicUsize,
}

impl Entering {
    fn new(shared: &Arc<Shared>) -> Arc<Self> {
        Arc::new(Self { shared: shared.clone(), clones: Default::default(), calls: Default::default() })
    }

    fn waker(self: &Arc<Self>) -> Waker {
        // SAFETY: the pointer is that of an `Arc` whose count the functions of the table keep.
        unsafe { Waker::from_raw(RawWaker::new(Arc::into_raw(self.clone()).cast(), &TABLE)) }
    }

    fn enter(&self) {
        // It would wait for itself, and the test without end.
        assert!(!self.shared.is_locked(), "a waker is used while the lock is held");
        self.shared.access(|state| state.handles);
    }
}

static TABLE: RawWakerVTable = RawWakerVTable::new(clone, wake, wake_by_ref, release);

fn at(data: *const ()) -> &'static Entering {
    // SAFETY: made by `Entering::waker`, and a waker lives on, so that the reference is good for the caller's call.
    unsafe { &*data.cast::<Entering>() }
}

fn clone(data: *const ()) -> RawWaker {
    at(data).enter();
    at(data).clones.fetch_add(1, Ordering::Relaxed);
    // SAFETY: as above.
    unsafe { Arc::increment_strong_count(data.cast::<Entering>()) };
    RawWaker::new(data, &TABLE)
}

fn wake(data: *const ()) {
    wake_by_ref(data);
    release(data);
}

fn wake_by_ref(data: *const ()) {
    at(data).enter();
    at(data).calls.fetch_add(1, Ordering::Relaxed);
}

fn release(data: *const ()) {
    at(data).enter();
    // SAFETY: as above.
    unsafe { Arc::decrement_strong_count(data.cast::<Entering>()) };
}

/// Whether the future is pending with this waker.
fn waits(future: impl Future, waker: &Waker) -> bool {
    pin!(future).poll(&mut Context::from_waker(waker)).is_pending()
}

const ID: StreamId = StreamId(0);

#[test]
fn wakers_of_waiting_tasks_may_enter_the_session() {
    let (shared, session) = session();
    let (first, second) = (Entering::new(&shared), Entering::new(&shared));
    let (one, two) = (first.waker(), second.waker());
    let waits_for = |what: Wait, waker: &Waker| shared.poll(what, waker, |_| Poll::<()>::Pending).is_pending();
    for what in [Wait::Readable(ID), Wait::Writable(ID), Wait::End(ID), Wait::Open, Wait::Accept, Wait::Session] {
        assert!(waits_for(what, &one) && waits_for(what, &one));
        assert!(waits_for(what, &two), "it takes the place of the first, or waits, too");
    }
    assert_eq!(first.clones.load(Ordering::Relaxed), 6, "a task that waits already leaves no other waker");
    for event in [StreamEvent::Opened, StreamEvent::Available, StreamEvent::Readable { id: ID }] {
        shared.access(|state| state.report(Event::Stream(event)));
    }
    assert_eq!((first.calls.load(Ordering::Relaxed), second.calls.load(Ordering::Relaxed)), (2, 3));
    let (_, stream) = (session, Stream::new(Handle::new(shared.clone()), ID).split());
    assert!(waits_for(Wait::Readable(ID), &one));
    drop(stream);
    assert_eq!(first.calls.load(Ordering::Relaxed), 3, "and the end wakes the one that watches");
    let counts = (Arc::strong_count(&first), Arc::strong_count(&second));
    assert_eq!(counts, (2, 2), "those of a dropped stream are dropped");
}

#[test]
fn a_waker_that_enters_the_session_gets_events_joins_and_the_end() {
    let (shared, session) = session();
    let entering = Entering::new(&shared);
    let waker = entering.waker();
    let mut events = session.events();
    let mut failures = session.path_failures();
    let path = Path { remote: ([192, 0, 2, 1], 443).into(), local: None, device: None };
    let mut joined = shared.access(|state| {
        state.dialer = Some(Box::new(Dialer::new(now(), &[path], DialOptions::default(), &seed())));
        state.expect_join(ConnectionId(1))
    });
    let mut adding = Box::pin(session.add_tcp(path.remote, None));
    assert!(waits(events.next(), &waker) && waits(failures.next(), &waker));
    assert!(waits(&mut joined, &waker) && waits(&mut adding, &waker));
    let calls = || entering.calls.load(Ordering::Relaxed);
    shared.access(|state| state.report(Event::Tcp(TcpEvent::Joined { tcp: ConnectionId(1) })));
    assert_eq!(calls(), 2, "the event, and the join");
    shared.access(|state| state.note_timed_out(path));
    assert_eq!(calls(), 3);
    assert!(!waits(events.next(), &waker) && !waits(&mut joined, &waker) && !waits(failures.next(), &waker));
    assert!(waits(events.next(), &waker) && waits(failures.next(), &waker) && waits(session.closed(), &waker));
    drop(shared.drive(State::end_task));
    assert!(calls() >= 7, "both feeds, the address to be added, and the end");
    assert!(!waits(&mut adding, &waker) && !waits(session.closed(), &waker));
}

#[test]
fn the_tasks_own_waker_may_enter_the_session() {
    let (shared, _session) = session();
    let (first, second) = (Entering::new(&shared), Entering::new(&shared));
    let mut waker = Some(first.waker());
    shared.drive(|state| state.attend(&mut waker));
    assert!(waker.is_none());
    waker = Some(first.waker());
    shared.drive(|state| state.attend(&mut waker));
    assert!(waker.is_some(), "it was there already");
    waker = Some(second.waker());
    shared.drive(|state| state.attend(&mut waker));
    shared.drive(State::wake_task);
    assert_eq!((first.calls.load(Ordering::Relaxed), second.calls.load(Ordering::Relaxed)), (0, 1), "the last one");
    waker = Some(first.waker());
    shared.drive(|state| state.attend(&mut waker));
    shared.drive(State::expect_task);
    assert_eq!(Arc::strong_count(&first), 1);
}

#[test]
fn tcp_connection_that_is_opening_neither_answers_nor_has_options() {
    let (shared, session) = session();
    assert_eq!(session.tcp_connections(), [ConnectionId::FIRST]);
    assert!(!shared.with(|state| state.has_answering_tcp()));
    let option = TcpOption::KeepAlive(None);
    for control in [session.tcp(ConnectionId::FIRST), session.all_tcp()] {
        let mut cx = Context::from_waker(Waker::noop());
        let outcome = pin!(control.set_option(option.clone())).poll(&mut cx);
        assert_eq!(outcome, Poll::Ready(Err(AskOptionError::Unknown)));
    }
}
