//! Stream data that is sent before the handshake is complete: early data of a client, 0.5-RTT data of a server.

use arrayvec::ArrayVec;

use super::{MAX_HALF_RTT_RECORDS, RECORD_OVERHEAD};
use crate::connection::Connection;
use crate::connection::carried::{Carried, Outgoing};
use crate::connection::chunks::MAX_CHUNKS;
use crate::connection::trace::{Content, Event};
use crate::crypto::Handshake;
use crate::stream::Chunk;
use crate::tcp::Keep;
use crate::tcp::sent::Backlog;
use crate::time::Time;
use crate::wire::frame::STREAM_OVERHEAD;
use crate::wire::ids::{ConnectionId, Side};
use crate::wire::record::{ContentType, MAX_PLAINTEXT};

/// The content of one record without a number.
struct Ahead {
    bytes: Vec<u8>,
    carried: Vec<Carried>,
}

impl Connection {
    /// Sends stream data before the handshake is complete: all that is allowed on a client, one record on a server.
    pub(in crate::connection) fn send_early(&mut self, now: Time, tcp: ConnectionId) {
        if self.established || !self.has_early_data(tcp) {
            return;
        }
        let Some(mut tls) = self.handshake.take() else { return };
        match self.side {
            Side::Client => while self.has_more_early_data() && self.early_record(now, tls.as_mut()) {},
            Side::Server => self.answer_record(now, tls.as_mut()),
        }
        self.handshake = Some(tls);
    }

    fn has_more_early_data(&self) -> bool {
        self.early_data() > 0 && self.streams.has_data(ConnectionId::FIRST)
    }

    fn early_record(&mut self, now: Time, tls: &mut dyn Handshake) -> bool {
        self.control.owe_parameters();
        let content = self.content_ahead(now, self.early.left.0.min(MAX_PLAINTEXT));
        let Some(first) = self.tcps.get_mut(ConnectionId::FIRST) else { return false };
        if !tls.write_early(&content.bytes, first.raw()) {
            self.take_back(&content.carried);
            self.early.left = (0, 0);
            return false;
        }
        self.early.left = (self.early.left.0 - content.bytes.len(), self.early.left.1 - 1);
        self.early.sent += content.bytes.len();
        let (tcp, bytes) = (ConnectionId::FIRST, content.bytes.len() + RECORD_OVERHEAD);
        let frames = || Content::of(ContentType::ApplicationData as u8, false, &content.bytes);
        self.trace.emit(|| Event::EarlySent { tcp, bytes, content: frames() });
        self.early.carried.extend_from_slice(&content.carried);
        true
    }

    /// Server: stream data as 0.5-RTT data, once the socket has taken what was sealed before.
    fn answer_record(&mut self, now: Time, tls: &mut dyn Handshake) {
        if self.tcps.get(ConnectionId::FIRST).is_none_or(|first| first.has_raw()) {
            return;
        }
        let content = self.content_ahead(now, MAX_PLAINTEXT);
        let Some(first) = self.tcps.get_mut(ConnectionId::FIRST) else { return };
        if tls.write_half_rtt(&content.bytes, first.raw()) {
            let bytes = first.raw().len();
            let seq = first.number_next(bytes, Keep::Record { now, carried: &content.carried, backlog: Backlog::None });
            let frames = Content::of(ContentType::ApplicationData as u8, false, &content.bytes);
            self.trace.emit(|| Event::RecordSent { tcp: ConnectionId::FIRST, seq, bytes, content: frames });
            self.early.half_rtt_records += 1;
        } else {
            self.take_back(&content.carried);
            self.early.half_rtt_records = MAX_HALF_RTT_RECORDS;
        }
    }

    /// The TLS library seals nothing now.
    fn take_back(&mut self, carried: &[Carried]) {
        let bytes = carried.iter().map(|item| self.requeue(item)).sum();
        self.count_again(bytes);
    }

    /// Counts bytes that TCP connection 0 carried in vain.
    pub(super) fn count_again(&mut self, bytes: u64) {
        self.tcps.get_mut(ConnectionId::FIRST).into_iter().for_each(|first| first.requeued(bytes));
    }

    /// Pieces of stream data, and the Session Parameters if they are due, at most `max` bytes.
    fn content_ahead(&mut self, now: Time, max: usize) -> Ahead {
        let mut frames = Outgoing::default();
        self.fill_parameters(&mut frames);
        let (mut chunks, mut budget) = (ArrayVec::<Chunk, MAX_CHUNKS>::new(), max.saturating_sub(frames.control.len()));
        while budget > STREAM_OVERHEAD && !chunks.is_full() {
            let Some(chunk) = self.streams.next_chunk(ConnectionId::FIRST, budget - STREAM_OVERHEAD) else { break };
            budget -= STREAM_OVERHEAD + usize::from(chunk.len);
            chunks.push(chunk);
        }
        chunks.sort_by_key(|chunk| core::cmp::Reverse(chunk.len));
        let mut bytes = Vec::with_capacity(max - budget + frames.control.len());
        self.write_chunks(now, ConnectionId::FIRST, &chunks, &mut bytes);
        bytes.extend_from_slice(&frames.control);
        let mut carried = frames.carried;
        carried.extend(chunks.iter().map(|chunk| Carried::Chunk(*chunk)));
        Ahead { bytes, carried }
    }
}
