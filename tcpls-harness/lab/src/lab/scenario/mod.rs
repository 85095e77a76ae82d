//! The scenarios of the measurements: paths, what happens to them and when, who is measured, and what is to be reached. Plain
//! data; how a run is done is in `run`, how goals are judged in `goal`.
//!
//! Here is what becomes of a failing path; `throughput` has paths that stay as they are, `upload` what the client sends.

mod throughput;
mod upload;

pub(crate) use throughput::given;

use std::time::Duration;

use super::goal::{Figure, Goal, Limit};
use super::outcome::{MPTCP, OURS};
use super::path::{Change, PathSpec};
use super::wire::Event;

/// The transport of the file.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Stack {
    /// `tcpls serve` and `tcpls get`.
    Tcpls(Others),
    /// Kernel MPTCP on all paths; those behind the first may be backup.
    Mptcp { backup: bool },
    /// TLS over one TCP connection, on the first of the case's paths; paced by the kernel or not.
    Tls { paced: bool },
}

/// The sender of the file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Direction {
    /// The server.
    #[default]
    Down,
    /// The client.
    Up,
}

/// The use of the paths after the first by `tcpls get`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Others {
    Active,
    Standby,
    /// Move to a path, some seconds after the start.
    Migrate(&'static [(f64, usize)]),
}

/// A case of a scenario: a stack and its settings.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    /// Its name in the results.
    pub(crate) name: &'static str,
    pub(crate) stack: Stack,
    /// The scenario's paths that it may use, by index; the first is where it starts.
    pub(crate) paths: Vec<usize>,
    /// Whether the scenario's events happen.
    pub(crate) events: bool,
    pub(crate) direction: Direction,
    /// Megabytes (10^6) to transfer.
    pub(crate) megabytes: f64,
    /// It takes part in one of this many rounds.
    pub(crate) every: u32,
}

/// A scenario.
#[derive(Clone, Debug)]
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    pub(crate) about: &'static str,
    pub(crate) paths: Vec<PathSpec>,
    pub(crate) events: Vec<Event>,
    /// The events (by index) whose gaps are measured.
    pub(crate) gaps: Vec<usize>,
    pub(crate) cases: Vec<Case>,
    pub(crate) goals: Vec<Goal>,
}

impl Scenario {
    /// For the n-th round: all events a bit later, so that they find queues and windows of all sizes.
    pub(crate) fn shifted(&self, round: u32) -> Self {
        let mut shifted = self.clone();
        let later = Duration::from_millis(u64::from(round) * 137 % 400);
        shifted.events.iter_mut().for_each(|event| event.at += later);
        shifted
    }

    /// How long a case would take if its paths carried nothing but the file.
    pub(crate) fn ideal(&self, case: &Case) -> Duration {
        let rate: f64 = case.paths.iter().map(|path| self.paths[*path].rate).sum();
        Duration::from_secs_f64(case.megabytes * 8.0 / rate)
    }
}

/// The properties of all paths of the failover scenarios.
const PATH: PathSpec = PathSpec { rate: 25.0, rtt: 20.0, queue: 50.0, loss: 0.0 };
/// When something happens to the first path.
const WHEN: f64 = 1.5;

const DARK: Change = Change::Dark { down: true, up: true };

/// All scenarios, in the order of the results.
pub(crate) fn all() -> Vec<Scenario> {
    let mut all = vec![reset_standby(), reset_active(), reset_alone()];
    for (standby, names) in [
        (false, ["dark-active", "dark-down-active", "dark-up-active"]),
        (true, ["dark-standby", "dark-down-standby", "dark-up-standby"]),
    ] {
        for (name, (down, up)) in names.into_iter().zip([(true, true), (true, false), (false, true)]) {
            all.push(dark(name, standby, Change::Dark { down, up }));
        }
    }
    all.extend([two_outages(), slow(), rotating(), migration()]);
    all.extend(upload::all());
    all.extend(throughput::all());
    all
}

fn event(at: f64, path: usize, change: Change) -> Event {
    Event { at: Duration::from_secs_f64(at), path, change }
}

