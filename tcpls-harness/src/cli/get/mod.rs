//! `tcpls get`: files over HTTP/1.1, one stream each, over as many TCP connections as addresses are given.

mod congestion;
mod dialer;
#[cfg(unix)]
mod program;
mod renewal;
mod transfer;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Serialize;
use tcpls_core::wire::ids::ErrorCode;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use self::dialer::{Dialer, uses_tcpls};
use self::renewal::Sessions;
pub(crate) use self::renewal::Turn;
use self::transfer::{Fault, Job, Received, receive};
use super::download::Target;
use super::early::EarlyArgs;
use super::files::{make_directory, unwritable};
use super::hello::HelloArgs;
use super::hints::Hints;
use super::identity::ClientIdentityArgs;
use super::migrate::{Move, look_up, migrate};
#[cfg(feature = "openssl")]
use super::paths::server_name;
use super::paths::{AdvertisedArgs, TrustArgs, close_briefly};
use super::progress::Progress;
use super::record::RecordArgs;
use super::report::TcpReport;
use super::resumed_joins::JoinArgs;
#[cfg(feature = "openssl")]
use super::session_cache::SessionCache;
use super::signals::{Signals, Stopped};
use super::text::visible;
use super::units::{bits_per_second, parse_duration, rate, size, time};
use super::uplinks::UplinkArgs;
use super::url::Url;
use super::{Outcome, output, report, status};
use crate::files::PROTOCOL;
use crate::net::CongestionName;
#[cfg(unix)]
use crate::programs::ProgramId;
use crate::proxy::Invite;

/// Maximum of files received at the same time, because each is an open file.
const MAX_OPEN_FILES: usize = 200;

/// Fetch files from a server
///
/// Each file is requested on a stream of its own, all at once, over one TCP connection for each --connect and each
/// interface that leads there. From a
/// server that does not support TCPLS, files are fetched over plain TLS 1.3, one per session.
///
/// If a TCP connection is lost, the downloads continue on the others. If the session ends before all files are complete,
/// or the server is being replaced, they continue in a new session where they were. If the file has changed on the server
/// meanwhile, which its entity tag shows, it is fetched from the start.
///
/// A file gets its name when it is complete. If the command ends before that, what arrived is left as NAME.tcpls-part for
/// --continue, provided that the server gives the file an entity tag.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Address and port of the server; each --connect adds a TCP connection. Default: the addresses
    /// in the invite, or the name and port in the URL
    #[arg(long, value_name = "HOST:PORT")]
    pub connect: Vec<String>,
    /// Like --connect, but used only while no other TCP connection is live
    #[arg(long, value_name = "HOST:PORT", requires = "connect")]
    pub standby: Vec<String>,
    /// After SECONDS, open a TCP connection to HOST:PORT and retire all others: the downloads move there
    #[arg(long, value_name = "SECONDS:HOST:PORT")]
    pub migrate: Vec<Move>,
    /// Where paths begin.
    #[command(flatten)]
    pub uplinks: UplinkArgs,
    /// Whether to connect to addresses that the server advertises.
    #[command(flatten)]
    pub advertised: AdvertisedArgs,
    /// Fail if the server does not support TCPLS, instead of falling back to plain TLS 1.3
    #[arg(long)]
    pub tcpls_only: bool,
    /// Ask the server to use the congestion control NAME, such as bbr, on all TCP connections of this command; it decides,
    /// and its answer is printed
    #[arg(long, value_name = "NAME")]
    pub ask_congestion: Option<CongestionName>,
    /// Ask the server for the congestion control that is a BPF program with this SHA-256
    #[cfg(unix)]
    #[arg(long, value_name = "SHA256", conflicts_with = "ask_congestion")]
    pub ask_program: Option<ProgramId>,
    /// Bring the server a congestion control, a file of tcpls bpf-sign, and ask it to use that
    #[cfg(unix)]
    #[arg(long, value_name = "FILE", conflicts_with_all = ["ask_congestion", "ask_program"])]
    pub bring_program: Option<PathBuf>,
    /// Send the hellos of joins in the SYN of TCP (TCP Fast Open), if the server and the kernel allow it. Some middleboxes
    /// drop such SYNs, which costs a second
    #[arg(long)]
    pub fast_open: bool,
    /// How they join.
    #[command(flatten)]
    pub joins: JoinArgs,
    /// Whom to trust.
    #[command(flatten)]
    pub trust: TrustArgs,
    /// What its ClientHello has.
    #[command(flatten)]
    pub hello: HelloArgs,
    /// How sessions begin with a server that is known.
    #[command(flatten)]
    pub early: EarlyArgs,
    /// The client's own certificate.
    #[command(flatten)]
    pub identity: ClientIdentityArgs,
    /// Directory to write the files to; created if it does not exist
    #[arg(short, long, value_name = "DIR", default_value = ".")]
    pub output: PathBuf,
    /// File to write the only URL to; - is standard output
    #[arg(short = 'O', long, value_name = "FILE", conflicts_with = "output")]
    pub output_file: Option<PathBuf>,
    /// Continue files of which an earlier run has left a part, if they are still the same on the server; begin the others
    #[arg(short = 'C', long = "continue")]
    pub continues: bool,
    /// How long to try to get another session when one ends early; 0s: not at all
    #[arg(long, value_name = "TIME", value_parser = parse_duration, default_value = "30s")]
    pub wait: Duration,
    /// Print the result as JSON
    #[arg(long)]
    pub json: bool,
    /// Write a log of received bytes to this file, to find gaps: one line for each 5 ms in which bytes arrived, with
    /// the seconds since 1970 and the bytes so far
    #[arg(long, value_name = "FILE")]
    pub log: Option<PathBuf>,
    /// The recording.
    #[command(flatten)]
    pub record: RecordArgs,
    /// The status.
    #[command(flatten)]
    pub status: status::SocketArgs,
    /// Files to fetch: https://NAME/PATH or https://NAME:PORT/PATH. The server's certificate must be valid for NAME,
    /// which is the same in all URLs. PORT, 443 by default, is for use without --connect. An IPv6 address is in
    /// brackets and may have a zone: https://[fe80::1%eth0]/PATH. With an invite, /PATH is sufficient
    #[arg(value_name = "URL", required = true)]
    pub urls: Vec<String>,
}

