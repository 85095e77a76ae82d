//! `tcpls socks`: a local SOCKS and HTTP proxy.

use tokio::task::JoinSet;

use super::journal::Journal;
use super::{TunnelArgs, accept, close, listen, places, tell_listening};
use crate::cli::Outcome;
use crate::cli::listen::ListenOn;
use crate::cli::paths::Weight;
use crate::cli::signals::Signals;
use crate::net::Runtime;
use crate::proxy::{TcpPeer, serve_program};

/// Offer a local SOCKS5 and HTTP proxy
///
/// Carries the connections of local programs to "tcpls proxy", in one session over several TCP connections: they
/// survive the loss of a path, and of all paths for the time --outage. SOCKS version 5 (CONNECT, without credentials) and HTTP
/// CONNECT share a port: curl -x socks5h://127.0.0.1:1080 https://example.com
///
/// While the server can't be reached, new connections wait for --wait, and are then refused. If the
/// session ends, a new one is made for new connections.
#[allow(rustdoc::bare_urls, reason = "--help shows this text as it is")]
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// The server.
    #[command(flatten)]
    pub tunnel: TunnelArgs,
    /// Address and port to listen on for programs; repeat it for several addresses. Port 0 selects a free port
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:1080")]
    pub listen: Vec<ListenOn>,
}

/// Serves local programs until a signal.
///
/// # Errors
/// What keeps it from starting.
pub async fn run(args: Args) -> Outcome {
    let stop = Signals::listen()?.stop();
    tokio::pin!(stop);
    let listeners = listen(&args.listen)?;
    let places = places()?;
    let journal = Journal::of_service();
    let tunnel = tokio::select! {
        tunnel = args.tunnel.start(&journal, |_, _| {}) => tunnel?,
        stopped = &mut stop => return Err(stopped.into()),
    };
    tell_listening(&journal, &listeners, "SOCKS5 and HTTP proxy");
    let mut tasks = JoinSet::new();
    for listener in listeners {
        let (tunnel, places) = (tunnel.clone(), places.clone());
        tasks.spawn(accept(listener, places, journal.clone(), move |socket| {
            let tunnel = tunnel.clone();
            async move { serve_program(&Runtime::tokio(), &tunnel, TcpPeer::new(socket)).await }
        }));
    }
    let stopped = stop.await;
    journal.tell(Weight::Important, format_args!("{stopped}: closing the connections"));
    drop(tasks);
    close(&tunnel).await;
    Ok(())
}
