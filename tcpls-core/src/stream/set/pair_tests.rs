//! Two sides driven directly: chunks and control frames are lost, reordered and duplicated between them, and everything
//! must come to its end.

use proptest::prelude::*;

use super::Streams;
use super::tests::{config, streams};
use super::update::Load;
use crate::config::Config;
use crate::error::{ReadError, WriteError};
use crate::stream::{Chunk, Control, ControlKey};
use crate::wire::ids::{ConnectionId, ErrorCode, Side, StreamId};

const A: ConnectionId = ConnectionId(0);
/// After this many steps nothing is lost any more.
const CALM: usize = 2000;

/// Two sides, and what is on its way between them on any number of TCP connections: chunks are carried or lost in any
/// order, and a chunk that was carried may still be reported lost (its acknowledgment was).
struct Pair {
    sides: [Streams; 2],
    chunks: [Vec<Chunk>; 2],
    controls: [Vec<Control>; 2],
}

impl Pair {
    fn new() -> Self {
        // Chunks arrive in any order here: that is not the peer's fault.
        let config = Config { max_gaps: 1024, ..config() };
        let sides = [streams(Side::Client, &config), streams(Side::Server, &config)];
        Self { sides, chunks: Default::default(), controls: Default::default() }
    }

    fn send(&mut self, from: usize, max: usize) -> bool {
        let control = self.sides[from].next_control();
        let chunk = self.sides[from].next_chunk(A, max);
        self.controls[from].extend(control);
        self.chunks[from].extend(chunk);
        control.is_some() || chunk.is_some()
    }

    fn chunk_fate(&mut self, from: usize, pick: usize, arrives: bool, acked: bool) {
        if self.chunks[from].is_empty() {
            return;
        }
        let pick = pick % self.chunks[from].len();
        let chunk = self.chunks[from].swap_remove(pick);
        if arrives {
            self.deliver(from, &chunk);
        }
        if arrives && acked { self.sides[from].chunk_acked(&chunk) } else { _ = self.sides[from].chunk_lost(&chunk) }
    }

    fn deliver(&mut self, from: usize, chunk: &Chunk) {
        let mut data = Vec::new();
        self.sides[from].copy_chunk(chunk, &mut data);
        if data.len() == usize::from(chunk.len) {
            self.sides[1 - from].handle_stream(chunk.id, chunk.offset, chunk.fin, data.into(), 16_384).unwrap();
        }
    }

    fn control_fate(&mut self, from: usize, pick: usize, arrives: bool, acked: bool) {
        if self.controls[from].is_empty() {
            return;
        }
        let pick = pick % self.controls[from].len();
        let control = self.controls[from].swap_remove(pick);
        let peer = &mut self.sides[1 - from];
        match control {
            _ if !arrives => {}
            Control::MaxData { maximum } => _ = peer.handle_max_data(maximum),
            Control::MaxStreams { maximum } => peer.handle_max_streams(maximum),
            Control::MaxStreamData { id, maximum } => _ = peer.handle_max_stream_data(id, maximum).unwrap(),
            Control::ResetStream { id, error, final_size } => peer.handle_reset(id, error, final_size).unwrap(),
            Control::StopSending { id, error } => _ = peer.handle_stop_sending(id, error).unwrap(),
        }
        let key = control.key();
        if arrives && acked { self.sides[from].control_acked(&key) } else { self.sides[from].control_lost(&key) }
    }
}

/// What one side wrote to a stream and read from it.
#[derive(Clone, Copy, Default)]
struct Half {
    size: usize,
    written: usize,
    read: usize,
    ended: bool,
}

/// Moves one side of one stream on: writes what there is room for, finishes, and reads a piece.
fn work(pair: &mut Pair, id: StreamId, side: usize, max: usize, halves: &mut [Half; 2]) {
    let streams = &mut pair.sides[side];
    let Half { size, written, .. } = halves[side];
    let data: Vec<u8> = (written..size).take(300).map(|i| byte(id, side, i)).collect();
    match streams.write(id, &data) {
        Ok(taken) => halves[side].written += taken,
        Err(error) => assert!(matches!(error, WriteError::Blocked | WriteError::Finished | WriteError::Unknown)),
    }
    if halves[side].written == size {
        _ = streams.finish(id);
    }
    match streams.read(id, max) {
        Ok(Some(data)) => {
            let read = halves[side].read;
            assert!(data.iter().enumerate().all(|(i, b)| *b == byte(id, 1 - side, read + i)));
            halves[side].read += data.len();
        }
        Ok(None) => {
            assert_eq!(halves[side].read, halves[1 - side].size);
            halves[side].ended = true;
        }
        Err(error) => assert!(matches!(error, ReadError::Blocked | ReadError::Unknown)),
    }
}

fn byte(id: StreamId, side: usize, offset: usize) -> u8 {
    (offset * 7 + id.0 as usize * 31 + side * 101) as u8
}

/// A step's dice: which one in flight, its fate, and a size.
type Dice = (u16, u8, u8);

impl Pair {
    /// Sends from one side or the other, and decides about something in flight.
    fn step(&mut self, step: usize, (pick, fate, max): Dice) {
        let from = step % 2;
        self.send(from, 1 + usize::from(max));
        let calm = step > CALM;
        let (arrives, acked) = (calm || fate % 4 != 0, calm || fate % 8 != 1);
        if calm || fate > 100 {
            self.chunk_fate(from, pick.into(), arrives, acked);
            self.control_fate(from, pick.into(), arrives, acked);
        }
        self.check_sums();
    }

