//! The processes of a run: the helper that registers the program, the server, the client; and what the kernel says of them.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use super::{Setting, Source};
use crate::lab::Outcome;
use crate::lab::netns::{self, Namespaces};
use crate::lab::stack::{Files, PORT, Process, last};

/// How long the helper may take to listen.
const PATIENCE: Duration = Duration::from_secs(5);
const LOOK: Duration = Duration::from_millis(20);

/// A signed program and the key of its author.
pub(super) struct Program {
    signed: PathBuf,
    public_key: PathBuf,
}

impl Program {
    /// Signs an object, with these parameters, with a new key.
    pub(super) fn sign(tcpls: &Path, object: &Path, parameters: &[String], directory: &Path) -> Outcome<Self> {
        let (key, public_key) = (directory.join("author.key"), directory.join("author.pub"));
        let author = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519)?;
        std::fs::write(&key, author.serialize_pem())?;
        std::fs::write(&public_key, author.public_key_pem())?;
        let signed = directory.join("program.signed");
        let mut sign = Command::new(tcpls);
        sign.args(["bpf-sign", "--key"]).arg(&key).arg("--output").arg(&signed);
        sign.args(parameters.iter().flat_map(|parameter| ["--set", parameter])).arg(object);
        let output = sign.output()?;
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).trim().into());
        }
        Ok(Self { signed, public_key })
    }
}

/// Starts the helper and waits until it listens.
pub(super) fn start_helper(
    tcpls: &Path,
    program: &Program,
    namespaces: &Namespaces,
    directory: &Path,
) -> Outcome<Process> {
    let socket = socket(directory);
    let mut helper = Command::new(tcpls);
    helper.args(["bpf-helper", "--socket"]).arg(&socket).arg("--bpf-key").arg(&program.public_key);
    let mut process = Process::start(helper, &namespaces.server, 0)?;
    let started = Instant::now();
    while !socket.exists() {
        if process.child.try_wait()?.is_some() || started.elapsed() > PATIENCE {
            return Err(format!("the helper did not start: {}", last(&process.end())).into());
        }
        std::thread::sleep(LOOK);
    }
    Ok(process)
}

fn socket(directory: &Path) -> PathBuf {
    directory.join("helper")
}

pub(super) fn serve(tcpls: &Path, namespaces: &Namespaces, files: &Files) -> Outcome<Process> {
    let mut serve = Command::new(tcpls);
    serve.args(["serve", "--json", "--listen", &format!("{}:{PORT}", netns::server(0)), "--root"]);
    serve.arg(files.source.parent().expect("it is a file")).env("XDG_STATE_HOME", &files.directory);
    serve.arg("--ca-out").arg(files.directory.join("certificate.pem"));
    serve.arg("--bpf-helper").arg(socket(&files.directory));
    Process::start(serve, &namespaces.server, 0)?.wait_until_it_listens()
}

pub(super) fn get(setting: &Setting<'_>, source: Source, namespaces: &Namespaces, files: &Files) -> Outcome<Process> {
    let mut get = Command::new(setting.tcpls);
    get.args(["get", "--insecure", "--log"]).arg(files.log()).arg("--output").arg(files.directory.join("got"));
    match source {
        Source::Brought => _ = get.arg("--bring-program").arg(&setting.program.signed),
        Source::Asked => _ = get.args(["--ask-congestion", &setting.args.ask]),
        Source::Route => {}
    }
    let name = files.source.file_name().and_then(|name| name.to_str()).expect("it is a name of ours");
    get.arg(format!("https://{}:{PORT}/{name}", netns::server(0)));
    Process::start(get, &namespaces.client, 1)
}

/// Returns the congestion control of the server's TCP connection, if there is one.
pub(super) fn congestion_control(namespaces: &Namespaces) -> Outcome<Option<String>> {
    let mut ss = Command::new("ip");
    ss.args(["netns", "exec", &namespaces.server, "ss", "-tinH", "state", "established"]);
    ss.arg(format!("( sport = :{PORT} )"));
    let output = ss.output().map_err(|error| format!("can't run ss (iproute2): {error}"))?;
    Ok(name_in(&String::from_utf8_lossy(&output.stdout)).map(str::to_owned))
}

/// The name stands in front of the window scales.
fn name_in(text: &str) -> Option<&str> {
    let mut words = text.split_whitespace().peekable();
    loop {
        let word = words.next()?;
        if words.peek()?.starts_with("wscale:") {
            return Some(word);
        }
    }
}

/// Whether this is the name that a helper gives to a program: that of its source and the beginning of its hash.
pub(super) fn is_program(name: &str) -> bool {
    let hash = name.rsplit_once('_').map(|(_, hash)| hash);
    hash.is_some_and(|hash| hash.len() == 4 && hash.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn congestion_control_stands_in_front_of_the_window_scales() {
        let text = "0 95568 10.77.1.2:4433 10.77.1.1:37218\n\t ts sack multcp_71f5 wscale:7,7 rto:244 rtt:41.2/1.1";
        assert_eq!(name_in(text), Some("multcp_71f5"));
        assert_eq!(name_in("0 0 10.77.1.2:4433 10.77.1.1:37218\n\t cubic wscale:7,7"), Some("cubic"));
        assert_eq!((name_in(""), name_in("0 0 10.77.1.2:4433")), (None, None));
    }

    #[test]
    fn name_of_a_program_ends_with_its_hash() {
        assert!(is_program("multcp_71f5") && !is_program("cubic") && !is_program("tcp_bbr") && !is_program("a_71f"));
    }
}
