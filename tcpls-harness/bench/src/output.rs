//! Where the results of a measurement go: to the terminal as tables, or as JSON, for the documentation and for `compare`.

use std::path::PathBuf;

use tcpls_results::{Measured, Results, Table, compare_files};

use crate::Outcome;

/// Where results go.
#[derive(Clone, Debug, clap::Args)]
pub struct Output {
    /// Write the results as JSON to this file, for the documentation and for `compare`
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Print the results as JSON
    #[arg(long)]
    json: bool,
}

impl Output {
    /// Gives the tables to whom they are for.
    pub fn give(&self, tables: Vec<Table>) -> Outcome {
        let results = Results { measured: Measured::here(command()), tables };
        if let Some(out) = &self.out {
            results.write(out)?;
        }
        if self.json {
            print!("{}", results.json());
            return Ok(());
        }
        for table in &results.tables {
            println!("{}:\n{}", table.name, table.text());
        }
        Ok(())
    }
}

/// The command that measures the same again, without what is said of the output.
fn command() -> String {
    let features = if cfg!(feature = "aws-lc-rs") { " --features aws-lc-rs" } else { "" };
    let mut command = format!("cargo run --release{features} --");
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--json" => {}
            "--out" => _ = args.next(),
            other if other.starts_with("--out=") => {}
            other => command = format!("{command} {other}"),
        }
    }
    command
}

/// Name the regressions between two files of results, of the benchmark or the lab; fails if there are any
#[derive(Clone, Debug, clap::Args)]
pub struct CompareArgs {
    /// The results before
    old: PathBuf,
    /// The results after
    new: PathBuf,
    /// How much worse a figure may be, in per cent. Figures of machines under load vary by more than this
    #[arg(long, value_name = "PERCENT", default_value_t = 5.0)]
    tolerance: f64,
}

/// Compares and prints.
pub fn compare(args: &CompareArgs) -> Outcome {
    if compare_files(&args.old, &args.new, args.tolerance)? { Ok(()) } else { std::process::exit(1) }
}
