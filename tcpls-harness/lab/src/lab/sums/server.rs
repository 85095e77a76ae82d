//! The server that is measured: a process with limits.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};

use super::super::Outcome;
use super::{Killed, LARGE, SMALL};

/// A `tcpls serve`, killed when it is dropped.
pub(super) struct Server {
    process: Killed,
    pub(super) address: SocketAddr,
    /// Resident memory at its most, in KiB.
    pub(super) most_memory: u64,
    pub(super) most_descriptors: usize,
}

impl Server {
    /// Starts it with `memory` MiB and this many descriptors; its certificate is `directory/ca.pem`.
    pub(super) fn start(tcpls: &Path, directory: &Path, descriptors: u64, memory: u64) -> Outcome<Self> {
        let root = directory.join("root");
        std::fs::create_dir_all(&root)?;
        for (name, len) in [SMALL, LARGE] {
            std::fs::File::create(root.join(name))?.set_len(len)?;
        }
        let limits = format!("ulimit -n {descriptors}; ulimit -d {}; exec \"$@\"", memory * 1024);
        let mut child = Command::new("sh")
            .args(["-c", &limits, "sh"])
            .arg(tcpls)
            .args(["serve", "--json", "--listen", "127.0.0.1:0", "--root"])
            .arg(&root)
            .arg("--ca-out")
            .arg(directory.join("ca.pem"))
            .env("XDG_STATE_HOME", directory)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()?;
        let out = child.stdout.take().ok_or("the server has no output")?;
        let mut lines = BufReader::new(out).lines();
        let address = loop {
            let line = lines.next().ok_or("the server did not start")??;
            let event: serde_json::Value = serde_json::from_str(&line)?;
            if let Some(address) = event["addresses"][0].as_str() {
                break address.parse()?;
            }
        };
        // What it says is read as an operator's log would: nothing waits for a full pipe.
        std::thread::spawn(move || lines.map_while(Result::ok).for_each(drop));
        Ok(Self { process: Killed(child), address, most_memory: 0, most_descriptors: 0 })
    }

    /// Looks at what it uses.
    pub(super) fn look(&mut self) -> Outcome {
        if let Some(status) = self.process.0.try_wait()? {
            return Err(format!("the server ended: {status}").into());
        }
        let process = Path::new("/proc").join(self.process.0.id().to_string());
        let status = std::fs::read_to_string(process.join("status"))?;
        let rss = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or_default();
        let rss = rss.trim().trim_end_matches("kB").trim().parse().unwrap_or(0);
        self.most_memory = self.most_memory.max(rss);
        self.most_descriptors = self.most_descriptors.max(std::fs::read_dir(process.join("fd"))?.count());
        Ok(())
    }

    /// Processor time that it has used.
    pub(super) fn cpu_seconds(&self) -> Outcome<f64> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.process.0.id()))?;
        let fields = stat.rsplit(") ").next().unwrap_or_default().split(' ');
        let ticks: u64 = fields.skip(11).take(2).filter_map(|ticks| ticks.parse::<u64>().ok()).sum();
        Ok(ticks as f64 / rustix::param::clock_ticks_per_second() as f64)
    }
}
