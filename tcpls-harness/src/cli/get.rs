//! `tcpls get`: files over HTTP/1.1, one stream each, over as many TCP connections as addresses are given.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Serialize;
use tcpls_core::error::CloseReason;
use tcpls_core::wire::ids::ErrorCode;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::download::Download;
use super::files::{make_directory, unwritable};
use super::hints::Hints;
use super::identity::ClientIdentityArgs;
use super::migrate::{Move, look_up, migrate};
use super::network::watch_network;
use super::paths::{TrustArgs, close_briefly, connect, follow_advertised, resolve, server_name, tell_troubles};
use super::progress::Progress;
use super::report::TcpReport;
use super::signals::{Signals, Stopped};
use super::text::visible;
use super::units::{bits_per_second, rate, size, time};
use super::uplinks::UplinkArgs;
use super::url::Url;
use super::{Outcome, output, report, status};
use crate::dial::{self, Backup};
use crate::files::{self, Content, PROTOCOL};
use crate::net::{ClientOptions, Session};
use crate::proxy::Invite;

/// Maximum of files received at the same time, because each is an open file.
const MAX_OPEN_FILES: usize = 200;

/// Fetch files from a server
///
/// Each file is requested on a stream of its own, all at once, over one TCP connection for each --connect and each
/// interface that leads there. From a
/// server that does not support TCPLS, files are fetched over plain TLS 1.3, one per session.
///
/// If a TCP connection is lost, the downloads continue on the others.
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
    /// Also open a TCP connection to each address that the server advertises
    #[arg(long)]
    pub use_advertised: bool,
    /// Fail if the server does not support TCPLS, instead of falling back to plain TLS 1.3
    #[arg(long)]
    pub tcpls_only: bool,
    /// Whom to trust.
    #[command(flatten)]
    pub trust: TrustArgs,
    /// The client's own certificate.
    #[command(flatten)]
    pub identity: ClientIdentityArgs,
    /// Directory to write the files to; created if it does not exist
    #[arg(short, long, value_name = "DIR", default_value = ".")]
    pub output: PathBuf,
    /// Print the result as JSON
    #[arg(long)]
    pub json: bool,
    /// Write a log of received bytes to this file, to find gaps: one line for each 5 ms in which bytes arrived, with
    /// the seconds since 1970 and the bytes so far
    #[arg(long, value_name = "FILE")]
    pub log: Option<PathBuf>,
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

    fn hints(&self) -> Hints<'_> {
        let self_made = "if the server made its certificate itself, name that file with --ca";
        Hints { ca: self.trust.ca.as_deref(), self_made }
    }
}

/// The result, as `--json` prints it.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Whether TCPLS was used.
    pub tcpls: bool,
    /// Files that arrived completely.
    pub files: usize,
    /// Their bytes.
    pub bytes: u64,
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

