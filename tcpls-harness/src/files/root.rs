//! The directory of a file server: which files may be served, and how many of them are open.

use std::fs::{File, Metadata};
use std::io;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
#[cfg(not(unix))]
use std::time::UNIX_EPOCH;
use std::time::{Duration, SystemTime};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::Refusal;
use super::condition::{Validators, full_seconds};
use super::fair::{FairPermit, FairSemaphore, Share};
use crate::file_id::FileId;
use crate::net::Session;
use crate::net::descriptors::are_used_up;

/// The number of sessions that together may open all files.
const SESSIONS: usize = 32;
/// The most requests of one session that are incomplete at the same time: their bytes are in no account.
const MAX_HEADS: usize = 64;
/// What a path that ends in a slash stands for.
const INDEX: &str = "index.html";

/// Limits of a file server.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Files that are open at the same time. A file is open only while pieces of it are read: an answer that waits for its
    /// client has none open. Clients take turns at opening more, however many requests each has.
    pub open_files: usize,
    /// The same, of one session.
    pub open_files_per_session: usize,
    /// How long a client may read nothing of an answer, and how long a request may take.
    pub patience: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self::of(512)
    }
}

impl Limits {
    /// The limits of a server that may have `open_files` files open: one session has at most one in 32 of them.
    pub fn of(open_files: usize) -> Self {
        let open_files_per_session = (open_files / SESSIONS).max(1);
        Self { open_files, open_files_per_session, patience: Duration::from_secs(30) }
    }
}

/// The served directory.
#[derive(Clone, Debug)]
pub struct Root {
    directory: PathBuf,
    limits: Limits,
    open_files: Arc<FairSemaphore>,
}

impl Root {
    /// Serves what is in `directory` and below, with the default limits.
    ///
    /// # Errors
    /// It does not exist or is no directory.
    pub fn new(directory: &Path) -> io::Result<Self> {
        Self::with_limits(directory, Limits::default())
    }

    /// Serves what is in `directory` and below. No limit is less than 1.
    ///
    /// # Errors
    /// It does not exist or is no directory.
    pub fn with_limits(directory: &Path, limits: Limits) -> io::Result<Self> {
        let open_files = FairSemaphore::new(limits.open_files.max(1));
        Ok(Self { directory: check(directory)?, limits, open_files })
    }

    /// The same bounds, for another directory.
    ///
    /// # Errors
    /// It does not exist or is no directory.
    pub fn at(&self, directory: &Path) -> io::Result<Self> {
        Ok(Self { directory: check(directory)?, ..self.clone() })
    }

    /// What a session's answers share.
    pub fn visitor(&self, session: &Session) -> Visitor {
        let open_files = Arc::new(Semaphore::new(self.limits.open_files_per_session.max(1)));
        let share = self.open_files.share(session.client());
        let heads = Arc::new(Semaphore::new(MAX_HEADS));
        Visitor { root: self.clone(), open_files, heads, share, session: session.clone() }
    }

    /// The file at `path`, which begins with a slash, and its length. A path that ends in a slash is that of the
    /// `index.html` there. Symbolic links may lead anywhere within the directory, and nowhere else.
    ///
    /// # Errors
    /// See [`Refusal`].
    pub fn open(&self, path: &str) -> Result<(File, u64), Refusal> {
        let (file, metadata) = self.find(path).map_err(Unopened::refusal)?;
        Ok((file, metadata.len()))
    }

    fn find(&self, path: &str) -> Result<(File, Metadata), Unopened> {
        let relative = Path::new(path.trim_start_matches('/'));
        if !relative.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir)) {
            return Err(Unopened::Refused(Refusal::Forbidden));
        }
        let name = if path.ends_with('/') { relative.join(INDEX) } else { relative.to_owned() };
        // Some C libraries open directories on the way.
        let found =
            self.directory.join(name).canonicalize().map_err(|error| Unopened::of(&error, Refusal::NotFound))?;
        if !found.starts_with(&self.directory) {
            return Err(Unopened::Refused(Refusal::Forbidden));
        }
        // Checked before opening, because opening a pipe waits for its other end.
        if !found.metadata().is_ok_and(|metadata| metadata.is_file()) {
            return Err(Unopened::Refused(Refusal::NotFound));
        }
        let unreadable = |error| Unopened::of(&error, Refusal::ReadFailed);
        let file = File::open(&found).map_err(unreadable)?;
        let metadata = file.metadata().map_err(unreadable)?;
        Ok((file, metadata))
    }
}

