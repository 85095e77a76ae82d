//! `tcpls proxy`: an HTTPS proxy (CONNECT) over TCPLS and plain TLS.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use tcpls_core::wire::ids::{ConnectionId, ErrorCode};
use tokio::sync::mpsc;

use super::farm::FarmArgs;
use super::identity::IdentityArgs;
use super::invites::{self, InviteCommand, invites};
use super::keys::{self, KeyCommand};
use super::limits::Bounds;
use super::listen::ListenArgs;
use super::metrics::METRICS;
use super::record::RecordArgs;
use super::server::failures::RefusedRequests;
use super::server::log::{Happening, Log, LogArgs};
use super::server::{DrainArgs, Service, apply};
use super::signals::Signals;
use super::units::{parse_duration, parse_rate, parse_size};
use super::{Outcome, report, server};
use crate::net::{Listener, ServerOptions, Session};
use crate::proxy::{
    self, Allow, AllowRemote, PROTOCOL, Pattern, RemotePattern, Report, TcpOutbound, Users, codes, session_config,
};
use crate::tls::Identity;

/// Connect clients to other servers
///
/// An HTTPS proxy with the method CONNECT, for "tcpls socks", "tcpls forward" and "tcpls pipe", which carry all
/// connections in one session over several TCP connections, and over plain TLS for others: curl -x
/// https://NAME:PORT https://example.com
///
/// Without --allow, every target is refused. An address that is not public (loopback, private, link-local) is permitted
/// only by an --allow with that address or its network, or with localhost; a name that leads to one is refused
/// otherwise. Names are resolved once, by the proxy.
///
/// Clients need an invite ("tcpls proxy invite add NAME"), the credentials of a --user, or with --client-ca a
/// certificate, whose first alternative name (mail, DNS or URI) is the user's name then. With --client-ca and --user,
/// they need both. With --anyone, all clients are served.
///
/// SIGINT and SIGTERM close the sessions and stop the proxy; a second signal stops it at once. On SIGHUP, the proxy
/// reads --cert, --key, --client-ca, --token-secret, the files of --user and the key in --state again. Invites apply
/// without that.
///
/// On SIGUSR1, the proxy stops listening, so that another process can take its place; connections go on, their clients
/// use the other process for new ones, and the proxy exits after the last, or after --drain.
///
/// Behind a load balancer, --token-secret, --server-id and --peer make several proxies a farm, in which clients can use
/// several TCP connections whichever proxy each reaches.
#[allow(rustdoc::bare_urls, reason = "--help shows this text as it is")]
#[derive(Clone, Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub struct Args {
    /// What to do instead of serving.
    #[command(subcommand)]
    pub command: Option<ProxyCommand>,
    /// Where to listen.
    #[command(flatten)]
    pub listen: ListenArgs,
    /// Other proxies behind the same load balancer.
    #[command(flatten)]
    pub farm: FarmArgs,
    /// Permit connections to HOST:PORT; repeat it for several targets. HOST is a name, *.DOMAIN, *, an address, or a
    /// network such as 10.0.0.0/8 or [fd00::/8]; PORT is a number, a range such as 8000-8099, or *
    #[arg(long, value_name = "HOST:PORT")]
    pub allow: Vec<Pattern>,
    /// Let clients listen on ADDRESS:PORT of this host ("tcpls forward -R"), only this USER if one is named; repeat it for
    /// several. ADDRESS is an address, a network, or *; PORT is a number, a range, or *
    #[arg(long, value_name = "[USER@]ADDRESS:PORT")]
    pub allow_remote: Vec<RemotePattern>,
    /// Serve clients with these credentials, too: a user's name, and a file whose first line is the secret. Repeat it
    /// for several users
    #[arg(long, value_name = "NAME:FILE")]
    pub user: Vec<UserFile>,
    /// Serve every client, without credentials: a network of your own, or a test
    #[arg(long, conflicts_with_all = ["user", "client_ca"])]
    pub anyone: bool,
    /// The certificate.
    #[command(flatten)]
    pub identity: IdentityArgs,
    /// Maximum of connections that a client has at the same time, in all of its sessions; in any case at most a quarter
    /// of those that "ulimit -n" leaves for targets
    #[arg(long, value_name = "NUMBER", default_value = "2048")]
    pub max_streams: u32,
    /// Bytes per second that a client may move in each direction, in all of its sessions and connections together, for
    /// example 10MB. A client is a user, or an address if it has no name. Default: any
    #[arg(long, value_name = "SIZE", value_parser = parse_rate)]
    pub rate: Option<u64>,
    /// End connections that carry nothing for this time, for example 2h. Default: never
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    pub idle: Option<Duration>,
    /// How long to wait for the answer of a target
    #[arg(long, value_name = "TIME", value_parser = parse_duration, default_value = "10s")]
    pub connect_timeout: Duration,
    /// How long a client may be without any network before its connections end
    #[arg(long, value_name = "TIME", value_parser = parse_duration, default_value = "15min")]
    pub outage: Duration,
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

