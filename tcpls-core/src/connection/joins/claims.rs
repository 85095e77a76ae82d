//! The server's side of a join: TCP connections that presented a token and are not authenticated.
//!
//! The token crosses the network in plaintext, so an eavesdropper may present it. Therefore the session does not use a
//! claim until one of its records decrypts under the session's keys. The first such claim takes the token; the others
//! are refused.

use std::collections::BTreeMap;

use bytes::BytesMut;

use super::client::random_key_share;
use super::tokens::Issued;
use crate::connection::Connection;
use crate::connection::keys::Keys;
use crate::connection::record::{Hello, Item, Returned};
use crate::connection::trace::Event;
use crate::crypto::{Handshake, plaintext_alert};
use crate::endpoint::{Join, JoinForm};
use crate::error::{AlertDescription, JoinRefusal};
use crate::tcp::life::Grace;
use crate::time::Time;
use crate::wire::hello::{CHANGE_CIPHER_SPEC, ClientHello, JoinServerHello};
use crate::wire::ids::ConnectionId;

/// TCP connections that may claim one token at once.
const MAX_PER_TOKEN: usize = 4;
/// Claims of one session at once, also during the handshake.
const MAX_CLAIMS: usize = 16;
/// Records of the apparent handshake after the hello: one ChangeCipherSpec, or two if the client repeats it.
const MAX_CHANGE_CIPHER_SPECS: u8 = 2;

/// Identifies a claim; unique in its session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClaimId(u32);

impl ClaimId {
    /// Returns its number, counted from 0 in each session, for logs.
    pub const fn number(self) -> u32 {
        self.0
    }

    /// The claim with this number, in a replay.
    pub(in crate::connection) const fn of(number: u32) -> Self {
        Self(number)
    }
}

/// The state of a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claim {
    /// It is not authenticated. Pass its bytes to `handle_claim_bytes`; buffer at most 64 KiB.
    Waiting,
    /// It is TCP connection `tcp` from now on: continue with `handle_bytes` and `poll_transmit`.
    Authenticated(ConnectionId),
    /// It is refused: send what `poll_claim_transmit` still returns, then close the socket.
    Refused,
}

/// The claims of a session.
#[derive(Default)]
pub(super) struct Claims {
    next: u32,
    waiting: BTreeMap<ClaimId, Waiting>,
    /// Decisions that the driver has not fetched: final bytes of refused claims, IDs of authenticated ones.
    decided: BTreeMap<ClaimId, Decided>,
}

enum Decided {
    Authenticated(ConnectionId),
    Refused(Vec<u8>, JoinRefusal),
}

struct Waiting {
    sequence: u32,
    deadline: Grace,
    /// When it was made, if records follow its hello only behind the answer to that.
    asked: Option<Time>,
    /// Bytes of an incomplete record.
    partial: usize,
    change_cipher_specs: u8,
    out: Vec<u8>,
    /// Kept until the handshake is complete and the hello can be checked.
    join: Option<Join>,
    /// Whether it is a TLS resumption.
    is_resumption: bool,
    /// The handshake of a resumption, which has answered the hello.
    tls: Option<Box<dyn Handshake>>,
    /// That handshake is not a resumption, and all records belong to it.
    is_foreign: bool,
}

impl Waiting {
    fn deadline(&self) -> Time {
        self.deadline.end(Time::ZERO)
    }

    /// Sets the number of bytes in the driver's buffer to `before`.
    fn came(&mut self, now: Time, before: usize) {
        if before > self.partial {
            self.deadline.renew(now);
        }
    }
}

impl Claims {
    /// TCP connection `tcp` is lost: forgets its claim.
    pub(super) fn forget_tcp(&mut self, tcp: ConnectionId) {
        self.decided.retain(|_, decided| !matches!(decided, Decided::Authenticated(id) if *id == tcp));
    }

    /// Bounds the memory of refused claims. A claim that is dropped here still reports `Refused`.
    fn forget_some(&mut self) {
        let is_refused = |(_, decided): &(&ClaimId, &Decided)| matches!(decided, Decided::Refused(..));
        while self.decided.iter().filter(is_refused).count() > 2 * MAX_CLAIMS {
            let Some(oldest) = self.decided.iter().find(is_refused).map(|(id, _)| *id) else { return };
            self.decided.remove(&oldest);
        }
    }

    /// Removes a claim that waits. Joins are rare: a map without any keeps no memory, which would be 1 KiB.
    fn end_waiting(&mut self, claim: ClaimId) -> Option<Waiting> {
        let waiting = self.waiting.remove(&claim);
        if self.waiting.is_empty() {
            self.waiting = BTreeMap::new();
        }
        waiting
    }

