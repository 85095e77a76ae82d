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

/// Of this process: all of its sessions write in one thread, under one limit.
static QLOG: OnceLock<Qlog> = OnceLock::new();

/// Starts to write files if the command line or the environment names a directory.
///
/// # Errors
/// The directory can't be created.
pub(super) fn start(directory: Option<&Path>) -> Outcome {
    let variable = || env::var_os(VARIABLE).filter(|directory| !directory.is_empty()).map(PathBuf::from);
    let Some(directory) = directory.map(Path::to_path_buf).or_else(variable) else { return Ok(()) };
    let qlog = Qlog::new(QlogOptions::new(&directory)).map_err(|error| {
        format!(
            "can't write qlog files in {}: {error}; name another directory with --qlog or {VARIABLE}",
            directory.display()
        )
    })?;
    _ = QLOG.set(qlog);
    Ok(())
}

/// For the options of sessions.
pub(crate) fn current() -> Option<Qlog> {
    QLOG.get().cloned()
}

/// Waits until everything is written, or the disk proves too slow, and says what is missing.
pub(super) async fn finish() {
    let Some(qlog) = QLOG.get() else { return };
    // In a thread of its own: those of the runtime may all wait for a disk.
    let (sender, flushed) = tokio::sync::oneshot::channel();
    let waits = std::thread::Builder::new().spawn(move || _ = sender.send(qlog.flush(PATIENCE)));
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
