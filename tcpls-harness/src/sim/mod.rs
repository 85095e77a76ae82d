//! A simulator: clients, a server and the network between them in virtual time, so that a run takes milliseconds, gives
//! the same each time, and can be inspected step by step. The sessions are those of `tcpls_core`, unchanged;
//! `docs/simulation.md` is the guide.
//!
//! | file | contents |
//! | --- | --- |
//! | `scenario` | what a run is made from: a TOML file, or a random scenario |
//! | `world` | one run: the loop and the timeline |
//! | `env` | what the hosts of a run share |
//! | `network` | the interface of both transports: sockets on paths |
//! | `pipes` | the fast transport: byte pipes over links |
//! | `middleboxes` | middleboxes on a path of pipes |
//! | `packets` | the faithful transport: smoltcp over links that lose and reorder packets |
//! | `client`, `server`, `attacker` | the hosts; `driver` runs one session for any of them |
//! | `account` | the server's account: what all its sessions may hold |
//! | `transfers`, `pattern`, `actions` | the applications, which know what must be delivered |
//! | `quiescence`, `final_checks` | what must hold after a quiet time and at the end; what must hold at any moment is in the core's test kit |
//! | `report` | the outcome of a run |
//! | `swarm` | random scenarios, and the reduction of one that fails |
//! | `real_sockets` | the same scenario over real sockets |
//! | `event_queue`, `rng`, `trace` | events in order of time, randomness, a record of what happened |
//! | `tls` | the handshakes, from the core's test kit |

mod account;
mod actions;
mod attacker;
mod client;
mod driver;
mod env;
mod event_queue;
mod final_checks;
mod middleboxes;
mod network;
mod packets;
mod pattern;
mod pipes;
mod quiescence;
mod real_sockets;
pub mod report;
mod rng;
pub mod scenario;
mod server;
pub mod swarm;
mod tls;
mod trace;
mod transfers;
mod world;

pub use self::real_sockets::{RealTransfer, run_real};
pub use self::report::Report;
pub use self::scenario::Scenario;
pub use self::world::{RunOptions, run};
