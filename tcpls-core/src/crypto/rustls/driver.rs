//! Runs a handshake of rustls's unbuffered API, one TLS record at a time, until its secrets can be extracted.
//!
//! The code is the same for client and server; [`Tls`] has the differences. rustls never gets a byte beyond the
//! handshake: the decrypted data would be lost, and its sequence numbers would be wrong.

mod early;

use std::collections::VecDeque;

use rustls::unbuffered::{
    ConnectionState, EncodeError, EncodeTlsData, EncryptError, InsufficientSizeError, ReadEarlyData, TransmitTlsData,
    UnbufferedStatus, WriteTraffic,
};
use rustls::{CommonState, Error, HandshakeKind, InvalidMessage, ProtocolVersion};

use self::early::Early;
use super::errors::failure;
use super::secrets::Extracted;
use crate::crypto::alpn::is_tcpls;
use crate::crypto::{Agreed, Handshake, Offer, TAG_LEN, plaintext_alert};
use crate::error::{Alert, AlertDescription, HandshakeError, HandshakeErrorKind as Kind};
use crate::wire::record::HEADER_LEN;

/// Bytes that a peer's side of the handshake may have, record headers included. rustls takes handshake messages of at
/// most 64 KiB; only large certificate chains come near.
const MAX_RECEIVED: usize = 128 << 10;
/// Bytes of a flight with this endpoint's certificates, record headers included. The peer's rustls takes a Certificate message of
/// at most 64 KiB; within a flight of that length it is shorter.
const MAX_FLIGHT: usize = 64 << 10;
/// The most that one record's plaintext may have (RFC 8446, 5.1).
const MAX_PLAINTEXT: usize = 1 << 14;
/// Header, content type and tag.
const RECORD_OVERHEAD: usize = HEADER_LEN + 1 + TAG_LEN;

/// One side of a rustls connection.
pub(super) trait Tls: Send {
    /// Whether this is rustls's client or server.
    type Data;
    /// The same as a value.
    const IS_SERVER: bool;
    /// The step function of rustls's unbuffered API.
    fn process<'c, 'i>(&'c mut self, incoming: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data>;
    /// The common part of both types.
    fn common(&self) -> &CommonState;
    /// The server name that the client asked for.
    fn server_name(&self) -> Option<String>;
    /// The client's offer.
    fn offer(&self) -> Offer {
        Offer::Anything
    }
    /// Client: what was kept with the ticket, if early data may be sent.
    fn early_state(&self) -> Option<&[u8]> {
        None
    }
    /// Client: whether the ClientHello offers early data.
    fn offers_early_data(_: TransmitTlsData<'_, Self::Data>) -> bool {
        false
    }
    /// Client: forgets what was kept with the ticket.
    fn withdraw_early(&mut self) {}
    /// Client: seals early data; `None` if that is not possible.
    fn encrypt_early(_: TransmitTlsData<'_, Self::Data>, _plaintext: &[u8], _out: &mut [u8]) -> Option<usize> {
        None
    }
    /// Server: moves received early data to `into`.
    fn read_early(_: ReadEarlyData<'_, '_, Self::Data>, _into: &mut VecDeque<Vec<u8>>) {}
    /// Server: sets what tickets are issued under.
    fn set_early_terms(&mut self, _terms: &[u8]) {}
    /// Whether joins of the session are resumptions.
    fn resumes_joins(&self) -> bool {
        false
    }
    /// Takes the secrets out.
    fn extract(self) -> Result<Extracted, HandshakeError>;
}

/// A handshake in progress.
pub(super) struct Driver<T> {
    tls: T,
    phase: Phase,
    /// Received and not yet discarded by rustls, which reassembles handshake messages in place.
    incoming: Vec<u8>,
    /// Bytes received in total.
    received: usize,
    /// To be sent.
    outgoing: Vec<u8>,
    early: Early,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Client: early data may be sealed behind the ClientHello.
    Early,
    /// Needs the peer's next record.
    Blocked,
    /// May send application data. On a server with half-RTT data that is not the end of the handshake.
    Writable,
    Failed,
}

/// The result of one step of rustls.
enum Step {
    Again,
    Stop(Phase),
}

impl<T: Tls> Driver<T> {
    /// Takes the first steps, which on a client produce the ClientHello.
    pub(super) fn start(tls: T) -> Result<Self, HandshakeError> {
        let (incoming, outgoing) = (Vec::new(), Vec::new());
        let is_offered = tls.early_state().is_some();
        let phase = if is_offered { Phase::Early } else { Phase::Blocked };
        let early = Early::new(is_offered);
        let mut driver = Self { tls, phase, incoming, received: 0, outgoing, early };
        driver.run()?;
        driver.check_offer()?;
        Ok(driver)
    }

    /// Steps until rustls wants more input, or none.
    fn run(&mut self) -> Result<(), HandshakeError> {
        loop {
            if let Step::Stop(phase) = self.step()? {
                self.phase = phase;
                return self.check_version().and_then(|()| self.check_flight());
            }
        }
    }

