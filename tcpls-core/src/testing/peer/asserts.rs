//! Assertions about a session that ends, or a TCP connection that is lost.

use super::record::{ALERT, Record};
use super::{FIRST, Peer};
use crate::connection::State;
use crate::error::{Alert, CloseReason, TcpFault, Violation, code};
use crate::event::{Event, TcpEvent};
use crate::wire::frame::{CloseSession, Frame};
use crate::wire::ids::{ConnectionId, ErrorCode};

impl Peer {
    /// Asserts that the session lives with these TCP connections and no others.
    pub fn assert_lives(&self, tcps: &[ConnectionId]) {
        assert_eq!(self.conn.state(), State::Established);
        assert_eq!(self.conn.tcp_connections().collect::<Vec<_>>(), tcps);
    }

    /// Asserts that the session has ended because the peer violated `rule`, and has reported so on each of `tcps`.
    pub fn assert_failed_on(&mut self, rule: Violation, tcps: &[ConnectionId]) {
        assert_eq!(self.conn.close_reason(), Some(&CloseReason::Violation(rule)));
        assert_eq!(self.conn.state(), State::Closed);
        assert_eq!(self.conn.poll_timeout(), None, "nothing is left to wait for");
        assert_eq!(self.conn.tcp_connections().count(), 0);
        self.hear_events();
        assert_eq!(self.events.last(), Some(&Event::Closed { reason: CloseReason::Violation(rule) }));
        for tcp in tcps {
            assert!(self.events.contains(&Event::Tcp(TcpEvent::Discarded { tcp: *tcp })));
            let records = self.recv(*tcp);
            assert_farewell(&records, rule);
            assert_eq!(self.recv(*tcp), [], "and nothing after that");
        }
    }

    /// Asserts the same where only the first TCP connection lives.
    pub fn assert_failed(&mut self, rule: Violation) {
        self.assert_failed_on(rule, &[FIRST]);
    }

    /// Asserts that `tcp` is lost with this fault, and that the last record on it is this alert, encrypted.
    pub fn assert_lost(&mut self, tcp: ConnectionId, fault: TcpFault, alert: Option<Alert>) {
        assert_eq!(self.tcp_events(), [TcpEvent::Lost { tcp, fault }, TcpEvent::Discarded { tcp }]);
        assert!(!self.conn.tcp_connections().any(|live| live == tcp));
        let last = self.recv(tcp).pop().filter(|record| record.content_type == ALERT);
        assert_eq!(last.as_ref().and_then(Record::alert), alert.map(|alert| alert as u8));
        assert!(last.is_none_or(|record| record.number.is_some()), "the alert is in clear");
    }
}

/// Asserts that the last records are Close Session and a fatal alert.
fn assert_farewell(records: &[Record], rule: Violation) {
    let [.., close, alert] = records else { panic!("no farewell in {records:?}") };
    let (error, description) = answer_to(rule);
    let text = rule.to_string();
    let expected = Frame::CloseSession(CloseSession { error, reason: text.as_bytes() });
    assert_eq!(close.frames().first(), Some(&expected));
    assert_eq!((alert.content_type, &alert.content[..]), (ALERT, &[2, description as u8][..]));
}

/// The code of Close Session and the alert for each violation.
fn answer_to(rule: Violation) -> (ErrorCode, Alert) {
    use Violation as Rule;
    match rule {
        Rule::UnknownFrame(_) | Rule::TruncatedFrame(_) => (code::FRAME_ENCODING, Alert::DecodeError),
        Rule::InvalidField(_) => (code::FRAME_ENCODING, Alert::IllegalParameter),
        Rule::EmptyRecord => (code::FRAME_ENCODING, Alert::UnexpectedMessage),
        Rule::ConflictingToken(_) | Rule::Parameters | Rule::Drain | Rule::OptionRequest(_) => {
            (code::PROTOCOL_VIOLATION, Alert::IllegalParameter)
        }
        Rule::RecordOverflow => (code::PROTOCOL_VIOLATION, Alert::RecordOverflow),
        Rule::HandshakeMessage => (code::PROTOCOL_VIOLATION, Alert::DecodeError),
        Rule::FlowControl | Rule::TooManyStreams(_) => (code::FLOW_CONTROL, Alert::UnexpectedMessage),
        Rule::FinalSize(_) => (code::FINAL_SIZE, Alert::UnexpectedMessage),
        Rule::StreamOfWrongSide(_) => (code::STREAM_STATE, Alert::UnexpectedMessage),
        Rule::IntegrityLimit => (code::AEAD_LIMIT, Alert::BadRecordMac),
        Rule::EnhanceYourCalm
        | Rule::TooManyGaps(_)
        | Rule::TooManyTokens
        | Rule::TooManyAddresses
        | Rule::TooManyKeyUpdates => (code::ENHANCE_YOUR_CALM, Alert::UnexpectedMessage),
        _ => (code::PROTOCOL_VIOLATION, Alert::UnexpectedMessage),
    }
}
