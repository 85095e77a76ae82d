//! Chunks of a stream on their way to a peer. Each record brings one, and the system call that writes a chunk to a TCP
//! connection costs as much as the chunk itself: so those that are there are written together.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use tokio::io::AsyncWrite;

/// The most chunks that are held.
const MAX: usize = 16;

/// What was read from a stream and could not be written to the peer yet.
#[derive(Debug, Default)]
pub(super) struct Chunks(VecDeque<Bytes>);

impl Chunks {
    /// Holds what was read before.
    pub(super) fn new(chunk: Bytes) -> Self {
        let mut chunks = Self::default();
        chunks.push(chunk);
        chunks
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether no more can be held.
    pub(super) fn is_full(&self) -> bool {
        self.0.len() >= MAX
    }

    /// Adds a chunk at the end.
    pub(super) fn push(&mut self, chunk: Bytes) {
        self.0.extend(Some(chunk).filter(|chunk| !chunk.is_empty()));
    }

    /// Writes as much as the peer takes at once, and returns the number of bytes.
    pub(super) fn poll_write(
        &mut self,
        peer: &mut (impl AsyncWrite + Unpin),
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        let mut slices = [IoSlice::new(&[]); MAX];
        let count = self.0.len().min(MAX);
        for (slice, chunk) in slices.iter_mut().zip(&self.0) {
            *slice = IoSlice::new(chunk);
        }
        let written = Pin::new(peer).poll_write_vectored(cx, &slices[..count]);
        if let Poll::Ready(Ok(len)) = written {
            self.advance(len);
        }
        written
    }

    /// Drops what was written. Without chunks there is no memory for them: most tunnels are idle.
    fn advance(&mut self, mut len: usize) {
        while let Some(first) = self.0.front_mut().filter(|_| len > 0) {
            let part = len.min(first.len());
            first.advance(part);
            len -= part;
            if first.is_empty() {
                self.0.pop_front();
            }
        }
        if self.0.is_empty() {
            self.0 = VecDeque::new();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes this many bytes at once, and remembers what it got with each call.
    struct Socket(usize, Vec<Vec<u8>>);

    impl AsyncWrite for Socket {
        fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
            self.poll_write_vectored(cx, &[IoSlice::new(data)])
        }

        fn poll_write_vectored(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            data: &[IoSlice<'_>],
        ) -> Poll<io::Result<usize>> {
            let taken: Vec<u8> = data.iter().flat_map(|slice| slice.iter().copied()).take(self.0).collect();
            let len = taken.len();
            self.1.push(taken);
            Poll::Ready(Ok(len))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    /// Writes all to a socket that takes this many bytes at once. Returns what each call wrote.
    fn written(mut chunks: Chunks, room: usize) -> Vec<Vec<u8>> {
        let mut socket = Socket(room, Vec::new());
        let mut cx = Context::from_waker(std::task::Waker::noop());
        while !chunks.is_empty() {
            assert!(matches!(chunks.poll_write(&mut socket, &mut cx), Poll::Ready(Ok(1..))));
        }
        assert_eq!(chunks.0.capacity(), 0, "an idle tunnel keeps no memory");
        socket.1
    }

    fn chunks(parts: &[&'static [u8]]) -> Chunks {
        let mut chunks = Chunks::default();
        parts.iter().for_each(|part| chunks.push(Bytes::from_static(part)));
        chunks
    }

    #[test]
    fn chunks_that_are_there_are_written_together() {
        assert_eq!(written(chunks(&[b"one", b"two", b"three"]), 100), [b"onetwothree"]);
    }

    #[test]
    fn what_a_full_socket_leaves_is_written_next_in_order() {
        let calls = written(chunks(&[b"one", b"two", b"", b"three"]), 4);
        assert_eq!(calls, [&b"onet"[..], b"woth", b"ree"]);
    }

    #[test]
    fn chunks_are_limited_and_empty_ones_are_not_held() {
        let mut held = Chunks::new(Bytes::new());
        assert!(held.is_empty());
        while !held.is_full() {
            held.push(Bytes::from_static(b"x"));
        }
        assert_eq!(written(held, 100), [[b'x'; MAX]]);
    }
}
