//! How much the application may write: a session holds only data that it can send soon.
//!
//! A written byte is in flight, has credit of its stream *and* of the session, or is *excess*. Excess is bounded for
//! all streams together, so that a peer that grants no credit costs little memory. A stream without credit takes only
//! excess: it cannot block another that has credit. The send buffer bounds the bytes in flight or with credit,
//! regardless of what the peer grants. The last part of it, and of the session's credit, is reserved for streams that hold
//! little, so that a bulk transfer does not block a request.

use super::{Shared, Stream, Streams};
use crate::event::StreamEvent;
use crate::wire::ids::StreamId;

/// Maximum of excess bytes of all streams together: they can be sent when credit arrives, before the application has
/// written more.
const MAX_EXCESS: u64 = 64 << 10;
/// The part of the session's send buffer that is reserved for streams that hold little: an eighth of it, at most this.
const MAX_RESERVE: usize = 1 << 20;
/// The part of the session's credit that is reserved for them: an eighth of the peer's first grant, at most this. A
/// receiver renews its limit long before so little is left.
const MAX_CREDIT_RESERVE: u64 = 256 << 10;
/// The most that a stream may take of each.
const LITTLE: usize = 64 << 10;
/// The most that the one stream of a plain session may hold. There is no credit; sealed data is in TCP's buffers.
const MAX_PLAIN: usize = 256 << 10;

/// Written data that is dropped when the peer stops a stream: wasted work of the application.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Waste {
    /// Bytes that were never sent.
    pub(crate) unsent: u64,
    /// The peer's own credit kept some of them from going out, or the application from writing them.
    pub(crate) lacked_credit: bool,
}

/// What streams share of the room to write: where one of these is 0, or no more than the reserve, streams may be blocked for
/// want of it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shares {
    /// Of the session's send buffer.
    buffer: usize,
    /// How much of that is left to streams that hold little.
    reserve: usize,
    /// Of the session's credit.
    credit: u64,
    /// How much of that is left to streams that hold little.
    credit_reserve: u64,
    /// Of the excess.
    excess: u64,
    /// The same for streams that hold much, which the reserve of the credit does not help.
    bulk_excess: u64,
}

impl Shares {
    /// Whether there is room again that was used up at `before`.
    fn are_back_since(self, before: Shares) -> bool {
        before.buffer <= before.reserve && self.buffer > before.buffer
            || before.credit <= before.credit_reserve && self.credit > before.credit
            || before.bulk_excess == 0 && self.excess > before.excess
    }
}

impl Streams {
    /// Wakes streams that were blocked by a shared limit, if there is more room than at `before`.
    pub(super) fn wake_writers_after(&mut self, before: Shares) {
        if !self.shared.shares().are_back_since(before) {
            return;
        }
        let mut next = 0;
        while let Some(id) = self.shared.blocked.get(next) {
            match self.map.get_mut(&id) {
                Some(stream) => self.shared.wake_writer(id, stream),
                None => self.shared.blocked.remove(id),
            }
            // Those that were woken are not in the list any more.
            next += usize::from(self.shared.blocked.get(next) == Some(id));
        }
    }
}

impl Shared {
    /// A plain session has no credit that could bound what it holds.
    pub(super) fn bound_plain(&mut self) {
        let limits = &mut self.limits;
        limits.send_buffer = limits.send_buffer.min(MAX_PLAIN);
    }

    /// Returns the shared room, if any stream is blocked.
    pub(super) fn shares_if_blocked(&self) -> Option<Shares> {
        (!self.blocked.is_empty()).then(|| self.shares())
    }

    /// The same, if any stream but this one is blocked.
    #[inline]
    pub(super) fn shares_if_others_are_blocked(&self, stream: &Stream) -> Option<Shares> {
        (self.blocked.len() > usize::from(stream.blocked)).then(|| self.shares())
    }

    /// Returns the shared room.
    fn shares(&self) -> Shares {
        Shares {
            buffer: self.limits.send_buffer.saturating_sub(self.buffered_to_send),
            reserve: if self.plain { 0 } else { MAX_RESERVE.min(self.limits.send_buffer / 8) },
            credit: self.credit.left().saturating_sub(self.fresh),
            credit_reserve: self.credit_reserve,
            excess: self.excess(0),
            bulk_excess: self.excess(self.credit_reserve),
        }
    }

