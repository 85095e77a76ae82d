//! The same tunnels in virtual time: programs, targets and everything between them are the code that runs over sockets.

use std::convert::Infallible;
use std::future::pending;
use std::io;
use std::pin::Pin;
use std::time::Duration;

use tcpls_core::config::Config;
use tcpls_core::error::{CloseReason, TcpFault};
use tcpls_core::time::Time;
use tcpls_core::wire::ids::ConnectionId;
use tcpls_harness::net::{Runtime, Session};
use tcpls_harness::proxy::{
    Limits, Outbound, Refusal, Requester, Server, Target, Tunnel, TunnelOptions, TunnelReport, Users, serve_program,
};
use tcpls_harness::sim::scenario::Path;
use tcpls_harness::sim::{Failure, NetworkHandle, Simulation};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, copy, duplex, sink, split};
use tokio::sync::watch;

pub(crate) const MS: Duration = Duration::from_millis(1);
pub(crate) const TEN_MINUTES: Duration = Duration::from_secs(600);
/// When clients are suspended.
const SUSPENDED: Duration = Duration::from_secs(2);
/// The most that a keystroke may take, also when its path goes dark.
const LONGEST: Duration = Duration::from_millis(200);

/// The ports of targets that send back what they receive, of those that count it, of those that read nothing, and of those
/// that send without end.
pub(crate) const ECHO: u8 = 7;
pub(crate) const DISCARD: u8 = 9;
pub(crate) const STUCK: u8 = 13;
pub(crate) const SOURCE: u8 = 19;
/// The server's address on the first path.
const WIFI: &str = "10.0.0.1:443";

/// Targets that send back what they receive, count it, do not read it, or send without end.
pub(crate) struct Echoes(pub(crate) Runtime);

impl Outbound for Echoes {
    type Peer = DuplexStream;

    async fn connect(&self, target: &Target, _: &Requester) -> Result<DuplexStream, Refusal> {
        let (near, far) = duplex(64 * 1024);
        let port = target.port as u8;
        drop(self.0.spawn(async move {
            let (mut reader, mut writer) = split(far);
            match port {
                DISCARD => {
                    let count = copy(&mut reader, &mut sink()).await;
                    _ = writer.write_u64(count.unwrap_or_default()).await;
                }
                STUCK => pending().await,
                SOURCE => while writer.write_all(&[7; 16 * 1024]).await.is_ok() {},
                _ => {
                    if copy(&mut reader, &mut writer).await.is_ok() {
                        _ = writer.shutdown().await;
                    }
                }
            }
        }));
        Ok(near)
    }
}

pub(crate) async fn serve(session: Session) {
    Server::new(Echoes(session.runtime()), Users::default(), Limits::default()).serve(&session, |_| {}).await;
}

/// A program that is connected by SOCKS.
pub(crate) async fn program(runtime: &Runtime, tunnel: &Tunnel, port: u8) -> io::Result<DuplexStream> {
    let (mut near, far) = duplex(64 * 1024);
    let (own, tunnel) = (runtime.clone(), tunnel.clone());
    drop(runtime.spawn(async move { serve_program(&own, &tunnel, far).await }));
    near.write_all(&[5, 1, 0, 5, 1, 0, 3, 1, b'a', 0, port]).await?;
    let mut answers = [0; 12];
    near.read_exact(&mut answers).await?;
    assert_eq!(answers[..4], [5, 0, 5, 0]);
    Ok(near)
}

pub(crate) fn tunnel(session: &Session) -> Tunnel {
    tunnel_with(session, TunnelOptions::default())
}

/// A tunnel that has no session after this one.
pub(crate) fn tunnel_with(session: &Session, options: TunnelOptions) -> Tunnel {
    let dial = pending::<Result<Session, Infallible>>;
    let report = |_: TunnelReport<Infallible>| {};
    Tunnel::start(&session.runtime(), options, Some(session.clone()), dial, report)
}

/// Sends a byte, and returns how long its echo took.
pub(crate) async fn keystroke(runtime: &Runtime, terminal: &mut DuplexStream, key: u8) -> io::Result<Duration> {
    let start = runtime.now();
    terminal.write_all(&[key]).await?;
    assert_eq!(terminal.read_u8().await?, key);
    Ok(runtime.now() - start)
}

