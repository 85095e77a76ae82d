//! Frames that are no stream data: taken out of what is due when a record is built, with values as they are then.

use super::Connection;
use super::pending::{Carried, Due};
use crate::stream::Control;
use crate::tcp::Tcp;
use crate::wire::frame::{self, Frame, Parameters};
use crate::wire::ids::ConnectionId;

/// The most TCP connections that one record acknowledges.
pub(super) const MAX_ACKS: usize = 8;
pub(super) const ACK_LEN: usize = 13;
/// The longest value of a TCP option that is sent.
pub(super) const MAX_OPTION_VALUE: usize = 64;
/// The longest frame of the session: a TCP option.
const MAX_DUE_LEN: usize = 4 + MAX_OPTION_VALUE;
/// The longest control frame of a stream: Reset Stream.
const MAX_CONTROL_LEN: usize = 17;

/// The control part of a record under construction.
#[derive(Default)]
pub(super) struct Outgoing {
    pub(super) control: Vec<u8>,
    pub(super) carried: Vec<Carried>,
    pub(super) ack_eliciting: bool,
}

impl Outgoing {
    pub(super) fn clear(&mut self) {
        self.control.clear();
        self.carried.clear();
        self.ack_eliciting = false;
    }
}

impl Connection {
    /// Control frames that are due and may go on `tcp`, as many as fit into `max` bytes.
    pub(super) fn fill_control(&mut self, tcp: ConnectionId, max: usize, frames: &mut Outgoing) {
        if self.pending.is_empty() && !self.streams.has_control() {
            return self.fill_ping(tcp, frames); // as nearly always
        }
        // Behind them there is room for a Ping and the ACKs. What may not fit is not begun: making a frame has effects.
        let max = max.saturating_sub(1 + MAX_ACKS * ACK_LEN);
        if self.begins_as_backup(tcp) {
            self.pending.remove(Due::Status(tcp));
            self.encode_due(Due::Status(tcp), &mut frames.control);
            frames.carried.push(Carried::Session(Due::Status(tcp)));
        }
        while frames.control.len() + MAX_DUE_LEN <= max {
            let Some(due) = self.pending.first(|due| self.may_go_on(*due, tcp)) else { break };
            let before = frames.control.len();
            self.pending.remove(due);
            self.encode_due(due, &mut frames.control);
            if frames.control.len() > before {
                frames.carried.push(Carried::Session(due));
            }
        }
        while frames.control.len() + MAX_CONTROL_LEN <= max {
            let Some(control) = self.streams.next_control() else { break };
            frames.carried.push(Carried::Stream(control.key()));
            self.encode(&control_frame(control), &mut frames.control);
        }
        self.fill_ping(tcp, frames);
        frames.ack_eliciting = !frames.control.is_empty();
    }

    pub(super) fn fill_ping(&mut self, tcp: ConnectionId, frames: &mut Outgoing) {
        if self.tcps.get_mut(tcp).is_some_and(|entry| entry.live().take_ping()) {
            self.encode(&Frame::Ping, &mut frames.control);
            frames.ack_eliciting = true;
        }
    }

    /// Whether the first record on `tcp` has to say that it is a backup. The peer may put data on it as soon as that has come.
    fn begins_as_backup(&self, tcp: ConnectionId) -> bool {
        let is_new = |entry: &Tcp<Carried>| entry.is_opening() && entry.counters().records_sent == 0;
        !self.pending.is_empty() && self.pending.contains(Due::Status(tcp)) && self.tcps.get(tcp).is_some_and(is_new)
    }

    /// A Connection Reset never travels on the TCP connection that it names; an address is removed only once it is known,
    /// and a status changes only once the one before has arrived. That of a join goes on the join: elsewhere it might arrive before.
    pub(super) fn may_go_on(&self, due: Due, tcp: ConnectionId) -> bool {
        match due {
            Due::Reset(named) => named != tcp,
            Due::RemoveAddress(id) => self.local_addresses.may_remove(id),
            Due::Status(named) => self
                .tcps
                .get(named)
                .is_none_or(|entry| !entry.has_status_in_flight() && (named == tcp || !entry.is_opening())),
            _ => true,
        }
    }

