//! How the software under test is started: command lines for each stack, and the processes they become.

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::JoinHandle;

use super::netns::{self, Namespaces, Subflows};
use super::scenario::{Case, Direction, Others, Stack};
use super::wire::unix_time;
use super::{Outcome, sys};

pub(crate) const PORT: u16 = 4433;
/// The niceness of measured processes: before other load on the machine, and after the wire.
const NICENESS: i32 = -10;

/// The files of a run.
#[derive(Clone, Debug)]
pub(crate) struct Files {
    pub(crate) directory: PathBuf,
    /// What is sent.
    pub(crate) source: PathBuf,
}

impl Files {
    pub(crate) fn log(&self) -> PathBuf {
        self.directory.join("log")
    }

    /// Where `tcpls get` puts what arrived.
    pub(crate) fn target(&self) -> PathBuf {
        self.directory.join("got").join(self.source.file_name().expect("it is a file"))
    }
}

/// A process under test. Killed when this is dropped.
#[derive(Debug)]
pub(crate) struct Process {
    pub(crate) child: Child,
    listeners: Vec<JoinHandle<Vec<Said>>>,
}

/// A line of output, and when it arrived: seconds since 1970.
pub(crate) type Said = (f64, String);

impl Process {
    /// Starts a command in a namespace, on the `cpu`-th CPU.
    pub(crate) fn start(mut command: Command, namespace: &str, cpu: usize) -> Outcome<Self> {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let spawn = || {
            sys::pin(cpu)?;
            sys::be_nice(NICENESS);
            command.spawn()
        };
        let mut child = sys::in_namespace(namespace, spawn)
            .map_err(|error| format!("can't start {}: {error}", command.get_program().display()))?;
        let stderr = child.stderr.take().expect("it is piped");
        Ok(Self { child, listeners: vec![listen(BufReader::new(stderr))] })
    }

    /// Waits until it says that it listens.
    pub(crate) fn wait_until_it_listens(mut self) -> Outcome<Self> {
        let mut line = String::new();
        let mut stdout = BufReader::new(self.child.stdout.take().expect("it is piped"));
        stdout.read_line(&mut line)?;
        self.listeners.push(listen(stdout));
        if line.contains(super::peer::LISTENING) {
            return Ok(self);
        }
        Err(format!("the server did not start: {}", last(&self.end())).into())
    }

    /// Kills it if it still runs, and returns what it said.
    pub(crate) fn end(&mut self) -> Vec<Said> {
        _ = self.child.kill();
        _ = self.child.wait();
        let said = self.listeners.drain(..).filter_map(|thread| thread.join().ok());
        said.flatten().collect()
    }
}

/// Takes down lines and the time at which each comes.
fn listen(output: impl BufRead + Send + 'static) -> JoinHandle<Vec<Said>> {
    std::thread::spawn(move || output.lines().map_while(Result::ok).map(|line| (unix_time(), line)).collect())
}

impl Drop for Process {
    fn drop(&mut self) {
        self.end();
    }
}

/// The last line.
pub(crate) fn last(said: &[Said]) -> &str {
    said.last().map_or("it said nothing", |(_, line)| line)
}

/// Starts the server of a case and waits until it listens.
pub(crate) fn start_server(case: &Case, namespaces: &Namespaces, files: &Files, tcpls: &Path) -> Outcome<Process> {
    let command = match case.stack {
        Stack::Tcpls(_) if case.direction == Direction::Down => {
            let mut command = Command::new(tcpls);
            command.args(["serve", "--json", "--root"]).arg(files.source.parent().expect("it is a file"));
            command
                .env("XDG_STATE_HOME", &files.directory)
                .arg("--ca-out")
                .arg(files.directory.join("certificate.pem"));
            for index in &case.paths {
                command.args(["--listen", &format!("{}:{PORT}", netns::server(*index))]);
            }
            command
        }
        _ => peer("serve", case, files)?,
    };
    Process::start(command, &namespaces.server, 0)?.wait_until_it_listens()
}

/// Starts the client of a case.
pub(crate) fn start_client(case: &Case, namespaces: &Namespaces, files: &Files, tcpls: &Path) -> Outcome<Process> {
    let command = match case.stack {
        Stack::Tcpls(others) if case.direction == Direction::Down => {
            let name = files.source.file_name().and_then(|name| name.to_str()).expect("it is a name of ours");
            let mut command = Command::new(tcpls);
            command.args(["get", "--insecure", "--json", "--log"]).arg(files.log());
            command.arg("--output").arg(files.directory.join("got"));
            let address = |index: usize| format!("{}:{PORT}", netns::server(index));
            command.args(["--connect", &address(case.paths[0])]);
            match others {
                Others::Active => {
                    command.args(case.paths[1..].iter().flat_map(|index| ["--connect".to_owned(), address(*index)]))
                }
                Others::Standby => {
                    command.args(case.paths[1..].iter().flat_map(|index| ["--standby".to_owned(), address(*index)]))
                }
                Others::Migrate(moves) => command.args(
                    moves
                        .iter()
                        .flat_map(|(after, index)| ["--migrate".to_owned(), format!("{after}:{}", address(*index))]),
                ),
            };
            command.arg(format!("https://localhost/{name}"));
            command
        }
        _ => peer("connect", case, files)?,
    };
    Process::start(command, &namespaces.client, 1)
}

/// The kernel settings of a case.
pub(crate) fn prepare(case: &Case, namespaces: &Namespaces) -> Outcome {
    match case.stack {
        Stack::Mptcp { backup } => {
            namespaces.use_subflows(case.paths.len(), if backup { Subflows::Backup } else { Subflows::Active })
        }
        _ => Ok(()),
    }
}

/// Whether what arrived is in a file of its own, and the client reports what it lost: with the `tcpls` command.
pub(crate) fn writes_target(case: &Case) -> bool {
    matches!(case.stack, Stack::Tcpls(_)) && case.direction == Direction::Down
}

fn peer(command: &str, case: &Case, files: &Files) -> io::Result<Command> {
    let mut peer = Command::new(std::env::current_exe()?);
    let (over, paced) = match case.stack {
        Stack::Tcpls(_) => ("tcpls", false),
        Stack::Mptcp { .. } => ("mptcp", false),
        Stack::Tls { paced } => ("tls", paced),
    };
    let direction = if case.direction == Direction::Up { "up" } else { "down" };
    peer.args([command, "--over", over, "--direction", direction]);
    for index in &case.paths {
        peer.args(["--address", &format!("{}:{PORT}", netns::server(*index))]);
    }
    peer.args(paced.then_some("--paced"));
    peer.arg("--certificate").arg(files.directory.join("certificate.pem"));
    peer.arg("--file").arg(&files.source).arg("--log").arg(files.log());
    Ok(peer)
}

/// Fills a file with bytes that do not repeat.
pub(crate) fn write_source(path: &Path, len: usize) -> io::Result<()> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    let mut bytes: Vec<u8> = (0..len.div_ceil(8)).flat_map(|_| next()).collect();
    bytes.truncate(len);
    io::Write::write_all(&mut File::create(path)?, &bytes)
}