    fn step(&mut self) -> Result<Step, HandshakeError> {
        let status = self.tls.process(&mut self.incoming);
        let discard = status.discard;
        let step = handle_state::<T>(status.state, self.phase, &mut self.outgoing, &mut self.early);
        self.incoming.drain(..discard.min(self.incoming.len()));
        step
    }

    /// rustls cannot be configured to offer TLS 1.3 alone where the user's configuration allows 1.2.
    fn check_version(&mut self) -> Result<(), HandshakeError> {
        if self.tls.common().protocol_version() != Some(ProtocolVersion::TLSv1_2) {
            return Ok(());
        }
        // Nothing of a TLS 1.2 handshake has gone out yet but a ClientHello, so there are no keys in use.
        self.outgoing.clear();
        self.outgoing.extend_from_slice(&plaintext_alert(Alert::ProtocolVersion));
        Err(failure(Kind::Incompatible, "the peer speaks TLS 1.2 only"))
    }

    /// The peer's rustls would refuse a certificate chain that is too long, and close without a word about it.
    fn check_flight(&mut self) -> Result<(), HandshakeError> {
        if self.outgoing.len() <= MAX_FLIGHT || self.tcpls() != Some(true) {
            return Ok(());
        }
        // Nothing of the flight has gone out, so the peer takes an alert in plaintext.
        self.outgoing.clear();
        self.outgoing.extend_from_slice(&plaintext_alert(Alert::InternalError));
        Err(failure(Kind::Configuration, "this endpoint's certificate chain exceeds the 64 KiB that the peer accepts"))
    }

    /// Ends the handshake and lets rustls encode the alert that it has queued.
    fn fail(&mut self, failed: HandshakeError) -> HandshakeError {
        self.phase = Phase::Failed;
        while self.tls.common().wants_write() {
            // With something to write, rustls does not look at its input. Each step takes one chunk out of its queue.
            if !matches!(self.step(), Ok(Step::Again)) {
                break;
            }
        }
        if !matches!(failed.kind(), Kind::PeerAlert(_) | Kind::PeerClosed) {
            self.queue_missing_alert();
        }
        failed
    }

    /// For messages out of place rustls has no alert. Once the version is known, keys are in use, and none can be made
    /// here.
    fn queue_missing_alert(&mut self) {
        if self.outgoing.is_empty() && self.tls.common().protocol_version().is_none() {
            self.outgoing.extend_from_slice(&plaintext_alert(Alert::UnexpectedMessage));
        }
    }

    fn take_record(&mut self, record: &[u8]) -> Result<(), HandshakeError> {
        self.received = self.received.saturating_add(record.len());
        if self.received > MAX_RECEIVED {
            return Err(failure(Kind::Violation, "the peer's handshake is longer than 128 KiB"));
        }
        if self.phase == Phase::Early {
            self.phase = Phase::Blocked;
            self.run()?; // nothing is sealed behind the ClientHello any more
        }
        self.incoming.extend_from_slice(record);
        self.look_at_hello(record);
        self.run()?;
        self.drop_skipped(record);
        Ok(())
    }

    fn may_write_half_rtt(&self) -> bool {
        self.phase == Phase::Writable && self.tls.common().is_handshaking() && self.tcpls() == Some(true)
    }

    /// Half-RTT data, by rustls's own keys and sequence numbers.
    fn seal(&mut self, plaintext: &[u8], out: &mut Vec<u8>) -> bool {
        match self.tls.process(&mut self.incoming).state {
            Ok(ConnectionState::WriteTraffic(traffic)) => encrypt(traffic, plaintext, out),
            _ => false,
        }
    }
}

impl<T: Tls> Handshake for Driver<T> {
    fn handle_record(&mut self, record: &mut [u8]) -> Result<(), HandshakeError> {
        if self.phase == Phase::Failed {
            return Err(failure(Kind::Other, "the handshake has failed"));
        }
        if self.is_complete() {
            return Err(failure(Kind::Other, "the handshake is over"));
        }
        self.take_record(record).map_err(|failed| self.fail(failed))
    }

    fn write(&mut self, out: &mut Vec<u8>) {
        out.append(&mut self.outgoing);
    }

    fn write_half_rtt(&mut self, plaintext: &[u8], out: &mut Vec<u8>) -> bool {
        if plaintext.is_empty() || plaintext.len() > MAX_PLAINTEXT || !self.may_write_half_rtt() {
            return false;
        }
        // The flight with the ServerHello goes first.
        self.write(out);
        self.seal(plaintext, out)
    }

    fn early_state(&self) -> Option<&[u8]> {
        self.tls.early_state()
    }

    fn write_early(&mut self, plaintext: &[u8], out: &mut Vec<u8>) -> bool {
        if self.phase != Phase::Early || plaintext.is_empty() || plaintext.len() > self.early.left() {
            return false;
        }
        self.write(out);
        self.seal_early(plaintext, out)
    }

    fn read_early(&mut self) -> Option<Vec<u8>> {
        self.early.take_received()
    }

    fn set_early_terms(&mut self, terms: &[u8]) {
        self.tls.set_early_terms(terms);
    }

