//! Receives one file: over one session, or over several if sessions end before it is complete.

use tcpls_core::error::CloseReason;

use super::super::download::{Download, Target};
use super::super::progress::{Counted, Progress};
use super::super::text::visible;
use super::renewal::{Dial, Sessions, Turn};
use crate::files::{FetchError, fetch};

/// One file to fetch.
#[derive(Clone, Debug)]
pub(super) struct Job {
    pub(super) url: String,
    /// As in the request.
    pub(super) host: String,
    pub(super) path: String,
    pub(super) target: Target,
    /// Whether it continues what an earlier run has left.
    pub(super) continues: bool,
    /// Files that the command fetches.
    pub(super) files: usize,
}

/// Why a file was not received.
pub(super) struct Fault {
    pub(super) text: String,
    /// Why the session ended, if it did: that is more specific.
    pub(super) end: Option<CloseReason>,
    /// Why there is no other session, if one was tried.
    pub(super) no_other: Option<String>,
}

impl From<String> for Fault {
    fn from(text: String) -> Self {
        Self { text, end: None, no_other: None }
    }
}

/// What was received of a file.
pub(super) struct Received {
    /// Its length.
    pub(super) bytes: u64,
    /// Of these, what an earlier run had left.
    pub(super) continued: u64,
}

/// What ends one attempt.
enum Trouble {
    Response(FetchError),
    Output(std::io::Error),
}

impl From<std::io::Error> for Trouble {
    fn from(error: std::io::Error) -> Self {
        Self::Output(error)
    }
}

impl From<FetchError> for Trouble {
    fn from(error: FetchError) -> Self {
        Self::Response(error)
    }
}

/// Fetches a file. It gets its name only once it is complete.
pub(super) async fn receive<D: Dial>(
    sessions: &Sessions<D>,
    job: &Job,
    progress: &Progress,
) -> Result<Received, Fault> {
    let mut download = Download::new(&job.target, job.files);
    if job.continues {
        download.adopt().await.map_err(|error| unwritten(job, &error))?;
    }
    let mut counted = progress.file(download.len());
    let outcome = receive_all(sessions, job, &mut download, &mut counted).await;
    counted.end();
    match outcome {
        Ok(()) => {
            let bytes = download.len();
            download.complete().await.map_err(|error| unwritten(job, &error))?;
            Ok(Received { bytes, continued: counted.continued() })
        }
        Err(fault) => {
            download.end().await;
            Err(fault)
        }
    }
}

async fn receive_all<D: Dial>(
    sessions: &Sessions<D>,
    job: &Job,
    download: &mut Download,
    counted: &mut Counted,
) -> Result<(), Fault> {
    let mut turn = sessions.current();
    loop {
        let before = download.len();
        let error = match receive_over(&turn, job, download, counted).await {
            Ok(()) => return Ok(()),
            Err(Trouble::Output(error)) => return Err(unwritten(job, &error).into()),
            Err(Trouble::Response(error)) => error,
        };
        // What was there is not from this file; without it, there is no such answer.
        let is_other = error == FetchError::NoRest && download.have().is_some();
        if is_other {
            download.begin(0, None).await.map_err(|error| unwritten(job, &error))?;
            counted.begin(0, None);
        }
        // The reader of standard output took a break, which was too long for the server.
        if is_other || (error.is_stalled() && download.len() > before) {
            if !turn.session.is_tcpls() {
                turn = sessions.next().await?;
            }
            continue;
        }
        let end = turn.session.close_reason().filter(|reason| !matches!(reason, CloseReason::Local { .. }));
        let may_continue = match &end {
            Some(end) => sessions.may_continue(end),
            None => turn.session.is_draining() && sessions.may_wait(),
        };
        let text = visible(&error.to_string());
        if !may_continue || !error.is_of_session() {
            return Err(Fault { text, end, no_other: None });
        }
        let renewed = sessions.renew(turn.number, end.as_ref()).await;
        turn = renewed.map_err(|no_other| Fault { text, end, no_other: Some(no_other) })?;
    }
}

/// Receives a file, or what is missing of it, over one session.
async fn receive_over(turn: &Turn, job: &Job, download: &mut Download, counted: &mut Counted) -> Result<(), Trouble> {
    let stream = turn.session.open_stream().await.map_err(|_| FetchError::Cut)?;
    stream.set_label(&job.url);
    let mut content = fetch(stream, &job.host, &job.path, download.have().as_ref()).await?;
    download.begin(content.start(), content.etag()).await?;
    counted.begin(content.start(), content.total());
    while let Some(piece) = content.next().await? {
        counted.count(piece.len());
        download.push(piece).await?;
    }
    Ok(())
}

fn unwritten(job: &Job, error: &std::io::Error) -> String {
    match &job.target {
        Target::File(path) => format!("can't write {}: {error}", path.display()),
        Target::Stdout => format!("can't write to standard output: {error}"),
    }
}
