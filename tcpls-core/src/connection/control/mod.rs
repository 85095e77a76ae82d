//! The session's control frames: the pending ones, and the state that both endpoints have once they are acknowledged.
//!
//! [`ControlFrames`] owns all of it. Loss recovery is its three methods: [`fill`](ControlFrames::fill) puts frames into
//! a record, [`acked`](ControlFrames::acked) and [`lost`](ControlFrames::lost) report their acknowledgment or loss.
//! `joins` has the tokens, and `tcp` the value of a Connection Status; both are read when the frame is made.

mod addresses;
mod due;
mod fill;
mod options;
mod parameters;
mod requests;
mod statuses;

use core::net::SocketAddr;
use std::collections::{BTreeMap, BTreeSet};

pub(super) use self::fill::{ACK_LEN, MAX_ACKS};
pub(super) use self::parameters::PARAMETERS_TIMEOUT;

use self::addresses::{LocalAddresses, PeerAddresses};
use self::due::Pending;
use self::options::{MAX_OPTION_VALUE, TcpOptions};
use self::parameters::ParameterExchange;
use self::requests::{PeerRequests, Requests};
use self::statuses::{Outcome, Statuses};
use super::carried::{Carried, Due, Outgoing, StatusId};
use super::joins::Joins;
use super::lost::Lost;
use crate::config::Config;
use crate::error::{AddressError, AskOptionError, TcpFault, Violation};
use crate::event::OptionOutcome;
use crate::stats::FrameCounts;
use crate::tcp::Tcp;
use crate::tcp::set::TcpSet;
use crate::time::Time;
use crate::wire::frame::{self, Frame, Parameters};
use crate::wire::ids::{AddressId, ConnectionId, OptionRequestId};

/// The longest frame of the session: TCP Option Request.
const MAX_DUE_LEN: usize = 12 + MAX_OPTION_VALUE;

/// Control frames that are about the session, not about one stream.
#[derive(Default)]
pub(super) struct ControlFrames {
    due: Pending,
    parameters: ParameterExchange,
    local: LocalAddresses,
    peer: PeerAddresses,
    options: TcpOptions,
    requests: Requests,
    peer_requests: PeerRequests,
    statuses: Statuses,
    drain: Option<DrainNotice>,
    /// Lost TCP connections whose final ACK is to be sent.
    final_acks: BTreeSet<ConnectionId>,
}

/// This endpoint's Drain.
struct DrainNotice {
    /// How many streams of the peer are served.
    streams: u32,
    is_acked: bool,
}

/// The parts of the session that a frame reads when it is made.
pub(super) struct Facts<'a> {
    pub(super) config: &'a Config,
    pub(super) joins: &'a Joins,
    pub(super) tcps: &'a TcpSet<Carried>,
    pub(super) lost: &'a BTreeMap<ConnectionId, Lost>,
    pub(super) counts: &'a mut FrameCounts,
}

impl Facts<'_> {
    fn put(&mut self, frame: &Frame<'_>, out: &mut Vec<u8>) {
        self.counts.count(frame.ty());
        frame.encode(out);
    }
}

/// Memory.
impl ControlFrames {
    /// Estimates the memory of TCP options and of requests for them, in bytes.
    pub(super) fn memory(&self) -> usize {
        self.options.memory() + self.requests.memory() + self.peer_requests.memory()
    }

    /// Frees the nodes that empty trees keep.
    pub(super) fn shrink_to_fit(&mut self) {
        self.due.shrink_to_fit();
        self.statuses.shrink_to_fit();
        if self.final_acks.is_empty() {
            self.final_acks = BTreeSet::new();
        }
    }
}

/// Loss recovery.
impl ControlFrames {
    /// Appends the pending frames that may be sent on `tcp` to `frames`, up to `max` bytes; that a join is a backup in any
    /// case.
    pub(super) fn fill(&mut self, tcp: ConnectionId, max: usize, facts: &mut Facts<'_>, frames: &mut Outgoing) {
        if self.begins_as_backup(tcp, facts.tcps) {
            self.put(Due::Status(tcp), facts, frames);
        }
        while frames.control.len() + MAX_DUE_LEN <= max {
            let Some(due) = self.due.first(|due| self.may_go_on(*due, tcp, facts.tcps)) else { break };
            self.put(due, facts, frames);
        }
    }

