//! Writes a received file to disk: in large pieces outside the runtime's threads, and under its final name only when it
//! is complete.
//!
//! Incomplete files are removed when the command ends: when their [`Download`] is dropped, or by [`remove_parts`] if
//! the process exits without dropping it.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, IoSlice, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::task::{JoinHandle, spawn_blocking};

use crate::files::CHUNK;

/// What the downloads of a command hold for one write, together.
const TOGETHER: usize = 8 * 1024 * 1024;
/// What one download holds for a write, as long as that is not too much in all: each write costs a switch of threads.
const MAX_BATCH: usize = 2 * 1024 * 1024;
/// The same for one of many downloads.
const MIN_BATCH: usize = CHUNK / 2;
/// Pieces shorter than this are copied into one: each has memory of its own for its place in the list and in the call.
const SMALL: usize = 4 * 1024;
/// How much of them is put together.
const BLOCK: usize = 64 * 1024;

/// Receives a file's bytes. Dropped before [`Download::complete`], it leaves nothing behind once a write that is under
/// way has ended.
///
/// While one batch is written, the next one is received: it holds two batches at most, and the piece that completes the
/// second.
pub(crate) struct Download {
    target: PathBuf,
    /// The file on disk, and the write that is under way. It is not created before the first write.
    part: Option<JoinHandle<io::Result<Part>>>,
    batch: usize,
    pieces: Vec<Bytes>,
    /// Small ones behind these.
    small: Vec<u8>,
    held: usize,
}

impl Download {
    /// One of `files` downloads.
    pub(crate) fn new(target: &Path, files: usize) -> Self {
        let batch = (TOGETHER / files.max(1)).clamp(MIN_BATCH, MAX_BATCH);
        Self { target: target.to_owned(), part: None, batch, pieces: Vec::new(), small: Vec::new(), held: 0 }
    }

    /// Appends bytes. An error may be that of an earlier write.
    pub(crate) async fn push(&mut self, piece: Bytes) -> io::Result<()> {
        self.held += piece.len();
        let is_small = piece.len() < SMALL;
        if !is_small || self.small.len() + piece.len() > BLOCK {
            self.end_block();
        }
        if is_small {
            self.small.extend_from_slice(&piece);
        } else {
            self.pieces.push(piece);
        }
        if self.held >= self.batch { self.write().await } else { Ok(()) }
    }

    /// Completes the file.
    pub(crate) async fn complete(mut self) -> io::Result<()> {
        self.write().await?;
        match self.settle().await? {
            Some(part) => std::fs::rename(&part.path, &self.target),
            None => Ok(()),
        }
    }

    /// Leaves nothing behind, now: waits for a write that is under way.
    pub(crate) async fn discard(mut self) {
        // What the write returns does not matter: its file goes with it.
        _ = self.settle().await;
    }

    fn end_block(&mut self) {
        if !self.small.is_empty() {
            self.pieces.push(std::mem::take(&mut self.small).into());
        }
    }

    /// Begins to write what was received, once the write before has ended.
    async fn write(&mut self) -> io::Result<()> {
        let part = self.settle().await?;
        self.end_block();
        let (pieces, target) = (std::mem::take(&mut self.pieces), self.target.clone());
        self.held = 0;
        self.part = Some(spawn_blocking(move || {
            let mut part = part.map_or_else(|| Part::create(&target), Ok)?;
            write_all(&mut part.file, &pieces)?;
            Ok(part)
        }));
        Ok(())
    }

    /// Waits until the write that is under way has ended, and takes the file.
    async fn settle(&mut self) -> io::Result<Option<Part>> {
        match self.part.take() {
            Some(writing) => writing.await.map_err(io::Error::other)?.map(Some),
            None => Ok(None),
        }
    }
}

/// Writes all pieces, with as few calls as the system needs.
fn write_all(file: &mut File, pieces: &[Bytes]) -> io::Result<()> {
    let mut slices: Vec<IoSlice<'_>> = pieces.iter().map(|piece| IoSlice::new(piece)).collect();
    let mut slices = slices.as_mut_slice();
    // Leaves out empty pieces at the front.
    IoSlice::advance_slices(&mut slices, 0);
    while !slices.is_empty() {
        match file.write_vectored(slices) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => IoSlice::advance_slices(&mut slices, written),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
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
        let mut download = Download::new(&directory.join("file"), 1);
        let mut expected = Vec::new();
        for number in 0..200u8 {
            let piece = vec![number; 100 * usize::from(number) + usize::from(number % 3) * MAX_BATCH / 7];
            expected.extend_from_slice(&piece);
            download.push(piece.into()).await.unwrap();
        }
        download.complete().await.unwrap();
        assert!(std::fs::read(directory.join("file")).unwrap() == expected);
        assert_eq!(names(&directory), 1);
        Download::new(&directory.join("empty"), 1).complete().await.unwrap();
        assert_eq!(std::fs::read(directory.join("empty")).unwrap(), b"");
        std::fs::remove_dir_all(directory).unwrap();
    }

    #[tokio::test]
    async fn small_pieces_are_put_together() {
        let directory = directory("small");
        let mut download = Download::new(&directory.join("file"), 1);
        let content: Vec<u8> = (0..MIN_BATCH + 3 * SMALL).map(|number| (number / 7) as u8).collect();
        let (large, small) = content.split_at(2 * SMALL);
        download.push(Bytes::copy_from_slice(large)).await.unwrap();
        for byte in small {
            download.push(Bytes::copy_from_slice(&[*byte])).await.unwrap();
        }
        assert!(download.pieces.len() <= 1 + content.len() / BLOCK, "{} pieces", download.pieces.len());
        download.push(Bytes::copy_from_slice(large)).await.unwrap();
        download.complete().await.unwrap();
        assert!(std::fs::read(directory.join("file")).unwrap() == [&content, large].concat());
        std::fs::remove_dir_all(directory).unwrap();
    }

    #[tokio::test]
    async fn an_incomplete_file_leaves_nothing_behind() {
        let directory = directory("incomplete");
        let mut download = Download::new(&directory.join("file"), 1);
        download.push(vec![7; MAX_BATCH].into()).await.unwrap();
        let part = download.settle().await.unwrap();
        assert_eq!(names(&directory), 1);
        drop((download, part));
        assert_eq!(names(&directory), 0);
        let mut download = Download::new(&directory.join("file"), 1);
        download.push(vec![7; MAX_BATCH].into()).await.unwrap();
        download.discard().await;
        assert_eq!(names(&directory), 0, "it waited for the write");
        std::fs::remove_dir_all(directory).unwrap();
    }

    #[tokio::test]
    async fn downloads_hold_8_mib_together_or_half_a_chunk_each() {
        let batch = |files| Download::new(Path::new("file"), files).batch;
        assert_eq!([1, 4, 8, 64, 200].map(batch), [MAX_BATCH, MAX_BATCH, MAX_BATCH / 2, MIN_BATCH, MIN_BATCH]);
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn a_write_that_fails_is_reported_by_a_later_call() {
        let mut download = Download::new(Path::new("/proc/file"), 1);
        download.push(vec![7; MAX_BATCH].into()).await.unwrap();
        download.complete().await.unwrap_err();
    }
}
