//! The provider: a TLS library is driven through memory buffers, seals its own alerts and session tickets, and shows its secrets only
//! to a key log. OpenSSL with memory BIOs and a key log callback is driven in the same way; here it is rustls's buffered API,
//! which the crate's own provider does not use.

use std::io::Write;
use std::sync::{Arc, Mutex};

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, Connection, Error, KeyLog, ServerConfig, ServerConnection};
use tcpls_core::crypto::alpn::is_tcpls;
use tcpls_core::crypto::{Agreed, Handshake, KeySchedule, OpenKeys, SealKeys, Suite};
use tcpls_core::{AlertDescription, HandshakeError, HandshakeErrorKind as Kind, Side};

use super::keys::{Secret, record};

const HANDSHAKE: u8 = 22;
const NEW_SESSION_TICKET: u8 = 4;
/// The limit on the bytes of a handshake.
const MAX_RECEIVED: usize = 128 << 10;

/// A handshake under way.
pub(super) struct Buffered {
    side: Side,
    tls: Connection,
    log: Arc<Log>,
    server_name: Option<String>,
    /// Clients are not asked for certificates.
    may_write_early: bool,
    received: usize,
    /// Records sealed under application keys: 0.5-RTT data, then tickets.
    sealed: u64,
    is_failed: bool,
}

impl Buffered {
    pub(super) fn client(config: &ClientConfig, name: &str) -> Self {
        let (mut config, log) = (config.clone(), Arc::new(Log::default()));
        config.key_log = log.clone();
        let server = ServerName::try_from(name.to_owned()).expect("a name");
        let tls = ClientConnection::new(Arc::new(config), server).expect("a complete configuration");
        Self::new(Side::Client, tls.into(), log, Some(name.to_owned()), false)
    }

    pub(super) fn server(config: &ServerConfig, asks_for_certificates: bool) -> Self {
        let (mut config, log) = (config.clone(), Arc::new(Log::default()));
        config.key_log = log.clone();
        config.send_half_rtt_data = true;
        let tls = ServerConnection::new(Arc::new(config)).expect("a complete configuration");
        Self::new(Side::Server, tls.into(), log, None, !asks_for_certificates)
    }

    fn new(side: Side, tls: Connection, log: Arc<Log>, server_name: Option<String>, may_write_early: bool) -> Self {
        Self { side, tls, log, server_name, may_write_early, received: 0, sealed: 0, is_failed: false }
    }

    fn take_in(&mut self, mut record: &[u8]) -> Result<(), Error> {
        while !record.is_empty() {
            self.tls.read_tls(&mut record).expect("there is room for one record");
            self.tls.process_new_packets()?;
        }
        Ok(())
    }
}

impl Handshake for Buffered {
    fn handle_record(&mut self, record: &mut [u8]) -> Result<(), HandshakeError> {
        self.received += record.len();
        if self.is_failed || self.is_complete() || self.received > MAX_RECEIVED {
            return Err(HandshakeError::new(Kind::Violation, "the handshake is over"));
        }
        self.take_in(record).map_err(|error| {
            self.is_failed = true;
            neutral(error)
        })
    }

    fn write(&mut self, out: &mut Vec<u8>) {
        let start = out.len();
        while self.tls.wants_write() {
            self.tls.write_tls(out).expect("memory takes all");
        }
        if self.side == Side::Server && self.is_complete() {
            self.sealed += records(&out[start..]); // tickets: the rest went out with earlier calls
        }
    }

    fn write_half_rtt(&mut self, plaintext: &[u8], out: &mut Vec<u8>) -> bool {
        if !self.may_write_early || self.is_complete() || self.tcpls() != Some(true) {
            return false;
        }
        self.write(out);
        self.tls.writer().write_all(plaintext).expect("the library takes a record's worth");
        self.write(out);
        self.sealed += 1;
        true
    }

    fn is_complete(&self) -> bool {
        !self.is_failed && !self.tls.is_handshaking()
    }

    fn tcpls(&self) -> Option<bool> {
        match self.tls.alpn_protocol() {
            Some(name) => Some(is_tcpls(name)),
            None => (!self.tls.is_handshaking()).then_some(false),
        }
    }

