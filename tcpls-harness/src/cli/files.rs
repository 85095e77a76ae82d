//! Files named by options; errors contain the name of the file and the cause, even if a later write fails.

use std::fmt::Display;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use super::Outcome;
use crate::file_id::FileId;

/// Returns an error with the name of the file that can't be written, and the cause.
pub(crate) fn unwritable(path: &Path, error: impl Display) -> String {
    format!("can't write {}: {error}", path.display())
}

/// Returns an error with the name of the file that can't be read, and the cause.
pub(crate) fn unreadable(path: &Path, error: impl Display) -> String {
    format!("can't read {}: {error}", path.display())
}

/// Whether two names are of one file that exists, by links too.
fn is_same(one: &Path, other: &Path) -> bool {
    let id = |path: &Path| path.metadata().ok().as_ref().and_then(FileId::of);
    match (id(one), id(other)) {
        (Some(one), Some(other)) => one == other,
        // Links that lead to the same place are seen on all systems.
        _ => matches!((one.canonicalize(), other.canonicalize()), (Ok(one), Ok(other)) if one == other),
    }
}

/// # Errors
/// The output, which this option names, is the input.
pub(crate) fn check_output(out: &Path, input: &Path, option: &str) -> Outcome {
    if is_same(out, input) {
        let (out, input) = (out.display(), input.display());
        return Err(format!("can't write {out}: it is the input {input}; pass another file with {option}").into());
    }
    Ok(())
}

/// Creates a directory and its parents.
///
/// # Errors
/// It is not there, and can't be made.
pub(crate) fn make_directory(path: &Path, option: &str) -> Outcome {
    std::fs::create_dir_all(path).map_err(|error| {
        format!("can't create the directory {}: {error}; choose another directory with {option}", path.display()).into()
    })
}

/// A file for writers that do not check errors: it stores the first error.
#[derive(Debug)]
pub(crate) struct OutFile {
    file: BufWriter<File>,
    failure: Arc<Mutex<Option<io::Error>>>,
}

impl OutFile {
    /// Returns an empty file, and the handle that reports whether it was written.
    ///
    /// # Errors
    /// It can't be created.
    pub(crate) fn create(path: &Path) -> Outcome<(Self, Written)> {
        let file = File::create(path).map_err(|error| unwritable(path, error))?;
        let failure = Arc::default();
        let written = Written { path: path.to_owned(), failure: Arc::clone(&failure) };
        Ok((Self { file: BufWriter::new(file), failure }, written))
    }

    fn note<R>(&self, result: io::Result<R>) -> io::Result<R> {
        result.inspect_err(|error| {
            let mut failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
            failure.get_or_insert_with(|| io::Error::new(error.kind(), error.to_string()));
        })
    }
}

impl Write for OutFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let result = self.file.write(bytes);
        self.note(result)
    }

    fn flush(&mut self) -> io::Result<()> {
        let result = self.file.flush();
        self.note(result)
    }
}

/// Reports whether an [`OutFile`] was written; call it after a flush.
#[derive(Debug)]
pub(crate) struct Written {
    path: PathBuf,
    failure: Arc<Mutex<Option<io::Error>>>,
}

impl Written {
    /// # Errors
    /// The first error of a write.
    pub(crate) fn check(self) -> Outcome {
        match self.failure.lock().unwrap_or_else(PoisonError::into_inner).take() {
            Some(error) => Err(unwritable(&self.path, error).into()),
            None => Ok(()),
        }
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn a_write_that_fails_on_the_way_is_reported_with_the_files_name() {
        let (mut file, written) = OutFile::create(Path::new("/dev/full")).unwrap();
        file.write_all(&[b'x'; 100_000]).unwrap_err();
        _ = file.flush();
        let error = written.check().unwrap_err().to_string();
        assert!(error.starts_with("can't write /dev/full: No space left"), "{error}");
    }
}
