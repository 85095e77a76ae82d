//! Files that only their owner reads: private keys, and what stands for secrets.
//!
//! A file is complete once it has its name, also after a crash. Permissions are checked on Unix only.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// Numbers the files that this process creates.
static NUMBER: AtomicU64 = AtomicU64::new(0);

/// Creates a directory and its parents, for this user alone, and checks that no other user can replace files in it.
///
/// # Errors
/// It can't be created, or others may write to it.
#[cfg(any(feature = "cli", feature = "proxy", test))]
pub(crate) fn directory(path: &Path) -> io::Result<()> {
    let is_new = !path.exists();
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path)?;
    #[cfg(unix)]
    if let (true, Some(parent)) = (is_new, path.parent()) {
        std::os::unix::fs::chown(path, owner_to_adopt(parent), None)?;
    }
    #[cfg(not(unix))]
    let _ = is_new;
    check(path, &fs::metadata(path)?, 0o022, "written by other users", "go-w")
}

/// Reads a file that only this user may read.
///
/// # Errors
/// It can't be read, is not text, or others may read it.
pub(crate) fn read(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    check(path, &file.metadata()?, 0o077, "used by other users", "600")?;
    io::read_to_string(&mut file)
}

/// Creates a file with these contents; false if there is one already, which stays as it is.
///
/// # Errors
/// It can't be written.
pub(crate) fn create(path: &Path, contents: &str) -> io::Result<bool> {
    let unnamed = write_beside(path, contents)?;
    // Unlike a new name, a second name never replaces a file.
    let named = fs::hard_link(&unnamed, path);
    fs::remove_file(&unnamed)?;
    match named {
        Ok(()) => {
            flush_directory(path)?;
            Ok(true)
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(error),
    }
}

/// Puts a file in the place of another.
///
/// # Errors
/// There is none, or it can't be renamed.
#[cfg(feature = "cli")]
pub(crate) fn replace(path: &Path, by: &Path) -> io::Result<()> {
    fs::rename(by, path)?;
    flush_directory(path)
}

/// Writes a file with these contents, in the place of one that may be there: a reader sees the one or the other.
///
/// # Errors
/// It can't be written.
#[cfg(all(feature = "cli", feature = "openssl"))]
pub(crate) fn write(path: &Path, contents: &str) -> io::Result<()> {
    let unnamed = write_beside(path, contents)?;
    replace(path, &unnamed).inspect_err(|_| _ = fs::remove_file(&unnamed))
}

/// Removes a file.
///
/// # Errors
/// There is none, or it can't be removed.
#[cfg(feature = "proxy")]
pub(crate) fn remove(path: &Path) -> io::Result<()> {
    fs::remove_file(path)?;
    flush_directory(path)
}

/// Writes a file beside `path`, for this user alone, and waits until the disk has it.
fn write_beside(path: &Path, contents: &str) -> io::Result<PathBuf> {
    let name = path.file_name().ok_or_else(|| io::Error::other("this is no name of a file"))?;
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let unnamed = path.with_file_name(format!(".{}.{}.{number}", name.to_string_lossy(), std::process::id()));
    let mut options = File::options();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let open = options.open(&unnamed);
    let mut file = match open {
        // A process with the same number crashed.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            fs::remove_file(&unnamed)?;
            options.open(&unnamed)?
        }
        open => open?,
    };
    let written = file.write_all(contents.as_bytes()).and_then(|()| file.sync_all());
    #[cfg(unix)]
    let written = written.and_then(|()| std::os::unix::fs::fchown(&file, path.parent().and_then(owner_to_adopt), None));
    written.inspect_err(|_| {
        _ = fs::remove_file(&unnamed);
    })?;
    Ok(unnamed)
}

/// The user to whom root gives what it creates in a directory: a server that runs as the directory's owner has to read it.
/// `None`: the current one.
#[cfg(unix)]
fn owner_to_adopt(directory: &Path) -> Option<u32> {
    use std::os::unix::fs::MetadataExt;
    let directory = if directory.as_os_str().is_empty() { Path::new(".") } else { directory };
    let is_root = fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0);
    fs::metadata(directory).ok().map(|metadata| metadata.uid()).filter(|_| is_root)
}

/// Waits until the disk has the names in the directory of `path`.
fn flush_directory(path: &Path) -> io::Result<()> {
    #[cfg(unix)]
    if let Some(directory) = path.parent() {
        let directory = if directory.as_os_str().is_empty() { Path::new(".") } else { directory };
        File::open(directory)?.sync_all()?;
    }
    #[cfg(not(unix))]
    let _ = path;
    Ok(())
}

/// Refuses a file with one of the permissions in `mask`.
#[cfg(unix)]
fn check(path: &Path, metadata: &fs::Metadata, mask: u32, danger: &str, fix: &str) -> io::Result<()> {
    let mode = std::os::unix::fs::PermissionsExt::mode(&metadata.permissions()) & 0o777;
    if mode & mask == 0 {
        return Ok(());
    }
    let path = path.display();
    Err(io::Error::other(format!("it may be {danger} (mode {mode:03o}); run chmod {fix} {path}")))
}

#[cfg(not(unix))]
fn check(_: &Path, _: &fs::Metadata, _: u32, _: &str, _: &str) -> io::Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A directory for one test.
    struct Temporary(PathBuf);

    impl Temporary {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("tcpls-private-{}-{name}", std::process::id()));
            directory(&path).unwrap();
            Self(path)
        }
    }

    impl Drop for Temporary {
        fn drop(&mut self) {
            _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn existing_file_is_never_replaced_and_nothing_else_remains() {
        let place = Temporary::new("create");
        let file = place.0.join("file");
        assert!(create(&file, "first").unwrap());
        // What a crashed process with the same number left. Other tests may take some of the numbers.
        let next = NUMBER.load(Ordering::Relaxed);
        for number in next..next + 500 {
            fs::write(place.0.join(format!(".file.{}.{number}", std::process::id())), "half").unwrap();
        }
        assert!(!create(&file, "second").unwrap());
        assert_eq!(read(&file).unwrap(), "first");
        assert!(fs::read_dir(&place.0).unwrap().count() < 501);
        assert_eq!(read(&place.0.join("other")).unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[cfg(unix)]
    #[test]
    fn permissions_for_other_users_are_refused_with_the_command_that_removes_them() {
        use std::os::unix::fs::PermissionsExt;
        let place = Temporary::new("permissions");
        let file = place.0.join("file");
        create(&file, "secret").unwrap();
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::metadata(&place.0).unwrap().permissions().mode() & 0o777, 0o700);
        for mode in [0o640, 0o604, 0o620] {
            fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
            let text = read(&file).unwrap_err().to_string();
            assert!(text.contains(&format!("mode {mode:o}")) && text.contains("chmod 600 "), "{text}");
        }
        fs::set_permissions(&file, fs::Permissions::from_mode(0o400)).unwrap();
        assert_eq!(read(&file).unwrap(), "secret");
        fs::set_permissions(&place.0, fs::Permissions::from_mode(0o755)).unwrap();
        directory(&place.0).unwrap();
        fs::set_permissions(&place.0, fs::Permissions::from_mode(0o777)).unwrap();
        assert!(directory(&place.0).unwrap_err().to_string().contains("chmod go-w "));
    }
}
