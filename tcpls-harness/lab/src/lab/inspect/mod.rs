//! What an inspector without keys can tell: a classifier that is trained on joins and on resumptions of sessions, and then
//! judges flows that it has not seen.
//!
//! Both ends are rustls, in memory and in virtual time: the same seed gives the same flows and the same figures.

mod features;
mod flows;
mod learn;

use std::path::PathBuf;

use tcpls_results::{Better, Cell, Column, Goal, Measured, Results, Row, Table};

use self::features::{Features, Observer};
use self::flows::{Flow, Form, Kind, View};
use self::learn::Model;
use super::Outcome;

/// The area under the ROC curve that an inspector may reach on resumed joins; guessing gives 0.5.
const GOAL: f64 = 0.55;
/// How many features are printed for each figure.
const TELLING: usize = 3;

/// What is classified.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {
    /// Number of joins, and of resumptions; the first half of both is for training
    #[arg(long, value_name = "N", default_value_t = 2000)]
    flows: usize,
    /// Seed of everything that is random
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Write the table in JSON to this file, for the documentation and for `compare`
    #[arg(long, value_name = "FILE")]
    results: Option<PathBuf>,
}

/// What a classifier achieves.
struct Verdict {
    /// The area under the ROC curve, on flows that it has not seen.
    auc: f64,
    /// The features that it uses most, and their share of what all features explain.
    telling: Vec<(String, f64)>,
}

/// Trains and judges, and prints a table.
pub(crate) fn run(args: &Args, command: String) -> Outcome {
    if args.flows < 20 {
        return Err("a classifier needs at least 20 flows of each kind".into());
    }
    let mut rows = Vec::new();
    for form in [Form::Resumed, Form::Draft] {
        for kind in [Kind::OneRtt, Kind::ZeroRtt] {
            let name = format!("{}, {}", form.name(), kind.name());
            let flows = flows::make(form, kind, args.flows, args.seed);
            let mut cells = Vec::new();
            for view in [View::Handshake, View::Application] {
                let verdict = judge(&flows, view);
                println!("{name}, {}: AUC {:.3}", view.name(), verdict.auc);
                for (feature, share) in &verdict.telling {
                    println!("    {:5.1} % {feature}", share * 100.0);
                }
                let goal = (form == Form::Resumed && view == View::Handshake).then_some(Goal::AtMost(GOAL));
                cells.push(Cell::value(verdict.auc).map(|cell| cell.with_goal(goal)));
            }
            rows.push(Row { name, cells });
        }
    }
    let Some(file) = &args.results else { return Ok(()) };
    let column = |view: View| Column::portable(view.name(), "", 3, Better::Lower);
    let columns = [View::Handshake, View::Application].map(column).to_vec();
    let table = Table { name: "inspect".to_owned(), rows_are: "AUC".to_owned(), columns, rows };
    Ok(Results { measured: Measured::here(command), tables: vec![table] }.write(file)?)
}

/// Trains on the first half of the flows, and judges the others.
fn judge(flows: &[Flow], view: View) -> Verdict {
    let mut observer = Observer::new(view);
    let examples: Vec<(Features, bool)> = flows.iter().map(|flow| (observer.features(flow), flow.is_join)).collect();
    let (known, unseen) = examples.split_at(examples.len() / 2);
    let model = Model::train(known);
    let scores: Vec<(f64, bool)> = unseen.iter().map(|(features, is_join)| (model.score(features), *is_join)).collect();
    Verdict { auc: learn::auc(&scores), telling: model.telling(TELLING) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KINDS: [Kind; 2] = [Kind::OneRtt, Kind::ZeroRtt];

    /// Flows of each kind; a fraction of what the command takes by default.
    fn number() -> usize {
        std::env::var("TCPLS_INSPECT_FLOWS").map_or(80, |number| number.parse().unwrap())
    }

    /// Four standard deviations above 0.5, for a classifier that guesses on `n` unseen flows (Hanley and McNeil, 1982).
    fn chance(n: usize) -> f64 {
        let each = (n / 2) as f64;
        0.5 + 4.0 * ((2.0 * each + 1.0) / (12.0 * each * each)).sqrt()
    }

    #[test]
    fn classifier_cannot_tell_resumed_joins_from_resumptions() {
        for kind in KINDS {
            let flows = flows::make(Form::Resumed, kind, number(), 1);
            let verdict = judge(&flows, View::Handshake);
            assert!(verdict.auc <= chance(flows.len() / 2), "{kind:?}: {:.3}, {:?}", verdict.auc, verdict.telling);
        }
    }

    #[test]
    fn classifier_tells_joins_of_the_draft_from_resumptions() {
        for kind in KINDS {
            let verdict = judge(&flows::make(Form::Draft, kind, 24, 1), View::Handshake);
            assert!(verdict.auc > 0.99, "{kind:?}: {:.3}", verdict.auc);
        }
    }

    /// Each changes one thing about joins that are resumptions.
    #[test]
    fn classifier_finds_each_difference_that_is_planted() {
        type Change = fn(&mut Flow);
        let changes: [(&str, Change); 6] = [
            ("a longer record", |flow| flow.records.last_mut().unwrap().bytes.push(0)),
            ("another order of records", |flow| flow.records.swap(1, 2)),
            ("a missing record", |flow| _ = flow.records.pop()),
            ("the same age", |flow| change_psk(flow, |psk| psk[36..40].fill(9))),
            ("small ages", |flow| change_psk(flow, |psk| psk[36] &= 0x1f)),
            ("one of eight letters as the first byte of the ticket", |flow| {
                change_psk(flow, |psk| psk[4] = b'a' + psk[4] % 8)
            }),
        ];
        let flows = flows::make(Form::Resumed, Kind::OneRtt, 60, 1);
        for (name, change) in changes {
            let mut flows: Vec<Flow> = flows.iter().map(|flow| flow.up_to(View::Handshake)).collect();
            flows.iter_mut().filter(|flow| flow.is_join).for_each(change);
            let verdict = judge(&flows, View::Handshake);
            assert!(verdict.auc > 0.75, "{name}: {:.3}", verdict.auc);
        }
    }

    /// Changes the body of pre_shared_key, which is the last extension.
    fn change_psk(flow: &mut Flow, change: fn(&mut [u8])) {
        let hello = &mut flow.records[0].bytes;
        let is_last = |at: &usize| {
            hello[*at..].starts_with(&[0, 41])
                && hello.len() - at - 4 == usize::from(hello[at + 2]) << 8 | usize::from(hello[at + 3])
        };
        let at = (43..hello.len() - 4).find(is_last).unwrap();
        change(&mut hello[at + 4..]);
    }
}
