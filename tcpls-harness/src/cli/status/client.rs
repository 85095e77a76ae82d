//! Asks running commands, and shows their answers.

use std::io::ErrorKind;
use std::path::Path;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use super::report::{Refused, Request, Status, VERSION};
use super::socket::{self, Running};
use super::{Args, view};
use crate::cli::signals::Signals;
use crate::cli::{Outcome, output};

/// How long a command may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// The pause after others were first.
const PAUSE: Duration = Duration::from_millis(10);
/// The longest answer.
const MAX_ANSWER: u64 = 16 << 20;
/// The time over which rates are measured, and between two views.
const INTERVAL: Duration = Duration::from_secs(1);
const SHORT_INTERVAL: Duration = Duration::from_millis(500);

/// Shows the status once, or until a signal or the end of the command.
pub(super) async fn run(args: &Args) -> Outcome {
    let running = find(args)?;
    match running.as_slice() {
        [one] if args.watch => watch(&one.path, args.json).await,
        [one] => {
            let status = measure(&one.path).await?;
            print(&status, args.json)
        }
        several if args.watch => {
            Err(format!("{} commands are running; choose one with --pid: {}", several.len(), pids(several)).into())
        }
        several => list(several, args.json).await,
    }
}

/// Prints a line for each command, without rates. One that has ended meanwhile is not listed.
async fn list(several: &[Running], json: bool) -> Outcome {
    let (mut listed, mut failures) = (0, Vec::new());
    for running in several {
        match ask(&running.path).await {
            Ok(status) => {
                listed += 1;
                if json { output::result_json(&status)? } else { output::result(view::summary(&status))? }
            }
            Err(error) if socket::is_live(&running.path) => failures.push(error.to_string()),
            Err(_) => {}
        }
    }
    if !failures.is_empty() {
        return Err(failures.join("; ").into());
    }
    if listed == 0 {
        return Err("all commands have ended meanwhile".into());
    }
    if !json {
        output::tell("choose one with --pid PID");
    }
    Ok(())
}

fn pids(running: &[Running]) -> String {
    running.iter().filter_map(|running| running.pid).map(|pid| pid.to_string()).collect::<Vec<_>>().join(", ")
}

/// The sockets to ask.
fn find(args: &Args) -> Outcome<Vec<Running>> {
    let place = match &args.socket {
        Some(path) if !path.is_dir() => return Ok(vec![Running { pid: None, path: path.clone() }]),
        Some(directory) => directory.clone(),
        None => socket::directory().ok_or("there is no directory with sockets; name a socket with --socket")?,
    };
    let mut running = match socket::list(&place) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            return Err(format!("can't look for running commands in {}: {error}", place.display()).into());
        }
        running => running.unwrap_or_default(),
    };
    let what = match args.pid {
        Some(pid) => {
            running.retain(|running| running.pid == Some(pid));
            format!("no tcpls command with PID {pid}")
        }
        None => "no tcpls command".to_owned(),
    };
    if running.is_empty() {
        let unusable = socket::check(&place).err().filter(|error| error.kind() != ErrorKind::NotFound);
        let place = place.display();
        if let Some(error) = unusable {
            return Err(format!("{what} has a socket in {place}: {error}").into());
        }
        return Err(format!(
            "{what} has a socket in {place}; for a command of another user, or with a --status-socket, pass --socket"
        )
        .into());
    }
    Ok(running)
}

/// Asks a command.
async fn ask(path: &Path) -> Outcome<Status> {
    let asking = async {
        let mut socket = loop {
            match UnixStream::connect(path).await {
                // Many others ask, too.
                Err(error) if error.kind() == ErrorKind::WouldBlock => tokio::time::sleep(PAUSE).await,
                connected => break connected?,
            }
        };
        let request = serde_json::to_string(&Request { version: VERSION })? + "\n";
        socket.write_all(request.as_bytes()).await?;
        let mut answer = Vec::new();
        socket.take(MAX_ANSWER).read_to_end(&mut answer).await?;
        std::io::Result::Ok(answer)
    };
    let name = path.display();
    let answer = match tokio::time::timeout(PATIENCE, asking).await {
        Ok(answer) => answer.map_err(|error| format!("can't ask {name}: {error}"))?,
        Err(_) => return Err(format!("{name}: no answer within {} s", PATIENCE.as_secs()).into()),
    };
    if let Ok(Refused { error, .. }) = serde_json::from_slice(&answer) {
        return Err(format!("{name}: {error}").into());
    }
    match serde_json::from_slice::<Status>(&answer) {
        Ok(status) if status.version == VERSION => Ok(status),
        Ok(status) => Err(format!("{name}: version {} is unknown; this is version {VERSION}", status.version).into()),
        Err(error) => Err(format!("{name}: this is no answer of a tcpls command: {error}").into()),
    }
}

/// Asks a command twice, for rates.
async fn measure(path: &Path) -> Outcome<Status> {
    let before = ask(path).await?;
    tokio::time::sleep(SHORT_INTERVAL).await;
    let mut status = ask(path).await?;
    status.add_rates(&before);
    Ok(status)
}

fn print(status: &Status, json: bool) -> Outcome {
    if json {
        output::result_json(status)?;
    } else {
        output::result(view::lines(status, output::columns()).join("\n"))?;
    }
    Ok(())
}

/// Shows the status each second.
async fn watch(path: &Path, json: bool) -> Outcome {
    let stop = Signals::listen()?.stop();
    tokio::pin!(stop);
    let in_place = !json && output::columns().is_some() && output::is_shown();
    let watching = async {
        let mut before = ask(path).await?;
        loop {
            tokio::time::sleep(INTERVAL).await;
            let mut status = match ask(path).await {
                Ok(status) if status.pid == before.pid => status,
                // It has not ended: it is stopped, or too busy to answer.
                Err(error) if socket::is_live(path) => return Err(error),
                // Its end is the end of this, also if another command has its socket now.
                _ => return Outcome::Ok(before),
            };
            status.add_rates(&before);
            if in_place {
                let mut lines = view::lines(&status, output::shown_columns());
                lines.truncate(output::shown_rows().unwrap_or(usize::MAX).saturating_sub(1).max(1));
                output::show(lines);
            } else {
                print(&status, json)?;
                if !json {
                    output::result("")?;
                }
            }
            before = status;
        }
    };
    let ended = tokio::select! {
        ended = watching => Some(ended?),
        _ = &mut stop => None,
    };
    output::clear().await;
    if let Some(last) = ended {
        output::tell(format_args!("tcpls {}, PID {}, has ended", last.command, last.pid));
    }
    Ok(())
}