    pub(super) fn is_waiting(&self, claim: ClaimId) -> bool {
        self.waiting.contains_key(&claim)
    }

    /// Sets the number of bytes in the driver's buffer for a claim.
    pub(super) fn came(&mut self, now: Time, claim: ClaimId, len: usize) {
        self.waiting.get_mut(&claim).into_iter().for_each(|waiting| waiting.came(now, len));
    }

    /// Of those, `len` are the beginning of a record.
    pub(super) fn set_partial(&mut self, claim: ClaimId, len: usize) {
        self.waiting.get_mut(&claim).into_iter().for_each(|waiting| waiting.partial = len);
    }

    /// Counts a ChangeCipherSpec; returns whether it exceeds the limit.
    pub(super) fn exceeds_change_cipher_specs(&mut self, claim: ClaimId) -> bool {
        let Some(waiting) = self.waiting.get_mut(&claim) else { return false };
        waiting.change_cipher_specs += 1;
        waiting.change_cipher_specs > MAX_CHANGE_CIPHER_SPECS
    }

    /// The number of the token that a waiting claim presented.
    pub(super) fn sequence(&self, claim: ClaimId) -> Option<u32> {
        self.waiting.get(&claim).map(|waiting| waiting.sequence)
    }

    /// When it was made, if records follow its hello only behind the answer to that.
    pub(super) fn asked(&self, claim: ClaimId) -> Option<Time> {
        self.waiting.get(&claim).and_then(|waiting| waiting.asked)
    }

    /// Authenticates the claim; returns its pending bytes, the other claims of the same token, and whether it is a resumption.
    pub(super) fn accept(&mut self, claim: ClaimId) -> Option<(Vec<u8>, Vec<ClaimId>, bool)> {
        let accepted = self.end_waiting(claim)?;
        self.decided.insert(claim, Decided::Authenticated(ConnectionId(accepted.sequence)));
        let rivals = self.waiting.iter().filter(|(_, other)| other.sequence == accepted.sequence);
        let rivals = rivals.map(|(rival, _)| *rival).collect();
        Some((accepted.out, rivals, accepted.is_resumption))
    }

    /// The TLS library of a resumption answers a record that is none of the session's as one of its own. Returns whether its
    /// handshake goes on.
    pub(super) fn pass_on(&mut self, claim: ClaimId, record: &mut [u8]) -> bool {
        let Some(Waiting { tls: Some(tls), out, .. }) = self.waiting.get_mut(&claim) else { return false };
        let outcome = tls.handle_record(record);
        tls.write(out);
        outcome.is_ok() && !tls.is_complete()
    }

    /// Whether the records of a claim belong to a handshake that is not a resumption.
    pub(super) fn is_foreign(&self, claim: ClaimId) -> bool {
        self.waiting.get(&claim).is_some_and(|waiting| waiting.is_foreign)
    }

    /// The handshakes of the claims that wait.
    pub(super) fn handshakes(&self) -> usize {
        self.waiting.values().filter(|waiting| waiting.tls.is_some()).count()
    }

    /// The number of claims that wait, or whose decision the driver has not fetched.
    pub(super) fn len(&self) -> usize {
        self.waiting.len() + self.decided.len()
    }

    /// When the first claim has waited long enough.
    pub(super) fn deadline(&self) -> Option<Time> {
        self.waiting.values().map(Waiting::deadline).min()
    }
}

impl Connection {
    /// Server: reports a TCP connection that presented a token of this session. Pass its bytes to
    /// [`Connection::handle_claim_bytes`], and send what [`Connection::poll_claim_transmit`] returns. An invalid join
    /// is a claim that is [`Claim::Refused`].
    // draft E10
    pub fn handle_join(&mut self, now: Time, join: Join) -> ClaimId {
        self.trace.call(|privacy| Item::HandleJoin {
            now,
            session: privacy.session(join.session),
            sequence: join.sequence,
            hello: Hello(privacy.hello(&join.hello)),
            resumption: match &join.form {
                JoinForm::Extension => None,
                JoinForm::Resumption(records) => Some(records.len() as u64),
            },
        });
        let id = self.begin_claim(now, join);
        self.trace.returned(|| Returned::Value(id.0.into()));
        id
    }

