//! The TLS handshake on the first TCP connection, and the start of the session.

use bytes::BytesMut;

use super::carried::Outgoing;
use super::keys::Keys;
use super::trace::{Content, Event};
use super::{Connection, Identity};
use crate::crypto::{Agreed, Handshake, JoinName, Offer};
use crate::error::{Alert, CloseReason, code};
use crate::tcp::Keep;
use crate::tcp::sent::Backlog;
use crate::time::Time;
use crate::wire::hello::peek_client_hello;
use crate::wire::ids::{ConnectionId, Side, Token};
use crate::wire::record::{ContentType, MAX_PLAINTEXT};

impl Connection {
    /// One TLS record of the handshake.
    pub(super) fn handle_handshake_record(&mut self, now: Time, mut record: BytesMut) {
        let Some(tls) = &mut self.handshake else { return };
        let outcome = tls.handle_record(&mut record);
        let is_last = tls.is_complete();
        let before = self.tcps.get_mut(ConnectionId::FIRST).map_or(0, |first| first.raw().len());
        self.flush_handshake();
        if let Err(error) = outcome {
            return self.fail_handshake(error);
        }
        if is_last && self.side == Side::Server {
            self.note_tickets(before);
        }
        self.send_half_rtt(now);
        self.take_early(now);
        if self.handshake.as_ref().is_some_and(|tls| tls.is_complete()) {
            self.finish_handshake(now);
        }
    }

    /// Server: parameters and first tokens as 0.5-RTT data, in the same flight as EncryptedExtensions, so that the client
    /// has a token as early as the draft's `tcpls_token` extension would give it one.
    fn send_half_rtt(&mut self, now: Time) {
        if self.side == Side::Client || self.control.parameters().is_sent() {
            return;
        }
        let Some(mut tls) = self.handshake.take() else { return };
        if tls.tcpls() == Some(true) {
            self.half_rtt_record(now, tls.as_mut());
        }
        self.handshake = Some(tls);
    }

    fn half_rtt_record(&mut self, now: Time, tls: &mut dyn Handshake) {
        if tls.is_draft_only() {
            self.control.leave_out_parameters();
        }
        self.control.owe_parameters();
        self.replenish_tokens();
        let mut frames = Outgoing::default();
        self.fill_control(ConnectionId::FIRST, MAX_PLAINTEXT, &mut frames);
        let Some(first) = self.tcps.get_mut(ConnectionId::FIRST) else { return };
        let before = first.raw().len();
        if tls.write_half_rtt(&frames.control, first.raw()) {
            let keep = Keep::Record { now, carried: &frames.carried, backlog: Backlog::None };
            let bytes = first.raw().len() - before;
            let seq = first.number_next(bytes, keep);
            let content = |frames| Content::of(ContentType::ApplicationData as u8, false, frames);
            self.trace.emit(|| Event::RecordSent { tcp: first.id(), seq, bytes, content: content(&frames.control) });
        } else {
            // A server that requests a client certificate sends nothing to a peer that has not presented one.
            frames.carried.iter().for_each(|item| _ = self.requeue(item));
        }
    }

    fn finish_handshake(&mut self, now: Time) {
        let Some(tls) = self.handshake.take() else { return };
        match tls.finish() {
            Ok(agreed) => self.establish(now, agreed),
            Err(error) => self.fail_handshake(error),
        }
    }

    // draft E08, I33
    fn establish(&mut self, now: Time, agreed: Agreed) {
        let Some(first) = self.tcps.get_mut(ConnectionId::FIRST) else { return };
        let ((sealed, seal), (opened, open)) = (agreed.seal, agreed.open);
        first.begin_at(sealed, opened);
        self.activate_first(now);
        let limits = (self.config.confidentiality_limit, self.config.integrity_limit);
        self.keys = Some(Keys::new(seal, sealed, open, agreed.schedule, limits.0, limits.1));
        self.plain = !agreed.tcpls;
        let spoilt = self.settle_early(now, agreed.early_data, agreed.application_protocol.as_deref());
        let join_name = self.name_for_joins(agreed.join_name, agreed.server_name.as_deref());
        let join_name = self.trace.judge_name(join_name);
        self.identity = Identity {
            application_protocol: agreed.application_protocol,
            alpn: agreed.alpn,
            server_name: agreed.server_name,
            join_name,
            peer_certificates: agreed.peer_certificates,
            suite: agreed.suite,
        };
        self.established = true;
        self.activity.note(now);
        if let Some(reason) = self.refuses_fallback(agreed.offer).or(spoilt) {
            self.say_farewell(now, code::NO_ERROR, &[], Alert::NoApplicationProtocol);
            return self.conclude(reason);
        }
        self.welcome(ConnectionId::FIRST);
        if self.plain {
            self.announce();
            self.start_plain();
            return self.confirm(now);
        }
        if let Some(token) = agreed.early_token {
            // A fresh store takes a first token; its number is 1 by definition (draft, 5.1.3).
            _ = self.joins.take_in(1, Token(token));
        }
        if agreed.draft_only {
            self.begin_draft_only();
            self.announce();
        }
        self.control.owe_parameters();
        self.replenish_tokens();
        self.release_claims();
        self.confirm(now);
    }

    /// Client: notes which name its ClientHello shows. Whatever encrypts another one, joins must not show that
    /// (decision D153). What is no TLS shows none.
    pub(super) fn note_shown_name(&mut self) {
        let Some(first) = self.tcps.get_mut(ConnectionId::FIRST) else { return };
        if let Ok(Some((hello, _))) = peek_client_hello(first.raw(), &self.extensions) {
            self.identity.join_name = JoinName::Public(hello.server_name);
        }
    }

    /// The name that joins show: what the TLS library asks for, or what the ClientHello has shown.
    fn name_for_joins(&mut self, asked: JoinName, session: Option<&str>) -> JoinName {
        match (asked, core::mem::take(&mut self.identity.join_name)) {
            (JoinName::Shown, JoinName::Public(shown)) if shown.as_deref() == session => JoinName::Shown,
            (JoinName::Shown, shown) => shown,
            (asked, _) => asked,
        }
    }

    /// Returns why this endpoint refuses a session without TCPLS, if it does (decision D112).
    fn refuses_fallback(&self, offer: Offer) -> Option<CloseReason> {
        match offer {
            Offer::Tcpls if self.plain => Some(CloseReason::NoTcpls),
            Offer::Protocols if self.identity.alpn.is_none() => Some(CloseReason::NoApplicationProtocol),
            _ => None,
        }
    }
}
