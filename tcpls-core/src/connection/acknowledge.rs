//! Which TCP connections a record acknowledges, and the ACK frames for them.

use arrayvec::ArrayVec;

use super::Connection;
use super::carried::Carried;
use super::control::{ACK_LEN, MAX_ACKS};
use crate::tcp::Tcp;
use crate::time::Time;
use crate::wire::frame::{self, Frame};
use crate::wire::ids::ConnectionId;

impl Connection {
    /// Room to keep for the acknowledgments that [`Connection::take_acks`] takes if the record goes out anyway; no more, or
    /// bulk records would be shorter while another TCP connection is about to acknowledge something itself.
    pub(super) fn ack_reserve(&self, now: Time, tcp: ConnectionId) -> usize {
        let Some(on) = self.tcps.get(tcp) else { return 0 };
        let mut acks = self.control.final_acks();
        for entry in self.tcps.iter() {
            let is_owed = entry.received().is_owed();
            acks += usize::from(is_owed && (self.rides_along(entry, tcp) || self.owes_ack(entry, on, now)));
        }
        ACK_LEN * acks.min(MAX_ACKS)
    }

    /// Whether a record on `tcp` that is sent anyway carries the acknowledgment for `entry`.
    fn rides_along(&self, entry: &Tcp<Carried>, tcp: ConnectionId) -> bool {
        entry.id() == tcp && entry.received().is_owed() && !self.is_bypassed(entry)
    }

    /// Returns the TCP connections that this record acknowledges: its own if an ACK is owed and the record is sent
    /// anyway, others whose ACK is due and cannot go out on them (draft I20), and the final ACKs of lost ones.
    pub(super) fn take_acks(
        &mut self,
        now: Time,
        tcp: ConnectionId,
        goes_anyway: bool,
        acks: &mut ArrayVec<ConnectionId, MAX_ACKS>,
    ) {
        let Some(on) = self.tcps.get(tcp) else { return };
        let is_spared = self.is_spared(on);
        while !acks.is_full()
            && !is_spared
            && let Some(lost) = self.control.take_final_ack()
        {
            if self.lost.get(&lost).is_some_and(|lost| lost.tcp.received().any()) {
                acks.push(lost);
            }
        }
        for entry in self.tcps.iter() {
            let rides_along = goes_anyway && self.rides_along(entry, tcp);
            if (rides_along || self.owes_ack(entry, on, now)) && acks.try_push(entry.id()).is_err() {
                break;
            }
        }
    }

    /// Whether the acknowledgment for `entry` has to be sent on `on` now: it is due, and `entry` is that one or cannot
    /// carry it. A backup carries those of others only if no other TCP connection works: where it is spared, the other
    /// one has room soon.
    pub(super) fn owes_ack(&self, entry: &Tcp<Carried>, on: &Tcp<Carried>, now: Time) -> bool {
        if !entry.received().is_due(now) {
            return false;
        }
        let mute = entry.is_blocked() || entry.close_notify_sent() || !entry.may_seal() || self.is_bypassed(entry);
        if entry.id() == on.id() { !self.is_bypassed(entry) } else { mute && !self.is_spared(on) }
    }

    pub(super) fn write_acks(&mut self, acks: &[ConnectionId], out: &mut Vec<u8>) {
        for tcp in acks {
            let entry = match self.tcps.get_mut(*tcp) {
                Some(entry) => Some(entry),
                None => self.lost.get_mut(tcp).map(|lost| &mut lost.tcp),
            };
            let Some(entry) = entry else { continue };
            let Some(highest) = entry.take_ack() else { continue };
            self.encode(&Frame::Ack(frame::Ack { tcp: *tcp, highest }), out);
        }
    }

    // draft I40
    pub(super) fn owe_ack(&mut self, now: Time, tcp: ConnectionId, ping: bool) {
        let policy = self.ack_policy();
        if let Some(entry) = self.tcps.get_mut(tcp) {
            entry.owe_ack(now, policy, ping);
        }
    }
}
