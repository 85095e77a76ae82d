//! Asks a helper.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};

use super::{Answer, Request};

/// How long a helper may take; the kernel takes up to 0.2 s to check a program, and the helper answers one after another.
/// Tests compare orders of events.
const PATIENCE: Duration = Duration::from_secs(if cfg!(test) { 600 } else { 5 });
/// Requests of this process at a time: of more than 16, a helper ends the earliest.
static TURNS: Semaphore = Semaphore::const_new(8);
/// The pause before another attempt while too many others wait.
const BUSY_PAUSE: Duration = Duration::from_millis(10);

/// A helper, by its socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Helper(PathBuf);

impl Helper {
    /// Makes one of the path of a socket, which need not exist yet.
    pub const fn at(path: PathBuf) -> Self {
        Self(path)
    }

    /// Asks for a program. Cancel-safe: the helper may have registered it.
    ///
    /// # Errors
    /// No helper listens at the socket, this process may not connect, or there was no answer within 5 s.
    pub async fn ask(&self, request: Request<'_>) -> io::Result<Answer> {
        let answer = timeout(PATIENCE, async {
            let _turn = TURNS.acquire().await.map_err(io::Error::other)?;
            let mut socket = self.connect().await?;
            // A helper that refuses early does not read the rest; what it answered is still there.
            let sent = socket.write_all(&request.bytes()).await;
            let mut answer = Vec::new();
            let limit = u64::try_from(Answer::MAX_LEN).unwrap_or(u64::MAX);
            let read = socket.take(limit + 1).read_to_end(&mut answer).await;
            if answer.is_empty() {
                sent?;
                read?;
            }
            io::Result::Ok(answer)
        });
        let answer = answer.await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
        Answer::read(&answer).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
    }

    /// Connects, once there is room among those whom the helper has not accepted yet.
    async fn connect(&self) -> io::Result<UnixStream> {
        loop {
            match UnixStream::connect(&self.0).await {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => sleep(BUSY_PAUSE).await,
                connected => return connected,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;
    use std::sync::Arc;

    use tokio::net::UnixListener;
    use tokio::task::JoinSet;

    use super::*;
    use crate::programs::{HEADER_LEN, MAX_OBJECT, ProgramId, ProgramName, SIGNATURE_LEN};

    const BY_HASH: Request<'_> = Request::ByHash(ProgramId::new([7; 32]));

    /// A socket in the directory for temporary files, removed at the end.
    struct At(PathBuf);

    impl At {
        fn listen(name: &str) -> (Self, UnixListener, Helper) {
            let path = std::env::temp_dir().join(format!("tcpls-ask-{}-{name}", std::process::id()));
            _ = std::fs::remove_file(&path);
            let listener = UnixListener::bind(&path).unwrap();
            (Self(path.clone()), listener, Helper::at(path))
        }
    }

    impl Drop for At {
        fn drop(&mut self) {
            _ = std::fs::remove_file(&self.0);
        }
    }

    #[tokio::test]
    async fn a_helper_that_dies_before_its_answer_is_complete_gives_an_error_and_no_answer() {
        let (_at, listener, helper) = At::listen("dies");
        let name = ProgramName::read(b"multcp_3210").unwrap();
        let whole = Answer::Registered(name).bytes();
        for read in [0, HEADER_LEN, HEADER_LEN + 32] {
            for written in [0, 1, 3, whole.len() - 1] {
                let die = async {
                    let mut socket = listener.accept().await.unwrap().0;
                    socket.read_exact(&mut vec![0; read]).await.unwrap();
                    socket.write_all(&whole[..written]).await.unwrap();
                };
                let (asked, ()) = tokio::join!(helper.ask(BY_HASH), die);
                asked.expect_err(&format!("it read {read} bytes and wrote {written}"));
            }
        }
        let answer = async {
            let mut socket = listener.accept().await.unwrap().0;
            socket.write_all(&whole).await.unwrap();
        };
        let (asked, ()) = tokio::join!(helper.ask(BY_HASH), answer);
        assert_eq!(asked.unwrap().bytes(), whole, "it need not read first");
    }

    #[tokio::test]
    async fn an_endless_answer_is_not_read_to_its_end() {
        let (_at, listener, helper) = At::listen("endless");
        let write = async {
            let mut socket = listener.accept().await.unwrap().0;
            while socket.write_all(&[1; 4096]).await.is_ok() {}
        };
        let (asked, ()) = tokio::join!(helper.ask(BY_HASH), write);
        assert_eq!(asked.unwrap_err().kind(), ErrorKind::InvalidData);
    }

    #[tokio::test(start_paused = true)]
    async fn a_helper_that_says_nothing_is_given_up_and_its_place_is_free_for_another() {
        let (_at, listener, helper) = At::listen("silent");
        let signed = Arc::new(vec![7; SIGNATURE_LEN + MAX_OBJECT]);
        // More than the places: those that wait for one are given up, too.
        let mut asks = JoinSet::new();
        for _ in 0..24 {
            let (helper, signed) = (helper.clone(), signed.clone());
            asks.spawn(async move { helper.ask(Request::Signed(&signed)).await.map_err(|error| error.kind()) });
        }
        let mut sockets = Vec::new();
        let accept = async {
            loop {
                sockets.push(listener.accept().await.unwrap().0);
            }
        };
        let outcomes = tokio::select! {
            outcomes = asks.join_all() => outcomes,
            never = accept => never,
        };
        assert_eq!(outcomes, vec![Err(ErrorKind::TimedOut); 24]);
        drop(sockets);
        tokio::time::resume();
        let answer = async {
            loop {
                // The kernel may still have sockets of those that were given up.
                let mut socket = listener.accept().await.unwrap().0;
                _ = socket.write_all(&Answer::Unknown.bytes()).await;
            }
        };
        tokio::select! {
            asked = helper.ask(BY_HASH) => assert_eq!(asked.unwrap(), Answer::Unknown),
            never = answer => never,
        }
    }
}