/// Why a file was not opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unopened {
    /// The client must not have it.
    Refused(Refusal),
    /// There was no file descriptor for it.
    NoDescriptor,
}

impl Unopened {
    fn of(error: &io::Error, otherwise: Refusal) -> Self {
        if are_used_up(error) { Self::NoDescriptor } else { Self::Refused(otherwise) }
    }

    /// What the client gets if the file is not opened again.
    pub(super) fn refusal(self) -> Refusal {
        match self {
            Self::Refused(refusal) => refusal,
            Self::NoDescriptor => Refusal::ReadFailed,
        }
    }
}

fn check(directory: &Path) -> io::Result<PathBuf> {
    let directory = directory.canonicalize()?;
    if directory.is_dir() { Ok(directory) } else { Err(io::ErrorKind::NotADirectory.into()) }
}

/// A session that requests files.
#[derive(Clone, Debug)]
pub struct Visitor {
    root: Root,
    open_files: Arc<Semaphore>,
    heads: Arc<Semaphore>,
    share: Share,
    session: Session,
}

impl Visitor {
    /// How long to wait until the client takes something; `None`: the session itself ends if nothing moves. In a session
    /// without TCPLS nothing but TCP knows what the client has taken.
    pub(super) fn patience(&self) -> Option<Duration> {
        self.is_tcpls().then_some(self.root.limits.patience)
    }

    /// How long a request may take.
    pub(super) fn request_timeout(&self) -> Duration {
        self.root.limits.patience
    }

    /// Whether each request has a stream of its own.
    pub(super) fn is_tcpls(&self) -> bool {
        self.session.is_tcpls()
    }

    /// Waits until another request may be read.
    pub(super) async fn head_permit(&self) -> Option<OwnedSemaphorePermit> {
        self.heads.clone().acquire_owned().await.ok()
    }

    /// What the client has taken so far, on all streams.
    pub(super) fn delivered(&self) -> u64 {
        self.session.delivered()
    }

    /// Waits until another file may be open.
    pub(super) async fn permits(&self) -> Result<Permits, Refusal> {
        let own = self.open_files.clone().acquire_owned().await.map_err(|_| Refusal::ReadFailed)?;
        let shared = self.root.open_files.acquire(self.share).await.map_err(|_| Refusal::ReadFailed)?;
        Ok(Permits { _own: own, _shared: shared })
    }

    /// Opens a file. Blocks.
    pub(super) fn open(&self, path: &str) -> Result<(File, Opened, Validators), Unopened> {
        let (file, metadata) = self.root.find(path)?;
        Ok((file, Opened::of(&metadata), validators(&metadata, SystemTime::now())))
    }

    /// Makes another session or TCP connection give way to a file.
    pub(super) fn free_descriptor(&self) {
        self.session.free_descriptor();
    }
}

/// The permit for one open file, until it is dropped.
#[derive(Debug)]
pub(super) struct Permits {
    _own: OwnedSemaphorePermit,
    _shared: FairPermit,
}

/// What a file was when it was opened, so that another of the same name is detected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Opened {
    pub(super) len: u64,
    id: Option<FileId>,
}

impl Opened {
    fn of(metadata: &Metadata) -> Self {
        Self { len: metadata.len(), id: FileId::of(metadata) }
    }

    /// Whether `self`, seen later, is the file that `first` was. It may have grown since.
    pub(super) fn continues(&self, first: &Self) -> bool {
        self.id == first.id && self.len >= first.len
    }
}

