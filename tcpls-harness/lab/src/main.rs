//! `tcpls-lab`: measures what a dying, slow or recovering path costs, for TCPLS, kernel MPTCP and TLS over TCP. Linux only.

#[cfg(target_os = "linux")]
mod lab;

use std::process::ExitCode;

#[cfg(target_os = "linux")]
fn main() -> ExitCode {
    lab::main()
}

#[cfg(not(target_os = "linux"))]
fn main() -> ExitCode {
    eprintln!("tcpls-lab: network namespaces are Linux's: nothing can be measured here");
    ExitCode::from(77)
}
