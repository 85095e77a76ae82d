//! `tcpls bpf-helper`, which registers congestion controls with the kernel for servers that may not, and `tcpls bpf-sign`
//! for those who bring one.

#[cfg(all(feature = "bpf", target_os = "linux"))]
mod attend;
#[cfg(all(feature = "bpf", target_os = "linux"))]
mod confine;
mod helper;
mod sign;

#[cfg(all(feature = "bpf", target_os = "linux"))]
pub(super) use self::confine::confine;
pub use self::helper::HelperArgs;
pub(super) use self::helper::run;
pub use self::sign::SignArgs;
pub(super) use self::sign::sign;

/// Where helpers listen, unless an option says otherwise.
pub(crate) const SOCKET: &str = "/run/tcpls-bpf/socket";

#[cfg(not(all(feature = "bpf", target_os = "linux")))]
const UNAVAILABLE: &str = "this build can't read or register BPF programs; on Linux, build it with --features bpf";