    /// Makes the frame from what is true now; nothing if it has no meaning any more.
    fn encode_due(&mut self, due: Due, out: &mut Vec<u8>) {
        match due {
            Due::Parameters => self.encode_parameters(out),
            Due::Reset(tcp) => self.encode_reset(tcp, out),
            Due::Token(sequence) => self.encode_token(sequence, out),
            Due::Address(id) => {
                if let Some(address) = self.local_addresses.get(id) {
                    self.encode(&Frame::NewAddress(frame::NewAddress { id, address }), out);
                }
            }
            Due::RemoveAddress(id) => self.encode(&Frame::RemoveAddress(frame::RemoveAddress { id }), out),
            Due::Status(tcp) => {
                if let Some(entry) = self.tcps.get_mut(tcp) {
                    let backup = entry.status_sealed();
                    self.encode(&Frame::ConnectionStatus(frame::ConnectionStatus { tcp, backup }), out);
                }
            }
            Due::Option(index) => {
                if let Some((kind, value)) = self.options.get(index as usize).cloned() {
                    self.encode(&Frame::TcpOption(frame::TcpOption { kind, value: &value }), out);
                }
            }
        }
    }

    fn encode_parameters(&mut self, out: &mut Vec<u8>) {
        let millis = |duration: core::time::Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        let config = &self.config;
        let parameters = Parameters {
            initial_max_data: config.initial_session_window,
            initial_max_stream_data: config.initial_stream_window,
            max_streams: u64::from(config.max_streams),
            idle_timeout_ms: config.idle_timeout.map_or(0, millis),
            user_timeout_ms: millis(config.user_timeout),
            max_ack_delay_ms: millis(config.max_ack_delay),
            max_tcp_connections: u64::from(config.max_tcp_connections),
        };
        let mut entries = Vec::with_capacity(64);
        parameters.encode_entries(&mut entries);
        self.parameters_sent = true;
        self.encode(&Frame::SessionParameters(frame::SessionParameters { entries: &entries }), out);
    }

    /// Connection Reset, which the final ACK of the TCP connection accompanies.
    fn encode_reset(&mut self, tcp: ConnectionId, out: &mut Vec<u8>) {
        let reason = self.lost.get(&tcp).map_or(0, |lost| lost.reason());
        self.scratch.final_acks.insert(tcp);
        if reason == 0 {
            self.encode(&Frame::ConnectionReset(frame::ConnectionReset { tcp }), out);
        } else {
            self.encode(&Frame::ConnectionResetReason(frame::ConnectionResetReason { tcp, reason }), out);
        }
    }

    /// A token that was used or burned in the meantime is not sent.
    // draft I13
    fn encode_token(&mut self, sequence: u32, out: &mut Vec<u8>) {
        let Some(token) = self.joins.value(sequence) else { return };
        let frame = match u8::try_from(sequence) {
            Ok(sequence) => Frame::NewToken(frame::NewToken { sequence, token }),
            Err(_) => Frame::NewTokenWide(frame::NewTokenWide { sequence, token }),
        };
        self.encode(&frame, out);
    }

    pub(super) fn encode(&mut self, frame: &Frame<'_>, out: &mut Vec<u8>) {
        self.frames_sent.count(frame.ty());
        frame.encode(out);
    }
}

fn control_frame(control: Control) -> Frame<'static> {
    match control {
        Control::MaxData { maximum } => Frame::MaxData(frame::MaxData { maximum }),
        Control::MaxStreamData { id, maximum } => Frame::MaxStreamData(frame::MaxStreamData { id, maximum }),
        Control::MaxStreams { maximum } => Frame::MaxStreams(frame::MaxStreams { maximum }),
        Control::ResetStream { id, error, final_size } => {
            Frame::ResetStream(frame::ResetStream { id, error, final_size })
        }
        Control::StopSending { id, error } => Frame::StopSending(frame::StopSending { id, error }),
    }
}
