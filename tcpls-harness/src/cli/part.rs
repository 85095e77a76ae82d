//! Incomplete files: written under a temporary name, renamed when they are complete.
//!
//! When a download ends before that, what arrived is kept beside the file as `NAME.tcpls-part`, with its length and its
//! entity tag in `NAME.tcpls-part.etag`, if the server has given the file a strong one; otherwise it is removed. That
//! happens when its [`Part`] is dropped, or in [`settle_parts`] if the process exits without dropping it.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::download::Target;
#[cfg(unix)]
use crate::file_id::FileId;
use crate::files::Have;
use crate::net::Runtime;

/// What becomes of a temporary file.
#[derive(Clone, Debug)]
struct Fate {
    target: PathBuf,
    /// With it, the file is kept.
    etag: Option<String>,
}

/// Temporary files; `None` once the command is ending and must not create another.
static PARTS: Mutex<Option<BTreeMap<PathBuf, Fate>>> = Mutex::new(Some(BTreeMap::new()));

fn parts() -> MutexGuard<'static, Option<BTreeMap<PathBuf, Fate>>> {
    PARTS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Keeps or removes all incomplete files, and lets none be created from now on. For a process that exits without dropping
/// anything.
pub(crate) fn settle_parts() {
    for (path, fate) in parts().take().into_iter().flatten() {
        fate.settle(&path);
    }
}

impl Fate {
    fn settle(&self, path: &Path) {
        if self.keep(path).is_err() {
            _ = std::fs::remove_file(path);
        }
    }

    fn keep(&self, path: &Path) -> io::Result<()> {
        let etag = self.etag.as_ref().ok_or(io::ErrorKind::NotFound)?;
        let len = path.metadata()?.len();
        if len == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let [kept, tag] = kept(&self.target);
        // A link that another user has put there is not followed.
        _ = std::fs::remove_file(&tag);
        let mut file = File::options().write(true).create_new(true).open(&tag)?;
        // The length shows whether both belong together.
        let written = write!(file, "{len}\n{etag}\n").and_then(|()| std::fs::rename(path, kept));
        written.inspect_err(|_| _ = std::fs::remove_file(tag))
    }
}

/// The names of an incomplete file that is kept, and of its entity tag.
fn kept(target: &Path) -> [PathBuf; 2] {
    [".tcpls-part", ".tcpls-part.etag"].map(|end| {
        let mut name = OsString::from(target);
        name.push(end);
        name.into()
    })
}

/// A file that is being written.
pub(super) struct Part {
    pub(super) file: File,
    /// Its temporary name; `None`: it is standard output, or something that is no file, such as `/dev/null`.
    path: Option<PathBuf>,
}

impl Part {
    /// Creates the file for what is received from now on.
    pub(super) fn create(target: &Target) -> io::Result<Self> {
        match target {
            Target::File(target) => Self::create_file(target, File::options().write(true)),
            Target::Stdout => Ok(Self { file: stdout()?, path: None }),
        }
    }

