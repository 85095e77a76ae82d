//! `tcpls pipe`: standard input and output as one end of a connection.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf, Stdin, Stdout, stdin, stdout};

use super::journal::Journal;
use super::{TunnelArgs, close, hint};
use crate::cli::Outcome;
use crate::cli::invite::InviteSource;
use crate::cli::paths::close_briefly;
use crate::cli::signals::Signals;
use crate::net::Runtime;
use crate::proxy::{End, Peer, Splicing, Target, splice};

/// Connect standard input and output to a target of a server
///
/// For ssh: ssh -o "ProxyCommand tcpls pipe --invite @FILE %h:%p" host, or this ProxyCommand in ~/.ssh/config
///
/// The connection goes to "tcpls proxy", in a session of its own over several TCP connections: it survives the loss of a
/// path, and of all paths for the time --outage. Messages are only about what stops it, so that they do not disturb a
/// terminal.
#[derive(Clone, Debug, clap::Args)]
#[command(allow_missing_positional = true)]
pub struct Args {
    /// The server.
    #[command(flatten)]
    pub tunnel: TunnelArgs,
    /// The target to connect to
    #[arg(value_name = "HOST:PORT")]
    pub target: Target,
}

/// Carries standard input and output until the target's end, or a signal.
///
/// # Errors
/// The server can't be reached or refuses, the connection was cut, or a signal ended the command.
pub async fn run(args: Args) -> Outcome {
    if args.tunnel.trust.invite == Some(InviteSource::Stdin) {
        return Err("standard input is for the target; pass the invite as --invite @FILE or in TCPLS_INVITE".into());
    }
    let stop = Signals::listen()?.stop();
    tokio::pin!(stop);
    let journal = Journal::of_child();
    let tunnel = tokio::select! {
        tunnel = args.tunnel.start(&journal, |_, _| {}) => tunnel?,
        stopped = &mut stop => return Err(stopped.quiet_if_hangup().into()),
    };
    let connected = tokio::select! {
        connected = tunnel.connect(&args.target) => connected,
        stopped = &mut stop => {
            close(&tunnel).await;
            return Err(stopped.quiet_if_hangup().into());
        }
    };
    // No other session is needed: this one has the only connection, also while the server drains it. The tunnel has
    // another, or none, if that began before the server had reached the target.
    let session = match &connected {
        Ok((stream, _)) => Some(stream.session()),
        Err(_) => tunnel.session(),
    };
    drop(tunnel);
    let carrying = async {
        let (stream, early) = connected.map_err(|refusal| format!("{}: {refusal}{}", args.target, hint(refusal)))?;
        let splicing = Splicing::default().with(|splicing| splicing.to_peer = early);
        let pipe = Pipe { stdin: stdin(), stdout: stdout(), ended: false };
        match splice(&Runtime::tokio(), stream, pipe, splicing).await.end {
            End::Finished => Ok(()),
            End::PeerReset => Err("standard input or output failed".to_owned()),
            end => Err(format!("{}: the connection {}", args.target, end.text())),
        }
    };
    let outcome: Outcome = tokio::select! {
        outcome = carrying => outcome.map_err(Into::into),
        stopped = &mut stop => Err(stopped.quiet_if_hangup().into()),
    };
    if let Some(session) = session {
        close_briefly(&session).await;
    }
    outcome
}

/// Standard input and output. The end of the output is the end of the process, so it ends the input, too.
struct Pipe {
    stdin: Stdin,
    stdout: Stdout,
    ended: bool,
}

impl Peer for Pipe {}

impl AsyncRead for Pipe {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.ended { Poll::Ready(Ok(())) } else { Pin::new(&mut self.stdin).poll_read(cx, buf) }
    }
}

impl AsyncWrite for Pipe {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stdout).poll_write(cx, data)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stdout).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.stdout).poll_flush(cx))?;
        self.ended = true;
        cx.waker().wake_by_ref(); // the input is read again, and ends
        Poll::Ready(Ok(()))
    }
}