    fn is_complete(&self) -> bool {
        // `is_handshaking` ends when the peer's Finished was processed, `Writable` says that all steps that follow from
        // it were taken.
        self.phase == Phase::Writable && !self.tls.common().is_handshaking()
    }

    fn tcpls(&self) -> Option<bool> {
        let common = self.tls.common();
        // On both sides this is known when ALPN is; a HelloRetryRequest hides it until the end.
        let settled = matches!(common.handshake_kind(), Some(HandshakeKind::Full | HandshakeKind::Resumed));
        match common.alpn_protocol() {
            Some(name) => Some(is_tcpls(name)),
            None => (settled || !common.is_handshaking()).then_some(false),
        }
    }

    fn alpn(&self) -> Option<&[u8]> {
        self.tls.common().alpn_protocol()
    }

    fn is_resumed(&self) -> bool {
        self.tls.common().handshake_kind() == Some(HandshakeKind::Resumed)
    }

    fn resumes_joins(&self) -> bool {
        self.tls.resumes_joins()
    }

    fn memory(&self) -> usize {
        self.incoming.capacity() + self.outgoing.capacity() + self.early.memory()
    }

    fn finish(self: Box<Self>) -> Result<Agreed, HandshakeError> {
        if !self.is_complete() {
            return Err(failure(Kind::Other, "the handshake is not over"));
        }
        if !self.outgoing.is_empty() || !self.incoming.is_empty() {
            return Err(failure(Kind::Violation, "bytes of the handshake are left over"));
        }
        Ok(Agreed { early_data: self.early.outcome(), ..agreed(self.tls)? })
    }
}

// draft E08
fn agreed<T: Tls>(tls: T) -> Result<Agreed, HandshakeError> {
    let common = tls.common();
    let alpn = common.alpn_protocol().map(<[u8]>::to_vec);
    let certificates = common.peer_certificates().unwrap_or_default();
    let peer_certificates = certificates.iter().map(|certificate| certificate.to_vec()).collect();
    let (server_name, offer) = (tls.server_name(), tls.offer());
    let Extracted { suite, seal, open, schedule } = tls.extract()?;
    let mut agreed = Agreed::new(suite.code(), seal, open, schedule).with_alpn(alpn.as_deref());
    (agreed.server_name, agreed.offer, agreed.peer_certificates) = (server_name, offer, peer_certificates);
    Ok(agreed)
}

fn handle_state<T: Tls>(
    state: Result<ConnectionState<'_, '_, T::Data>, Error>,
    phase: Phase,
    out: &mut Vec<u8>,
    early: &mut Early,
) -> Result<Step, HandshakeError> {
    match state {
        Err(error) => Err(failed(error)),
        Ok(ConnectionState::EncodeTlsData(data)) => {
            let start = out.len();
            encode(data, out)?;
            if !T::IS_SERVER {
                early.note_sent(&out[start..]);
            }
            Ok(Step::Again)
        }
        Ok(ConnectionState::ReadEarlyData(data)) => {
            T::read_early(data, early.accepted());
            Ok(Step::Again)
        }
        Ok(ConnectionState::TransmitTlsData(_)) if phase == Phase::Early => Ok(Step::Stop(Phase::Early)),
        Ok(ConnectionState::TransmitTlsData(data)) => {
            data.done();
            Ok(Step::Again)
        }
        Ok(ConnectionState::BlockedHandshake) => Ok(Step::Stop(Phase::Blocked)),
        Ok(ConnectionState::WriteTraffic(_)) => Ok(Step::Stop(Phase::Writable)),
        Ok(ConnectionState::PeerClosed | ConnectionState::Closed) => {
            Err(HandshakeError::refused(AlertDescription(Alert::CloseNotify as u8)))
        }
        Ok(_) => Err(failure(Kind::Violation, "the peer sent application data during the handshake")),
    }
}

/// The first attempt, into no room at all, returns how much is needed.
fn encode<Data>(mut data: EncodeTlsData<'_, Data>, out: &mut Vec<u8>) -> Result<(), HandshakeError> {
    let Err(EncodeError::InsufficientSize(InsufficientSizeError { required_size })) = data.encode(&mut []) else {
        return Ok(());
    };
    let start = out.len();
    out.resize(start + required_size, 0);
    data.encode(&mut out[start..]).map(|_| ()).map_err(|error| failure(Kind::Other, &error.to_string()))
}

fn encrypt<Data>(mut traffic: WriteTraffic<'_, Data>, plaintext: &[u8], out: &mut Vec<u8>) -> bool {
    let start = out.len();
    out.resize(start + plaintext.len() + RECORD_OVERHEAD, 0);
    let sealed: Result<usize, EncryptError> = traffic.encrypt(plaintext, &mut out[start..]);
    out.truncate(start + sealed.as_ref().copied().unwrap_or_default());
    sealed.is_ok()
}

fn failed(error: Error) -> HandshakeError {
    match error {
        Error::InvalidMessage(InvalidMessage::HandshakePayloadTooLarge | InvalidMessage::MessageTooLarge) => failure(
            Kind::Violation,
            "a message of the peer's has more than 64 KiB, as a long certificate chain makes it",
        ),
        error => error.into(),
    }
}
