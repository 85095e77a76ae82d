//! `tcpls serve`: files over `hq-interop`.

pub(super) mod failures;
pub mod log;

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use tcpls_core::error::TcpFault;
use tcpls_core::event::{Event, TcpEvent};
use tcpls_core::wire::ids::ConnectionId;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use self::log::{Happening, Log, LogArgs};
use super::identity::IdentityArgs;
use super::limits::Bounds;
use super::metrics::METRICS;
use super::paths::ListenOn;
use super::signals::{Signal, Signals};
use super::text::{shortened, visible};
use super::units::parse_size;
use super::{Outcome, report};
use crate::hq::{Limits, PROTOCOL, Refusal, Root, Visitor, answer, codes};
use crate::net::{Listener, ServerOptions, Session, Stream};
use crate::tls::Identity;

/// Serve the files of a directory
///
/// The application protocol is hq-interop: a client sends "GET /path" on a stream of its own for each file. A client
/// that does not support TCPLS gets one file per session over plain TLS 1.3.
///
/// The log has each session, request and failed handshake with the client's address. Of failed handshakes it shows at
/// most 20 at once and one per second, and counts the others; TCP connections that end without a byte are left out.
/// RUST_LOG=tcpls=debug adds what happens inside of sessions, such as stalls.
///
/// Without --cert, the server makes a self-signed certificate and writes it to --ca-out, for the clients' --ca. Its
/// private key is made at the first start and kept in --state, so that clients can trust later certificates, too.
///
/// SIGINT and SIGTERM close the sessions and stop the server; a second signal stops it at once. On SIGHUP, the server
/// reads --cert, --key, --client-ca and --root again and uses them for new sessions; if one of them is unusable, it
/// logs the reason and keeps the previous ones.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Address and port to listen on; repeat it for several addresses. Port 0 selects a free port
    #[arg(long, value_name = "HOST:PORT", required = true)]
    pub listen: Vec<ListenOn>,
    /// Directory to serve; files outside it are never served
    #[arg(long, value_name = "DIR")]
    pub root: PathBuf,
    /// The certificate.
    #[command(flatten)]
    pub identity: IdentityArgs,
    /// Memory for all sessions together, for example 1GiB; at the limit, the least useful sessions are closed.
    /// Default: half of what the machine, its control group and ulimit allow
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    pub memory: Option<u64>,
    /// The log.
    #[command(flatten)]
    pub log: LogArgs,
}

/// What an operator wants of a server that runs. It stops when all senders are dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Control {
    /// Read certificates and root again.
    Reload,
}

/// Serves until SIGINT or SIGTERM.
///
/// # Errors
/// What keeps it from starting.
pub async fn run(args: Args) -> Outcome {
    let signals = Signals::listen()?;
    let server = report::or_error(Server::start(&args), args.log.log().json)?;
    server.log.tell(&Happening::Listening { addresses: server.addresses(), ca: server.ca.as_deref() });
    server.log.tell(&Happening::Limits(server.bounds));
    let (wishes, control) = mpsc::channel(1);
    tokio::spawn(apply(signals, wishes, server.log));
    server.run(control).await;
    Ok(())
}

/// Makes of signals what they mean to a server. It ends with the first that stops it.
pub(super) async fn apply(mut signals: Signals, wishes: mpsc::Sender<Control>, log: Log) {
    loop {
        match signals.next().await {
            Signal::Hangup => _ = wishes.send(Control::Reload).await,
            signal => {
                log.tell(&Happening::Stopping { signal: signal.to_string() });
                break;
            }
        }
    }
    signals.end_at_next();
}

/// A file server that listens.
#[derive(Debug)]
pub struct Server {
    listener: Listener,
    root: Root,
    identity: Identity,
    ca: Option<PathBuf>,
    bounds: Bounds,
    log: Log,
    args: Args,
}

impl Server {
    /// Listens. To be called within a tokio runtime.
    ///
    /// # Errors
    /// Something is wrong with the addresses, the directory, or the certificate.
    pub fn start(args: &Args) -> Outcome<Self> {
        let bounds = Bounds::find(args.memory)?;
        let root = Root::with_limits(&args.root, Limits::of(bounds.files)).map_err(|error| no_root(args, &error))?;
        let identity = args.identity.load(&args.listen)?;
        let mut options = ServerOptions::new(identity.server_for(&[PROTOCOL], args.identity.client_ca.as_deref())?);
        bounds.apply(&mut options);
        let listener = Listener::bind(&ListenOn::all(&args.listen), options)?;
        // Only now: a server that runs already may have written its own there.
        let ca = args.identity.write_ca(&identity)?;
        args.log.serve_metrics()?;
        let log = args.log.log();
        warn(&identity, args, log);
        Ok(Self { listener, root, identity, ca, bounds, log, args: args.clone() })
    }

    /// The addresses that are listened on, with the ports that were taken.
    pub fn addresses(&self) -> &[SocketAddr] {
        self.listener.local_addresses()
    }

