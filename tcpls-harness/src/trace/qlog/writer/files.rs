//! Files in a directory, of which one is open at a time: the descriptors of a server are for its clients.

use std::collections::BTreeMap;
use std::fs::{DirBuilder, File, Metadata, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::queue::{FileId, Store};

pub(super) struct Files {
    directory: PathBuf,
    /// The one that was written last.
    open: Option<(FileId, File)>,
    /// Those that have not ended.
    known: BTreeMap<FileId, Known>,
}

/// A file that was created.
struct Known {
    path: PathBuf,
    identity: Identity,
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
    fn open(&mut self, file: FileId, name: Option<&str>) -> io::Result<File> {
        let Some(name) = name else { return self.known.get(&file).ok_or(io::ErrorKind::NotFound)?.open() };
        let path = self.directory.join(name);
        let mut options = OpenOptions::new();
        // What has this name already, a link too, is not written to.
        options.append(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let opened = options.open(&path).map_err(|error| with_path(&path, &error))?;
        let identity = identity(&opened.metadata()?);
        self.known.insert(file, Known { path, identity });
        Ok(opened)
    }
}

impl Known {
    /// Opens the file again, unless another user of the directory has put another there.
    fn open(&self) -> io::Result<File> {
        let check = |metadata: io::Result<Metadata>| match metadata? {
            metadata if identity(&metadata) == self.identity => Ok(()),
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
    fn append(&mut self, file: FileId, name: Option<&str>, bytes: &[u8]) -> io::Result<()> {
        let mut opened = match self.open.take() {
            Some((open, opened)) if open == file => opened,
            other => {
                drop(other);
                self.open(file, name)?
            }
        };
        opened.write_all(bytes)?;
        self.open = Some((file, opened));
        Ok(())
    }

    fn close(&mut self, file: FileId) {
        self.open.take_if(|(open, _)| *open == file);
        self.known.remove(&file);
    }
}

fn with_path(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

/// What distinguishes a file from another of the same name: its device and inode.
#[cfg(unix)]
type Identity = (u64, u64);

#[cfg(unix)]
fn identity(metadata: &Metadata) -> Identity {
    use std::os::unix::fs::MetadataExt;
    (metadata.dev(), metadata.ino())
}

#[cfg(not(unix))]
type Identity = ();

#[cfg(not(unix))]
fn identity(_metadata: &Metadata) -> Identity {}
