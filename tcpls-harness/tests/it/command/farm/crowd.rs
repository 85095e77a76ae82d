//! Hundreds of sessions behind HAProxy and nginx: they join, lose TCP connections and join again, secrets are replaced
//! meanwhile, and a server is killed.

use std::time::Instant;

use tcpls_core::error::CloseReason;
use tokio::sync::{Mutex, watch};

use super::balancers::{Program, Running};
use super::visitor::{Farm, Method, Visitor, all};
use crate::support::Directory;

const SESSIONS: usize = 200;
/// Sessions that begin or join at the same time.
const AT_ONCE: usize = 16;

/// Sessions begin in each mode of the balancer, and join twice, while the secrets are replaced.
async fn gather(farm: &Farm<'_>, balancer: &Running) -> Vec<Visitor> {
    let ready = watch::Sender::new(0);
    let modes = balancer.addresses.iter().cycle();
    let visitors = (0..SESSIONS).zip(modes).map(|(number, address)| {
        let (visitor, ready) = (farm.visitor(number, *address), ready.clone());
        async move {
            let visitor = visitor.await.join_and_lose().await.join_and_lose().await;
            ready.send_modify(|ready| *ready += 1);
            visitor
        }
    });
    let mut count = ready.subscribe();
    let replace = async {
        for (number, secrets) in [(SESSIONS / 4, &["5e", "77"][..]), (SESSIONS / 2, &["77", "5e"])] {
            count.wait_for(|ready| *ready >= number).await.unwrap();
            if farm.method == Method::HandOver {
                farm.use_secrets(secrets).await;
            }
        }
    };
    tokio::join!(all(AT_ONCE, visitors), replace).0
}

/// Four farms with 200 sessions each are too many for a small machine at once.
static ONE_FARM: Mutex<()> = Mutex::const_new(());

async fn lose_no_join(program: Program, method: Method) {
    let _turn = ONE_FARM.lock().await;
    let directory = Directory::new(&format!("crowd-{program:?}-{method:?}"));
    let mut farm = Farm::start(directory.path(), method).await;
    let Some(mut balancer) = Running::start(program, directory.path(), &farm.addresses()).await else { return };
    let visitors = gather(&farm, &balancer).await;
    let mut visitors = all(AT_ONCE, visitors.into_iter().map(Visitor::join_and_lose)).await;
    let begun = farm.sessions(SESSIONS).await;
    assert_eq!((begun.iter().sum(), farm.failed_joins()), (SESSIONS, Vec::new()));
    if method == Method::HandOver {
        // Two thirds of three joins of each, in the modes that select a server by chance or in turns.
        let passed_on = farm.passed_on().await;
        assert!(passed_on > SESSIONS && passed_on < 3 * SESSIONS, "{passed_on}");
    }

    farm.proxies[0].kill().await;
    let killed = Instant::now();
    let (mut left, mut ends) = (Vec::new(), Vec::new());
    let watch = move |visitor: Visitor| async move { (visitor.goes_on().await, killed.elapsed()) };
    for (outcome, after) in all(SESSIONS, visitors.drain(..).map(watch)).await {
        match outcome {
            Ok(visitor) => left.push(visitor),
            Err(reason) => {
                assert_eq!(reason, CloseReason::LostByServer, "another server has proved it");
                ends.push(after);
            }
        }
    }
    ends.sort_unstable();
    let ended = ends.len();
    assert_eq!(ended, begun[0], "{begun:?}: the sessions of the server that was killed, and no others");
    let [half, last] = [ended / 2, ended - 1].map(|place| ends[place]);
    println!("{ended} sessions ended with their server, half of them within {half:?}, all within {last:?}");
    let again = balancer.addresses.iter().cycle().take(ended).enumerate();
    all(AT_ONCE, again.map(|(number, address)| farm.visitor(number, *address))).await;
    if method == Method::Direct {
        balancer.kill().await;
    }
    all(AT_ONCE, left.into_iter().map(Visitor::join_and_lose)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn farm_behind_haproxy_loses_no_join_in_any_mode() {
    lose_no_join(Program::Haproxy, Method::HandOver).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn farm_behind_nginx_loses_no_join_in_any_mode() {
    lose_no_join(Program::Nginx, Method::HandOver).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_with_direct_addresses_behind_haproxy_lose_no_join() {
    lose_no_join(Program::Haproxy, Method::Direct).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_with_direct_addresses_behind_nginx_lose_no_join() {
    lose_no_join(Program::Nginx, Method::Direct).await;
}
