//! Client: joins that a server answers with a full handshake, because it does not know the token (decision D151).
//!
//! Its certificate was verified, and its Session Parameters say which instance of the server it is. If that is not the one
//! with the session, and no TCP connection of the session has answered for a second, the session is lost and ends at once.
//! Nothing else that happens to a join ends the session.

use core::time::Duration;

use bytes::BytesMut;

use crate::connection::Connection;
use crate::connection::carried::Carried;
use crate::connection::input::{Opened, take_content};
use crate::connection::record::Heard;
use crate::connection::records::alert_body;
use crate::crypto::nonce::nonce;
use crate::crypto::{Agreed, JoinName, OpenKeys, SealKeys, TAG_LEN};
use crate::error::{Alert, CloseReason, TcpFault};
use crate::tcp::Tcp;
use crate::time::Time;
use crate::wire::frame::{Frame, Frames, Parameters};
use crate::wire::ids::ConnectionId;
use crate::wire::record::{ContentType, HEADER_LEN, RecordHeader};

/// Bytes that a server may send behind its handshake until its Session Parameters are there: tickets may precede them.
const MAX_BYTES: usize = 16 << 10;

/// A TCP connection that has been stalled for less than this may still answer: most stalls are short.
const SHORT_STALL: Duration = Duration::from_secs(1);

/// The server at the other end of a join, with the keys of the handshake that it completed.
pub(super) struct Stranger {
    open: (u64, OpenKeys),
    seal: (u64, SealKeys),
    bytes: usize,
}

impl Stranger {
    fn new(open: (u64, OpenKeys), seal: (u64, SealKeys)) -> Self {
        Self { open, seal, bytes: 0 }
    }

    fn hear(&mut self, mut record: BytesMut) -> Heard {
        self.bytes += record.len();
        let is_protected = record.first() == Some(&(ContentType::ApplicationData as u8));
        if !is_protected || self.bytes > MAX_BYTES || !self.open(&mut record) {
            return Heard::Unexpected;
        }
        match take_content(record) {
            Ok(Opened { content_type: 23, content }) => instance(&content),
            Ok(Opened { content_type: 22, .. }) => Heard::Nothing,
            _ => Heard::Unexpected,
        }
    }

    fn open(&mut self, record: &mut BytesMut) -> bool {
        let (number, keys) = &mut self.open;
        let (header, body) = record.split_at_mut(HEADER_LEN);
        let nonce = nonce(&keys.iv, ConnectionId::FIRST, *number);
        if body.len() <= TAG_LEN || keys.key.open(nonce, header, body).is_err() {
            return false;
        }
        *number += 1;
        record.truncate(record.len() - TAG_LEN);
        true
    }

    /// The record that ends the session which the client has not asked for.
    fn close_notify(&self) -> Vec<u8> {
        let (number, keys) = &self.seal;
        let [level, description] = alert_body(Alert::CloseNotify);
        let mut inner = [level, description, ContentType::Alert as u8];
        let header = RecordHeader::encode_protected(inner.len() + TAG_LEN);
        let tag = keys.key.seal(nonce(&keys.iv, ConnectionId::FIRST, *number), &header, &mut inner);
        [&header[..], &inner, &tag].concat()
    }
}

/// The instance in the first frames of a server, which begin its session.
fn instance(content: &[u8]) -> Heard {
    let mut found = Heard::Instance(0);
    for frame in Frames::new(content) {
        match frame {
            Ok(Frame::SessionParameters(parameters)) => {
                found = Heard::Instance(Parameters::from_entries(parameters.entries).instance);
            }
            Ok(_) => {}
            Err(_) => return Heard::Unexpected,
        }
    }
    found
}

