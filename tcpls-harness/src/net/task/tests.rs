//! What the task does between turns.

use bytes::BytesMut;
use tcpls_core::config::Config;
use tcpls_core::connection::{Connection, JoinOptions};
use tcpls_core::error::TcpFault;
use tcpls_core::event::{Event, TcpEvent};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::dial::{AttemptId, DialPolicy, Path, PathStatus, SessionView};
use crate::net::costs::cost_of;
use crate::net::os::seed;
use crate::net::session::Wait;
use crate::tls::{Identity, Trust};

async fn driver() -> Driver {
    let identity = Identity::self_signed(&["localhost".to_owned()]).unwrap();
    let tls = Trust::Pem(identity.certificate_pem().to_owned()).client(&[b"test"]).unwrap();
    let tls = tls.handshake("localhost".try_into().unwrap()).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let conn = Connection::client(now(), Arc::new(Config::default()), tls, seed());
    Driver::new(Shared::new(conn, None), ConnectionId::FIRST, Socket::new(stream, BytesMut::new()))
}

#[tokio::test]
async fn buffers_are_freed_after_half_a_second_without_traffic() {
    let mut driver = driver().await;
    let busy = driver.now;
    driver.carriers[0].socket.out().reserve(1000);
    driver.now = busy + (QUIET - Duration::from_nanos(1));
    driver.tidy(false);
    assert!(driver.carriers[0].socket.out().capacity() >= 1000);
    assert_eq!(driver.deadline(), Some(busy + QUIET), "or the task would not return to it");
    driver.now = busy + QUIET;
    driver.tidy(false);
    assert_eq!(driver.carriers[0].socket.out().capacity(), 0);
    assert_eq!(driver.deadline(), None);
    driver.tidy(true);
    assert_eq!(driver.deadline(), Some(driver.now + QUIET));
}

#[tokio::test]
async fn session_without_traffic_frees_what_it_keeps_for_reuse() {
    let mut driver = driver().await;
    let tcp = ConnectionId(1);
    driver.shared.drive(|state| {
        drop(state.expect_join(tcp));
        state.report(Event::Tcp(TcpEvent::Lost { tcp, fault: TcpFault::JoinTimeout }));
    });
    driver.now += QUIET;
    driver.tidy(true);
    driver.busy = Some(driver.now);
    let costs = cost_of(async { driver.tidy(false) }).await;
    assert_eq!(costs.freed, 0, "it was busy");
    driver.now += QUIET;
    let costs = cost_of(async { driver.tidy(false) }).await;
    assert!(costs.freed > 0, "the node of an empty map");
}

#[tokio::test]
async fn a_timer_that_is_early_enough_is_left_alone() {
    let mut driver = driver().await;
    let mut cx = Context::from_waker(Waker::noop());
    let early = driver.now + Duration::from_secs(1000);
    let late = early + QUIET;
    driver.timer.as_mut().reset(instant(late).into());
    let before = driver.timer.deadline();
    assert_eq!(driver.sleep_until(late + QUIET, &mut cx), Next::Sleep);
    assert_eq!(driver.timer.deadline(), before);
    assert_eq!(driver.sleep_until(early, &mut cx), Next::Sleep);
    assert_eq!(before - driver.timer.deadline(), QUIET);
}

/// A policy that panics in each call.
#[derive(Debug)]
struct Broken;

impl DialPolicy for Broken {
    fn handle_connected(&mut self, _: Time, _: AttemptId) -> bool {
        panic!("broken")
    }
    fn handle_failed(&mut self, _: Time, _: AttemptId) {
        panic!("broken")
    }
    fn handle_progress(&mut self, _: Time, _: AttemptId, _: u64) {
        panic!("broken")
    }
    fn handle_established(&mut self, _: Time, _: AttemptId, _: bool) {
        panic!("broken")
    }
    fn handle_joining(&mut self, _: AttemptId, _: ConnectionId) {
        panic!("broken")
    }
    fn handle_event(&mut self, _: Time, _: &Event) {
        panic!("broken")
    }
    fn advance(&mut self, _: Time, _: SessionView) {
        panic!("broken")
    }
    fn poll_action(&mut self) -> Option<Action> {
        panic!("broken")
    }
    fn poll_timeout(&self) -> Option<Time> {
        panic!("broken")
    }
    fn join_options(&self, _: Path) -> JoinOptions {
        panic!("broken")
    }
    fn adopt(&mut self, _: Time, _: Path, _: ConnectionId) {
        panic!("broken")
    }
    fn add(&mut self, _: Time, _: Path) {
        panic!("broken")
    }
    fn set_backup(&mut self, _: ConnectionId, _: bool) {
        panic!("broken")
    }
    fn paths(&self) -> Vec<PathStatus> {
        panic!("broken")
    }
}

#[tokio::test]
async fn end_of_the_task_wakes_the_application_without_a_call_of_its_policy() {
    struct Count(std::sync::atomic::AtomicUsize);
    impl std::task::Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        }
    }
    let (driver, woken) = (driver().await, Arc::new(Count(Default::default())));
    let shared = driver.shared.clone();
    shared.access(|state| {
        state.dialer = Some(Box::new(Broken));
        state.waiters.wait(Wait::Session, woken.clone().into());
    });
    drop(driver);
    assert_eq!(woken.0.load(std::sync::atomic::Ordering::Relaxed), 1);
    assert!(shared.access(|state| state.is_closed() && state.dialer.is_none()));
}
