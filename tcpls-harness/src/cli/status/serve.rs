//! Answers those who ask a running command for its status.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Mutex;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::registry;
use super::report::{Refused, Request, VERSION};
use super::socket::{self, Listening, Name};
use crate::cli::Outcome;

/// Readers that are served at the same time: a further one ends the earliest, so that stuck ones keep no other waiting.
const MAX_READERS: usize = 16;
/// How long a reader may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// The longest request.
const MAX_REQUEST: u64 = 1024;
/// An answer is given to all who ask within this time.
const FRESH: Duration = Duration::from_millis(100);
/// The pause after a socket could not be accepted.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Answers until it is dropped.
#[derive(Debug)]
pub(crate) struct Offer {
    task: JoinHandle<()>,
    _name: Name,
}

impl Drop for Offer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Begins to answer, at `path` or at the usual place. `None`: the usual place can't be used, which is no reason not to run;
/// the log has why, and so has `tcpls status`.
///
/// # Errors
/// `path` can't be used.
pub(crate) fn offer(command: &'static str, path: Option<&Path>) -> Outcome<Option<Offer>> {
    registry::begin();
    let listening = match path {
        None => socket::listen(command)
            .inspect_err(|error| tracing::info!(target: "tcpls", "tcpls status can't ask this command: {error}"))
            .ok(),
        Some(path) => Some(socket::listen_at(path, socket::OWNER).map_err(|error| {
            format!("can't answer tcpls status at {}: {error}; choose another --status-socket", path.display())
        })?),
    };
    Ok(listening
        .map(|Listening { listener, name }| Offer { task: tokio::spawn(serve(listener, command)), _name: name }))
}

/// Accepts readers for ever.
async fn serve(listener: UnixListener, command: &'static str) {
    let answer = Arc::new(Answer { command, latest: Mutex::new(None) });
    let mut readers: VecDeque<JoinHandle<()>> = VecDeque::new();
    loop {
        match listener.accept().await {
            Ok((socket, _)) => {
                readers.retain(|reader| !reader.is_finished());
                if readers.len() == MAX_READERS {
                    readers.pop_front().iter().for_each(JoinHandle::abort);
                }
                let answer = answer.clone();
                readers.push_back(tokio::spawn(async move {
                    // A reader that is slow or has left gets nothing.
                    _ = tokio::time::timeout(PATIENCE, answer.to(socket)).await;
                }));
            }
            Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
        }
    }
}

/// The answer, made at most once in [`FRESH`].
struct Answer {
    command: &'static str,
    latest: Mutex<Option<(Instant, Arc<str>)>>,
}

impl Answer {
    async fn to(&self, socket: UnixStream) -> std::io::Result<()> {
        let mut socket = BufReader::new(socket);
        let mut line = String::new();
        (&mut socket).take(MAX_REQUEST).read_line(&mut line).await?;
        let answer = match serde_json::from_str(&line) {
            Ok(Request { version: VERSION }) => self.text().await,
            Ok(Request { version }) => refusal(&format!("version {version} is unknown; this is version {VERSION}")),
            Err(error) => refusal(&format!("this is no request: {error}")),
        };
        socket.write_all(answer.as_bytes()).await?;
        socket.write_all(b"\n").await?;
        socket.shutdown().await
    }

    async fn text(&self) -> Arc<str> {
        let mut latest = self.latest.lock().await;
        if let Some((_, text)) = latest.as_ref().filter(|(at, _)| at.elapsed() < FRESH) {
            return text.clone();
        }
        let status = registry::status(self.command).await;
        let text: Arc<str> = serde_json::to_string(&status).unwrap_or_default().into();
        *latest = Some((Instant::now(), text.clone()));
        text
    }
}

fn refusal(error: &str) -> Arc<str> {
    serde_json::to_string(&Refused { version: VERSION, error: error.to_owned() }).unwrap_or_default().into()
}