/// Ours and MPTCP on all `paths`, with the events.
fn rivals(paths: usize, standby: bool, megabytes: f64) -> Vec<Case> {
    let case = |name, stack| Case {
        name,
        stack,
        paths: (0..paths).collect(),
        events: true,
        direction: Direction::Down,
        megabytes,
        every: 1,
    };
    let others = if standby { Others::Standby } else { Others::Active };
    vec![case(OURS, Stack::Tcpls(others)), case(MPTCP, Stack::Mptcp { backup: standby })]
}

/// A yardstick: TLS on one path, to which nothing happens.
fn alone(name: &'static str, path: usize, megabytes: f64, every: u32) -> Case {
    let (stack, direction) = (Stack::Tls { paced: false }, Direction::Down);
    Case { name, stack, paths: vec![path], events: false, direction, megabytes, every }
}

fn goal(figure: Figure, quantile: f64, limit: Limit) -> Goal {
    Goal { figure, quantile, limit }
}

fn rtts(count: f64, plus_ms: f64) -> Limit {
    Limit::RoundTrips { count, plus_ms }
}

fn part_of(case: &'static str, part: f64) -> Limit {
    Limit::PartOf { cases: vec![case], part }
}

fn at_least(figure: Figure, cases: Vec<&'static str>, part: f64) -> Limit {
    Limit::AtLeast { figure, cases, part }
}

fn reset_standby() -> Scenario {
    Scenario {
        name: "reset-standby",
        about: "the active TCP connection is reset, and each that is tried there; a standby is joined",
        paths: vec![PATH; 2],
        events: vec![event(WHEN, 0, Change::Reset { new_ones_may_begin: false })],
        gaps: vec![0],
        cases: rivals(2, true, 8.0),
        goals: vec![goal(Figure::Gap(0), 0.99, rtts(1.0, 20.0))],
    }
}

fn reset_active() -> Scenario {
    Scenario {
        name: "reset-active",
        about: "one of two active TCP connections is reset, and each that is tried there",
        cases: rivals(2, false, 14.0),
        ..reset_standby()
    }
}

fn reset_alone() -> Scenario {
    Scenario {
        name: "reset-alone",
        about: "the only TCP connection is reset; another can be made at once",
        paths: vec![PATH],
        events: vec![event(WHEN, 0, Change::Reset { new_ones_may_begin: true })],
        gaps: vec![0],
        cases: rivals(1, false, 8.0).into_iter().filter(|case| case.name == OURS).collect(),
        goals: vec![goal(Figure::Gap(0), 0.99, rtts(3.0, 20.0))],
    }
}

fn dark(name: &'static str, standby: bool, change: Change) -> Scenario {
    let about = match (standby, change) {
        (false, DARK) => "one of two active paths goes dark",
        (true, DARK) => "the active path goes dark, the other is standby",
        (false, Change::Dark { down: true, .. }) => "one of two active paths goes dark, only towards the client",
        (true, Change::Dark { down: true, .. }) => "the active path goes dark, only towards the client",
        (false, _) => "one of two active paths goes dark, only towards the server",
        (true, _) => "the active path goes dark, only towards the server",
    };
    let gap = Figure::Gap(0);
    Scenario {
        name,
        about,
        paths: vec![PATH; 2],
        events: vec![event(WHEN, 0, change)],
        gaps: vec![0],
        cases: rivals(2, standby, if standby { 8.0 } else { 14.0 }),
        goals: vec![
            goal(gap, 0.5, rtts(2.0, 30.0)),
            goal(gap, 0.5, part_of(MPTCP, 0.5)),
            goal(gap, 0.99, part_of(MPTCP, 0.5)),
        ],
    }
}

fn two_outages() -> Scenario {
    let mut cases = rivals(2, false, 60.0);
    cases.push(alone("tls on one path", 0, 60.0, 5));
    Scenario {
        name: "two-outages",
        about: "the first path is dark from 3 s to 8 s, the second from then on",
        paths: vec![PATH; 2],
        events: vec![event(3.0, 0, DARK), event(8.0, 0, Change::Well), event(8.0, 1, DARK)],
        gaps: vec![0, 2],
        cases,
        goals: vec![
            goal(Figure::Gap(0), 0.99, Limit::Value(200.0)),
            goal(Figure::Gap(1), 0.99, Limit::Value(200.0)),
            goal(Figure::Seconds, 0.5, part_of("tls on one path", 1.05)),
        ],
    }
}

