//! The end of a session: closed by its application, its peer or its handles, dropped by its runtime, or panicked.

use std::future::Future;
use std::task::{Context, Waker};

use tcpls_core::connection::JoinOptions;
use tcpls_core::event::TcpEvent;
use tcpls_core::{ConnectionId, ErrorCode, Event, Time};

use crate::dial::{Action, AttemptId, DialOptions, DialPolicy, Dialer, Path, PathStatus, SessionView};
use crate::kit::{World, block_on, spawn};
use crate::net::os::{NOW, seed};

const PATH: fn() -> Path = || Path { remote: ([192, 0, 2, 1], 443).into(), local: None, device: None };

/// Two tasks wait for the end, one of which causes it.
pub fn close_waits_until_the_sockets_are_closed() {
    let world = World::new();
    let task = world.run();
    let other = world.task(|session| async move { session.closed().await });
    let closed = block_on(world.session.close(ErrorCode(0), b""));
    assert!(!world.wire.is_open(), "the session's task has ended");
    assert_eq!(other.join().unwrap(), closed.reason);
    task.join().unwrap();
}

/// The application has a TCP connection reset while the task is about to sleep: the order is carried out.
pub fn order_is_carried_out() {
    let world = World::new();
    let mut events = world.session.events();
    let task = world.run();
    world.session.reset_tcp(ConnectionId::FIRST);
    block_on(async {
        while !matches!(events.next().await, Some(Event::Tcp(TcpEvent::Lost { .. }))) {}
        world.session.close(ErrorCode(1), b"").await;
    });
    drop(events);
    task.join().unwrap();
}

/// The last handles are dropped by two threads at once, while the task runs.
pub fn task_ends_when_the_last_handle_is_dropped() {
    let world = World::new();
    let task = world.run();
    let session = world.session.clone();
    let other = spawn(move || drop(session));
    drop(world);
    other.join().unwrap();
    task.join().unwrap();
}

/// The runtime drops the task after its first turn, while tasks of the application are about to wait.
pub fn end_of_the_runtime_wakes_all_who_wait() {
    let world = World::new();
    world.shared.access(|state| {
        state.dialer = Some(Box::new(Dialer::new(NOW, &[PATH()], DialOptions::default(), &seed())));
    });
    let driver = world.driver();
    let runtime = spawn(move || {
        let mut task = Box::pin(driver.run());
        _ = task.as_mut().poll(&mut Context::from_waker(Waker::noop()));
    });
    let other = world.task(|session| async move {
        let mut events = session.events();
        while events.next().await.is_some() {}
        session.accept_stream().await.is_none()
    });
    assert!(block_on(world.session.add_tcp(PATH().remote, None)).is_err());
    block_on(world.session.closed());
    assert!(other.join().unwrap());
    runtime.join().unwrap();
}

/// A dial policy that panics as soon as the task sleeps, with the session's lock.
#[derive(Debug)]
struct Broken(Dialer);

impl DialPolicy for Broken {
    fn handle_connected(&mut self, _: Time, _: AttemptId) -> bool {
        false
    }
    fn handle_failed(&mut self, _: Time, _: AttemptId) {}
    fn handle_progress(&mut self, _: Time, _: AttemptId, _: u64) {}
    fn handle_established(&mut self, _: Time, _: AttemptId, _: bool) {}
    fn handle_joining(&mut self, _: AttemptId, _: ConnectionId) {}
    fn handle_event(&mut self, _: Time, _: &Event) {}
    fn advance(&mut self, _: Time, _: SessionView) {}
    fn poll_action(&mut self) -> Option<Action> {
        None
    }
    fn poll_timeout(&self) -> Option<Time> {
        // Not `panic!`: the hook would print it for each run.
        std::panic::resume_unwind(Box::new("the policy is broken"))
    }
    fn join_options(&self, _: Path) -> JoinOptions {
        JoinOptions::default()
    }
    fn adopt(&mut self, _: Time, _: Path, _: ConnectionId) {}
    fn add(&mut self, _: Time, _: Path) {}
    fn set_backup(&mut self, _: ConnectionId, _: bool) {}
    fn paths(&self) -> Vec<PathStatus> {
        Vec::new()
    }
}

/// The task panics with the lock while the application waits, and calls the session.
pub fn panic_in_the_task_ends_the_session() {
    let world = World::new();
    let dialer = Dialer::new(NOW, &[PATH()], DialOptions::default(), &seed());
    world.shared.access(|state| state.dialer = Some(Box::new(Broken(dialer))));
    let task = world.run();
    let other = world.task(|session| async move { session.accept_stream().await.is_none() });
    block_on(world.session.closed());
    assert!(world.session.tcp_connections().is_empty());
    assert!(other.join().unwrap());
    task.join().unwrap();
}

/// An event arrives while a task waits for it, and another subscribes.
pub fn subscribers_get_each_event() {
    let world = World::new();
    let task = world.run();
    let wire = world.wire.clone();
    let peer = spawn(move || wire.with_peer(|peer| _ = peer.advertise(([192, 0, 2, 2], 443).into()).unwrap()));
    let mut events = world.session.events();
    block_on(async { while !matches!(events.next().await, Some(Event::AddressAdvertised { .. })) {} });
    assert_eq!(world.session.peer_addresses().len(), 1);
    peer.join().unwrap();
    drop((events, world));
    task.join().unwrap();
}
