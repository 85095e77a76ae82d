//! `tcpls sim`: networks in virtual time.

mod run;
mod swarm;

use clap::Subcommand;

use super::Outcome;

/// Simulate a client, a server and a network in virtual time
#[derive(Debug, Subcommand)]
pub enum Sim {
    /// Run a scenario file
    Run(run::Args),
    /// Run scenarios from chance, and make those that fail as small as they get
    Swarm(swarm::Args),
}

pub(crate) async fn run(sim: Sim) -> Outcome {
    match sim {
        Sim::Run(args) => run::run(&args).await,
        Sim::Swarm(args) => swarm::run(&args),
    }
}
