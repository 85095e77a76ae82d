//! A world in a box: a client, a server and the network between them in virtual time, so that a run takes milliseconds, is
//! the same each time, and can be looked at step by step. The sessions are those of `tcpls_core`, unchanged;
//! `docs/simulation.md` is the guide.
//!
//! | file | what is in it |
//! | --- | --- |
//! | `scenario` | what a run is made from: a TOML file, or chance |
//! | `world` | one run: the loop, the timeline |
//! | `net` | sockets on paths, as both transports give them |
//! | `pipes` | the fast transport: byte pipes over links |
//! | `boxes` | middleboxes on a path of pipes |
//! | `packets` | the faithful transport: smoltcp over links that lose and reorder packets |
//! | `client`, `server` | the hosts; `driver` is what both do with a session |
//! | `account`, `flood` | what all sessions of the server may hold; attackers who use it up |
//! | `transfer`, `pattern`, `actions` | the applications, which know what must be delivered |
//! | `rest`, `verdict` | what must hold after a quiet time and at the end; what holds at any moment is in the core's test kit |
//! | `report` | what came of a run |
//! | `swarm` | random scenarios, and how a failing one is made small |
//! | `real` | the same scenario over real sockets |
//! | `agenda`, `chance`, `trace` | order in time, randomness, a record of what happened |
//! | `tls` | the handshakes, from the core's test kit |

mod account;
mod actions;
mod agenda;
mod boxes;
mod chance;
mod client;
mod driver;
mod flood;
mod net;
mod packets;
mod pattern;
mod pipes;
mod real;
pub mod report;
mod rest;
pub mod scenario;
mod server;
pub mod swarm;
mod tls;
mod trace;
mod transfer;
mod verdict;
mod world;

pub use self::real::{RealTransfer, run_real};
pub use self::report::Report;
pub use self::scenario::Scenario;
pub use self::world::{Watch, run};
