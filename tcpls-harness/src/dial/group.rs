//! Groups of paths that share a bottleneck: one TCP connection of a group carries data, so that the group takes the
//! share of one TCP connection. The others are joined as backups, and one of them takes over when it is lost or stalls.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use tcpls_core::time::Time;

use super::pair::{GRACE, Link, Pair};
use super::{Action, Device, Dialer};

/// How long an earlier path of a group answers before it carries data again: one that fails often does not interrupt
/// the session each time.
const SETTLED: Duration = Duration::from_secs(10);

/// The name of a group of paths: those behind one router, for example.
///
/// Paths of a group take the share of its bottleneck that one TCP connection takes, not one each. Data goes over the
/// first of them that works, in the order of [`ClientOptions::locals`](crate::net::ClientOptions::locals).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Group(Device);

impl Group {
    /// Returns the group of this name: 1 to 15 bytes without spaces and slashes.
    pub fn new(name: &str) -> Option<Self> {
        Device::new(name).map(Self)
    }
}

impl fmt::Display for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for Group {
    type Err = NoGroup;

    fn from_str(text: &str) -> Result<Self, NoGroup> {
        Self::new(text).ok_or(NoGroup)
    }
}

/// The text is no name of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoGroup;

impl fmt::Display for NoGroup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the name of a group has 1 to 15 bytes, without spaces and slashes")
    }
}

impl std::error::Error for NoGroup {}

impl Dialer {
    /// Decides which pair of each group carries data.
    pub(super) fn divide_groups(&mut self, now: Time) {
        for index in 0..self.pairs.len() {
            let Some(group) = self.pairs[index].group.filter(|group| self.first_of(*group) == Some(index)) else {
                continue;
            };
            let Some(carrier) = self.next_carrier(now, group) else { continue };
            self.set_yields(carrier, false); // first: one can always carry data
            for other in (0..self.pairs.len()).filter(|other| *other != carrier) {
                if self.pairs[other].group == Some(group) {
                    self.set_yields(other, true);
                }
            }
        }
    }

    /// Returns when another pair of a group carries data, if nothing changes.
    pub(super) fn groups_deadline(&self) -> Option<Time> {
        let moves = self.pairs.iter().enumerate().filter_map(|(index, pair)| {
            let carrier = self.carrier(pair.group?)?;
            match pair.live? {
                live if index < carrier && pair.may_carry() => Some(live.answers_since + SETTLED),
                live if index == carrier && live.silent => pair.away_since.map(|since| since + GRACE),
                _ => None,
            }
        });
        moves.min()
    }

    /// Returns the pair of a group that carries data now.
    pub(super) fn carrier(&self, group: Group) -> Option<usize> {
        let holds = |pair: &Pair| pair.group == Some(group) && !pair.yields && pair.may_go_on(self.advanced);
        self.pairs.iter().position(holds)
    }

    fn first_of(&self, group: Group) -> Option<usize> {
        self.pairs.iter().position(|pair| pair.group == Some(group))
    }

    /// The first that has answered for long enough, or the one that carries data now, or the first that answers.
    fn next_carrier(&self, now: Time, group: Group) -> Option<usize> {
        let mine = |pair: &Pair| pair.group == Some(group) && pair.may_carry();
        let has_settled = |pair: &Pair| pair.live.is_some_and(|live| live.answers_since + SETTLED <= now);
        let settled = self.pairs.iter().position(|pair| mine(pair) && has_settled(pair));
        let current = self.carrier(group);
        match (settled, current) {
            (Some(settled), Some(current)) => Some(settled.min(current)),
            (None, Some(current)) => Some(current),
            (_, None) => self.pairs.iter().position(mine),
        }
    }

    fn set_yields(&mut self, index: usize, yields: bool) {
        let pair = &mut self.pairs[index];
        pair.yields = yields;
        let backup = pair.joins_as_backup();
        if let Some(live) = pair.live.as_mut().filter(|live| live.backup != backup) {
            live.backup = backup;
            self.actions.push_back(Action::SetBackup { tcp: live.tcp, backup });
        }
    }
}

impl Pair {
    /// Whether it can carry data for its group.
    fn may_carry(&self) -> bool {
        self.answers() && !self.is_backup
    }

    /// The same if it carries data already: most TCP connections that stall are only slow, and the session uses a backup
    /// meanwhile.
    fn may_go_on(&self, now: Time) -> bool {
        let is_slow = self.live.is_some_and(|live| live.link == Link::Up)
            && self.away_since.is_some_and(|since| now < since + GRACE);
        self.may_carry() || (is_slow && !self.is_backup)
    }
}
