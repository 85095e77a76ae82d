//! Connects for `get`, `perf`, `demo` and tunnels: resolves names, and reports the state of paths to people.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use rustls::pki_types::ServerName;
use tcpls_core::error::OpenTcpError;
use tcpls_core::event::{Event, TcpEvent};
use tcpls_core::wire::ids::{ConnectionId, ErrorCode};
use tokio::time::Instant;

use super::hints::Hints;
use super::invite::InviteSource;
use super::joins::Joins;
use super::library::Library;
use super::stalls::Stalls;
use super::units::span;
use super::uplinks::UplinkArgs;
use super::{Outcome, invite, library, output, status, uplinks, zones};
use crate::dial::{Local, Path};
use crate::net::interfaces::has_strict_filter;
use crate::net::{
    AddTcpError, AddressPolicy, ClientOptions, Events, Monitor, PathFailures, PathReport, Runtime, Session,
};
use crate::proxy::Invite;
use crate::tls::{Identity, TlsOptions, Trust};

/// How long to wait for a token, or for TCP connections to join.
const TOKEN_TIMEOUT: Duration = Duration::from_secs(5);
/// The time limit for closing the session after a signal.
const FAREWELL_TIMEOUT: Duration = Duration::from_secs(2);

/// Whom to trust.
#[derive(Clone, Debug, Args)]
pub struct TrustArgs {
    /// Trust the certificates in this PEM file instead of the operating system's
    #[arg(long, value_name = "PEM", conflicts_with = "insecure")]
    pub ca: Option<PathBuf>,
    /// Accept any server certificate: an attacker on the path can read and change everything
    #[arg(long)]
    pub insecure: bool,
    /// Use an invite ("tcpls proxy invite add"): @FILE, or - for standard input. Default without --ca and --insecure: the
    /// environment variable TCPLS_INVITE. An invite has the server's addresses and the hash of its public key; the name and
    /// expiry of the certificate are not checked then. It contains a secret, which must not be on a command line: other
    /// users can read that
    #[arg(long, value_name = "@FILE", conflicts_with_all = ["ca", "insecure"])]
    pub invite: Option<InviteSource>,
    /// TLS library
    #[cfg(feature = "openssl")]
    #[arg(long, value_name = "LIBRARY", value_enum, default_value_t)]
    pub tls: Library,
}

impl TrustArgs {
    /// Reads the invite, if there is one. To be called once: standard input is read to its end.
    pub(crate) fn read_invite(&self) -> Outcome<Option<Invite>> {
        if self.insecure || self.ca.is_some() {
            return Ok(None);
        }
        invite::read(self.invite.as_ref())
    }

    /// The TLS configuration of a client, given what [`TrustArgs::read_invite`] returned.
    pub(crate) fn client(
        &self,
        invite: Option<&Invite>,
        protocols: &[&[u8]],
        identity: Option<&Identity>,
    ) -> Outcome<library::Client> {
        self.client_with(invite, protocols, identity, &TlsOptions::default())
    }

    /// The same with options.
    pub(crate) fn client_with(
        &self,
        invite: Option<&Invite>,
        protocols: &[&[u8]],
        identity: Option<&Identity>,
        options: &TlsOptions,
    ) -> Outcome<library::Client> {
        #[cfg(feature = "openssl")]
        let library = self.tls;
        #[cfg(not(feature = "openssl"))]
        let library = Library::default();
        library.client(&self.trust(invite), protocols, identity, options)
    }

    /// Tells apart configurations that must not resume each other's sessions.
    #[cfg(feature = "openssl")]
    pub(crate) fn fingerprint(&self, invite: Option<&Invite>, identity: Option<&Identity>) -> Outcome<[u8; 32]> {
        Ok(self.trust(invite).fingerprint(identity)?)
    }

    /// The certificates to accept.
    fn trust(&self, invite: Option<&Invite>) -> Trust {
        match (&self.ca, invite) {
            _ if self.insecure => Trust::Anyone,
            (Some(path), _) => Trust::File(path.clone()),
            (None, Some(invite)) => Trust::Pinned(invite.pins()),
            (None, None) => Trust::System,
        }
    }
}

/// Over which paths a client reaches its server.
#[derive(Clone, Debug, Args)]
pub struct PathArgs {
    /// Address and port of the server; each --connect adds a TCP connection. Default: NAME:PORT, or
    /// the addresses in the invite
    #[arg(long, value_name = "HOST:PORT")]
    pub connect: Vec<String>,
    /// Where paths begin.
    #[command(flatten)]
    pub uplinks: UplinkArgs,
    /// Whether to connect to addresses that the server advertises.
    #[command(flatten)]
    pub advertised: AdvertisedArgs,
}

