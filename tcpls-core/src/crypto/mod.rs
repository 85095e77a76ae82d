//! Cryptography of a session, as traits: a handshake that negotiates keys, keys that seal and open records, and the key
//! schedule that derives the next generation of keys. [`TlsClient`] and [`TlsServer`] make the handshakes of many
//! sessions.
//!
//! `rustls` holds the only `use rustls` of the crate, `openssl` the only use of OpenSSL, `aead` the only use of the AEAD
//! library. A provider for another TLS library, or another version of rustls, implements [`Handshake`] and what makes
//! them, in this crate or outside of it, and nothing else changes (`docs/decisions/0008-tls-seam.md`).

use core::fmt;

pub use self::aead::Suite;
pub use self::ends::{TlsClient, TlsServer};
use crate::error::{Alert, HandshakeError};

#[cfg_attr(not(feature = "testing"), allow(unreachable_pub, reason = "the feature `testing` shows it to tests"))]
pub(crate) mod aead;
pub mod alpn;
#[cfg(any(feature = "openssl", feature = "rustls"))]
mod by_server;
mod ends;
pub(crate) mod limits;
pub mod nonce;
#[cfg(feature = "openssl")]
#[cfg_attr(docsrs, doc(cfg(feature = "openssl")))]
pub mod openssl;
pub mod rng;
#[cfg(feature = "rustls")]
#[cfg_attr(docsrs, doc(cfg(feature = "rustls")))]
pub mod rustls;

/// Bytes that sealing adds: the tag of every TLS 1.3 cipher suite in use.
pub const TAG_LEN: usize = 16;

/// The TLS handshake of a session's first TCP connection: sans-IO, fed one TLS record at a time.
///
/// A provider implements this trait for one TLS library, and [`KeySchedule`] for what follows the handshake. Keys are
/// made by [`Suite`], or by a provider's own [`SealKey`] and [`OpenKey`]. The session knows no library; it seals and
/// opens all records after the handshake itself, with nonces of its own. Requirements for a provider:
///
/// - It negotiates only TLS 1.3, with a cipher suite whose tag has 16 bytes and whose IV has 12.
/// - Early data is off unless its user has opted in. A provider without early data implements none of the methods for it.
/// - It determines whether the peer supports TCPLS: by ALPN, with the names of [`alpn`], or by the draft's TLS
///   extensions.
/// - It neither blocks nor waits: when [`Handshake::handle_record`] returns, all that follows from the record is decided. A
///   library that suspends a handshake, to verify a certificate or sign elsewhere, needs a thread or cannot be used.
/// - It has its own time and randomness. If these are deterministic, the session is deterministic, too.
///
/// On a client, the session calls [`Handshake::write`] once at the start. Then, for each received record:
///
/// 1. [`Handshake::handle_record`];
/// 2. [`Handshake::write`], also after an error, which ends the handshake;
/// 3. on a server, [`Handshake::write_half_rtt`], as soon as [`Handshake::tcpls`] returns `Some(true)`; again for stream
///    data if early data was accepted; and [`Handshake::read_early`];
/// 4. [`Handshake::finish`], if [`Handshake::is_complete`] returns true.
///
/// A session that ends sooner drops the provider, and may send an alert in plaintext that the provider does not know of.
///
/// `tcpls-core/tests/it/second_provider` is a provider that was written from this page, for a library that is driven through
/// memory buffers, as OpenSSL is.
pub trait Handshake: Send {
    /// Takes in one whole TLS record: header, then at most 2¹⁴ + 256 bytes.
    ///
    /// The header is well formed and has one of TLS's content types; nothing else was checked. Records come in order. A message may
    /// span several, and a record hold several messages. The provider may decrypt in place. It must bound what it keeps of a
    /// handshake that never ends; 128 KiB in all are enough for any certificate chain that TLS libraries take.
    ///
    /// The first record that does not belong to the handshake is not passed: on a client that is the one after the server's
    /// Finished, on a server the one after the client's. So the library opens no application data, and its count of records opened
    /// under application keys stays 0. After an error, or once [`Handshake::is_complete`] returns true, the session does not
    /// call this any more; a call changes nothing and is an error.
    ///
    /// # Errors
    /// The handshake failed. If the peer is to be notified, [`Handshake::write`] gives the alert, protected if keys are in use; an
    /// alert of the peer's is not answered. The kind of the error is the session's close reason and shown to users: see
    /// [`HandshakeErrorKind`](crate::HandshakeErrorKind). An alert of the peer's is [`HandshakeError::refused`]; close_notify is
    /// `PeerClosed`.
    fn handle_record(&mut self, record: &mut [u8]) -> Result<(), HandshakeError>;