/// Types for at least 2 s, and checks that no keystroke takes longer than [`LONGEST`].
async fn typing(runtime: &Runtime, terminal: &mut DuplexStream) -> io::Result<()> {
    let mut longest = Duration::ZERO;
    for key in 0..200 {
        longest = longest.max(keystroke(runtime, terminal, key).await?);
        runtime.sleep(10 * MS).await;
    }
    println!("the longest took {longest:?}");
    assert!(longest <= LONGEST, "{longest:?}");
    Ok(())
}

pub(crate) fn network(seed: u64) -> Simulation {
    let config = Config::default().with(|config| config.session_timeout = 2 * TEN_MINUTES);
    Simulation::new(seed)
        .path(Path::new("wifi").rate(50_000_000).delay(10 * MS))
        .path(Path::new("mobile").rate(20_000_000).delay(30 * MS))
        .client_config(config.clone())
        .server_config(config)
        .server(serve)
}

/// The first path fails in this way after 1 s.
fn losing_wifi(
    kill: fn(&NetworkHandle, &str, bool),
) -> impl Fn(NetworkHandle) -> Pin<Box<dyn Future<Output = ()> + Send>> {
    move |network| {
        Box::pin(async move {
            network.runtime().sleep(Duration::from_secs(1)).await;
            kill(&network, "wifi", true);
        })
    }
}

#[test]
fn keystrokes_go_on_when_the_path_goes_dark() {
    let client = async |session: Session| -> io::Result<()> {
        let runtime = session.runtime();
        let tunnel = tunnel(&session);
        let mut terminal = program(&runtime, &tunnel, ECHO).await?;
        typing(&runtime, &mut terminal).await?;
        session.close(Default::default(), b"").await;
        Ok(())
    };
    for seed in 0..10 {
        network(seed).faults(losing_wifi(NetworkHandle::set_dark)).client(client).run().unwrap();
    }
}

/// Uploads this much, and checks that all of it arrives.
async fn upload(mut program: DuplexStream, bytes: u64) -> io::Result<()> {
    let block = vec![7; 16 * 1024];
    for _ in 0..bytes / block.len() as u64 {
        program.write_all(&block).await?;
    }
    program.shutdown().await?;
    assert_eq!(program.read_u64().await?, bytes);
    Ok(())
}

#[test]
fn keystrokes_go_on_beside_bulk_data_when_the_interface_goes_down() {
    let client = async |session: Session| -> io::Result<()> {
        let runtime = session.runtime();
        let tunnel = tunnel(&session);
        let mut terminal = program(&runtime, &tunnel, ECHO).await?;
        tokio::try_join!(
            typing(&runtime, &mut terminal),
            upload(program(&runtime, &tunnel, DISCARD).await?, 16 << 20)
        )?;
        let on_wifi = |tcp: &ConnectionId| session.path_of(*tcp).is_some_and(|path| path.remote.to_string() == WIFI);
        assert!(!session.tcp_connections().iter().any(on_wifi), "it is closed as soon as the other path works");
        let paths = session.monitor().status(0).map(|status| status.paths).unwrap_or_default();
        let causes: Vec<TcpFault> = paths.iter().filter_map(|path| path.last_loss).map(|loss| loss.fault).collect();
        assert_eq!(causes, [TcpFault::PathDown], "and the cause is named");
        session.close(Default::default(), b"").await;
        Ok(())
    };
    for seed in 0..10 {
        network(seed).faults(losing_wifi(NetworkHandle::set_interface_down)).client(client).run().unwrap();
    }
}

#[test]
fn interface_that_comes_back_is_joined_at_once() {
    let client = async |session: Session| -> io::Result<()> {
        let runtime = session.runtime();
        let tunnel = tunnel(&session);
        let mut terminal = program(&runtime, &tunnel, ECHO).await?;
        let mut joined = Vec::new();
        for key in 0..200 {
            keystroke(&runtime, &mut terminal, key).await?;
            runtime.sleep(10 * MS).await;
            joined.push((runtime.now(), session.tcp_connections().len()));
        }
        let away = joined.iter().position(|(_, count)| *count == 1).expect("the interface was down");
        let back = joined[away..].iter().find(|(_, count)| *count > 1).expect("it came back").0;
        assert!(back <= Time::from_millis(1_600), "joined at {back:?}");
        session.close(Default::default(), b"").await;
        Ok(())
    };
    let faults = async |network: NetworkHandle| {
        network.runtime().sleep(Duration::from_secs(1)).await;
        network.set_interface_down("wifi", true);
        network.runtime().sleep(500 * MS).await;
        network.set_interface_down("wifi", false);
    };
    network(1).faults(faults).client(client).run().unwrap();
}

