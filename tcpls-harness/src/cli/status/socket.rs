//! The sockets of running commands: Unix sockets for this user alone, in a directory for this user alone.

use std::fs::{self, Permissions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};
use std::{env, process};

use socket2::{Domain, SockAddr, Socket, Type};
use tokio::net::UnixListener;

use crate::cli::state;
use crate::private;

/// Readers that may wait to be accepted.
const BACKLOG: i32 = 64;
/// A socket without its final name is older only if its command was killed while it made it.
const UNFINISHED: Duration = Duration::from_secs(60);
const SUFFIX: &str = ".sock";
/// The permissions of a socket for this user alone.
pub(super) const OWNER: u32 = 0o600;

/// Where commands put their sockets, and where `tcpls status` looks for them.
pub(super) fn directory() -> Option<PathBuf> {
    let runtime = env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from).filter(|path| path.is_absolute());
    runtime.map(|path| path.join("tcpls")).or_else(|| state::default_directory().map(|path| path.join("run")))
}

/// Creates the directory for this user alone, or checks one that exists.
fn prepare(directory: &Path) -> io::Result<()> {
    private::directory(directory)?;
    check(directory)
}

/// Checks that a directory is for this user alone.
pub(super) fn check(directory: &Path) -> io::Result<()> {
    let mode = fs::metadata(directory)?.permissions().mode() & 0o777;
    if mode & 0o077 == 0 {
        return Ok(());
    }
    let directory = directory.display();
    Err(io::Error::other(format!("other users may use {directory} (mode {mode:03o}); run chmod 700 {directory}")))
}

/// A socket that is removed when this is dropped.
#[derive(Debug)]
pub(crate) struct Listening {
    pub(crate) listener: UnixListener,
    pub(crate) name: Name,
}

/// The name of a socket, removed when this is dropped.
#[derive(Debug)]
pub(crate) struct Name(PathBuf);

impl Drop for Name {
    fn drop(&mut self) {
        _ = fs::remove_file(&self.0);
    }
}

/// Listens at the place for this process in the directory.
pub(super) fn listen(command: &str) -> io::Result<Listening> {
    let directory = directory().ok_or_else(|| io::Error::other("there is no directory for it"))?;
    prepare(&directory)?;
    _ = list(&directory); // which removes those of commands that were killed
    bind(&directory.join(format!("{command}-{}{SUFFIX}", process::id())), OWNER)
}

/// Listens at `path`, which must not exist, except as a socket at which no command listens.
pub(crate) fn listen_at(path: &Path, mode: u32) -> io::Result<Listening> {
    match fs::symlink_metadata(path) {
        Ok(metadata) if !metadata.file_type().is_socket() => {
            return Err(io::Error::new(ErrorKind::AlreadyExists, "there is a file of that name"));
        }
        // Nor one of which that is unknown, because another user has it.
        Ok(_) if !is_dead(path) => {
            return Err(io::Error::new(ErrorKind::AddrInUse, "another command listens there"));
        }
        _ => {}
    }
    bind(path, mode)
}

/// The socket gets its name only once it can be connected to, with its permissions: there is no moment at which it seems to
/// be one of a command that was killed, or at which other users may connect.
fn bind(path: &Path, mode: u32) -> io::Result<Listening> {
    let file = path.file_name().ok_or_else(|| io::Error::other("this is no name of a file"))?.to_string_lossy();
    let unfinished = path.with_file_name(format!(".{file}.{}", process::id()));
    if is_dead(&unfinished) {
        fs::remove_file(&unfinished)?;
    }
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.bind(&SockAddr::unix(&unfinished)?)?;
    let mut name = Name(unfinished);
    fs::set_permissions(&name.0, Permissions::from_mode(mode))?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    fs::rename(&name.0, path)?;
    path.clone_into(&mut name.0);
    Ok(Listening { listener: UnixListener::from_std(socket.into())?, name })
}

/// A socket of a running command.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Running {
    pub(super) pid: Option<u32>,
    pub(super) path: PathBuf,
}

/// The sockets in a directory at which commands listen, by process. Those of commands that were killed are removed.
pub(super) fn list(directory: &Path) -> io::Result<Vec<Running>> {
    let mut running = Vec::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if let Some(stem) = name.strip_suffix(SUFFIX).filter(|name| !name.starts_with('.')) {
            if is_live(&path) {
                running.push(Running { pid: stem.rsplit('-').next().and_then(|pid| pid.parse().ok()), path });
            } else if is_dead(&path) {
                _ = fs::remove_file(&path);
            }
        } else if name.starts_with('.') && name.contains(SUFFIX) && is_old(&path) && is_dead(&path) {
            _ = fs::remove_file(&path);
        }
    }
    running.sort();
    Ok(running)
}

fn connect(path: &Path) -> io::Result<()> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    // A backlog that is full blocks otherwise.
    socket.set_nonblocking(true)?;
    socket.connect(&SockAddr::unix(path)?)
}

/// Whether a command listens; it may be too busy to accept.
pub(super) fn is_live(path: &Path) -> bool {
    connect(path).err().is_none_or(|error| error.kind() == ErrorKind::WouldBlock)
}

/// Whether this is a socket at which no command listens.
fn is_dead(path: &Path) -> bool {
    let is_socket = fs::symlink_metadata(path).is_ok_and(|metadata| metadata.file_type().is_socket());
    is_socket && connect(path).is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused)
}

fn is_old(path: &Path) -> bool {
    let modified = fs::symlink_metadata(path).and_then(|metadata| metadata.modified());
    modified.is_ok_and(|at| SystemTime::now().duration_since(at).is_ok_and(|age| age > UNFINISHED))
}
