//! Runs a handshake of OpenSSL's over memory, one TLS record at a time, until its secrets are known.
//!
//! The code is the same for client and server. OpenSSL never gets a byte beyond the handshake.

mod early;

use std::sync::{Arc, PoisonError};

use openssl::ssl::{Error, ErrorCode, ShutdownState, Ssl, SslRef, SslStream, SslVerifyMode};

use super::early::Early;
use super::errors::{failed, failure, library};
use super::extensions::{Agreement, Policy};
use super::flight::{EarlyToken, ServerFlight};
use super::gate::Gate;
use super::pipe::Pipe;
use super::records::OwnRecords;
use super::resumption::{Resumption, TicketReader, TicketSink};
use super::schedule::Schedule;
use super::{Notes, notes_index};
use crate::crypto::aead::Suite;
use crate::crypto::alpn::is_tcpls;
use crate::crypto::{Agreed, Handshake, Offer, plaintext_alert};
use crate::error::{Alert, HandshakeError, HandshakeErrorKind as Kind};
use crate::wire::ids::Side;
use crate::wire::record::{ContentType, MAX_PLAINTEXT};

/// Bytes that a peer's side of the handshake may have, record headers included.
const MAX_RECEIVED: usize = 128 << 10;
/// Bytes of a flight with this endpoint's certificates, record headers included (decision D111).
const MAX_FLIGHT: usize = 64 << 10;

/// ChangeCipherSpec records that a peer may send (RFC 8446, D.4). OpenSSL ignores any number of them.
const MAX_CHANGE_CIPHER_SPECS: usize = 2;

/// A handshake in progress.
pub(super) struct Driver {
    side: Side,
    offer: Offer,
    /// Client: the name that its ClientHello shows.
    shown_name: Option<String>,
    tls: SslStream<Pipe>,
    notes: Arc<Notes>,
    phase: Phase,
    /// A client that negotiates by extensions reads the server's for itself.
    flight: Option<ServerFlight>,
    /// Bytes received in total.
    received: usize,
    change_cipher_specs: usize,
    /// To be sent.
    outgoing: Vec<u8>,
    /// From the moment at which this endpoint's application keys exist.
    own: Option<OwnRecords>,
    early: Early,
    /// Server: whether OpenSSL is asked for early data.
    reads_early: bool,
    /// Server: what decides on tickets. The ClientHello gets to OpenSSL when all of it is there.
    gate: Option<Gate>,
    hello_is_over: bool,
    /// Client: where tickets go.
    sink: Option<TicketSink>,
    /// Client: the certificates of the session that is offered.
    offered_chain: Vec<Vec<u8>>,
    /// Client: until when that session works.
    offered_expiry: Option<u64>,
}

/// What distinguishes one handshake of a client from another.
#[derive(Default)]
pub(super) struct ClientSide {
    pub(super) offer: Offer,
    pub(super) policy: Policy,
    /// The name that its ClientHello shows.
    pub(super) shown_name: Option<String>,
    pub(super) resumption: Option<Resumption>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Handshaking,
    Complete,
    Failed,
}

impl Driver {
    /// Starts a client's handshake, which gives its ClientHello.
    pub(super) fn client(mut tls: Ssl, side: ClientSide) -> Result<Self, HandshakeError> {
        tls.set_connect_state();
        let ClientSide { offer, policy, shown_name, resumption } = side;
        let mut driver = Self { offer, shown_name, ..Self::new(tls, Side::Client, policy)? };
        let mut early_state = None;
        if let Some(resumption) = resumption {
            early_state = resumption.early_state;
            (driver.sink, driver.offered_chain) = (Some(resumption.sink), resumption.chain);
            driver.offered_expiry = resumption.expiry;
        }
        driver.flight = (policy != Policy::Absent || early_state.is_some()).then(ServerFlight::default);
        match early_state {
            Some(state) => driver.begin_early(state)?,
            None => driver.step()?,
        }
        Ok(driver)
    }

    /// Starts a server's handshake; `gate` decides on early data, and without one there is none.
    pub(super) fn server(mut tls: Ssl, policy: Policy, gate: Option<Gate>) -> Result<Self, HandshakeError> {
        tls.set_accept_state();
        Ok(Self { gate, ..Self::new(tls, Side::Server, policy)? })
    }

