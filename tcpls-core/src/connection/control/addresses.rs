//! Addresses that either endpoint advertises (draft, 5.2.7 and 5.2.8): an ID identifies one address for the whole
//! session, and a removed one is never used again.

use core::net::SocketAddr;
use std::collections::BTreeMap;

use crate::error::{AddressError, Violation};
use crate::wire::ids::AddressId;

/// Addresses that one endpoint may advertise at the same time; more are a violation.
const MAX_STORED: usize = 16;

/// This endpoint's addresses.
#[derive(Default)]
pub(super) struct LocalAddresses {
    next: u16,
    known: BTreeMap<AddressId, Local>,
}

struct Local {
    address: SocketAddr,
    /// The peer acknowledged New Address. Until then Remove Address is held back: on two TCP connections it could overtake
    /// what it refers to, and be ignored as unknown.
    acked: bool,
    withdrawn: bool,
    /// The peer acknowledged Remove Address. Until then it may still count this one.
    removed: bool,
}

impl LocalAddresses {
    pub(super) fn advertise(&mut self, address: SocketAddr) -> Result<AddressId, AddressError> {
        let id = AddressId(u8::try_from(self.next).map_err(|_| AddressError::Exhausted)?);
        if self.known.values().filter(|local| !local.removed).count() >= MAX_STORED {
            return Err(AddressError::TooMany);
        }
        self.next += 1;
        self.known.insert(id, Local { address, acked: false, withdrawn: false, removed: false });
        Ok(id)
    }

    /// Marks it withdrawn.
    pub(super) fn withdraw(&mut self, id: AddressId) -> Result<(), AddressError> {
        let local = self.known.get_mut(&id).filter(|local| !local.withdrawn).ok_or(AddressError::Unknown)?;
        local.withdrawn = true;
        Ok(())
    }

    /// Whether `end` of a TCP connection is an address that was withdrawn and is not advertised under another ID.
    pub(super) fn is_withdrawn(&self, end: SocketAddr) -> bool {
        let covers = |local: &&Local| covers(local.address, end);
        let mut known = self.known.values().filter(covers).peekable();
        known.peek().is_some() && known.all(|local| local.withdrawn)
    }

    pub(super) fn get(&self, id: AddressId) -> Option<SocketAddr> {
        self.known.get(&id).map(|local| local.address)
    }

    pub(super) fn acked(&mut self, id: AddressId) {
        if let Some(local) = self.known.get_mut(&id) {
            local.acked = true;
        }
    }

    /// Removes the address after the peer has acknowledged its removal.
    pub(super) fn removal_acked(&mut self, id: AddressId) {
        if let Some(local) = self.known.get_mut(&id) {
            local.removed = true;
        }
    }

    /// Whether Remove Address may be sent.
    pub(super) fn may_remove(&self, id: AddressId) -> bool {
        self.known.get(&id).is_some_and(|local| local.acked)
    }
}

/// The peer's addresses. Those that were removed are remembered forever (at most 256 in all).
#[derive(Default)]
pub(super) struct PeerAddresses(BTreeMap<AddressId, Peer>);

#[derive(Clone, Copy)]
struct Peer {
    address: SocketAddr,
    removed: bool,
}

impl PeerAddresses {
    /// True if it is new. Another content for a known ID, or a removed ID, is ignored (draft E15, E16).
    pub(super) fn insert(&mut self, id: AddressId, address: SocketAddr) -> Result<bool, Violation> {
        if self.0.contains_key(&id) {
            return Ok(false);
        }
        if self.in_force().count() >= MAX_STORED {
            return Err(Violation::TooManyAddresses);
        }
        self.0.insert(id, Peer { address, removed: false });
        Ok(true)
    }

    /// Returns its address; `None` if the ID is unknown or was removed before, which is ignored (draft E19).
    pub(super) fn remove(&mut self, id: AddressId) -> Option<SocketAddr> {
        let peer = self.0.get_mut(&id).filter(|peer| !peer.removed)?;
        peer.removed = true;
        Some(peer.address)
    }

    // draft E17
    pub(super) fn in_force(&self) -> impl Iterator<Item = (AddressId, SocketAddr)> + '_ {
        self.0.iter().filter(|(_, peer)| !peer.removed).map(|(id, peer)| (*id, peer.address))
    }

    /// Whether `end` of a TCP connection is an address that is in force.
    pub(super) fn is_in_force(&self, end: SocketAddr) -> bool {
        self.in_force().any(|(_, address)| covers(address, end))
    }

    /// Whether `end` of a TCP connection is an address that was removed and is not in force under another ID.
    pub(super) fn is_withdrawn(&self, end: SocketAddr) -> bool {
        let mut known = self.0.values().filter(|peer| covers(peer.address, end)).peekable();
        known.peek().is_some() && known.all(|peer| peer.removed)
    }
}

