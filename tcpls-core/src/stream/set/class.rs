//! Which streams are interactive, and which are bulk: by the application's wish, by priority, and by how much they send.

use super::{Shared, Stream, Streams};
use crate::error::WriteError;
use crate::stream::{Candidate, StreamClass};
use crate::time::Time;
use crate::wire::ids::StreamId;

/// A stream of which more is unacknowledged, or was written lately, is bulk, whatever its priority: its data would fill a
/// lane.
const MAX_INTERACTIVE: u32 = 64 * 1024;

/// How much the application has written lately: what it writes, less 64 KiB for each second. What is unacknowledged does not
/// show it: beside another transfer a stream may have no room for more than 64 KiB.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Written {
    bytes: u32,
    /// As of when, in milliseconds.
    at: u32,
}

impl Written {
    #[inline(never)] // few sessions have streams of several classes
    fn note(&mut self, now: Time, len: usize) {
        let now = (now.as_nanos() / 1_000_000) as u32; // an overflow after weeks is of no consequence
        let ago = u64::from(now.wrapping_sub(self.at));
        let left = u64::from(self.bytes).saturating_sub(ago * u64::from(MAX_INTERACTIVE) / 1000);
        // A stream that was bulk for long can be interactive after a second, too.
        self.bytes = left.saturating_add(len as u64).min(u64::from(2 * MAX_INTERACTIVE)) as u32;
        self.at = now;
    }
}

impl Streams {
    /// Streams of higher priority send first; of equal priority, in turns ([`Streams::begin_batch`]).
    pub(crate) fn set_priority(&mut self, id: StreamId, priority: i8) -> Result<(), WriteError> {
        let set = |stream: &mut Stream, shared: &mut Shared| {
            shared.below = shared.below - u32::from(stream.priority < 0) + u32::from(priority < 0);
            shared.has_classes |= priority != 0;
            stream.priority = priority;
        };
        self.update(id, set).ok_or(WriteError::Unknown)
    }

    pub(crate) fn set_class(&mut self, id: StreamId, class: StreamClass) -> Result<(), WriteError> {
        let set = |stream: &mut Stream, shared: &mut Shared| {
            shared.has_classes |= class != StreamClass::ByPriority;
            stream.class = class;
        };
        self.update(id, set).ok_or(WriteError::Unknown)
    }

    /// Data of stream `id` from `offset` on came by a lane. If it is its beginning, the peer wants the answer there.
    pub(crate) fn came_by_lane(&mut self, id: StreamId, offset: u64) {
        if offset >= u64::from(MAX_INTERACTIVE) {
            return;
        }
        if let Some(stream) = self.map.get_mut(&id) {
            stream.came_by_lane = true;
        }
    }

    /// There is a lane: from now on, streams differ in class.
    pub(crate) fn tell_classes_apart(&mut self) {
        self.shared.has_classes = true;
    }

    /// Whether any stream has differed from the others so far.
    #[inline]
    pub(crate) fn has_classes(&self) -> bool {
        self.shared.has_classes
    }

    /// Whether the data of stream `id` may use lanes.
    pub(crate) fn is_interactive(&self, id: StreamId) -> bool {
        self.map.get(&id).is_some_and(|stream| stream.is_interactive(&self.shared))
    }

    /// Whether received data of stream `id` at `offset` is that of an interactive stream; `None` if there is no such stream
    /// any more.
    pub(crate) fn receives_interactively(&self, id: StreamId, offset: u64) -> Option<bool> {
        let stream = self.map.get(&id)?;
        let is_little = stream.class == StreamClass::Interactive || offset < u64::from(MAX_INTERACTIVE);
        Some(is_little && stream.is_marked(&self.shared))
    }
}

impl Stream {
    fn is_marked(&self, shared: &Shared) -> bool {
        match self.class {
            StreamClass::Interactive => true,
            StreamClass::Bulk => false,
            StreamClass::ByPriority => {
                self.priority > 0 || self.priority == 0 && (shared.below > 0 || self.came_by_lane)
            }
        }
    }

    /// Whether its data may use lanes.
    #[inline]
    pub(super) fn is_interactive(&self, shared: &Shared) -> bool {
        shared.has_classes && self.is_interactive_now(shared)
    }

    #[inline(never)] // few sessions have streams of several classes
    fn is_interactive_now(&self, shared: &Shared) -> bool {
        self.is_marked(shared)
            && (self.class == StreamClass::Interactive
                || self.send.buffered() <= MAX_INTERACTIVE as usize && self.written.bytes <= MAX_INTERACTIVE)
    }

    /// The application wrote `len` bytes.
    #[inline]
    pub(super) fn note_written(&mut self, len: usize, shared: &Shared) {
        if shared.has_classes {
            self.written.note(shared.clock.now, len);
        }
    }

    #[inline]
    pub(super) fn candidate(&self, id: StreamId, shared: &Shared) -> Candidate<'_> {
        Candidate { id, attached: &self.attached, is_interactive: self.is_interactive(shared) }
    }
}
