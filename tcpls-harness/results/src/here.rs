//! Date, machine, commit and compiler of a measurement that is made now.

use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::Measured;

impl Measured {
    /// Here and now, with the command `command`. What can't be found out is empty.
    pub fn here(command: String) -> Self {
        let days = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs() / 86_400);
        let changed = output("git", &["status", "--porcelain", "--untracked-files=no"]);
        let commit = output("git", &["rev-parse", "--short", "HEAD"]);
        Self {
            date: date(days),
            machine: machine(),
            commit: if changed.is_empty() || commit.is_empty() { commit } else { commit + "+" },
            rustc: output("rustc", &["--version"]).split(' ').nth(1).unwrap_or_default().to_owned(),
            command,
            note: String::new(),
        }
    }
}

fn output(program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).output();
    output.map_or(String::new(), |output| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

fn machine() -> String {
    let read = |path| std::fs::read_to_string(path).unwrap_or_default();
    let cpus = read("/proc/cpuinfo");
    let model = cpus.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let model = model.map_or(std::env::consts::ARCH, |(_, model)| model.trim());
    let virtual_machine = if cpus.contains(" hypervisor") { " in a virtual machine" } else { "" };
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let kernel = read("/proc/sys/kernel/osrelease");
    // Major and minor version: the rest differs between builds of the same kernel.
    let kernel: Vec<&str> = kernel.trim().split('.').take(2).collect();
    let system = if cfg!(target_os = "linux") { "Linux" } else { std::env::consts::OS };
    format!("{model}{virtual_machine}, {cores} cores, {system} {}", kernel.join(".")).trim_end().to_owned()
}

/// The date of a day that is counted from 1970.
fn date(days: u64) -> String {
    let is_leap = |year: u64| year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let (mut year, mut day) = (1970, days);
    while day >= 365 + u64::from(is_leap(year)) {
        day -= 365 + u64::from(is_leap(year));
        year += 1;
    }
    let february = 28 + u64::from(is_leap(year));
    let months = [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let mut month = 0;
    while day >= months[month] {
        day -= months[month];
        month += 1;
    }
    format!("{year}-{:02}-{:02}", month + 1, day + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_dates() {
        let dates = [0, 59, 11_016, 11_017, 20_778].map(date);
        assert_eq!(dates, ["1970-01-01", "1970-03-01", "2000-02-29", "2000-03-01", "2026-11-21"]);
    }

    #[test]
    fn a_measurement_knows_its_machine() {
        let measured = Measured::here("command".to_owned());
        assert!(measured.machine.contains(" cores, "), "{measured:?}");
    }
}