impl Args {
    /// Where to connect to, if not to the name and port in the URL.
    fn connections(&self, invite: Option<&Invite>) -> Vec<String> {
        match invite {
            Some(invite) if self.connect.is_empty() => invite.addresses().iter().map(ToString::to_string).collect(),
            _ => self.connect.clone(),
        }
    }

    /// The sessions that an earlier run has left.
    #[cfg(feature = "openssl")]
    fn session_cache(&self, invite: Option<&Invite>, url: &Url) -> Outcome<Option<SessionCache>> {
        let Some(path) = &self.early.session_cache else { return Ok(None) };
        let trust = self.trust.fingerprint(invite, self.identity.load()?.as_ref())?;
        Ok(Some(SessionCache::open(path, trust, &server_name(&url.name)?.to_str())?))
    }

    fn hints(&self) -> Hints<'_> {
        let self_made = "if the server made its certificate itself, name that file with --ca";
        Hints { ca: self.trust.ca.as_deref(), self_made }
    }
}

/// The result, as `--json` prints it.
#[derive(Debug, Default, Serialize)]
pub struct Report {
    /// Whether TCPLS was used.
    pub tcpls: bool,
    /// Sessions that were used: more than 1 if one ended early, or for each file over plain TLS.
    pub sessions: u64,
    /// Files that arrived completely.
    pub files: usize,
    /// Their bytes.
    pub bytes: u64,
    /// Of these, the bytes that an earlier run had received.
    pub bytes_continued: u64,
    /// What this run received, of incomplete files, too.
    pub bytes_received: u64,
    /// From the first TCP connection to the last byte.
    pub seconds: f64,
    /// Goodput in bits per second.
    pub bits_per_second: f64,
    /// What went wrong, by URL.
    pub failures: Vec<Failure>,
    /// Why the log is not complete.
    #[serde(skip_serializing_if = "Option::is_none")]
    unlogged: Option<String>,
    tcp: Vec<TcpReport>,
}

/// A file that could not be fetched.
#[derive(Debug, Serialize)]
pub struct Failure {
    /// The requested URL.
    pub url: String,
    /// The cause.
    pub error: String,
}

/// Fetches all files and prints the result.
///
/// # Errors
/// An argument is invalid, a file could not be fetched, or a signal ended the command.
pub async fn run(args: Args) -> Outcome {
    let signals = Signals::listen()?;
    let report = report::or_error(fetch(&args, signals.stop()).await, args.json)?;
    if args.json {
        output::result_json(&report)?;
    } else {
        print(&report);
    }
    match report.failures.len() {
        0 => match (&args.log, &report.unlogged) {
            (Some(log), Some(error)) => Err(unwritable(log, error).into()),
            _ => Ok(()),
        },
        1 => Err(format!("{}: {}", report.failures[0].url, report.failures[0].error).into()),
        failed => Err(format!("{failed} of {} files were not received", report.files + failed).into()),
    }
}

