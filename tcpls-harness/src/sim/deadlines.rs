//! The deadlines of many, of which few change at a time, so that the next one is found without asking all.

use std::collections::BTreeSet;

use tcpls_core::Time;

/// See the module's description. Those who have deadlines are numbered from 0.
#[derive(Debug, Default)]
pub(crate) struct Deadlines {
    of: Vec<Option<Time>>,
    order: BTreeSet<(Time, usize)>,
}

impl Deadlines {
    /// Sets when `who` has something to do.
    pub(crate) fn set(&mut self, who: usize, at: Option<Time>) {
        if self.of.len() <= who {
            self.of.resize(who + 1, None);
        }
        let before = std::mem::replace(&mut self.of[who], at);
        if before != at {
            before.into_iter().for_each(|before| _ = self.order.remove(&(before, who)));
            at.into_iter().for_each(|at| _ = self.order.insert((at, who)));
        }
    }

    /// Returns the earliest.
    pub(crate) fn next(&self) -> Option<Time> {
        self.order.first().map(|(at, _)| *at)
    }

    /// Those whose deadline is not after `now`.
    pub(crate) fn due(&self, now: Time) -> impl Iterator<Item = usize> {
        self.order.range(..=(now, usize::MAX)).map(|(_, who)| *who)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deadlines_that_were_changed_or_removed_do_not_come() {
        let mut deadlines = Deadlines::default();
        for (who, at) in [(3, 5), (1, 7), (0, 9), (3, 8)] {
            deadlines.set(who, Some(Time::from_millis(at)));
        }
        deadlines.set(1, None);
        assert_eq!(deadlines.next(), Some(Time::from_millis(8)));
        assert_eq!(deadlines.due(Time::from_millis(8)).collect::<Vec<_>>(), [3]);
        assert_eq!(deadlines.due(Time::from_millis(9)).collect::<Vec<_>>(), [3, 0]);
        assert_eq!(deadlines.due(Time::from_millis(7)).count(), 0);
    }
}