impl Connection {
    /// Client: the server has completed a full handshake as the answer to a join. It is asked for its instance, if that of the
    /// session is known.
    pub(super) fn meet_stranger(&mut self, now: Time, tcp: ConnectionId, agreed: Option<Agreed>) {
        let (Some(entry), Some(agreed)) = (self.tcps.get_mut(tcp), agreed) else {
            return self.lose_tcp(now, tcp, TcpFault::JoinRefused, None);
        };
        let stranger = Stranger::new(agreed.open, agreed.seal);
        if agreed.tcpls && !agreed.draft_only && self.control.parameters().peer_instance().is_some() {
            entry.withhold();
            self.joins.resumptions.add_stranger(tcp, stranger);
        } else {
            self.leave_stranger(now, tcp, &stranger);
        }
    }

    /// Client: handles a record of such a server.
    pub(super) fn hear_stranger(&mut self, now: Time, tcp: ConnectionId, mut stranger: Stranger, record: BytesMut) {
        match self.trace.judge_stranger(|| stranger.hear(record)) {
            Heard::Nothing => self.joins.resumptions.add_stranger(tcp, stranger),
            Heard::Instance(number) if self.is_lost_to(now, tcp, number) => {
                self.say_goodbye(tcp, &stranger);
                self.end_session(now, CloseReason::LostByServer);
            }
            Heard::Instance(_) | Heard::Unexpected => self.leave_stranger(now, tcp, &stranger),
        }
    }

    /// Whether another instance at the other end of `tcp` shows that the session is lost. Several servers may share a name
    /// and a certificate, or an attacker may have directed the join to one of them. So it does not while a TCP connection of
    /// the session answers, at an address where the session never was, or once the session was heard from after another
    /// instance had answered.
    fn is_lost_to(&mut self, now: Time, tcp: ConnectionId, instance: u64) -> bool {
        let own = self.control.parameters().peer_instance();
        if instance == 0 || own.is_none_or(|own| own == instance) {
            return false;
        }
        let before = self.joins.resumptions.note_other_instance(now);
        let lives_elsewhere = before.is_some_and(|before| self.last_heard > before);
        let answers = |entry: &Tcp<Carried>| {
            let liveness = entry.liveness();
            entry.is_up() && (!liveness.is_stalled() || now - liveness.judged_at() < SHORT_STALL)
        };
        !lives_elsewhere && !self.tcps.iter().any(answers) && self.was_at_remote_of(tcp)
    }

    /// Client: returns whether the answer to a join can show that the server has lost the session
    /// ([`CloseReason::LostByServer`]): joins are TLS resumptions, and the server has sent the ID of its instance.
    pub fn learns_of_loss(&self) -> bool {
        let parameters = self.control.parameters();
        let is_shown = matches!(self.identity.join_name, JoinName::Shown);
        is_shown
            && parameters.has_resumed_joins()
            && parameters.peer_instance().is_some()
            && self.keys.as_ref().is_some_and(|keys| keys.can_join())
    }

    /// Whether the server of the session had the remote address of `tcp`, or advertises it, as far as the driver sets
    /// addresses.
    fn was_at_remote_of(&self, tcp: ConnectionId) -> bool {
        let Some(remote) = self.tcps.get(tcp).and_then(|entry| entry.remote_address()) else { return true };
        let known = self.tcps.iter().chain(self.lost.values().map(|lost| &lost.tcp));
        self.control.is_advertised(remote)
            || self.joins.resumptions.began_at == Some(remote)
            || known.filter(|entry| entry.is_up()).any(|entry| entry.remote_address().is_none_or(|at| at == remote))
    }

    fn leave_stranger(&mut self, now: Time, tcp: ConnectionId, stranger: &Stranger) {
        self.say_goodbye(tcp, stranger);
        self.lose_tcp(now, tcp, TcpFault::JoinRefused, None);
    }

    fn say_goodbye(&mut self, tcp: ConnectionId, stranger: &Stranger) {
        self.tcps.get_mut(tcp).into_iter().for_each(|entry| entry.raw().extend(stranger.close_notify()));
    }
}