    /// Appends what the handshake has to send to `out`, complete records, and forgets it.
    ///
    /// Nothing may stay behind in the library: after this call nothing is left to be sent before the next record comes. On a server
    /// whose library sends New Session Tickets at the end of the handshake, they are the last of it; each record of them counts in
    /// [`Agreed::seal`].
    fn write(&mut self, out: &mut Vec<u8>);

    /// Server: seals `plaintext` as application data ahead of the client's Finished (0.5-RTT data, RFC 8446, 4.4.4).
    ///
    /// Appends to `out` what [`Handshake::write`] would give, then exactly one record with all of `plaintext`, at most 2¹⁴ bytes,
    /// and returns true. The record counts in [`Agreed::seal`], ahead of tickets: it is number 0. Returns false, with `out` and the
    /// provider unchanged, if that is not possible: on a client, before the ClientHello or after the Finished, where the client has
    /// not agreed to TCPLS or is asked for a certificate (nothing goes to a client that is not authenticated), or if the library
    /// cannot do it. The session sends the same frames after the handshake then.
    fn write_half_rtt(&mut self, plaintext: &[u8], out: &mut Vec<u8>) -> bool;

    /// Client: returns what [`KeySchedule::remember`] kept with the ticket that the ClientHello offers, if early data may
    /// be sent with it: the server of that ticket takes [`EARLY_DATA`] bytes, and the application protocol of its session
    /// is offered again. `None` in any other case. It does not change during the handshake.
    fn early_state(&self) -> Option<&[u8]> {
        None
    }

    /// Client: seals `plaintext` as early data (RFC 8446, 2.3) behind the ClientHello.
    ///
    /// Appends to `out` what [`Handshake::write`] would give, then exactly one record with all of `plaintext`, and returns
    /// true. Possible any number of times, at most [`EARLY_DATA`] bytes in all, until the first call of
    /// [`Handshake::handle_record`], if [`Handshake::early_state`] returns something. Returns false otherwise; then
    /// `out` has at most what [`Handshake::write`] would give.
    fn write_early(&mut self, _plaintext: &[u8], _out: &mut Vec<u8>) -> bool {
        false
    }

    /// Server: returns the content of the next record of early data that was accepted and is not returned yet. The session
    /// asks after each call of [`Handshake::handle_record`], until it returns `None`.
    ///
    /// The provider accepts early data only if its user has opted in, with a ticket that works once, and never more than
    /// 16 KiB. What a client sends in vain is skipped, up to 16 KiB.
    fn read_early(&mut self) -> Option<Vec<u8>> {
        None
    }

    /// Server: sets the bytes that describe what early data relies on, before the first record arrives. Early data is
    /// rejected if its ticket was issued under others. They are at most 64 bytes.
    fn set_early_terms(&mut self, _terms: &[u8]) {}

    /// Whether the handshake is complete on this endpoint and [`Handshake::finish`] may be called: the peer's Finished has been verified,
    /// and this endpoint's has been made. From then on true.
    fn is_complete(&self) -> bool;

    /// Whether the peer has agreed to TCPLS; `None` as long as that is open.
    ///
    /// A server must know it once it has the whole ClientHello, a client when [`Handshake::is_complete`] returns true. Once it is
    /// known, it does not change.
    fn tcpls(&self) -> Option<bool>;

    /// Returns the negotiated ALPN name, as soon as it is known. A server needs it to report a session with early data
    /// before the handshake is complete.
    fn alpn(&self) -> Option<&[u8]> {
        None
    }

    /// Whether the endpoints have agreed on TCPLS by the draft alone, without the frames of this project (decision D142).
    /// The session asks where [`Handshake::tcpls`] returns `Some(true)`; the answer does not change from then on.
    fn is_draft_only(&self) -> bool {
        false
    }

    /// Whether the peer has resumed a session. False as long as that is open.
    fn is_resumed(&self) -> bool {
        false
    }

    /// Whether [`KeySchedule::join`] returns handshakes. It does not change.
    fn resumes_joins(&self) -> bool {
        false
    }

    /// Returns the bytes of memory that messages of both sides take: those that are not whole or not taken yet.
    ///
    /// The session adds 32 KiB for the library itself, and counts at least 80 KiB in all. A provider that copies what comes
    /// into buffers reports their capacity, so that a server's [`Budget`](crate::Budget) bounds them.
    fn memory(&self) -> usize {
        0
    }

