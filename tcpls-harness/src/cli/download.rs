//! Writes a received file to disk: in large pieces outside the runtime's threads, and under its final name only when it
//! is complete ([`Part`]).

use std::fs::File;
use std::io::{self, IoSlice, Write};
use std::path::PathBuf;

use bytes::Bytes;
use tokio::task::{JoinHandle, spawn_blocking};

use super::part::Part;
use crate::files::{CHUNK, Have};

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

/// Where a file is written to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    File(PathBuf),
    Stdout,
}

/// Receives a file's bytes.
///
/// While one batch is written, the next one is received: it holds two batches at most, and the piece that completes the
/// second.
pub(crate) struct Download {
    target: Target,
    /// The file on disk, and the write that is under way. It is not created before the first write.
    part: Option<JoinHandle<io::Result<Part>>>,
    /// The strong entity tag of the file on the server.
    etag: Option<String>,
    /// Bytes of the file so far.
    len: u64,
    batch: usize,
    pieces: Vec<Bytes>,
    /// Small ones behind these.
    small: Vec<u8>,
    held: usize,
}

impl Download {
    /// One of `files` downloads.
    pub(crate) fn new(target: &Target, files: usize) -> Self {
        let batch = match target {
            Target::File(_) => (TOGETHER / files.max(1)).clamp(MIN_BATCH, MAX_BATCH),
            Target::Stdout => MIN_BATCH, // its reader waits
        };
        let (part, etag, pieces, small) = Default::default();
        Self { target: target.clone(), part, etag, len: 0, batch, pieces, small, held: 0 }
    }

    /// Continues with what an earlier run has left, if there is something.
    pub(crate) async fn adopt(&mut self) -> io::Result<()> {
        let Target::File(target) = self.target.clone() else { return Ok(()) };
        if let Some((part, have)) = spawn_blocking(move || Part::adopt(&target)).await.map_err(io::Error::other)?? {
            (self.len, self.etag) = (have.len, Some(have.etag));
            self.part = Some(spawn_blocking(|| Ok(part)));
        }
        Ok(())
    }

    /// Returns the number of bytes so far.
    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    /// Returns what a request for the rest needs.
    pub(crate) fn have(&self) -> Option<Have> {
        let etag = self.etag.clone().filter(|_| self.len > 0)?;
        Some(Have { len: self.len, etag })
    }

    /// Bytes follow that begin at `start`: behind those that are there, or at 0, which drops them.
    pub(crate) async fn begin(&mut self, start: u64, etag: Option<&str>) -> io::Result<()> {
        if start != self.len {
            let part = self.settle().await?;
            (self.pieces, self.small, self.held, self.len) = (Vec::new(), Vec::new(), 0, 0);
            if let Some(mut part) = part {
                self.part = Some(spawn_blocking(move || part.empty().map(|()| part)));
            }
        }
        self.etag = etag.map(str::to_owned);
        Ok(())
    }