/// Whether to connect to addresses that the server advertises.
#[derive(Clone, Debug, Default, Args)]
pub struct AdvertisedArgs {
    /// Also open a TCP connection to each address that the server advertises. Without it, TCP connections are opened there
    /// only if the server, behind a load balancer, accepts them nowhere else
    #[arg(long)]
    pub use_advertised: bool,
    /// Connect to private addresses, too, that a server with a public address advertises, for example servers behind a load
    /// balancer in this host's network
    #[arg(long)]
    pub allow_private: bool,
}

impl AdvertisedArgs {
    /// Puts the policy into a client's options.
    pub(crate) fn apply(&self, options: &mut ClientOptions) {
        if self.allow_private {
            options.addresses = AddressPolicy::with_private();
        }
    }
}

impl PathArgs {
    /// Where to connect to: what is given, or else `others`.
    pub(crate) fn connections(&self, others: Vec<String>) -> Vec<String> {
        if self.connect.is_empty() { others } else { self.connect.clone() }
    }
}

/// The addresses that each `HOST:PORT` or `ADDRESS:PORT` stands for: the first of each name, then the others, which are
/// alternatives to them.
pub(crate) async fn resolve(names: &[String]) -> Outcome<Vec<SocketAddr>> {
    let (mut first, mut others) = (Vec::new(), Vec::new());
    for name in names {
        let mut found = look_up(name).await?.into_iter();
        first.push(found.next().ok_or_else(|| format!("{name} has no address"))?);
        others.extend(found);
    }
    others.retain(|address| !first.contains(address));
    others.dedup();
    Ok(first.into_iter().chain(others).collect())
}

async fn look_up(name: &str) -> Outcome<Vec<SocketAddr>> {
    if let Some(target) = zones::split(name) {
        let found = tokio::net::lookup_host(target).await.map_err(|error| no_zone(name, &error))?;
        return Ok(found.collect());
    }
    let found = tokio::net::lookup_host(name)
        .await
        .map_err(|error| format!("{name}: {error}; write HOST:PORT, for example 192.0.2.1:4433"))?;
    Ok(found.collect())
}

pub(crate) fn no_zone(name: &str, error: &std::io::Error) -> String {
    format!("{name}: {error}; write [ADDRESS%INTERFACE]:PORT with an interface of this host")
}

/// Returns the name that a server's certificate must have, without a zone.
pub(crate) fn server_name(name: &str) -> Outcome<ServerName<'static>> {
    let name = zones::without_zone(name);
    Ok(ServerName::try_from(name.to_owned()).map_err(|_| format!("{name:?} is neither a host name nor an address"))?)
}

/// Starts a session; an error contains a hint.
pub(crate) async fn connect(paths: &[Path], options: ClientOptions, hints: &Hints<'_>) -> Outcome<Session> {
    let session = Session::connect_over(paths, options).await.map_err(|error| hints.of_connect(&error))?;
    status::add(&session);
    Ok(session)
}

/// Closes the session of a client that a signal ends, so that the server does not wait for a join.
pub(crate) async fn close_briefly(session: &Session) {
    _ = tokio::time::timeout(FAREWELL_TIMEOUT, session.close(ErrorCode(0), b"the client was stopped")).await;
}

