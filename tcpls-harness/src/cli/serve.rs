//! `tcpls serve`: files over HTTP/1.1.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use tcpls_core::wire::ids::{ConnectionId, ErrorCode};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::farm::FarmArgs;
use super::identity::IdentityArgs;
use super::limits::Bounds;
use super::listen::ListenArgs;
use super::record::RecordArgs;
use super::server::log::{Happening, Log, LogArgs};
use super::server::{Control, DrainArgs, Service, apply};
use super::signals::Signals;
use super::text::shortened;
use super::units::parse_size;
use super::{Outcome, report, server};
use crate::files::{Answered, Limits, PROTOCOL, Root, Visitor, answer, codes};
use crate::net::{Listener, ServerOptions, Session, Stream};
use crate::tls::Identity;

/// Serve the files of a directory
///
/// The application protocol is HTTP/1.1, with a stream for each request (ALPN tcpls+http/1.1). Clients without TCPLS,
/// such as curl and browsers, get the files over plain TLS 1.3 (ALPN http/1.1). The methods are GET and HEAD; Range,
/// If-Range and entity tags let clients continue a download. A path that ends in a slash is that of the index.html there;
/// directories are not listed.
///
/// The log has each session, request and failed handshake with the client's address. Of failed handshakes it shows at
/// most 20 at once and one per second, and counts the others; TCP connections that end without a byte are left out.
/// RUST_LOG=tcpls=debug adds what happens inside of sessions, such as stalls.
///
/// Without --cert, the server makes a self-signed certificate and writes it to --ca-out, for the clients' --ca. Its
/// private key is made at the first start and kept in --state, so that clients can trust later certificates, too.
///
/// SIGINT and SIGTERM close the sessions and stop the server; a second signal stops it at once. On SIGHUP, the server
/// reads --cert, --key, --client-ca, --root and --token-secret again and uses them for new sessions; if one of them is
/// unusable, it logs the reason and keeps the previous ones.
///
/// Behind a load balancer, --token-secret, --server-id and --peer make several servers a farm, in which clients can use
/// several TCP connections whichever server each reaches.
///
/// On SIGUSR1, the server stops listening, so that another process can take its place, finishes the files under way, and
/// exits after the last, or after --drain.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Where to listen.
    #[command(flatten)]
    pub listen: ListenArgs,
    /// Other servers behind the same load balancer.
    #[command(flatten)]
    pub farm: FarmArgs,
    /// Directory to serve; files outside it are never served
    #[arg(long, value_name = "DIR")]
    pub root: PathBuf,
    /// The certificate.
    #[command(flatten)]
    pub identity: IdentityArgs,
    /// Accept TLS early data: a client that resumes a session sends its request with the ClientHello, and the answer takes
    /// one round trip less. An attacker can send a copy of such a request: the server then reads the file once more, and
    /// only the client can decrypt the answer. Tickets are void once the server restarts, or reads its files again.
    /// "tcpls get --early-data" sends such requests
    #[arg(long)]
    pub early_data: bool,
    /// Accept data in the SYN of TCP (TCP Fast Open), for "tcpls get --fast-open". Needs bit 2 of the kernel's
    /// net.ipv4.tcp_fastopen
    #[arg(long)]
    pub fast_open: bool,
    /// Memory for all sessions together, for example 1GiB; at the limit, the least useful sessions are closed.
    /// Default: half of what the machine, its control group and ulimit allow
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    pub memory: Option<u64>,
    /// Replacing it.
    #[command(flatten)]
    pub drain: DrainArgs,
    /// The recording.
    #[command(flatten)]
    pub record: RecordArgs,
    /// The log.
    #[command(flatten)]
    pub log: LogArgs,
}