/// Commands about a proxy.
#[derive(Clone, Debug, clap::Subcommand)]
pub enum ProxyCommand {
    /// Give out invites, list and revoke them
    ///
    /// An invite is one line of text for one client. It has the addresses of the proxy, the SHA-256 of its public key, and
    /// the client's name and secret: the client needs neither a CA nor the proxy's name. The proxy stores a hash of the
    /// secret, in its state directory; it accepts new invites and refuses revoked ones at once, without a restart.
    #[command(subcommand)]
    Invite(InviteCommand),
    /// Replace the private key in the state directory
    ///
    /// Clients with an invite accept the keys that it has. So a new key is made first ("next"), invites have both keys
    /// from then on, and when all clients have such an invite, the proxy changes to it ("switch").
    #[command(subcommand)]
    Key(KeyCommand),
}

/// A user and the file with the secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserFile {
    name: String,
    file: PathBuf,
}

impl FromStr for UserFile {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.split_once(':') {
            Some((name, file)) if !name.is_empty() && !file.is_empty() => {
                Ok(Self { name: name.to_owned(), file: file.into() })
            }
            _ => Err("write NAME:FILE, where the first line of FILE is the secret"),
        }
    }
}

/// Serves until SIGINT or SIGTERM.
///
/// # Errors
/// What keeps it from starting.
pub async fn run(args: Args) -> Outcome {
    match &args.command {
        Some(ProxyCommand::Invite(command)) => return invites::run(command),
        Some(ProxyCommand::Key(command)) => return keys::run(command),
        None => {}
    }
    let signals = Signals::listen_as_server()?;
    let log = args.log.log();
    let mut server = report::or_error(Server::start(&args, log), log.json)?;
    log.tell(&Happening::Listening { addresses: server.listener.local_addresses(), ca: server.ca.as_deref() });
    log.tell(&Happening::Limits(server.bounds));
    server.warn();
    let (wishes, control) = mpsc::channel(1);
    tokio::spawn(apply(signals, wishes, log));
    server::run(&mut server, log, control).await;
    Ok(())
}

struct Server {
    listener: Listener,
    proxy: proxy::Server<TcpOutbound>,
    ca: Option<PathBuf>,
    bounds: Bounds,
    identity: Identity,
    args: Args,
    log: Log,
    refused: RefusedRequests,
}

impl Server {
    fn start(args: &Args, log: Log) -> Outcome<Self> {
        let mut bounds = Bounds::find(args.memory)?;
        let targets = bounds.reserve_targets();
        let users = users(args)?;
        let listen = args.listen.prepare()?;
        let identity = args.identity.load(listen.addresses())?;
        let tls = args.identity.server(&identity, &[PROTOCOL], false)?;
        let mut options = ServerOptions::new(tls);
        bounds.apply(&mut options);
        args.listen.apply(&mut options);
        args.farm.apply(&mut options)?;
        let config = session_config(options.config.as_ref().clone(), args.max_streams);
        let config = config.with(|config| config.session_timeout = args.outage);
        options.config = Arc::new(config);
        // A tunnel of a client without TCPLS has no idle timeout.
        options.socket.keep_alive = Some(proxy::KEEP_ALIVE);
        options.record = args.record.start()?;
        let listener = listen.bind(options)?;
        // Only now: a server that runs already may have written its own there.
        let ca = args.identity.write_ca(&identity)?;
        args.log.serve_metrics()?;
        // A further attempt beside the first one needs a descriptor, too.
        let seconds = (targets / 8).clamp(1, 64);
        let targets = targets - seconds;
        let outbound = TcpOutbound::new(Allow::new(args.allow.clone()), args.connect_timeout);
        let outbound = outbound.with_second_attempts(seconds);
        let limits = limits(args, targets);
        let proxy = proxy::Server::new(outbound, users, limits);
        proxy.allow_remote(AllowRemote::new(args.allow_remote.clone()));
        Ok(Self { listener, proxy, ca, bounds, identity, args: args.clone(), log, refused: RefusedRequests::new() })
    }