/// Joins a TCP connection on `path`, and waits for a token if there is none.
pub(crate) async fn add_tcp(session: &Session, path: Path) -> Result<ConnectionId, AddTcpError> {
    let mut events = session.events();
    loop {
        match session.add_tcp(path.remote, Local::of(&path)).await {
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

/// Waits until the session has `wanted` TCP connections in use on its paths, or for [`TOKEN_TIMEOUT`].
pub(crate) async fn wait_for_paths(session: &Session, wanted: usize) {
    let mut events = session.events();
    let all = async {
        while session.paths().iter().filter(|status| status.tcp.is_some()).count() < wanted {
            if events.next().await.is_none() {
                return;
            }
        }
    };
    _ = tokio::time::timeout(TOKEN_TIMEOUT, all).await;
}

/// Makes the session use the addresses that the server advertises.
pub(crate) async fn follow_advertised(session: Session) {
    let mut events = session.events();
    let mut refused = BTreeSet::new();
    loop {
        let known: Vec<SocketAddr> = session.paths().iter().map(|status| status.path.remote).collect();
        for address in session.peer_addresses().into_iter().filter(|address| !known.contains(address)) {
            if let (Err(error), true) = (session.add_advertised(address), refused.insert(address)) {
                output::tell(format_args!("tcpls: {error}"));
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

/// How important a message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Weight {
    /// Connections go on as if nothing had happened.
    Detail,
    /// Connections stand still, are refused, or end; or they go on again.
    Important,
}

/// Prints what goes wrong with TCP connections and paths until the session ends. A path that can't be connected to is
/// printed once.
pub(crate) fn tell_troubles(session: &Session) -> impl Future<Output = ()> + use<> {
    watch(session, false, |_, text| output::tell(text))
}

/// The same for a log, with TCP connections that join.
pub(crate) fn watch_paths<T: Fn(Weight, String)>(session: &Session, tell: T) -> impl Future<Output = ()> + use<T> {
    watch(session, true, tell)
}

fn watch<T: Fn(Weight, String)>(session: &Session, tells_joins: bool, tell: T) -> impl Future<Output = ()> + use<T> {
    let (events, failures) = (session.events(), session.path_failures());
    let (monitor, names, stalls) = (session.monitor(), BTreeMap::new(), Stalls::default());
    let mut watch = Watch { monitor, names, stalls, joins: Joins::default(), tells_joins };
    for tcp in session.tcp_connections() {
        watch.joins.add(tcp);
        watch.note_path(tcp);
    }
    watch.run(events, failures, tell)
}

/// Returns the path of a TCP connection that is not lost.
pub(crate) fn path_of(monitor: &Monitor, tcp: ConnectionId) -> Option<String> {
    let is_it = |path: &PathReport| path.tcp.as_ref().is_some_and(|stats| stats.tcp == tcp);
    let PathReport { local, remote, device, .. } = monitor.status(0)?.paths.into_iter().find(is_it)?;
    let from = device.map(|device| device.to_string()).or(local.map(|local| local.ip().to_string()));
    Some(format!("{}{}", remote?, from.map(|from| format!(" from {from}")).unwrap_or_default()))
}

/// What is known of a session's TCP connections.
struct Watch {
    /// Knows their paths.
    monitor: Monitor,
    /// Their paths, also of those that were just lost.
    names: BTreeMap<ConnectionId, String>,
    stalls: Stalls,
    joins: Joins,
    tells_joins: bool,
}

impl Watch {
    fn note_path(&mut self, tcp: ConnectionId) {
        let path = path_of(&self.monitor, tcp);
        self.names.extend(path.map(|path| (tcp, path)));
    }

    /// The TCP connection with its path.
    fn name(&self, tcp: ConnectionId) -> String {
        self.names.get(&tcp).map_or_else(|| tcp.to_string(), |path| format!("{tcp} to {path}"))
    }

    async fn run(mut self, mut events: Events, mut failures: PathFailures, tell: impl Fn(Weight, String)) {
        let mut told = BTreeSet::new();
        loop {
            tokio::select! {
                tcp = self.stalls.next() => {
                    tell(Weight::Detail, format!("{} is stalled: its peer acknowledges nothing", self.name(tcp)));
                }
                Some(failure) = failures.next() => {
                    if told.insert(failure.path) {
                        let hint = uplinks::hint(&failure, has_strict_filter).map(|hint| format!("; {hint}"));
                        let hint = hint.unwrap_or_default();
                        tell(Weight::Detail, format!("{failure}; the client keeps trying{hint}"));
                    }
                }
                event = events.next() => match event {
                    Some(event) => self.handle(&event, &tell),
                    None => return,
                }
            }
        }
    }

    fn handle(&mut self, event: &Event, tell: &impl Fn(Weight, String)) {
        if let Event::Tcp(event) = event
            && let Some(tcp) = self.stalls.note(Instant::now(), event)
        {
            tell(Weight::Detail, format!("{} goes on", self.name(tcp)));
        }
        let end = if let Event::Tcp(event) = event { self.joins.note(event) } else { None };
        match event {
            Event::Tcp(TcpEvent::Joined { tcp }) => {
                self.note_path(*tcp);
                if self.tells_joins {
                    tell(Weight::Detail, format!("{} joined", self.name(*tcp)));
                }
            }
            Event::Tcp(TcpEvent::Lost { tcp, .. }) => {
                end.into_iter().for_each(|end| tell(Weight::Detail, format!("{} {end}", self.name(*tcp))));
                self.names.remove(tcp);
            }
            Event::Stranded { until } => {
                let limit = span(*until - Runtime::tokio().now());
                let text = "no TCP connection left, trying to connect again; without one, the session ends in";
                tell(Weight::Important, format!("{text} {limit}"));
            }
            Event::Recovered => tell(Weight::Important, "connected again".to_owned()),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn addresses_have_the_zone_that_is_written_behind_them() {
        let lo: u32 = std::fs::read_to_string("/sys/class/net/lo/ifindex").unwrap().trim().parse().unwrap();
        let named = SocketAddr::V6(std::net::SocketAddrV6::new("fe80::1".parse().unwrap(), 4433, 0, lo));
        let numbered = format!("[fe80::1%{lo}]:4433");
        assert_eq!(resolve(&["[fe80::1%lo]:4433".to_owned(), numbered.clone()]).await.unwrap(), [named, named]);
        assert_eq!(named.to_string(), numbered, "as it is printed it can be written");
        let error = resolve(&["[fe80::1%no-such-interface]:4433".to_owned()]).await.unwrap_err().to_string();
        assert!(error.contains("interface of this host"), "{error}");
        assert_eq!(server_name("fe80::1%lo").unwrap().to_str(), "fe80::1");
    }
}
