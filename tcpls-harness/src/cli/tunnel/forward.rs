//! `tcpls forward`: local ports that lead to fixed targets.

use std::net::SocketAddr;
use std::str::FromStr;

use tokio::task::JoinSet;

use super::journal::Journal;
use super::{TunnelArgs, accept, close, listen, places, tell_listening};
use crate::cli::Outcome;
use crate::cli::listen::ListenOn;
use crate::cli::paths::Weight;
use crate::cli::signals::Signals;
use crate::net::{Runtime, Session};
use crate::proxy::{Credentials, Refusal, RemoteForward, RemoteForwards, RemoteReport, Target, TcpPeer, serve_forward};

/// Forward ports to targets of a server
///
/// With -L, as in ssh, connections to a local port are carried to "tcpls proxy", which connects to the target. With -R, the
/// server listens, and connections are carried to this host, which connects to the target; after a new session the server
/// listens again. All share one session over several TCP connections, and survive the loss of a path, and of all paths for the time --outage.
///
/// While the server can't be reached, new connections wait for --wait, and are then reset. If the session ends, a new one is
/// made for new connections.
#[derive(Clone, Debug, clap::Args)]
#[command(group(clap::ArgGroup::new("ports").required(true).multiple(true).args(["forwards", "remotes"])))]
pub struct Args {
    /// The server.
    #[command(flatten)]
    pub tunnel: TunnelArgs,
    /// Listen on PORT of this host (BIND: of that address; default 127.0.0.1), and connect to HOST:PORT from the server.
    /// Repeat it for several ports
    #[arg(short = 'L', long = "local-forward", value_name = "[BIND:]PORT:HOST:PORT")]
    pub forwards: Vec<Forward>,
    /// Let the server listen on PORT (BIND: of that address; default 127.0.0.1), and connect to HOST:PORT from this host.
    /// The server needs --allow-remote for it. Repeat it for several ports
    #[arg(short = 'R', long = "remote-forward", value_name = "[BIND:]PORT:HOST:PORT")]
    pub remotes: Vec<Remote>,
}

/// A port of the server that leads to a target of this host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remote(RemoteForward);

impl FromStr for Remote {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (listen, target) = split_listen(text)?;
        let listen: SocketAddr = listen.parse().map_err(|_| format!("{listen:?} is no address and port"))?;
        if listen.port() == 0 {
            return Err("the port must be from 1 to 65535".to_owned());
        }
        let target = target.parse().map_err(|error| format!("{target}: {error}"))?;
        Ok(Self(RemoteForward { listen, target }))
    }
}

/// A port that leads to a target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Forward {
    listen: ListenOn,
    target: Target,
}

impl FromStr for Forward {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (listen, target) = split_listen(text)?;
        Ok(Self { listen: listen.parse()?, target: target.parse().map_err(|error| format!("{target}: {error}"))? })
    }
}

/// Returns the address to listen on, with what is not given, and the target.
fn split_listen(text: &str) -> Result<(String, &str), String> {
    let (listen, target) = split(text).ok_or("write [BIND:]PORT:HOST:PORT, with IPv6 addresses in brackets")?;
    let listen = match listen.strip_prefix("*:") {
        Some(port) => format!("0.0.0.0:{port}"),
        None if listen.contains(':') => listen.to_owned(),
        None => format!("127.0.0.1:{listen}"),
    };
    Ok((listen, target))
}

/// Splits `[BIND:]PORT` from `HOST:PORT`, at the second last colon that is not in brackets.
fn split(text: &str) -> Option<(&str, &str)> {
    let (mut depth, mut colons) = (0, 0);
    for (at, c) in text.char_indices().rev() {
        match c {
            ']' => depth += 1,
            '[' => depth -= 1,
            ':' if depth == 0 => colons += 1,
            _ => {}
        }
        if colons == 2 {
            return Some((&text[..at], &text[at + 1..]));
        }
    }
    None
}

