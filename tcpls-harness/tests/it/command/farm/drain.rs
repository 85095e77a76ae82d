//! A server leaves a farm behind a load balancer.

use super::balancers::{Program, Running};
use super::visitor::{Farm, Method, Visitor, all};
use crate::support::Directory;

const SESSIONS: usize = 30;
const NEW: usize = 20;
const AT_ONCE: usize = 8;

async fn leave_without_loss(program: Program) {
    let directory = Directory::new(&format!("drain-{program:?}"));
    let mut farm = Farm::start(directory.path(), Method::HandOver).await;
    let Some(balancer) = Running::start(program, directory.path(), &farm.addresses()).await else { return };
    let mut modes = balancer.addresses.iter().cycle();
    let visitors = (0..SESSIONS).map(|number| farm.visitor(number, *modes.next().unwrap())).collect::<Vec<_>>();
    let visitors = all(AT_ONCE, visitors).await;
    let visitors = all(AT_ONCE, visitors.into_iter().map(Visitor::join_and_lose)).await;
    let before = farm.sessions(SESSIONS).await;
    assert!(before[0] > 0, "{before:?}");

    farm.proxies[0].signal("USR1");
    farm.proxies[0].wait_logged("draining", 1).await;
    let new = (0..NEW).map(|number| farm.visitor(number, *modes.next().unwrap())).collect::<Vec<_>>();
    let new = all(AT_ONCE, new).await;
    let after = farm.sessions(SESSIONS + NEW).await;
    assert_eq!(after[0], before[0], "new sessions go elsewhere");
    let visitors = all(AT_ONCE, visitors.into_iter().chain(new).map(Visitor::join_and_lose)).await;
    let visitors = all(AT_ONCE, visitors.into_iter().map(Visitor::join_and_lose)).await;
    assert_eq!(farm.failed_joins(), [""; 0]);

    let (leaving, staying): (Vec<_>, Vec<_>) = visitors.into_iter().partition(Visitor::is_draining);
    assert_eq!(leaving.len(), before[0]);
    all(AT_ONCE, leaving.into_iter().map(Visitor::leave)).await;
    farm.proxies[0].exited().await;
    let staying = all(AT_ONCE, staying.into_iter().map(Visitor::goes_on)).await.into_iter().map(Result::unwrap);
    // The process that takes its place knows the tokens of the others.
    farm.replace(0).await;
    let (next, count) = (&farm.proxies[0], staying.len());
    let staying = staying.map(|visitor| visitor.joining_at(next.address).join_and_lose()).collect::<Vec<_>>();
    all(AT_ONCE, staying).await;
    assert_eq!(next.passed_on().await, count);
}

#[tokio::test(flavor = "multi_thread")]
async fn server_that_drains_behind_haproxy_loses_no_stream_and_gets_no_new_session() {
    leave_without_loss(Program::Haproxy).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn server_that_drains_behind_nginx_loses_no_stream_and_gets_no_new_session() {
    leave_without_loss(Program::Nginx).await;
}