    fn new(mut tls: Ssl, side: Side, policy: Policy) -> Result<Self, HandshakeError> {
        let notes = Arc::new(Notes { agreement: Agreement::new(policy), ..Notes::default() });
        tls.set_ex_data(notes_index().map_err(library)?, notes.clone());
        let tls = SslStream::new(tls, Pipe::new(side, notes.clone())).map_err(library)?;
        Ok(Self {
            side,
            offer: Offer::Anything,
            shown_name: None,
            tls,
            notes,
            phase: Phase::Handshaking,
            flight: None,
            received: 0,
            change_cipher_specs: 0,
            outgoing: Vec::new(),
            own: None,
            early: Early::default(),
            reads_early: false,
            gate: None,
            hello_is_over: false,
            sink: None,
            offered_chain: Vec::new(),
            offered_expiry: None,
        })
    }

    /// Lets OpenSSL go on until it needs the peer's next record.
    fn step(&mut self) -> Result<(), HandshakeError> {
        let outcome = match self.advance() {
            Ok(()) => {
                self.phase = Phase::Complete;
                if self.side == Side::Server {
                    // OpenSSL takes a session out of its cache again if it is freed before it is closed.
                    self.tls.set_shutdown(ShutdownState::SENT | ShutdownState::RECEIVED);
                }
                Ok(())
            }
            Err(error) if error.code() == ErrorCode::WANT_READ => Ok(()),
            Err(error) if self.notes.agreement.is_too_little(self.side) => {
                let message = "the server has TCPLS by the draft alone, without the frames that this client needs";
                Err(failure(Kind::Incompatible, message).with_source(error))
            }
            Err(error) => Err(self.failed(error)),
        };
        // An alert of OpenSSL's is part of what it wrote.
        let collected = self.collect();
        outcome.and(collected)
    }

    fn failed(&self, error: Error) -> HandshakeError {
        let refusal = self.notes.refusal.lock().unwrap_or_else(PoisonError::into_inner).take();
        failed(error, self.tls.ssl().verify_result(), refusal)
    }

    fn advance(&mut self) -> Result<(), Error> {
        if self.reads_early {
            self.read_early_data()?;
        }
        self.tls.do_handshake()
    }

    /// Takes what OpenSSL wrote: its flight as it is, what it wrote behind it under numbers of this endpoint's.
    fn collect(&mut self) -> Result<(), HandshakeError> {
        let flight = self.tls.get_mut().take_flight();
        if flight.len() > MAX_FLIGHT && self.is_agreed() {
            // The peer would refuse a certificate chain that is too long, without saying why.
            self.outgoing.extend_from_slice(&plaintext_alert(Alert::InternalError));
            let message = "this endpoint's certificate chain exceeds the 64 KiB that the peer accepts";
            return Err(failure(Kind::Configuration, message));
        }
        if self.own.is_none() {
            match self.make_own() {
                Ok(own) => self.own = own,
                Err(error) => {
                    self.outgoing.extend_from_slice(&plaintext_alert(Alert::HandshakeFailure));
                    return Err(error);
                }
            }
        }
        self.outgoing.extend_from_slice(&flight);
        let late = self.tls.get_mut().take_late();
        match &mut self.own {
            Some(own) => {
                let note = |ticket: &[u8]| self.gate.iter().for_each(|gate| gate.note(ticket, &self.notes));
                own.seal_again(late, &mut self.outgoing, note)
            }
            None => Ok(()), // nothing is late before there are keys
        }
    }

    fn make_own(&self) -> Result<Option<OwnRecords>, HandshakeError> {
        let Some(secret) = self.notes.log.secret_of(self.side) else { return Ok(None) };
        OwnRecords::new(secret, self.suite()?).map(Some)
    }

    fn suite(&self) -> Result<Suite, HandshakeError> {
        let code = self.tls.ssl().current_cipher().map(|cipher| u16::from_be_bytes(cipher.protocol_id()));
        code.and_then(Suite::from_code).ok_or_else(|| failure(Kind::Incompatible, "the cipher suite is not supported"))
    }

