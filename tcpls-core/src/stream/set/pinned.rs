//! Received data stays in the read buffer of its socket, and keeps all of it alive: a piece of 600 bytes that is not
//! read, or waits behind a gap, may hold 256 KiB. So data that is not read soon is copied; until then all data received
//! since counts as memory of the session.

use super::Streams;

/// Pieces that are still held after this many more bytes have arrived are copied.
const MAX_PINNED: usize = 1 << 20;

impl Streams {
    /// More records are about to be received: copies data out of old buffers.
    #[inline]
    pub(crate) fn release_buffers(&mut self) {
        if self.buffered_to_read() == 0 {
            self.shared.pinned = 0;
        } else if self.shared.pinned >= MAX_PINNED {
            self.map.values_mut().for_each(|stream| stream.recv.leave_buffers());
            self.shared.pinned = 0;
        }
    }

    /// Records of `bytes` bytes were received.
    pub(crate) fn note_received(&mut self, bytes: usize) {
        self.shared.pinned = self.shared.pinned.saturating_add(bytes);
    }

    /// Memory of buffers that is kept only because a part of them is held.
    pub(super) fn pinned(&self) -> usize {
        if self.buffered_to_read() == 0 {
            return 0;
        }
        match self.map.values().map(|stream| stream.recv.in_buffers()).sum() {
            0 => 0,
            held => self.shared.pinned.saturating_sub(held),
        }
    }
}
