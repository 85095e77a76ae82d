//! Options of the peer's TCP stack: requests, and the answers of both endpoints (`docs/protocol.md`, TCP Option Request).
//!
//! The core has no sockets: it passes requests to the application as events, and the application's answers back.

use super::Connection;
use super::record::{Item, Returned, Text};
use crate::error::{AskOptionError, TcpError, Violation};
use crate::event::{Event, OptionOutcome};
use crate::wire::frame;
use crate::wire::ids::{ConnectionId, OptionRequestId};

/// The longest value of an option in a request, in bytes.
const MAX_VALUE: usize = 64;

impl Connection {
    /// Sends a TCP option inside the encrypted session, without an answer: the peer's application gets an event and may
    /// apply it. At most 64 bytes of `value` are sent. A session sends at most 256 options and ignores further calls.
    ///
    /// # Errors
    /// See [`TcpError`]; never [`TcpError::Unknown`] or [`TcpError::Last`].
    pub fn send_tcp_option(&mut self, kind: u8, value: &[u8]) -> Result<(), TcpError> {
        self.trace.call(|privacy| Item::SendTcpOption { kind, value: Text::new(privacy.is_full(), value) });
        let outcome = self.send_option(kind, value);
        self.trace.returned(|| Returned::of_result(&outcome, |()| 0));
        outcome
    }

    fn send_option(&mut self, kind: u8, value: &[u8]) -> Result<(), TcpError> {
        if !self.is_open() {
            return Err(TcpError::Closed);
        }
        if self.plain {
            return Err(TcpError::Plain);
        }
        if self.is_draft_only() {
            return Err(TcpError::DraftOnly);
        }
        self.control.send_option(kind, value);
        Ok(())
    }

    /// Asks the peer to set an option of TCP connection `tcp` at its end. [`Event::TcpOptionAnswered`] has its answer,
    /// which comes once, unless the session ends before.
    ///
    /// `docs/protocol.md` has the kinds of options and the form of their values, of at most 64 bytes.
    ///
    /// # Errors
    /// See [`AskOptionError`].
    pub fn ask_tcp_option(
        &mut self,
        tcp: ConnectionId,
        kind: u8,
        value: &[u8],
    ) -> Result<OptionRequestId, AskOptionError> {
        self.trace.call(|privacy| Item::AskTcpOption { tcp, kind, value: Text::new(privacy.is_full(), value) });
        let outcome = self.ask_option(tcp, kind, value);
        self.trace.returned(|| Returned::of_result(&outcome, |id| id.0.into()));
        outcome
    }

    fn ask_option(&mut self, tcp: ConnectionId, kind: u8, value: &[u8]) -> Result<OptionRequestId, AskOptionError> {
        match self.check_tcp(tcp) {
            Ok(()) if !self.takes_option_requests() => Err(AskOptionError::NotSupported),
            Ok(()) if value.len() > MAX_VALUE => Err(AskOptionError::TooLong),
            Ok(()) => self.control.ask_option(tcp, kind, value),
            Err(TcpError::Closed) => Err(AskOptionError::Closed),
            Err(TcpError::Unknown) => Err(AskOptionError::Unknown),
            Err(_) => Err(AskOptionError::NotSupported),
        }
    }

    /// Whether the peer takes requests for TCP options. False before its Session Parameters have arrived.
    pub fn takes_option_requests(&self) -> bool {
        self.control.parameters().peer_answers_option_requests()
    }

    /// Answers a request of the peer's, from [`Event::TcpOption`]. A second answer has no effect. As long as one
    /// request has no answer, the peer can send at most 15 behind it.
    pub fn answer_tcp_option(&mut self, request: OptionRequestId, outcome: OptionOutcome) {
        self.trace.call(|_| Item::AnswerTcpOption { request: request.0, outcome: outcome.code() });
        if self.is_open() {
            self.control.answer_option(request, outcome);
        }
    }

    /// Returns how many requests of the peer's for TCP options wait for [`Connection::answer_tcp_option`]: at most 16.
    pub fn open_option_requests(&self) -> usize {
        self.control.open_option_requests()
    }

    pub(super) fn handle_tcp_option(&mut self, tcp: ConnectionId, option: frame::TcpOption<'_>) {
        if option.value.len() > MAX_VALUE {
            return; // refused (D201), and the peer expects no answer
        }
        let (kind, value) = (option.kind, option.value.to_vec());
        self.events.push_back(Event::TcpOption { tcp, kind, value, request: None });
    }

    /// A request about a TCP connection that this endpoint has lost, or with a value that is too long, is answered here.
    pub(super) fn handle_option_request(&mut self, asked: frame::TcpOptionRequest<'_>) -> Result<(), Violation> {
        let frame::TcpOptionRequest { id, tcp, kind, value } = asked;
        if !self.joins.was_known(tcp) {
            return Err(Violation::UnknownTcp(tcp.0));
        }
        if !self.control.handle_option_request(id)? {
            return Ok(());
        }
        if !self.tcps.contains(tcp) {
            self.control.answer_option(id, OptionOutcome::Lost);
        } else if value.len() > MAX_VALUE {
            self.control.answer_option(id, OptionOutcome::Refused);
        } else {
            self.events.push_back(Event::TcpOption { tcp, kind, value: value.to_vec(), request: Some(id) });
        }
        Ok(())
    }

    pub(super) fn handle_option_answer(&mut self, answer: frame::TcpOptionAnswer) -> Result<(), Violation> {
        let frame::TcpOptionAnswer { id, outcome } = answer;
        if let Some((tcp, kind)) = self.control.handle_option_answer(id)? {
            let outcome = OptionOutcome::from_code(outcome);
            self.events.push_back(Event::TcpOptionAnswered { request: id, tcp, kind, outcome });
        }
        Ok(())
    }
}
