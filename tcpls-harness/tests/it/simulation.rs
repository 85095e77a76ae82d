//! Simulations with applications of their own: async functions over sessions, in virtual time.

use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tcpls_core::connection::schedule;
use tcpls_core::event::{Event, TcpEvent};
use tcpls_core::{Side, Time};
use tcpls_harness::net::Session;
use tcpls_harness::sim::scenario::{Direction, Fault, FaultKind, Path};
use tcpls_harness::sim::{NetworkHandle, RunningSimulation, SessionEvent, Simulation};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

type Outcome<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

const MS: Duration = Duration::from_millis(1);

fn network(seed: u64) -> Simulation {
    let path = |name| Path::new(name).rate(8_000_000).delay(10 * MS);
    Simulation::new(seed).path(path("a")).path(path("b"))
}

/// Echoes each stream.
async fn echo(session: Session) {
    while let Some(stream) = session.accept_stream().await {
        let (mut writer, mut reader) = stream.split();
        drop(session.runtime().spawn(async move {
            tokio::io::copy(&mut reader, &mut writer).await?;
            writer.shutdown().await
        }));
    }
}

/// Sends `len` bytes, and reads them back.
async fn exchange(session: &Session, len: usize) -> Outcome<usize> {
    let stream = session.open_stream().await?;
    let data: Vec<u8> = (0..len).map(|at| (at % 251) as u8).collect();
    let (mut writer, mut reader) = stream.split();
    let sent = data.clone();
    drop(session.runtime().spawn(async move {
        writer.write_all(&sent).await?;
        writer.shutdown().await
    }));
    let mut echoed = Vec::new();
    reader.read_to_end(&mut echoed).await?;
    assert!(echoed == data, "{} bytes", echoed.len());
    Ok(echoed.len())
}

#[test]
fn application_echoes_over_two_paths_and_sleeps_in_virtual_time() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let noted = seen.clone();
    let client = async move |session: Session| {
        let runtime = session.runtime();
        assert_eq!(exchange(&session, 2_000_000).await?, 2_000_000);
        let before = runtime.now();
        runtime.sleep(3600 * 1000 * MS).await;
        assert_eq!(runtime.now() - before, 3600 * 1000 * MS);
        let closed = session.close(Default::default(), b"done").await;
        noted.lock().unwrap().push((session.stats().tcp.len(), closed.undelivered, runtime.random()));
        Outcome::Ok(())
    };
    let report = network(1).server(echo).client(client).limit(7200 * 1000 * MS).run().unwrap();
    assert!(report.ended > 3601.0 && report.ended < 3604.0, "{}", report.ended);
    assert_eq!(report.sessions[0].tcp[0].len(), 2);
    assert_eq!(seen.lock().unwrap()[0].1, 0);
}

#[test]
fn application_survives_a_path_that_goes_dark_and_runs_are_the_same_each_time() {
    let run = |seed| {
        let dark = Fault::new(FaultKind::BlackHole, 300 * MS).on("a").until(900 * MS);
        let client = async |session: Session| exchange(&session, 1_000_000).await.map(drop);
        network(seed).fault(dark).server(echo).client(client).run().unwrap()
    };
    let (first, second) = (run(1), run(1));
    assert_eq!((first.ended, &first.trace), (second.ended, &second.trace));
    assert_ne!(first.trace, run(2).trace);
    assert!(first.ended > 1.0 && first.ended < 3.0, "{}", first.ended);
}

#[test]
fn failures_of_applications_name_the_seed_to_replay() {
    let fails = |client: fn(Session) -> BoxFuture<'static, Outcome<()>>| {
        let limit = network(7).server(echo).limit(Duration::from_secs(5));
        limit.client(client).run().unwrap_err().to_string()
    };
    let panics = fails(|_| Box::pin(async { panic!("on purpose") }));
    assert_eq!(panics, "client 1 panicked: on purpose; replay with seed 7");
    let errs = fails(|_| Box::pin(async { Err("no luck".into()) }));
    assert_eq!(errs, "client 1: no luck; replay with seed 7");
    let waits = fails(|session| {
        Box::pin(async move {
            session.accept_stream().await;
            Ok(())
        })
    });
    assert!(waits.starts_with("client 1: not finished by "), "{waits}");
}

#[test]
fn own_faults_and_links_act_on_the_network_and_steps_show_what_happens() {
    let slots = |now: Time, _: &[u8]| Some(Time::from_millis(now.as_nanos() / 1_000_000 / 5 * 5 + 20));
    let cut = async |network: NetworkHandle| {
        network.runtime().sleep(200 * MS).await;
        network.reset("a");
        network.set_down("a", true);
    };
    let client = async |session: Session| exchange(&session, 300_000).await.map(drop);
    let simulation = network(3).link("b", Direction::Up, slots).faults(cut).server(echo).client(client);
    let mut run = simulation.client_scheduler(|| Box::new(schedule::RoundRobin)).start().unwrap();
    assert!(run.advance_until(Time::from_millis(190)));
    assert_eq!(run.now(), Time::from_millis(190));
    let live = |run: &RunningSimulation| run.session(Side::Client, 0).unwrap().tcp_connections().count();
    assert_eq!((live(&run), run.wrong()), (2, Vec::<String>::new()));
    let lost = |event: &SessionEvent| matches!(event.event, Event::Tcp(TcpEvent::Lost { .. }));
    let lost = std::iter::from_fn(|| run.next_event()).find(lost).unwrap();
    assert!(lost.at >= Time::from_millis(200) && lost.at < Time::from_millis(220), "{lost:?}");
    assert_eq!(live(&run), 1);
    assert!(!run.advance_until(Time::from_millis(60_000)), "over long before");
    run.finish().unwrap();
}

#[test]
fn what_makes_no_sense_is_refused_with_its_reason() {
    let refused = |simulation: Simulation| simulation.run().unwrap_err().to_string();
    let idle = async |_: Session| ();
    assert_eq!(refused(Simulation::new(1).client(idle)), "a scenario needs a path; replay with seed 1");
    assert!(refused(network(1)).starts_with("a simulation needs a client"));
    let absent = network(1).client(idle).link("c", Direction::Up, |now, _: &[u8]| Some(now));
    assert!(refused(absent).starts_with("no path is called \"c\""));
    let absent = network(1).client(async |session: Session| session.closed().await.to_string().clear());
    let absent = absent.faults(async |network: NetworkHandle| network.reset("c"));
    assert_eq!(refused(absent), "faults panicked: no path is called \"c\"; replay with seed 1");
}