/// What tells this state of a file from others. The entity tag has the file's inode, its length, and when the inode changed:
/// unlike the time of modification, programs cannot set that, so that another content of the same length and date has another
/// tag. A hash of the content would have to be computed before the first byte is sent.
fn validators(metadata: &Metadata, now: SystemTime) -> Validators {
    let modified = metadata.modified().ok();
    let (inode, changed) = inode_of(metadata, modified);
    let etag = format!("\"{inode:x}-{:x}-{changed:x}\"", metadata.len());
    Validators { etag, modified: modified.and_then(|time| full_seconds(time, now)) }
}

/// The number of the inode, and when it changed, in nanoseconds since 1970.
#[cfg(unix)]
fn inode_of(metadata: &Metadata, _modified: Option<SystemTime>) -> (u64, u128) {
    use std::os::unix::fs::MetadataExt;
    let [seconds, nanos] = [metadata.ctime(), metadata.ctime_nsec()].map(|part| u128::from(part.unsigned_abs()));
    (metadata.ino(), seconds * 1_000_000_000 + nanos)
}

#[cfg(not(unix))]
fn inode_of(_: &Metadata, modified: Option<SystemTime>) -> (u64, u128) {
    let since = modified.and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    (0, since.map_or(0, |since| since.as_nanos()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(name: &str) -> (PathBuf, Root) {
        let base = std::env::temp_dir().join(format!("tcpls-files-{}-{name}", std::process::id()));
        std::fs::create_dir_all(base.join("root/sub")).unwrap();
        std::fs::write(base.join("secret"), "secret").unwrap();
        std::fs::write(base.join("root/sub/file"), "inside").unwrap();
        let root = Root::new(&base.join("root")).unwrap();
        (base, root)
    }

    #[test]
    fn a_session_opens_at_most_one_in_32_of_the_files() {
        let per_session = [1, 31, 128, 512].map(|open_files| Limits::of(open_files).open_files_per_session);
        assert_eq!(per_session, [1, 1, 4, 16]);
        assert_eq!(Limits::default().open_files, 512);
    }

    #[test]
    fn files_below_the_root_are_found() {
        let (base, root) = tree("found");
        for path in ["/sub/file", "//sub//file", "/./sub/file"] {
            assert_eq!(root.open(path).unwrap().1, 6, "{path}");
        }
        std::fs::write(base.join("root/sub/index.html"), "<p>").unwrap();
        assert_eq!(root.open("/sub/").unwrap().1, 3);
        for path in ["/", "/sub", "/nothing", "/nothing/", "/sub/file/x", "/sub/file/"] {
            assert_eq!(root.open(path).unwrap_err(), Refusal::NotFound, "{path}");
        }
        std::fs::remove_dir_all(base).unwrap();
    }

    #[cfg(unix)]
    #[test]
    fn content_of_the_same_length_and_date_has_another_entity_tag() {
        let (base, _) = tree("tags");
        let path = base.join("root/sub/file");
        let tag = || validators(&path.metadata().unwrap(), SystemTime::now()).etag;
        let (before, modified) = (tag(), path.metadata().unwrap().modified().unwrap());
        assert_eq!(tag(), before);
        let after = loop {
            // The clock of the file system may be coarse.
            std::fs::write(&path, "INSIDE").unwrap();
            File::options().write(true).open(&path).unwrap().set_modified(modified).unwrap();
            if tag() != before {
                break tag();
            }
        };
        assert!(after.starts_with('"') && after.ends_with('"'), "{after}");
        assert_eq!(path.metadata().unwrap().modified().unwrap(), modified);
        std::fs::remove_dir_all(base).unwrap();
    }

    #[cfg(unix)]
    #[test]
    fn no_path_leads_out_of_the_root() {
        let (base, root) = tree("outside");
        std::os::unix::fs::symlink(base.join("secret"), base.join("root/link")).unwrap();
        std::os::unix::fs::symlink("..", base.join("root/up")).unwrap();
        std::os::unix::fs::symlink("sub/file", base.join("root/inner")).unwrap();
        for path in ["/../secret", "/../root/sub/file", "/sub/../../secret", "/link", "/up/secret", "/up", ".."] {
            assert_eq!(root.open(path).unwrap_err(), Refusal::Forbidden, "{path}");
        }
        assert_eq!(root.open("/inner").unwrap().1, 6);
        std::fs::remove_dir_all(base).unwrap();
    }
}
