//! Recordings of sessions as files: a thread writes, so that no session waits for a disk.
//!
//! [`ClientOptions::record`](super::ClientOptions::record) and [`ServerOptions::record`](super::ServerOptions::record)
//! take a [`Record`]. `docs/recordings.md` describes the files, and `tcpls replay` reads them.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tcpls_core::record::{Blocks, Mark, Privacy, Recorder, Taken, file_header};

use crate::net::os::seed;

/// Bytes that may wait for the disk; more end the recordings.
const MAX_WAITING: usize = 8 << 20;

/// What a recording keeps, and how long it may become.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RecordOptions {
    /// Whether stream data, texts, names and addresses are in the file. The file is for its owner alone then. Keys never are,
    /// and neither are tokens and session IDs.
    pub full: bool,
    /// The size of the file in bytes at which all recordings in it end. At least 1 MiB; the default is 1 GiB.
    pub limit: u64,
}

impl RecordOptions {
    /// The smallest limit.
    pub const MIN_LIMIT: u64 = 1 << 20;

    /// Returns these options with a change.
    #[must_use]
    pub fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }
}

impl Default for RecordOptions {
    fn default() -> Self {
        Self { full: false, limit: 1 << 30 }
    }
}

/// A file that sessions are recorded in. Clones are the same file.
#[derive(Clone, Debug)]
pub struct Record(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    privacy: Privacy,
    limit: u64,
    state: Mutex<State>,
    changed: Condvar,
    to_disk: Mutex<Sender<Vec<u8>>>,
}

#[derive(Debug, Default)]
struct State {
    /// Sessions that have begun.
    begun: u32,
    /// Those whose recordings have not ended.
    open: u32,
    /// Bytes of the file, those that wait included.
    size: u64,
    waiting: usize,
    /// Why no more is recorded.
    over: Option<Mark>,
    error: Option<io::ErrorKind>,
}

impl Record {
    /// Creates the file, or replaces one.
    ///
    /// # Errors
    /// It cannot be created or written.
    pub fn create(path: &Path, options: RecordOptions) -> io::Result<Self> {
        let mut open = File::options();
        open.write(true).create(true).truncate(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut open, if options.full { 0o600 } else { 0o644 });
        let mut file = open.open(path)?;
        #[cfg(unix)]
        if options.full {
            let owner = std::os::unix::fs::PermissionsExt::from_mode(0o600);
            file.set_permissions(owner)?; // it may have existed
        }
        let header = file_header(options.full);
        file.write_all(&header)?;
        let (to_disk, blocks) = channel();
        let state = State { size: header.len() as u64, ..State::default() };
        let shared = Arc::new(Shared {
            privacy: if options.full { Privacy::full(&seed()) } else { Privacy::redacted(&seed()) },
            limit: options.limit.max(RecordOptions::MIN_LIMIT),
            state: Mutex::new(state),
            changed: Condvar::new(),
            to_disk: Mutex::new(to_disk),
        });
        let weak = Arc::downgrade(&shared);
        let write = move || {
            write_blocks(&mut file, &blocks, |len, written| {
                if let Some(shared) = weak.upgrade() {
                    shared.wrote(len, written);
                }
            });
        };
        std::thread::Builder::new().name("tcpls record".into()).spawn(write)?;
        Ok(Self(shared))
    }

    /// Returns a recorder for one more session; `None` if the recordings have ended.
    pub fn recorder(&self) -> Option<Recorder> {
        let mut state = self.0.state();
        if state.over.is_some() {
            return None;
        }
        state.begun += 1;
        state.open += 1;
        let (number, blocks) = (state.begun - 1, Box::new(Writer(Arc::clone(&self.0))));
        Some(Recorder::new(number, self.0.privacy.clone(), blocks))
    }

    /// Returns why no more is recorded; `None` while it is.
    pub fn over(&self) -> Option<Mark> {
        self.0.state().over
    }

