//! Server: the records of a claim. The first that decrypts makes it a TCP connection of the session.

use bytes::BytesMut;

use super::claims::{Claim, ClaimId};
use crate::connection::Connection;
use crate::connection::carried::Carried;
use crate::connection::input::take_content;
use crate::connection::keys::KeyError;
use crate::connection::record::{Item, left};
use crate::connection::trace::{Event, Limit};
use crate::crypto::TAG_LEN;
use crate::error::{JoinRefusal, Violation};
use crate::tcp::deframer::next_record;
use crate::tcp::{Tcp, TcpState};
use crate::time::Time;
use crate::wire::ids::ConnectionId;
use crate::wire::record::{ContentType, HEADER_LEN, RecordHeader};

impl Connection {
    /// Reports received bytes of a claim. Removes complete records from `bytes`, as `handle_bytes` does, but leaves all
    /// while the handshake of the session is not complete.
    // draft I17
    pub fn handle_claim_bytes(&mut self, now: Time, claim: ClaimId, bytes: &mut BytesMut) -> Claim {
        self.trace.call(|_| Item::HandleClaimBytes { now, claim: claim.number(), len: bytes.len() });
        let outcome = self.take_claim_bytes(now, claim, bytes);
        self.trace.returned(|| left(bytes));
        outcome
    }

    fn take_claim_bytes(&mut self, now: Time, claim: ClaimId, bytes: &mut BytesMut) -> Claim {
        self.trace.set_now(now);
        self.joins.claims.came(now, claim, bytes.len());
        while self.established && self.joins.claims.is_waiting(claim) {
            match next_record(bytes) {
                Ok(None) => break,
                Ok(Some((header, record))) => self.handle_claim_record(now, claim, header, record),
                Err(error) => {
                    self.trace.bad_header(error);
                    self.refuse(claim, JoinRefusal::NotTls);
                }
            }
        }
        self.joins.claims.set_partial(claim, bytes.len());
        let outcome = self.claim(claim);
        match outcome {
            Claim::Authenticated(tcp) => self.take_bytes(now, tcp, bytes),
            Claim::Refused => bytes.clear(),
            Claim::Waiting => {}
        }
        outcome
    }

    fn handle_claim_record(&mut self, now: Time, id: ClaimId, header: RecordHeader, mut record: BytesMut) {
        self.trace.record(header);
        if self.joins.claims.is_foreign(id) {
            if !self.joins.claims.pass_on(id, &mut record) {
                self.refuse(id, JoinRefusal::Hello);
            }
            return;
        }
        match header.content_type {
            ContentType::ChangeCipherSpec if self.trace.judge_change_cipher_spec(|| record[HEADER_LEN..] == [1]) => {
                if self.joins.claims.exceeds_change_cipher_specs(id) {
                    self.refuse(id, JoinRefusal::Malformed);
                }
            }
            ContentType::ApplicationData => self.try_authenticate(now, id, record),
            ContentType::Alert => self.end_claim(id),
            _ => {
                self.joins.claims.pass_on(id, &mut record);
                self.refuse(id, JoinRefusal::Malformed);
            }
        }
    }

    /// Handles the first protected record of a claim: if it decrypts, the TCP connection joins the session.
    // draft I23
    fn try_authenticate(&mut self, now: Time, id: ClaimId, mut record: BytesMut) {
        let (Some(sequence), Some(keys)) = (self.joins.claims.sequence(id), &mut self.keys) else { return };
        let tcp = ConnectionId(sequence);
        if !self.joins.issued().is_some_and(|issued| issued.is_outstanding(sequence)) {
            return self.refuse(id, JoinRefusal::Token); // the client gave it up in the meantime
        }
        let (header, body) = record.split_at_mut(HEADER_LEN);
        let mut entry = Tcp::new(tcp, TcpState::Active, now);
        match entry.open_next(|tcp, at| keys.open_first(tcp, header, body).map(|first| *at = first)) {
            Ok(()) => {
                let bytes = record.len();
                record.truncate(record.len() - TAG_LEN);
                let asked = self.joins.claims.asked(id);
                asked.into_iter().for_each(|asked| entry.expect_rtt(now - asked));
                entry.expect_rate(self.expected_rate());
                self.admit(now, id, entry);
                let content = take_content(record);
                if self.trace.is_on() {
                    self.report_received(tcp, bytes, &content);
                }
                self.handle_opened(now, tcp, content);
            }
            Err(KeyError::IntegrityLimit) => self.fail_session(now, Violation::IntegrityLimit),
            Err(_) => {
                self.limits.bad_records += 1;
                self.trace.emit(|| Event::LimitReached { limit: Limit::BadRecord, tcp: None });
                self.joins.claims.pass_on(id, &mut record);
                self.refuse(id, JoinRefusal::NotAuthenticated);
            }
        }
    }

    /// Makes the claim a TCP connection of the session; refuses other claims of the same token.
    fn admit(&mut self, now: Time, id: ClaimId, mut entry: Tcp<Carried>) {
        let Some((answer, rivals, is_resumption)) = self.joins.claims.accept(id) else { return };
        if is_resumption {
            self.joins.resumptions.await_finished(entry.id());
        }
        self.trace.emit(|| Event::ClaimAccepted { claim: id, tcp: entry.id() });
        *entry.raw() = answer;
        if let Some(keys) = &self.keys {
            entry.begin_with(keys.seal_target());
        }
        self.burn_token(entry.id().0);
        rivals.into_iter().for_each(|rival| self.refuse(rival, JoinRefusal::Overtaken));
        self.adopt(now, entry);
        self.replenish_tokens();
    }
}
