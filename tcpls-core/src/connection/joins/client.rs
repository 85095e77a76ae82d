//! The client's side of a join: it spends a token, sends an apparent TLS handshake, and continues with records of the
//! session. If both endpoints have enabled it, the TLS library makes a resumption of the join instead (`resumption`).
//!
//! The handshake affects no key; only the first record that decrypts authenticates the join (draft, 4.2.1 and 4.3).

use crate::connection::Connection;
use crate::connection::record::{Item, JoinAnswer, Returned};
use crate::connection::trace::Event;
use crate::crypto::rng::Rng;
use crate::error::{OpenTcpError, TcpFault};
use crate::tcp::{Opening, Tcp, TcpState};
use crate::time::Time;
use crate::wire::hello::{self, CHANGE_CIPHER_SPEC, ExtensionTypes, JoinHello, SERVER_HELLO, ZeroRtt};
use crate::wire::ids::{ConnectionId, Side, Token};
use crate::wire::record::{ContentType, RecordHeader};

/// Limit on the bytes of an apparent handshake.
const MAX_HELLO_BYTES: usize = 16 * 1024;
/// TLS_AES_256_GCM_SHA384: its PSK binders have 48 bytes, those of the other suites 32.
const AES_256: u16 = 0x1302;

/// Options of a join.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct JoinOptions {
    /// Sends records directly behind the ClientHello, before the ServerHello arrives. After a join with them got no
    /// answer, try the same path without them. Ignored in a session with only the draft's frames.
    pub zero_rtt: bool,
    /// Joins as a backup: its first record carries that status ([`Connection::set_backup`]), so that neither endpoint
    /// sends stream data on it while another TCP connection is live.
    pub backup: bool,
    /// Joins as a lane: both endpoints keep bulk data off it ([`Connection::wants_lane`]). Ignored if the peer does not
    /// know lanes, or [`Config::lanes`](crate::Config::lanes) is off.
    pub lane: bool,
}

impl JoinOptions {
    /// Returns these options with a change: `JoinOptions::default().with(|join| join.zero_rtt = true)`.
    #[must_use]
    pub fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }
}

impl Connection {
    /// Client: joins a TCP connection to the session and returns its ID, the number of the token that it spends. Call
    /// it when TCP is established. With [`Config::zero_rtt_join`], records follow the ClientHello without a round trip.
    ///
    /// A join without such records that ends before any byte arrived returns its token while no other TCP connection
    /// answers. The session uses that token, and the same ID, again when no fresh token is left.
    ///
    /// [`Config::zero_rtt_join`]: crate::config::Config::zero_rtt_join
    ///
    /// # Errors
    /// See [`OpenTcpError`]; an error spends no token.
    pub fn open_tcp(&mut self, now: Time) -> Result<ConnectionId, OpenTcpError> {
        self.open_tcp_with(now, JoinOptions { zero_rtt: self.config.zero_rtt_join, ..JoinOptions::default() })
    }

    /// Like [`Connection::open_tcp`], with `options`.
    ///
    /// # Errors
    /// As [`Connection::open_tcp`].
    // draft I09
    pub fn open_tcp_with(&mut self, now: Time, options: JoinOptions) -> Result<ConnectionId, OpenTcpError> {
        self.trace.call(|_| Item::OpenTcp { now, options });
        let outcome = self.begin_join(now, options);
        self.trace.returned(|| Returned::of_result(&outcome, |tcp| tcp.0.into()));
        outcome
    }

    fn begin_join(&mut self, now: Time, options: JoinOptions) -> Result<ConnectionId, OpenTcpError> {
        if self.side == Side::Server {
            return Err(OpenTcpError::Server);
        }
        if !self.is_open() {
            return Err(OpenTcpError::Closed);
        }
        if !self.established {
            return Err(OpenTcpError::TooEarly);
        }
        if self.plain {
            return Err(OpenTcpError::Plain);
        }
        let (tcp, token) = self.joins.spend().ok_or(OpenTcpError::NoToken)?;
        // A server that knows only the draft may not expect records before its answer.
        let zero_rtt = options.zero_rtt && !self.is_draft_only();
        self.lost.remove(&tcp); // a join that came to nothing
        let deadline = self.join_grace(now);
        let session_id: [u8; 32] = self.rng.bytes();
        let mut entry = Tcp::new(tcp, TcpState::Opening(Opening::new(deadline, session_id)), now);
        entry.expect_rate(self.expected_rate());
        if !self.begin_resumption(tcp, &token, zero_rtt, entry.raw()) {
            self.write_join_hello(&session_id, token, zero_rtt, entry.raw());
        }
        if zero_rtt {
            entry.seal_early();
        }
        entry.request_backup(options.backup);
        if options.backup {
            self.control.owe_status(tcp);
        }
        let lane = options.lane && self.has_lanes();
        if lane {
            entry.join_as_lane();
            self.streams.tell_classes_apart();
        }
        entry.live().ask(); // the server puts it to no use until a record of ours opens
        if let Some(keys) = &self.keys {
            entry.begin_with(keys.seal_target());
        }
        self.tcps.insert(entry);
        self.trace.set_now(now);
        let backup = options.backup;
        self.trace.emit(|| Event::JoinStarted { tcp, zero_rtt, backup, lane });
        Ok(tcp)
    }

