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
const PATIENCE: Duration = Duration::from_secs(5);
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
