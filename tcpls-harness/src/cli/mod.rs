//! The `tcpls` command: one file per subcommand, and shared parts. All output goes through `output`.
//!
//! Progress for people goes to standard error, results go to standard output: with `--json` as one JSON object, or one
//! per line if there are several results. The exit code is 0 only on success; a command that a signal ended has the
//! shell's code for it.

#![warn(clippy::print_stdout, clippy::print_stderr)]

pub mod bpf;
pub mod completions;
mod config;
pub mod decrypt;
pub mod demo;
mod download;
pub mod early;
pub mod farm;
mod files;
pub mod get;
pub mod hello;
mod hints;
mod identity;
pub mod invite;
pub mod invites;
mod joins;
pub mod keys;
pub mod library;
pub mod limits;
pub mod listen;
mod logs;
pub mod man;
mod metrics;
pub mod migrate;
mod network;
mod output;
mod part;
pub mod paths;
pub mod perf;
mod plot;
mod progress;
pub mod proxy;
pub(crate) mod qlog;
mod record;
mod replay;
mod report;
pub mod resumed_joins;
pub mod serve;
pub mod server;
#[cfg(feature = "openssl")]
mod session_cache;
mod signals;
pub mod sim;
mod stalls;
pub mod state;
pub mod status;
mod systemd;
mod text;
mod trace_ring;
pub mod tunnel;
pub mod units;
pub mod uplinks;
mod url;
mod validity;
pub mod view;
mod watch;
mod zones;

use std::error::Error;
use std::io::Write;
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};
use tokio::runtime::Builder;

pub use self::output::Unwritten;
pub use self::signals::Stopped;

/// Threads that read and write files. Each has a stack, which counts as memory of the process.
const MAX_BLOCKING_THREADS: usize = 32;

/// The result of a subcommand; the error is for people and contains a hint.
pub type Outcome<T = ()> = Result<T, Box<dyn Error + Send + Sync>>;

/// TCPLS: TLS 1.3 over several TCP connections at once
#[derive(Debug, Parser)]
#[command(name = "tcpls", version, max_term_width = 100)]
pub struct Cli {
    /// Read options from this TOML file: NAME = VALUE, where NAME is that of an option without the dashes, and VALUE a string,
    /// a number, true, or a list for options that can be repeated. The command line wins
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<std::path::PathBuf>,
    /// Write a qlog file for each session to this directory; created if it does not exist. Default: $QLOGDIR.
    /// docs/qlog.md describes the events
    #[arg(long, global = true, value_name = "DIR")]
    qlog: Option<std::path::PathBuf>,
    /// Keep the last part of the trace of each session over sockets in memory, 1 MiB or SIZE, and write it to this directory
    /// when a TCP connection stalls or is lost, or the session ends by an error. "tcpls view" shows it
    #[arg(long, global = true, value_name = "DIR[,SIZE]", value_parser = trace_ring::parse)]
    trace_ring: Option<trace_ring::Place>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Demo(demo::Args),
    Serve(serve::Args),
    Get(get::Args),
    Proxy(Box<proxy::Args>),
    Socks(tunnel::socks::Args),
    Forward(tunnel::forward::Args),
    Pipe(tunnel::pipe::Args),
    Status(status::Args),
    Decrypt(decrypt::Args),
    #[command(subcommand)]
    Perf(perf::Perf),
    #[command(subcommand)]
    Sim(sim::Sim),
    Replay(replay::Args),
    BpfHelper(bpf::HelperArgs),
    BpfSign(bpf::SignArgs),
    View(view::Args),
    Completions(completions::Args),
    Man(man::Args),
}