    // draft I13
    fn write_join_hello(&mut self, session_id: &[u8; 32], token: Token, zero_rtt: bool, out: &mut Vec<u8>) {
        let ticket: [u8; 208] = self.rng.bytes();
        let binder: [u8; 48] = self.rng.bytes();
        let binder_len = if self.identity.suite == AES_256 { 48 } else { 32 };
        let age = u32::from_be_bytes(self.rng.bytes());
        let hello = JoinHello {
            random: self.rng.bytes(),
            session_id: *session_id,
            suite: self.identity.suite,
            server_name: self.identity.join_name.or(self.identity.server_name.as_deref()),
            alpn: self.identity.alpn.as_deref(),
            key_share: random_key_share(&mut self.rng),
            token,
            zero_rtt: zero_rtt.then_some(ZeroRtt {
                identity: &ticket,
                obfuscated_age: age,
                binder: &binder[..binder_len],
            }),
        };
        hello.encode(&self.extensions, out);
        if zero_rtt {
            out.extend_from_slice(&CHANGE_CIPHER_SPEC);
        }
    }

    /// Handles a plaintext record on a TCP connection that is joining: the server's part of the apparent handshake.
    pub(in crate::connection) fn handle_join_answer(
        &mut self,
        now: Time,
        tcp: ConnectionId,
        header: RecordHeader,
        record: &[u8],
    ) {
        let (suite, extensions) = (self.identity.suite, self.extensions);
        let Some(entry) = self.tcps.get_mut(tcp) else { return };
        let Some(opening) = entry.opening() else { return };
        let body = record.get(crate::wire::record::HEADER_LEN..).unwrap_or_default();
        let is_too_long = opening.count(record.len()) > MAX_HELLO_BYTES;
        let answer = self.trace.judge_answer(|| match header.content_type {
            _ if is_too_long => JoinAnswer::Invalid,
            ContentType::Handshake
                if !opening.is_answered()
                    && is_expected_server_hello(body, &extensions, opening.session_id(), suite) =>
            {
                JoinAnswer::Hello
            }
            ContentType::ChangeCipherSpec if opening.is_answered() && body == [1] => JoinAnswer::Nothing,
            ContentType::Alert => JoinAnswer::Alert(body.get(1).copied().unwrap_or(0)),
            _ => JoinAnswer::Invalid,
        });
        let fault = match answer {
            JoinAnswer::Hello => {
                entry.hello_answered(&CHANGE_CIPHER_SPEC);
                None
            }
            JoinAnswer::Nothing => None,
            JoinAnswer::Alert(alert) => Some(TcpFault::Alert(alert)),
            JoinAnswer::Invalid => Some(TcpFault::JoinRefused),
        };
        if let Some(fault) = fault {
            self.lose_tcp(now, tcp, fault, None);
        }
    }
}

/// Whether this ServerHello answers a join. A HelloRetryRequest does not, nor does the ServerHello of a new handshake.
fn is_expected_server_hello(message: &[u8], extensions: &ExtensionTypes, session_id: &[u8; 32], suite: u16) -> bool {
    let Ok((SERVER_HELLO, body)) = hello::split_message(message) else { return false };
    hello::parse_server_hello(body, extensions).is_ok_and(|hello| {
        hello.tls13 && !hello.is_retry_request && hello.session_id[..] == session_id[..] && hello.suite == suite
    })
}

/// An X25519 share whose secret is unknown. Real shares have the top bit clear.
pub(super) fn random_key_share(rng: &mut Rng) -> [u8; 32] {
    let mut share: [u8; 32] = rng.bytes();
    share[31] &= 0x7f;
    share
}
