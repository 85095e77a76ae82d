//! Carries the bytes of a TCP connection to another server of the farm and back, with their ends and resets.
//!
//! A direction that ends ends alone (half-close). A reset at one side becomes a reset at the other. A side that reads slowly
//! slows the other down: one piece of data is held for each direction, and none while nothing moves. The client's end is
//! passed on once the other server has answered: one that refuses the join closes first, and the kernel keeps the port of a
//! TCP connection (TIME-WAIT) where it was closed first.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until};

/// The most that is read at once.
pub(super) const PIECE: usize = 32 * 1024;
/// How long the other server may take to send its first byte: longer than a join may take.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(40);
/// How long nothing may move once a direction has ended.
const HALF_CLOSED_TIMEOUT: Duration = Duration::from_secs(60);

/// One direction.
#[derive(Default)]
struct Direction {
    held: Vec<u8>,
    written: usize,
    /// Nothing more is read.
    ended: bool,
    /// The end was passed on.
    over: bool,
}

impl Direction {
    /// Moves what can be moved, and adds it to `moved`. Ready when the end was passed on, if it may be.
    fn poll(
        &mut self,
        from: &mut TcpStream,
        to: &mut TcpStream,
        may_end: bool,
        moved: &mut u64,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        while !self.over {
            while let unwritten @ [_, ..] = &self.held[self.written..] {
                let len = ready!(Pin::new(&mut *to).poll_write(cx, unwritten))?;
                self.written += len;
                *moved += len as u64;
            }
            if self.ended {
                if !may_end {
                    return Poll::Pending;
                }
                ready!(Pin::new(&mut *to).poll_shutdown(cx))?;
                self.over = true;
                break;
            }
            self.written = 0;
            self.held.clear();
            if from.poll_read_ready(cx).is_pending() {
                self.held = Vec::new();
                return Poll::Pending;
            }
            self.held.reserve(PIECE);
            let Poll::Ready(read) = pin!(from.read_buf(&mut self.held)).poll(cx) else {
                self.held = Vec::new();
                return Poll::Pending;
            };
            self.ended = read? == 0;
        }
        Poll::Ready(Ok(()))
    }
}

