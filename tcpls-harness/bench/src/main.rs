//! How fast TCPLS is: over loopback next to its peers in the same run, and in memory.
//!
//! A package and a workspace of its own, so that users and developers of the library build none of the peers. Nothing
//! here is used by the library. docs/performance.md has the commands and the results.

mod cores;
mod counts;
mod curves;
mod footprint;
mod hop;
mod joins;
mod latency;
mod loopback;
mod many;
mod median;
mod memory;
mod meter;
mod output;
mod records;
mod sockets;

mod threads;
mod tls;
mod tunnel;

use clap::Parser;

/// Why a measurement failed.
pub type Failure = Box<dyn std::error::Error + Send + Sync>;
/// The result of a measurement.
pub type Outcome<T = ()> = Result<T, Failure>;

#[global_allocator]
static ALLOCATOR: meter::Counting = meter::Counting;

/// Measure the speed and cost of TCPLS
#[derive(Debug, Parser)]
enum Command {
    Loopback(loopback::Args),
    Latency(latency::Args),
    Memory(memory::Args),
    Joins(joins::Args),
    Footprint(footprint::Args),
    Hop(hop::Args),
    Many(many::Args),
    Tunnel(tunnel::Args),
    Counts(counts::Args),
    Curves(curves::Args),
    Compare(output::CompareArgs),
    #[command(hide = true)]
    Counted(counts::CountedArgs),
    #[command(hide = true)]
    ServeMany(many::ServeArgs),
}

fn main() -> Outcome {
    match Command::parse() {
        Command::Loopback(args) => loopback::run(&args),
        Command::Latency(args) => latency::run(&args),
        Command::Joins(args) => joins::run(&args),
        Command::Footprint(args) => footprint::run(&args),
        Command::Hop(args) => hop::run(&args),
        Command::Many(args) => many::run(&args),
        Command::Tunnel(args) => tunnel::run(&args),
        Command::ServeMany(args) => many::serve(&args),
        Command::Memory(args) => memory::run(&args),
        Command::Counts(args) => counts::run(&args),
        Command::Curves(args) => curves::run(&args),
        Command::Compare(args) => output::compare(&args),
        Command::Counted(args) => counts::run_counted(&args),
    }
}
