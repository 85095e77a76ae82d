//! A simulator: clients, a server and the network between them in virtual time, so that a run takes milliseconds, gives
//! the same each time, and can be inspected step by step. The sessions are those of `tcpls_core`, unchanged;
//! `docs/simulation.md` is the guide.
//!
//! What runs in it is a [`Scenario`], often from a file, or a [`Simulation`] with applications of your own: async functions
//! over the sessions and streams of [`crate::net`], which run over real sockets unchanged. A run that fails names its seed,
//! and the same seed fails in the same way:
//!
//! ```
//! use std::time::Duration;
//! use tcpls_harness::net::Session;
//! use tcpls_harness::sim::scenario::Path;
//! use tcpls_harness::sim::{Failure, Report, Simulation};
//! use tokio::io::{AsyncReadExt, AsyncWriteExt};
//!
//! async fn answer(session: Session) -> std::io::Result<()> {
//!     while let Some(mut stream) = session.accept_stream().await {
//!         let mut request = String::new();
//!         stream.read_to_string(&mut request).await?;
//!         let thinks = Duration::from_millis(session.runtime().random() % 50);
//!         session.runtime().sleep(thinks).await;
//!         stream.write_all(request.to_uppercase().as_bytes()).await?;
//!         stream.shutdown().await?;
//!     }
//!     Ok(())
//! }
//!
//! async fn ask(session: Session) {
//!     let before = session.runtime().now();
//!     let mut stream = session.open_stream().await.unwrap();
//!     stream.write_all(b"are you there?").await.unwrap();
//!     stream.shutdown().await.unwrap();
//!     let mut answer = String::new();
//!     stream.read_to_string(&mut answer).await.unwrap();
//!     let took = session.runtime().now() - before;
//!     assert!(took < Duration::from_millis(80), "the answer took {took:?}");
//! }
//!
//! fn simulate(seed: u64) -> Result<Report, Failure> {
//!     let path = Path::new("satellite").rate(8_000_000).delay(Duration::from_millis(20));
//!     Simulation::new(seed).path(path).server(answer).client(ask).run()
//! }
//!
//! let failure = (0..100).find_map(|seed| simulate(seed).err()).expect("a slow answer");
//! assert!(failure.to_string().contains("client 1 panicked: the answer took"), "{failure}");
//! assert!(failure.to_string().ends_with(&format!("replay with seed {}", failure.seed)));
//! assert_eq!(failure.to_string(), simulate(failure.seed).unwrap_err().to_string());
//! ```
//!
//! | folder or file | subject |
//! | --- | --- |
//! | `scenario` | what a run is made from: a TOML file, or a random scenario |
//! | `network` | sockets on paths, over two transports: byte pipes over links, and packets of smoltcp; middleboxes; links of users |
//! | `hosts` | clients, the server with its account, attackers; what runs one session for any of them |
//! | `traffic` | the transfers of a scenario, which know what must be delivered |
//! | `applications` | applications of users: their start and results, their turns, their hold on sessions and the network |
//! | `world` | one run: the loop, the timeline, and checks after a quiet time and at the end; invariants are in the core's test kit |
//! | `simulation` | networks and applications in Rust |
//! | `report`, `trace` | the outcome of a run, and a record of what happened |
//! | `swarm` | random scenarios, and the reduction of one that fails |
//! | `real_sockets` | the same scenario over real sockets |
//! | `event_queue`, `deadlines`, `rng` | events in order of time, the deadlines of many, randomness |
//!
//! A test reads the imports: each topic uses those that its data comes from, and no two use each other.

mod applications;
mod deadlines;
mod event_queue;
mod hosts;
mod network;
mod real_sockets;
pub mod report;
mod rng;
pub mod scenario;
mod simulation;
pub mod swarm;
mod trace;
mod traffic;
mod world;

pub use self::applications::{ApplicationOutput, NetworkHandle};
pub use self::hosts::SessionEvent;
pub use self::network::LinkModel;
#[cfg(feature = "cli")]
pub(crate) use self::real_sockets::check_real;
pub use self::real_sockets::{RealOptions, RealTransfer, run_real};
pub use self::report::Report;
pub use self::rng::SimRng;
pub use self::scenario::Scenario;
pub use self::simulation::{Failure, RunningSimulation, Simulation};
pub use self::world::{RunOptions, run};
