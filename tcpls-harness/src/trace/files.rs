//! Files of many sessions in a directory, for this user alone. One is open at a time: the descriptors of a server are for its
//! clients. A thread of `qlog` and one of `ring` write them.

use std::collections::BTreeMap;
use std::fs::{DirBuilder, File, Metadata, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::file_id::FileId;

/// Identifies a file of one [`Store`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct FileNumber(pub(super) u64);

/// Where a thread writes.
pub(super) trait Store: Send {
    /// Appends to a file, which is created if `name` is given.
    ///
    /// # Errors
    /// The bytes, or some of them, are not written.
    fn append(&mut self, file: FileNumber, name: Option<&str>, parts: &[&[u8]]) -> io::Result<()>;

    /// The file gets no more bytes.
    fn close(&mut self, file: FileNumber);
}

pub(super) struct Files {
    directory: PathBuf,
    /// The one that was written last.
    open: Option<(FileNumber, File)>,
    /// Those that have not ended.
    known: BTreeMap<FileNumber, Known>,
}

/// A file that was created.
struct Known {
    path: PathBuf,
    id: Option<FileId>,
}

impl Files {
    /// Creates the directory for this user alone, if it does not exist.
    pub(super) fn new(directory: PathBuf) -> io::Result<Self> {
        let mut builder = DirBuilder::new();
        builder.recursive(true);
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        builder.create(&directory)?;
        Ok(Self { directory, open: None, known: BTreeMap::new() })
    }

    /// Creates a file for this user alone, or opens it again.
    fn open(&mut self, file: FileNumber, name: Option<&str>) -> io::Result<File> {
        let Some(name) = name else { return self.known.get(&file).ok_or(io::ErrorKind::NotFound)?.open() };
        let path = self.directory.join(name);
        let mut options = OpenOptions::new();
        // What has this name already, a link too, is not written to.
        options.append(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let opened = options.open(&path).map_err(|error| with_path(&path, &error))?;
        let id = FileId::of(&opened.metadata()?);
        self.known.insert(file, Known { path, id });
        Ok(opened)
    }
}

impl Known {
    /// Opens the file again, unless another user of the directory has put another there.
    fn open(&self) -> io::Result<File> {
        let check = |metadata: io::Result<Metadata>| match metadata? {
            metadata if FileId::of(&metadata) == self.id => Ok(()),
            _ => Err(io::Error::other("another file was put in its place")),
        };
        // A pipe in its place would keep the thread waiting.
        let checked = check(self.path.symlink_metadata());
        let opened = checked.and_then(|()| OpenOptions::new().append(true).open(&self.path));
        let opened = opened.and_then(|file| check(file.metadata()).map(|()| file));
        opened.map_err(|error| with_path(&self.path, &error))
    }
}

impl Store for Files {
    fn append(&mut self, file: FileNumber, name: Option<&str>, parts: &[&[u8]]) -> io::Result<()> {
        let mut opened = match self.open.take() {
            Some((open, opened)) if open == file => opened,
            other => {
                drop(other);
                self.open(file, name)?
            }
        };
        parts.iter().try_for_each(|part| opened.write_all(part))?;
        self.open = Some((file, opened));
        Ok(())
    }

    fn close(&mut self, file: FileNumber) {
        self.open.take_if(|(open, _)| *open == file);
        self.known.remove(&file);
    }
}

fn with_path(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}
