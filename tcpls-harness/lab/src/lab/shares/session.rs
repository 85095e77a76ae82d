//! Starts what uses both interfaces, and the competitor.

use std::path::Path;
use std::process::Command;

use super::{COMPETITOR, Who};
use crate::lab::Outcome;
use crate::lab::netns::{self, BEYOND, Namespaces};
use crate::lab::scenario::{Case, Direction, Stack};
use crate::lab::stack::{self, Files, PORT, Process};

/// A case of TLS or kernel MPTCP.
fn peers(who: Who) -> Case {
    let (name, stack, paths) = match who {
        Who::Mptcp => ("mptcp", Stack::Mptcp { backup: false }, vec![0, 1]),
        _ => ("tls", Stack::Tls { paced: who == Who::Tls { paced: true } }, vec![0]),
    };
    Case { name, stack, paths, events: false, direction: Direction::Down, megabytes: 0.0, every: 1 }
}

/// Configures the kernel, and starts the server.
pub(super) fn serve(who: Who, namespaces: &Namespaces, files: &Files, tcpls: &Path) -> Outcome<Process> {
    if !who.is_tcpls() {
        let case = peers(who);
        stack::prepare(&case, namespaces)?;
        return stack::start_server(&case, namespaces, files, tcpls);
    }
    let mut serve = Command::new(tcpls);
    serve.args(["serve", "--json", "--listen", &format!("{BEYOND}:{PORT}"), "--root"]);
    serve.arg(files.source.parent().expect("it is a file")).env("XDG_STATE_HOME", &files.directory);
    serve.arg("--ca-out").arg(files.directory.join("certificate.pem"));
    Process::start(serve, &namespaces.server, 0)?.wait_until_it_listens()
}

/// Starts the download.
pub(super) fn connect(who: Who, namespaces: &Namespaces, files: &Files, tcpls: &Path) -> Outcome<Process> {
    if !who.is_tcpls() {
        return stack::start_client(&peers(who), namespaces, files, tcpls);
    }
    let mark = if who == Who::Group { ",share=router" } else { "" };
    let mut get = Command::new(tcpls);
    get.args(["get", "--insecure", "--json", "--output"]).arg(files.directory.join("got"));
    for index in 0..COMPETITOR {
        get.args(["--path", &format!("{}{mark}", netns::client(index))]);
    }
    let name = files.source.file_name().and_then(|name| name.to_str()).expect("it is a name of ours");
    get.arg(format!("https://{BEYOND}:{PORT}/{name}"));
    Process::start(get, &namespaces.client, 1)
}

/// Starts the competitor: server and client.
pub(super) fn compete(namespaces: &Namespaces, files: &Files) -> Outcome<[Process; 2]> {
    let command = |end: &str| -> Outcome<Command> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args([end, "--over", "tls", "--direction", "down"]);
        command.args(["--address", &format!("{}:{}", netns::server(COMPETITOR), PORT + 1)]);
        command.arg("--certificate").arg(files.directory.join("competitor.pem"));
        command.arg("--file").arg(&files.source).arg("--log").arg(files.directory.join("competitor.log"));
        Ok(command)
    };
    let server = Process::start(command("serve")?, &namespaces.server, 0)?.wait_until_it_listens()?;
    Ok([server, Process::start(command("connect")?, &namespaces.client, 1)?])
}
