//! The read buffers of a socket. Received stream data stays in its buffer until the application drops it; then the
//! buffer is reused, so that a bulk transfer does not allocate, and get new pages from the kernel, with every read.

use bytes::BytesMut;

/// A socket that reads much gets buffers up to this size; also the most that is read in one turn.
pub(crate) const MAX_READ: usize = 256 * 1024;
/// The buffer of a socket that reads little: one record fits.
pub(super) const MIN_READ: usize = 20 * 1024;
/// Buffers that are kept while the application has bytes of them.
const KEPT: usize = 4;
/// Small reads that say that no bulk transfer is under way.
const MANY: usize = 8;

/// What was read and not taken, and where the next read goes.
pub(super) struct Reading {
    pub(super) input: BytesMut,
    next_read: usize,
    /// Small reads, one after the other.
    small: usize,
    /// Buffers of the largest size that were filled, the oldest first.
    full: Vec<BytesMut>,
}

impl Reading {
    /// `input` is what was read before.
    pub(super) fn new(input: BytesMut) -> Self {
        Self { input, next_read: MIN_READ, small: 0, full: Vec::new() }
    }

    /// Makes room for the next read; how much.
    pub(super) fn make_room(&mut self) -> usize {
        if self.room() < self.next_read.min(MIN_READ) && !self.input.try_reclaim(self.next_read) {
            let next = self.take_free().unwrap_or_else(|| BytesMut::with_capacity(self.next_read));
            let old = std::mem::replace(&mut self.input, next);
            self.input.extend_from_slice(&old);
            self.keep(old);
        }
        self.room()
    }

    fn room(&self) -> usize {
        self.input.capacity() - self.input.len()
    }

    /// A buffer without other owners.
    fn take_free(&mut self) -> Option<BytesMut> {
        let free = self.full.iter_mut().position(|buffer| buffer.try_reclaim(MAX_READ));
        free.filter(|_| self.next_read == MAX_READ).map(|at| self.full.remove(at))
    }

    fn keep(&mut self, mut buffer: BytesMut) {
        if self.next_read < MAX_READ {
            return self.full.clear();
        }
        if self.full.len() == KEPT {
            self.full.remove(0);
        }
        buffer.clear();
        self.full.push(buffer);
    }

    /// Gives back the memory that is not in use. The beginning of a record stays.
    pub(super) fn release(&mut self) {
        self.full = Vec::new();
        self.next_read = MIN_READ;
        self.input = BytesMut::from(&self.input[..]);
    }

    /// Memory of the buffers, in bytes.
    pub(super) fn memory(&self) -> usize {
        self.input.capacity() + self.full.len() * MAX_READ
    }

    /// `len` of `room` bytes arrived: adapts the size of the buffer. It is quadrupled when a read filled it, and halved
    /// after several small reads in a row, because a single small read also happens in a bulk transfer.
    pub(super) fn came(&mut self, len: usize, room: usize) {
        let is_small = len < self.next_read / 16;
        self.small = if is_small { self.small + 1 } else { 0 };
        if len == room {
            self.next_read = (self.next_read * 4).min(MAX_READ);
        } else if self.small > MANY {
            self.next_read = (self.next_read / 2).max(MIN_READ);
            self.full.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    /// Reads as much as there is room for, as long as `reads` last; gives what an application would hold.
    fn fill(reading: &mut Reading) -> Bytes {
        let room = reading.make_room();
        reading.input.resize(reading.input.len() + room, 7);
        reading.came(room, room);
        reading.input.split().freeze()
    }

    fn grown() -> Reading {
        let mut reading = Reading::new(BytesMut::new());
        while reading.next_read < MAX_READ {
            fill(&mut reading);
        }
        fill(&mut reading);
        reading
    }

    #[test]
    fn buffers_that_the_application_dropped_are_reused() {
        let mut reading = grown();
        let held = [fill(&mut reading), fill(&mut reading), fill(&mut reading)];
        let addresses = held.each_ref().map(|bytes| bytes.as_ptr());
        drop(held);
        let again = [fill(&mut reading), fill(&mut reading), fill(&mut reading)];
        assert!(again.iter().all(|bytes| addresses.contains(&bytes.as_ptr())));
    }

    #[test]
    fn buffers_that_the_application_holds_are_not_reused() {
        let mut reading = grown();
        let held: Vec<Bytes> = (0..10u8)
            .map(|number| {
                let room = reading.make_room();
                reading.input.resize(reading.input.len() + room, number);
                reading.came(room, room);
                reading.input.split().freeze()
            })
            .collect();
        assert!(held.iter().zip(0..).all(|(bytes, number)| bytes.iter().all(|byte| *byte == number)));
        assert!(reading.full.len() <= KEPT);
    }

    #[test]
    fn the_beginning_of_a_record_moves_on_into_the_next_buffer() {
        let mut reading = grown();
        let room = reading.make_room();
        reading.input.resize(room, 1);
        let _held = reading.input.split_to(room - 100).freeze();
        reading.make_room();
        assert_eq!(reading.input[..], [1; 100]);
    }

    #[test]
    fn a_socket_that_becomes_quiet_keeps_no_buffers() {
        let mut reading = grown();
        let _held = [fill(&mut reading), fill(&mut reading)];
        let room = reading.make_room();
        (0..MANY).for_each(|_| reading.came(10, room));
        assert!(!reading.full.is_empty(), "a transfer may go on");
        reading.came(10, room);
        assert!(reading.full.is_empty() && reading.next_read < MAX_READ);
    }

    #[test]
    fn releasing_memory_keeps_the_beginning_of_a_record() {
        let mut reading = grown();
        let _held = [fill(&mut reading), fill(&mut reading)];
        reading.make_room();
        reading.input.extend_from_slice(&[1; 100]);
        reading.release();
        assert_eq!(reading.input[..], [1; 100]);
        assert!(reading.input.capacity() < MIN_READ);
        reading.input.clear();
        reading.release();
        assert_eq!((reading.input.capacity(), reading.full.capacity(), reading.next_read), (0, 0, MIN_READ));
    }
}
