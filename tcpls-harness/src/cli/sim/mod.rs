//! `tcpls sim`: networks in virtual time.

mod real;
mod run;
mod swarm;

use clap::Subcommand;

use super::Outcome;

/// Simulate clients, a server and a network in virtual time
#[derive(Debug, Subcommand)]
pub enum Sim {
    /// Run a scenario file
    Run(run::Args),
    /// Run random scenarios, and reduce those that fail
    Swarm(swarm::Args),
}

pub(crate) async fn run(sim: Sim) -> Outcome {
    match sim {
        Sim::Run(args) => run::run(&args).await,
        Sim::Swarm(args) => swarm::run(&args),
    }
}
