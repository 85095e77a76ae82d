//! Attends to those who ask a helper: each says one request, and gets one answer.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::io;
use std::time::Duration;

use tcpls_core::time::Time;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::cli::output;
use crate::programs::{Answer, HEADER_LEN, Programs, Register, Request, Wanted};

/// Those who are attended to at a time: a further one ends the earliest, so that stuck ones keep no other waiting.
const MAX_READERS: usize = 16;
/// How long a request may take to arrive, and an answer to be taken.
const PATIENCE: Duration = Duration::from_secs(5);
/// The pause after a socket could not be accepted.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A complete request, its user, and where the answer goes.
struct Asked {
    request: Vec<u8>,
    user: Option<u32>,
    answer: oneshot::Sender<Answer>,
}

/// Accepts for ever. The kernel checks one program at a time, in this task.
pub(super) async fn attend<R: Register>(listener: &UnixListener, programs: &mut Programs<R>) -> Infallible {
    let begin = Instant::now();
    let (asks, mut asked) = mpsc::channel(MAX_READERS);
    let mut readers: VecDeque<JoinHandle<()>> = VecDeque::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((socket, _)) => {
                    readers.retain(|reader| !reader.is_finished());
                    if readers.len() == MAX_READERS {
                        readers.pop_front().iter().for_each(JoinHandle::abort);
                    }
                    let asks = asks.clone();
                    readers.push_back(tokio::spawn(async move {
                        // Who is slow or has left gets nothing.
                        _ = tokio::time::timeout(PATIENCE, converse(socket, asks)).await;
                    }));
                }
                Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
            },
            Some(Asked { request, user, answer }) = asked.recv() => {
                // Who left does not have a program checked.
                if answer.is_closed() {
                    continue;
                }
                let Ok(Ok(request)) = Request::read(&request) else { continue };
                let (what, note) = programs.answer(request, Time::ZERO + begin.elapsed());
                if let Some(note) = note {
                    let user = user.map_or_else(String::new, |user| format!(" (asked by user {user})"));
                    output::tell(format_args!("{note}{user}"));
                }
                _ = answer.send(what);
            }
        }
    }
}

/// Reads a request and writes its answer.
async fn converse(mut socket: UnixStream, asks: mpsc::Sender<Asked>) -> io::Result<()> {
    let user = socket.peer_cred().ok().map(|peer| peer.uid());
    let mut request = vec![0; HEADER_LEN];
    let mut filled = 0;
    let is_request = loop {
        socket.read_exact(&mut request[filled..]).await?;
        filled = request.len();
        match Request::read(&request) {
            Ok(Ok(_)) => break true,
            Ok(Err(Wanted(length))) => request.resize(length, 0),
            Err(_) => break false,
        }
    };
    let answer = if is_request {
        let (answer, answered) = oneshot::channel();
        asks.send(Asked { request, user, answer }).await.map_err(|_| io::ErrorKind::BrokenPipe)?;
        answered.await.map_err(|_| io::ErrorKind::BrokenPipe)?
    } else {
        Answer::Malformed
    };
    socket.write_all(&answer.bytes()).await?;
    socket.shutdown().await
}
