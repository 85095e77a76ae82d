//! Simulations with applications of their own: async functions over sessions, in virtual time.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tcpls_core::connection::{JoinOptions, schedule};
use tcpls_core::error::CloseReason;
use tcpls_core::event::{Event, TcpEvent};
use tcpls_core::{ConnectionId, ErrorCode, Side, Time};
use tcpls_harness::dial::{self, Action, AttemptId, DialPolicy, Dialer, Keep, MakeDialPolicy, PathStatus, SessionView};
use tcpls_harness::net::{AddTcpError, Runtime, Session};
use tcpls_harness::sim::scenario::{Direction, Fault, FaultKind, Path, Role};
use tcpls_harness::sim::swarm::{Mode, generate};
use tcpls_harness::sim::{NetworkHandle, RunningSimulation, SessionEvent, SimRng, Simulation};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::{Lines, Server};

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
fn application_survives_a_dark_path_reproducibly() {
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
    let limit = "client 1: not finished within the limit of 5s (last event at ";
    assert!(waits.starts_with(limit), "{waits}");
}

/// Does not choose: panics.
struct Panics;

impl schedule::Scheduler for Panics {
    fn choose(&self, _: usize, _: &[schedule::TcpView], _: u64) -> schedule::Choice {
        panic!("no idea")
    }
}

#[test]
fn panics_of_links_schedulers_and_policies_name_the_seed_to_replay() {
    let client = async |session: Session| exchange(&session, 100_000).await.map(drop);
    let failure = |simulation: Simulation| {
        let failure = simulation.server(echo).client(client).run().unwrap_err();
        assert_eq!(failure.what.len(), 1, "{failure}");
        failure.to_string()
    };
    let mut packets = 0;
    let link = move |now: Time, _: &[u8], _: &mut SimRng| {
        packets += 1;
        assert!(packets < 20, "packet {packets}");
        Some(now + 10 * MS)
    };
    let lines = Lines::default();
    let text = failure(network(7).link("a", Direction::Up, link).trace(lines.clone()));
    let who = "a link, a scheduler, a dial policy or the simulator panicked at 0.";
    assert!(text.starts_with(who) && text.ends_with(" s: packet 20; replay with seed 7"), "{text}");
    assert!(lines.text().contains("stream"), "what led to the panic is in the trace");
    let text = failure(network(7).client_scheduler(|| Box::new(Panics)));
    assert!(text.starts_with(who) && text.ends_with(" s: no idea; replay with seed 7"), "{text}");
    let text = failure(network(7).server_scheduler(|| panic!("none")));
    assert!(text.ends_with(" s: none; replay with seed 7"), "{text}");
    let text = failure(network(7).dial_policy(MakeDialPolicy::new(|_| panic!("no policy"))));
    assert!(text.ends_with(" s: no policy; replay with seed 7"), "{text}");
}

#[test]
fn run_stays_over_after_a_panic_in_a_step() {
    let link = |now: Time, _: &[u8], _: &mut SimRng| {
        assert!(now < Time::from_millis(100), "late");
        Some(now + 10 * MS)
    };
    let client = async |session: Session| exchange(&session, 1_000_000).await.map(drop);
    let mut run = network(7).link("a", Direction::Up, link).server(echo).client(client).start().unwrap();
    assert!(!run.advance_until(Time::from_millis(300)));
    assert!(run.next_event().is_none() && run.wrong()[0].ends_with("s: late"), "{:?}", run.wrong());
    assert!(run.finish().unwrap_err().report.is_none());
}

#[test]
fn application_that_waits_for_nothing_is_reported_as_such() {
    let client = async |session: Session| {
        session.close(ErrorCode(0), b"").await;
        std::future::pending::<()>().await;
    };
    let failure = network(7).server(echo).client(client).run().unwrap_err().to_string();
    assert!(failure.starts_with("client 1: not finished when nothing was left to happen"), "{failure}");
}

/// Without a TCP connection there is no peer to wait for, and no later event that would end the wait.
#[test]
fn closing_a_session_without_tcp_connections_returns_at_once() {
    let client = async |session: Session| {
        exchange(&session, 1000).await?;
        let mut events = session.events();
        session.tcp_connections().into_iter().for_each(|tcp| session.reset_tcp(tcp));
        while !session.tcp_connections().is_empty() {
            events.next().await;
        }
        let before = session.runtime().now();
        session.close(ErrorCode(7), b"enough").await;
        assert_eq!(session.runtime().now(), before);
        Outcome::Ok(())
    };
    network(7).server(echo).client(client).run().unwrap();
}

