//! Congestion controls as BPF programs: how a session asks for one, and what stands behind it (Linux).
//!
//! A program is known by the SHA-256 of its object file ([`ProgramId`]). A process of its own, the *helper*, may
//! register programs with the kernel; a process that asks it gets the name under which sockets select the program, and
//! needs no privilege. `message` is what the two say to each other, `signed` an object that a peer may bring, `store`
//! decides what is registered, `ask` asks. Only `register` and `parameters` read objects, and only `register` uses
//! libbpf.

#[cfg(unix)]
mod ask;
mod id;
mod message;
#[cfg(all(feature = "bpf", target_os = "linux"))]
mod parameters;
#[cfg(all(feature = "bpf", target_os = "linux"))]
mod register;
mod signed;
mod store;

#[cfg(unix)]
pub use self::ask::Helper;
pub use self::id::{ProgramId, ProgramName};
pub use self::message::{Answer, HEADER_LEN, MAX_REQUEST, Malformed, Request, Wanted};
#[cfg(all(feature = "bpf", target_os = "linux"))]
pub use self::parameters::{ParameterError, set_parameter};
#[cfg(all(feature = "bpf", target_os = "linux"))]
pub use self::register::{Kernel, Link};
pub use self::signed::{SIGNATURE_LEN, SigningKey, VerifyingKey, verify};
pub use self::store::{MAX_ALLOWED, MAX_BROUGHT, MAX_KEYS, Programs, Register};

/// The longest object, in bytes.
pub const MAX_OBJECT: usize = 32 << 10;