/// Runs what the command line asks for.
pub fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().collect();
    let wants_json = config::wants_json(&arguments);
    let merged = match config::merge(&Cli::command(), arguments) {
        Ok(merged) => merged,
        Err(error) => return refuse(&error.to_string(), wants_json),
    };
    let cli = match Cli::try_parse_from(&merged.arguments) {
        Ok(cli) => cli,
        Err(error) => return refuse_line(&error, &merged),
    };
    if let Err(error) = cli.command.confine() {
        _ = writeln!(std::io::stderr(), "tcpls: {error}");
        return ExitCode::FAILURE;
    }
    let mut builder = cli.command.runtime();
    let runtime = match builder.enable_all().max_blocking_threads(MAX_BLOCKING_THREADS).build() {
        Ok(runtime) => runtime,
        Err(error) => {
            _ = writeln!(std::io::stderr(), "tcpls: {error}");
            return ExitCode::FAILURE;
        }
    };
    let code = runtime.block_on(async {
        let serves = cli.command.is_server();
        let outcome = match cli.command.prepare(cli.qlog.as_deref(), cli.trace_ring.as_ref()) {
            Ok(_offer) => cli.command.run().await,
            Err(error) => Err(error),
        };
        let code = outcome.map_or_else(|error| fail(&*error), |()| 0);
        qlog::finish().await;
        trace_ring::finish();
        match output::finish(serves || code > SIGNALLED).await {
            Err(error) if code == 0 => {
                let code = fail(&*error);
                // The failure is known; its message still has to be written.
                _ = output::finish(true).await;
                code
            }
            _ => code,
        }
    });
    // Work that waits for a disk or a pipe does not delay the end.
    runtime.shutdown_background();
    part::settle_parts();
    record::settle();
    code.into()
}

/// Prints what is wrong with the command line, or the help that it asks for. With `--json`, an error is an object, too.
fn refuse_line(error: &clap::Error, merged: &config::Merged) -> ExitCode {
    let code = ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
    let place = merged.place(error);
    if !error.use_stderr() || (place.is_none() && !merged.wants_json()) {
        _ = error.print();
        return code;
    }
    let text = error.to_string();
    let text = text.strip_prefix("error: ").unwrap_or(&text);
    let short = text.split("\n\nUsage:").next().unwrap_or_default().trim_end();
    match place {
        Some(place) => _ = refuse(&format!("{place}: {short}"), merged.wants_json()),
        None => {
            print_json(short);
            _ = error.print();
        }
    }
    code
}

/// Prints an error before there is a runtime, with `json` also as an object.
fn refuse(error: &str, json: bool) -> ExitCode {
    if json {
        print_json(error);
    }
    _ = writeln!(std::io::stderr(), "error: {}", text::visible_lines(error));
    ExitCode::from(WRONG_LINE)
}

/// Prints an error as an object. If that fails, the message for people is still printed.
fn print_json(error: &str) {
    _ = report::or_error(Outcome::<()>::Err(error.into()), true);
    _ = Builder::new_current_thread().enable_all().build().map(|runtime| runtime.block_on(output::finish(true)));
}

/// The exit code of a wrong command line or configuration file, which is clap's.
const WRONG_LINE: u8 = 2;

/// Exit codes above are those of commands that a signal ended.
const SIGNALLED: u8 = 128;