    /// Creates a file that only this user can read, whatever file of this name there was before. Where a link leads, the
    /// file is replaced; that of standard output is continued.
    pub(super) fn create_private(target: &Path) -> io::Result<Self> {
        let mut options = File::options();
        options.write(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let is_file = target.metadata().is_ok_and(|metadata| metadata.is_file());
        #[cfg(unix)]
        if is_file && is_stdout(target) {
            return Ok(Self { file: stdout()?, path: None });
        }
        let target = if is_file { target.canonicalize()? } else { target.to_owned() };
        Self::create_file(&target, &mut options)
    }

    fn create_file(target: &Path, options: &mut OpenOptions) -> io::Result<Self> {
        match target.metadata() {
            Ok(metadata) if metadata.is_dir() => return Err(io::ErrorKind::IsADirectory.into()),
            Ok(metadata) if !metadata.is_file() => {
                return Ok(Self { file: options.open(target)?, path: None });
            }
            _ => {}
        }
        Self::register(target, |path| options.create_new(true).open(path))
    }

    /// Takes what an earlier run has left: other runs do not see it any more.
    pub(super) fn adopt(target: &Path) -> io::Result<Option<(Self, Have)>> {
        let [kept, tag] = kept(target);
        let Ok(text) = std::fs::read_to_string(&tag) else { return Ok(None) };
        let mut lines = text.lines();
        let [len, etag] = [lines.next(), lines.next()].map(Option::unwrap_or_default);
        let taken = Self::register(target, |path| {
            std::fs::rename(&kept, path)?;
            // A link leads to a file that no run has left.
            match path.symlink_metadata()?.is_file() {
                true => File::options().write(true).open(path),
                false => std::fs::remove_file(path).and(Err(io::ErrorKind::NotFound.into())),
            }
        });
        let mut part = match taken {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            taken => taken?,
        };
        _ = std::fs::remove_file(tag); // without its part it has no effect
        let is_tag = etag.len() > 1 && etag.starts_with('"') && etag.bytes().all(|byte| byte.is_ascii_graphic());
        let end = part.file.seek(SeekFrom::End(0))?;
        if !is_tag || len.parse() != Ok(end) {
            return Ok(None);
        }
        part.set_etag(Some(etag.to_owned()));
        Ok(Some((part, Have { len: end, etag: etag.to_owned() })))
    }

    /// Registered and opened under one lock: [`settle_parts`] sees all files that exist.
    fn register(target: &Path, open: impl FnOnce(&Path) -> io::Result<File>) -> io::Result<Self> {
        let name = target.file_name().unwrap_or_default().to_string_lossy();
        // Not the number of the process: in containers it is often the same, and so would be what one leaves that was killed.
        let path = target.with_file_name(format!(".{name}.{:016x}.part", Runtime::tokio().random()));
        let mut parts = parts();
        let parts = parts.as_mut().ok_or_else(|| io::Error::from(io::ErrorKind::Interrupted))?;
        let file = open(&path)?;
        parts.insert(path.clone(), Fate { target: target.to_owned(), etag: None });
        Ok(Self { file, path: Some(path) })
    }

    /// With an entity tag, the file is kept if it stays incomplete.
    pub(super) fn set_etag(&self, etag: Option<String>) {
        if let (Some(path), Some(parts)) = (&self.path, parts().as_mut())
            && let Some(fate) = parts.get_mut(path)
        {
            fate.etag = etag;
        }
    }

    /// Drops what was written.
    pub(super) fn empty(&mut self) -> io::Result<()> {
        if self.path.is_none() {
            return Err(io::Error::other("the file on the server has changed, and a part of it was written already"));
        }
        self.file.set_len(0)?;
        self.file.rewind()
    }

    /// Gives it its name.
    pub(super) fn complete(mut self) -> io::Result<()> {
        let Some(path) = self.path.take() else { return Ok(()) };
        let fate = parts().as_mut().and_then(|parts| parts.remove(&path));
        let fate = fate.ok_or_else(|| io::Error::from(io::ErrorKind::Interrupted))?;
        std::fs::rename(&path, &fate.target).inspect_err(|_| _ = std::fs::remove_file(&path))?;
        // What an earlier run has left is of no use now.
        let [kept, tag] = kept(&fate.target);
        if std::fs::remove_file(tag).is_ok() {
            _ = std::fs::remove_file(kept);
        }
        Ok(())
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        let fate = self.path.as_ref().and_then(|path| parts().as_mut()?.remove(path));
        if let (Some(path), Some(fate)) = (&self.path, fate) {
            fate.settle(path);
        }
    }
}

/// Whether this is the file that standard output goes to, for example as `/dev/stdout`.
#[cfg(unix)]
fn is_stdout(path: &Path) -> bool {
    let out = stdout().and_then(|file| file.metadata()).ok();
    let file = path.metadata().ok();
    file.zip(out).is_some_and(|(file, out)| FileId::of(&file) == FileId::of(&out))
}

/// Standard output, without its buffer.
fn stdout() -> io::Result<File> {
    #[cfg(unix)]
    return Ok(std::os::fd::AsFd::as_fd(&io::stdout()).try_clone_to_owned()?.into());
    #[cfg(windows)]
    return Ok(std::os::windows::io::AsHandle::as_handle(&io::stdout()).try_clone_to_owned()?.into());
    #[cfg(not(any(unix, windows)))]
    return Err(io::ErrorKind::Unsupported.into());
}