    /// Extracts the secrets. All bytes of [`Handshake::write`] have been taken before.
    ///
    /// The library seals and opens nothing from now on. It may live on behind [`Agreed::schedule`].
    ///
    /// # Errors
    /// [`Handshake::is_complete`] is false; bytes of the handshake are left over (kind `Violation`); or the library gave no secrets, or
    /// those of a cipher suite that records of a session cannot be sealed with (kind `Incompatible`).
    fn finish(self: Box<Self>) -> Result<Agreed, HandshakeError>;
}

/// Bytes of early data, record contents without overhead, that a client may send before the server's flight arrives. A
/// server that accepts early data issues tickets for at least that.
pub const EARLY_DATA: usize = 14 << 10;

/// What became of the client's early data.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EarlyData {
    /// The client offered none.
    #[default]
    None,
    /// The server took it.
    Accepted,
    /// The server dropped it.
    Rejected,
}

/// The result of a handshake.
#[non_exhaustive]
pub struct Agreed {
    /// Whether both endpoints support TCPLS.
    pub tcpls: bool,
    /// With TCPLS: whether one of them has only the draft's frames (decision D142). Neither sends Session Parameters then.
    pub draft_only: bool,
    /// Client: its offer, which limits the results that it accepts.
    pub offer: Offer,
    /// The application protocol, without the prefix `tcpls+`.
    pub application_protocol: Option<Vec<u8>>,
    /// The negotiated ALPN name, which joins offer again.
    pub alpn: Option<Vec<u8>>,
    /// The server name in the ClientHello; with Encrypted ClientHello, in the inner one.
    pub server_name: Option<String>,
    /// Client: the name that joins show, if it is to be another than the one that the ClientHello has shown.
    pub join_name: JoinName,
    /// Client: a token from the draft's `tcpls_token` extension (decision D146); its sequence number is 1. A server that sends the
    /// extension takes the value from [`TokenSecret::seal`](crate::TokenSecret::seal) for number 1; the session sends it once
    /// more.
    pub early_token: Option<[u8; 32]>,
    /// The peer's certificate chain in DER, its own first; empty without one. Of a peer with a raw public key (RFC 7250), its
    /// SubjectPublicKeyInfo alone.
    pub peer_certificates: Vec<Vec<u8>>,
    /// What became of the client's early data. A server need not know it if the client sent no record.
    pub early_data: EarlyData,
    /// The TLS code point of the cipher suite.
    pub suite: u16,
    /// The first application keys of this endpoint, and how many records they have sealed: 0.5-RTT data and the library's tickets. The
    /// session goes on with that number; if it is wrong, the peer can open nothing.
    pub seal: (u64, SealKeys),
    /// The first application keys of the peer, and how many records they have opened: 0 unless the library opened what this trait
    /// does not pass to it.
    pub open: (u64, OpenKeys),
    /// Later generations of keys.
    pub schedule: Box<dyn KeySchedule>,
}

impl Agreed {
    /// Returns what a handshake with this cipher suite and these keys yields if it agreed on nothing else: plain TLS, no
    /// application protocol, no names, no certificates.
    pub fn new(suite: u16, seal: (u64, SealKeys), open: (u64, OpenKeys), schedule: Box<dyn KeySchedule>) -> Self {
        Self {
            tcpls: false,
            draft_only: false,
            offer: Offer::default(),
            application_protocol: None,
            alpn: None,
            server_name: None,
            join_name: JoinName::Shown,
            early_token: None,
            peer_certificates: Vec::new(),
            early_data: EarlyData::None,
            suite,
            seal,
            open,
            schedule,
        }
    }

    /// Derives from the negotiated ALPN name whether both endpoints use TCPLS, and the application protocol.
    #[must_use]
    pub fn with_alpn(self, name: Option<&[u8]>) -> Self {
        Self {
            tcpls: name.is_some_and(alpn::is_tcpls),
            application_protocol: name.and_then(alpn::application_protocol).map(<[u8]>::to_vec),
            alpn: name.map(<[u8]>::to_vec),
            ..self
        }
    }
}

/// The server name that a client's joins show to the network (decision D153).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum JoinName {
    /// The one that the ClientHello has shown, which the session reads itself: that of the session, or the public name if
    /// Encrypted ClientHello (RFC 9849) hides that.
    #[default]
    Shown,
    /// This one, or none.
    Public(Option<String>),
}

impl JoinName {
    /// Returns the name, if that of the session is `session`.
    pub(crate) fn or<'a>(&'a self, session: Option<&'a str>) -> Option<&'a str> {
        match self {
            Self::Shown => session,
            Self::Public(name) => name.as_deref(),
        }
    }
}