/// Whether an advertised address is that of a TCP connection's end. A client's may come without a port: any port then.
fn covers(advertised: SocketAddr, end: SocketAddr) -> bool {
    end.ip() == advertised.ip() && (advertised.port() == 0 || end.port() == advertised.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(last: u8) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, last], 443))
    }

    #[test]
    fn a_known_id_keeps_its_first_address() {
        // draft E15
        let mut peer = PeerAddresses::default();
        assert_eq!(peer.insert(AddressId(1), address(1)), Ok(true));
        assert_eq!(peer.insert(AddressId(1), address(2)), Ok(false));
        assert_eq!(peer.in_force().collect::<Vec<_>>(), [(AddressId(1), address(1))]);
    }

    #[test]
    fn removed_id_is_never_used_again_and_is_removed_once() {
        // draft E16, E19
        let mut peer = PeerAddresses::default();
        assert_eq!(peer.remove(AddressId(1)), None, "unknown");
        peer.insert(AddressId(1), address(1)).unwrap();
        assert_eq!(peer.remove(AddressId(1)), Some(address(1)));
        assert_eq!(peer.remove(AddressId(1)), None, "removed already");
        assert_eq!(peer.insert(AddressId(1), address(1)), Ok(false));
        assert_eq!(peer.in_force().count(), 0);
    }

    #[test]
    fn address_without_a_port_matches_all_ports() {
        let at = |port| SocketAddr::from(([192, 0, 2, 1], port));
        assert!(covers(at(443), at(443)) && !covers(at(443), at(444)));
        assert!(covers(at(0), at(443)) && !covers(at(0), address(2)));
    }

    #[test]
    fn an_own_address_is_withdrawn_once_no_id_stands_for_it_any_more() {
        let mut local = LocalAddresses::default();
        let first = local.advertise(address(1)).unwrap();
        let again = local.advertise(address(1)).unwrap();
        local.advertise(address(2)).unwrap();
        local.withdraw(first).unwrap();
        assert!(!local.is_withdrawn(address(1)), "another ID stands for it");
        local.withdraw(again).unwrap();
        assert!(local.is_withdrawn(address(1)));
        assert!(!local.is_withdrawn(address(2)) && !local.is_withdrawn(address(3)));
    }

    proptest::proptest! {
        /// docs/threat-model.md, attack 17: any order of additions and removals, against a literal reading of the draft.
        #[test]
        fn any_additions_and_removals_match_a_plain_list(
            ops in proptest::collection::vec((proptest::bool::ANY, 0u8..24, 0u8..4), 0..200)
        ) {
            let mut peer = PeerAddresses::default();
            let (mut known, mut removed) = (Vec::<(u8, u8)>::new(), Vec::<u8>::new());
            for (add, id, last) in ops {
                let is_known = known.iter().any(|(known, _)| *known == id);
                let full = known.len() - removed.len() >= MAX_STORED;
                if add {
                    let expected = match (is_known, full) {
                        (true, _) => Ok(false),
                        (false, true) => Err(Violation::TooManyAddresses),
                        (false, false) => Ok(true),
                    };
                    proptest::prop_assert_eq!(peer.insert(AddressId(id), address(last)), expected);
                    if expected == Ok(true) {
                        known.push((id, last));
                    }
                } else {
                    let first = known.iter().find(|(known, _)| *known == id && !removed.contains(&id));
                    proptest::prop_assert_eq!(peer.remove(AddressId(id)), first.map(|(_, last)| address(*last)));
                    removed.extend(first.map(|_| id));
                }
                let mut left: Vec<(u8, u8)> =
                    known.iter().copied().filter(|(id, _)| !removed.contains(id)).collect();
                left.sort_unstable();
                let left: Vec<_> = left.into_iter().map(|(id, last)| (AddressId(id), address(last))).collect();
                proptest::prop_assert_eq!(peer.in_force().collect::<Vec<_>>(), left);
                for last in 0..4 {
                    let uses: Vec<u8> = known.iter().filter(|(_, of)| *of == last).map(|(id, _)| *id).collect();
                    let withdrawn = !uses.is_empty() && uses.iter().all(|id| removed.contains(id));
                    proptest::prop_assert_eq!(peer.is_withdrawn(address(last)), withdrawn);
                }
            }
        }
    }

    #[test]
    fn the_number_of_addresses_in_force_is_bounded() {
        let mut peer = PeerAddresses::default();
        for id in 0..16 {
            peer.insert(AddressId(id), address(id)).unwrap();
        }
        assert_eq!(peer.insert(AddressId(16), address(16)), Err(Violation::TooManyAddresses));
        peer.remove(AddressId(3));
        assert_eq!(peer.insert(AddressId(16), address(16)), Ok(true));
    }

    #[test]
    fn removal_waits_until_the_peer_has_the_address() {
        let mut local = LocalAddresses::default();
        let id = local.advertise(address(1)).unwrap();
        local.withdraw(id).unwrap();
        assert!(!local.may_remove(id));
        local.acked(id);
        assert!(local.may_remove(id));
        assert_eq!(local.withdraw(id), Err(AddressError::Unknown), "it is withdrawn once");
    }

    #[test]
    fn no_more_addresses_are_advertised_than_a_peer_takes() {
        let mut local = LocalAddresses::default();
        let ids: Vec<AddressId> = (0..16).map(|last| local.advertise(address(last)).unwrap()).collect();
        assert_eq!(local.advertise(address(16)), Err(AddressError::TooMany));
        local.withdraw(ids[3]).unwrap();
        assert_eq!(local.advertise(address(16)), Err(AddressError::TooMany), "the peer may not know yet");
        local.removal_acked(ids[3]);
        assert_eq!(local.advertise(address(16)), Ok(AddressId(16)), "a number that was refused is not used up");
    }
}
