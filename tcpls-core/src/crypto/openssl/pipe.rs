//! The memory that OpenSSL reads from and writes to instead of a socket.

use core::mem;
use std::io::{self, ErrorKind, Read, Write};
use std::sync::Arc;

use super::Notes;
use crate::wire::ids::Side;

/// Received bytes, and what OpenSSL wrote: before and after this endpoint's application keys existed.
pub(super) struct Pipe {
    side: Side,
    notes: Arc<Notes>,
    incoming: Vec<u8>,
    /// Bytes of `incoming` that OpenSSL has read.
    read: usize,
    /// Written while there were no application keys.
    flight: Vec<u8>,
    /// Written later: it may be sealed under application keys, and is never sent.
    late: Vec<u8>,
}

impl Pipe {
    pub(super) fn new(side: Side, notes: Arc<Notes>) -> Self {
        Self { side, notes, incoming: Vec::new(), read: 0, flight: Vec::new(), late: Vec::new() }
    }

    /// Adds received bytes.
    pub(super) fn feed(&mut self, bytes: &[u8]) {
        self.incoming.drain(..mem::take(&mut self.read));
        self.incoming.extend_from_slice(bytes);
    }

    /// Whether OpenSSL has read all received bytes.
    pub(super) fn is_drained(&self) -> bool {
        self.read == self.incoming.len()
    }

    /// Takes what may be sent as it is.
    pub(super) fn take_flight(&mut self) -> Vec<u8> {
        mem::take(&mut self.flight)
    }

    /// Takes what may be sealed under application keys, and so must not be sent.
    pub(super) fn take_late(&mut self) -> Vec<u8> {
        mem::take(&mut self.late)
    }

    /// The bytes of memory that the pipe takes.
    pub(super) fn memory(&self) -> usize {
        self.incoming.capacity() + self.flight.capacity() + self.late.capacity()
    }
}

impl Read for Pipe {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let rest = &self.incoming[self.read..];
        if rest.is_empty() {
            return Err(ErrorKind::WouldBlock.into()); // `Ok(0)` would be the end of the TCP connection
        }
        let len = rest.len().min(buf.len());
        buf[..len].copy_from_slice(&rest[..len]);
        self.read += len;
        Ok(len)
    }
}

impl Write for Pipe {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        // OpenSSL flushes a flight before it makes the next keys, and logs keys before it writes with them.
        let into = if self.notes.log.secret_of(self.side).is_some() { &mut self.late } else { &mut self.flight };
        into.extend_from_slice(buf);
        Ok(buf.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