#[test]
fn rate_and_delay_of_links_of_ones_own_cannot_be_set() {
    let simulation = |own: &[Direction], fault: fn(&NetworkHandle)| {
        let link = |now: Time, _: &[u8], _: &mut SimRng| Some(now + 10 * MS);
        let faults = async move |network: NetworkHandle| fault(&network);
        let client = async |session: Session| exchange(&session, 1000).await.map(drop);
        let network = network(1).faults(faults).server(echo).client(client);
        own.iter().fold(network, |network, direction| network.link("b", *direction, link))
    };
    let (up, both) = ([Direction::Up], [Direction::Up, Direction::Down]);
    let faults: [(_, fn(&NetworkHandle)); 2] = [
        ("rate", |network| network.set_rate("b", Some(1_000_000))),
        ("delay", |network| network.set_delay("b", Some(50 * MS))),
    ];
    for (what, fault) in faults {
        let refused = simulation(&both, fault).run().unwrap_err().to_string();
        let expected = format!("path \"b\" has no {what} to set: its links are models of your own; replay with seed 1");
        assert_eq!(refused, format!("faults panicked: {expected}"));
        simulation(&up, fault).run().unwrap();
        let timed = Fault { delay: Some(Default::default()), ..Fault::new(FaultKind::Delay, 10 * MS).on("b") };
        let refused = simulation(&both, |_| ()).fault(timed).run().unwrap_err().to_string();
        assert!(refused.starts_with("path \"b\" has no delay to set"), "{refused}");
    }
    simulation(&both, |network| network.set_dark("b", true)).run().unwrap();
}

#[test]
fn report_says_which_tcp_connections_were_stalled_to_the_end() {
    let dark = Fault::new(FaultKind::BlackHole, 300 * MS).on("a");
    let client = async |session: Session| exchange(&session, 1_000_000).await.map(drop);
    let report = network(1).fault(dark).server(echo).client(client).run().unwrap();
    let states: Vec<&str> = report.sessions[0].tcp[0].iter().map(|tcp| tcp.state.as_str()).collect();
    assert_eq!(states, ["stalled", "in use"]);
}

#[test]
fn rate_and_delay_of_a_path_return_to_what_they_were_at_the_start() {
    let faults = async |network: NetworkHandle| {
        network.runtime().sleep(500 * MS).await;
        for path in ["a", "b"] {
            network.set_rate(path, Some(8_000));
            network.set_delay(path, Some(300 * MS));
        }
        network.runtime().sleep(MS).await;
        for path in ["a", "b"] {
            network.set_rate(path, None);
            network.set_delay(path, None);
        }
    };
    let client = async |session: Session| {
        session.runtime().sleep(1000 * MS).await;
        exchange(&session, 1000).await?;
        assert!(session.runtime().now() < Time::from_millis(1100), "{:?}", session.runtime().now());
        Outcome::Ok(())
    };
    network(1).faults(faults).server(echo).client(client).run().unwrap();
}

