//! `--record`: what the sessions of a command do, as a file for `tcpls replay`.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::units::parse_size;
use super::{Outcome, output};
use crate::net::{Record, RecordOptions};

/// How long the command waits at its end for sessions that end, and for the disk.
const PATIENCE: Duration = Duration::from_secs(2);

/// The files of this process.
static OPEN: Mutex<Vec<(PathBuf, Record)>> = Mutex::new(Vec::new());

/// Recording sessions.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct RecordArgs {
    /// Record what happens in the sessions in this file, for "tcpls replay": times, sizes and decisions. It has no keys;
    /// data, names, addresses and tokens are replaced, so that the file can be passed on
    #[arg(long, value_name = "FILE")]
    record: Option<PathBuf>,
    /// Keep data, names and addresses in the recording, for this user alone. Tokens are still replaced
    #[arg(long, requires = "record")]
    record_full: bool,
    /// End the recording at this size of the file, for example 100MB
    #[arg(long, value_name = "SIZE", default_value = "1GiB", value_parser = parse_size, requires = "record")]
    record_limit: u64,
}

impl RecordArgs {
    /// Creates the file, if one is asked for; a file that this process has created is used again.
    ///
    /// # Errors
    /// It cannot be created.
    pub(crate) fn start(&self) -> Outcome<Option<Record>> {
        let Some(path) = &self.record else { return Ok(None) };
        if let Some((_, record)) = open_files().iter().find(|(known, _)| known == path) {
            return Ok(Some(record.clone()));
        }
        let options = RecordOptions::default().with(|options| {
            (options.full, options.limit) = (self.record_full, self.record_limit);
        });
        let record = create(path, options)?;
        if self.record_full {
            let path = path.display();
            output::tell(format_args!(
                "tcpls: {path} gets the data of all sessions in plain text; keep it to yourself"
            ));
        }
        Ok(Some(record))
    }
}

fn open_files() -> MutexGuard<'static, Vec<(PathBuf, Record)>> {
    OPEN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Creates a file; the command waits for it at its end.
///
/// # Errors
/// It cannot be created.
pub(crate) fn create(path: &Path, options: RecordOptions) -> Outcome<Record> {
    let record = Record::create(path, options).map_err(|error| {
        format!("cannot record in {}: {error}; pass --record a file that can be written", path.display())
    })?;
    open_files().push((path.to_owned(), record.clone()));
    Ok(record)
}

/// Waits until the recordings of this process are written, and says which are not complete. Blocks for at most 2 s.
pub(super) fn settle() {
    let open = std::mem::take(&mut *open_files());
    for (_, record) in open {
        record.wait(PATIENCE);
        if let Some(error) = record.error() {
            output::tell(format_args!("tcpls: the recording could not be written: {error}"));
        } else if record.over().is_some() {
            output::tell(
                "tcpls: the recording ended before the sessions: the file has reached --record-limit, or the disk is too slow",
            );
        }
    }
}
