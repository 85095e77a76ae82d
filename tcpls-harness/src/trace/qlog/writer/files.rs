//! Files in a directory, of which a bounded number is open.

use std::collections::{BTreeMap, VecDeque};
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::PathBuf;

use super::queue::{FileId, Store};

/// Files that are open at the same time; the one that was written first is closed for another.
const MAX_OPEN: usize = 64;

pub(super) struct Files {
    directory: PathBuf,
    open: VecDeque<(FileId, File)>,
    /// Those that have not ended.
    names: BTreeMap<FileId, String>,
}

impl Files {
    /// Creates the directory.
    pub(super) fn new(directory: PathBuf) -> io::Result<Self> {
        std::fs::create_dir_all(&directory)?;
        Ok(Self { directory, open: VecDeque::new(), names: BTreeMap::new() })
    }

    /// Opens a file: a new one only if there is none of that name, for this user alone.
    fn open(&self, name: &str, is_new: bool) -> io::Result<File> {
        let mut options = OpenOptions::new();
        options.append(true).create_new(is_new);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let path = self.directory.join(name);
        options.open(&path).map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))
    }
}

impl Store for Files {
    fn append(&mut self, file: FileId, name: Option<&str>, bytes: &[u8]) -> io::Result<()> {
        let at = match self.open.iter().position(|(open, _)| *open == file) {
            Some(at) => at,
            None => {
                if let Some(name) = name {
                    self.names.insert(file, name.to_owned());
                }
                let known = self.names.get(&file).ok_or(io::ErrorKind::NotFound)?;
                let opened = self.open(known, name.is_some())?;
                if self.open.len() == MAX_OPEN {
                    self.open.pop_front();
                }
                self.open.push_back((file, opened));
                self.open.len() - 1
            }
        };
        self.open[at].1.write_all(bytes)
    }

    fn close(&mut self, file: FileId) {
        self.open.retain(|(open, _)| *open != file);
        self.names.remove(&file);
    }
}
