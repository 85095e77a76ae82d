//! Replays a recording: makes the same calls on a session without cryptography, and compares what it decides.
//!
//! ```no_run
//! use tcpls_core::record::replay::{Recording, Replay};
//!
//! let file = std::fs::read("session.tcplsrec").unwrap();
//! let recording = Recording::read(&file).unwrap();
//! for session in recording.sessions() {
//!     let mut replay = Replay::new(session);
//!     while let Some(step) = replay.step().unwrap_or_else(|error| panic!("session {}: {error}", session.number())) {
//!         println!("{step}");
//!     }
//! }
//! ```

mod buffer;
mod calls;
mod describe;
mod file;
#[cfg(test)]
mod tests;
mod tls;

use core::fmt;
use std::collections::VecDeque;
use std::sync::Arc;

pub use self::file::{Recording, Session};

pub(in crate::connection) use self::buffer::MAX_BUFFER;
use self::calls::Player;
use super::fields::Reader;
use super::format::{FormatError, Get, Malformed};
use super::item::{Item, items};
use super::names;
use crate::connection::Connection;
use crate::connection::trace::Sink;
use crate::time::Time;

/// Memory that a replayed session may take, in bytes.
const MAX_MEMORY: usize = 512 << 20;
/// Items of a call that are shown in front of a difference.
const SHOWN: usize = 256;
/// Entries after which it is compared with that.
const CHECK_EVERY: u64 = 32;

/// One call that was replayed, with the same outcome as in the recording.
#[derive(Clone, Debug)]
pub struct Step {
    number: u64,
    now: Time,
    items: Vec<Item>,
}

impl Step {
    /// Returns the number of the call, counted from 0.
    pub const fn number(&self) -> u64 {
        self.number
    }

    /// Returns the time of the call, or of the last one that has a time.
    pub const fn now(&self) -> Time {
        self.now
    }

    /// Returns the call with its arguments.
    pub fn call(&self) -> String {
        self.items.first().map(ToString::to_string).unwrap_or_default()
    }

    /// Returns what happened during the call, in order.
    pub fn outcome(&self) -> impl Iterator<Item = String> + '_ {
        self.items.iter().skip(1).map(ToString::to_string)
    }

    /// Returns the names of its events, of the trace and for the driver: [`TRACED`](super::TRACED) and
    /// [`EVENTS`](super::EVENTS) list them.
    pub fn events(&self) -> impl Iterator<Item = &'static str> + '_ {
        self.items.iter().filter_map(|item| match item {
            Item::Reported { kind, .. } => Some(names::name(names::EVENTS, *kind)),
            Item::Traced { kind, .. } => Some(names::name(names::TRACED, *kind)),
            _ => None,
        })
    }

    /// Returns how many records were sent and received during the call.
    pub fn records(&self) -> (usize, usize) {
        let count = |is: fn(&Item) -> bool| self.items.iter().filter(|item| is(item)).count();
        (count(|item| matches!(item, Item::Sent { .. })), count(|item| matches!(item, Item::Opened { .. })))
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{} at {:.6}: {}", self.number, self.now, self.call())?;
        self.outcome().try_for_each(|item| write!(f, "\n    {item}"))
    }
}

/// The first place at which a replay differs from the recording.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The number of the call, counted from 0.
    pub entry: u64,
    /// Its time.
    pub now: Time,
    /// The call with its arguments.
    pub call: String,
    /// What the call did before, the same in both.
    pub before: Vec<String>,
    /// What the recording has next; `None` if nothing.
    pub recorded: Option<String>,
    /// What the replay has next.
    pub replayed: Option<String>,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "the replay differs at call #{} at {:.6}: {}", self.entry, self.now, self.call)?;
        self.before.iter().try_for_each(|item| writeln!(f, "    {item}"))?;
        let or_nothing = |side: &Option<String>| side.clone().unwrap_or_else(|| "nothing more".to_owned());
        writeln!(f, "  recorded: {}", or_nothing(&self.recorded))?;
        write!(f, "  replayed: {}", or_nothing(&self.replayed))
    }
}

/// Why a replay ends early.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ReplayError {
    /// The recording cannot be read.
    Format(FormatError),
    /// The session decided otherwise than the recorded one.
    Difference(Box<Difference>),
}

impl fmt::Display for ReplayError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Format(error) => error.fmt(f),
            Self::Difference(difference) => difference.fmt(f),
        }
    }
}

impl core::error::Error for ReplayError {}

/// Replays one session of a recording.
pub struct Replay<'a> {
    blocks: std::vec::IntoIter<&'a [u8]>,
    block: Get<'a>,
    player: Player,
    clock: Time,
    now: Time,
    number: u64,
    has_failed: bool,
}

impl<'a> Replay<'a> {
    /// Begins the replay of a session.
    pub fn new(session: &Session<'a>) -> Self {
        Self {
            blocks: session.blocks().to_vec().into_iter(),
            block: Get::new(&[]),
            player: Player::new(session.is_full()),
            clock: Time::ZERO,
            now: Time::ZERO,
            number: 0,
            has_failed: false,
        }
    }

