//! Options of sockets that endpoints ask each other for.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tcpls_core::config::Config;
use tcpls_core::error::AskOptionError;
use tcpls_core::event::{Event, OptionOutcome};
use tcpls_core::wire::ids::ConnectionId;
use tcpls_harness::net::{
    CongestionName, CongestionPolicy, Events, Listener, OptionPolicy, ServerOptions, Session, SocketOption, TcpOption,
};
use tokio::task::JoinSet;

use crate::library;
use crate::support::{ANY, PROTOCOL, Server, joined, lost, soon};

const FIRST: ConnectionId = ConnectionId::FIRST;
const TIMEOUT: TcpOption = TcpOption::UserTimeout(Duration::from_secs(30));

impl Server {
    /// A server whose clients may set what this policy allows.
    fn with_policy(policy: OptionPolicy) -> Self {
        let server = Self::start();
        let mut options = ServerOptions::new(library::server(&server.identity, PROTOCOL));
        options.peer_options = Arc::new(policy);
        let listener = Listener::bind(&[ANY, ANY], options).unwrap();
        Self { addresses: listener.local_addresses().to_vec(), listener, ..server }
    }
}

/// The next answer of the peer's: the TCP connection, and the outcome.
async fn answer(events: &mut Events) -> (ConnectionId, OptionOutcome) {
    loop {
        if let Event::TcpOptionAnswered { tcp, outcome, .. } = soon(events.next()).await.expect("the session goes on") {
            return (tcp, outcome);
        }
    }
}

#[cfg(target_os = "linux")]
mod linux {
    use std::net::SocketAddr;
    use std::os::fd::BorrowedFd;

    use socket2::SockRef;

    use super::*;