fn print(report: &Report) {
    for tcp in &report.tcp {
        output::tell(format_args!("tcp {}: {} received, {}", tcp.tcp, size(tcp.stream_bytes_received), tcp.state));
    }
    let elapsed = Duration::from_secs_f64(report.seconds);
    let (files, bytes) = (report.files, size(report.bytes));
    output::tell(format_args!("{files} files, {bytes} in {}: {}", time(elapsed), rate(report.bits_per_second)));
    if report.failures.len() > 1 {
        report.failures.iter().for_each(|failure| output::tell(format_args!("{}: {}", failure.url, failure.error)));
    }
}

/// Fetches all files; the report has the errors of single files. When `stop` ends, the session is closed; what arrived of
/// incomplete files is kept for `--continue`, if it can be continued.
///
/// # Errors
/// An argument is invalid, there is no session, or `stop` ended.
pub async fn fetch(args: &Args, stop: impl Future<Output = Stopped>) -> Outcome<Report> {
    let invite = args.trust.read_invite()?;
    let (url, jobs) = jobs(args, invite.as_ref())?;
    if args.output_file.is_none() {
        make_directory(&args.output, "--output")?;
    }
    #[cfg(feature = "openssl")]
    let cache = args.session_cache(invite.as_ref(), &url)?;
    #[cfg(feature = "openssl")]
    // What was taken out of the file goes back.
    let dialer = Dialer::new(args, invite.as_ref(), url, cache.as_ref())
        .inspect_err(|_| cache.iter().for_each(SessionCache::store))?;
    #[cfg(not(feature = "openssl"))]
    let dialer = Dialer::new(args, invite.as_ref(), url)?;
    let report = fetch_from(args, dialer, jobs, stop).await;
    #[cfg(feature = "openssl")]
    cache.iter().for_each(SessionCache::store);
    report
}

async fn fetch_from(
    args: &Args,
    mut dialer: Dialer,
    jobs: Vec<Job>,
    stop: impl Future<Output = Stopped>,
) -> Outcome<Report> {
    tokio::pin!(stop);
    let start = Instant::now();
    let begin = async {
        let log = args.log.as_deref().unwrap_or(Path::new(""));
        let progress = Progress::new(args.log.clone()).await.map_err(|error| unwritable(log, error))?;
        let moves = look_up(&args.migrate).await?;
        Outcome::Ok((dialer.first().await?, moves, progress))
    };
    let (session, moves, progress) = tokio::select! {
        begun = begin => begun?,
        stopped = &mut stop => return Err(stopped.into()),
    };
    let mut company = JoinSet::new();
    if uses_tcpls(&session) {
        company.spawn(migrate(session.clone(), moves));
    }
    let sessions = Arc::new(Sessions::new(session, dialer, args.wait, progress.clone()));
    let (files, hints) = (jobs.len(), args.hints());
    let fetched = async {
        let mut report = fetch_jobs(&sessions, jobs, &progress, &hints).await;
        report.unlogged = progress.finish().await;
        report
    };
    let outcome = tokio::select! {
        never = progress.show(sessions.watch(), files) => match never {},
        report = fetched => Ok(report),
        stopped = stop => Err(stopped),
    };
    output::clear().await;
    let Turn { session, number } = sessions.current();
    let mut report = match outcome {
        Ok(report) => report,
        Err(stopped) => {
            close_briefly(&session).await;
            return Err(stopped.noting("-C continues incomplete files").into());
        }
    };
    report.seconds = start.elapsed().as_secs_f64();
    (report.sessions, report.bytes_received) = (number + 1, progress.received());
    report.bits_per_second = bits_per_second(report.bytes_received, start.elapsed());
    report.tcp = session.stats().tcp.iter().map(TcpReport::from).collect();
    session.close(ErrorCode(0), b"").await;
    Ok(report)
}

/// Fetches all files; over plain TLS, one per session.
async fn fetch_jobs(
    sessions: &Arc<Sessions<Dialer>>,
    jobs: Vec<Job>,
    progress: &Progress,
    hints: &Hints<'_>,
) -> Report {
    if uses_tcpls(&sessions.current().session) {
        return fetch_all(sessions, jobs, progress, hints).await;
    }
    output::tell("the server does not support TCPLS: fetching one file after the other over plain TLS 1.3");
    let mut report = new_report(false);
    for (number, job) in jobs.into_iter().enumerate() {
        let other = match number > 0 && !sessions.current().session.is_tcpls() {
            true => sessions.next().await.map(|_| ()),
            false => Ok(()),
        };
        let outcome = match other {
            Ok(()) => receive(sessions, &job, progress).await,
            Err(error) => Err(error.into()),
        };
        note(&mut report, job, outcome, hints);
    }
    report
}