/// Uses a tunnel, is suspended for a while, and uses it again.
fn suspended_for(asleep: Duration, session_timeout: Duration) -> Result<(), Failure> {
    let config =
        Config::default().with(|config| (config.session_timeout, config.idle_timeout) = (session_timeout, None));
    let client = async move |session: Session| -> io::Result<()> {
        let runtime = session.runtime();
        let tunnel = tunnel(&session);
        let mut terminal = program(&runtime, &tunnel, ECHO).await?;
        keystroke(&runtime, &mut terminal, 1).await?;
        runtime.sleep(SUSPENDED + asleep - runtime.now().saturating_since(Time::ZERO)).await;
        if asleep < session_timeout {
            let took = keystroke(&runtime, &mut terminal, 2).await?;
            assert!(took <= Duration::from_secs(1), "{took:?} after waking");
            session.close(Default::default(), b"").await;
        } else {
            let reason = session.closed().await;
            assert!(matches!(reason, CloseReason::OutOfTokens { .. } | CloseReason::Stranded), "{reason:?}");
        }
        let took = runtime.now().saturating_since(Time::ZERO + SUSPENDED + asleep);
        // The user timeout of the old TCP connections, and the wait before the last token is used.
        assert!(took <= Duration::from_secs(16), "over {took:?} after waking");
        Ok(())
    };
    let faults = async move |network: NetworkHandle| {
        network.runtime().sleep(SUSPENDED).await;
        network.set_suspended(true);
        network.runtime().sleep(asleep).await;
        network.set_suspended(false);
    };
    let simulation = network(1).client_config(config.clone()).server_config(config).limit(7 * TEN_MINUTES);
    simulation.faults(faults).client(client).run().map(|_| ())
}

#[test]
fn session_is_rejoined_within_a_second_of_waking() {
    suspended_for(Duration::from_secs(3600), Duration::from_secs(7200)).unwrap();
    suspended_for(Duration::from_secs(5), Duration::from_secs(60)).unwrap();
}

#[test]
fn session_that_the_server_gave_up_during_a_suspend_ends_with_the_reason() {
    suspended_for(Duration::from_secs(3600), Duration::from_secs(60)).unwrap();
}

#[test]
fn new_connection_ends_the_pause_before_the_next_session_after_a_second() {
    let client = async |session: Session| -> io::Result<()> {
        let runtime = session.runtime();
        let (attempt, mut attempts) = watch::channel(Time::ZERO);
        let own = runtime.clone();
        let dial = move || {
            attempt.send_replace(own.now());
            async { Err::<Session, _>("the server is away") }
        };
        let options = TunnelOptions::default().with(|options| options.wait = Duration::from_secs(60));
        let tunnel = Tunnel::start(&runtime, options, None, dial, |_: TunnelReport<&str>| {});
        let ask = || {
            let tunnel = tunnel.clone();
            drop(runtime.spawn(async move { _ = tunnel.connect(&"192.0.2.1:7".parse().unwrap()).await }));
        };
        let mut next = async || {
            let last = *attempts.borrow_and_update();
            attempts.changed().await.unwrap();
            attempts.borrow().saturating_since(last)
        };
        // Without requests, the pauses double.
        let mut pause = Duration::ZERO;
        for _ in 0..12 {
            pause = next().await;
        }
        assert!(pause >= Duration::from_secs(15), "{pause:?}");
        // A request in the middle of a pause ends it; one at its start ends it after a second, and only that one.
        runtime.sleep(5000 * MS).await;
        ask();
        let pause = next().await;
        assert!((5000 * MS..5001 * MS).contains(&pause), "{pause:?}");
        (0..10).for_each(|_| ask());
        let pause = next().await;
        assert!((1000 * MS..1500 * MS).contains(&pause), "{pause:?}");
        let pause = next().await;
        assert!(pause >= Duration::from_secs(15), "{pause:?} while requests wait that have been heard");
        session.close(Default::default(), b"").await;
        Ok(())
    };
    network(1).client(client).run().unwrap();
}