    fn begin_claim(&mut self, now: Time, join: Join) -> ClaimId {
        let id = ClaimId(self.joins.claims.next);
        self.joins.claims.next = self.joins.claims.next.wrapping_add(1);
        let sequence = join.sequence;
        self.trace.set_now(now);
        self.trace.emit(|| Event::ClaimMade { claim: id, tcp: ConnectionId(sequence) });
        if let Err(refusal) = self.may_claim(&join) {
            self.refuse_new(id, refusal, join.is_resumption());
            return id;
        }
        let deadline = self.join_grace(now);
        let asked = (!join.hello.early_data).then_some(now);
        let is_resumption = join.is_resumption();
        let waiting = Waiting {
            sequence,
            deadline,
            asked,
            partial: 0,
            change_cipher_specs: 0,
            out: Vec::new(),
            join: Some(join),
            is_resumption,
            tls: None,
            is_foreign: false,
        };
        self.joins.claims.waiting.insert(id, waiting);
        if self.established {
            self.judge_hello(id);
        }
        id
    }

    /// Server: returns whether a join gets the answer of a new session, by [`Endpoint::decline_join`], instead of becoming a
    /// claim: if it is a TLS resumption, and the session would refuse it. A server whose TLS library does not know a ticket goes
    /// on with a full handshake. The draft's joins are never turned away, but refused as claims.
    ///
    /// [`Endpoint::decline_join`]: crate::Endpoint::decline_join
    pub fn turns_away(&self, join: &Join) -> bool {
        join.is_resumption()
            && (!self.control.parameters().has_resumed_joins()
                || self.may_claim(join).is_err()
                || self.established && !(self.fits(&join.hello) && self.keys.as_ref().is_some_and(Keys::can_join)))
    }

    /// Reports that the socket of a claim has ended.
    pub fn handle_claim_end(&mut self, claim: ClaimId) {
        self.trace.call(|_| Item::HandleClaimEnd { claim: claim.0 });
        self.end_claim(claim);
    }

    pub(in crate::connection) fn end_claim(&mut self, claim: ClaimId) {
        self.joins.claims.end_waiting(claim);
        self.joins.claims.decided.remove(&claim);
    }

    /// Returns the state of a claim, which every call on the session can change. A claim that never existed, or has
    /// ended, is refused.
    pub fn claim(&self, claim: ClaimId) -> Claim {
        match self.joins.claims.decided.get(&claim) {
            Some(Decided::Authenticated(tcp)) => Claim::Authenticated(*tcp),
            Some(Decided::Refused(..)) => Claim::Refused,
            None if self.joins.claims.waiting.contains_key(&claim) => Claim::Waiting,
            None => Claim::Refused,
        }
    }

    /// Returns why a claim is refused, until [`Connection::handle_claim_end`]; `None` if it is not, or no longer remembered.
    pub fn claim_refusal(&self, claim: ClaimId) -> Option<JoinRefusal> {
        match self.joins.claims.decided.get(&claim) {
            Some(Decided::Refused(_, refusal)) => Some(*refusal),
            _ => None,
        }
    }

    /// Appends the bytes to send on a claim's socket, the answer to its hello or an alert, and returns their number.
    pub fn poll_claim_transmit(&mut self, claim: ClaimId, out: &mut Vec<u8>) -> usize {
        self.trace.call(|_| Item::PollClaimTransmit { claim: claim.0 });
        let written = self.take_claim_output(claim, out);
        self.trace.returned(|| Returned::Value(written as u64));
        written
    }

    fn take_claim_output(&mut self, claim: ClaimId, out: &mut Vec<u8>) -> usize {
        let from = match (self.joins.claims.waiting.get_mut(&claim), self.joins.claims.decided.get_mut(&claim)) {
            (Some(waiting), _) => &mut waiting.out,
            (None, Some(Decided::Refused(alert, _))) => alert,
            _ => return 0,
        };
        let written = from.len();
        out.append(from);
        written
    }

    // draft I14
    fn may_claim(&self, join: &Join) -> Result<(), JoinRefusal> {
        let of_same = self.joins.claims.waiting.values().filter(|waiting| waiting.sequence == join.sequence).count();
        let is_good = |issued: &Issued| join.session == issued.session() && issued.is_outstanding(join.sequence);
        if !self.is_open() || self.plain {
            Err(JoinRefusal::Closing)
        } else if !self.joins.issued().is_some_and(is_good) {
            Err(JoinRefusal::Token)
        } else if of_same >= MAX_PER_TOKEN || self.joins.claims.waiting.len() >= MAX_CLAIMS {
            Err(JoinRefusal::Crowded)
        } else {
            Ok(())
        }
    }

