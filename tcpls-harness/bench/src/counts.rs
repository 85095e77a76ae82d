//! Instructions for each unit of work in memory, counted by callgrind. They do not depend on the load of the machine,
//! so a regression of a few per cent shows. The recorded counts are in `counts.toml` of this package.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde::{Deserialize, Serialize};
use tcpls_results::{Better, Cell, Column, Goal, Row, Table};

use crate::Outcome;
use crate::memory::chosen;
use crate::memory::work::{WORKLOADS, Work, Workload};
use crate::output::Output;
use crate::tls::PROVIDER;

/// Instructions for each unit of work, against those that are kept in counts.toml; fails when there are more (needs valgrind)
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Workloads to count, separated by commas. Default: all
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    only: Vec<String>,
    /// Growth of a count, in per cent, above which the command fails
    #[arg(long, value_name = "PERCENT", default_value_t = 3.0)]
    tolerance: f64,
    /// Write the new counts to counts.toml
    #[arg(long)]
    update: bool,
    #[command(flatten)]
    output: Output,
}

/// Run one workload, under valgrind
#[derive(Clone, Debug, clap::Args)]
pub struct CountedArgs {
    name: String,
}

/// The content of counts.toml.
#[derive(Serialize, Deserialize)]
struct Kept {
    /// Another compiler gives other counts.
    rustc: String,
    /// Instructions for one unit, by crypto provider and workload.
    instructions: BTreeMap<String, BTreeMap<String, u64>>,
}

/// Counts all, compares, and prints.
pub fn run(args: &Args) -> Outcome {
    let mut kept: Kept = toml::from_str(&std::fs::read_to_string(path())?)?;
    let mut rows = Vec::new();
    let (mut grown, mut counted, mut counts) = (Vec::new(), BTreeMap::new(), BTreeMap::new());
    for work in chosen(&args.only)? {
        let now = count_unit(work, &mut counts)?;
        let before = kept.instructions.get(PROVIDER).and_then(|counts| counts.get(work.name)).copied();
        let change = before.map_or(f64::NAN, |before| (now as f64 / before.max(1) as f64 - 1.0) * 100.0);
        if !args.update && (change.is_nan() || change > args.tolerance) {
            grown.push(work.name);
        }
        let above = work.above.map_or(String::new(), |above| format!(" above {above}"));
        let goal = before.map(|before| Goal::AtMost((before as f64 * (1.0 + args.tolerance / 100.0)).floor()));
        let cells = vec![Cell::value(now as f64).map(|cell| cell.with_goal(goal)), Cell::value(change)];
        rows.push(Row { name: format!("{}{above}: {}", work.name, work.unit), cells });
        counted.insert(work.name.to_owned(), now);
    }
    let columns = vec![
        Column::portable("instructions of both ends", "", 0, Better::Lower),
        Column::portable("change from counts.toml", "%", 1, Better::Neither),
    ];
    let rows_are = "workload: unit".to_owned();
    args.output.give(vec![Table { name: "instructions".to_owned(), rows_are, columns, rows }])?;
    if args.update {
        kept.rustc = rustc()?;
        kept.instructions.entry(PROVIDER.to_owned()).or_default().extend(counted);
        std::fs::write(path(), toml::to_string(&kept)?)?;
        return Ok(());
    }
    if grown.is_empty() { Ok(()) } else { Err(format!("more instructions than before: {}", grown.join(", ")).into()) }
}

fn path() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("counts.toml")
}

fn rustc() -> Outcome<String> {
    let version = Command::new("rustc").arg("--version").output()?;
    Ok(String::from_utf8(version.stdout)?.trim().to_owned())
}

/// valgrind is some 50 times slower than the machine.
fn counted_units(units: u32) -> u32 {
    units / 20
}

/// Instructions for one unit, less those of the work below it. `counts` remembers those without that.
fn count_unit(work: &Workload, counts: &mut BTreeMap<&'static str, u64>) -> Outcome<u64> {
    let mut of = |work: &Workload| -> Outcome<u64> {
        if let Some(count) = counts.get(work.name) {
            return Ok(*count);
        }
        let count = count(work.name)? / u64::from(counted_units(work.units));
        counts.insert(work.name, count);
        Ok(count)
    };
    let below = match WORKLOADS.iter().find(|other| Some(other.name) == work.above) {
        Some(below) => of(below)?,
        None => 0,
    };
    Ok(of(work)?.saturating_sub(below))
}

/// Runs the work under callgrind, which counts only inside [`count_this`].
fn count(name: &str) -> Outcome<u64> {
    let out: PathBuf = std::env::temp_dir().join(format!("tcpls-counts-{}-{name}", std::process::id()));
    let status = Command::new("valgrind")
        .args(["--tool=callgrind", "--collect-atstart=no", "--toggle-collect=*count_this*", "--compress-strings=no"])
        .arg(format!("--callgrind-out-file={}", out.display()))
        .arg(std::env::current_exe()?)
        .args(["counted", name])
        .stderr(Stdio::null())
        .status()
        .map_err(|error| format!("valgrind: {error}"))?;
    if !status.success() {
        return Err(format!("{name} failed under valgrind").into());
    }
    let counts = std::fs::read_to_string(&out)?;
    std::fs::remove_file(&out)?;
    let total = counts.lines().find_map(|line| line.strip_prefix("summary: ").or(line.strip_prefix("totals: ")));
    Ok(total.ok_or("callgrind says no total")?.trim().parse()?)
}

/// Does one piece of work, and something of it before, so that buffers have grown.
pub fn run_counted(args: &CountedArgs) -> Outcome {
    for work in chosen(std::slice::from_ref(&args.name))? {
        let mut act = (work.prepare)();
        let units = counted_units(work.units);
        act(units);
        count_this(&mut act, units);
    }
    Ok(())
}

/// Callgrind knows it by its name.
#[inline(never)]
fn count_this(act: &mut Work, units: u32) {
    act(units);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_unit_of_work_has_a_recorded_count_and_no_other() {
        let kept: Kept = toml::from_str(&std::fs::read_to_string(path()).unwrap()).unwrap();
        let mut names: Vec<&str> = WORKLOADS.iter().map(|work| work.name).collect();
        names.sort_unstable();
        for counts in kept.instructions.values() {
            assert_eq!(counts.keys().collect::<Vec<_>>(), names);
        }
        assert!(kept.instructions.contains_key(PROVIDER), "none for {PROVIDER}");
    }

    #[test]
    fn all_work_can_be_done() {
        WORKLOADS.iter().for_each(|work| (work.prepare)()(3));
    }
}