    /// Sockets of this process between these addresses.
    fn with_socket<R>(local: SocketAddr, peer: SocketAddr, ask: impl Fn(&SockRef<'_>) -> R) -> R {
        for entry in std::fs::read_dir("/proc/self/fd").unwrap() {
            let number: i32 = entry.unwrap().file_name().to_str().unwrap().parse().unwrap();
            // SAFETY: other tests may close the descriptor meanwhile, which makes the calls on it fail, or open it as
            // another socket, which has other addresses. Nothing is closed or written here.
            let descriptor = unsafe { BorrowedFd::borrow_raw(number) };
            let socket = SockRef::from(&descriptor);
            let is_at = |address: std::io::Result<socket2::SockAddr>, wanted| {
                address.is_ok_and(|address| address.as_socket() == Some(wanted))
            };
            if is_at(socket.local_addr(), local) && is_at(socket.peer_addr(), peer) {
                return ask(&socket);
            }
        }
        panic!("no socket from {local} to {peer}");
    }

    /// A congestion control that all processes may use, and that is not the default.
    pub(super) fn other_congestion() -> Option<CongestionName> {
        let read = |name: &str| std::fs::read_to_string(format!("/proc/sys/net/ipv4/{name}")).unwrap_or_default();
        let (allowed, usual) = (read("tcp_allowed_congestion_control"), read("tcp_congestion_control"));
        let other = allowed.split_whitespace().find(|name| *name != usual.trim())?;
        Some(CongestionName::new(other).unwrap())
    }

    #[tokio::test]
    async fn server_uses_the_congestion_control_that_its_client_asks_for() {
        let Some(name) = other_congestion() else {
            return eprintln!("skipped: this kernel allows one congestion control");
        };
        let mut server = Server::start();
        let (client, peer) = server.pair(server.addresses[0]).await;
        let option = TcpOption::CongestionControl(name.clone());
        assert_eq!(soon(client.tcp(FIRST).ask_peer(option)).await, Ok(OptionOutcome::Applied));
        let (local, remote) = (server.addresses[0], peer.peer_address(FIRST).unwrap());
        let used = with_socket(local, remote, |socket| socket.tcp_congestion().unwrap());
        assert_eq!(str::from_utf8(&used).unwrap().trim_end_matches('\0'), name.as_str());
        let own = with_socket(remote, local, |socket| socket.tcp_congestion().unwrap());
        assert_ne!(own, used, "the client's is not touched");
        let usual = TcpOption::CongestionControl(CongestionName::new("no-such-thing").unwrap());
        assert_eq!(soon(client.tcp(FIRST).ask_peer(usual)).await, Ok(OptionOutcome::Refused));
    }

    #[tokio::test]
    async fn client_sets_what_its_server_asks_for_and_the_application_what_it_likes() {
        let mut server = Server::start();
        let (client, peer) = server.pair(server.addresses[0]).await;
        assert_eq!(soon(peer.tcp(FIRST).ask_peer(TIMEOUT)).await, Ok(OptionOutcome::Applied));
        let (local, remote) = (peer.peer_address(FIRST).unwrap(), server.addresses[0]);
        let timeout = || with_socket(local, remote, |socket| socket.tcp_user_timeout().unwrap());
        assert_eq!(timeout(), Some(Duration::from_secs(30)));
        let short = Duration::from_millis(1500);
        assert_eq!(soon(client.tcp(FIRST).set_option(TcpOption::UserTimeout(short))).await, Ok(OptionOutcome::Applied));
        assert_eq!(timeout(), Some(short));
    }
}

#[tokio::test]
async fn options_of_all_tcp_connections_are_asked_for_on_those_that_join_later() {
    let mut server = Server::start();
    let (client, _peer) = server.pair(server.addresses[0]).await;
    let mut events = client.events();
    assert_eq!(soon(client.all_tcp().ask_peer(TIMEOUT)).await, Ok(OptionOutcome::Applied));
    assert_eq!(answer(&mut events).await, (FIRST, OptionOutcome::Applied));
    let second = client.add_tcp(server.addresses[1], None).await.unwrap();
    assert_eq!(answer(&mut events).await, (second, OptionOutcome::Applied));
}

/// A session with that many TCP connections.
async fn with_tcp_connections(count: usize) -> (Server, Session, Session) {
    let mut server = Server::start();
    let config = Config::default().with(|config| config.max_tcp_connections = u32::try_from(count).unwrap());
    let mut options = ServerOptions::new(library::server(&server.identity, PROTOCOL));
    options.config = Arc::new(config.clone());
    let listener = Listener::bind(&[ANY, ANY], options).unwrap();
    server = Server { addresses: listener.local_addresses().to_vec(), listener, config, ..server };
    let (client, peer) = server.pair(server.addresses[0]).await;
    for joined in 1..count {
        client.add_tcp(server.addresses[joined % 2], None).await.unwrap();
    }
    (server, client, peer)
}

#[tokio::test]
async fn requests_for_more_tcp_connections_than_the_peer_takes_at_once_are_all_answered() {
    const COUNT: usize = 24;
    let (_server, client, _peer) = with_tcp_connections(COUNT).await;
    let mut events = client.events();
    let all = client.all_tcp();
    let both = async { tokio::join!(all.ask_peer(TIMEOUT), all.ask_peer(TcpOption::KeepAlive(None))) };
    assert_eq!(soon(both).await, (Ok(OptionOutcome::Applied), Ok(OptionOutcome::Refused)));
    let mut answers = Vec::new();
    while answers.len() < 2 * COUNT {
        answers.push(answer(&mut events).await);
    }
    let all: BTreeSet<_> = client.tcp_connections().into_iter().collect();
    assert_eq!(all.len(), COUNT);
    for outcome in [OptionOutcome::Applied, OptionOutcome::Refused] {
        let mut tcps: Vec<_> = answers.iter().filter(|(_, answer)| *answer == outcome).map(|(tcp, _)| *tcp).collect();
        tcps.sort_unstable();
        assert!(tcps.iter().eq(&all), "{outcome:?} for each TCP connection once: {tcps:?}");
    }
}

#[tokio::test]
async fn options_of_a_path_are_asked_for_on_that_path_alone() {
    let mut server = Server::start();
    let (client, _peer) = server.pair(server.addresses[0]).await;
    let mut events = client.events();
    assert_eq!(soon(client.tcp(FIRST).on_path().ask_peer(TIMEOUT)).await, Ok(OptionOutcome::Applied));
    assert_eq!(answer(&mut events).await.0, FIRST);
    let second = client.add_tcp(server.addresses[1], None).await.unwrap();
    client.reset_tcp(FIRST);
    soon(lost(&mut events, FIRST)).await;
    let third = client.add_tcp(server.addresses[0], None).await.unwrap();
    assert_eq!(answer(&mut events).await, (third, OptionOutcome::Applied), "and none about {second}");
}

#[tokio::test]
async fn server_keeps_asking_on_the_path_of_a_client() {
    let mut server = Server::start();
    let (client, peer) = server.pair(server.addresses[0]).await;
    let (mut events, mut joins) = (peer.events(), peer.events());
    assert_eq!(soon(peer.tcp(FIRST).on_path().ask_peer(TIMEOUT)).await, Ok(OptionOutcome::Applied));
    assert_eq!(answer(&mut events).await.0, FIRST);
    client.add_tcp(server.addresses[0], None).await.unwrap();
    let second = soon(joined(&mut joins)).await;
    assert_eq!(answer(&mut events).await, (second, OptionOutcome::Applied));
}

#[tokio::test]
async fn what_the_policy_does_not_allow_is_refused_and_the_session_goes_on() {
    let mut server = Server::with_policy(OptionPolicy::never());
    let (client, _peer) = server.pair(server.addresses[0]).await;
    let reno = TcpOption::CongestionControl(CongestionName::new("reno").unwrap());
    for option in [TIMEOUT, reno, TcpOption::KeepAlive(None)] {
        assert_eq!(soon(client.all_tcp().ask_peer(option)).await, Ok(OptionOutcome::Refused));
    }
    assert_eq!(client.close_reason(), None);
    assert_eq!(soon(client.tcp(ConnectionId(9)).ask_peer(TIMEOUT)).await, Err(AskOptionError::Unknown));
}

#[tokio::test]
async fn policy_of_names_allows_these_and_no_others() {
    let reno = CongestionName::new("reno").unwrap();
    let names = CongestionPolicy::Names(vec![reno.clone()]);
    let mut server = Server::with_policy(OptionPolicy::default().with(|policy| policy.congestion = names));
    let (client, _peer) = server.pair(server.addresses[0]).await;
    let ask = async |name: &str| {
        let option = TcpOption::CongestionControl(CongestionName::new(name).unwrap());
        soon(client.tcp(FIRST).ask_peer(option)).await
    };
    let expected = if cfg!(target_os = "linux") { OptionOutcome::Applied } else { OptionOutcome::Unknown };
    assert_eq!((ask("reno").await, ask("bbr").await), (Ok(expected), Ok(OptionOutcome::Refused)));
}

#[tokio::test]
async fn requests_without_end_are_refused_and_cost_no_session() {
    let mut server = Server::start();
    let (client, _peer): (Session, Session) = server.pair(server.addresses[0]).await;
    let mut refused = 0;
    for _ in 0..200 {
        let outcome = soon(client.tcp(FIRST).ask_peer(TIMEOUT)).await.unwrap();
        refused += usize::from(outcome == OptionOutcome::Refused);
    }
    assert!((1..=168).contains(&refused), "{refused} of 200");
    assert_eq!(client.close_reason(), None);
}

#[tokio::test]
async fn peers_that_ask_each_other_for_everything_at_once_all_get_answers() {
    let mut server = Server::start();
    let (client, peer) = server.pair(server.addresses[0]).await;
    let name = |name| TcpOption::CongestionControl(CongestionName::new(name).unwrap());
    let socket = |option| TcpOption::Socket(option, 1 << 30);
    let mut options = vec![TIMEOUT, name("reno"), name("no-such-thing"), TcpOption::KeepAlive(None)];
    options.extend([SocketOption::SendBuffer, SocketOption::ReceiveBuffer, SocketOption::MaxSegment].map(socket));
    options.extend([SocketOption::ThinLinearTimeouts, SocketOption::TypeOfService].map(socket));
    let mut asks = JoinSet::new();
    for number in 0..250 {
        // Every second one is allowed: 250 in all, twice what the rates admit.
        let option = if number % 2 == 0 { TIMEOUT } else { options[number % options.len()].clone() };
        for end in [&client, &peer] {
            let (control, option) = (end.tcp(FIRST), option.clone());
            asks.spawn(async move { control.ask_peer(option).await });
        }
    }
    let outcomes = soon(asks.join_all()).await;
    assert!(outcomes.iter().all(Result::is_ok), "{outcomes:?}");
    let applied = outcomes.iter().filter(|outcome| **outcome == Ok(OptionOutcome::Applied)).count();
    // Both may have some of the first 32, and what a slow machine's seconds add; the rest is refused.
    assert!((2..=64 + 60).contains(&applied), "{applied}");
    assert_eq!((client.close_reason(), peer.close_reason()), (None, None));
}

#[tokio::test]
async fn requests_for_a_tcp_connection_that_ends_first_are_answered_as_lost() {
    let (_server, client, _peer) = with_tcp_connections(2).await;
    let [first, second] = client.tcp_connections()[..] else { panic!("two TCP connections") };
    let control = client.tcp(second);
    let mut asks = JoinSet::new();
    for _ in 0..40 {
        let control = control.clone();
        asks.spawn(async move { control.ask_peer(TIMEOUT).await });
    }
    tokio::task::yield_now().await; // each has asked
    client.reset_tcp(second);
    let outcomes = soon(asks.join_all()).await;
    let lost = outcomes.iter().filter(|outcome| **outcome == Ok(OptionOutcome::Lost)).count();
    assert!(lost >= 40 - 16, "{outcomes:?}");
    assert_eq!(soon(client.tcp(first).ask_peer(TIMEOUT)).await, Ok(OptionOutcome::Applied));
}

#[tokio::test]
async fn path_of_an_unknown_tcp_connection_is_an_error_and_takes_no_place() {
    let mut server = Server::start();
    let (client, _peer) = server.pair(server.addresses[0]).await;
    let name = |name| TcpOption::CongestionControl(CongestionName::new(name).unwrap());
    let mut options = vec![TIMEOUT, name("no-such-thing"), TcpOption::KeepAlive(None)];
    let sockets = [SocketOption::SendBuffer, SocketOption::ReceiveBuffer, SocketOption::MaxSegment];
    let others = [SocketOption::ThinLinearTimeouts, SocketOption::TypeOfService];
    options.extend(sockets.into_iter().chain(others).map(|option| TcpOption::Socket(option, 1 << 30)));
    for option in &options {
        let unknown = client.tcp(ConnectionId(9)).on_path();
        assert_eq!(soon(unknown.ask_peer(option.clone())).await, Err(AskOptionError::Unknown));
        assert_eq!(soon(unknown.set_option(option.clone())).await, Err(AskOptionError::Unknown));
    }
    // All 32 places are free: these take 16 each.
    for control in [client.all_tcp(), client.tcp(FIRST).on_path()] {
        for option in &options {
            assert!(soon(control.ask_peer(option.clone())).await.is_ok(), "{option:?}");
            assert!(soon(control.set_option(option.clone())).await.is_ok(), "{option:?}");
        }
    }
}

/// Programs that a helper registers.
#[cfg(unix)]
mod programs {
    use tcpls_harness::programs::{HEADER_LEN, Helper, ProgramId};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{UnixListener, UnixStream};
    use tokio::time::Instant;