    /// Reserves a part of the credit, of which the peer's Session Parameters grant this much.
    pub(super) fn reserve_credit(&mut self, first_grant: u64) {
        self.credit_reserve = MAX_CREDIT_RESERVE.min(first_grant / 8);
    }

    /// How much may be written beyond what can be sent, if `reserve` of the session's credit is not to be used.
    fn excess(&self, reserve: u64) -> u64 {
        let overdrawn = self.fresh.saturating_add(reserve).saturating_sub(self.credit.left());
        MAX_EXCESS.saturating_sub(self.beyond.saturating_add(overdrawn))
    }

    /// How many bytes may be written to `stream`.
    pub(super) fn room_for(&self, stream: &Stream) -> usize {
        let shares = self.shares();
        let unused = stream.send.credit_left().saturating_sub(stream.send.unsent());
        let held = stream.send.buffered();
        let little = LITTLE.saturating_sub(held);
        let much = unused.min(shares.credit.saturating_sub(shares.credit_reserve)).saturating_add(shares.bulk_excess);
        let sendable = if much < little as u64 {
            much.max(unused.min(shares.credit).saturating_add(shares.excess).min(little as u64))
        } else {
            much
        };
        let room = usize::try_from(sendable.min(stream.send.offsets_left())).unwrap_or(usize::MAX);
        let common = shares.buffer.saturating_sub(shares.reserve).saturating_add(little);
        room.min(self.limits.stream_send_buffer.saturating_sub(held)).min(common.min(shares.buffer))
    }

    /// Returns the data that is dropped with the unsent data of `stream`.
    pub(super) fn waste(&self, stream: &Stream) -> Waste {
        let unsent = stream.send.unsent();
        let sendable = stream.send.credit_left().min(self.credit.left());
        Waste { unsent, lacked_credit: unsent > sendable || stream.blocked && unsent == sendable }
    }

