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
/// How long a request may take to arrive, and an answer to be taken. Tests compare orders of events.
const PATIENCE: Duration = Duration::from_secs(if cfg!(test) { 600 } else { 5 });
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

#[cfg(test)]
mod tests {
    use std::path::PathBuf;
    use std::sync::{Arc, Mutex};

    use tokio::task::JoinSet;

    use super::*;
    use crate::programs::{Helper, MAX_OBJECT, ProgramId, ProgramName, SIGNATURE_LEN};

    /// A kernel that registers everything, and counts.
    #[derive(Clone, Default)]
    struct Fake(Arc<Mutex<usize>>);

    impl Register for Fake {
        type Link = ();

        fn register(&mut self, id: &ProgramId, _: &[u8]) -> Result<(ProgramName, ()), String> {
            *self.0.lock().unwrap() += 1;
            Ok((ProgramName::of(b"fake", id)?, ()))
        }
    }

    /// A socket in the directory for temporary files, removed at the end.
    struct At(PathBuf);

    impl Drop for At {
        fn drop(&mut self) {
            _ = std::fs::remove_file(&self.0);
        }
    }

    /// Runs `test` beside a helper that allows one object.
    async fn with_helper<F: Future>(name: &str, test: impl FnOnce(PathBuf, ProgramId) -> F) -> (F::Output, usize) {
        let at = At(std::env::temp_dir().join(format!("tcpls-attend-{}-{name}", std::process::id())));
        _ = std::fs::remove_file(&at.0);
        let listener = UnixListener::bind(&at.0).unwrap();
        let kernel = Fake::default();
        let mut programs = Programs::new(kernel.clone());
        let id = programs.allow(b"object".to_vec()).unwrap();
        let output = tokio::select! {
            output = test(at.0.clone(), id) => output,
            never = attend(&listener, &mut programs) => match never {},
        };
        let checked = *kernel.0.lock().unwrap();
        (output, checked)
    }

    #[tokio::test]
    async fn sixty_sessions_of_a_server_that_ask_at_once_all_get_their_answer() {
        let (answers, checked) = with_helper("sixty", async |path, id| {
            let mut asks = JoinSet::new();
            for number in 0..60 {
                let helper = Helper::at(path.clone());
                asks.spawn(async move {
                    let junk = vec![7; SIGNATURE_LEN + MAX_OBJECT];
                    // Every third brings the longest object, without a signature.
                    let request = if number % 3 == 0 { Request::Signed(&junk) } else { Request::ByHash(id) };
                    helper.ask(request).await.unwrap()
                });
            }
            asks.join_all().await
        })
        .await;
        let count = |wanted: fn(&Answer) -> bool| answers.iter().filter(|answer| wanted(answer)).count();
        assert_eq!(count(|answer| *answer == Answer::Unsigned), 20);
        assert_eq!(count(|answer| matches!(answer, Answer::Registered(_))), 40);
        assert_eq!(checked, 1, "the kernel has checked it once");
    }

    #[tokio::test]
    async fn sixty_processes_that_send_half_a_request_keep_no_other_from_an_answer() {
        let (answered, checked) = with_helper("half", async |path, id| {
            let request = Request::ByHash(id).bytes();
            let mut halves = Vec::new();
            for _ in 0..60 {
                let mut socket = UnixStream::connect(&path).await.unwrap();
                socket.write_all(&request[..20]).await.unwrap();
                halves.push(socket);
            }
            let answer = Helper::at(path).ask(Request::ByHash(id)).await.unwrap();
            assert!(matches!(answer, Answer::Registered(_)), "{answer:?}");
            // Those that came last may go on. The others were ended for later ones.
            let mut answered = Vec::new();
            for (number, mut socket) in halves.into_iter().enumerate() {
                let mut answer = Vec::new();
                if socket.write_all(&request[20..]).await.is_ok() && socket.read_to_end(&mut answer).await.is_ok() {
                    answered.extend(Answer::read(&answer).is_ok().then_some(number));
                }
            }
            answered
        })
        .await;
        assert_eq!((answered, checked), ((45..60).collect(), 1));
    }
}