    /// The sums of each side are those of its streams, and what their state entails has happened.
    fn check_sums(&self) {
        for side in &self.sides {
            let shared = &side.shared;
            let loads: Vec<Load> = side.map.values().map(|stream| stream.load()).collect();
            let sum = |part: fn(&Load) -> u64| loads.iter().map(part).sum::<u64>();
            assert_eq!(shared.again, sum(|load| load.again));
            assert_eq!(shared.fresh, sum(|load| load.fresh));
            assert_eq!(shared.beyond, sum(|load| load.beyond));
            assert_eq!(shared.buffered_to_send as u64, sum(|load| load.to_send as u64));
            assert_eq!(shared.buffered_to_read as u64, sum(|load| load.to_read as u64));
            assert_eq!(shared.ready_to_read, sum(|load| load.ready));
            assert!(!shared.window.update_is_due() || shared.due.contains(&ControlKey::MaxData));
            for (id, stream) in &side.map {
                assert_eq!(stream.place.is_some(), stream.send.need().is_some(), "its turn to send");
                let may_read_more = stream.recv.window_update_is_due();
                assert!(!may_read_more || shared.due.contains(&ControlKey::MaxStreamData(*id)));
                assert!(!stream.blocked || shared.room_for(stream) == 0, "a writer with room was not woken");
                assert!(!stream.is_over());
            }
        }
    }

    fn is_idle(&mut self) -> bool {
        let in_flight = |side: usize| !self.chunks[side].is_empty() || !self.controls[side].is_empty();
        !in_flight(0) && !in_flight(1) && !self.send(0, 99) && !self.send(1, 99)
    }

    /// Nothing is held, and both sides count the same.
    fn check_end(&self) {
        for side in &self.sides {
            assert_eq!((side.len(), side.buffered_to_send(), side.buffered_to_read()), (0, 0, 0));
            assert!(side.is_flushed());
            assert_eq!(side.shared.window.unconsumed(), 0);
        }
        for (from, to) in [(0, 1), (1, 0)] {
            assert_eq!(self.sides[from].shared.credit.used(), self.sides[to].shared.window.received());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn written_data_arrives_once_and_in_order_for_any_losses(
        dice in proptest::collection::vec(any::<Dice>(), 400..800),
        sizes in proptest::collection::vec((0usize..2500, 0usize..2500), 1..24),
    ) {
        let (mut pair, mut live, mut opened) = (Pair::new(), Vec::<(StreamId, [Half; 2])>::new(), 0);
        let mut ended = false;
        for (step, dice) in dice.iter().cycle().enumerate().take(100_000) {
            if opened < sizes.len() && let Ok(id) = pair.sides[0].open() {
                live.push((id, [sizes[opened].0, sizes[opened].1].map(|size| Half { size, ..Half::default() })));
                opened += 1;
            }
            for (id, halves) in &mut live {
                work(&mut pair, *id, 0, 1 + usize::from(dice.2), halves);
                work(&mut pair, *id, 1, 1 + usize::from(dice.2), halves);
            }
            live.retain(|(_, halves)| !halves.iter().all(|half| half.ended));
            pair.step(step, *dice);
            ended = opened == sizes.len() && live.is_empty() && pair.is_idle();
            if ended {
                break;
            }
        }
        prop_assert!(ended, "{} streams did not come to an end", live.len());
        pair.check_end();
    }

    #[test]
    fn abandoned_streams_leave_neither_memory_nor_credit_behind(
        dice in proptest::collection::vec(any::<Dice>(), 400..800),
        fates in proptest::collection::vec((any::<[u8; 4]>(), 0usize..600), 1..40),
    ) {
        let (mut pair, mut live, mut fates) = (Pair::new(), Vec::new(), fates.into_iter());
        let mut ended = false;
        for (step, dice) in dice.iter().cycle().enumerate().take(100_000) {
            if fates.len() > 0 && let Ok(id) = pair.sides[0].open() {
                live.push((id, fates.next().unwrap(), step));
            }
            for (id, (fate, size), start) in &live {
                for side in 0..2 {
                    let streams = &mut pair.sides[side];
                    _ = streams.write(*id, &vec![0; *size / 16]);
                    _ = streams.read(*id, usize::from(dice.2));
                    // Each half is finished, reset or stopped after some steps of its own.
                    if step > start + usize::from(fate[side]) {
                        _ = if fate[side] % 2 == 0 { streams.finish(*id) } else { streams.reset(*id, ErrorCode(1)) };
                    }
                    if step > start + usize::from(fate[2 + side]) && fate[2 + side] % 3 == 0 {
                        _ = streams.stop(*id, ErrorCode(2));
                    }
                }
            }
            live.retain(|(id, ..)| pair.sides.iter().any(|side| side.map.contains_key(id)));
            pair.step(step, *dice);
            ended = fates.len() == 0 && live.is_empty() && pair.is_idle();
            if ended {
                break;
            }
        }
        prop_assert!(ended, "{} streams did not come to an end", live.len());
        pair.check_end();
    }
}
