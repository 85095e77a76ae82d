//! What the session needs of cryptography, as traits: a handshake that agrees on keys, keys that seal and open, and the
//! chain that leads from one generation of keys to the next.
//!
//! `rustls` holds the only `use rustls` of the crate, `aead` the only use of the AEAD library.

use core::fmt;

use crate::error::{Alert, HandshakeError};

#[cfg_attr(not(feature = "testing"), allow(unreachable_pub, reason = "the feature `testing` shows it to tests"))]
pub(crate) mod aead;
pub(crate) mod limits;
pub mod nonce;
pub mod rng;
pub mod rustls;

/// Bytes that sealing adds: the tag of every TLS 1.3 cipher suite in use.
pub const TAG_LEN: usize = 16;

/// The TLS handshake of a session's first TCP connection. Sans-IO, fed one TLS record at a time.
///
/// What a provider yields in the end is only [`Agreed`]; whether it used ALPN or the draft's TLS extensions to find
/// out that the peer speaks TCPLS is its own affair.
pub trait Handshake: Send {
    /// Takes in one whole TLS record, header included. Not to be called once [`Handshake::is_complete`].
    ///
    /// After an error, [`Handshake::write`] still gives the alert to send.
    fn handle_record(&mut self, record: &mut [u8]) -> Result<(), HandshakeFailure>;

    /// Appends what the handshake has to send to `out`. To be called after each call that may have produced something,
    /// and once at the start on a client.
    fn write(&mut self, out: &mut Vec<u8>);

    /// Server: seals `plaintext` as application data ahead of the client's Finished (0.5-RTT data), appends the record
    /// to `out` and returns true; false, and nothing done, if that is not possible (yet). At most 2¹⁴ bytes.
    fn write_half_rtt(&mut self, plaintext: &[u8], out: &mut Vec<u8>) -> bool;

    /// Whether the handshake is over on this side and [`Handshake::finish`] may be called.
    fn is_complete(&self) -> bool;

    /// Whether the peer has agreed to TCPLS; `None` as long as that is open. A server knows it once it has the
    /// ClientHello.
    fn tcpls(&self) -> Option<bool>;

    /// Returns the bytes of memory that messages of both sides take: those that are not whole or not taken yet.
    fn memory(&self) -> usize {
        0
    }

    /// Takes the secrets out. Everything from [`Handshake::write`] must have been taken before.
    fn finish(self: Box<Self>) -> Result<Agreed, HandshakeError>;
}

/// Why a handshake failed, and the alert that the provider has queued for the peer, if any.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HandshakeFailure {
    /// In the words of the TLS library.
    pub error: HandshakeError,
    /// The alert that the peer sent, if it is the peer who refused.
    pub peer_alert: Option<u8>,
}

/// What a handshake yields.
pub struct Agreed {
    /// Whether both ends speak TCPLS.
    pub tcpls: bool,
    /// Client: what it has offered, and so what the server may have agreed to.
    pub offer: Offer,
    /// The application protocol, without the `tcpls+` in front.
    pub application_protocol: Option<Vec<u8>>,
    /// The ALPN name as it was agreed on the wire: what a join offers again.
    pub alpn: Option<Vec<u8>>,
    /// The server name that the client asked for.
    pub server_name: Option<String>,
    /// A token from the draft's `tcpls_token` extension; its sequence number is 1.
    pub early_token: Option<[u8; 32]>,
    /// The peer's certificates in DER, its own first; empty if it showed none.
    pub peer_certificates: Vec<Vec<u8>>,
    /// The TLS code point of the cipher suite.
    pub suite: u16,
    /// The sealing keys of this side and how many records they have sealed (half-RTT data, tickets).
    pub seal: (u64, SealKeys),
    /// The opening keys of the peer's records and how many they have opened.
    pub open: (u64, OpenKeys),
    /// Later generations of keys.
    pub schedule: Box<dyn KeySchedule>,
}

/// What a client takes for an answer (decision D112).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Offer {
    /// TCPLS, or plain TLS with whatever speaks it: the application has named no protocol. Servers have this, too.
    #[default]
    Anything,
    /// TCPLS or plain TLS, but in either case an application protocol that the client has named.
    Protocols,
    /// TCPLS alone.
    Tcpls,
}

/// Gives the next generation of keys, and takes in session tickets.
pub trait KeySchedule: Send {
    /// The next generation of this side's keys.
    fn next_seal(&mut self) -> Result<SealKeys, HandshakeError>;
    /// The next generation of the peer's keys.
    fn next_open(&mut self) -> Result<OpenKeys, HandshakeError>;
    /// Client: takes in the body of a New Session Ticket message (RFC 8446, 4.6.1), so that a later session resumes.
    fn handle_new_session_ticket(&mut self, body: &[u8]) -> Result<(), HandshakeError>;
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
    /// Encrypts `in_out` in place and returns the tag.
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

/// The record is not what the peer sealed.
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
