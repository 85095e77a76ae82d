//! Clients of `tcpls proxy`: one long-lived session that carries the connections of other programs.

pub mod forward;
mod journal;
pub mod pipe;
pub mod socks;

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use tcpls_core::wire::ids::ConnectionId;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::Semaphore;

use self::journal::Journal;
use super::hints::Hints;
use super::identity::ClientIdentityArgs;
use super::limits::Bounds;
use super::listen::ListenOn;
use super::network::watch_network;
use super::paths::{
    PathArgs, TrustArgs, Weight, close_briefly, follow_advertised, path_of, resolve, server_name, watch_paths,
};
use super::proxy::first_line;
use super::record::RecordArgs;
use super::resumed_joins::JoinArgs;
use super::text::visible;
use super::units::parse_duration;
use super::{Outcome, qlog, status, trace_ring};
use crate::net::{ClientOptions, ConnectError, PathFault, Runtime, Session};
use crate::proxy::{
    Credentials, End, Invite, PROTOCOL, Refusal, Served, Spliced, Tunnel, TunnelOptions, TunnelReport, session_config,
};

/// The environment variable with a client's credentials.
const AUTH: &str = "TCPLS_AUTH";
/// Connections that may arrive for a client at the same time on ports of the server.
const MAX_STREAMS: u32 = 2048;
/// Programs that may wait to be accepted.
const BACKLOG: u32 = 1024;
/// The pause after a socket could not be accepted.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// The server, and how to reach it.
#[derive(Clone, Debug, clap::Args)]
pub struct TunnelArgs {
    /// The server ("tcpls proxy"), whose certificate must be valid for NAME. Default: the addresses in the invite
    #[arg(value_name = "NAME:PORT")]
    pub server: Option<String>,
    /// The paths.
    #[command(flatten)]
    pub paths: PathArgs,
    /// How they join.
    #[command(flatten)]
    pub joins: JoinArgs,
    /// Whom to trust.
    #[command(flatten)]
    pub trust: TrustArgs,
    /// The client's own certificate.
    #[command(flatten)]
    pub identity: ClientIdentityArgs,
    /// File whose first line is NAME:SECRET, or a secret alone, for a server with users. Default: those of the
    /// invite, or the environment variable TCPLS_AUTH
    #[arg(long, value_name = "FILE")]
    pub auth: Option<PathBuf>,
    /// How long a new connection waits while the server can't be reached
    #[arg(long, value_name = "TIME", value_parser = parse_duration, default_value = "30s")]
    pub wait: Duration,
    /// How long connections stay open without any network; the server's limit applies, too
    #[arg(long, value_name = "TIME", value_parser = parse_duration, default_value = "15min")]
    pub outage: Duration,
    /// The recording.
    #[command(flatten)]
    pub record: RecordArgs,
    /// The status.
    #[command(flatten)]
    pub status: status::SocketArgs,
}

impl TunnelArgs {
    fn credentials(&self, invite: Option<&Invite>) -> Outcome<Option<Credentials>> {
        let (text, place) = match (&self.auth, invite) {
            (Some(file), _) => (first_line(file)?, file.display().to_string()),
            (None, Some(invite)) => return Ok(Some(invite.credentials())),
            (None, None) => match std::env::var(AUTH) {
                Ok(text) => (text, AUTH.to_owned()),
                Err(_) => return Ok(None),
            },
        };
        let credentials = Credentials::parse(&text);
        Ok(Some(
            credentials.ok_or_else(|| format!("{place} has no credentials; write NAME:SECRET, or a secret alone"))?,
        ))
    }