/// Prints the error, and returns the exit code.
fn fail(error: &(dyn Error + 'static)) -> u8 {
    let (unwritten, stopped) = (error.downcast_ref::<Unwritten>(), error.downcast_ref::<Stopped>());
    if !unwritten.is_some_and(Unwritten::is_quiet) && !stopped.is_some_and(Stopped::is_quiet) {
        output::tell(format_args!("tcpls: {error}"));
    }
    unwritten.map(Unwritten::exit_code).or(stopped.map(Stopped::exit_code)).unwrap_or(1)
}

impl Command {
    /// The threads that it needs. A single session works in one task: several threads would only wake each other.
    fn runtime(&self) -> Builder {
        match self {
            Self::Get(_) | Self::BpfHelper(_) => Builder::new_current_thread(),
            _ => Builder::new_multi_thread(),
        }
    }

    /// Drops the privileges that it does not need, before there is another thread.
    #[cfg(all(feature = "bpf", target_os = "linux"))]
    fn confine(&self) -> Outcome {
        if matches!(self, Self::BpfHelper(_)) { bpf::confine() } else { Ok(()) }
    }

    #[cfg(not(all(feature = "bpf", target_os = "linux")))]
    fn confine(&self) -> Outcome {
        Ok(())
    }

    /// Whether it runs until a signal ends it.
    fn is_server(&self) -> bool {
        let is_local = matches!(self, Self::Socks(_) | Self::Forward(_) | Self::BpfHelper(_));
        is_local || matches!(self, Self::Serve(_) | Self::Proxy(_) | Self::Perf(perf::Perf::Server(_)))
    }

    /// Which sessions it has, of which files can be written.
    fn sessions(&self) -> qlog::Sessions {
        match self {
            Self::Demo(_) | Self::Serve(_) | Self::Get(_) | Self::Socks(_) | Self::Forward(_) | Self::Pipe(_) => {
                qlog::Sessions::OverSockets
            }
            Self::Proxy(args) if args.command.is_none() => qlog::Sessions::OverSockets,
            Self::Perf(_) => qlog::Sessions::OverSockets,
            Self::Sim(sim::Sim::Run(args)) if args.is_real() => qlog::Sessions::Both,
            Self::Sim(sim::Sim::Run(_)) => qlog::Sessions::Simulated,
            _ => qlog::Sessions::None,
        }
    }

    /// Its name, where it answers `tcpls status`, and whether it prints JSON; `None` if it does not answer.
    fn status(&self) -> Option<(&'static str, &status::SocketArgs, bool)> {
        match self {
            Self::Get(args) => Some(("get", &args.status, args.json)),
            Self::Serve(args) => Some(("serve", &args.log.status, args.log.log().json)),
            Self::Proxy(args) if args.command.is_none() => Some(("proxy", &args.log.status, args.log.log().json)),
            Self::Socks(args) => Some(("socks", &args.tunnel.status, false)),
            Self::Forward(args) => Some(("forward", &args.tunnel.status, false)),
            Self::Pipe(args) => Some(("pipe", &args.tunnel.status, false)),
            _ => None,
        }
    }

    /// Starts the logs, and answers `tcpls status` until what is returned is dropped.
    fn prepare(&self, qlog: Option<&std::path::Path>, ring: Option<&trace_ring::Place>) -> Outcome<impl Sized + use<>> {
        let wants_json = config::wants_json(&std::env::args_os().collect::<Vec<_>>());
        let started = logs::start()
            .and_then(|()| qlog::start(qlog, self.sessions()))
            .and_then(|()| trace_ring::start(ring, self.sessions()));
        report::or_error(started, wants_json)?;
        let Some((name, args, json)) = self.status() else { return Ok(None) };
        report::or_error(status::offer(name, args.status_socket.as_deref()), json)
    }

    async fn run(self) -> Outcome {
        match self {
            Self::Demo(args) => demo::run(args).await,
            Self::Serve(args) => serve::run(args).await,
            Self::Get(args) => get::run(args).await,
            Self::Proxy(args) => proxy::run(*args).await,
            Self::Socks(args) => tunnel::socks::run(args).await,
            Self::Forward(args) => tunnel::forward::run(args).await,
            Self::Pipe(args) => tunnel::pipe::run(args).await,
            Self::Status(args) => status::run(args).await,
            Self::Decrypt(args) => decrypt::run(args).await,
            Self::Perf(perf) => perf::run(perf).await,
            Self::Sim(sim) => sim::run(sim).await,
            Self::Replay(args) => replay::run(&args),
            Self::BpfHelper(args) => bpf::run(args).await,
            Self::BpfSign(args) => bpf::sign(&args),
            Self::View(args) => view::run(&args),
            Self::Completions(args) => completions::run(&args),
            Self::Man(args) => man::run(&args),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_option_is_explained() {
        fn check(command: &clap::Command) {
            assert!(command.get_about().is_some(), "{}", command.get_name());
            for argument in command.get_arguments() {
                assert!(argument.get_help().is_some(), "{} {}", command.get_name(), argument.get_id());
            }
            command.get_subcommands().for_each(check);
        }
        check(&Cli::command());
    }
}