    /// Reports a due Writable event of a stream, if it could write.
    pub(super) fn wake_writer(&mut self, id: StreamId, stream: &mut Stream) {
        let can_write = stream.send.check_open().is_ok();
        if can_write && self.room_for(stream) == 0 {
            return;
        }
        stream.blocked = false;
        self.blocked.remove(id);
        if can_write {
            self.events.push_back(StreamEvent::Writable { id });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{client, streams};
    use super::*;
    use crate::config::Config;
    use crate::error::WriteError;
    use crate::wire::ids::{ConnectionId, Side};

    use proptest::prelude::*;

    const TCP: ConnectionId = ConnectionId(0);
    const EXCESS: usize = MAX_EXCESS as usize;

    /// A client with the default bounds whose peer grants this much, and `N` streams of it.
    fn granted<const N: usize>(session: u64, stream: u64) -> (Streams, [StreamId; N]) {
        let mut client = Streams::new(Side::Client, &Config::default());
        client.set_peer_limits(session, stream, 128);
        let ids = [(); N].map(|()| client.open().unwrap());
        (client, ids)
    }

    /// Writes until it is refused; how much that was.
    fn fill(streams: &mut Streams, id: StreamId) -> usize {
        let mut written = 0;
        loop {
            match streams.write(id, &[7; 50_000]) {
                Ok(taken) => written += taken,
                Err(error) => {
                    assert_eq!(error, WriteError::Blocked);
                    return written;
                }
            }
        }
    }

    fn send_all(streams: &mut Streams) -> usize {
        core::iter::from_fn(|| streams.next_chunk(TCP, 16_384)).map(|chunk| usize::from(chunk.len)).sum()
    }

    fn woken(streams: &mut Streams) -> Vec<StreamId> {
        let events = core::iter::from_fn(|| streams.poll_event());
        events.filter_map(|event| if let StreamEvent::Writable { id } = event { Some(id) } else { None }).collect()
    }

    #[test]
    fn a_session_without_credit_holds_64_kib_over_all_streams() {
        let (mut client, ids) = granted::<100>(0, 0);
        let held: usize = ids.into_iter().map(|id| fill(&mut client, id)).sum();
        assert_eq!((held, client.buffered_to_send()), (EXCESS, EXCESS));
    }

    #[test]
    fn a_session_holds_what_is_in_flight_and_has_credit_and_64_kib() {
        let (mut client, [a, b, c, d]) = granted(1_000_000, 600_000);
        assert_eq!((fill(&mut client, a), fill(&mut client, b)), (600_000 + EXCESS, 400_000 - 125_000));
        assert_eq!((fill(&mut client, c), fill(&mut client, d)), (LITTLE, 125_000 - LITTLE));
        assert_eq!(send_all(&mut client), 1_000_000);
        assert_eq!((fill(&mut client, a), fill(&mut client, b)), (0, 0), "what is in flight is held, too");
        client.handle_max_stream_data(a, 700_000).unwrap();
        client.handle_max_data(1_175_000);
        assert_eq!(fill(&mut client, a) + fill(&mut client, b), 50_000);
    }

    #[test]
    fn bulk_leaves_the_last_of_the_sessions_credit_to_streams_that_hold_little() {
        let (mut client, [bulk, request]) = granted(2 << 20, 16 << 20);
        assert_eq!(fill(&mut client, bulk), (2 << 20) - MAX_CREDIT_RESERVE as usize + EXCESS);
        assert_eq!(send_all(&mut client), (2 << 20) - MAX_CREDIT_RESERVE as usize + EXCESS);
        assert_eq!(client.write(request, b"a request"), Ok(9));
        assert_eq!(send_all(&mut client), 9);
        client.handle_max_data((2 << 20) + 9);
        assert_eq!(woken(&mut client), []);
        client.handle_max_data(3 << 20);
        assert_eq!(woken(&mut client), [bulk]);
    }

    #[test]
    fn credit_of_2_to_the_62_leaves_the_send_buffer_as_the_bound() {
        let (mut client, ids) = granted::<8>(1 << 62, 1 << 62);
        assert_eq!(fill(&mut client, ids[0]), 16 << 20);
        let others: usize = ids[1..].iter().map(|id| fill(&mut client, *id)).sum();
        assert_eq!((others, client.buffered_to_send()), ((15 << 20) + 6 * LITTLE, (31 << 20) + 6 * LITTLE));
    }

    #[test]
    fn bulk_leaves_the_last_of_the_send_buffer_to_streams_that_hold_little() {
        let (mut client, [a, b, c, d]) = granted(1 << 62, 1 << 62);
        for id in [a, b] {
            fill(&mut client, id);
        }
        assert_eq!(client.write(c, b"a request"), Ok(9));
        assert_eq!((fill(&mut client, c), fill(&mut client, d)), (LITTLE - 9, LITTLE));
        assert_eq!(woken(&mut client), []);
        let chunk = client.next_chunk(TCP, 16_384).unwrap();
        client.chunk_acked(&chunk);
        assert_eq!((chunk.id, woken(&mut client)), (a, vec![]), "the reserve is filled up first");
        while !woken(&mut client).iter().any(|id| [a, b].contains(id)) {
            let chunk = client.next_chunk(TCP, 16_384).unwrap();
            client.chunk_acked(&chunk);
        }
        assert!(client.buffered_to_send() < 31 << 20);
    }

    #[test]
    fn streams_without_credit_leave_a_third_what_has_credit() {
        let (mut client, [a, b, c]) = granted(32 << 20, 1 << 20);
        for id in [a, b] {
            fill(&mut client, id);
            send_all(&mut client);
            fill(&mut client, id);
        }
        assert_eq!(client.write(c, b"still here"), Ok(10));
    }

    #[test]
    fn credit_of_one_stream_wakes_all_that_it_leaves_excess_to() {
        let (mut client, [a, b, c]) = granted(1 << 20, 0);
        assert_eq!(fill(&mut client, a), EXCESS);
        assert_eq!(fill(&mut client, b) + fill(&mut client, c), 0);
        assert_eq!(woken(&mut client), []);
        client.handle_max_stream_data(a, 1_000).unwrap();
        assert_eq!(woken(&mut client), [a, b, c]);
        assert_eq!((fill(&mut client, b), fill(&mut client, a)), (1_000, 0));
    }

    #[test]
    fn credit_of_the_session_wakes_writers() {
        let (mut client, [a]) = granted(1_000, 1 << 20);
        assert_eq!(fill(&mut client, a), 1_000 - 125 + EXCESS, "an eighth is reserved");
        client.handle_max_data(1_001);
        assert_eq!(woken(&mut client), [a]);
        assert_eq!(fill(&mut client, a), 1);
        client.handle_max_data(900);
        assert_eq!(woken(&mut client), []);
    }

    #[test]
    fn reset_stream_frees_its_excess_for_others() {
        let (mut client, [a, b]) = granted(0, 0);
        fill(&mut client, a);
        assert_eq!(fill(&mut client, b), 0);
        client.handle_stop_sending(a, crate::wire::ids::ErrorCode(1)).unwrap();
        assert_eq!(woken(&mut client), [b]);
        assert_eq!(fill(&mut client, b), EXCESS);
    }

    #[test]
    fn a_plain_session_holds_256_kib_and_less_if_that_is_configured() {
        let mut plain = Streams::new(Side::Server, &Config::default());
        plain.make_plain();
        let only = StreamId(0);
        assert_eq!(fill(&mut plain, only), MAX_PLAIN);
        let sealed = plain.next_chunk(TCP, 16_384).unwrap();
        plain.chunk_acked(&sealed);
        assert_eq!(fill(&mut plain, only), 16_384, "what was sealed is out");
        let small = Config { send_buffer: 1_000, ..Config::default() };
        let mut plain = streams(Side::Server, &small);
        plain.make_plain();
        assert_eq!(fill(&mut plain, only), 1_000);
    }

    #[test]
    fn requeued_data_is_held_and_needs_no_credit() {
        let mut client = client();
        let a = client.open().unwrap();
        assert_eq!(client.write(a, &[0; 600]), Ok(600));
        let chunk = client.next_chunk(TCP, 400).unwrap();
        client.chunk_lost(&chunk);
        assert_eq!(client.write(a, b"x"), Err(WriteError::Blocked));
        let chunk = client.next_chunk(TCP, 400).unwrap();
        client.chunk_acked(&chunk);
        assert_eq!(client.write(a, b"x"), Ok(1));
    }

    /// Checks the bounds, and that no stream waits that could write.
    fn check(streams: &Streams) {
        let shared = &streams.shared;
        let unsent: u64 = streams.map.values().map(|s| s.send.unsent()).sum();
        assert!(unsent <= shared.credit.left() + MAX_EXCESS);
        assert!(shared.buffered_to_send <= shared.limits.send_buffer);
        let waits = |id| shared.room_for(&streams.map[id]) == 0;
        assert!(shared.blocked.iter().all(waits), "a writer with room was not woken");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn no_writer_with_room_stays_blocked(
            steps in proptest::collection::vec((0u8..6, 0usize..4, 0usize..90_000), 1..300),
        ) {
            let config = Config { send_buffer: 200_000, stream_send_buffer: 120_000, ..Config::default() };
            let mut client = Streams::new(Side::Client, &config);
            client.set_peer_limits(50_000, 20_000, 128);
            let ids = [(); 4].map(|()| client.open().unwrap());
            let (mut chunks, mut session, mut each) = (Vec::new(), 50_000, [20_000; 4]);
            for (what, which, amount) in steps {
                match what {
                    0 | 1 => _ = client.write(ids[which], &vec![0; amount]),
                    2 => chunks.extend(client.next_chunk(TCP, amount)),
                    3 if !chunks.is_empty() => {
                        let chunk = chunks.swap_remove(amount % chunks.len());
                        if which == 0 { _ = client.chunk_lost(&chunk) } else { client.chunk_acked(&chunk) }
                    }
                    4 => {
                        session += amount as u64;
                        client.handle_max_data(session);
                    }
                    5 => {
                        each[which] += amount as u64;
                        client.handle_max_stream_data(ids[which], each[which]).unwrap();
                    }
                    _ => {}
                }
                check(&client);
            }
        }
    }
}