/// What a client accepts as the result of negotiation (decision D112).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Offer {
    /// TCPLS or plain TLS, with any application protocol: the application has named none. Servers have this, too.
    #[default]
    Anything,
    /// TCPLS or plain TLS, but with an application protocol that the client has named.
    Protocols,
    /// TCPLS only.
    Tcpls,
}

/// Derives later generations of keys, and processes session tickets.
pub trait KeySchedule: Send {
    /// Returns the next generation of this endpoint's keys (RFC 8446, 7.2): the first call gives generation 1.
    ///
    /// # Errors
    /// The library returns no further keys. A session that needs them ends.
    fn next_seal(&mut self) -> Result<SealKeys, HandshakeError>;
    /// Returns the next generation of the peer's keys. The two directions do not depend on each other.
    ///
    /// The session calls it for a record that the current generation does not open, too: at most one ahead of the peer.
    ///
    /// # Errors
    /// The library returns no further keys. A TCP connection that needs them is lost.
    fn next_open(&mut self) -> Result<OpenKeys, HandshakeError>;
    /// Client: processes the body of a New Session Ticket message (RFC 8446, 4.6.1), so that a later session can
    /// resume.
    ///
    /// At most 4 in a session, each of at most 2¹⁶ bytes, without the 4-byte message header. A provider that does not resume
    /// returns `Ok(())`. One whose library takes complete records only seals the message as the peer's next record for it.
    ///
    /// # Errors
    /// The body is malformed, or this endpoint is a server: the peer violated TLS, and the session ends.
    fn handle_new_session_ticket(&mut self, body: &[u8]) -> Result<(), HandshakeError>;
    /// Client: sets what is to be kept with the tickets that follow, for [`Handshake::early_state`]: at most 512 bytes. The
    /// session calls it only if both endpoints use TCPLS. Tickets that come without it serve no early data.
    fn remember(&mut self, _state: &[u8]) {}

    /// Returns the bytes of memory that tickets of the session take for its joins.
    fn memory(&self) -> usize {
        0
    }

    /// Whether [`KeySchedule::join`] would return a handshake now. Once true, it stays true.
    fn can_join(&self) -> bool {
        false
    }

    /// Starts the handshake of a join that is a resumption (decision D147): `token` is the ticket, and the key is that of the
    /// session's first New Session Ticket.
    ///
    /// A client's handshake offers the token, and early data if `early_data` is set; a server's accepts it, with or without
    /// early data, and no other ticket. The session takes from it the flights of this endpoint and whether the peer has resumed;
    /// its keys protect nothing of the session. Returns `None` without such a ticket, or if the provider cannot do it: the
    /// session joins in the draft's form then.
    fn join(&mut self, _token: &[u8; 32], _early_data: bool) -> Option<Box<dyn Handshake>> {
        None
    }
}

/// One generation of one direction's sealing keys.
pub struct SealKeys {
    /// The AEAD.
    pub key: Box<dyn SealKey>,
    /// The write IV that nonces are made from.
    pub iv: [u8; 12],
}

/// One generation of one direction's opening keys.
pub struct OpenKeys {
    /// The AEAD.
    pub key: Box<dyn OpenKey>,
    /// The write IV of the peer.
    pub iv: [u8; 12],
}

/// Seals records with one key.
pub trait SealKey: Send {
    /// Encrypts `in_out` in place and returns the tag. It cannot fail: records have at most 2¹⁴ + 256 bytes.
    fn seal(&self, nonce: [u8; 12], aad: &[u8], in_out: &mut [u8]) -> [u8; TAG_LEN];
    /// Records that may be sealed with one key.
    fn confidentiality_limit(&self) -> u64;
}

/// Opens records with one key.
pub trait OpenKey: Send {
    /// Decrypts `in_out` (ciphertext and tag) in place; the plaintext is its first `in_out.len() - TAG_LEN` bytes. What
    /// `in_out` holds after an error is unspecified.
    fn open(&self, nonce: [u8; 12], aad: &[u8], in_out: &mut [u8]) -> Result<(), OpenError>;
    /// Records that may fail to open with one key.
    fn integrity_limit(&self) -> u64;
}

/// The record failed to decrypt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenError;

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("record failed to decrypt")
    }
}

impl core::error::Error for OpenError {}

/// A plaintext alert record, as it is sent where no keys are in use.
pub fn plaintext_alert(alert: Alert) -> [u8; 7] {
    let level = if alert == Alert::CloseNotify { 1 } else { 2 };
    [21, 3, 3, 0, 2, level, alert as u8]
}