    /// The server's name, and where it is.
    fn place(&self, invite: Option<&Invite>) -> Outcome<(ServerName<'static>, Vec<String>)> {
        let (name, others) = match (&self.server, invite) {
            (Some(server), _) => {
                let (name, _) = server.rsplit_once(':').ok_or_else(|| {
                    format!("{server:?} is no server; write NAME:PORT, for example proxy.example:443")
                })?;
                (name.to_owned(), vec![server.clone()])
            }
            (None, Some(invite)) => {
                let hosts = invite.addresses().iter().map(|address| address.host.to_string());
                (hosts.take(1).collect(), invite.addresses().iter().map(ToString::to_string).collect())
            }
            (None, None) => return Err("there is no server: write NAME:PORT, or pass an --invite".into()),
        };
        let name = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(&name);
        Ok((server_name(name)?, self.paths.connections(others)))
    }

    fn options(&self, invite: Option<&Invite>, name: ServerName<'static>) -> Outcome<ClientOptions> {
        let identity = self.identity.load()?;
        // One stream is no tunnel for several programs.
        let tls = self.trust.client(invite, &[PROTOCOL], identity.as_ref())?.tcpls_only();
        let mut options = ClientOptions::new(self.joins.apply(tls), name);
        let config = options.config.as_ref().clone();
        let config = session_config(config, MAX_STREAMS).with(|config| config.session_timeout = self.outage);
        options.config = Arc::new(config);
        self.paths.advertised.apply(&mut options);
        options.record = self.record.start()?;
        options.qlog = qlog::current();
        options.trace_ring = trace_ring::current();
        Ok(options)
    }

    /// Starts the tunnel. The first session must be possible if the server can be reached: what a new attempt would not
    /// change is an error. `on_session` gets each session at its start, and the credentials.
    async fn start(
        &self,
        journal: &Journal,
        on_session: impl Fn(&Session, Option<&Credentials>) + Send + Sync + 'static,
    ) -> Outcome<Tunnel> {
        let invite = self.trust.read_invite()?;
        let invite = invite.as_ref();
        let (name, addresses) = self.place(invite)?;
        let (options, credentials) = (self.options(invite, name)?, self.credentials(invite)?);
        let first = match self.dial(&addresses, &options).await {
            Ok(session) => Some(session),
            Err(error) if error.is_lasting => return Err(error.text.into()),
            Err(error) => {
                journal.failed(&error.text);
                None
            }
        };
        let tunnel_options = TunnelOptions::default().with(|tunnel| {
            (tunnel.credentials, tunnel.wait) = (credentials.clone(), self.wait);
        });
        let (args, use_advertised) = (self.clone(), self.paths.advertised.use_advertised);
        let joins_new = self.paths.uplinks.is_automatic();
        let way = Arc::new((args, addresses));
        let dial = move || {
            let (way, options) = (way.clone(), options.clone());
            async move { way.0.dial(&way.1, &options).await }
        };
        let journal = journal.clone();
        let report = move |report| {
            if let TunnelReport::Began(session) = &report {
                on_session(session, credentials.as_ref());
            }
            tell(&journal, report, use_advertised, joins_new);
        };
        Ok(Tunnel::start(&Runtime::tokio(), tunnel_options, first, dial, report))
    }

    async fn dial(&self, addresses: &[String], options: &ClientOptions) -> Result<Session, DialError> {
        // Names are resolved again each time: the network may be another.
        let found = resolve(addresses).await;
        let found = found.map_err(|error| DialError { text: error.to_string(), is_lasting: false })?;
        let mut options = options.clone();
        let paths = self.paths.uplinks.plan(&found, addresses.len(), &mut options);
        Session::connect_over(&paths, options).await.map_err(|error| {
            let is_tcp = |failures: &[crate::net::PathFailure]| {
                failures.iter().all(|failure| matches!(failure.fault, PathFault::Tcp(_)))
            };
            let is_lasting = !matches!(&error, ConnectError::Paths(failures) if is_tcp(failures));
            let self_made = "if the server made its certificate itself, name that file with --ca";
            let hints = Hints { ca: self.trust.ca.as_deref(), self_made };
            DialError { text: hints.of_connect(&error), is_lasting }
        })
    }
}

/// Why there is no session.
struct DialError {
    text: String,
    /// Whether trying again can't help.
    is_lasting: bool,
}

impl fmt::Display for DialError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

