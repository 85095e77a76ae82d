//! Writes a received file to disk: in large pieces outside the runtime's threads, and under its final name only when it
//! is complete.
//!
//! Incomplete files are removed when the command ends: when their [`Download`] is dropped, or by [`remove_parts`] if
//! the process exits without dropping it.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::task::spawn_blocking;

use crate::hq::CHUNK;

/// Receives a file's bytes. Dropped before [`Download::complete`], it leaves nothing behind.
pub(crate) struct Download {
    target: PathBuf,
    /// `None` before the first bytes are written.
    part: Option<Part>,
    pieces: Vec<Bytes>,
    held: usize,
}

impl Download {
    pub(crate) fn new(target: &Path) -> Self {
        Self { target: target.to_owned(), part: None, pieces: Vec::new(), held: 0 }
    }

    /// Appends bytes.
    pub(crate) async fn push(&mut self, piece: Bytes) -> io::Result<()> {
        self.held += piece.len();
        self.pieces.push(piece);
        if self.held >= CHUNK { self.write().await } else { Ok(()) }
    }

    /// Completes the file.
    pub(crate) async fn complete(mut self) -> io::Result<()> {
        self.write().await?;
        match &self.part {
            Some(part) => std::fs::rename(&part.path, &self.target),
            None => Ok(()),
        }
    }

    async fn write(&mut self) -> io::Result<()> {
        let (part, pieces, target) = (self.part.take(), std::mem::take(&mut self.pieces), self.target.clone());
        self.held = 0;
        let written = spawn_blocking(move || {
            let mut part = part.map_or_else(|| Part::create(&target), Ok)?;
            pieces.iter().try_for_each(|piece| part.file.write_all(piece))?;
            io::Result::Ok(part)
        });
        self.part = Some(written.await.map_err(io::Error::other)??);
        Ok(())
    }
}

/// Temporary files; `None` once the command is ending and must not create another.
static PARTS: Mutex<Option<BTreeSet<PathBuf>>> = Mutex::new(Some(BTreeSet::new()));

fn parts() -> MutexGuard<'static, Option<BTreeSet<PathBuf>>> {
    PARTS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Removes all incomplete files, and lets none be created from now on. For a process that exits without dropping anything.
pub(crate) fn remove_parts() {
    for path in parts().take().into_iter().flatten() {
        _ = std::fs::remove_file(path);
    }
}

/// A temporary file, which is removed when dropped, unless it was renamed.
struct Part {
    file: File,
    path: PathBuf,
}

impl Part {
    fn create(target: &Path) -> io::Result<Self> {
        let name = target.file_name().unwrap_or_default().to_string_lossy();
        let path = target.with_file_name(format!(".{name}.{}.part", std::process::id()));
        // Registered and created under one lock: `remove_parts` sees all files that exist.
        let mut parts = parts();
        let parts = parts.as_mut().ok_or_else(|| io::Error::from(io::ErrorKind::Interrupted))?;
        let file = File::options().write(true).create_new(true).open(&path)?;
        parts.insert(path.clone());
        Ok(Self { file, path })
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        _ = std::fs::remove_file(&self.path);
        if let Some(parts) = parts().as_mut() {
            parts.remove(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn directory(name: &str) -> PathBuf {
        let directory = std::env::temp_dir().join(format!("tcpls-download-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        directory
    }

    fn names(directory: &Path) -> usize {
        std::fs::read_dir(directory).unwrap().count()
    }

    #[tokio::test]
    async fn a_complete_file_gets_its_name() {
        let directory = directory("complete");
        let mut download = Download::new(&directory.join("file"));
        for _ in 0..3 {
            download.push(vec![7; CHUNK / 2 + 1].into()).await.unwrap();
        }
        download.complete().await.unwrap();
        assert_eq!(std::fs::read(directory.join("file")).unwrap(), vec![7; 3 * (CHUNK / 2 + 1)]);
        assert_eq!(names(&directory), 1);
        Download::new(&directory.join("empty")).complete().await.unwrap();
        assert_eq!(std::fs::read(directory.join("empty")).unwrap(), b"");
        std::fs::remove_dir_all(directory).unwrap();
    }

    #[tokio::test]
    async fn an_incomplete_file_leaves_nothing_behind() {
        let directory = directory("incomplete");
        let mut download = Download::new(&directory.join("file"));
        download.push(vec![7; CHUNK].into()).await.unwrap();
        assert_eq!(names(&directory), 1);
        drop(download);
        assert_eq!(names(&directory), 0);
        std::fs::remove_dir_all(directory).unwrap();
    }
}