/// Carries bytes until both directions have ended, and passes `report` how many have moved since its last call.
///
/// # Errors
/// One side failed, or was too slow: both are to be reset.
pub(super) async fn splice(
    client: &mut TcpStream,
    server: &mut TcpStream,
    mut report: impl FnMut(u64),
) -> io::Result<()> {
    let (mut up, mut down) = (Direction::default(), Direction::default());
    let mut timer = pin!(sleep_until(Instant::now() + ANSWER_TIMEOUT));
    let (mut is_answered, mut is_half_closed) = (false, false);
    poll_fn(|cx| {
        let (mut sent, mut received) = (0, 0);
        let back = down.poll(server, client, true, &mut received, cx)?;
        is_answered |= received > 0 || down.ended;
        let there = up.poll(client, server, is_answered, &mut sent, cx)?;
        if sent + received > 0 {
            report(sent + received);
        }
        if let (Poll::Ready(()), Poll::Ready(())) = (there, back) {
            return Poll::Ready(Ok(()));
        }
        let has_ended = up.over || down.over;
        if has_ended && (!is_half_closed || sent + received > 0) {
            is_half_closed = true;
            timer.as_mut().reset(Instant::now() + HALF_CLOSED_TIMEOUT);
        }
        // Once it is answered, the time is up only for one that is half-closed.
        if (!is_answered || is_half_closed) && timer.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        Poll::Pending
    })
    .await
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;
    use tokio::net::TcpListener;

    use super::*;
    use crate::net::socket::reset;

    /// Two ends of a TCP connection.
    async fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let near = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        (near, listener.accept().await.unwrap().0)
    }

    /// A client and a server with a splice between them, and its outcome.
    async fn spliced() -> (TcpStream, TcpStream, tokio::task::JoinHandle<io::Result<u64>>) {
        let ((client, mut from), (mut to, server)) = (pair().await, pair().await);
        let task = tokio::spawn(async move {
            let mut moved = 0;
            let outcome = splice(&mut from, &mut to, |bytes| moved += bytes).await;
            if outcome.is_err() {
                [from, to].into_iter().for_each(reset);
            }
            outcome.map(|()| moved)
        });
        (client, server, task)
    }

    #[tokio::test]
    async fn each_direction_ends_alone_with_all_its_bytes() {
        let (mut client, mut server, task) = spliced().await;
        let data = vec![7; 3_000_000];
        let there = async {
            client.write_all(&data).await.unwrap();
            client.shutdown().await.unwrap();
            let mut answer = Vec::new();
            client.read_to_end(&mut answer).await.unwrap();
            answer
        };
        let back = async {
            let mut all = Vec::new();
            server.write_all(&[7]).await.unwrap();
            server.read_to_end(&mut all).await.unwrap();
            server.write_all(&all[1..1_000_000]).await.unwrap();
            server.shutdown().await.unwrap();
            all.len()
        };
        let (answer, received) = tokio::join!(there, back);
        assert_eq!((received, answer.len()), (3_000_000, 1_000_000));
        assert_eq!(task.await.unwrap().unwrap(), 4_000_000);
    }

    #[tokio::test]
    async fn reset_at_one_side_becomes_a_reset_at_the_other() {
        for of_client in [true, false] {
            let (mut client, mut server, task) = spliced().await;
            client.write_all(b"ping").await.unwrap();
            server.read_exact(&mut [0; 4]).await.unwrap();
            server.write_all(b"pong").await.unwrap();
            client.read_exact(&mut [0; 4]).await.unwrap();
            let (broken, mut other) = if of_client { (client, server) } else { (server, client) };
            reset(broken);
            assert_eq!(task.await.unwrap().unwrap_err().kind(), io::ErrorKind::ConnectionReset);
            assert_eq!(other.read(&mut [0]).await.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
        }
    }

    #[tokio::test]
    async fn end_of_the_client_is_passed_on_after_an_answer() {
        let (mut client, mut server, task) = spliced().await;
        client.write_all(b"hello").await.unwrap();
        client.shutdown().await.unwrap();
        server.read_exact(&mut [0; 5]).await.unwrap();
        // What the other server does when it refuses a join.
        server.write_all(b"alert").await.unwrap();
        server.shutdown().await.unwrap();
        let mut answer = Vec::new();
        client.read_to_end(&mut answer).await.unwrap();
        assert_eq!((answer.as_slice(), server.read(&mut [0]).await.unwrap()), (&b"alert"[..], 0));
        assert_eq!(task.await.unwrap().unwrap(), 10);
    }

    #[tokio::test]
    async fn end_waits_until_it_may_be_passed_on() {
        let ((mut client, mut from), (mut to, mut server)) = (pair().await, pair().await);
        client.write_all(b"hello").await.unwrap();
        client.shutdown().await.unwrap();
        let (mut up, mut moved) = (Direction::default(), 0);
        poll_fn(|cx| {
            assert!(up.poll(&mut from, &mut to, false, &mut moved, cx).is_pending());
            if up.ended { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
        assert!(!up.over);
        server.read_exact(&mut [0; 5]).await.unwrap();
        poll_fn(|cx| up.poll(&mut from, &mut to, true, &mut moved, cx)).await.unwrap();
        assert_eq!((server.read(&mut [0]).await.unwrap(), moved), (0, 5));
    }

    #[tokio::test(start_paused = true)]
    async fn server_that_never_answers_is_given_up() {
        let (_client, _server, task) = spliced().await;
        let start = Instant::now();
        assert_eq!(task.await.unwrap().unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert!(start.elapsed() >= ANSWER_TIMEOUT);
    }
}
