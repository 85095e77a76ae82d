//! A session with only the draft's frames (decisions D142 to D145): both endpoints have said `tcpls`, and not both
//! `tcpls_parameters`. No frame of this project is sent or accepted, and TCP's window is the only flow control: an endpoint
//! whose application does not read stops reading its sockets.

use super::Connection;
use super::carried::Carried;
use crate::error::{Alert, Violation, code};
use crate::stream::Unread;
use crate::tcp::Tcp;
use crate::time::Time;
use crate::wire::ids::{ConnectionId, ErrorCode, StreamId};

impl Connection {
    /// Returns whether the session has only the frames of the draft: the peer does not know those of this project, or does
    /// not want them.
    ///
    /// A stream that is reset is then left without an end, and one that is stopped is still sent. There is no flow control
    /// but TCP's: an application must read all streams that it has not stopped, or it receives no acknowledgments either.
    /// `docs/protocol.md`, 2, has the rest.
    pub fn is_draft_only(&self) -> bool {
        self.control.parameters().is_draft_only()
    }

    /// The handshake is complete: the session begins without Session Parameters.
    pub(super) fn begin_draft_only(&mut self) {
        self.control.leave_out_parameters();
        self.control.assume_absent_parameters();
        self.streams.make_draft_only();
    }

    /// Whether `entry` is not to be read now. Those on which no stream data comes are read in any case, since
    /// acknowledgments may come there; and if what is held waits for data before it, those that may bring that.
    pub(super) fn is_unread(&self, entry: &Tcp<Carried>) -> bool {
        if !entry.has_overfilled() || self.ending.is_closing() {
            return false;
        }
        match self.streams.unread() {
            Unread::Little => false,
            Unread::Ready => true,
            Unread::Early | Unread::TooEarly => self.tcps.iter().any(may_bring_more),
        }
    }

    /// Stream data arrived on `tcp`, at this offset.
    ///
    /// # Errors
    /// What waits for data before it is more than the session holds.
    pub(super) fn note_source(&mut self, tcp: ConnectionId, id: StreamId, offset: u64) -> Result<(), Violation> {
        let unread = self.streams.unread();
        let is_source = match unread {
            Unread::Little => return Ok(()),
            Unread::Ready => true,
            Unread::Early | Unread::TooEarly => self.streams.waits_at(id, offset),
        };
        if is_source && unread == Unread::TooEarly {
            return Err(Violation::TooManyGaps(id.0));
        }
        if let Some(entry) = self.tcps.get_mut(tcp).filter(|_| is_source) {
            entry.overfills();
        }
        Ok(())
    }

    /// Notes which TCP connections are read from now on: an acknowledgment is not overdue on one that is not.
    pub(super) fn note_reading(&mut self, now: Time) {
        if !self.is_draft_only() {
            return; // as nearly always
        }
        let holds_little = self.streams.unread() == Unread::Little;
        let paused: Vec<ConnectionId> = self.tcps.iter().filter(|e| self.is_unread(e)).map(Tcp::id).collect();
        for entry in self.tcps.iter_mut() {
            let is_paused = paused.contains(&entry.id());
            entry.note_reading(now, is_paused, holds_little);
        }
    }

    /// The alert that ends the session with this code: close_notify would say that the peer's data is still accepted.
    pub(super) fn draft_farewell(error: ErrorCode) -> Alert {
        if error == code::NO_ERROR { Alert::CloseNotify } else { Alert::InternalError }
    }
}

/// Whether data that is missing may arrive on this TCP connection.
fn may_bring_more(entry: &Tcp<Carried>) -> bool {
    let has_brought = entry.counters().stream_bytes_received > 0;
    entry.is_up() && has_brought && !entry.has_overfilled() && !entry.liveness().is_stalled()
}
