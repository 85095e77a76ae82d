//! The part of a record besides stream data: control frames of the session and of streams, and a Ping.

use super::{ControlFrames, Facts};
use crate::connection::Connection;
use crate::connection::carried::{Carried, Outgoing};
use crate::stream::Control;
use crate::wire::frame::{self, Frame};
use crate::wire::ids::ConnectionId;

/// The most TCP connections that one record acknowledges.
pub(in crate::connection) const MAX_ACKS: usize = 8;
/// An ACK frame.
pub(in crate::connection) const ACK_LEN: usize = 13;
/// The longest control frame of a stream: Reset Stream.
const MAX_CONTROL_LEN: usize = 17;

impl Connection {
    /// Appends pending control frames that may be sent on `tcp`, up to `max` bytes. A backup carries none while another TCP
    /// connection works, except what makes it one.
    pub(in crate::connection) fn fill_control(&mut self, tcp: ConnectionId, max: usize, frames: &mut Outgoing) {
        if !self.control.has_frames() && !self.streams.has_control() {
            return self.fill_ping(tcp, frames); // as nearly always
        }
        let is_spared = self.tcps.get(tcp).is_some_and(|entry| self.is_spared(entry));
        // Room for a Ping, Lane and the ACKs is reserved. A frame that may not fit is not made, because making one has
        // effects.
        let max = max.saturating_sub(2 + MAX_ACKS * ACK_LEN);
        let (control, mut facts) = self.control_and_facts();
        control.fill(tcp, if is_spared { 0 } else { max }, &mut facts, frames);
        while !is_spared && frames.control.len() + MAX_CONTROL_LEN <= max {
            let Some(control) = self.streams.next_control() else { break };
            frames.carried.push(Carried::Stream(control.key()));
            self.encode(&control_frame(control), &mut frames.control);
        }
        self.fill_ping(tcp, frames);
        frames.ack_eliciting = !frames.control.is_empty();
    }

    /// Appends the Session Parameters, if they are due.
    pub(in crate::connection) fn fill_parameters(&mut self, frames: &mut Outgoing) {
        let (control, mut facts) = self.control_and_facts();
        control.fill_parameters(&mut facts, frames);
    }

    fn control_and_facts(&mut self) -> (&mut ControlFrames, Facts<'_>) {
        let facts = Facts {
            config: &self.config,
            joins: &self.joins,
            tcps: &self.tcps,
            lost: &self.lost,
            counts: &mut self.frames_sent,
        };
        (&mut self.control, facts)
    }

    pub(in crate::connection) fn fill_ping(&mut self, tcp: ConnectionId, frames: &mut Outgoing) {
        let Some(entry) = self.tcps.get_mut(tcp) else { return };
        if entry.live().take_ping() {
            let is_new_lane = entry.take_lane_notice();
            self.encode(&Frame::Ping, &mut frames.control);
            frames.ack_eliciting = true;
            if is_new_lane {
                self.encode(&Frame::Lane, &mut frames.control);
            }
        }
    }

    pub(in crate::connection) fn encode(&mut self, frame: &Frame<'_>, out: &mut Vec<u8>) {
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