    /// Serves until all senders of `control` are dropped, then closes the sessions: clients see that files under way are
    /// broken off, and why.
    pub async fn run(mut self, mut control: mpsc::Receiver<Control>) {
        let addresses: Arc<[SocketAddr]> = self.addresses().into();
        tokio::spawn(failures::report(self.listener.handshake_failures(), self.log));
        let (stopped, stopping) = watch::channel(());
        let mut sessions = JoinSet::new();
        let mut number = 0;
        loop {
            tokio::select! {
                session = self.listener.accept() => {
                    let answering = serve(number, session.clone(), self.root.clone(), addresses.clone(), self.log);
                    sessions.spawn(until_stopped(session, answering, stopping.clone()));
                    number += 1;
                }
                Some(_) = sessions.join_next() => {}
                wish = control.recv() => match wish {
                    Some(Control::Reload) => self.reload(),
                    None => break,
                },
            }
        }
        stopped.send_replace(());
        while sessions.join_next().await.is_some() {}
    }

    /// Reads the files again. All of it applies, or nothing does.
    fn reload(&mut self) {
        let happening = match self.read_again() {
            Ok(()) => Happening::Reloaded { root: &self.args.root },
            Err(error) => Happening::ReloadFailed { error: error.to_string() },
        };
        self.log.tell(&happening);
    }

    fn read_again(&mut self) -> Outcome {
        let root = self.root.at(&self.args.root).map_err(|error| no_root(&self.args, &error))?;
        // A certificate of the server's own making stays: clients have copies of it.
        let identity =
            if self.args.identity.cert.is_some() { Some(self.args.identity.load(&self.args.listen)?) } else { None };
        let shown = identity.as_ref().unwrap_or(&self.identity);
        self.listener.set_tls(shown.server_for(&[PROTOCOL], self.args.identity.client_ca.as_deref())?);
        if let Some(identity) = identity {
            warn(&identity, &self.args, self.log);
            self.identity = identity;
        }
        self.root = root;
        Ok(())
    }
}

fn no_root(args: &Args, error: &std::io::Error) -> String {
    format!("can't serve {}: {error}; --root must be a directory", args.root.display())
}

/// Runs a session's `answering` to its end, or closes the session when the server stops.
pub(crate) async fn until_stopped(
    session: Session,
    answering: impl Future<Output = ()>,
    mut stopping: watch::Receiver<()>,
) {
    tokio::pin!(answering);
    tokio::select! {
        () = &mut answering => {}
        _ = stopping.changed() => {
            // Before the streams are dropped: a client that learns of those first does not learn the reason.
            session.close(codes::STOPPING, b"the server stops").await;
        }
    }
}

/// Logs which certificates clients will refuse today.
fn warn(identity: &Identity, args: &Args, log: Log) {
    for warning in args.identity.warnings(identity) {
        log.tell(&Happening::Warning { warning });
    }
}

/// Answers all requests of a session, as many at once as it has streams.
async fn serve(number: u64, session: Session, root: Root, addresses: Arc<[SocketAddr]>, log: Log) {
    let client = session.peer_address(ConnectionId::FIRST);
    log.tell(&Happening::SessionBegan { session: number, client, tcpls: session.is_tcpls() });
    advertise(&session, &addresses);
    let mut requests = JoinSet::new();
    let mut events = session.events();
    let visitor = root.visitor(&session);
    let counted = METRICS.began(&session);
    loop {
        tokio::select! {
            stream = session.accept_stream() => match stream {
                Some(stream) => _ = requests.spawn(request(number, client, stream, visitor.clone(), log)),
                None => break,
            },
            Some(_) = requests.join_next() => {}
            Some(event) = events.next() => tell_tcp(number, &session, &event, log),
        }
    }
    let reason = visible(&session.closed().await.to_string());
    let joins_refused = counted.joins_refused();
    log.tell(&Happening::SessionEnded { session: number, client, joins_refused, reason });
}

/// Logs the events of TCP connections, and counts them. Stalls are in the log of sessions (RUST_LOG=tcpls=debug).
pub(super) fn tell_tcp(number: u64, session: &Session, event: &Event, log: Log) {
    let Event::Tcp(event) = event else { return };
    METRICS.tcp(event);
    let (tcp, happening) = match event {
        TcpEvent::Joined { tcp } => (*tcp, "joined".to_owned()),
        TcpEvent::Lost { tcp, fault } if *fault != TcpFault::SessionClosed => (*tcp, format!("lost: {fault}")),
        _ => return,
    };
    log.tell(&Happening::Tcp { session: number, tcp: tcp.0, client: session.peer_address(tcp), happening });
}

/// The client knows one of the addresses: the one that it came to.
pub(super) fn advertise(session: &Session, addresses: &[SocketAddr]) {
    let Some(used) = session.local_address() else { return };
    let others = addresses.iter().filter(|address| is_for_others(address.ip()) && **address != used);
    for address in others.filter(|_| session.is_tcpls()) {
        // The session may have ended meanwhile; then no client needs the address.
        _ = session.advertise(*address);
    }
}

/// Whether an address means the same to a client: link-local ones need the zone, which is the client's own.
fn is_for_others(address: IpAddr) -> bool {
    !address.is_unspecified() && !matches!(address, IpAddr::V6(address) if address.is_unicast_link_local())
}

async fn request(number: u64, client: Option<SocketAddr>, stream: Stream, visitor: Visitor, log: Log) {
    let (path, outcome) = answer(stream, &visitor).await;
    let (bytes, error) = (outcome.ok(), outcome.err().map(|refusal: Refusal| refusal.to_string()));
    log.tell(&Happening::Request { session: number, client, path: &shortened(&path), bytes, error });
}