    /// Whether what the server has answered so far means TCPLS.
    fn is_agreed(&self) -> bool {
        self.is_agreed_by_alpn() || self.notes.agreement.is_reached(self.side)
    }

    fn is_agreed_by_alpn(&self) -> bool {
        self.tls.ssl().selected_alpn_protocol().is_some_and(is_tcpls)
    }

    fn take_record(&mut self, record: &[u8]) -> Result<(), HandshakeError> {
        self.received = self.received.saturating_add(record.len());
        if self.received > MAX_RECEIVED {
            return Err(self.refuse(Alert::UnexpectedMessage, "the peer's handshake is longer than 128 KiB"));
        }
        if record.first() == Some(&(ContentType::ChangeCipherSpec as u8)) {
            self.change_cipher_specs += 1;
            if self.change_cipher_specs > MAX_CHANGE_CIPHER_SPECS {
                let message = "the peer sent more than two ChangeCipherSpec records";
                return Err(self.refuse(Alert::UnexpectedMessage, message));
            }
        }
        if let (Some(secret), Some(flight)) = (self.notes.log.server_handshake_secret(), &mut self.flight) {
            let code = self.tls.ssl().current_cipher().map(|cipher| u16::from_be_bytes(cipher.protocol_id()));
            flight.take_record(record, secret, code.and_then(Suite::from_code));
        }
        if !self.let_through(record) {
            return Ok(()); // more of the ClientHello has to arrive
        }
        self.step()?;
        self.note_acceptance();
        if self.phase == Phase::Complete && self.early_token() == Some(EarlyToken::Malformed) {
            return Err(self.refuse(Alert::DecodeError, "the server's tcpls_token has a length other than 32 bytes"));
        }
        Ok(())
    }

    /// Client: the token in the server's EncryptedExtensions, if it agreed to TCPLS there. To be trusted once the handshake is
    /// complete.
    fn early_token(&self) -> Option<EarlyToken> {
        let has_agreed = self.notes.agreement.is_reached(self.side);
        self.flight.as_ref().filter(|_| has_agreed)?.token()
    }

    /// Ends the handshake for a limit of this endpoint, with an alert where this endpoint can make one: under its application keys,
    /// or where no keys are in use.
    fn refuse(&mut self, alert: Alert, message: &str) -> HandshakeError {
        if let Some(own) = &mut self.own {
            own.seal(ContentType::Alert as u8, &[2, alert as u8], &mut self.outgoing);
        } else if self.tls.ssl().current_cipher().is_none() {
            self.outgoing.extend_from_slice(&plaintext_alert(alert));
        }
        failure(Kind::Violation, message)
    }

    /// A client that is asked for a certificate gets nothing before it has presented one.
    fn may_write_half_rtt(&self) -> bool {
        self.side == Side::Server
            && self.phase == Phase::Handshaking
            && self.tcpls() == Some(true)
            && !self.tls.ssl().verify_mode().contains(SslVerifyMode::PEER)
    }
}

impl Handshake for Driver {
    fn handle_record(&mut self, record: &mut [u8]) -> Result<(), HandshakeError> {
        match self.phase {
            Phase::Handshaking => {}
            Phase::Complete => return Err(failure(Kind::Other, "the handshake is over")),
            Phase::Failed => return Err(failure(Kind::Other, "the handshake has failed")),
        }
        self.take_record(record).inspect_err(|_| self.phase = Phase::Failed)
    }

    fn write(&mut self, out: &mut Vec<u8>) {
        out.append(&mut self.outgoing);
    }

    fn write_half_rtt(&mut self, plaintext: &[u8], out: &mut Vec<u8>) -> bool {
        if plaintext.is_empty() || plaintext.len() > MAX_PLAINTEXT || !self.may_write_half_rtt() {
            return false;
        }
        let Some(own) = &mut self.own else { return false };
        out.append(&mut self.outgoing);
        own.seal(ContentType::ApplicationData as u8, plaintext, out);
        true
    }

    fn early_state(&self) -> Option<&[u8]> {
        self.early.state.as_deref()
    }

    fn write_early(&mut self, plaintext: &[u8], out: &mut Vec<u8>) -> bool {
        self.seal_early(plaintext, out)
    }