    /// Appends the Session Parameters, if they are due.
    pub(super) fn fill_parameters(&mut self, facts: &mut Facts<'_>, frames: &mut Outgoing) {
        if self.due.contains(Due::Parameters) {
            self.put(Due::Parameters, facts, frames);
        }
    }

    /// The peer has acknowledged a frame that [`ControlFrames::fill`] made.
    pub(super) fn acked(&mut self, due: Due) {
        match due {
            Due::Address(id) => self.local.acked(id),
            Due::RemoveAddress(id) => self.local.removal_acked(id),
            Due::Drain => self.drain.iter_mut().for_each(|drain| drain.is_acked = true),
            Due::Parameters
            | Due::Reset(_)
            | Due::Token(_)
            | Due::Option(_)
            | Due::OptionRequest(_)
            | Due::OptionAnswer(_)
            | Due::Status(_) => {}
        }
    }

    /// The peer has acknowledged a Connection Status. If it may have arrived after a newer one, the current one is sent
    /// again.
    pub(super) fn status_acked(&mut self, status: StatusId, tcps: &mut TcpSet<Carried>, at: Time) {
        let due = Due::Status(status.about);
        match self.statuses.acked(status) {
            Outcome::Known if !self.due.contains(due) => {
                tcps.get_mut(status.about).into_iter().for_each(|entry| entry.status_acked(at));
            }
            Outcome::Overtaken => self.due.insert(due),
            Outcome::Known | Outcome::Void => {}
        }
    }

    /// The frame may not have arrived: it is pending again.
    pub(super) fn lost(&mut self, due: Due) {
        let is_over = match due {
            Due::OptionRequest(id) => self.requests.get(id).is_none(),
            Due::OptionAnswer(id) => self.peer_requests.outcome(id).is_none(),
            _ => false,
        };
        if !is_over {
            self.due.insert(due);
        }
    }

    /// The same for a Connection Status, which is sent again with its current value.
    pub(super) fn status_lost(&mut self, status: StatusId) {
        if self.statuses.lost(status) {
            self.due.insert(Due::Status(status.about));
        }
    }
}

/// Returns the pending frames.
impl ControlFrames {
    /// Whether there is nothing to send, on any TCP connection.
    pub(super) fn is_quiet(&self) -> bool {
        self.due.is_empty() && self.final_acks.is_empty()
    }

    /// Whether frames are due, on any TCP connection.
    pub(super) fn has_frames(&self) -> bool {
        !self.due.is_empty()
    }

    /// How many frames are due.
    pub(super) fn frames_due(&self) -> usize {
        self.due.len()
    }

    /// Whether a pending frame may be sent on `tcp`.
    pub(super) fn has_something_for(&self, tcp: ConnectionId, tcps: &TcpSet<Carried>) -> bool {
        self.due.first(|due| self.may_go_on(*due, tcp, tcps)).is_some() || !self.final_acks.is_empty()
    }

    /// Whether nothing is due that the end of the session has to wait for. Which TCP connections are backups matters no more
    /// then, and a status may have to wait for one that is dark.
    pub(super) fn has_said_all(&self) -> bool {
        self.due.first(|due| !matches!(due, Due::Status(_))).is_none()
    }

    /// The peer does not know these frames: none goes out.
    pub(super) fn drop_all(&mut self) {
        self.due = Pending::default();
    }

    /// Whether the first record on `tcp` has to carry the status backup. The peer may send data on it as soon as that
    /// record has arrived.
    pub(super) fn begins_as_backup(&self, tcp: ConnectionId, tcps: &TcpSet<Carried>) -> bool {
        let is_new = |entry: &Tcp<Carried>| entry.is_opening() && entry.counters().records_sent == 0;
        !self.due.is_empty() && self.due.contains(Due::Status(tcp)) && tcps.get(tcp).is_some_and(is_new)
    }