    /// Returns why the file could not be written, if it could not.
    pub fn error(&self) -> Option<io::ErrorKind> {
        self.0.state().error
    }

    /// Waits until all sessions have ended and the file is written, at most for `limit`. Returns whether that is so.
    ///
    /// It blocks the thread.
    pub fn wait(&self, limit: Duration) -> bool {
        let end = Instant::now() + limit;
        let mut state = self.0.state();
        while state.open > 0 || state.waiting > 0 {
            let Some(left) = end.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) else {
                return false;
            };
            state = self.0.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }
}

impl Shared {
    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The thread has written a block, or could not.
    fn wrote(&self, len: usize, written: io::Result<()>) {
        let mut state = self.state();
        state.waiting -= len;
        if let Err(error) = written {
            state.error = state.error.or(Some(error.kind()));
            state.over = state.over.or(Some(Mark::Behind));
        }
        self.changed.notify_all();
    }
}

/// Writes until all senders are gone.
fn write_blocks(file: &mut File, blocks: &Receiver<Vec<u8>>, mut done: impl FnMut(usize, io::Result<()>)) {
    while let Ok(block) = blocks.recv() {
        let written = file.write_all(&block);
        done(block.len(), written);
    }
}

struct Writer(Arc<Shared>);

impl Blocks for Writer {
    fn block(&mut self, block: &[u8], mark: Mark) -> Taken {
        let mut state = self.0.state();
        // The mark of a recording that ends earlier has no entries.
        if matches!(mark, Mark::More | Mark::Complete) {
            let end = match state.over {
                None if state.size + block.len() as u64 > self.0.limit => Some(Mark::Limit),
                None if state.waiting + block.len() > MAX_WAITING => Some(Mark::Behind),
                over => over,
            };
            state.over = end;
            if let Some(why) = end {
                return Taken::No(why);
            }
        }
        state.size += block.len() as u64;
        state.waiting += block.len();
        drop(state);
        let sender = self.0.to_disk.lock().unwrap_or_else(PoisonError::into_inner);
        // The thread ends only when this is dropped.
        _ = sender.send(block.to_vec());
        Taken::Yes
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.0.state().open -= 1;
        self.0.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(name: &str) -> std::path::PathBuf {
        std::env::temp_dir().join(format!("tcpls-record-{}-{name}", std::process::id()))
    }

    #[test]
    fn blocks_beyond_the_limit_end_the_recordings_and_marks_are_still_written() {
        let path = file("limit");
        let record = Record::create(&path, RecordOptions::default().with(|options| options.limit = 0)).unwrap();
        assert!(record.recorder().is_some());
        record.0.state().open += 1;
        let mut writer = Writer(Arc::clone(&record.0));
        let block = vec![1; 64 << 10];
        let taken = (0..20).map(|_| writer.block(&block, Mark::More)).take_while(|taken| *taken == Taken::Yes).count();
        assert!((14..=16).contains(&taken), "{taken}");
        assert_eq!((record.over(), record.recorder().is_none()), (Some(Mark::Limit), true));
        assert_eq!(writer.block(&[2; 20], Mark::Limit), Taken::Yes);
        assert_eq!(writer.block(&block, Mark::Complete), Taken::No(Mark::Limit), "a session that ends adds nothing");
        drop(writer);
        assert!(record.wait(Duration::from_secs(60)));
        let written = std::fs::read(&path).unwrap();
        assert!(written.len() as u64 <= RecordOptions::MIN_LIMIT + 20 && written.ends_with(&[2; 20]));
        std::fs::remove_file(&path).unwrap();
    }

    #[cfg(unix)]
    #[test]
    fn a_file_with_data_is_for_its_owner_alone_even_if_it_existed() {
        use std::os::unix::fs::PermissionsExt;
        let path = file("mode");
        std::fs::write(&path, b"old").unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o666)).unwrap();
        _ = Record::create(&path, RecordOptions::default().with(|options| options.full = true)).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        std::fs::remove_file(&path).unwrap();
    }
}