/// Serves until SIGINT or SIGTERM.
///
/// # Errors
/// What keeps it from starting.
pub async fn run(args: Args) -> Outcome {
    let signals = Signals::listen_as_server()?;
    let server = report::or_error(Server::start(&args), args.log.log().json)?;
    server.log.tell(&Happening::Listening { addresses: server.addresses(), ca: server.ca.as_deref() });
    server.log.tell(&Happening::Limits(server.bounds));
    let (wishes, control) = mpsc::channel(1);
    tokio::spawn(apply(signals, wishes, server.log));
    server.run(control).await;
    Ok(())
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
        let listen = args.listen.prepare()?;
        let identity = args.identity.load(listen.addresses())?;
        let tls = args.identity.server(&identity, &[PROTOCOL], args.early_data)?;
        let mut options = ServerOptions::new(tls).with(|options| {
            options.early_data = args.early_data;
            options.socket.fast_open = args.fast_open;
        });
        bounds.apply(&mut options);
        args.listen.apply(&mut options);
        args.farm.apply(&mut options)?;
        options.record = args.record.start()?;
        let listener = listen.bind(options)?;
        // Only now: a server that runs already may have written its own there.
        let ca = args.identity.write_ca(&identity)?;
        args.log.serve_metrics()?;
        let log = args.log.log();
        log.warn(args.identity.warnings(&identity));
        Ok(Self { listener, root, identity, ca, bounds, log, args: args.clone() })
    }

    /// The addresses that are listened on, with the ports that were taken.
    pub fn addresses(&self) -> &[SocketAddr] {
        self.listener.local_addresses()
    }

    /// Serves until all senders of `control` are dropped, then closes the sessions: clients see that files under way are
    /// broken off, and why.
    pub async fn run(mut self, control: mpsc::Receiver<Control>) {
        let log = self.log;
        server::run(&mut self, log, control).await;
    }

    /// Reads the files again. All of it applies, or nothing does.
    fn read_again(&mut self) -> Outcome {
        let root = self.root.at(&self.args.root).map_err(|error| no_root(&self.args, &error))?;
        let use_secrets = self.args.farm.read_again()?;
        let args = &self.args;
        args.identity.renew(&mut self.identity, &self.listener, &[PROTOCOL], args.early_data)?;
        self.log.warn(self.args.identity.warnings(&self.identity));
        self.root = root;
        use_secrets(&self.listener);
        Ok(())
    }
}

impl Service for Server {
    const STOPPING: ErrorCode = codes::STOPPING;

    fn listener(&mut self) -> &mut Listener {
        &mut self.listener
    }

    fn drain_limit(&self) -> Duration {
        self.args.drain.drain
    }

    fn serve(&self, number: u64, session: Session) -> impl Future<Output = ()> + Send + 'static {
        answer_all(number, session, self.root.clone(), self.log)
    }

    fn reload(&mut self) -> Happening<'_> {
        match self.read_again() {
            Ok(()) => Happening::Reloaded { root: &self.args.root },
            Err(error) => Happening::ReloadFailed { error: error.to_string() },
        }
    }
}

fn no_root(args: &Args, error: &std::io::Error) -> String {
    format!("can't serve {}: {error}; --root must be a directory", args.root.display())
}

/// Answers all requests of a session, as many at once as it has streams.
async fn answer_all(number: u64, session: Session, root: Root, log: Log) {
    let client = session.peer_address(ConnectionId::FIRST);
    let mut requests = JoinSet::new();
    let visitor = root.visitor(&session);
    loop {
        tokio::select! {
            stream = session.accept_stream() => match stream {
                Some(stream) => _ = requests.spawn(request(number, client, stream, visitor.clone(), log)),
                None => break,
            },
            Some(_) = requests.join_next() => {}
        }
    }
    // Each ends with an error, which is logged before the session's end is.
    while requests.join_next().await.is_some() {}
}

async fn request(number: u64, client: Option<SocketAddr>, stream: Stream, visitor: Visitor, log: Log) {
    let report = |Answered { method, path, status, outcome, .. }| {
        let (bytes, error) = (outcome.ok(), outcome.err().map(|refusal| refusal.to_string()));
        let (method, path) = (&shortened(&method), &shortened(&path));
        log.tell(&Happening::Request { session: number, client, method, path, status, bytes, error });
    };
    answer(stream, &visitor, report).await;
}
