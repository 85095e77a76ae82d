//! The `tcpls` command as a process: signals, output, exit codes.
//!
//! Nothing here waits for time to pass: tests wait for lines of output, and for processes to end.

#[cfg(all(feature = "bpf", target_os = "linux"))]
mod bpf;
mod completions;
mod early;
mod errors;
mod farm;
mod files;
mod get;
#[cfg(any(feature = "aws-lc-rs", feature = "cert-compression"))]
mod hello;
mod invites;
mod limits;
mod logs;
mod operators;
mod output;
mod proxy;
mod qlog;
mod replay;
mod signals;
mod sim;
#[cfg(unix)]
mod status;
#[cfg(target_os = "linux")]
mod systemd;
#[cfg(feature = "openssl")]
mod tls;
mod view;

use std::path::Path;
use std::process::{ExitStatus, Stdio};

use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

/// A process of the command's, killed when it is dropped.
pub(crate) struct Tcpls {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Tcpls {
    fn start(arguments: &[&str]) -> Self {
        Self::spawn(command(arguments))
    }

    fn spawn(mut command: Command) -> Self {
        let mut child = command.spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines }
    }

    /// `serve --json` on one address; the root is `directory/root`, the certificate `directory/ca.pem`.
    pub(crate) async fn serve(directory: &Path, more: &[&str]) -> (Self, String) {
        std::fs::create_dir_all(directory.join("root")).unwrap();
        let (root, ca) = (directory.join("root"), directory.join("ca.pem"));
        let mut arguments = vec!["serve", "--json", "--listen", "127.0.0.1:0", "--root", root.to_str().unwrap()];
        if !more.contains(&"--cert") {
            arguments.extend(["--ca-out", ca.to_str().unwrap()]);
        }
        arguments.extend(more);
        let mut server = Self::start(&arguments);
        let listening = server.event("listening").await;
        (server, listening["addresses"][0].as_str().unwrap().to_owned())
    }

    /// The next line of JSON that is about `event`.
    pub(crate) async fn event(&mut self, event: &str) -> Value {
        loop {
            let line = self.lines.next_line().await.unwrap().unwrap_or_else(|| panic!("ended without {event}"));
            let value: Value = serde_json::from_str(&line).unwrap();
            if value["event"] == event {
                return value;
            }
        }
    }

    fn signal(&self, name: &str) {
        let pid = self.child.id().unwrap().to_string();
        assert!(std::process::Command::new("kill").args(["-s", name, &pid]).status().unwrap().success());
    }

    /// Exit code and what was written to standard error.
    async fn end(mut self) -> (ExitStatus, String) {
        let mut text = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut text).await.unwrap();
        (self.child.wait().await.unwrap(), text)
    }
}

fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tcpls"));
    command.args(arguments).kill_on_drop(true).env("XDG_STATE_HOME", env!("CARGO_TARGET_TMPDIR"));
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    #[cfg(target_os = "linux")]
    default_hangup(&mut command);
    command
}

/// Tests that `nohup` runs pass their ignored SIGHUP on; the command would ignore it, too, as it should.
#[cfg(target_os = "linux")]
fn default_hangup(command: &mut Command) {
    let reset = || {
        // SAFETY: `signal` is async-signal-safe, and no handler is installed.
        unsafe { libc::signal(libc::SIGHUP, libc::SIG_DFL) };
        Ok(())
    };
    // SAFETY: `reset` neither allocates nor takes a lock.
    unsafe { command.pre_exec(reset) };
}

/// The arguments of a `get` that puts `name` into `directory/out`.
fn get_line<'a>(directory: &Path, address: &'a str, name: &str) -> Vec<String> {
    let (ca, out) = (directory.join("ca.pem"), directory.join("out"));
    let url = format!("https://localhost/{name}");
    let line: [&'a str; 8] = ["get", "--connect", address, "--ca", "", "-o", "", ""];
    let mut line = line.map(str::to_owned).to_vec();
    (line[4], line[6], line[7]) = (ca.to_str().unwrap().to_owned(), out.to_str().unwrap().to_owned(), url);
    line
}

/// As many bytes as that, none of them on the disk.
fn sparse_file(path: &Path, len: u64) {
    std::fs::File::create(path).unwrap().set_len(len).unwrap();
}

/// Waits until a file is being received in `directory`.
async fn downloading(directory: &Path) {
    while std::fs::read_dir(directory).map_or(0, Iterator::count) == 0 {
        tokio::task::yield_now().await;
    }
}
