//! HAProxy and nginx with the configurations in `docs/deploy`, once for each mode of balancing.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::process::Stdio;

use tokio::net::TcpStream;
use tokio::process::{Child, Command};

use crate::support::ANY;

/// The address that a balancer connects from. The servers take PROXY protocol headers from there alone.
pub(super) const SOURCE: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 100);

/// A load balancer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Program {
    Haproxy,
    Nginx,
}

impl Program {
    /// The ways in which it selects a server, as its configuration has them.
    const fn modes(self) -> &'static [&'static str] {
        match self {
            Self::Haproxy => &["roundrobin", "leastconn", "source", "random", "static-rr"],
            Self::Nginx => &["", "least_conn;", "random;", "hash $remote_addr;"],
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Haproxy => "haproxy",
            Self::Nginx => "nginx",
        }
    }

    const fn file(self) -> &'static str {
        match self {
            Self::Haproxy => "haproxy.cfg",
            Self::Nginx => "nginx.conf",
        }
    }

    /// The configuration in `docs/deploy`, for these servers, with all modes: one at each of `addresses`.
    fn configuration(self, servers: &[SocketAddr], addresses: &[SocketAddr]) -> String {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/deploy").join(self.file());
        let mut text = std::fs::read_to_string(file).unwrap();
        for (host, server) in (1..).zip(servers) {
            text = text.replace(&format!("10.0.0.{host}:443"), &server.to_string());
        }
        let modes = self.modes().iter().zip(addresses).enumerate();
        match self {
            Self::Haproxy => {
                let (head, section) = text.split_at(text.find("frontend tcpls").unwrap());
                let sections = modes.map(|(number, (mode, address))| {
                    let section = section.replace("tcpls\n", &format!("tcpls-{number}\n"));
                    let section = section.replace("backend servers", &format!("backend servers-{number}"));
                    let section = section.replace("balance roundrobin", &format!("balance {mode}"));
                    let section = section.replace("default-server", &format!("default-server source {SOURCE}"));
                    section.replace("bind :443", &format!("bind {address}"))
                });
                [head.to_owned(), sections.collect()].concat()
            }
            Self::Nginx => {
                let (head, section) = text.split_at(text.find("    upstream servers").unwrap());
                let (section, tail) = section.split_at(section.rfind('}').unwrap());
                let sections = modes.map(|(number, (mode, address))| {
                    let section = section.replace("servers {", &format!("servers-{number} {{ {mode}"));
                    let section =
                        section.replace("pass servers", &format!("bind {SOURCE}; proxy_pass servers-{number}"));
                    section.replace("listen 443", &format!("listen {address}"))
                });
                let module = Path::new("/usr/lib/nginx/modules/ngx_stream_module.so");
                let load = module.exists().then(|| format!("load_module {};\n", module.display()));
                [load.unwrap_or_default(), head.to_owned(), sections.collect(), tail.to_owned()].concat()
            }
        }
    }
}

/// A load balancer that runs.
pub(super) struct Running {
    child: Child,
    /// One for each mode.
    pub(super) addresses: Vec<SocketAddr>,
}

impl Running {
    /// Starts one in front of these servers; `None`, with a note, if it is not installed.
    pub(super) async fn start(program: Program, directory: &Path, servers: &[SocketAddr]) -> Option<Self> {
        let free: Vec<TcpListener> = program.modes().iter().map(|_| TcpListener::bind(ANY).unwrap()).collect();
        let addresses: Vec<SocketAddr> = free.iter().map(|free| free.local_addr().unwrap()).collect();
        let file = directory.join(program.file());
        std::fs::write(&file, program.configuration(servers, &addresses)).unwrap();
        drop(free);
        let mut command = Command::new(program.name());
        if program == Program::Haproxy {
            command.args(["-db", "-f"]).arg(&file);
        } else {
            let options = "daemon off; master_process off; pid nginx.pid; error_log stderr;";
            command.arg("-p").arg(directory).args(["-g", options, "-c"]).arg(&file);
        }
        let log = std::fs::File::create(directory.join("balancer.log")).unwrap();
        match command.kill_on_drop(true).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn() {
            Ok(mut child) => {
                for address in &addresses {
                    while TcpStream::connect(address).await.is_err() {
                        let text = || std::fs::read_to_string(directory.join("balancer.log")).unwrap();
                        assert!(child.try_wait().unwrap().is_none(), "{program:?} does not start: {}", text());
                        tokio::task::yield_now().await;
                    }
                }
                Some(Self { child, addresses })
            }
            Err(error) => {
                println!("skipped: {} can't be run ({error})", program.name());
                None
            }
        }
    }

    /// Ends it.
    pub(super) async fn kill(&mut self) {
        self.child.kill().await.unwrap();
    }
}
