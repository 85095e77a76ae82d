//! Recordings in memory, and their replay.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::{env, fs, thread};

use crate::connection::record::replay::{Recording, Replay};
use crate::connection::record::{BLOCK_HEADER, Blocks, Mark, Privacy, Recorder, Taken, file_header, seal_block};

use super::seed;

/// A file in memory that sessions are recorded in. Clones are the same file.
#[derive(Clone, Debug)]
pub struct Recordings {
    file: Arc<Mutex<File>>,
    privacy: Privacy,
}

#[derive(Debug)]
struct File {
    bytes: Vec<u8>,
    sessions: u32,
}

impl Recordings {
    /// Returns an empty file, without the data of sessions.
    pub fn redacted() -> Self {
        Self::new(Privacy::redacted(&seed(0x4ec)))
    }

    /// Returns an empty file for sessions with their data.
    pub fn full() -> Self {
        Self::new(Privacy::full(&seed(0x4ec)))
    }

    fn new(privacy: Privacy) -> Self {
        let file = File { bytes: file_header(privacy.is_full()), sessions: 0 };
        Self { file: Arc::new(Mutex::new(file)), privacy }
    }

    /// Returns the recorder of one more session.
    pub fn recorder(&self) -> Recorder {
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        file.sessions += 1;
        Recorder::new(file.sessions - 1, self.privacy.clone(), Box::new(Writer(Arc::clone(&self.file))))
    }

    /// Returns the file. Sessions that still exist are in it only in part.
    pub fn file(&self) -> Vec<u8> {
        self.file.lock().unwrap_or_else(PoisonError::into_inner).bytes.clone()
    }

    /// Replays all sessions, and returns how many calls that were.
    ///
    /// # Panics
    /// One decides otherwise than it was recorded, or the file is damaged.
    pub fn check(&self) -> u64 {
        self.replay().unwrap_or_else(|difference| panic!("{difference}"))
    }

    /// Does the same without a panic.
    ///
    /// # Errors
    /// Returns the first difference, and in which session it is.
    pub fn replay(&self) -> Result<u64, String> {
        let file = self.file();
        let recording = Recording::read(&file).map_err(|error| error.to_string())?;
        if let Some(damage) = recording.damage() {
            return Err(damage.to_string());
        }
        let mut calls = 0;
        for session in recording.sessions() {
            let (mut replay, mut last) = (Replay::new(session), 0);
            let name = |error| format!("session {}: {error}", session.number());
            while let Some(step) = replay.step().map_err(name)? {
                last = step.number() + 1;
            }
            calls += last;
        }
        Ok(calls)
    }
}

/// Returns a file with one session that has these entries, with the checksums that belong to them.
pub fn file_of(entries: &[u8], is_full: bool) -> Vec<u8> {
    let mut block = [&[0; BLOCK_HEADER][..], entries].concat();
    seal_block(&mut block, 0, Mark::Complete as u8);
    [file_header(is_full), block].concat()
}

/// Returns the entries of the first block of a file.
pub fn entries_of(file: &[u8]) -> &[u8] {
    let header = file_header(false).len() + BLOCK_HEADER;
    let len = file.get(header - BLOCK_HEADER..).and_then(<[u8]>::first_chunk::<4>).map(|len| u32::from_be_bytes(*len));
    file.get(header..).and_then(|rest| rest.get(..len.unwrap_or_default() as usize)).unwrap_or_default()
}

/// Records sessions, and says what became of them once they are gone: declare it before what owns them, or as its last
/// field.
#[derive(Debug, Default)]
pub struct Kept {
    recordings: Option<Recordings>,
    replays: bool,
    path: Option<PathBuf>,
    /// The file is written whatever happens.
    is_wanted: bool,
}

impl Kept {
    /// With the environment variable `TCPLS_REPLAY`, sessions are recorded and replayed. With `TCPLS_RECORDING`, the
    /// recording of what panics, or replays otherwise, becomes the file that it names; with `TCPLS_RECORDING_ALWAYS` that of
    /// what passes, too.
    pub fn new() -> Self {
        let mut kept = Self::from_environment();
        kept.recordings = (kept.replays || kept.path.is_some()).then(Recordings::redacted);
        kept
    }

    /// Does the same, and replays without a variable.
    pub fn replaying() -> Self {
        let mut kept = Self::from_environment();
        (kept.recordings, kept.replays) = (Some(Recordings::redacted()), true);
        kept
    }

    fn from_environment() -> Self {
        Self {
            recordings: None,
            replays: env::var_os("TCPLS_REPLAY").is_some(),
            path: env::var_os("TCPLS_RECORDING").map(PathBuf::from),
            is_wanted: env::var_os("TCPLS_RECORDING_ALWAYS").is_some(),
        }
    }

    /// Returns the file in memory; `None` if nothing is recorded.
    pub fn recordings(&self) -> Option<&Recordings> {
        self.recordings.as_ref()
    }

    /// Returns the recorder of one more session, if it is recorded.
    pub fn recorder(&self) -> Option<Recorder> {
        self.recordings.as_ref().map(Recordings::recorder)
    }

    fn write(&self, recordings: &Recordings) {
        let Some(path) = &self.path else { return };
        match fs::write(path, recordings.file()) {
            Ok(()) => eprintln!("recorded in {0}; to replay it: tcpls replay {0}", path.display()),
            Err(error) => eprintln!("cannot write {}: {error}", path.display()),
        }
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        let Some(recordings) = &self.recordings else { return };
        if thread::panicking() {
            return self.write(recordings);
        }
        if let Some(difference) = self.replays.then(|| recordings.replay().err()).flatten() {
            self.write(recordings);
            panic!("{difference}");
        }
        if self.is_wanted {
            self.write(recordings);
        }
    }
}

struct Writer(Arc<Mutex<File>>);

impl Blocks for Writer {
    fn block(&mut self, block: &[u8], _mark: Mark) -> Taken {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).bytes.extend_from_slice(block);
        Taken::Yes
    }
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use super::*;
    use crate::Side;
    use crate::testing::Setup;

    #[test]
    fn recording_of_a_test_that_panics_is_written_and_replays_up_to_there() {
        let path = env::temp_dir().join(format!("tcpls-kept-{}.tcplsrec", std::process::id()));
        let kept = || Kept {
            recordings: Some(Recordings::redacted()),
            replays: true,
            path: Some(path.clone()),
            is_wanted: false,
        };
        let transfer = |kept: &Kept| {
            let mut pair = Setup { tls: None, recordings: kept.recordings.clone(), ..Setup::default() }.start();
            pair.drive();
            pair.transfer(Side::Client, b"data");
        };
        transfer(&kept());
        assert!(!path.exists(), "nothing failed");
        let failed = catch_unwind(AssertUnwindSafe(|| {
            let kept = kept();
            transfer(&kept);
            panic!("a property does not hold");
        }));
        assert!(failed.is_err());
        let file = fs::read(&path).unwrap();
        fs::remove_file(&path).unwrap();
        let recording = Recording::read(&file).unwrap();
        assert_eq!((recording.sessions().len(), recording.damage()), (2, None));
        for session in recording.sessions() {
            let mut replay = Replay::new(session);
            while replay.step().unwrap_or_else(|error| panic!("{error}")).is_some() {}
        }
    }
}
