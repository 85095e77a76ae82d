//! Options of sockets that endpoints ask each other for.

use std::sync::Arc;
use std::time::Duration;

use tcpls_core::error::AskOptionError;
use tcpls_core::event::{Event, OptionOutcome};
use tcpls_core::wire::ids::ConnectionId;
use tcpls_harness::net::{
    CongestionName, CongestionPolicy, Events, Listener, OptionPolicy, ServerOptions, Session, TcpOption,
};

use crate::support::{ANY, PROTOCOL, Server, joined, lost, soon};

const FIRST: ConnectionId = ConnectionId::FIRST;
const TIMEOUT: TcpOption = TcpOption::UserTimeout(Duration::from_secs(30));

impl Server {
    /// A server whose clients may set what this policy allows.
    fn with_policy(policy: OptionPolicy) -> Self {
        let server = Self::start();
        let mut options = ServerOptions::new(server.identity.server(&[PROTOCOL]).unwrap());
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
