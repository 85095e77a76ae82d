//! `tcpls decrypt`: what becomes of the files that it reads and writes.

use std::path::Path;
use std::process::{Command, Output};

use tcpls_core::testing::Tls;

use super::two_paths;
use crate::support::Directory;

/// A directory with `capture` and `keys`, which have a session.
fn inputs(name: &str) -> Directory {
    let directory = Directory::new(name);
    let (tap, secrets, _) = two_paths(Tls::default());
    std::fs::write(directory.path().join("capture"), tap.pcap()).unwrap();
    std::fs::write(directory.path().join("keys"), secrets.text()).unwrap();
    directory
}

/// Decrypts the capture into a file of this name.
fn decrypt(directory: &Path, out: &str) -> Output {
    command(directory, out).output().unwrap()
}

fn command(directory: &Path, out: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tcpls"));
    command.current_dir(directory).args(["decrypt", "capture", "--keylog", "keys", "-o", out]);
    command
}

#[cfg(target_os = "linux")]
#[test]
fn output_continues_the_file_of_standard_output() {
    let directory = inputs("decrypt-stdout");
    let all = directory.path().join("all");
    std::fs::write(&all, "before").unwrap();
    let file = std::fs::File::options().append(true).open(&all).unwrap();
    let status = command(directory.path(), "/dev/stdout").stdout(file).status().unwrap();
    assert!(status.success());
    assert!(std::fs::read(&all).unwrap().starts_with(b"before\x0a\x0d\x0d\x0a"));
    assert_eq!(names(directory.path()), ["all", "capture", "keys"]);
}

fn names(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).unwrap();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[cfg(unix)]
#[test]
fn output_replaces_a_file_by_a_new_one_that_only_its_user_can_read() {
    use std::os::unix::fs::{PermissionsExt, symlink};

    let directory = inputs("decrypt-mode");
    let path = |name: &str| directory.path().join(name);
    symlink("out", path("link")).unwrap();
    for out in ["out", "link"] {
        std::fs::write(path("out"), "for all to read").unwrap();
        std::fs::set_permissions(path("out"), std::fs::Permissions::from_mode(0o644)).unwrap();
        // Who has opened it before, or has a link to it, sees nothing of what is decrypted.
        std::fs::hard_link(path("out"), path("other")).unwrap();
        let output = decrypt(directory.path(), out);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert_eq!(std::fs::metadata(path("out")).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(std::fs::read(path("out")).unwrap().starts_with(&0x0a0d_0d0a_u32.to_be_bytes()));
        assert_eq!(std::fs::read_to_string(path("other")).unwrap(), "for all to read");
        assert!(path("link").symlink_metadata().unwrap().is_symlink());
        assert_eq!(names(directory.path()), ["capture", "keys", "link", "other", "out"]);
        ["out", "other"].iter().for_each(|name| std::fs::remove_file(path(name)).unwrap());
    }
}

#[cfg(unix)]
#[test]
fn output_that_is_one_of_the_inputs_is_refused() {
    let directory = inputs("decrypt-same");
    let path = |name: &str| directory.path().join(name);
    let before = ["capture", "keys"].map(|name| std::fs::read(path(name)).unwrap());
    std::fs::hard_link(path("capture"), path("linked")).unwrap();
    std::os::unix::fs::symlink("keys", path("link")).unwrap();
    for (out, input) in [("capture", "capture"), ("./linked", "capture"), ("keys", "keys"), ("link", "keys")] {
        let output = decrypt(directory.path(), out);
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{out}: {text}");
        assert!(text.contains(&format!("can't write {out}: it is the input {input}")), "{text}");
    }
    assert_eq!(["capture", "keys"].map(|name| std::fs::read(path(name)).unwrap()), before);
    assert_eq!(names(directory.path()), ["capture", "keys", "link", "linked"]);
}

#[test]
fn run_that_fails_leaves_the_file_of_an_earlier_run() {
    let directory = inputs("decrypt-fails");
    std::fs::write(directory.path().join("out"), "earlier").unwrap();
    std::fs::write(directory.path().join("capture"), "no capture").unwrap();
    let output = decrypt(directory.path(), "out");
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(std::fs::read_to_string(directory.path().join("out")).unwrap(), "earlier");
    assert_eq!(names(directory.path()), ["capture", "keys", "out"]);
}

#[cfg(unix)]
#[test]
fn output_goes_into_a_pipe_as_it_is() {
    let directory = inputs("decrypt-pipe");
    let output = decrypt(directory.path(), "/dev/stdout");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(output.stdout.starts_with(&0x0a0d_0d0a_u32.to_be_bytes()) && output.stdout.len() > 60_000);
}
