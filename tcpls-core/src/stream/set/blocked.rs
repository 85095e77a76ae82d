//! The set of blocked streams, whose application waits for a Writable event.

use crate::wire::ids::StreamId;

/// Sorted by ID, so that Writable events come in the same order in every run. A bulk writer is blocked and woken all the
/// time; a queue that keeps its memory needs no allocation for that, which a tree would.
#[derive(Debug, Default)]
pub(super) struct Blocked(Vec<StreamId>);

impl Blocked {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// The stream at this place, counted from 0.
    pub(super) fn get(&self, at: usize) -> Option<StreamId> {
        self.0.get(at).copied()
    }

    pub(super) fn insert(&mut self, id: StreamId) {
        if let Err(at) = self.0.binary_search(&id) {
            self.0.insert(at, id);
        }
    }

    pub(super) fn remove(&mut self, id: StreamId) {
        if let Ok(at) = self.0.binary_search(&id) {
            self.0.remove(at);
        }
    }

    /// All of them; none is left.
    pub(super) fn take(&mut self) -> Vec<StreamId> {
        core::mem::take(&mut self.0)
    }

    #[cfg(test)]
    pub(super) fn iter(&self) -> impl Iterator<Item = &StreamId> {
        self.0.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::ids::Side;

    #[test]
    fn each_stream_is_listed_once_in_order() {
        let mut blocked = Blocked::default();
        let ids = [12, 4, 8, 4].map(|id| StreamId::new(Side::Client, id).unwrap());
        ids.into_iter().for_each(|id| blocked.insert(id));
        blocked.remove(ids[2]);
        blocked.remove(ids[2]);
        assert_eq!((blocked.get(0), blocked.get(1), blocked.get(2)), (Some(ids[1]), Some(ids[0]), None));
        assert_eq!(blocked.take(), [ids[1], ids[0]]);
        assert!(blocked.is_empty());
    }
}