/// One file to fetch.
#[derive(Clone, Debug)]
struct Job {
    url: String,
    /// As in the request.
    host: String,
    path: String,
    target: PathBuf,
    /// Files that the command fetches.
    files: usize,
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

/// Fetches all files; the report has the errors of single files. When `stop` ends, the session is closed, and
/// incomplete files are removed.
///
/// # Errors
/// An argument is invalid, there is no session, or `stop` ended.
pub async fn fetch(args: &Args, stop: impl Future<Output = Stopped>) -> Outcome<Report> {
    tokio::pin!(stop);
    let invite = args.trust.read_invite()?;
    let given = args.connections(invite.as_ref());
    let (url, jobs) = jobs(args, invite.as_ref())?;
    let hints = args.hints();
    make_directory(&args.output, "--output")?;
    let tls = args.trust.trust(invite.as_ref()).client_as(&[PROTOCOL], args.identity.load()?.as_ref())?;
    let tls = if args.tcpls_only { tls.tcpls_only() } else { tls };
    let mut options = ClientOptions::new(tls, server_name(&url.name)?);
    if !given.is_empty() {
        options.dial.stagger = Duration::ZERO; // each of them is to be used anyway
    }
    let start = Instant::now();
    let begin = async {
        let log = args.log.as_deref().unwrap_or(Path::new(""));
        let progress = Progress::new(args.log.clone()).await.map_err(|error| unwritable(log, error))?;
        let mut options = options.clone();
        let ways = Ways::look_up(args, &given, &url, &mut options).await?;
        options.backups = ways.standby.iter().copied().map(Backup::Remote).collect();
        Outcome::Ok((connect(&ways.paths, options, &hints).await?, ways, progress))
    };
    let (session, ways, progress) = tokio::select! {
        begun = begin => begun?,
        stopped = &mut stop => return Err(stopped.into()),
    };
    let files = jobs.len();
    let fetched = async {
        let mut report = fetch_jobs(&session, ways, (&options, &hints), jobs, &progress).await;
        report.unlogged = progress.finish().await;
        report
    };
    let outcome = tokio::select! {
        never = progress.show(&session, files) => match never {},
        report = fetched => Ok(report),
        stopped = stop => Err(stopped),
    };
    output::clear().await;
    let mut report = match outcome {
        Ok(report) => report,
        Err(stopped) => {
            close_briefly(&session).await;
            return Err(stopped.noting("incomplete files were removed").into());
        }
    };
    report.seconds = start.elapsed().as_secs_f64();
    report.bits_per_second = bits_per_second(report.bytes, start.elapsed());
    report.tcp = session.stats().tcp.iter().map(TcpReport::from).collect();
    session.close(ErrorCode(0), b"").await;
    Ok(report)
}

/// The paths of TCP connections.
struct Ways {
    paths: Vec<dial::Path>,
    moves: Vec<(Duration, SocketAddr)>,
    standby: Vec<SocketAddr>,
    use_advertised: bool,
    /// Whether interfaces that come up are joined.
    joins_new: bool,
}

impl Ways {
    /// Resolves the names on the command line.
    async fn look_up(args: &Args, connect: &[String], url: &Url, options: &mut ClientOptions) -> Outcome<Self> {
        let addresses = match connect {
            [] => resolve(&[url.host_and_port()]).await?,
            given => resolve(given).await?,
        };
        let moves = look_up(&args.migrate).await?;
        let standby = resolve(&args.standby).await?.into_iter().take(args.standby.len()).collect();
        let paths = args.uplinks.plan(&addresses, connect.len(), options);
        let joins_new = args.uplinks.is_automatic();
        Ok(Self { paths, moves, standby, use_advertised: args.use_advertised, joins_new })
    }
}

/// Fetches all files over the session, with the requested TCP connections; over plain TLS, one file per session.
async fn fetch_jobs(
    session: &Session,
    ways: Ways,
    how: (&ClientOptions, &Hints<'_>),
    jobs: Vec<Job>,
    progress: &Progress,
) -> Report {
    if !session.is_tcpls() {
        output::tell("the server does not support TCPLS: fetching one file after the other over plain TLS 1.3");
        return fetch_plainly(session.clone(), &ways.paths, how, jobs, progress).await;
    }
    tokio::spawn(tell_troubles(session.events(), session.path_failures()));
    let mut company = JoinSet::new();
    company.spawn(watch_network(session.clone(), ways.joins_new));
    company.spawn(migrate(session.clone(), ways.moves));
    ways.standby.iter().for_each(|address| session.add_path(*address, None));
    if ways.use_advertised {
        company.spawn(follow_advertised(session.clone()));
    }
    fetch_all(session, jobs, progress, how.1).await
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
        let (host, target, files) = (url.host(), args.output.join(url.file), args.urls.len());
        jobs.push(Job { url: text.clone(), host, path: url.path, target, files });
    }
    Ok((first.ok_or("there is no URL")?, jobs))
}

async fn fetch_all(session: &Session, jobs: Vec<Job>, progress: &Progress, hints: &Hints<'_>) -> Report {
    let permits = Arc::new(Semaphore::new(MAX_OPEN_FILES));
    let mut tasks = JoinSet::new();
    for job in jobs {
        let (session, permits, progress) = (session.clone(), permits.clone(), progress.clone());
        tasks.spawn(async move {
            let _permit = permits.acquire().await;
            let outcome = fetch_one(&session, &job, &progress).await;
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

/// One session after the other: plain TLS has one stream.
async fn fetch_plainly(
    first: Session,
    paths: &[dial::Path],
    (options, hints): (&ClientOptions, &Hints<'_>),
    jobs: Vec<Job>,
    progress: &Progress,
) -> Report {
    let mut report = new_report(false);
    let mut session = Some(first);
    for job in jobs {
        let outcome = match session.take() {
            Some(session) => fetch_one(&session, &job, progress).await,
            None => match connect(paths, options.clone(), hints).await {
                Ok(session) => fetch_one(&session, &job, progress).await,
                Err(error) => Err(error.to_string().into()),
            },
        };
        note(&mut report, job, outcome, hints);
    }
    report
}

fn new_report(tcpls: bool) -> Report {
    let (failures, tcp) = (Vec::new(), Vec::new());
    Report { tcpls, files: 0, bytes: 0, seconds: 0.0, bits_per_second: 0.0, failures, unlogged: None, tcp }
}

/// Why a file was not received.
struct Fault {
    text: String,
    /// Why the session ended, if it did: that is more specific.
    end: Option<CloseReason>,
}

impl From<String> for Fault {
    fn from(text: String) -> Self {
        Self { text, end: None }
    }
}

fn note(report: &mut Report, job: Job, outcome: Result<u64, Fault>, hints: &Hints<'_>) {
    match outcome {
        Ok(bytes) => {
            report.files += 1;
            report.bytes += bytes;
        }
        Err(Fault { text, end }) => {
            let end = end.map_or(String::new(), |reason| format!("; {}", visible(&hints.of_end(&reason))));
            report.failures.push(Failure { url: job.url, error: text + &end });
        }
    }
}

async fn fetch_one(session: &Session, job: &Job, progress: &Progress) -> Result<u64, Fault> {
    let fetched = fetch_over(session, job, progress).await;
    progress.count_file();
    let end = || session.close_reason().filter(|reason| !matches!(reason, CloseReason::Local { .. }));
    fetched.map_err(|text| Fault { text, end: end() })
}

async fn fetch_over(session: &Session, job: &Job, progress: &Progress) -> Result<u64, String> {
    let stream = session.open_stream().await.map_err(|error| error.to_string())?;
    stream.set_label(&job.url);
    let content =
        files::fetch(stream, &job.host, &job.path, None).await.map_err(|error| visible(&error.to_string()))?;
    receive(content, job, progress).await
}

/// Writes an answer to a file, which gets its name only once it is complete.
async fn receive(content: Content, job: &Job, progress: &Progress) -> Result<u64, String> {
    let mut download = Download::new(&job.target, job.files);
    match receive_into(&mut download, content, job, progress).await {
        Ok(received) => download.complete().await.map(|()| received).map_err(|error| unwritten(job, &error)),
        Err(error) => {
            download.discard().await;
            Err(error)
        }
    }
}

async fn receive_into(
    download: &mut Download,
    mut content: Content,
    job: &Job,
    progress: &Progress,
) -> Result<u64, String> {
    let mut received = 0;
    while let Some(chunk) = content.next().await.map_err(|error| visible(&error.to_string()))? {
        received += chunk.len() as u64;
        progress.count(chunk.len());
        download.push(chunk).await.map_err(|error| unwritten(job, &error))?;
    }
    Ok(received)
}

fn unwritten(job: &Job, error: &std::io::Error) -> String {
    format!("can't write {}: {error}", job.target.display())
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
    }
}