    use super::*;
    use crate::support::Directory;

    /// A server whose helper is `serve`.
    fn with_helper<F>(name: &str, serve: impl Fn(UnixStream) -> F + Send + 'static) -> (Directory, Server)
    where
        F: Future<Output = ()> + Send,
    {
        let directory = Directory::new(name);
        let socket = directory.path().join("socket");
        let listener = UnixListener::bind(&socket).unwrap();
        tokio::spawn(async move {
            while let Ok((asker, _)) = listener.accept().await {
                serve(asker).await;
            }
        });
        let policy = OptionPolicy::default().with(|policy| policy.programs = Some(Helper::at(socket)));
        (directory, Server::with_policy(policy))
    }

    #[tokio::test]
    async fn helper_that_dies_before_it_has_answered_costs_a_refusal_and_no_session() {
        let (_directory, mut server) = with_helper("helper-dies", async |mut asker| {
            asker.read_exact(&mut [0; HEADER_LEN]).await.unwrap();
            asker.write_all(&[1, 0, 9]).await.unwrap();
        });
        let (client, _peer) = server.pair(server.addresses[0]).await;
        let id = ProgramId::new([7; 32]);
        for _ in 0..3 {
            let option = TcpOption::CongestionProgram(id);
            assert_eq!(soon(client.tcp(FIRST).ask_peer(option)).await, Ok(OptionOutcome::Refused));
        }
        assert_eq!(soon(client.tcp(FIRST).ask_peer(TIMEOUT)).await, Ok(OptionOutcome::Applied));
    }

    #[tokio::test]
    async fn helper_that_does_not_answer_delays_no_other_option() {
        let (hang, hangs) = tokio::sync::watch::channel(());
        let (_directory, mut server) = with_helper("helper-hangs", move |asker| {
            let mut hangs = hangs.clone();
            async move {
                _ = hangs.changed().await;
                drop(asker);
            }
        });
        let (client, _peer) = server.pair(server.addresses[0]).await;
        let control = client.tcp(FIRST);
        let begin = Instant::now();
        let program =
            tokio::spawn(async move { control.ask_peer(TcpOption::CongestionProgram(ProgramId::new([7; 32]))).await });
        tokio::task::yield_now().await;
        for _ in 0..10 {
            assert_eq!(soon(client.tcp(FIRST).ask_peer(TIMEOUT)).await, Ok(OptionOutcome::Applied));
        }
        // On a slow machine the helper may have been given up meanwhile, after 5 s.
        assert!(!program.is_finished() || begin.elapsed() >= Duration::from_secs(5));
        drop(hang);
        assert_eq!(soon(program).await.unwrap(), Ok(OptionOutcome::Refused));
    }

    #[tokio::test]
    async fn program_arrives_in_pieces_while_the_application_asks_for_all_it_can() {
        let brought = vec![7; 10_000];
        let policy = OptionPolicy::default().with(|policy| policy.programs = Some(Helper::at("/nonexistent".into())));
        let mut server = Server::with_policy(policy);
        let (client, _peer) = server.pair(server.addresses[0]).await;
        let mut asks = JoinSet::new();
        for _ in 0..200 {
            let control = client.tcp(FIRST);
            asks.spawn(async move { control.ask_peer(TIMEOUT).await });
        }
        tokio::task::yield_now().await;
        assert_eq!(soon(client.bring_program(&brought)).await, Ok(Ok(ProgramId::of(&brought[64..]))));
        assert!(soon(asks.join_all()).await.iter().all(Result::is_ok));
        assert_eq!(client.close_reason(), None);
    }
    #[tokio::test]
    async fn program_arrives_although_either_end_loses_the_oldest_tcp_connection() {
        let brought = vec![7; 10_000];
        for (asked, peer_loses) in [(0, false), (0, true), (200, false), (200, true)] {
            let helper = Helper::at("/nonexistent".into());
            let mut server = Server::with_policy(OptionPolicy::default().with(|policy| policy.programs = Some(helper)));
            let (client, peer) = server.pair(server.addresses[0]).await;
            let second = client.add_tcp(server.addresses[1], None).await.unwrap();
            // The pieces wait behind requests, or some are on their way.
            let mut asks = JoinSet::new();
            for _ in 0..asked {
                let control = client.tcp(second);
                asks.spawn(async move { control.ask_peer(TIMEOUT).await });
            }
            tokio::task::yield_now().await;
            let lose = async { if peer_loses { peer.reset_tcp(FIRST) } else { client.reset_tcp(FIRST) } };
            let (arrived, _) = soon(async { tokio::join!(client.bring_program(&brought), lose) }).await;
            assert_eq!(arrived, Ok(Ok(ProgramId::of(&brought[64..]))), "{asked} {peer_loses}");
            assert!(soon(asks.join_all()).await.iter().all(Result::is_ok));
        }
    }

    #[tokio::test]
    async fn pieces_that_are_sent_again_need_no_place_among_the_requests_of_the_application() {
        let brought = vec![7; 10_000];
        let helper = Helper::at("/nonexistent".into());
        let mut server = Server::with_policy(OptionPolicy::default().with(|policy| policy.programs = Some(helper)));
        let (client, _peer) = server.pair(server.addresses[0]).await;
        let second = client.add_tcp(server.addresses[1], None).await.unwrap();
        let mut asks = JoinSet::new();
        // Once some pieces are on their way.
        let lose = async {
            for _ in 0..300 {
                let control = client.tcp(second);
                asks.spawn(async move { control.ask_peer(TIMEOUT).await });
            }
            tokio::task::yield_now().await;
            client.reset_tcp(FIRST);
        };
        let (arrived, ()) = soon(async { tokio::join!(client.bring_program(&brought), lose) }).await;
        assert_eq!(arrived, Ok(Ok(ProgramId::of(&brought[64..]))));
        let outcomes = soon(asks.join_all()).await;
        assert!(outcomes.contains(&Err(AskOptionError::TooMany)), "there was no place left");
    }
}