/// Forwards until a signal.
///
/// # Errors
/// What keeps it from starting.
pub async fn run(args: Args) -> Outcome {
    let stop = Signals::listen()?.stop();
    tokio::pin!(stop);
    let listening: Outcome<Vec<_>> = args
        .forwards
        .iter()
        .map(|forward| Ok((listen(std::slice::from_ref(&forward.listen))?, forward.target.clone())))
        .collect();
    let listening = listening?;
    let places = places()?;
    let journal = Journal::of_service();
    let remotes: Vec<RemoteForward> = args.remotes.iter().map(|remote| remote.0.clone()).collect();
    let remotes = RemoteForwards::new(&Runtime::tokio(), remotes);
    let remote_journal = journal.clone();
    let on_session = move |session: &Session, credentials: Option<&Credentials>| {
        let (remotes, session, credentials) = (remotes.clone(), session.clone(), credentials.cloned());
        let journal = remote_journal.clone();
        let tell = move |report| tell_remote(&journal, report);
        tokio::spawn(async move { remotes.serve(&session, credentials, tell).await });
    };
    let tunnel = tokio::select! {
        tunnel = args.tunnel.start(&journal, on_session) => tunnel?,
        stopped = &mut stop => return Err(stopped.into()),
    };
    let mut tasks = JoinSet::new();
    for (listeners, target) in listening {
        tell_listening(&journal, &listeners, &format!("forwarding to {target}"));
        for listener in listeners {
            let (tunnel, target) = (tunnel.clone(), target.clone());
            tasks.spawn(accept(listener, places.clone(), journal.clone(), move |socket| {
                let (tunnel, target) = (tunnel.clone(), target.clone());
                async move { serve_forward(&Runtime::tokio(), &tunnel, TcpPeer::new(socket), &target).await }
            }));
        }
    }
    let stopped = stop.await;
    journal.tell(Weight::Important, format_args!("{stopped}: closing the connections"));
    drop(tasks);
    close(&tunnel).await;
    Ok(())
}

/// Logs what happens to ports of the server.
fn tell_remote(journal: &Journal, report: RemoteReport) {
    let text = match report {
        RemoteReport::Listening(address) => format!("the server listens on {address}"),
        RemoteReport::Refused(address, Refusal::Denied) => {
            format!("the server does not permit {address}; it needs an --allow-remote for it")
        }
        RemoteReport::Refused(address, refusal) => format!("port {address}: {refusal}"),
    };
    journal.tell(Weight::Important, text);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forwards_are_read_as_ssh_writes_them() {
        for (text, listen, target) in [
            ("8080:example.com:80", "127.0.0.1:8080", "example.com:80"),
            ("0.0.0.0:8080:example.com:80", "0.0.0.0:8080", "example.com:80"),
            ("*:8080:example.com:80", "0.0.0.0:8080", "example.com:80"),
            ("8080:[2001:db8::1]:80", "127.0.0.1:8080", "[2001:db8::1]:80"),
            ("[::1]:8080:[2001:db8::1]:80", "[::1]:8080", "[2001:db8::1]:80"),
        ] {
            let listen = ListenOn::all(&[listen.parse().unwrap()]);
            let forward: Forward = text.parse().unwrap();
            let remote: Remote = text.parse().unwrap();
            assert_eq!(
                ([remote.0.listen].as_slice(), remote.0.target.to_string()),
                (listen.as_slice(), target.to_owned())
            );
            assert_eq!((ListenOn::all(&[forward.listen]), forward.target.to_string()), (listen, target.to_owned()));
        }
        for text in ["", "80", "a:80", "8080:a", "8080:a:0", "x:a:80", "8080:2001:db8::1:80:", "]:8080:a:1"] {
            assert!(text.parse::<Forward>().is_err() && text.parse::<Remote>().is_err(), "{text}");
        }
    }
}
