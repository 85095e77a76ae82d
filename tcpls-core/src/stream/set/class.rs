//! Which streams are interactive, and which are bulk: by the application's wish, by priority, and by how much they send.

use super::{Shared, Stream, Streams};
use crate::error::WriteError;
use crate::stream::{Candidate, StreamClass};
use crate::wire::ids::StreamId;

/// A stream of which more is unacknowledged is bulk, whatever its priority: its data would fill a lane.
const MAX_INTERACTIVE: usize = 64 * 1024;

impl Streams {
    /// Streams of higher priority send first; of equal priority, in turns of one record.
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
        if offset >= MAX_INTERACTIVE as u64 {
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

    /// Whether the application wants little delay for this stream. An ended one does not matter.
    pub(crate) fn is_marked(&self, id: StreamId) -> bool {
        self.map.get(&id).is_none_or(|stream| stream.is_marked(&self.shared))
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
        shared.has_classes
            && self.is_marked(shared)
            && (self.class == StreamClass::Interactive || self.send.buffered() <= MAX_INTERACTIVE)
    }

    pub(super) fn candidate(&self, id: StreamId, shared: &Shared) -> Candidate<'_> {
        Candidate { id, attached: &self.attached, is_interactive: self.is_interactive(shared) }
    }
}