    /// A Connection Reset never travels on the TCP connection that it names; an address is removed only once it is
    /// known, and a status changes only once the one before has arrived or may be lost. That of a join is sent on the
    /// joining TCP connection: on another it might arrive before the join.
    fn may_go_on(&self, due: Due, tcp: ConnectionId, tcps: &TcpSet<Carried>) -> bool {
        match due {
            Due::Reset(named) => named != tcp,
            Due::RemoveAddress(id) => self.local.may_remove(id),
            Due::Status(named) => tcps
                .get(named)
                .is_none_or(|entry| !self.statuses.is_awaited(named) && (named == tcp || !entry.is_opening())),
            Due::Parameters
            | Due::Drain
            | Due::Token(_)
            | Due::Address(_)
            | Due::Option(_)
            | Due::OptionRequest(_)
            | Due::OptionAnswer(_) => true,
        }
    }

    /// Makes a pending frame from the current state; none if it has no meaning any more.
    fn put(&mut self, due: Due, facts: &mut Facts<'_>, frames: &mut Outgoing) {
        self.due.remove(due);
        let before = frames.control.len();
        self.encode(due, facts, &mut frames.control);
        if frames.control.len() > before {
            frames.carried.push(match due {
                Due::Status(tcp) => Carried::Status(self.statuses.sent(tcp)),
                _ => Carried::Session(due),
            });
        }
    }

    fn encode(&mut self, due: Due, facts: &mut Facts<'_>, out: &mut Vec<u8>) {
        match due {
            Due::Parameters => self.put_parameters(facts, out),
            Due::Reset(tcp) => self.put_reset(tcp, facts, out),
            Due::Drain => {
                if let Some(DrainNotice { streams, .. }) = self.drain {
                    facts.put(&Frame::Drain(frame::Drain { streams }), out);
                }
            }
            Due::Token(sequence) => put_token(sequence, facts, out),
            Due::Address(id) => {
                if let Some(address) = self.local.get(id) {
                    facts.put(&Frame::NewAddress(frame::NewAddress { id, address }), out);
                }
            }
            Due::RemoveAddress(id) => facts.put(&Frame::RemoveAddress(frame::RemoveAddress { id }), out),
            Due::Status(tcp) => {
                if let Some(entry) = facts.tcps.get(tcp) {
                    let backup = entry.status();
                    facts.put(&Frame::ConnectionStatus(frame::ConnectionStatus { tcp, backup }), out);
                }
            }
            Due::Option(index) => {
                if let Some((kind, value)) = self.options.get(index) {
                    facts.put(&Frame::TcpOption(frame::TcpOption { kind, value }), out);
                }
            }
            Due::OptionRequest(id) => {
                if let Some(request) = self.requests.get(id) {
                    facts.put(&request.frame(id).into(), out);
                }
            }
            Due::OptionAnswer(id) => {
                if let Some(outcome) = self.peer_requests.outcome(id) {
                    let outcome = outcome.code();
                    facts.put(&Frame::TcpOptionAnswer(frame::TcpOptionAnswer { id, outcome }), out);
                }
            }
        }
    }

    fn put_parameters(&mut self, facts: &mut Facts<'_>, out: &mut Vec<u8>) {
        let mut entries = Vec::with_capacity(64);
        self.parameters.send(facts.config).encode_entries(&mut entries);
        facts.put(&Frame::SessionParameters(frame::SessionParameters { entries: &entries }), out);
    }

    /// Connection Reset, which the final ACK of the TCP connection accompanies.
    fn put_reset(&mut self, tcp: ConnectionId, facts: &mut Facts<'_>, out: &mut Vec<u8>) {
        let reason = facts.lost.get(&tcp).map_or(0, |lost| lost.reason());
        self.final_acks.insert(tcp);
        if reason == 0 || self.parameters.is_draft_only() {
            facts.put(&Frame::ConnectionReset(frame::ConnectionReset { tcp }), out);
        } else {
            facts.put(&Frame::ConnectionResetReason(frame::ConnectionResetReason { tcp, reason }), out);
        }
    }
}

/// A token that was used or burned in the meantime is not sent.
// draft I13
fn put_token(sequence: u32, facts: &mut Facts<'_>, out: &mut Vec<u8>) {
    let Some(token) = facts.joins.value(sequence) else { return };
    let frame = match u8::try_from(sequence) {
        Ok(sequence) => Frame::NewToken(frame::NewToken { sequence, token }),
        Err(_) => Frame::NewTokenWide(frame::NewTokenWide { sequence, token }),
    };
    facts.put(&frame, out);
}

