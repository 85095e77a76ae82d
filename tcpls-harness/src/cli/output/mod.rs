//! Standard output and standard error: a bounded queue and a thread for each, so that no session waits for a reader.
//!
//! An unread log, a stopped terminal or a full disk blocks only the thread that writes. Messages that find the queue
//! full are dropped and counted; the count is written when there is room again. Results are not dropped: the command
//! waits for them at its end.
//!
//! | | to | when the queue is full |
//! | --- | --- | --- |
//! | [`tell`] | standard error, for people | dropped |
//! | [`event`] | standard output, as JSON | dropped |
//! | [`result`], [`result_json`] | standard output | waits |
//! | [`show`] | standard error, if it is a terminal | replaces what was shown |

mod screen;
mod sink;

use std::error::Error;
use std::fs::File;
use std::io::{self, IsTerminal};
use std::sync::{Arc, LazyLock};
use std::time::Duration;
use std::{env, fmt};

use serde::Serialize;

use self::screen::Screen;
pub(crate) use self::sink::Sink;
use super::Outcome;
use super::signals::Signals;
use super::text::{visible, visible_json, visible_lines};

static OUT: LazyLock<Arc<Sink>> = LazyLock::new(|| Sink::start(io::stdout(), Screen::none(), lost_event));
static IS_SHOWN: LazyLock<bool> =
    LazyLock::new(|| io::stderr().is_terminal() && env::var_os("TERM").is_none_or(|terminal| terminal != "dumb"));
static ERR: LazyLock<Arc<Sink>> = LazyLock::new(|| {
    let screen = if *IS_SHOWN { Screen::of(error_columns) } else { Screen::none() };
    Sink::start(io::stderr(), screen, |lost| format!("tcpls: {lost} messages lost: their reader is too slow"))
});

/// How long a command that was stopped waits for its last messages to be read, and others for a terminal that is stopped.
const PATIENCE: Duration = Duration::from_secs(1);
/// What shells report for a command that SIGPIPE ended.
const PIPE_EXIT_CODE: u8 = 141;

/// The line in a server's log for dropped messages.
#[derive(Serialize)]
#[serde(tag = "event", rename = "messages_lost")]
struct Lost {
    messages: u64,
}

fn lost_event(messages: u64) -> String {
    to_json(&Lost { messages })
}

fn to_json<T: Serialize>(value: &T) -> String {
    // What is printed here are structs of numbers and strings: they always serialise.
    visible_json(&serde_json::to_string(value).unwrap_or_default())
}

fn error_columns() -> Option<usize> {
    terminal_size::terminal_size_of(io::stderr()).map(|(width, _)| width.0.into())
}

/// Prints lines for people on standard error. As in all output, terminal control characters are escaped.
pub(crate) fn tell(text: impl fmt::Display) {
    ERR.push(visible_lines(&text.to_string()));
}

/// Prints an event as a line of JSON on standard output.
pub(crate) fn event<T: Serialize>(value: &T) {
    OUT.push(to_json(value));
}

/// Prints a line of a result on standard output. Blocks while the queue is full.
///
/// # Errors
/// The reader has closed the pipe.
pub(crate) fn result(text: impl fmt::Display) -> Result<(), Unwritten> {
    OUT.push_result(visible_lines(&text.to_string()))
}

/// Prints a result as one line of JSON on standard output. Blocks while the queue is full.
///
/// # Errors
/// The reader has closed the pipe.
pub(crate) fn result_json<T: Serialize>(value: &T) -> Result<(), Unwritten> {
    OUT.push_result(to_json(value))
}

/// Shows lines below all messages, until others replace them; none removes them. Long lines are truncated.
pub(crate) fn show(lines: Vec<String>) {
    ERR.show(lines.iter().map(|line| visible(line)).collect());
}

/// Removes the lines of [`show`], so that results are not mixed with them.
pub(crate) async fn clear() {
    show(Vec::new());
    _ = tokio::time::timeout(PATIENCE, ERR.drained()).await;
}

/// Lines of a log in `file`.
pub(crate) fn log(file: File) -> Arc<Sink> {
    Sink::start(file, Screen::none(), |lost| format!("# {lost} lines lost: the file is too slow"))
}

/// Whether a terminal shows what [`show`] is given.
pub(crate) fn is_shown() -> bool {
    *IS_SHOWN
}

/// The width of the terminal that [`result`] writes to; `None` if it is none.
pub(crate) fn columns() -> Option<usize> {
    terminal_size::terminal_size_of(io::stdout()).map(|(width, _)| width.0.into())
}

/// The width of the terminal that [`show`] writes to; `None` if it is none.
pub(crate) fn shown_columns() -> Option<usize> {
    error_columns()
}

/// The height of the terminal that [`show`] writes to; `None` if it is none.
#[cfg(unix)]
pub(crate) fn shown_rows() -> Option<usize> {
    terminal_size::terminal_size_of(io::stderr()).map(|(_, height)| height.0.into())
}

/// Waits until everything is written, after `outcome` has said whether the command was stopped: then its last messages are
/// given up after a second. A signal ends the wait, too.
///
/// # Errors
/// Something could not be written.
pub(crate) async fn finish(stopped: bool) -> Outcome {
    show(Vec::new());
    let drained = async {
        OUT.drained().await;
        ERR.drained().await;
    };
    if stopped {
        _ = tokio::time::timeout(PATIENCE, drained).await;
    } else {
        tokio::select! {
            () = drained => {}
            stopped = Signals::listen()?.stop() => return Err(stopped.into()),
        }
    }
    OUT.failure().map_or(Ok(()), |unwritten| Err(unwritten.into()))
}

/// Standard output could not be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unwritten {
    kind: io::ErrorKind,
    text: String,
}

impl Unwritten {
    fn new(error: &io::Error) -> Self {
        Self { kind: error.kind(), text: error.to_string() }
    }

    /// Whether the reader has closed the pipe, like `head`: this is not an error.
    pub(crate) fn is_quiet(&self) -> bool {
        self.kind == io::ErrorKind::BrokenPipe
    }

    /// Why.
    pub(crate) fn cause(&self) -> &str {
        &self.text
    }

    /// The command's exit code.
    pub(crate) fn exit_code(&self) -> u8 {
        if self.is_quiet() { PIPE_EXIT_CODE } else { 1 }
    }
}

impl fmt::Display for Unwritten {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "can't write to standard output: {}", self.text)
    }
}

impl Error for Unwritten {}