/// The files to fetch, their directory, and one URL for the server.
fn jobs(args: &Args, invite: Option<&Invite>) -> Outcome<(Url, Vec<Job>)> {
    let mut first: Option<Url> = None;
    let mut jobs: Vec<Job> = Vec::with_capacity(args.urls.len());
    let mut names = BTreeSet::new();
    for text in &args.urls {
        let url = match invite.and_then(|invite| invite.addresses().first()) {
            Some(server) if text.starts_with('/') => Url::parse(&format!("https://{}{text}", server.host)),
            _ => Url::parse(text),
        };
        let url = url.map_err(|error| format!("{text}: {error}"))?;
        let first = first.get_or_insert_with(|| url.clone());
        if (&first.name, first.port) != (&url.name, url.port) {
            return Err(format!("{text}: all URLs must have the same name; run the command once for each").into());
        }
        if url.port.is_some() && !args.connections(invite).is_empty() {
            let place = if args.connect.is_empty() { "the invite" } else { "--connect" };
            return Err(format!("{text}: {place} says which port to use; leave it out of the URL").into());
        }
        if !names.insert(url.file.clone()) {
            let file = &url.file;
            return Err(format!("{text}: there are two files called {file:?}; fetch them into two directories").into());
        }
        let target = match &args.output_file {
            Some(file) if file.as_os_str() == "-" => Target::Stdout,
            Some(file) => Target::File(file.clone()),
            None => Target::File(args.output.join(&url.file)),
        };
        let (host, continues, files) = (url.host(), args.continues, args.urls.len());
        jobs.push(Job { url: text.clone(), host, path: url.path, target, continues, files });
    }
    check_output(args, &jobs)?;
    Ok((first.ok_or("there is no URL")?, jobs))
}

/// Whether what `--output-file` selects is possible.
fn check_output(args: &Args, jobs: &[Job]) -> Outcome {
    match jobs {
        [_, _, ..] if args.output_file.is_some() => {
            Err("--output-file takes one URL; --output DIR takes several".into())
        }
        [Job { target: Target::Stdout, .. }] if args.json => {
            Err("standard output has the file already; leave out --json, or write to a file".into())
        }
        [Job { target: Target::Stdout, .. }] if args.continues => {
            Err("what was written to standard output can't be continued; leave out --continue".into())
        }
        _ => Ok(()),
    }
}

async fn fetch_all(sessions: &Arc<Sessions<Dialer>>, jobs: Vec<Job>, progress: &Progress, hints: &Hints<'_>) -> Report {
    let permits = Arc::new(Semaphore::new(MAX_OPEN_FILES));
    let mut tasks = JoinSet::new();
    for job in jobs {
        let (sessions, permits, progress) = (sessions.clone(), permits.clone(), progress.clone());
        tasks.spawn(async move {
            let _permit = permits.acquire().await;
            let outcome = receive(&sessions, &job, &progress).await;
            (job, outcome)
        });
    }
    let mut report = new_report(true);
    while let Some(ended) = tasks.join_next().await {
        if let Ok((job, outcome)) = ended {
            note(&mut report, job, outcome, hints);
        }
    }
    report
}

fn new_report(tcpls: bool) -> Report {
    Report { tcpls, ..Report::default() }
}

fn note(report: &mut Report, job: Job, outcome: Result<Received, Fault>, hints: &Hints<'_>) {
    match outcome {
        Ok(received) => {
            report.files += 1;
            report.bytes += received.bytes;
            report.bytes_continued += received.continued;
        }
        Err(Fault { text, end, no_other }) => {
            let end = end.map_or(String::new(), |reason| format!("; {}", visible(&hints.of_end(&reason))));
            let no_other = no_other.map_or(String::new(), |error| format!("; no other session: {}", visible(&error)));
            report.failures.push(Failure { url: job.url, error: text + &end + &no_other });
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

    fn error(line: &[&str]) -> String {
        jobs(&Line::parse_from([&["get"], line].concat()).args, None).unwrap_err().to_string()
    }

    #[test]
    fn urls_that_contradict_each_other_are_refused() {
        assert!(error(&["https://a/x", "https://b/y"]).contains("the same name"));
        assert!(error(&["https://a/x", "https://a:1/y"]).contains("the same name"));
        assert!(error(&["https://a/x", "https://a/y/x"]).contains("two files called"));
        assert!(error(&["https://a:1/x", "--connect", "b:2"]).contains("--connect says which port"));
        assert!(error(&["https://a/50%.txt"]).contains("percent sign"));
        assert!(error(&["https://a/x", "https://a/y", "-O", "z"]).contains("takes one URL"));
        assert!(error(&["https://a/x", "-O", "-", "--json"]).contains("--json"));
        assert!(error(&["https://a/x", "-O", "-", "-C"]).contains("--continue"));
    }
}