    fn read_early(&mut self) -> Option<Vec<u8>> {
        self.early.received.pop_front()
    }

    fn set_early_terms(&mut self, terms: &[u8]) {
        self.gate.iter_mut().for_each(|gate| gate.set_terms(terms));
    }

    fn is_complete(&self) -> bool {
        self.phase == Phase::Complete
    }

    fn tcpls(&self) -> Option<bool> {
        // EncryptedExtensions decide, which a server has made, and a client has read, once this endpoint has keys.
        self.notes.log.secret_of(self.side).map(|_| self.is_agreed())
    }

    fn alpn(&self) -> Option<&[u8]> {
        self.tls.ssl().selected_alpn_protocol()
    }

    fn is_resumed(&self) -> bool {
        self.tls.ssl().session_reused()
    }

    fn is_draft_only(&self) -> bool {
        // Where ALPN has agreed on TCPLS, the peer has everything.
        self.notes.agreement.is_draft_only(self.side) && !self.is_agreed_by_alpn()
    }

    fn memory(&self) -> usize {
        // OpenSSL copies what it reads; it has at most all of it.
        let gate = self.gate.as_ref().map_or(0, Gate::memory);
        self.tls.get_ref().memory() + self.outgoing.capacity() + self.received + self.early.memory() + gate
    }

    fn finish(self: Box<Self>) -> Result<Agreed, HandshakeError> {
        if self.phase != Phase::Complete {
            return Err(failure(Kind::Other, "the handshake is not over"));
        }
        if !self.outgoing.is_empty() || !self.tls.get_ref().is_drained() {
            return Err(failure(Kind::Violation, "bytes of the handshake are left over"));
        }
        let suite = self.suite()?;
        let missing = || failure(Kind::Other, "OpenSSL logged no secret");
        let secret = |side| self.notes.log.secret_of(side).cloned().ok_or_else(missing);
        let (own, peers) = (secret(self.side)?, secret(self.side.peer())?);
        let open = (0, peers.open_keys(suite)?);
        let (is_agreed, draft_only, early_token) = (self.is_agreed(), self.is_draft_only(), self.early_token());
        let Self { side, offer, shown_name, tls, own: records, early, sink, offered_chain, offered_expiry, .. } = *self;
        let alpn = tls.ssl().selected_alpn_protocol().map(<[u8]>::to_vec);
        let server_name = match side {
            Side::Client => shown_name,
            Side::Server => tls.ssl().servername(openssl::ssl::NameType::HOST_NAME).map(str::to_owned),
        };
        let is_offered_session = tls.ssl().session_reused() && !offered_chain.is_empty();
        let chain = if is_offered_session { Ok(offered_chain) } else { peer_certificates(tls.ssl(), side) };
        let chain = chain.map_err(library)?;
        let seal = records.ok_or_else(missing)?.into_keys();
        let reader = |sink| TicketReader::new(tls, sink, (&peers, suite), (chain.clone(), offered_expiry));
        let tickets = sink.map(reader).transpose()?;
        let schedule = Box::new(Schedule { side, suite, own, peers, tickets });
        let mut agreed = Agreed::new(suite.code(), seal, open, schedule).with_alpn(alpn.as_deref());
        (agreed.tcpls, agreed.draft_only, agreed.early_data) = (is_agreed, draft_only, early.outcome());
        if let Some(EarlyToken::Token(token)) = early_token {
            agreed.early_token = Some(token);
        }
        (agreed.server_name, agreed.offer, agreed.peer_certificates) = (server_name, offer, chain);
        Ok(agreed)
    }
}

/// The peer's chain in DER, its own certificate first.
fn peer_certificates(tls: &SslRef, side: Side) -> Result<Vec<Vec<u8>>, openssl::error::ErrorStack> {
    let Some(first) = tls.peer_certificate() else { return Ok(Vec::new()) };
    // On a client, OpenSSL's chain begins with the server's own certificate; on a server, the client's is missing.
    let repeated = usize::from(side == Side::Client);
    let chain = tls.peer_cert_chain().into_iter().flatten().skip(repeated).map(|certificate| certificate.to_der());
    core::iter::once(first.to_der()).chain(chain).collect()
}
