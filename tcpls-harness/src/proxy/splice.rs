//! Carries bytes between a stream and a peer, in both directions, with their ends and resets.
//!
//! A direction that ends ends alone (half-close). A reset at one side becomes a reset at the other. A side that reads
//! slowly slows the other down: at most one piece of data is held for each direction. A stream with bulk data has a lower
//! priority meanwhile (`load`).

use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use tcpls_core::error::{ReadError, WriteError};
use tcpls_core::time::Time;
use tcpls_core::wire::ids::ErrorCode;
use tokio::io::AsyncWrite;

use super::chunks::Chunks;
use super::codes;
use super::load::Load;
use super::peer::Peer;
use super::rate::{Pacer, Rate, Way};
use crate::net::{RecvStream, Runtime, SendStream, Stream};

/// The most that is read at once, and the most that is held.
const PIECE: usize = 64 * 1024;
/// What is not read from the stream for the sake of a full piece: the rest of its chunk would be one more.
const LITTLE: usize = 1024;

/// How a tunnel ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum End {
    /// Both directions ended, and all data was passed on.
    Finished,
    /// The peer reset the connection; the stream was reset.
    PeerReset,
    /// The stream was reset or stopped at its other end; the peer was reset.
    StreamReset(ErrorCode),
    /// The session ended; the peer was reset.
    SessionEnded,
    /// No byte passed for the idle time; both were reset.
    Idle,
}

impl End {
    /// Returns the end in a word or three, for a log.
    pub fn text(self) -> &'static str {
        match self {
            Self::Finished => "finished",
            Self::PeerReset => "was reset",
            Self::StreamReset(_) => "was reset by the client",
            Self::SessionEnded => "ended with the session",
            Self::Idle => "was idle for too long",
        }
    }
}

/// What a tunnel carried, and how it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Spliced {
    /// Bytes from the peer to the stream.
    pub sent: u64,
    /// Bytes from the stream to the peer.
    pub received: u64,
    /// How it ended.
    pub end: End,
}

/// What a tunnel begins with.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct Splicing {
    /// Bytes that were read from the peer before.
    pub to_stream: Bytes,
    /// Bytes that were read from the stream before.
    pub to_peer: Bytes,
    /// How long no byte may pass in either direction; `None`: for any time.
    pub idle: Option<Duration>,
    /// The rate that it shares with others; `None`: any.
    pub rate: Option<Rate>,
}

impl Splicing {
    /// Returns the same with a change.
    #[must_use]
    pub fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }
}

/// Carries bytes until both directions have ended, or one side has failed. Dropping the future resets both sides.
pub async fn splice<P: Peer>(runtime: &Runtime, stream: Stream, peer: P, splicing: Splicing) -> Spliced {
    let (send, recv) = stream.split();
    let Splicing { to_stream, to_peer, idle, rate } = splicing;
    let pacer = |held: &Bytes, way| {
        let rate = rate.clone()?;
        Some(Box::new(Pacer::new(rate, way, runtime.now(), held.len())))
    };
    let (up, down) = (pacer(&to_stream, Way::ToStream), pacer(&to_peer, Way::ToPeer));
    let up = Direction { held: to_stream, ended: false, bytes: 0, pacer: up };
    let down = Direction { held: Chunks::new(to_peer), ended: false, bytes: 0, pacer: down };
    let load = Load::new(runtime.now());
    let mut tunnel = Tunnel { runtime, send, recv, peer: Aborting(peer, true), up, down, failed: None, load };
    let outcome = match idle {
        None => poll_fn(|cx| tunnel.poll(cx)).await,
        Some(idle) => tunnel.run(idle).await,
    };
    let end = match outcome {
        Ok(()) => {
            tunnel.peer.1 = false;
            End::Finished
        }
        Err(end) => {
            let code = if end == End::Idle { codes::IDLE } else { codes::CONNECT_ERROR };
            tunnel.send.reset(code);
            tunnel.recv.stop(code);
            end
        }
    };
    Spliced { sent: tunnel.up.bytes, received: tunnel.down.bytes, end }
}

/// One direction.
struct Direction<H> {
    /// What was read and could not be written yet.
    held: H,
    ended: bool,
    bytes: u64,
    pacer: Option<Box<Pacer>>,
}

impl<H> Direction<H> {
    /// Waits until it may read. Returns how many bytes.
    fn poll_turn(&mut self, runtime: &Runtime, cx: &mut Context<'_>) -> Poll<usize> {
        self.pacer.as_mut().map_or(Poll::Ready(PIECE), |pacer| pacer.poll_turn(runtime, cx))
    }

    /// Counts what was read against the rate.
    fn has_read(&mut self, runtime: &Runtime, bytes: usize) {
        if let Some(pacer) = &mut self.pacer {
            pacer.moved(runtime.now(), bytes);
        }
    }

