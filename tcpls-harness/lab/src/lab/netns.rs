//! Two network namespaces, a client's and a server's, with a TUN device in each for every path. Made and removed with `ip`.

use std::fs::File;
use std::io::{self, Write};
use std::net::Ipv4Addr;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use super::Outcome;
use super::sys;

/// The same for all, set by route: that works without permission in the machine's first namespace.
pub(crate) const CONGESTION_CONTROL: &str = "cubic";

/// Settings of both namespaces: nothing is learnt from the run before.
const SETTINGS: [(&str, &str); 4] = [
    ("ipv4/tcp_no_metrics_save", "1"),
    ("ipv6/conf/all/disable_ipv6", "1"),
    ("ipv6/conf/default/disable_ipv6", "1"),
    // A SYN that is lost on a dark path shall not turn MPTCP off.
    ("mptcp/blackhole_timeout", "0"),
];

/// The client's address on path `index`.
pub(crate) fn client(index: usize) -> Ipv4Addr {
    Ipv4Addr::new(10, 77, index as u8 + 1, 1)
}

/// The server's address on path `index`.
pub(crate) fn server(index: usize) -> Ipv4Addr {
    Ipv4Addr::new(10, 77, index as u8 + 1, 2)
}

/// The server's address behind uplinks.
pub(crate) const BEYOND: Ipv4Addr = Ipv4Addr::new(10, 78, 0, 1);

/// How kernel MPTCP is to use the paths behind the first.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Subflows {
    Active,
    Backup,
}

/// The namespaces. Removed, with all processes in them, when this is dropped.
#[derive(Debug)]
pub(crate) struct Namespaces {
    pub(crate) client: String,
    pub(crate) server: String,
}

impl Namespaces {
    /// Makes both, empty.
    pub(crate) fn new() -> Outcome<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = |side| format!("{PREFIX}{}-{number}{side}", std::process::id());
        let this = Self { client: name('c'), server: name('s') };
        for name in [&this.client, &this.server] {
            ip(&["netns", "add", name], "")?;
            sys::in_namespace(name, set_all)?;
            ip(&["-n", name, "link", "set", "lo", "up"], "")?;
        }
        Ok(this)
    }

    /// Makes the devices of the paths; those of the client's side first, in the order of the paths.
    pub(crate) fn add_paths(&self, count: usize) -> Outcome<[Vec<File>; 2]> {
        Ok([Self::devices(&self.client, count, client)?, Self::devices(&self.server, count, server)?])
    }

    fn devices(namespace: &str, count: usize, address: fn(usize) -> Ipv4Addr) -> Outcome<Vec<File>> {
        let open = || (0..count).map(|index| sys::open_tun(&device(index))).collect::<io::Result<Vec<File>>>();
        let files = sys::in_namespace(namespace, open)?;
        let mut batch = String::new();
        for index in 0..count {
            let (device, address, table) = (device(index), address(index), 100 + index);
            let network = format!("10.77.{}.0/24", index + 1);
            batch += &format!("addr add {address}/24 dev {device} noprefixroute\nlink set {device} mtu 1500 up\n");
            // The networks are apart: from an address of one there is no way into another.
            for table in ["main".to_owned(), table.to_string()] {
                let route = format!("{network} dev {device} src {address} table {table}");
                batch += &format!("route add {route} congctl {CONGESTION_CONTROL}\n");
            }
            batch += &format!("route add unreachable 10.77.0.0/16 table {table}\n");
            batch += &format!("rule add from {address} lookup {table}\n");
        }
        ip(&["-n", namespace, "-batch", "-"], &batch)?;
        Ok(files)
    }

    /// Makes the devices of uplinks: each has a default route of the client, there is no rule for any address, and the
    /// server's only address, [`BEYOND`], is behind all of them. Answers go back to where the client's address is.
    pub(crate) fn add_uplinks(&self, count: usize) -> Outcome<[Vec<File>; 2]> {
        let open = || (0..count).map(|index| sys::open_tun(&device(index))).collect::<io::Result<Vec<File>>>();
        let files = [sys::in_namespace(&self.client, open)?, sys::in_namespace(&self.server, open)?];
        let (mut client_side, mut server_side) = (String::new(), format!("addr add {BEYOND}/32 dev lo\n"));
        for index in 0..count {
            let (device, metric) = (device(index), 100 + index);
            for (batch, address) in [(&mut client_side, client(index)), (&mut server_side, server(index))] {
                *batch += &format!("addr add {address}/24 dev {device}\nlink set {device} mtu 1500 up\n");
            }
            client_side += &format!("route add default via {} dev {device} metric {metric}\n", server(index));
        }
        ip(&["-n", &self.client, "-batch", "-"], &client_side)?;
        ip(&["-n", &self.server, "-batch", "-"], &server_side)?;
        Ok(files)
    }

    /// Adds [`BEYOND`] to the server, to which `count` paths lead from the client's address on each.
    pub(crate) fn add_beyond(&self, count: usize) -> Outcome {
        let route = |index: usize| {
            let (gateway, device, table) = (server(index), device(index), 100 + index);
            format!("route add {BEYOND} via {gateway} dev {device} table {table} congctl {CONGESTION_CONTROL}\n")
        };
        ip(&["-n", &self.client, "-batch", "-"], &(0..count).map(route).collect::<String>())?;
        ip(&["-n", &self.server, "-batch", "-"], &format!("addr add {BEYOND}/32 dev lo\n"))
    }

    /// Configures the kernel's MPTCP to use all of the paths.
    pub(crate) fn use_subflows(&self, count: usize, subflows: Subflows) -> Outcome {
        let flag = if subflows == Subflows::Backup { " backup" } else { "" };
        let (mut client_side, mut server_side) = (String::new(), String::new());
        for index in 1..count {
            client_side += &format!("endpoint add {} subflow fullmesh{flag}\n", client(index));
            server_side += &format!("endpoint add {} signal{flag}\n", server(index));
        }
        for (namespace, batch) in [(&self.client, client_side), (&self.server, server_side)] {
            let lines: String = batch.lines().map(|line| format!("mptcp {line}\n")).collect();
            let limits = "mptcp limits set subflow 8 add_addr_accepted 8\n";
            ip(&["-n", namespace, "-batch", "-"], &format!("{limits}{lines}"))?;
        }
        Ok(())
    }
}

