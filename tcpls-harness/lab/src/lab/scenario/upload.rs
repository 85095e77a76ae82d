//! Files that the client sends. With TCPLS, both ends are the lab's own: the `tcpls` command only downloads.

use super::{Case, DARK, Direction, PATH, Scenario, WHEN, alone, at_least, event, goal, part_of, rivals};
use crate::lab::goal::Figure;
use crate::lab::outcome::MPTCP;
use crate::lab::path::Change;

/// Of both paths together, in megabytes.
const SIZE: f64 = 14.0;

pub(super) fn all() -> Vec<Scenario> {
    vec![
        failing("upload-dark", "an upload: one of two active paths goes dark", DARK),
        failing(
            "upload-reset",
            "an upload: one of two active TCP connections is reset, and each that is tried there",
            Change::Reset { new_ones_may_begin: false },
        ),
        calm(),
    ]
}

fn upwards(cases: Vec<Case>) -> Vec<Case> {
    cases.into_iter().map(|case| Case { direction: Direction::Up, ..case }).collect()
}

fn failing(name: &'static str, about: &'static str, change: Change) -> Scenario {
    let goals = vec![goal(Figure::Gap(0), 0.5, part_of(MPTCP, 0.35))];
    let (events, cases) = (vec![event(WHEN, 0, change)], upwards(rivals(2, false, SIZE)));
    Scenario { name, about, paths: vec![PATH; 2], events, gaps: vec![0], cases, goals }
}

fn calm() -> Scenario {
    let mut cases = rivals(2, false, 80.0);
    cases.extend([alone("tls on a", 0, 40.0, 1), alone("tls on b", 1, 40.0, 1)]);
    Scenario {
        name: "upload-sum",
        about: "an upload over two paths of 25 Mbit/s",
        paths: vec![PATH; 2],
        events: Vec::new(),
        gaps: Vec::new(),
        cases: upwards(cases),
        goals: vec![
            goal(Figure::Mbit, 0.5, at_least(Figure::Mbit, vec!["tls on a", "tls on b"], 0.97)),
            goal(Figure::Mbit, 0.5, at_least(Figure::Mbit, vec![MPTCP], 1.0)),
        ],
    }
}
