//! A property of whole networks, tested with `proptest` on the simulator: whatever outage hits one of two paths, a download
//! completes and never pauses for long.
//!
//! `cargo run -p tcpls-harness --example property_test` runs 48 simulated downloads in virtual time, which takes seconds.
//! proptest shrinks a network that fails to the simplest one, and prints it with the seed: `tcpls sim run` replays it.

use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseError, TestError, TestRunner};
use tcpls_harness::sim::{RunOptions, Scenario, run};

/// A network with two paths, and an outage of one of them during a download.
#[derive(Clone, Debug)]
struct Outage {
    mbit_per_second: u32,
    delay_ms: u64,
    path: &'static str,
    kind: &'static str,
    starts_ms: u64,
    lasts_ms: u64,
    seed: u64,
}

impl Outage {
    /// As a file for `tcpls sim run`.
    fn toml(&self) -> String {
        let Self { mbit_per_second: rate, delay_ms: delay, path, kind, starts_ms: from, .. } = self;
        let until = if *kind == "reset" { String::new() } else { format!("until = \"{}ms\"", from + self.lasts_ms) };
        format!(
            r#"
            title = "an outage of path {path}"
            path = [
                {{ name = "a", rate = "{rate}Mbit/s", delay = "{delay}ms" }},
                {{ name = "b", rate = "10Mbit/s", delay = "15ms" }},
            ]
            transfer = [{{ at = "500ms", receive = "3MB" }}]
            [[fault]]
            kind = "{kind}"
            path = "{path}"
            at = "{from}ms"
            {until}
            "#
        )
    }
}

fn outages() -> impl Strategy<Value = Outage> {
    let (path, kind) = (prop_oneof![Just("a"), Just("b")], prop_oneof![Just("black-hole"), Just("reset")]);
    (2u32..40, 2u64..80, path, kind, 600u64..2_000, 100u64..4_000, any::<u64>()).prop_map(
        |(mbit_per_second, delay_ms, path, kind, starts_ms, lasts_ms, seed)| Outage {
            mbit_per_second,
            delay_ms,
            path,
            kind,
            starts_ms,
            lasts_ms,
            seed,
        },
    )
}

/// The property: all data arrives, no oracle of the simulator complains, and no pause exceeds a second.
fn survives(outage: &Outage) -> Result<(), TestCaseError> {
    let scenario = Scenario::parse(&outage.toml()).map_err(TestCaseError::fail)?;
    let report = run(&scenario, outage.seed, RunOptions { hash: false, ..RunOptions::default() });
    prop_assert!(report.is_good(), "wrong: {:?}, missed: {:?}", report.wrong, report.missed);
    let transfer = &report.sessions[0].transfers[0];
    let (pause, at) = transfer.gap;
    prop_assert!(pause < 1.0, "a pause of {pause:.3} s at {at:.3} s");
    Ok(())
}

fn main() {
    let config = Config { cases: 48, failure_persistence: None, ..Config::default() };
    match TestRunner::new(config).run(&outages(), |outage| survives(&outage)) {
        Ok(()) => println!("48 outages, 48 downloads completed"),
        Err(TestError::Fail(why, outage)) => {
            println!("{why}\nsave this and run: tcpls sim run FILE --seed {}\n{}", outage.seed, outage.toml());
            std::process::exit(1);
        }
        Err(TestError::Abort(why)) => panic!("{why}"),
    }
}

/// In a test, `proptest!` does the same and needs no `main`.
#[cfg(test)]
mod tests {
    use super::*;

    proptest! {
        #![proptest_config(Config { cases: 16, failure_persistence: None, ..Config::default() })]

        #[test]
        fn download_survives_any_outage_of_one_of_two_paths(outage in outages()) {
            survives(&outage)?;
        }
    }
}
