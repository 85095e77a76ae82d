//! `--trace-ring DIR[,SIZE]`: the last part of each session's trace, in a file if something goes wrong.

use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::Duration;

use super::qlog::Sessions;
use super::units::parse_size;
use super::{Outcome, output};
use crate::trace::ring::{Ring, RingOptions};

/// How long a command that ends waits for its disk.
const PATIENCE: Duration = Duration::from_secs(2);

/// Of this process: all of its sessions share memory and limits.
static RING: OnceLock<(PathBuf, Ring)> = OnceLock::new();

/// The directory, and what is kept of each session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    directory: PathBuf,
    /// In bytes; `None` for the default.
    session: Option<usize>,
}

/// Reads `DIR[,SIZE]`.
pub(crate) fn parse(text: &str) -> Result<Place, String> {
    let sized = text.rsplit_once(',').map(|(directory, size)| (directory, parse_size(size)));
    let (directory, session) = match sized {
        Some((directory, Ok(size))) => (directory, Some(usize::try_from(size).map_err(|_| "SIZE is too large")?)),
        Some((_, Err(error))) if text.ends_with(|c: char| c.is_ascii_digit()) => return Err(error),
        _ => (text, None),
    };
    if directory.is_empty() {
        return Err("DIR is empty".to_owned());
    }
    Ok(Place { directory: directory.into(), session })
}

/// Begins to keep traces if the command line names a directory.
///
/// # Errors
/// The directory can't be created, or the command has no sessions over sockets.
pub(super) fn start(place: Option<&Place>, sessions: Sessions) -> Outcome {
    let Some(Place { directory, session }) = place else { return Ok(()) };
    match sessions {
        Sessions::OverSockets | Sessions::Both => {}
        Sessions::Simulated => {
            return Err("--trace-ring keeps traces of sessions over sockets: pass --real, too".into());
        }
        Sessions::None => return Err("--trace-ring: this command has no sessions over sockets".into()),
    }
    let options = RingOptions::new(directory).with(|options| {
        options.session = session.unwrap_or(options.session);
        options.total = options.total.max(options.session);
    });
    let ring = Ring::new(&options).map_err(|error| {
        format!("can't write traces in {}: {error}; name another directory with --trace-ring", directory.display())
    })?;
    _ = RING.set((directory.clone(), ring));
    Ok(())
}

/// For the options of sessions.
pub(crate) fn current() -> Option<Ring> {
    RING.get().map(|(_, ring)| ring.clone())
}

/// Waits until everything is written, at most for 2 s, and says what was. Blocks the thread.
pub(super) fn finish() {
    let Some((directory, ring)) = RING.get() else { return };
    let is_written = ring.flush(PATIENCE);
    if let Some(failure) = ring.failure() {
        output::tell(format_args!("--trace-ring: {failure}"));
    }
    if !is_written {
        output::tell("--trace-ring: the disk is too slow: the files are not complete");
    }
    if ring.dropped() > 0 {
        output::tell(format_args!("--trace-ring: {} bytes were not written", ring.dropped()));
    }
    if ring.files() > 0 {
        let (files, directory) = (ring.files(), directory.display());
        output::tell(format_args!(
            "--trace-ring: traces of {files} sessions with anomalies in {directory}; see tcpls view"
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directory_may_have_a_size_behind_it() {
        let place = |directory: &str, session| Ok(Place { directory: directory.into(), session });
        assert_eq!(parse("traces"), place("traces", None));
        assert_eq!(parse("traces,4MiB"), place("traces", Some(4 << 20)));
        assert_eq!(parse("a,b"), place("a,b", None));
        assert!(parse(",4MiB").is_err() && parse("").is_err());
    }
}
