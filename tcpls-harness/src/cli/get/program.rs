//! `--ask-program` and `--bring-program`: a congestion control of the server's that is a BPF program.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tcpls_core::error::AskOptionError;
use tcpls_core::event::OptionOutcome;
use tokio::time::timeout;

use super::super::{Outcome, output};
use crate::net::{Session, TcpOption};
use crate::programs::ProgramId;

/// How long the file waits for the server's answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// A congestion control that is a BPF program.
#[derive(Clone, Debug)]
pub(super) enum Wanted {
    /// One that the server knows.
    Known(ProgramId),
    /// One that comes along.
    Signed(Arc<[u8]>),
}

impl Wanted {
    /// That of the command line, if there is one.
    pub(super) fn of(known: Option<ProgramId>, file: Option<&Path>) -> Outcome<Option<Self>> {
        let Some(path) = file else { return Ok(known.map(Self::Known)) };
        let signed = std::fs::read(path).map_err(|error| format!("can't read {}: {error}", path.display()))?;
        Ok(Some(Self::Signed(signed.into())))
    }
}

/// Asks for a BPF program on all TCP connections, brings it if it comes along, and prints the answer. Waits for it, so that
/// the first byte is sent under that congestion control, but not for long.
pub(super) async fn ask(session: &Session, wanted: &Wanted) {
    let asking = async {
        let id = match wanted {
            Wanted::Known(id) => *id,
            Wanted::Signed(signed) => match session.bring_program(signed).await? {
                Ok(id) => id,
                Err(outcome) => return Ok(format!("does not take the program: {outcome}")),
            },
        };
        let outcome = session.all_tcp().ask_peer(TcpOption::CongestionProgram(id)).await?;
        Ok::<_, AskOptionError>(match outcome {
            OptionOutcome::Applied => format!("uses the program {id}"),
            outcome => format!("does not use the program {id}: {outcome}"),
        })
    };
    match timeout(PATIENCE, asking).await {
        Ok(Ok(answer)) => output::tell(format_args!("the server {answer}")),
        Ok(Err(error)) => output::tell(format_args!("the server can't be asked for a program: {error}")),
        Err(_) => output::tell(format_args!("the server does not say in 10 s whether it uses the program")),
    }
}