/// Events that a frame reports to the peer.
impl ControlFrames {
    /// The session supports TCPLS: the peer needs the Session Parameters, once.
    pub(super) fn owe_parameters(&mut self) {
        if !self.parameters.is_sent() {
            self.due.insert(Due::Parameters);
        }
    }

    /// Server: the Session Parameters say that it takes joins that are resumptions.
    pub(super) fn take_resumed_joins(&mut self) {
        self.parameters.take_resumed_joins();
    }

    /// Server: the Session Parameters name this instance.
    pub(super) fn name_instance(&mut self, instance: u64) {
        self.parameters.name_instance(instance);
    }

    /// A token was issued to the client.
    pub(super) fn owe_token(&mut self, sequence: u32) {
        self.due.insert(Due::Token(sequence));
    }

    /// A token is unusable: it is not sent any more.
    pub(super) fn drop_token(&mut self, sequence: u32) {
        self.due.remove(Due::Token(sequence));
    }

    /// The backup status of `tcp` has changed: the peer needs the new one, if it knows the frame.
    pub(super) fn owe_status(&mut self, tcp: ConnectionId) {
        if !self.parameters.is_draft_only() {
            self.due.insert(Due::Status(tcp));
        }
    }

    /// TCP connection `tcp` is lost: the peer is notified. If it was the peer that reported it, the final ACK is the answer.
    // draft I44
    pub(super) fn tcp_lost(&mut self, tcp: ConnectionId, fault: TcpFault) {
        match fault {
            TcpFault::PeerReset(_) => self.owe_final_ack(tcp),
            _ => self.owe_reset(tcp),
        }
        self.drop_status(tcp);
    }

    /// The join of `tcp` failed, and the peer has not received it.
    pub(super) fn join_failed(&mut self, tcp: ConnectionId) {
        self.drop_status(tcp);
    }

    fn drop_status(&mut self, tcp: ConnectionId) {
        self.due.remove(Due::Status(tcp));
        self.statuses.forget(tcp);
    }

    /// Reports to the peer that `tcp` is lost, or will never join.
    pub(super) fn owe_reset(&mut self, tcp: ConnectionId) {
        self.due.insert(Due::Reset(tcp));
    }

    /// The peer reported that `tcp` is lost: it needs the final ACK.
    pub(super) fn owe_final_ack(&mut self, tcp: ConnectionId) {
        self.final_acks.insert(tcp);
    }

    /// How many final ACKs are to be sent.
    pub(super) fn final_acks(&self) -> usize {
        self.final_acks.len()
    }

    /// Returns the next lost TCP connection whose final ACK is sent now.
    pub(super) fn take_final_ack(&mut self) -> Option<ConnectionId> {
        self.final_acks.pop_first()
    }

    /// The application drains the session: of the peer's streams, the first `streams` are served. The peer needs to know,
    /// if it understands the frame; before its Session Parameters have arrived, that is not known.
    pub(super) fn owe_drain(&mut self, streams: u32) {
        if self.drain.is_none() {
            self.drain = Some(DrainNotice { streams, is_acked: false });
            self.owe_announced_drain();
        }
    }

    fn owe_announced_drain(&mut self) {
        if self.drain.is_some() && self.parameters.peer_knows_drain() {
            self.due.insert(Due::Drain);
        }
    }

    /// Whether the peer knows that this endpoint drains the session, as far as it understands that.
    pub(super) fn has_announced_drain(&self) -> bool {
        let is_acked = self.drain.as_ref().is_some_and(|drain| drain.is_acked);
        is_acked || self.parameters.is_complete() && !self.parameters.peer_knows_drain()
    }

    /// The application advertises an address of this endpoint.
    pub(super) fn advertise(&mut self, address: SocketAddr) -> Result<AddressId, AddressError> {
        let id = self.local.advertise(address)?;
        self.due.insert(Due::Address(id));
        Ok(id)
    }

    /// The application withdraws it.
    pub(super) fn withdraw(&mut self, id: AddressId) -> Result<(), AddressError> {
        self.local.withdraw(id)?;
        self.due.insert(Due::RemoveAddress(id));
        Ok(())
    }

    /// The application sends a TCP option.
    pub(super) fn send_option(&mut self, kind: u8, value: &[u8]) {
        self.options.push(kind, value).into_iter().for_each(|index| self.due.insert(Due::Option(index)));
    }
}