    /// Checks the hello against the server name, protocol and suite of the session, and answers it.
    fn judge_hello(&mut self, id: ClaimId) {
        let Some(join) = self.joins.claims.waiting.get_mut(&id).and_then(|waiting| waiting.join.take()) else { return };
        let hello = &join.hello;
        if !self.fits(hello) {
            return self.refuse(id, JoinRefusal::Hello);
        }
        if let JoinForm::Resumption(records) = join.form {
            return self.answer_resumption(id, *records);
        }
        let answer = JoinServerHello {
            random: self.rng.bytes(),
            session_id: &hello.session_id,
            suite: self.identity.suite,
            key_share: random_key_share(&mut self.rng),
            psk: hello.psk,
        };
        if let Some(waiting) = self.joins.claims.waiting.get_mut(&id) {
            answer.encode(&mut waiting.out);
            waiting.out.extend_from_slice(&CHANGE_CIPHER_SPEC);
        }
    }

    fn fits(&self, hello: &ClientHello) -> bool {
        let cover = self.joins.cover.as_deref();
        (hello.server_name == self.identity.server_name
            || cover.is_some_and(|cover| cover.fits(hello.server_name.as_deref())))
            && self.identity.alpn.as_ref().is_none_or(|alpn| hello.alpn.contains(alpn))
            && hello.suites.contains(&self.identity.suite)
            && hello.supports_tls13
    }

    /// The TLS library answers a join as it answers a resumption. If it does not take it as one, but goes on, the claim does
    /// so until that handshake ends: the session has no use for it.
    fn answer_resumption(&mut self, id: ClaimId, mut records: BytesMut) {
        let token = self.joins.claims.sequence(id).and_then(|sequence| self.joins.value(sequence));
        let started = token.zip(self.keys.as_mut()).and_then(|(token, keys)| keys.join(&token, true));
        let (Some(mut tls), Some(waiting)) = (started, self.joins.claims.waiting.get_mut(&id)) else {
            return self.refuse(id, JoinRefusal::Hello);
        };
        let outcome = tls.handle_record(&mut records);
        tls.write(&mut waiting.out);
        waiting.is_foreign = !tls.is_resumed();
        waiting.tls = Some(tls);
        if outcome.is_err() {
            self.refuse(id, JoinRefusal::Hello);
        }
    }

    fn refuse_new(&mut self, id: ClaimId, refusal: JoinRefusal, is_resumption: bool) {
        self.refuse(id, refusal);
        if let (true, Some(Decided::Refused(last, _))) = (is_resumption, self.joins.claims.decided.get_mut(&id)) {
            last.clear(); // a TLS library has no such alert
        }
    }

    pub(super) fn refuse(&mut self, id: ClaimId, refusal: JoinRefusal) {
        let alert = refusal.alert();
        self.limits.claims_refused += 1;
        self.trace.emit(|| Event::ClaimRefused { claim: id, alert: AlertDescription(alert as u8) });
        // A resumption gets the answers of the TLS library alone.
        let resumption = self.joins.claims.end_waiting(id).filter(|waiting| waiting.is_resumption);
        let last = resumption.map_or_else(|| plaintext_alert(alert).to_vec(), |waiting| waiting.out);
        self.joins.claims.decided.insert(id, Decided::Refused(last, refusal));
        self.joins.claims.forget_some();
    }

    /// The handshake is complete: checks the joins that arrived before.
    // draft I17
    pub(in crate::connection) fn release_claims(&mut self) {
        let early: Vec<ClaimId> = self.joins.claims.waiting.keys().copied().collect();
        early.into_iter().for_each(|claim| self.judge_hello(claim));
    }

    /// Refuses all claims.
    pub(in crate::connection) fn drop_claims(&mut self) {
        let all: Vec<ClaimId> = self.joins.claims.waiting.keys().copied().collect();
        all.into_iter().for_each(|claim| self.refuse(claim, JoinRefusal::Closing));
    }

    /// Refuses overdue claims and burns their tokens, which were visible on the wire.
    pub(in crate::connection) fn expire_claims(&mut self, now: Time) {
        let late = |(_, waiting): &(&ClaimId, &Waiting)| waiting.deadline() <= now;
        let expired: Vec<(ClaimId, u32)> =
            self.joins.claims.waiting.iter().filter(late).map(|(id, waiting)| (*id, waiting.sequence)).collect();
        for (claim, sequence) in expired {
            self.refuse(claim, JoinRefusal::Timeout);
            let contested = self.joins.claims.waiting.values().any(|waiting| waiting.sequence == sequence);
            if !contested {
                self.burn_token(sequence);
            }
            self.replenish_tokens();
        }
    }
}
