//! The hosts of a run: clients, the server, attackers.
//!
//! | file | subject |
//! | --- | --- |
//! | `client` | a client: dials, races handshakes, joins |
//! | `server` | the server: TCP connections that are not identified yet, claims, sessions |
//! | `account` | the server's account: what all its sessions may hold |
//! | `attacker` | a client that floods the server |
//! | `driver` | runs one session, for any host |
//! | `setup`, `tls` | how sessions are configured; the handshakes, from the core's test kit |
//! | `env` | what the hosts of a run share: the time, the network, the trace |

pub(crate) mod account;
pub(crate) mod attacker;
pub(crate) mod client;
pub(crate) mod driver;
pub(crate) mod env;
pub(crate) mod server;
pub(crate) mod setup;
pub(crate) mod tls;

pub use self::env::SessionEvent;