    /// Reports the events of the replayed session to `sink`, from its first call on.
    pub fn set_trace(&mut self, sink: Box<dyn Sink>) {
        self.player.set_trace(sink);
    }

    /// Returns the replayed session, once its first call was made.
    pub fn connection(&self) -> Option<&Connection> {
        self.player.connection()
    }

    /// Makes the next call and compares its outcome; `None` at the end of the recording, and after an error.
    ///
    /// # Errors
    /// The recording cannot be read, or the session decided otherwise.
    pub fn step(&mut self) -> Result<Option<Step>, ReplayError> {
        if self.has_failed {
            return Ok(None);
        }
        let number = self.number;
        let step = self.next_step();
        self.has_failed = step.is_err();
        step.map_err(|error| match error {
            Failure::Malformed(Malformed(what)) => ReplayError::Format(FormatError::Malformed { entry: number, what }),
            Failure::Difference(difference) => ReplayError::Difference(difference),
        })
    }

    fn next_step(&mut self) -> Result<Option<Step>, Failure> {
        let Some(entry) = self.next_entry()? else { return Ok(None) };
        let (recorded, clock) = items(entry, self.clock)?;
        let number = self.number;
        self.number += 1;
        let Some(call) = recorded.first() else { return Ok(None) };
        self.now = call.now().unwrap_or(self.now);
        let replayed = self.player.play(&recorded)?;
        if replayed != entry {
            return Err(self.difference(number, (entry, &recorded), &replayed).into());
        }
        self.clock = clock;
        let offers_much = match recorded.first() {
            Some(Item::Write { len, .. } | Item::WriteChunk { len, .. } | Item::HandleBytes { len, .. }) => {
                *len > 1 << 20
            }
            _ => false,
        };
        let is_due = offers_much || number.is_multiple_of(CHECK_EVERY);
        if is_due && self.connection().is_some_and(|conn| conn.memory() > MAX_MEMORY) {
            return Err(Malformed("the session would take more than 512 MiB of memory").into());
        }
        Ok(Some(Step { number, now: self.now, items: recorded }))
    }

    fn next_entry(&mut self) -> Result<Option<&'a [u8]>, Malformed> {
        while self.block.is_empty() {
            let Some(block) = self.blocks.next() else { return Ok(None) };
            self.block = Get::new(block);
        }
        self.block.bytes().map(Some)
    }

    fn difference(&self, number: u64, (entry, recorded): (&[u8], &[Item]), replayed: &[u8]) -> Box<Difference> {
        // What was replayed was written by this program; a time in it may differ.
        let mut from = Reader { get: Get::new(replayed), clock: self.clock };
        let mut again = core::iter::from_fn(|| if from.get.is_empty() { None } else { Item::get(&mut from).ok() });
        let replayed_bytes = replayed;
        let (mut recorded, mut before) = (recorded.iter(), VecDeque::new());
        let mut call = None;
        // One after the other: the text of an item can be much longer than the item.
        let (recorded, replayed) = loop {
            match (recorded.next().map(ToString::to_string), again.next().map(|item| item.to_string())) {
                (Some(one), Some(other)) if one == other && call.is_none() => call = Some(one),
                (Some(one), Some(other)) if one == other => before.push_back(one),
                texts => break texts,
            }
            if before.len() > SHOWN {
                before.pop_front();
            }
        };
        let (recorded, replayed) = match (recorded, replayed) {
            (None, None) => (hidden(entry, replayed_bytes), hidden(replayed_bytes, entry)),
            texts => texts,
        };
        let call = call.or_else(|| recorded.clone()).unwrap_or_default();
        Box::new(Difference { entry: number, now: self.now, call, before: before.into(), recorded, replayed })
    }
}

/// The first byte in which an entry differs from another, for fields that the text of an item leaves out, as a configuration.
fn hidden(entry: &[u8], other: &[u8]) -> Option<String> {
    let at = entry.iter().zip(other).take_while(|(one, other)| one == other).count();
    entry.get(at).map(|byte| format!("{byte:#04x} as byte {at} of the entry, in a field that is not shown"))
}

/// Why a step fails.
enum Failure {
    Malformed(Malformed),
    Difference(Box<Difference>),
}

impl From<Malformed> for Failure {
    fn from(malformed: Malformed) -> Self {
        Self::Malformed(malformed)
    }
}

impl From<Box<Difference>> for Failure {
    fn from(difference: Box<Difference>) -> Self {
        Self::Difference(difference)
    }
}

/// Drops what a replayed session records: it is compared entry by entry.
struct Dropped;

impl super::Blocks for Dropped {
    fn block(&mut self, _block: &[u8], _mark: super::Mark) -> super::Taken {
        super::Taken::Yes
    }
}

type Script = Arc<std::sync::Mutex<super::recorder::Script>>;