    fn warn(&self) {
        let mut warnings = self.args.identity.warnings(&self.identity);
        if self.args.allow.is_empty() && self.args.allow_remote.is_empty() {
            warnings.push("no target is permitted; name some with --allow".to_owned());
        }
        if self.args.anyone {
            warnings.push("every client is served".to_owned());
        } else if self.args.user.is_empty() && has_no_invites(&self.args) {
            let way = "tcpls proxy invite add NAME --address HOST:PORT";
            warnings.push(format!("no client can use the proxy yet: make an invite with {way}"));
        }
        self.log.warn(warnings);
    }

    /// Reads the files again. All of it applies, or nothing does.
    fn read_again(&mut self) -> Outcome {
        let users = users(&self.args)?;
        let use_secrets = self.args.farm.read_again()?;
        self.args.identity.renew(&mut self.identity, &self.listener, &[PROTOCOL], false)?;
        self.log.warn(self.args.identity.warnings(&self.identity));
        self.proxy.set_users(users);
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
        let (proxy, log) = (self.proxy.clone(), self.log);
        let client = session.peer_address(ConnectionId::FIRST);
        let refused = self.refused.clone();
        async move { proxy.serve(&session, move |report| tell(number, client, report, (log, &refused))).await }
    }

    fn reload(&mut self) -> Happening<'_> {
        match self.read_again() {
            Ok(()) => Happening::ReloadedUsers { users: self.args.user.len() },
            Err(error) => Happening::ReloadFailed { error: error.to_string() },
        }
    }
}

/// One client leaves three quarters of the targets to others.
fn limits(args: &Args, targets: usize) -> proxy::Limits {
    proxy::Limits::default().with(|limits| {
        limits.per_client = (args.max_streams as usize).min(targets / 4).max(1);
        (limits.total, limits.rate, limits.idle) = (targets, args.rate, args.idle);
    })
}

/// Whether invites are the only credentials, and there is none.
fn has_no_invites(args: &Args) -> bool {
    let list = || Outcome::Ok(invites(&args.identity.state.directory()?)?.list()?);
    args.identity.client_ca.is_none() && list().is_ok_and(|list| list.is_empty())
}

/// Reads the files of users. Without them, a certificate is sufficient for clients that need one, and names them.
fn users(args: &Args) -> Outcome<Users> {
    if args.anyone {
        return Ok(Users::default());
    }
    if args.user.is_empty() && args.identity.client_ca.is_some() {
        return Ok(Users::default().or_by_certificate());
    }
    let mut users = Users::default().or(Arc::new(invites(&args.identity.state.directory()?)?));
    for UserFile { name, file } in &args.user {
        let secret = first_line(file)?;
        if !users.add(name, &secret) {
            return Err(
                format!("user {name:?}: the name or the secret in {} is empty or not text", file.display()).into()
            );
        }
    }
    Ok(users)
}

/// The first line of a file with a secret.
pub(crate) fn first_line(file: &std::path::Path) -> Outcome<String> {
    let text = std::fs::read_to_string(file)
        .map_err(|error| format!("can't read a secret from {}: {error}", file.display()))?;
    Ok(text.lines().next().unwrap_or_default().trim_end().to_owned())
}

fn tell(session: u64, client: Option<SocketAddr>, report: Report, (log, unknown): (Log, &RefusedRequests)) {
    match report {
        Report::Connected { user, target } => {
            let target = target.to_string();
            log.tell(&Happening::Connected { session, client, user: user.as_deref(), target });
        }
        Report::Refused { user, target, refusal } => {
            let (target, reason) = (target.map(|target| target.to_string()), refusal.to_string());
            METRICS.refused(refusal);
            let refused = Happening::Refused { session, client, user: user.as_deref(), target, reason };
            if user.is_some() { log.tell(&refused) } else { unknown.tell(&refused, log) }
        }
        Report::Listening { user, address } => {
            log.tell(&Happening::ListeningFor { session, client, user: user.as_deref(), address });
        }
        Report::StoppedListening { address } => log.tell(&Happening::StoppedListening { session, client, address }),
        Report::Ended { target, spliced } => {
            let (to_target, to_client) = (spliced.received, spliced.sent);
            let (target, how) = (target.to_string(), spliced.end.text());
            log.tell(&Happening::Ended { session, client, target, to_target, to_client, how });
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    #[test]
    fn one_client_takes_at_most_a_quarter_of_the_targets() {
        let args = Line::parse_from(["proxy", "--listen", "127.0.0.1:0", "--max-streams", "100"]).args;
        for (targets, expected) in [(2, 1), (40, 10), (1000, 100)] {
            let limits = limits(&args, targets);
            assert_eq!((limits.per_client, limits.total), (expected, targets));
        }
    }
}
