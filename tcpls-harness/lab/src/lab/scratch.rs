//! Files of measurements: the `tcpls` command under test, and a temporary directory.

use std::path::{Path, PathBuf};

use super::Outcome;

/// What the names of directories for a lab's files begin with; its process comes behind it.
const SCRATCH: &str = "tcpls-lab-";

pub(super) fn find_tcpls(given: Option<&Path>) -> Outcome<PathBuf> {
    let path = match given {
        Some(path) => path.to_owned(),
        None => std::env::current_exe()?.with_file_name("tcpls"),
    };
    match path.canonicalize() {
        Ok(path) => Ok(path),
        Err(_) => {
            let path = path.display();
            Err(format!("no {path}: cargo build --release --workspace makes it, or name another with --tcpls").into())
        }
    }
}

/// A directory that goes when this is dropped.
pub(super) struct Scratch(PathBuf);

impl Scratch {
    /// In memory where there is such a place: disks have pauses of their own.
    pub(super) fn new() -> Outcome<Self> {
        let memory = Path::new("/dev/shm");
        let base = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
        remove_left(&base);
        let path = base.join(format!("{SCRATCH}{}", std::process::id()));
        std::fs::create_dir(&path)?;
        Ok(Self(path))
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

/// Removes what labs that were killed have left.
fn remove_left(base: &Path) {
    for entry in std::fs::read_dir(base).into_iter().flatten().flatten() {
        let name = entry.file_name().into_string().unwrap_or_default();
        if name.strip_prefix(SCRATCH).is_some_and(|process| !Path::new("/proc").join(process).exists()) {
            _ = std::fs::remove_dir_all(entry.path());
        }
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        _ = std::fs::remove_dir_all(&self.0);
    }
}