    fn finish(self: Box<Self>) -> Result<Agreed, HandshakeError> {
        let code = self.tls.negotiated_cipher_suite().map_or(0, |suite| u16::from(suite.suite()));
        let suite = Suite::from_code(code).ok_or_else(|| HandshakeError::new(Kind::Incompatible, "no such suite"))?;
        let (client, server) = ("CLIENT_TRAFFIC_SECRET_0", "SERVER_TRAFFIC_SECRET_0");
        let (own, peers) = if self.side == Side::Client { (client, server) } else { (server, client) };
        let missing = || HandshakeError::new(Kind::Other, "the library logged no secret");
        let secret = |label| self.log.take(label).map(|bytes| Secret::new(suite, bytes)).ok_or_else(missing);
        let (own, peers) = (secret(own)?, secret(peers)?);
        let certificates = self.tls.peer_certificates().unwrap_or_default();
        let peer_certificates = certificates.iter().map(|certificate| certificate.to_vec()).collect();
        let server_name = match &self.tls {
            Connection::Server(tls) => tls.server_name().map(str::to_owned),
            Connection::Client(_) => self.server_name.clone(),
        };
        let alpn = self.tls.alpn_protocol().map(<[u8]>::to_vec);
        let (seal, open) = ((self.sealed, own.seal_keys()), (0, peers.open_keys()));
        let tickets = Tickets { tls: self.tls, keys: peers.seal_keys(), taken: 0 };
        let schedule = Box::new(Schedule { own, peers, tickets, side: self.side });
        let mut agreed = Agreed::new(suite.code(), seal, open, schedule).with_alpn(alpn.as_deref());
        (agreed.server_name, agreed.peer_certificates) = (server_name, peer_certificates);
        Ok(agreed)
    }
}

/// How many TLS records these bytes are.
fn records(mut bytes: &[u8]) -> u64 {
    let mut count = 0;
    while let [_, _, _, high, low, rest @ ..] = bytes {
        bytes = &rest[usize::from(u16::from_be_bytes([*high, *low]))..];
        count += 1;
    }
    count
}

/// Maps the library's error to a kind of the session.
fn neutral(error: Error) -> HandshakeError {
    let kind = match &error {
        Error::AlertReceived(alert) => return HandshakeError::refused(AlertDescription(u8::from(*alert))),
        Error::InvalidCertificate(_) => Kind::BadCertificate,
        Error::NoCertificatesPresented => Kind::NoCertificate,
        Error::NoApplicationProtocol => Kind::NoApplicationProtocol,
        _ => Kind::Violation,
    };
    HandshakeError::new(kind, error.to_string()).with_source(error)
}

struct Schedule {
    side: Side,
    own: Secret,
    peers: Secret,
    tickets: Tickets,
}

impl KeySchedule for Schedule {
    fn next_seal(&mut self) -> Result<SealKeys, HandshakeError> {
        self.own.update();
        Ok(self.own.seal_keys())
    }

    fn next_open(&mut self) -> Result<OpenKeys, HandshakeError> {
        self.peers.update();
        Ok(self.peers.open_keys())
    }

    fn handle_new_session_ticket(&mut self, body: &[u8]) -> Result<(), HandshakeError> {
        if self.side == Side::Server {
            return Err(HandshakeError::new(Kind::Violation, "clients send no tickets"));
        }
        self.tickets.take_in(body)
    }
}

/// The library as it was at the end of the handshake: it takes tickets only in records of its peer's.
struct Tickets {
    tls: Connection,
    /// The peer's first generation.
    keys: SealKeys,
    taken: u64,
}

impl Tickets {
    fn take_in(&mut self, body: &[u8]) -> Result<(), HandshakeError> {
        let len = u32::try_from(body.len()).expect("at most 64 KiB").to_be_bytes();
        let message = [&[NEW_SESSION_TICKET], &len[1..], body].concat();
        let record = record(&self.keys, self.taken, HANDSHAKE, &message);
        self.taken += 1;
        self.tls.read_tls(&mut &record[..]).expect("there is room for one record");
        self.tls.process_new_packets().map(|_| ()).map_err(neutral)
    }
}

/// Keeps the traffic secrets of one handshake.
#[derive(Default)]
struct Log(Mutex<Vec<(String, Vec<u8>)>>);

impl core::fmt::Debug for Log {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Log")
    }
}

impl KeyLog for Log {
    fn log(&self, label: &str, _client_random: &[u8], secret: &[u8]) {
        self.0.lock().expect("no thread panics").push((label.to_owned(), secret.to_vec()));
    }
}

impl Log {
    fn take(&self, label: &str) -> Option<Vec<u8>> {
        let mut secrets = self.0.lock().expect("no thread panics");
        let at = secrets.iter().position(|(logged, _)| logged == label)?;
        Some(secrets.swap_remove(at).1)
    }
}
