//! Tunnels while all networks are away, for less and for more than the agreed session timeout, in virtual time.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tcpls_core::error::CloseReason;
use tcpls_core::time::Time;
use tcpls_harness::net::{Runtime, Session};
use tcpls_harness::proxy::{
    End, Limits, Refusal, Report, Served, Server, Tunnel, TunnelOptions, Users, serve_forward, serve_program,
};
use tcpls_harness::sim::NetworkHandle;
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

use crate::tunnel_simulated::{ECHO, Echoes, MS, TEN_MINUTES, keystroke, network, program, tunnel, tunnel_with};

type Kill = fn(&NetworkHandle, &str, bool);
const KILLS: [(&str, Kill); 3] = [
    ("down", NetworkHandle::set_down),
    ("dark", NetworkHandle::set_dark),
    ("interfaces down", NetworkHandle::set_interface_down),
];
/// When an outage begins.
const BEGIN: Duration = Duration::from_secs(1);
/// What both ends agree on by [`network`].
const AGREED: Duration = Duration::from_secs(1200);

/// All paths fail in this way for this time.
fn outage(kill: Kill, lasts: Duration) -> impl Fn(NetworkHandle) -> Pin<Box<dyn Future<Output = ()> + Send>> {
    move |network| {
        Box::pin(async move {
            network.runtime().sleep(BEGIN).await;
            ["wifi", "mobile"].into_iter().for_each(|path| kill(&network, path, true));
            network.runtime().sleep(lasts).await;
            ["wifi", "mobile"].into_iter().for_each(|path| kill(&network, path, false));
        })
    }
}

#[test]
fn connections_continue_after_ten_minutes_without_a_network() {
    let client = async |session: Session| -> io::Result<()> {
        let runtime = session.runtime();
        let tunnel = tunnel(&session);
        let mut terminal = program(&runtime, &tunnel, ECHO).await?;
        for key in 0..200 {
            keystroke(&runtime, &mut terminal, key).await?;
            runtime.sleep(10 * MS).await;
        }
        assert!(runtime.now() - Default::default() > TEN_MINUTES);
        session.close(Default::default(), b"").await;
        Ok(())
    };
    for (_, kill) in KILLS {
        network(1).limit(3 * TEN_MINUTES).faults(outage(kill, TEN_MINUTES)).client(client).run().unwrap();
    }
}

/// What happened at the server, and why its session ended.
type AtServer = Arc<Mutex<(Vec<Report>, Option<CloseReason>)>>;

async fn serve_and_note(session: Session, notes: AtServer) {
    let reports = notes.clone();
    let report = move |report| reports.lock().unwrap_or_else(PoisonError::into_inner).0.push(report);
    let server = Server::new(Echoes(session.runtime()), Users::default(), Limits::default());
    server.serve(&session, report).await;
    notes.lock().unwrap_or_else(PoisonError::into_inner).1 = Some(session.closed().await);
}

#[test]
fn connections_end_with_the_reason_at_both_ends_after_the_agreed_time() {
    for (name, kill) in KILLS {
        let client = async move |session: Session| -> io::Result<()> {
            let runtime = session.runtime();
            let (mut terminal, far) = duplex(1024);
            let serving = {
                let (runtime, tunnel) = (runtime.clone(), tunnel(&session));
                let target = "a:7".parse().map_err(io::Error::other)?;
                runtime.clone().spawn(async move { serve_forward(&runtime, &tunnel, far, &target).await })
            };
            keystroke(&runtime, &mut terminal, 1).await?;
            runtime.sleep_until(Time::ZERO + BEGIN + 10 * MS).await;
            terminal.write_u8(2).await?;
            assert_eq!(terminal.read(&mut [0]).await?, 0, "the pipe ends with the connection");
            let took = runtime.now().saturating_since(Time::ZERO + BEGIN);
            // A dark path is lost after the user timeout.
            assert!((AGREED..AGREED + Duration::from_secs(30)).contains(&took), "{name}: {took:?}");
            let served = serving.await;
            assert!(
                matches!(served, Served::Carried(_, spliced) if spliced.end == End::SessionEnded),
                "{name}: {served:?}"
            );
            let reason = session.close_reason();
            assert_eq!(reason, Some(CloseReason::Stranded), "{name}");
            Ok(())
        };
        let at_server = AtServer::default();
        let notes = at_server.clone();
        let simulation = network(1).server(move |session| serve_and_note(session, notes.clone()));
        let simulation = simulation.limit(6 * TEN_MINUTES).faults(outage(kill, 3 * TEN_MINUTES));
        simulation.client(client).run().unwrap();
        let at_server = at_server.lock().unwrap();
        assert_eq!(at_server.1, Some(CloseReason::Stranded), "{name}");
        let ended = at_server.0.last();
        let is_named =
            |report: &Report| matches!(report, Report::Ended { spliced, .. } if spliced.end == End::SessionEnded);
        assert!(ended.is_some_and(is_named), "{name}: {ended:?}");
    }
}

/// Sends a request to the client's port of this tunnel, and returns the answer and the time that it took.
async fn asked(runtime: &Runtime, tunnel: &Tunnel, request: &[u8]) -> io::Result<(Vec<u8>, Duration)> {
    let (mut near, far) = duplex(1024);
    let (own, tunnel, begin) = (runtime.clone(), tunnel.clone(), runtime.now());
    let serving = runtime.spawn(async move { serve_program(&own, &tunnel, far).await });
    near.write_all(request).await?;
    let mut answer = Vec::new();
    near.read_to_end(&mut answer).await?;
    drop(near);
    assert!(matches!(serving.await, Served::Refused(Some(_), Refusal::NoSession)));
    Ok((answer, runtime.now() - begin))
}

#[test]
fn new_connections_during_an_outage_get_their_refusal_after_the_wait() {
    for (name, kill) in KILLS {
        // Shorter and longer than it takes until a dark path is lost.
        for wait in [Duration::from_secs(2), Duration::from_secs(60)] {
            let client = async move |session: Session| -> io::Result<()> {
                let runtime = session.runtime();
                let tunnel = tunnel_with(&session, TunnelOptions::default().with(|options| options.wait = wait));
                let mut terminal = program(&runtime, &tunnel, ECHO).await?;
                runtime.sleep_until(Time::ZERO + BEGIN + 10 * MS).await;
                let (socks, took) = asked(&runtime, &tunnel, &[5, 1, 0, 5, 1, 0, 3, 1, b'a', 0, ECHO]).await?;
                assert_eq!((&socks[..4], took), (&[5, 0, 5, 3][..], wait), "{name}: network unreachable");
                let (http, took) = asked(&runtime, &tunnel, b"CONNECT a:7 HTTP/1.1\r\nHost: a:7\r\n\r\n").await?;
                let http = String::from_utf8(http).map_err(io::Error::other)?;
                assert!(http.starts_with("HTTP/1.1 503 ") && took == wait, "{name}: {http} after {took:?}");
                assert!(http.contains("; error=destination_unavailable\r\n"), "{http}");
                runtime.sleep_until(Time::ZERO + BEGIN + TEN_MINUTES).await;
                keystroke(&runtime, &mut terminal, 1).await?;
                keystroke(&runtime, &mut program(&runtime, &tunnel, ECHO).await?, 2).await?;
                session.close(Default::default(), b"").await;
                Ok(())
            };
            let simulation = network(1).limit(3 * TEN_MINUTES).faults(outage(kill, TEN_MINUTES));
            simulation.client(client).run().unwrap();
        }
    }
}