    /// Appends bytes. An error may be that of an earlier write.
    pub(crate) async fn push(&mut self, piece: Bytes) -> io::Result<()> {
        self.held += piece.len();
        self.len += piece.len() as u64;
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
            Some(part) => part.complete(),
            None => Ok(()),
        }
    }

    /// Writes what arrived, and keeps or removes it now.
    pub(crate) async fn end(mut self) {
        // After a write that failed, there is no file, and bytes are missing before those that are held: in a file of
        // their own, they would be continued as its begin.
        if self.part.is_some() || self.held as u64 == self.len {
            // What the writes return does not matter: the file is as long as what was written.
            _ = self.write().await;
        }
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
        let (pieces, target, etag) = (std::mem::take(&mut self.pieces), self.target.clone(), self.etag.clone());
        self.held = 0;
        self.part = Some(spawn_blocking(move || {
            let mut part = part.map_or_else(|| Part::create(&target), Ok)?;
            part.set_etag(etag);
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

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn directory(name: &str) -> PathBuf {
        let directory = std::env::temp_dir().join(format!("tcpls-download-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        directory
    }

    fn file(directory: &Path) -> Target {
        Target::File(directory.join("file"))
    }

    fn names(directory: &Path) -> usize {
        std::fs::read_dir(directory).unwrap().count()
    }

    #[tokio::test]
    async fn a_complete_file_gets_its_name() {
        let directory = directory("complete");
        let mut download = Download::new(&file(&directory), 1);
        let mut expected = Vec::new();
        for number in 0..200u8 {
            let piece = vec![number; 100 * usize::from(number) + usize::from(number % 3) * MAX_BATCH / 7];
            expected.extend_from_slice(&piece);
            download.push(piece.into()).await.unwrap();
        }
        download.complete().await.unwrap();
        assert!(std::fs::read(directory.join("file")).unwrap() == expected);
        assert_eq!(names(&directory), 1);
        // What an earlier run left of it goes.
        std::fs::write(directory.join("empty.tcpls-part"), "four").unwrap();
        std::fs::write(directory.join("empty.tcpls-part.etag"), "4\n\"a\"\n").unwrap();
        Download::new(&Target::File(directory.join("empty")), 1).complete().await.unwrap();
        assert_eq!(names(&directory), 2);
        assert_eq!(std::fs::read(directory.join("empty")).unwrap(), b"");
        std::fs::remove_dir_all(directory).unwrap();
    }

    #[tokio::test]
    async fn small_pieces_are_put_together() {
        let directory = directory("small");
        let mut download = Download::new(&file(&directory), 1);
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
    async fn an_incomplete_file_without_entity_tag_leaves_nothing_behind() {
        let directory = directory("incomplete");
        let mut download = Download::new(&file(&directory), 1);
        download.push(vec![7; MAX_BATCH].into()).await.unwrap();
        let part = download.settle().await.unwrap();
        assert_eq!(names(&directory), 1);
        drop((download, part));
        assert_eq!(names(&directory), 0);
        let mut download = Download::new(&file(&directory), 1);
        download.push(vec![7; MAX_BATCH].into()).await.unwrap();
        download.end().await;
        assert_eq!(names(&directory), 0, "it waited for the write");
        std::fs::remove_dir_all(directory).unwrap();
    }

    #[tokio::test]
    async fn an_incomplete_file_is_kept_with_its_entity_tag_and_continued() {
        let directory = directory("kept");
        let content: Vec<u8> = (0..300_000).map(|number| (number / 7) as u8).collect();
        let (first, second) = content.split_at(100_000);
        let mut download = Download::new(&file(&directory), 1);
        download.begin(0, Some("\"a\"")).await.unwrap();
        download.push(Bytes::copy_from_slice(first)).await.unwrap();
        download.end().await;
        assert!(std::fs::read(directory.join("file.tcpls-part")).unwrap() == first);

        let mut download = Download::new(&file(&directory), 1);
        download.adopt().await.unwrap();
        assert_eq!(download.have(), Some(Have { len: 100_000, etag: "\"a\"".to_owned() }));
        assert!(!directory.join("file.tcpls-part").exists(), "another run does not see it");
        download.begin(100_000, Some("\"a\"")).await.unwrap();
        download.push(Bytes::copy_from_slice(second)).await.unwrap();
        download.complete().await.unwrap();
        assert!(std::fs::read(directory.join("file")).unwrap() == content);
        assert_eq!(names(&directory), 1);
        std::fs::remove_dir_all(directory).unwrap();
    }

    #[tokio::test]
    async fn a_kept_file_that_is_not_the_one_of_its_entity_tag_is_not_continued() {
        let directory = directory("other");
        for (len, etag) in [("5", "\"a\""), ("4", "a"), ("4", "\"a\u{7}\""), ("", "")] {
            std::fs::write(directory.join("file.tcpls-part"), "four").unwrap();
            std::fs::write(directory.join("file.tcpls-part.etag"), format!("{len}\n{etag}\n")).unwrap();
            let mut download = Download::new(&file(&directory), 1);
            download.adopt().await.unwrap();
            assert_eq!((download.have(), names(&directory)), (None, 0), "{etag}");
        }
        std::fs::remove_dir_all(directory).unwrap();
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn a_link_in_place_of_a_kept_file_is_not_followed() {
        let directory = directory("link");
        let (kept, other) = (directory.join("file.tcpls-part"), directory.join("other"));
        std::fs::write(&other, "four").unwrap();
        std::os::unix::fs::symlink(&other, &kept).unwrap();
        std::fs::write(directory.join("file.tcpls-part.etag"), "4\n\"a\"\n").unwrap();
        let mut download = Download::new(&file(&directory), 1);
        download.adopt().await.unwrap();
        assert_eq!(download.have(), None);
        download.push(vec![7; 10].into()).await.unwrap();
        download.complete().await.unwrap();
        assert_eq!(std::fs::read(&other).unwrap(), b"four");
        assert_eq!(std::fs::read(directory.join("file")).unwrap(), [7; 10]);
        std::fs::remove_dir_all(directory).unwrap();
    }

    #[tokio::test]
    async fn another_state_of_the_file_replaces_what_arrived_of_the_first() {
        let directory = directory("replaced");
        let mut download = Download::new(&file(&directory), 1);
        download.begin(0, Some("\"a\"")).await.unwrap();
        download.push(vec![7; MAX_BATCH].into()).await.unwrap();
        download.push(vec![7; 10].into()).await.unwrap();
        download.begin(0, Some("\"b\"")).await.unwrap();
        assert_eq!(download.have(), None);
        download.push(vec![8; 20].into()).await.unwrap();
        assert_eq!(download.have(), Some(Have { len: 20, etag: "\"b\"".to_owned() }));
        download.complete().await.unwrap();
        assert_eq!(std::fs::read(directory.join("file")).unwrap(), [8; 20]);
        std::fs::remove_dir_all(directory).unwrap();
    }

    #[tokio::test]
    async fn bytes_behind_a_write_that_failed_are_not_kept_as_the_begin_of_the_file() {
        let directory = directory("gap");
        let later = directory.join("later");
        let mut download = Download::new(&file(&later), 1);
        download.begin(0, Some("\"a\"")).await.unwrap();
        download.push(vec![7; MAX_BATCH].into()).await.unwrap();
        download.push(vec![8; MAX_BATCH].into()).await.unwrap_err();
        // As on a disk that has room again.
        std::fs::create_dir(&later).unwrap();
        download.end().await;
        assert_eq!(names(&later), 0);
        std::fs::remove_dir_all(directory).unwrap();
    }

    #[tokio::test]
    async fn downloads_hold_8_mib_together_or_half_a_chunk_each() {
        let batch = |files| Download::new(&Target::File("file".into()), files).batch;
        assert_eq!([1, 4, 8, 64, 200].map(batch), [MAX_BATCH, MAX_BATCH, MAX_BATCH / 2, MIN_BATCH, MIN_BATCH]);
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn what_is_no_file_is_written_to_and_not_replaced() {
        let mut download = Download::new(&Target::File("/dev/null".into()), 1);
        download.push(vec![7; MAX_BATCH].into()).await.unwrap();
        download.complete().await.unwrap();
        assert!(!Path::new("/dev/null").is_file());
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn a_write_that_fails_is_reported_by_a_later_call() {
        let mut download = Download::new(&Target::File("/proc/file".into()), 1);
        download.push(vec![7; MAX_BATCH].into()).await.unwrap();
        download.complete().await.unwrap_err();
    }
}
