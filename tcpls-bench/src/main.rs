//! How fast TCPLS is: over loopback next to its peers in the same run, and in memory.
//!
//! A package and a workspace of its own, so that whoever uses, builds or tests the library builds none of the peers. Nothing
//! here is used by the library. docs/performance.md says how to run it, and what came of it.

mod cores;
mod counts;
mod loopback;
mod memory;
mod meter;
mod records;
mod table;
mod tls;

use clap::Parser;

/// What a measurement comes to, or why it did not.
pub type Outcome<T = ()> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

#[global_allocator]
static ALLOCATOR: meter::Counting = meter::Counting;

/// How fast TCPLS is
#[derive(Debug, Parser)]
enum Command {
    Loopback(loopback::Args),
    Memory(memory::Args),
    Counts(counts::Args),
    #[command(hide = true)]
    Counted(counts::CountedArgs),
}

fn main() -> Outcome {
    match Command::parse() {
        Command::Loopback(args) => loopback::run(&args),
        Command::Memory(args) => memory::run(&args),
        Command::Counts(args) => counts::run(&args),
        Command::Counted(args) => counts::run_counted(&args),
    }
}
