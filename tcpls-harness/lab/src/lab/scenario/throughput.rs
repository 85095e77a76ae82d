//! Downloads over paths that stay as they are: equal and unequal, long and shallow, lossy, slow, and several at a time. TLS on
//! each path alone says what the paths carry.

use super::{Case, PATH, Scenario, Stack, alone, at_least, goal, part_of, rivals};
use crate::lab::Outcome;
use crate::lab::goal::{Figure, Goal, Limit};
use crate::lab::outcome::MPTCP;
use crate::lab::path::PathSpec;

/// Names of the TLS cases, by path.
const TLS: [&str; 4] = ["tls on a", "tls on b", "tls on c", "tls on d"];
/// The same, paced by the kernel.
const PACED_TLS: [&str; 2] = ["paced tls on a", "paced tls on b"];

/// A path across a continent, with a queue of half of its bandwidth-delay product.
const FAT: PathSpec = PathSpec { rate: 150.0, rtt: 80.0, queue: 40.0, loss: 0.0 };
/// One with a queue that holds no burst.
const SHALLOW: PathSpec = PathSpec { rate: 50.0, rtt: 60.0, queue: 5.0, loss: 0.0 };
/// One of several.
const ONE_OF_MANY: PathSpec = PathSpec { rate: 50.0, rtt: 40.0, queue: 40.0, loss: 0.0 };

pub(super) fn all() -> Vec<Scenario> {
    vec![
        sum("sum-equal", "two paths of 25 Mbit/s", &[PATH; 2], &[40.0; 2]),
        sum_unequal(),
        wan_fat(),
        wan_shallow(),
        many("three", "three paths of 50 Mbit/s and 40 ms", 3),
        many("four", "four paths of 50 Mbit/s and 40 ms", 4),
        lossy("loss-little", "two paths of 25 Mbit/s that each lose a packet in 1000", [0.001; 2], 40.0),
        lossy("loss-much", "two paths of 25 Mbit/s that each lose a packet in 100", [0.01; 2], 12.0),
        lossy("loss-one", "two paths of 25 Mbit/s, one of which loses a packet in 100", [0.01, 0.0], 20.0),
        narrow("narrow-64-small", "90 kB over one path of 64 kbit/s with a queue of 4 kB", 0.064, 4e3),
        narrow("narrow-64-large", "90 kB over one path of 64 kbit/s with a queue of 64 kB", 0.064, 64e3),
        narrow("narrow-16-small", "90 kB over one path of 16 kbit/s with a queue of 4 kB", 0.016, 4e3),
        narrow("narrow-16-large", "90 kB over one path of 16 kbit/s with a queue of 64 kB", 0.016, 64e3),
    ]
}

/// Paths of the caller's choice that carry their part of the file for `seconds`.
///
/// # Errors
/// There are too many of them.
pub(crate) fn given(paths: &[PathSpec], seconds: f64) -> Outcome<Scenario> {
    if paths.len() > TLS.len() {
        return Err(format!("at most {} paths", TLS.len()).into());
    }
    let megabytes: Vec<f64> = paths.iter().map(|path| path.rate * seconds / 8.0).collect();
    Ok(sum("paths", "the paths that were asked for", paths, &megabytes))
}

/// All paths together, each alone by TLS with its megabytes; the goals of all such scenarios.
fn sum(name: &'static str, about: &'static str, paths: &[PathSpec], megabytes: &[f64]) -> Scenario {
    let mut cases = rivals(paths.len(), false, megabytes.iter().sum());
    let tls = megabytes.iter().zip(TLS).enumerate();
    cases.extend(tls.map(|(path, (megabytes, name))| alone(name, path, *megabytes, 1)));
    let goals = vec![of_tls(paths.len(), 0.97), of_mptcp(1.0)];
    Scenario { name, about, paths: paths.to_vec(), events: Vec::new(), gaps: Vec::new(), cases, goals }
}

/// At least this part of what TLS gets on the first `paths` paths, added.
fn of_tls(paths: usize, part: f64) -> Goal {
    goal(Figure::Mbit, 0.5, at_least(Figure::Mbit, TLS[..paths].to_vec(), part))
}

fn of_mptcp(part: f64) -> Goal {
    goal(Figure::Mbit, 0.5, at_least(Figure::Mbit, vec![MPTCP], part))
}

fn sum_unequal() -> Scenario {
    let slow = PathSpec { rate: 5.0, rtt: 100.0, ..PATH };
    let about = "a path of 25 Mbit/s and 20 ms, one of 5 Mbit/s and 100 ms";
    sum("sum-unequal", about, &[PATH, slow], &[40.0, 8.0])
}

fn wan_fat() -> Scenario {
    let about = "two paths of 150 Mbit/s, 80 ms and a queue of 40 ms";
    Scenario {
        goals: vec![
            of_tls(2, 1.0),
            of_mptcp(1.03),
            goal(Figure::Mbit, 0.0, Limit::OwnMedian { part: 0.97 }),
            goal(Figure::MbitFirst, 0.5, at_least(Figure::MbitFirst, vec![MPTCP], 1.15)),
        ],
        ..sum("wan-fat", about, &[FAT; 2], &[150.0; 2])
    }
}

fn wan_shallow() -> Scenario {
    let about = "two paths of 50 Mbit/s, 60 ms and a queue of 5 ms";
    let mut scenario = sum("wan-shallow", about, &[SHALLOW; 2], &[60.0; 2]);
    let paced = PACED_TLS.into_iter().enumerate();
    let paced = paced.map(|(path, name)| Case { stack: Stack::Tls { paced: true }, ..alone(name, path, 60.0, 1) });
    scenario.cases.extend(paced);
    let of_paced = goal(Figure::Mbit, 0.5, at_least(Figure::Mbit, PACED_TLS.to_vec(), 0.97));
    scenario.goals = vec![of_tls(2, 1.4), of_paced, of_mptcp(1.0)];
    scenario
}

fn many(name: &'static str, about: &'static str, paths: usize) -> Scenario {
    let goals = vec![of_tls(paths, 0.99), of_mptcp(1.0)];
    Scenario { goals, ..sum(name, about, &vec![ONE_OF_MANY; paths], &vec![60.0; paths]) }
}

fn lossy(name: &'static str, about: &'static str, losses: [f64; 2], megabytes: f64) -> Scenario {
    let paths = losses.map(|loss| PathSpec { loss, ..PATH });
    Scenario { goals: vec![of_mptcp(1.05), of_tls(2, 0.97)], ..sum(name, about, &paths, &[megabytes; 2]) }
}

/// `rate` in Mbit/s, `queue` in bytes.
fn narrow(name: &'static str, about: &'static str, rate: f64, queue: f64) -> Scenario {
    let path = PathSpec { rate, rtt: 20.0, queue: queue * 8e-3 / rate, loss: 0.0 };
    let ours = rivals(1, false, 0.09).swap_remove(0);
    let cases = vec![ours, alone(TLS[0], 0, 0.09, 1)];
    let goals = vec![goal(Figure::Whole, 0.5, part_of(TLS[0], 1.3))];
    Scenario { name, about, paths: vec![path], events: Vec::new(), gaps: Vec::new(), cases, goals }
}
