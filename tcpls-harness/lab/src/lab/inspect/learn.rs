//! A classifier: decision stumps, boosted with the gradient of the logistic loss (Friedman, 2001).

use std::collections::{BTreeMap, BTreeSet};

use super::features::Features;

const ROUNDS: usize = 60;
const RATE: f64 = 0.3;
/// Keeps leaves with few examples small.
const REGULARIZATION: f64 = 1.0;
/// Values of a feature are put into at most this many bins.
const BINS: usize = 32;
/// The value of a feature that a flow does not have.
const ABSENT: f64 = -1.0;

/// A feature with a threshold, and what is added to the score below and from there on.
struct Stump {
    feature: String,
    threshold: f64,
    below: f64,
    above: f64,
}

/// A trained classifier.
pub(super) struct Model {
    stumps: Vec<Stump>,
    gains: BTreeMap<String, f64>,
}

/// One feature of all examples.
struct Column {
    name: String,
    /// The lowest value of each bin but the first.
    thresholds: Vec<f64>,
    bins: Vec<u8>,
}

impl Column {
    fn new(name: &str, examples: &[(Features, bool)]) -> Self {
        let values: Vec<f64> = examples.iter().map(|(features, _)| value(features, name)).collect();
        let mut sorted = values.clone();
        sorted.sort_by(f64::total_cmp);
        let mut thresholds: Vec<f64> = (1..BINS).map(|bin| sorted[bin * sorted.len() / BINS]).collect();
        // Rare values get a bin as well, if there are few values.
        sorted.dedup();
        if sorted.len() <= BINS {
            thresholds = sorted.split_off(1);
        }
        thresholds.dedup();
        let bin = |value: &f64| thresholds.partition_point(|threshold| threshold <= value) as u8;
        let bins = values.iter().map(bin).collect();
        Self { name: name.to_owned(), thresholds, bins }
    }
}

impl Model {
    /// Learns to tell the examples that are marked from the others.
    pub(super) fn train(examples: &[(Features, bool)]) -> Self {
        let names: BTreeSet<&String> = examples.iter().flat_map(|(features, _)| features.keys()).collect();
        let mut columns: Vec<Column> = names.into_iter().map(|name| Column::new(name, examples)).collect();
        columns.retain(|column| !column.thresholds.is_empty());
        let mut scores = vec![0.0; examples.len()];
        let mut model = Self { stumps: Vec::new(), gains: BTreeMap::new() };
        for _ in 0..ROUNDS {
            let slopes: Vec<(f64, f64)> =
                examples.iter().zip(&scores).map(|((_, is), score)| slope(*is, *score)).collect();
            let best = columns.iter().filter_map(|column| best_split(column, &slopes));
            let Some((gain, bin, stump)) = best.max_by(|a, b| a.0.total_cmp(&b.0)) else { break };
            let column = columns.iter().find(|column| column.name == stump.feature).expect("it is one of them");
            for (score, of) in scores.iter_mut().zip(&column.bins) {
                *score += if *of < bin { stump.below } else { stump.above };
            }
            *model.gains.entry(stump.feature.clone()).or_default() += gain;
            model.stumps.push(stump);
        }
        model
    }

    /// The higher, the more the flow is like the marked ones.
    pub(super) fn score(&self, features: &Features) -> f64 {
        let vote = |stump: &Stump| match value(features, &stump.feature) < stump.threshold {
            true => stump.below,
            false => stump.above,
        };
        self.stumps.iter().map(vote).sum()
    }

    /// The features that explain most, with their shares.
    pub(super) fn telling(&self, n: usize) -> Vec<(String, f64)> {
        let all: f64 = self.gains.values().sum();
        let mut telling: Vec<(String, f64)> =
            self.gains.iter().map(|(name, gain)| (name.clone(), gain / all)).collect();
        telling.sort_by(|a, b| b.1.total_cmp(&a.1));
        telling.truncate(n);
        telling
    }
}

fn value(features: &Features, name: &str) -> f64 {
    features.get(name).copied().unwrap_or(ABSENT)
}

/// The first and the second derivative of the logistic loss, the first negated.
fn slope(is_marked: bool, score: f64) -> (f64, f64) {
    let likely = 1.0 / (1.0 + (-score).exp());
    (f64::from(u8::from(is_marked)) - likely, likely * (1.0 - likely))
}

/// The best threshold of a feature: what it gains, its bin, and the stump.
fn best_split(column: &Column, slopes: &[(f64, f64)]) -> Option<(f64, u8, Stump)> {
    let mut sums = [(0.0, 0.0); BINS + 1];
    for (bin, (first, second)) in column.bins.iter().zip(slopes) {
        let sum = &mut sums[usize::from(*bin)];
        *sum = (sum.0 + first, sum.1 + second);
    }
    let all = sums.iter().fold((0.0, 0.0), |all, sum| (all.0 + sum.0, all.1 + sum.1));
    let worth = |(first, second): (f64, f64)| first * first / (second + REGULARIZATION);
    let leaf = |(first, second): (f64, f64)| RATE * first / (second + REGULARIZATION);
    let mut below = (0.0, 0.0);
    let splits = column.thresholds.iter().enumerate().map(|(bin, threshold)| {
        below = (below.0 + sums[bin].0, below.1 + sums[bin].1);
        let above = (all.0 - below.0, all.1 - below.1);
        let gain = worth(below) + worth(above) - worth(all);
        let feature = column.name.clone();
        (gain, bin as u8 + 1, Stump { feature, threshold: *threshold, below: leaf(below), above: leaf(above) })
    });
    splits.max_by(|a, b| a.0.total_cmp(&b.0))
}

/// The area under the ROC curve: how probable it is that a marked flow has a higher score than another one. Equal scores count
/// half.
pub(super) fn auc(scores: &[(f64, bool)]) -> f64 {
    let mut sorted = scores.to_vec();
    sorted.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (mut others, mut area) = (0.0, 0.0);
    for equal in sorted.chunk_by(|a, b| a.0.total_cmp(&b.0).is_eq()) {
        let marked = equal.iter().filter(|(_, is_marked)| *is_marked).count() as f64;
        let rest = equal.len() as f64 - marked;
        area += marked * (others + rest / 2.0);
        others += rest;
    }
    area / (others * (scores.len() as f64 - others))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn area_is_the_share_of_pairs_in_the_right_order() {
        assert_eq!(auc(&[(0.0, false), (1.0, true)]), 1.0);
        assert_eq!(auc(&[(1.0, false), (0.0, true)]), 0.0);
        assert_eq!(auc(&[(1.0, false), (1.0, true)]), 0.5);
        assert_eq!(auc(&[(0.0, false), (1.0, true), (2.0, false), (3.0, true)]), 0.75);
    }

    #[test]
    fn model_finds_the_feature_that_tells_and_no_other() {
        let example = |number: usize| {
            let features = [("noise", number * 7 % 13), ("telling", number % 5), ("constant", 3)];
            (features.map(|(name, value)| (name.to_owned(), value as f64)).into(), number % 5 == 2)
        };
        let examples: Vec<(Features, bool)> = (0..200).map(example).collect();
        let model = Model::train(&examples[..100]);
        let scores: Vec<(f64, bool)> = examples[100..].iter().map(|(of, is)| (model.score(of), *is)).collect();
        assert_eq!(auc(&scores), 1.0);
        assert_eq!(model.telling(1)[0].0, "telling");
        assert!(model.telling(1)[0].1 > 0.9);
    }
}