    /// Whether it waits for its turn at a rate.
    fn is_paused(&self) -> bool {
        self.pacer.as_ref().is_some_and(|pacer| pacer.is_paused())
    }
}

/// A peer, and whether it is reset when it is dropped.
struct Aborting<P: Peer>(P, bool);

impl<P: Peer> Drop for Aborting<P> {
    fn drop(&mut self) {
        if self.1 {
            self.0.abort();
        }
    }
}

struct Tunnel<'a, P: Peer> {
    runtime: &'a Runtime,
    send: SendStream,
    recv: RecvStream,
    peer: Aborting<P>,
    up: Direction<Bytes>,
    down: Direction<Chunks>,
    /// Why nothing follows what is held of the stream.
    failed: Option<ReadError>,
    load: Load,
}

impl<P: Peer> Tunnel<'_, P> {
    /// The same as polling, with a limit on the time without a byte.
    async fn run(&mut self, idle: Duration) -> Result<(), End> {
        let runtime = self.runtime;
        let mut moved: (Time, u64) = (runtime.now(), 0);
        let mut sleep = Box::pin(runtime.sleep_until(moved.0 + idle));
        poll_fn(|cx| {
            let outcome = self.poll(cx);
            let bytes = self.up.bytes + self.down.bytes;
            // A tunnel that its rate holds back is not idle.
            let is_busy = bytes > moved.1 || self.up.is_paused() || self.down.is_paused();
            if outcome.is_pending() && is_busy {
                moved = (runtime.now(), bytes);
            }
            while outcome.is_pending() && sleep.as_mut().poll(cx).is_ready() {
                if runtime.now() >= moved.0 + idle {
                    return Poll::Ready(Err(End::Idle));
                }
                sleep = Box::pin(runtime.sleep_until(moved.0 + idle));
            }
            outcome
        })
        .await
    }

    /// Moves what can be moved. A failure in one direction ends both: TCP has no reset of one.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), End>> {
        let (up, down) = (self.poll_up(cx)?, self.poll_down(cx)?);
        match (up, down) {
            (Poll::Ready(()), Poll::Ready(())) => Poll::Ready(Ok(())),
            // Whichever direction goes on, the other side's failure is noticed although nothing is read from it.
            (Poll::Ready(()), Poll::Pending) => self.poll_peer_failed(cx),
            (Poll::Pending, Poll::Ready(())) => self.poll_stopped(cx),
            (Poll::Pending, Poll::Pending) => Poll::Pending,
        }
    }

    /// From the peer to the stream.
    fn poll_up(&mut self, cx: &mut Context<'_>) -> Result<Poll<()>, End> {
        while !self.up.ended {
            if !self.up.held.is_empty() {
                match self.send.poll_write_chunk(cx, &mut self.up.held) {
                    Poll::Ready(written) => self.up.bytes += written.map_err(write_end)? as u64,
                    Poll::Pending => return self.poll_blocked(cx),
                }
                continue;
            }
            let turn = match self.up.poll_turn(self.runtime, cx) {
                Poll::Ready(turn) => turn,
                Poll::Pending => return self.poll_blocked(cx),
            };
            let room = match self.send.poll_writable(cx) {
                Poll::Ready(room) => room.map_err(write_end)?.min(PIECE).min(turn),
                Poll::Pending => return self.poll_blocked(cx),
            };
            self.load.set_blocked(self.runtime.now(), false);
            let read = match self.peer.0.poll_read_bytes(cx, room) {
                Poll::Ready(read) => read.map_err(|_| End::PeerReset)?,
                Poll::Pending => return Ok(Poll::Pending),
            };
            if read.is_empty() {
                self.send.finish().map_err(write_end)?;
                self.up.ended = true;
                break;
            }
            self.up.has_read(self.runtime, read.len());
            self.note_moved(read.len());
            if read.len() >= read.capacity() / 2 {
                self.up.held = read.freeze();
                continue;
            }
            // The stream collects small writes; the buffer would be more memory than its bytes.
            let written = match Pin::new(&mut self.send).poll_write(cx, &read) {
                Poll::Ready(written) => written.map_err(|error| io_end(&error))?,
                Poll::Pending => 0, // another stream has taken the room
            };
            self.up.bytes += written as u64;
            self.up.held = Bytes::copy_from_slice(&read[written..]);
        }
        Ok(Poll::Ready(()))
    }

    /// The stream takes no more, so that the peer is not read: its failure must be noticed nevertheless.
    fn poll_blocked(&mut self, cx: &mut Context<'_>) -> Result<Poll<()>, End> {
        self.load.set_blocked(self.runtime.now(), true);
        match self.poll_peer_failed(cx) {
            Poll::Ready(Err(end)) => Err(end),
            _ => Ok(Poll::Pending),
        }
    }

    fn poll_peer_failed(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), End>> {
        self.peer.0.poll_failed(cx).map(|()| Err(End::PeerReset))
    }

    /// From the stream to the peer.
    fn poll_down(&mut self, cx: &mut Context<'_>) -> Result<Poll<()>, End> {
        while !self.down.ended {
            if !self.down.held.is_empty() {
                match self.down.held.poll_write(&mut self.peer.0, cx) {
                    Poll::Ready(Ok(written)) if written > 0 => self.down.bytes += written as u64,
                    Poll::Ready(_) => return Err(End::PeerReset),
                    Poll::Pending => return self.poll_down_blocked(cx),
                }
                continue;
            }
            let turn = match self.down.poll_turn(self.runtime, cx) {
                Poll::Ready(turn) => turn.min(PIECE),
                Poll::Pending => {
                    self.poll_flush(cx)?;
                    return self.poll_down_blocked(cx);
                }
            };
            match self.recv.poll_read_chunk(cx, turn) {
                Poll::Ready(Ok(Some(chunk))) => {
                    let room = turn.saturating_sub(chunk.len());
                    self.hold(chunk);
                    self.hold_more(cx, room);
                }
                Poll::Ready(Ok(None)) => match Pin::new(&mut self.peer.0).poll_shutdown(cx) {
                    Poll::Ready(shut) => {
                        shut.map_err(|_| End::PeerReset)?;
                        self.down.ended = true;
                    }
                    Poll::Pending => return Ok(Poll::Pending),
                },
                Poll::Ready(Err(error)) => return Err(read_end(error)),
                Poll::Pending => {
                    self.poll_flush(cx)?;
                    return Ok(Poll::Pending);
                }
            }
        }
        Ok(Poll::Ready(()))
    }

    /// Holds further chunks that are there, `room` bytes at most. An end behind them is read again when they are written. A
    /// failure is kept: the stream reports it only once to a tunnel whose peer takes no more.
    fn hold_more(&mut self, cx: &mut Context<'_>, mut room: usize) {
        while room >= LITTLE && !self.down.held.is_full() {
            match self.recv.poll_read_chunk(cx, room) {
                Poll::Ready(Ok(Some(chunk))) => {
                    room = room.saturating_sub(chunk.len());
                    self.hold(chunk);
                }
                Poll::Ready(Err(error)) => {
                    self.failed = Some(error);
                    return;
                }
                Poll::Ready(Ok(None)) | Poll::Pending => return,
            }
        }
    }

    /// Holds a chunk that was read from the stream.
    fn hold(&mut self, chunk: Bytes) {
        self.down.has_read(self.runtime, chunk.len());
        self.note_moved(chunk.len());
        self.down.held.push(chunk);
    }

    /// A peer that buffers must not wait for more. It wakes this task if it has not finished.
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Result<(), End> {
        match Pin::new(&mut self.peer.0).poll_flush(cx) {
            Poll::Ready(Err(_)) => Err(End::PeerReset),
            _ => Ok(()),
        }
    }

    /// The peer takes no more, so that the stream is not read: a reset of either of its directions must be noticed
    /// nevertheless.
    fn poll_down_blocked(&mut self, cx: &mut Context<'_>) -> Result<Poll<()>, End> {
        if let Some(error) = self.failed {
            return Err(read_end(error));
        }
        if let Poll::Ready(error) = self.recv.poll_failed(cx) {
            return Err(read_end(error));
        }
        // Once everything is delivered, the other end cannot stop it any more.
        let stopped = if self.up.ended { Poll::Pending } else { self.poll_stopped(cx) };
        match stopped {
            Poll::Ready(Err(end)) => Err(end),
            _ => Ok(Poll::Pending),
        }
    }

    /// Before `len` bytes are written to one side. The stream may have ended in the direction that has a priority.
    fn note_moved(&mut self, len: usize) {
        if let Some(priority) = self.load.moves(self.runtime.now(), len) {
            _ = self.send.set_priority(priority);
        }
    }

    /// Nothing is read from the stream any more: its other end may stop reading.
    fn poll_stopped(&self, cx: &mut Context<'_>) -> Poll<Result<(), End>> {
        pin!(self.send.stopped()).poll(cx).map(|code| Err(code.map_or(End::SessionEnded, End::StreamReset)))
    }
}

fn write_end(error: WriteError) -> End {
    match error {
        WriteError::Stopped(code) => End::StreamReset(code),
        _ => End::SessionEnded,
    }
}

fn io_end(error: &io::Error) -> End {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<WriteError>());
    inner.map_or(End::SessionEnded, |error| write_end(*error))
}

fn read_end(error: ReadError) -> End {
    match error {
        ReadError::Reset(code) => End::StreamReset(code),
        _ => End::SessionEnded,
    }
}