impl Drop for Namespaces {
    fn drop(&mut self) {
        remove(&self.client);
        remove(&self.server);
    }
}

/// What the names of all namespaces of the lab begin with; the process that made them comes behind it.
const PREFIX: &str = "tcplslab";

/// Removes what processes that were killed have left.
pub(crate) fn clean_up() {
    let Ok(entries) = std::fs::read_dir("/var/run/netns") else { return };
    for name in entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()) {
        let process = name.strip_prefix(PREFIX).and_then(|rest| rest.split('-').next());
        if process.is_some_and(|process| !std::path::Path::new("/proc").join(process).exists()) {
            remove(&name);
        }
    }
}

fn remove(namespace: &str) {
    let pids = Command::new("ip").args(["netns", "pids", namespace]).stderr(Stdio::null()).output();
    let pids = pids.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    for pid in pids.split_whitespace().filter_map(|pid| rustix::process::Pid::from_raw(pid.parse().ok()?)) {
        _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
    }
    _ = Command::new("ip").args(["netns", "del", namespace]).stderr(Stdio::null()).status();
}

fn device(index: usize) -> String {
    format!("path{}", index + 1)
}

fn set_all() -> io::Result<()> {
    for (name, value) in SETTINGS {
        match std::fs::write(format!("/proc/sys/net/{name}"), value) {
            // A kernel that lacks it has nothing to be set.
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

/// Runs `ip` with this input.
fn ip(arguments: &[&str], input: &str) -> Outcome {
    let mut command = Command::new("ip");
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|error| format!("can't run ip (iproute2): {error}"))?;
    child.stdin.take().expect("it is piped").write_all(input.as_bytes())?;
    let output = child.wait_with_output()?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("ip {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr).trim()).into())
}