#[test]
fn own_faults_and_links_act_on_the_network_and_steps_show_what_happens() {
    let slots = |now: Time, _: &[u8], _: &mut SimRng| Some(Time::from_millis(now.as_nanos() / 1_000_000 / 5 * 5 + 20));
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
fn invalid_scenario_is_refused_with_its_reason() {
    let refused = |simulation: Simulation| simulation.run().unwrap_err().to_string();
    let idle = async |_: Session| ();
    assert_eq!(refused(Simulation::new(1).client(idle)), "a scenario needs a path; replay with seed 1");
    assert!(refused(network(1)).starts_with("a simulation needs a client"));
    let absent = network(1).client(idle).link("c", Direction::Up, |now, _: &[u8], _: &mut SimRng| Some(now));
    assert!(refused(absent).starts_with("no path is called \"c\""));
    let absent = network(1).client(async |session: Session| session.closed().await.to_string().clear());
    let absent = absent.faults(async |network: NetworkHandle| network.reset("c"));
    assert_eq!(refused(absent), "faults panicked: no path is called \"c\"; replay with seed 1");
}

#[test]
fn session_adds_a_tcp_connection_and_shows_its_paths_as_over_sockets() {
    let client = async |session: Session| {
        let own: Vec<_> = session.paths().iter().map(|status| status.path).collect();
        assert_eq!((own.len(), session.tcp_connections().len()), (1, 1));
        let spare: SocketAddr = "10.0.1.1:443".parse()?;
        let (mut failures, mut events) = (session.path_failures(), session.events());
        let tcp = session.add_tcp(spare, None).await?;
        assert_eq!(session.peer_address(tcp), Some(spare));
        let joined = |event| matches!(event, Event::Tcp(TcpEvent::Joined { tcp: joined }) if joined == tcp);
        assert!(std::iter::from_fn(|| events.try_next()).any(joined));
        assert_eq!(session.tcp_connections().len(), 2);
        let unknown: SocketAddr = "10.0.9.1:443".parse()?;
        assert!(
            matches!(session.add_tcp(unknown, None).await, Err(AddTcpError::Tcp(address, _)) if address == unknown)
        );
        session.add_path(unknown, None);
        assert_eq!(failures.next().await.unwrap().path.remote, unknown);
        session.reset_tcp(ConnectionId::FIRST);
        exchange(&session, 1000).await?;
        assert_eq!(session.path_of(tcp).map(|path| path.remote), Some(spare));
        let closed = session.close(ErrorCode(7), b"enough").await;
        assert_eq!(closed.reason, CloseReason::Local { error: ErrorCode(7) });
        Outcome::Ok(())
    };
    let path = |name| Path::new(name).rate(8_000_000).delay(10 * MS);
    let simulation = Simulation::new(1).path(path("a")).path(path("b").role(Role::Spare));
    simulation.server(echo).client(client).run().unwrap();
}

/// Dials as the policy that it wraps, but never before this time from the start.
#[derive(Debug)]
struct Late {
    inner: Dialer,
    held: Vec<Action>,
    from: Time,
    now: Time,
}

impl DialPolicy for Late {
    fn poll_action(&mut self) -> Option<Action> {
        while let Some(action) = self.inner.poll_action() {
            if self.now >= self.from || !matches!(action, Action::Connect { .. }) {
                return Some(action);
            }
            self.held.push(action);
        }
        if self.now >= self.from { self.held.pop() } else { None }
    }

    fn poll_timeout(&self) -> Option<Time> {
        let held = (!self.held.is_empty() && self.now < self.from).then_some(self.from);
        self.inner.poll_timeout().into_iter().chain(held).min()
    }

    fn advance(&mut self, now: Time, session: SessionView) {
        self.now = now;
        self.inner.advance(now, session);
    }

    fn handle_connected(&mut self, now: Time, attempt: AttemptId) -> bool {
        self.inner.handle_connected(now, attempt)
    }

    fn handle_failed(&mut self, now: Time, attempt: AttemptId) {
        self.inner.handle_failed(now, attempt);
    }

    fn handle_progress(&mut self, now: Time, attempt: AttemptId, bytes: u64) {
        self.inner.handle_progress(now, attempt, bytes);
    }

    fn handle_established(&mut self, now: Time, attempt: AttemptId, tcpls: bool) {
        self.inner.handle_established(now, attempt, tcpls);
    }

    fn handle_joining(&mut self, attempt: AttemptId, tcp: ConnectionId) {
        self.inner.handle_joining(attempt, tcp);
    }

    fn handle_event(&mut self, now: Time, event: &Event) {
        self.inner.handle_event(now, event);
    }

    fn join_options(&self, path: dial::Path) -> JoinOptions {
        self.inner.join_options(path)
    }

    fn adopt(&mut self, now: Time, path: dial::Path, tcp: ConnectionId) {
        self.inner.adopt(now, path, tcp);
    }

    fn add(&mut self, now: Time, path: dial::Path) {
        self.inner.add(now, path);
    }

    fn set_backup(&mut self, tcp: ConnectionId, backup: bool) {
        self.inner.set_backup(tcp, backup);
    }

    fn paths(&self) -> Vec<PathStatus> {
        DialPolicy::paths(&self.inner)
    }
}

fn late(from: Time) -> MakeDialPolicy {
    MakeDialPolicy::new(move |inner| Box::new(Late { inner, held: Vec::new(), from, now: Time::ZERO }))
}

#[tokio::test]
async fn own_policy_decides_when_a_client_dials_over_sockets() {
    let mut server = Server::start();
    let runtime = Runtime::tokio();
    let from = runtime.now() + 50 * MS;
    let mut options = server.options();
    (options.dial.keep, options.dial_policy) = (Keep::Paths, Some(late(from)));
    let (client, peer) = tokio::join!(Session::connect(&server.addresses, options), server.listener.accept());
    assert!(runtime.now() >= from);
    let client = client.unwrap();
    let mut events = client.events();
    while client.tcp_connections().len() < 2 {
        events.next().await.unwrap();
    }
    let echoing = runtime.spawn(echo(peer));
    exchange(&client, 1000).await.unwrap();
    client.close(Default::default(), b"").await;
    echoing.await;
}

#[test]
fn own_policy_decides_when_a_client_dials() {
    let from = Time::from_millis(700);
    let client = async move |session: Session| {
        assert!(session.runtime().now() >= from + 40 * MS, "two round trips later");
        exchange(&session, 1000).await.map(drop)
    };
    let report = network(1).server(echo).client(client).dial_policy(late(from)).run().unwrap();
    assert!(report.ended < 2.0);
}

#[test]
fn applications_get_their_bytes_over_random_networks_whose_faults_end() {
    for seed in 0..30 {
        let mut scenario = generate(seed, Mode::Liveness);
        (scenario.transfer, scenario.action, scenario.flood) = Default::default();
        scenario.bounds = Default::default();
        let slowest = scenario.path.iter().filter_map(|path| path.rate).min().map_or(u64::MAX, |rate| rate.0);
        let long = if slowest < 100_000 { 3_000 } else { 100_000 };
        let client = async move |session: Session| {
            for len in [1, 2_000, 0, long] {
                session.runtime().sleep(1000 * MS).await;
                exchange(&session, len).await?;
            }
            Outcome::Ok(())
        };
        if let Err(failure) = Simulation::of(scenario, seed).server(echo).client(client).run() {
            let report = failure.report.as_ref().unwrap();
            // A client that loses TCP connections faster than tokens arrive cannot recover.
            let is_starved = report.sessions.iter().any(|session| session.starved);
            assert!(is_starved, "{failure}");
        }
    }
}

#[test]
fn applications_of_a_restarted_server_find_their_sessions_lost() {
    let restart = async |network: NetworkHandle| {
        network.runtime().sleep(500 * MS).await;
        network.restart_server();
    };
    let ended = Arc::new(Mutex::new(None));
    let seen = ended.clone();
    let serve = move |session: Session| {
        let seen = seen.clone();
        async move { *seen.lock().unwrap() = Some((session.closed().await, session.runtime().now())) }
    };
    let client = async |session: Session| {
        session.open_stream().await?.write_all(b"you there?").await?;
        let reason = session.closed().await;
        assert!(session.runtime().now() < Time::from_millis(20_000), "{reason}");
        Outcome::Ok(())
    };
    network(1).faults(restart).server(serve).client(client).run().unwrap();
    let (_, at) = ended.lock().unwrap().clone().unwrap();
    assert_eq!(at, Time::from_millis(500));
}

#[test]
fn notes_and_metrics_are_in_the_trace_at_host_and_session_and_in_the_report() {
    let lines = Lines::default();
    let server = async |session: Session| {
        session.runtime().note("accepted");
        echo(session).await;
    };
    let client = async |session: Session| {
        let runtime = session.runtime();
        runtime.note(format_args!("asks for {} bytes", 1000));
        exchange(&session, 1000).await?;
        let again = runtime.clone();
        runtime.spawn(async move { again.metric("of a task", 0.5) }).await;
        runtime.metric("questions", 1.0);
        Outcome::Ok(())
    };
    let faults = async |network: NetworkHandle| network.runtime().note("no fault");
    let simulation = network(1).server(server).client(client).client(client).faults(faults).trace(lines.clone());
    let report = simulation.run().unwrap();
    let seen: Vec<_> =
        report.metrics.iter().map(|metric| (metric.host.as_str(), metric.name.as_str(), metric.value)).collect();
    let expected = ["client", "client 2"].map(|host| [(host, "of a task", 0.5), (host, "questions", 1.0)]).concat();
    let sorted: BTreeSet<String> = seen.iter().map(|metric| format!("{metric:?}")).collect();
    assert_eq!(sorted, expected.iter().map(|metric| format!("{metric:?}")).collect());
    assert_eq!(report.metric("questions").collect::<Vec<_>>(), [1.0, 1.0]);
    assert!(report.metrics.iter().all(|metric| metric.session.is_some() && metric.at > 0.0), "{report:?}");

    let text = lines.text();
    let shown: Vec<&str> = text.lines().filter(|line| line.contains("note") || line.contains("metric")).collect();
    let has = |parts: &[&str]| text.lines().filter(|line| parts.iter().all(|part| line.contains(part))).count();
    assert_eq!(
        has(&["\"at\":\"client 2\"", "\"session\":", "\"what\":\"note\",\"text\":\"asks for 1000 bytes\""]),
        1,
        "{shown:#?}"
    );
    assert_eq!(has(&["\"at\":\"server\"", "\"session\":", "\"what\":\"note\",\"text\":\"accepted\""]), 2, "{shown:#?}");
    assert_eq!(has(&["\"at\":\"network\"", "\"what\":\"note\",\"text\":\"no fault\""]), 1, "{shown:#?}");
    assert_eq!(has(&["\"what\":\"metric\",\"name\":\"questions\",\"value\":1.0"]), 2, "{shown:#?}");
    let times: Vec<u64> = text.lines().map(|line| line[5..].split(',').next().unwrap().parse().unwrap()).collect();
    assert!(times.is_sorted(), "lines are in order of time");
}

#[test]
fn random_numbers_of_a_link_follow_from_the_seed_and_are_its_own() {
    let run = |seed, one_in: u64| {
        let lossy = move |now: Time, _: &[u8], random: &mut SimRng| (!random.one_in(one_in)).then(|| now + 10 * MS);
        let client = async |session: Session| exchange(&session, 200_000).await.map(drop);
        network(seed).link("a", Direction::Down, lossy).server(echo).client(client).run().unwrap()
    };
    assert_eq!(run(1, 20).trace, run(1, 20).trace);
    assert_ne!(run(1, 20).trace, run(2, 20).trace);
    let drawn = Arc::new(Mutex::new([Vec::new(), Vec::new()]));
    let draws = |way: usize| {
        let drawn = drawn.clone();
        move |now: Time, _: &[u8], random: &mut SimRng| {
            drawn.lock().unwrap()[way].push(random.below(1 << 32));
            Some(now + 10 * MS)
        }
    };
    let client = async |session: Session| exchange(&session, 10_000).await.map(drop);
    let both = network(1).link("a", Direction::Up, draws(0)).link("a", Direction::Down, draws(1));
    both.server(echo).client(client).run().unwrap();
    let drawn = drawn.lock().unwrap();
    assert_ne!(drawn[0][..5], drawn[1][..5], "each direction has its own");
}

#[test]
fn metered_path_that_an_outage_has_opened_carries_nothing_afterwards() {
    let records = |session: &Session| {
        let stats = session.stats().tcp.into_iter().find(|tcp| tcp.backup).expect("it stays, as a backup");
        (stats.tcp, stats.counters.records_sent, stats.counters.records_received)
    };
    let client = async move |session: Session| {
        let runtime = session.runtime();
        session.set_keep_alive(Some(Duration::from_secs(5)));
        exchange(&session, 100_000).await?;
        assert_eq!(session.tcp_connections().len(), 1, "it is not even connected");
        runtime.sleep(Duration::from_secs(10)).await; // the outage is over
        exchange(&session, 100_000).await?;
        runtime.sleep(Duration::from_secs(10)).await;
        let before = records(&session);
        runtime.sleep(Duration::from_secs(600)).await; // with keep-alives
        let _open = session.open_stream().await?;
        runtime.sleep(Duration::from_secs(600)).await; // with a stream
        exchange(&session, 1_000_000).await?;
        runtime.sleep(Duration::from_secs(10)).await;
        assert_eq!((session.tcp_connections().len(), records(&session)), (2, before));
        session.close(Default::default(), b"").await;
        Outcome::Ok(())
    };
    let faults = async |network: NetworkHandle| {
        network.runtime().sleep(Duration::from_secs(3)).await;
        network.set_interface_down("wifi", true);
        network.runtime().sleep(Duration::from_secs(3)).await;
        network.set_interface_down("wifi", false);
    };
    let wifi = Path::new("wifi").rate(8_000_000).delay(10 * MS);
    let phone = Path::new("phone").rate(8_000_000).delay(30 * MS).role(Role::Metered);
    let simulation = Simulation::new(1).path(wifi).path(phone).faults(faults);
    simulation.server(echo).client(client).limit(7200 * 1000 * MS).run().unwrap();
}
