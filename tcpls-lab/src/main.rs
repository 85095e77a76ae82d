//! `tcpls-lab`: measures what a dying, slow or recovering path costs, for TCPLS, kernel MPTCP and TLS over TCP.
//!
//! The paths are made by the lab itself: TUN devices in two network namespaces and a thread between them (`wire`) that carries
//! packets at a rate, with a delay, through a queue, and does the harm. The stacks are processes in the namespaces.

#[cfg(target_os = "linux")]
mod arrivals;
#[cfg(target_os = "linux")]
mod command;
#[cfg(target_os = "linux")]
mod forge;
#[cfg(target_os = "linux")]
mod goal;
#[cfg(target_os = "linux")]
mod link;
#[cfg(target_os = "linux")]
mod middlebox;
#[cfg(target_os = "linux")]
mod netns;
#[cfg(target_os = "linux")]
mod path;
#[cfg(target_os = "linux")]
mod peer;
#[cfg(target_os = "linux")]
mod run;
#[cfg(target_os = "linux")]
mod scenario;
#[cfg(target_os = "linux")]
mod selftest;
#[cfg(target_os = "linux")]
mod stack;
#[cfg(target_os = "linux")]
mod summary;
#[cfg(target_os = "linux")]
mod sys;
#[cfg(target_os = "linux")]
mod wire;

use std::process::ExitCode;

/// The error is written for people.
#[cfg(target_os = "linux")]
type Outcome<T = ()> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

#[cfg(target_os = "linux")]
fn main() -> ExitCode {
    command::main()
}

#[cfg(not(target_os = "linux"))]
fn main() -> ExitCode {
    eprintln!("tcpls-lab: network namespaces are Linux's: nothing can be measured here");
    ExitCode::from(77)
}