/// Requests for TCP options, and their answers.
impl ControlFrames {
    /// The application asks the peer to set an option of `tcp`.
    pub(super) fn ask_option(
        &mut self,
        tcp: ConnectionId,
        kind: u8,
        value: &[u8],
    ) -> Result<OptionRequestId, AskOptionError> {
        let id = self.requests.open(tcp, kind, value)?;
        self.due.insert(Due::OptionRequest(id));
        Ok(id)
    }

    /// The peer has answered; returns what it was asked, unless it has answered before.
    pub(super) fn handle_option_answer(
        &mut self,
        id: OptionRequestId,
    ) -> Result<Option<(ConnectionId, u8)>, Violation> {
        let request = self.requests.close(id)?;
        self.due.remove(Due::OptionRequest(id));
        Ok(request)
    }

    /// The peer asks for an option; returns whether it has not asked this before.
    pub(super) fn handle_option_request(&mut self, id: OptionRequestId) -> Result<bool, Violation> {
        let (is_new, settled) = self.peer_requests.take(id)?;
        settled.for_each(|id| self.due.remove(Due::OptionAnswer(id)));
        Ok(is_new)
    }

    /// Answers a request of the peer's, once.
    pub(super) fn answer_option(&mut self, id: OptionRequestId, outcome: OptionOutcome) {
        if self.peer_requests.answer(id, outcome) {
            self.due.insert(Due::OptionAnswer(id));
        }
    }

    /// Returns how many requests of the peer's wait for this endpoint's answer.
    pub(super) fn open_option_requests(&self) -> usize {
        self.peer_requests.open()
    }
}

/// Session Parameters.
impl ControlFrames {
    /// Returns the known parameters of both endpoints.
    #[inline]
    pub(super) fn parameters(&self) -> &ParameterExchange {
        &self.parameters
    }

    /// The endpoints have agreed on the draft's frames alone: no other is sent, even if it was asked for before.
    pub(super) fn leave_out_parameters(&mut self) {
        self.parameters.leave_out();
        self.due.retain(|due| !matches!(due, Due::Parameters | Due::Status(_) | Due::Option(_) | Due::Drain));
    }

    /// The session begins without the peer's Session Parameters.
    pub(super) fn assume_absent_parameters(&mut self) {
        self.parameters.assume_absent();
    }

    /// The peer's Session Parameters arrived; returns whether for the first time.
    pub(super) fn handle_parameters(&mut self, parameters: Parameters) -> Result<bool, Violation> {
        let is_first = self.parameters.handle(parameters)?;
        if is_first {
            self.owe_announced_drain();
        }
        Ok(is_first)
    }

    /// Frames of the peer arrived: its Session Parameters are expected.
    #[inline]
    pub(super) fn handle_frames(&mut self, now: Time) {
        self.parameters.handle_frames(now);
    }

    /// The session is stranded: nothing is expected from the peer before a join.
    pub(super) fn stop_waiting(&mut self) {
        self.parameters.stop_waiting();
    }
}

/// The peer's addresses, and the withdrawn ones of both endpoints.
impl ControlFrames {
    /// The peer advertises an address; returns whether it is new.
    pub(super) fn handle_new_address(&mut self, new: frame::NewAddress) -> Result<bool, Violation> {
        self.peer.insert(new.id, new.address)
    }

    /// The peer withdraws an address: which, if it was in force.
    pub(super) fn handle_remove_address(&mut self, id: AddressId) -> Option<SocketAddr> {
        self.peer.remove(id)
    }

    /// The peer's addresses that are in force.
    pub(super) fn peer_addresses(&self) -> impl Iterator<Item = (AddressId, SocketAddr)> + '_ {
        self.peer.in_force()
    }

    /// Whether the peer advertises `remote` now.
    pub(super) fn is_advertised(&self, remote: SocketAddr) -> bool {
        self.peer.is_in_force(remote)
    }

    /// The session is over: no address of the peer's is to be connected to any more.
    pub(super) fn forget_peer_addresses(&mut self) {
        self.peer = PeerAddresses::default();
    }

    /// Whether this end of a TCP connection, on either side, is an address that was withdrawn.
    pub(super) fn is_withdrawn(&self, end: SocketAddr) -> bool {
        self.peer.is_withdrawn(end) || self.local.is_withdrawn(end)
    }
}
