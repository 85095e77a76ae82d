//! The live TCP connections of a session, in the order of their IDs.
//!
//! There are few, and each record looks them up several times: a linear search in a sorted list is faster than a tree
//! or a binary search. Each has an allocation of its own, so that a session with one TCP connection allocates only one.

use super::Tcp;
use crate::wire::ids::ConnectionId;

/// TCP connections by ID; `C` is what their records carry.
pub(crate) struct TcpSet<C>(Vec<(ConnectionId, Box<Tcp<C>>)>);

impl<C> TcpSet<C> {
    /// A set of one.
    pub(crate) fn of(tcp: Tcp<C>) -> Self {
        Self(vec![(tcp.id, Box::new(tcp))])
    }

    fn find(&self, id: ConnectionId) -> Result<usize, usize> {
        self.0.binary_search_by_key(&id, |(id, _)| *id)
    }

    pub(crate) fn get(&self, id: ConnectionId) -> Option<&Tcp<C>> {
        self.0.iter().find(|(own, _)| *own == id).map(|(_, tcp)| &**tcp)
    }

    pub(crate) fn get_mut(&mut self, id: ConnectionId) -> Option<&mut Tcp<C>> {
        self.0.iter_mut().find(|(own, _)| *own == id).map(|(_, tcp)| &mut **tcp)
    }

    pub(crate) fn contains(&self, id: ConnectionId) -> bool {
        self.get(id).is_some()
    }

    /// Adds one, in place of the one with the same ID if there is any.
    pub(crate) fn insert(&mut self, tcp: Tcp<C>) {
        let id = tcp.id;
        match self.find(id) {
            Ok(at) => *self.0[at].1 = tcp,
            Err(at) => self.0.insert(at, (id, Box::new(tcp))),
        }
    }

    pub(crate) fn remove(&mut self, id: ConnectionId) -> Option<Tcp<C>> {
        self.find(id).ok().map(|at| *self.0.remove(at).1)
    }

    pub(crate) fn pop_first(&mut self) -> Option<Tcp<C>> {
        (!self.is_empty()).then(|| *self.0.remove(0).1)
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn ids(&self) -> impl Iterator<Item = ConnectionId> + '_ {
        self.0.iter().map(|(id, _)| *id)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Tcp<C>> {
        self.0.iter().map(|(_, tcp)| &**tcp)
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Tcp<C>> {
        self.0.iter_mut().map(|(_, tcp)| &mut **tcp)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tcp::TcpState;
    use crate::time::Time;

    fn tcp(id: u32, blocked: bool) -> Tcp<u8> {
        let mut tcp = Tcp::new(ConnectionId(id), TcpState::Active, Time::ZERO);
        tcp.blocked = blocked;
        tcp
    }

    #[test]
    fn entries_are_in_the_order_of_their_ids() {
        let mut set = TcpSet::of(tcp(4, false));
        [9, 0, 7, 1].into_iter().for_each(|id| set.insert(tcp(id, false)));
        assert_eq!(set.ids().map(|id| id.0).collect::<Vec<_>>(), [0, 1, 4, 7, 9]);
        assert!(set.iter().map(|tcp| tcp.id).eq(set.ids()));
    }

    #[test]
    fn removed_entry_is_absent_and_others_are_found() {
        let mut set = TcpSet::of(tcp(0, false));
        (1..20).for_each(|id| set.insert(tcp(id, false)));
        assert_eq!(set.remove(ConnectionId(7)).map(|tcp| tcp.id.0), Some(7));
        assert!(set.remove(ConnectionId(7)).is_none() && !set.contains(ConnectionId(7)));
        for id in (0..20).filter(|id| *id != 7).map(ConnectionId) {
            assert_eq!(set.get(id).map(|tcp| tcp.id), Some(id));
            assert_eq!(set.get_mut(id).map(|tcp| tcp.id), Some(id));
        }
        assert_eq!(set.len(), 19);
    }

    #[test]
    fn one_with_the_same_id_takes_the_others_place() {
        let mut set = TcpSet::of(tcp(3, false));
        set.insert(tcp(3, true));
        assert!(set.len() == 1 && set.get(ConnectionId(3)).is_some_and(|tcp| tcp.blocked));
    }
}
