//! `RUST_LOG`: a log of sessions on standard error. Like all messages, lines are dropped and counted if its queue is
//! full.

use std::env::{self, VarError};
use std::io::{self, Write};

use tracing_subscriber::EnvFilter;

use super::{Outcome, output};

/// The environment variable that selects what is logged, for example `tcpls=debug`.
const VARIABLE: &str = "RUST_LOG";

/// Starts logging if the environment variable is set.
///
/// # Errors
/// The variable is not a filter.
pub(super) fn start() -> Outcome {
    let filter = match env::var(VARIABLE) {
        Ok(filter) if !filter.is_empty() => filter,
        Ok(_) | Err(VarError::NotPresent) => return Ok(()),
        Err(error @ VarError::NotUnicode(_)) => return Err(refused(&error)),
    };
    let filter = EnvFilter::try_new(filter).map_err(|error| refused(&error))?;
    let subscriber = tracing_subscriber::fmt().with_env_filter(filter).with_writer(|| Lines).with_ansi(false);
    subscriber.try_init()
}

fn refused(error: &dyn std::error::Error) -> Box<dyn std::error::Error + Send + Sync> {
    format!("{VARIABLE}: {error}; set it to a filter such as tcpls=debug, or unset it").into()
}

/// Prints written bytes as lines for people. Each event comes in one piece.
struct Lines;

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        output::tell(String::from_utf8_lossy(bytes).trim_end());
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
