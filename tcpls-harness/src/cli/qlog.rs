//! `--qlog DIR` and `QLOGDIR`: a qlog file for each session. What a slow disk does not take is dropped and counted.

use std::env;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

use super::{Outcome, output};
use crate::trace::qlog::{Qlog, QlogOptions};

/// The environment variable that other implementations of qlog use, too.
const VARIABLE: &str = "QLOGDIR";

/// How long a command that ends waits for its disk.
const PATIENCE: Duration = Duration::from_secs(5);
/// The same for simulated sessions, which wait for the disk while they run, too. A signal ends the command before.
const SIMULATED_PATIENCE: Duration = Duration::from_secs(24 * 60 * 60);

/// Where files are written, if the command line or the environment says so.
static WANTED: OnceLock<Wanted> = OnceLock::new();

/// For sessions over sockets of a command that simulates sessions, too. They do not wait for the disk.
static REAL: OnceLock<Option<Qlog>> = OnceLock::new();

/// Of this process: all of its sessions write in one thread, under one limit. `None` if the directory cannot be used.
static QLOG: OnceLock<Option<Qlog>> = OnceLock::new();

struct Wanted {
    directory: PathBuf,
    /// The command's sessions are simulated.
    is_simulated: bool,
}

/// The sessions of a command of which files can be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sessions {
    None,
    OverSockets,
    Simulated,
    /// Some are simulated, others are over sockets.
    Both,
}

/// Takes the directory that the command line or the environment names.
///
/// The variable may be set for all commands: a directory that cannot be used is an error only if the command line names it.
///
/// # Errors
/// The directory of the command line cannot be created, or the command writes no qlog files.
pub(super) fn start(directory: Option<&Path>, sessions: Sessions) -> Outcome {
    let variable = || env::var_os(VARIABLE).filter(|directory| !directory.is_empty()).map(PathBuf::from);
    let is_simulated = matches!(sessions, Sessions::Simulated | Sessions::Both);
    match directory {
        Some(_) if sessions == Sessions::None => Err(
            "--qlog: this command writes no qlog files; commands with sessions over sockets and \"tcpls sim run\" do"
                .into(),
        ),
        Some(directory) => {
            let wanted = Wanted { directory: directory.to_path_buf(), is_simulated };
            _ = QLOG.set(Some(open(&wanted, wanted.is_simulated)?));
            _ = WANTED.set(wanted);
            Ok(())
        }
        None => {
            _ = variable().map(|directory| WANTED.set(Wanted { directory, is_simulated }));
            Ok(())
        }
    }
}

fn open(Wanted { directory, .. }: &Wanted, lossless: bool) -> Outcome<Qlog> {
    let options = QlogOptions::new(directory).with(|options| options.lossless = lossless);
    let error = |error| {
        format!(
            "can't write qlog files in {}: {error}; name another directory with --qlog or {VARIABLE}",
            directory.display()
        )
    };
    Ok(Qlog::new(options).map_err(error)?)
}

/// For the options of sessions. The first call creates the directory.
pub(crate) fn current() -> Option<Qlog> {
    let wanted = WANTED.get()?;
    QLOG.get_or_init(|| open_or_tell(wanted, wanted.is_simulated)).clone()
}

/// For sessions over sockets of a command whose other sessions are simulated.
pub(crate) fn of_real_run() -> Option<Qlog> {
    let wanted = WANTED.get()?;
    current()?; // says why the directory cannot be used
    REAL.get_or_init(|| open_or_tell(wanted, false)).clone()
}

fn open_or_tell(wanted: &Wanted, lossless: bool) -> Option<Qlog> {
    open(wanted, lossless).inspect_err(|error| output::tell(format_args!("qlog: {error}"))).ok()
}

/// Waits until everything is written, or the disk proves too slow, and says what is missing.
pub(super) async fn finish() {
    let is_simulated = WANTED.get().is_some_and(|wanted| wanted.is_simulated);
    let patience = if is_simulated { SIMULATED_PATIENCE } else { PATIENCE };
    for (opened, patience) in [(&QLOG, patience), (&REAL, PATIENCE)] {
        if let Some(Some(qlog)) = opened.get() {
            finish_one(qlog, patience).await;
        }
    }
}

async fn finish_one(qlog: &'static Qlog, patience: Duration) {
    // In a thread of its own: those of the runtime may all wait for a disk.
    let (sender, flushed) = tokio::sync::oneshot::channel();
    let waits = std::thread::Builder::new().spawn(move || _ = sender.send(qlog.flush(patience)));
    let is_written = waits.is_ok() && flushed.await.unwrap_or(false);
    if let Some(failure) = qlog.failure() {
        output::tell(format_args!("qlog: {failure}"));
    }
    if !is_written {
        output::tell("qlog: the disk is too slow: the files are not complete");
    }
    match qlog.dropped() {
        0 => {}
        dropped => output::tell(format_args!("qlog: {dropped} events were dropped")),
    }
}