fn slow() -> Scenario {
    let mut cases = rivals(2, false, 24.0);
    // It takes MPTCP long, and no goal is about it.
    cases[1].every = 5;
    cases.push(alone("tls on one path", 1, 16.0, 5));
    Scenario {
        name: "slow",
        about: "one of two active paths drops to 1 % of its rate",
        paths: vec![PATH; 2],
        events: vec![event(WHEN, 0, Change::Rate(0.01))],
        gaps: vec![0],
        cases,
        goals: vec![
            goal(Figure::MbitAfter, 0.5, at_least(Figure::Mbit, vec!["tls on one path"], 0.9)),
            goal(Figure::Lost, 0.99, Limit::Value(0.0)),
        ],
    }
}

fn rotating() -> Scenario {
    let mut events: Vec<Event> = (1..4).map(|path| event(0.3, path, DARK)).collect();
    for round in 1..8 {
        let (good, before) = (round % 4, (round + 3) % 4);
        events.push(event(5.0 * round as f64, good, Change::Well));
        events.push(event(5.0 * round as f64, before, DARK));
    }
    let mut cases = rivals(4, false, 60.0);
    cases[1].every = 5;
    cases.push(alone("tls on one path", 0, 60.0, 5));
    Scenario {
        name: "rotating",
        about: "four paths, all but one dark, another one each 5 s",
        paths: vec![PATH; 4],
        gaps: vec![4, 6, 8],
        events,
        cases,
        goals: vec![goal(Figure::Seconds, 0.5, part_of("tls on one path", 1.15))],
    }
}

fn migration() -> Scenario {
    const MOVES: &[(f64, usize)] = &[(1.5, 1), (3.0, 0)];
    let ours = Case { stack: Stack::Tcpls(Others::Migrate(MOVES)), ..rivals(2, false, 12.0).swap_remove(0) };
    Scenario {
        name: "migration",
        about: "a download moves from a path of 25 Mbit/s to one of 15 Mbit/s after 1.5 s, and back after 3 s",
        paths: vec![PATH, PathSpec { rate: 15.0, ..PATH }],
        events: Vec::new(),
        gaps: Vec::new(),
        cases: vec![ours, alone("tls on b", 1, 6.0, 5)],
        goals: vec![
            goal(Figure::Lowest, 0.01, at_least(Figure::Mbit, vec!["tls on b"], 1.0)),
            // What congestion control does to others on that path is not an effect of the move.
            goal(Figure::Lowest, 0.01, at_least(Figure::Lowest, vec!["tls on b"], 1.0)),
        ],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scenarios_are_consistent() {
        let mut names = std::collections::BTreeSet::new();
        for scenario in all() {
            assert!(names.insert(scenario.name), "{} is there twice", scenario.name);
            let paths = 0..scenario.paths.len();
            assert!(scenario.cases.iter().flat_map(|case| &case.paths).all(|path| paths.contains(path)));
            assert!(scenario.events.iter().all(|event| paths.contains(&event.path)));
            assert!(scenario.events.is_sorted_by_key(|event| event.at), "the wire takes events in their order");
            assert!(scenario.gaps.iter().all(|event| *event < scenario.events.len()));
            assert!(scenario.cases[0].name == OURS && scenario.cases[0].every == 1);
        }
    }

    #[test]
    fn goals_are_about_what_is_measured() {
        for scenario in all() {
            for goal in &scenario.goals {
                let rivals = match &goal.limit {
                    Limit::PartOf { cases, .. } | Limit::AtLeast { cases, .. } => cases.clone(),
                    _ => Vec::new(),
                };
                assert!(rivals.iter().all(|name| scenario.cases.iter().any(|case| case.name == *name)));
                assert!(!matches!(goal.figure, Figure::Gap(gap) if gap >= scenario.gaps.len()));
            }
        }
    }

    #[test]
    fn events_come_later_from_round_to_round() {
        let scenario = dark("dark", false, DARK);
        let at = |round| scenario.shifted(round).events[0].at - scenario.events[0].at;
        assert_eq!([0, 1, 2, 3].map(|round| at(round).as_millis()), [0, 137, 274, 11]);
    }
}