fn tell(journal: &Journal, report: TunnelReport<DialError>, use_advertised: bool, joins_new: bool) {
    match report {
        TunnelReport::Began(session) => {
            let number = status::add(&session);
            let path = path_of(&session.monitor(), ConnectionId::FIRST);
            journal.began(number, path.as_deref().unwrap_or("the server"));
            let journal = journal.clone();
            tokio::spawn(watch_paths(&session, move |weight, text| journal.tell_of(number, weight, text)));
            tokio::spawn(watch_network(session.clone(), joins_new));
            if use_advertised {
                tokio::spawn(follow_advertised(session));
            }
        }
        TunnelReport::Draining => journal.drained(),
        TunnelReport::Ended(reason) => journal.ended(&visible(&reason.to_string())),
        TunnelReport::Failed(error) => journal.failed(&error.text),
    }
}

/// Closes the tunnel's session when a signal ends the command.
pub(super) async fn close(tunnel: &Tunnel) {
    if let Some(session) = tunnel.session() {
        close_briefly(&session).await;
    }
}

/// Listens for programs of this host.
fn listen(on: &[ListenOn]) -> Outcome<Vec<TcpListener>> {
    let listen_on = |address: SocketAddr| {
        let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        #[cfg(unix)]
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        socket.listen(BACKLOG)
    };
    let addresses = ListenOn::all(on);
    let listeners = addresses
        .into_iter()
        .map(|address| listen_on(address).map_err(|error| format!("can't listen on {address}: {error}").into()));
    listeners.collect()
}

/// Says where programs can connect, and warns if other hosts can.
fn tell_listening(journal: &Journal, listeners: &[TcpListener], what: &str) {
    for address in listeners.iter().filter_map(|listener| listener.local_addr().ok()) {
        journal.tell(Weight::Important, format_args!("{what} on {address}"));
        if !address.ip().is_loopback() {
            let warning = format!("warning: programs of other hosts that reach {address} can use the tunnel, too");
            journal.tell(Weight::Important, warning);
        }
    }
}

/// The programs that may be connected at the same time: each needs a descriptor.
fn places() -> Outcome<Arc<Semaphore>> {
    Ok(Arc::new(Semaphore::new(Bounds::find(None)?.reserve_targets())))
}

/// Accepts programs for ever, and serves each by a task.
async fn accept<S, F>(listener: TcpListener, places: Arc<Semaphore>, journal: Journal, serve: S)
where
    S: Fn(TcpStream) -> F,
    F: Future<Output = Served> + Send + 'static,
{
    loop {
        let Ok(place) = places.clone().acquire_owned().await else { return };
        match listener.accept().await {
            Ok((socket, _)) => {
                let (serving, journal) = (serve(socket), journal.clone());
                tokio::spawn(async move {
                    tell_served(&journal, &serving.await);
                    drop(place);
                });
            }
            // The program has left, or there is no descriptor: the next one may have more luck.
            Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
        }
    }
}

/// Logs connections that were refused, or cut by the end of the session. All other ends are the programs' own.
fn tell_served(journal: &Journal, served: &Served) {
    match served {
        Served::Refused(target, refusal) => {
            let target = target.as_ref().map_or_else(|| "a request".to_owned(), ToString::to_string);
            journal.tell(Weight::Important, format_args!("{target}: {refusal}{}", hint(*refusal)));
        }
        Served::Carried(target, Spliced { end: end @ End::SessionEnded, .. }) => {
            journal.tell(Weight::Important, format_args!("{target}: the connection {}", end.text()));
        }
        Served::Carried(..) | Served::NoRequest => {}
    }
}

/// What to do about a refusal.
fn hint(refusal: Refusal) -> &'static str {
    match refusal {
        Refusal::Credentials => {
            "; pass an --invite that was not revoked, or --auth or TCPLS_AUTH as a --user of the server has them"
        }
        Refusal::WrongTooOften { .. } => "; it is this network's address that waits: check the credentials meanwhile",
        Refusal::Denied => "; the server needs an --allow for it",
        _ => "",
    }
}
