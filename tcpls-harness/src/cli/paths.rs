//! Connecting as `get` and `perf` do: names become addresses, and a session gets a TCP connection for each of them.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use rustls::pki_types::ServerName;
use tcpls_core::error::OpenTcpError;
use tcpls_core::event::Event;
use tcpls_core::wire::ids::ConnectionId;
use tokio::task::JoinSet;

use super::Outcome;
use crate::net::{AddTcpError, ClientOptions, ConnectError, Session};
use crate::tls::Trust;

/// How long to wait for a token before giving up on another TCP connection.
const TOKEN_TIMEOUT: Duration = Duration::from_secs(5);

/// Whom to trust.
#[derive(Clone, Debug, Args)]
pub struct TrustArgs {
    /// Trust the certificates in this PEM file instead of the operating system's
    #[arg(long, value_name = "PEM", conflicts_with = "insecure")]
    pub ca: Option<PathBuf>,
    /// Accept any certificate: whoever is on the path can read and change everything
    #[arg(long)]
    pub insecure: bool,
}

impl TrustArgs {
    pub(crate) fn trust(&self) -> Trust {
        match &self.ca {
            _ if self.insecure => Trust::Anyone,
            Some(path) => Trust::File(path.clone()),
            None => Trust::System,
        }
    }
}

/// The addresses that `HOST:PORT` or `ADDRESS:PORT` stands for; only the first of each name, for each is one path.
pub(crate) async fn resolve(names: &[String]) -> Outcome<Vec<SocketAddr>> {
    let mut addresses = Vec::new();
    for name in names {
        let found = tokio::net::lookup_host(name)
            .await
            .map_err(|error| format!("{name}: {error}; write HOST:PORT, for example 192.0.2.1:4433"))?
            .next();
        addresses.push(found.ok_or_else(|| format!("{name} has no address"))?);
    }
    Ok(addresses)
}

/// The name that a server's certificate must have.
pub(crate) fn server_name(name: &str) -> Outcome<ServerName<'static>> {
    let name = name.trim_start_matches('[').trim_end_matches(']').to_owned();
    Ok(ServerName::try_from(name.clone()).map_err(|_| format!("{name:?} is neither a host name nor an address"))?)
}

/// Starts a session on the first of `addresses` that answers; which one that was.
pub(crate) async fn connect(addresses: &[SocketAddr], options: &ClientOptions) -> Outcome<(Session, SocketAddr)> {
    let mut last = None;
    for address in addresses {
        match Session::connect(&[*address], options.clone()).await {
            Ok(session) => return Ok((session, *address)),
            Err(error) => last = Some(error),
        }
    }
    Err(last.map_or_else(|| "no address to connect to: give one with --connect".into(), advise))
}

/// Adds what to do about the commonest causes.
fn advise(error: ConnectError) -> Box<dyn std::error::Error + Send + Sync> {
    let text = error.to_string();
    if text.contains("certificate") {
        format!("{text}; if the server made its certificate itself, name that file with --ca").into()
    } else if text.contains("NoApplicationProtocol") {
        format!("{text}; the server speaks another application protocol: is it the right port?").into()
    } else {
        error.into()
    }
}

/// Joins a TCP connection to `remote`, and waits for a token if there is none.
pub(crate) async fn add_tcp(session: &Session, remote: SocketAddr) -> Result<ConnectionId, AddTcpError> {
    add(session, || session.add_tcp(remote, None)).await
}

/// Makes attempts with `attempt` until one has a token.
async fn add<F: Future<Output = Result<ConnectionId, AddTcpError>>>(
    session: &Session,
    attempt: impl Fn() -> F,
) -> Result<ConnectionId, AddTcpError> {
    let mut events = session.events();
    loop {
        match attempt().await {
            Err(AddTcpError::Session(OpenTcpError::NoToken)) => {}
            other => return other,
        }
        let token = async {
            while let Some(event) = events.next().await {
                if matches!(event, Event::TokensAvailable { .. }) {
                    return;
                }
            }
        };
        if session.tokens() == 0 && tokio::time::timeout(TOKEN_TIMEOUT, token).await.is_err() {
            return Err(AddTcpError::Session(OpenTcpError::NoToken));
        }
    }
}

/// An address to connect to, and what for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Role {
    Active(SocketAddr),
    /// Used only while no other TCP connection lives.
    Standby(SocketAddr),
}

impl Role {
    fn address(self) -> SocketAddr {
        match self {
            Self::Active(address) | Self::Standby(address) => address,
        }
    }
}

/// Adds TCP connections in the background for as long as it is kept. What fails is said on standard error: the session
/// does without.
#[derive(Debug)]
pub(crate) struct Paths {
    _tasks: JoinSet<()>,
}

impl Paths {
    /// One TCP connection to each of `addresses` and, if `advertised`, to each address that the server advertises and that
    /// is not `first` or among them.
    pub(crate) fn open(session: &Session, first: SocketAddr, addresses: &[Role], advertised: bool) -> Self {
        let mut tasks = JoinSet::new();
        if !session.is_tcpls() {
            return Self { _tasks: tasks };
        }
        for address in addresses {
            tasks.spawn(add_or_complain(session.clone(), *address));
        }
        if advertised {
            let known = addresses.iter().map(|role| role.address()).chain([first]).collect();
            tasks.spawn(follow_advertised(session.clone(), known));
        }
        Self { _tasks: tasks }
    }
}

async fn add_or_complain(session: Session, role: Role) {
    match (add_tcp(&session, role.address()).await, role) {
        // It may be lost by now; then there is nothing to stand by.
        (Ok(tcp), Role::Standby(_)) => _ = session.set_backup(tcp, true),
        (outcome, _) => complain(&session, role.address(), outcome),
    }
}

async fn follow_or_complain(session: Session, address: SocketAddr) {
    complain(&session, address, add(&session, || session.add_advertised(address)).await);
}

fn complain(session: &Session, address: SocketAddr, outcome: Result<ConnectionId, AddTcpError>) {
    if let Err(error) = outcome
        && session.close_reason().is_none()
    {
        eprintln!("tcpls: no TCP connection to {address}: {error}");
    }
}

async fn follow_advertised(session: Session, mut known: Vec<SocketAddr>) {
    let mut events = session.events();
    let mut tasks = JoinSet::new();
    loop {
        for address in session.peer_addresses() {
            if !known.contains(&address) {
                known.push(address);
                tasks.spawn(follow_or_complain(session.clone(), address));
            }
        }
        loop {
            match events.next().await {
                Some(Event::AddressAdvertised { .. }) => break,
                Some(_) => {}
                None => return,
            }
        }
    }
}
