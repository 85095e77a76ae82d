//! Two ends of what is measured over loopback, each on a thread and a core of its own.

use std::net::SocketAddr;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use crate::Outcome;
use crate::cores::pin;

/// A run that takes longer than this hangs.
const PATIENCE: Duration = Duration::from_secs(120);

/// Runs a server on one thread and a client on another, and gives what the client and the server came to. The server says
/// where it listens.
pub fn two<S: Send, C: Send>(
    server: impl FnOnce(mpsc::Sender<SocketAddr>) -> Outcome<S> + Send,
    client: impl FnOnce(SocketAddr) -> Outcome<C> + Send,
) -> Outcome<(C, S)> {
    let (address_is, where_to) = mpsc::channel();
    let (done, over) = mpsc::channel::<()>();
    let (client, server) = thread::scope(|scope| {
        let server_done = done.clone();
        let server = named("receiver").spawn_scoped(scope, move || {
            pin(1);
            let result = server(address_is).map_err(|error| format!("server: {error}"));
            drop(server_done);
            result
        })?;
        let client = named("sender").spawn_scoped(scope, move || {
            pin(0);
            let address = where_to.recv().map_err(|_| "client: there is no server".to_owned())?;
            let result = client(address).map_err(|error| format!("client: {error}"));
            drop(done);
            result
        })?;
        // An end hangs if its protocol does, and a scope would wait for it forever.
        if over.recv_timeout(PATIENCE) == Err(mpsc::RecvTimeoutError::Timeout) {
            eprintln!("\nno end after {PATIENCE:?}");
            std::process::exit(1);
        }
        Outcome::Ok((client.join(), server.join()))
    })?;
    let panicked = |_| "panicked".to_owned();
    let server = server.map_err(panicked)?;
    Ok((client.map_err(panicked)??, server?))
}

/// Profilers tell threads apart by their names.
fn named(name: &str) -> thread::Builder {
    thread::Builder::new().name(name.to_owned())
}
