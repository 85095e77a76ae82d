//! The memory that a session reports is at least what the allocator has given it, for any input of the peer.

#![allow(clippy::unwrap_used, reason = "what fails here is a failed test")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use bytes::BytesMut;
use tcpls_core::Config;
use tcpls_core::testing::peer::{DATA, FIRST, Peer, encoded, frames};
use tcpls_core::wire::frame::Frame;
use tcpls_core::wire::ids::{Side, StreamId};

/// The size of a socket's buffer. The one that is read into counts as memory of the driver.
const BUFFER: usize = 256 * 1024;

struct Counting;

thread_local! {
    static HELD: Cell<isize> = const { Cell::new(0) };
}

/// Bytes that an allocation takes: common allocators round up to 16 and keep 8 of their own.
fn cost(layout: Layout) -> isize {
    ((layout.size() + 8).next_multiple_of(16)).max(32) as isize
}

fn count(bytes: isize) {
    _ = HELD.try_with(|held| held.set(held.get() + bytes));
}

// SAFETY: everything is done by `System`; counting neither allocates nor unwinds.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(cost(layout));
        // SAFETY: the caller's promises are those of `System`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        count(-cost(layout));
        // SAFETY: as above.
        unsafe { System.dealloc(ptr, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// A server's session and a client that sends anything.
struct World {
    peer: Peer,
    /// The memory that the session reported at first.
    idle: usize,
    /// The memory allocated since.
    heap: isize,
}

impl World {
    fn new() -> Self {
        let config = Config::default().with(|config| {
            config.initial_session_window = 32 << 20;
            config.initial_stream_window = 16 << 20;
        });
        let mut peer = Peer::with(Side::Client, config);
        peer.rest();
        let idle = peer.conn.memory();
        Self { peer, idle, heap: 0 }
    }

    /// Records with these frames arrive together; then the application reads all that there is on stream 0.
    fn receive(&mut self, records: &[Vec<Frame<'_>>]) {
        let sealed: Vec<Vec<u8>> = records.iter().map(|frames| self.peer.seal(FIRST, DATA, &encoded(frames))).collect();
        let before = HELD.get();
        let mut buffer = BytesMut::with_capacity(sealed.iter().map(Vec::len).sum());
        sealed.iter().for_each(|record| buffer.extend_from_slice(record));
        self.peer.conn.handle_bytes(self.peer.now, FIRST, &mut buffer);
        assert!(buffer.is_empty());
        drop(buffer);
        while self.peer.conn.stream(StreamId(0)).read(usize::MAX).is_ok_and(|data| data.is_some()) {}
        while self.peer.conn.poll_event().is_some() {}
        self.heap += HELD.get() - before;
        assert_eq!(self.peer.conn.close_reason(), None);
    }

    fn check(&self, case: &str) {
        assert!(self.heap > 200_000, "{case}: the test is about nothing: {}", self.heap);
        self.check_sum(case);
    }

    fn check_sum(&self, case: &str) {
        let (heap, said) = (usize::try_from(self.heap).unwrap(), self.peer.conn.memory() - self.idle);
        assert!(said + BUFFER >= heap, "{case}: {heap} bytes are held, and {said} are said to be");
    }
}

#[test]
fn single_bytes_with_gaps_on_all_streams_are_counted() {
    let mut world = World::new();
    for stream in 0..128 {
        world.receive(&[(1..=1000).map(|n| frames::stream(stream * 2, n * 2, b"x")).collect()]);
    }
    world.check("single bytes");
}

#[test]
fn pieces_that_grow_are_counted_with_the_room_that_they_have() {
    for len in [300, 480, 511] {
        let mut world = World::new();
        let data = vec![7; len];
        for n in 0..800 {
            let at = 1 + n * 1200;
            let grows = [frames::stream(0, at + len as u64, b"xyzxyzxyzx"), frames::stream(0, at, &data)];
            world.receive(&[grows.to_vec()]);
        }
        world.check(&format!("{len} bytes"));
    }
}

#[test]
fn pieces_in_the_shortest_records_that_share_a_buffer_are_counted() {
    for len in [512, 513, 1000, 4000] {
        let mut world = World::new();
        let (data, padding) = (vec![7; len], (len * 3 + 200).min(12_000));
        for n in 0..100u64 {
            let piece =
                |k: u64| vec![frames::stream(0, 1 + (n * 10 + k) * (len as u64 + 1), &data), frames::padding(padding)];
            world.receive(&(0..10).map(piece).collect::<Vec<_>>());
        }
        world.check(&format!("{len} bytes"));
    }
}

#[test]
fn buffer_kept_by_a_piece_counts_as_memory() {
    let (data, bulk) = (vec![7; 600], vec![8; 16_000]);
    let mut world = World::new();
    for n in 0..50 {
        let mut records = vec![vec![frames::stream(2, 1 + n * 700, &data)]];
        records.extend((0..15).map(|k| vec![frames::stream(0, (n * 15 + k) * 16_000, &bulk)]));
        world.receive(&records);
        world.check_sum("shared buffers");
    }
    world.check("shared buffers");
    assert!(world.heap < 2 << 20, "{} bytes are held, of which 30,000 are data", world.heap);
}
