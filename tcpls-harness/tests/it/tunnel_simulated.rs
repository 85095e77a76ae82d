//! The same tunnels in virtual time: programs, targets and everything between them are the code that runs over sockets.

use std::convert::Infallible;
use std::future::pending;
use std::io;
use std::time::Duration;

use tcpls_core::config::Config;
use tcpls_harness::net::{Runtime, Session};
use tcpls_harness::proxy::{
    Limits, Outbound, Refusal, Server, Target, Tunnel, TunnelOptions, TunnelReport, Users, serve_program,
};
use tcpls_harness::sim::scenario::Path;
use tcpls_harness::sim::{NetworkHandle, Simulation};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, copy, duplex, split};

const MS: Duration = Duration::from_millis(1);
const TEN_MINUTES: Duration = Duration::from_secs(600);
/// The most that a keystroke may take, also when its path goes dark.
const LONGEST: Duration = Duration::from_millis(200);

/// Targets that send back what they receive.
struct Echoes(Runtime);

impl Outbound for Echoes {
    type Peer = DuplexStream;

    async fn connect(&self, _: &Target) -> Result<DuplexStream, Refusal> {
        let (near, far) = duplex(64 * 1024);
        drop(self.0.spawn(async move {
            let (mut reader, mut writer) = split(far);
            if copy(&mut reader, &mut writer).await.is_ok() {
                _ = writer.shutdown().await;
            }
        }));
        Ok(near)
    }
}

async fn serve(session: Session) {
    Server::new(Echoes(session.runtime()), Users::default(), Limits::default()).serve(&session, |_| {}).await;
}

/// A program that is connected by SOCKS.
async fn program(runtime: &Runtime, tunnel: &Tunnel) -> io::Result<DuplexStream> {
    let (mut near, far) = duplex(64 * 1024);
    let (own, tunnel) = (runtime.clone(), tunnel.clone());
    drop(runtime.spawn(async move { serve_program(&own, &tunnel, far).await }));
    near.write_all(&[5, 1, 0, 5, 1, 0, 3, 1, b'a', 0, 22]).await?;
    let mut answers = [0; 12];
    near.read_exact(&mut answers).await?;
    assert_eq!(answers[..4], [5, 0, 5, 0]);
    Ok(near)
}

fn tunnel(session: &Session) -> Tunnel {
    let dial = pending::<Result<Session, Infallible>>;
    let report = |_: TunnelReport<Infallible>| {};
    Tunnel::start(&session.runtime(), TunnelOptions::default(), Some(session.clone()), dial, report)
}

/// Sends a byte, and returns how long its echo took.
async fn keystroke(runtime: &Runtime, terminal: &mut DuplexStream, key: u8) -> io::Result<Duration> {
    let start = runtime.now();
    terminal.write_all(&[key]).await?;
    assert_eq!(terminal.read_u8().await?, key);
    Ok(runtime.now() - start)
}

fn network(seed: u64) -> Simulation {
    let config = Config::default().with(|config| config.session_timeout = 2 * TEN_MINUTES);
    Simulation::new(seed)
        .path(Path::new("wifi").rate(50_000_000).delay(10 * MS))
        .path(Path::new("mobile").rate(20_000_000).delay(30 * MS))
        .client_config(config.clone())
        .server_config(config)
        .server(serve)
}

#[test]
fn keystrokes_go_on_when_the_path_goes_dark() {
    let client = async |session: Session| -> io::Result<()> {
        let runtime = session.runtime();
        let tunnel = tunnel(&session);
        let mut terminal = program(&runtime, &tunnel).await?;
        let mut longest = Duration::ZERO;
        for key in 0..200 {
            longest = longest.max(keystroke(&runtime, &mut terminal, key).await?);
            runtime.sleep(10 * MS).await;
        }
        println!("the longest took {longest:?}");
        assert!(longest <= LONGEST, "{longest:?}");
        session.close(Default::default(), b"").await;
        Ok(())
    };
    for seed in 0..10 {
        let faults = async |network: NetworkHandle| {
            network.runtime().sleep(Duration::from_secs(1)).await;
            network.set_dark("wifi", true);
        };
        network(seed).faults(faults).client(client).run().unwrap();
    }
}

#[test]
fn connections_continue_after_ten_minutes_without_a_network() {
    let client = async |session: Session| -> io::Result<()> {
        let runtime = session.runtime();
        let tunnel = tunnel(&session);
        let mut terminal = program(&runtime, &tunnel).await?;
        for key in 0..200 {
            keystroke(&runtime, &mut terminal, key).await?;
            runtime.sleep(10 * MS).await;
        }
        assert!(runtime.now() - Default::default() > TEN_MINUTES);
        session.close(Default::default(), b"").await;
        Ok(())
    };
    for kill in [NetworkHandle::set_down, NetworkHandle::set_dark] {
        let faults = async move |network: NetworkHandle| {
            network.runtime().sleep(Duration::from_secs(1)).await;
            ["wifi", "mobile"].into_iter().for_each(|path| kill(&network, path, true));
            network.runtime().sleep(TEN_MINUTES).await;
            ["wifi", "mobile"].into_iter().for_each(|path| kill(&network, path, false));
        };
        network(1).limit(3 * TEN_MINUTES).faults(faults).client(client).run().unwrap();
    }
}
