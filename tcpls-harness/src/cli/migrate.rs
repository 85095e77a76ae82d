//! `get --migrate`: a download moves from one path to another while it runs.

use std::net::SocketAddr;
use std::str::FromStr;
use std::time::Duration;

use tcpls_core::wire::ids::ConnectionId;

use super::paths::{add_tcp, resolve};
use super::{Outcome, output};
use crate::net::Session;

/// When to move, and to where.
#[derive(Clone, Debug, PartialEq)]
pub struct Move {
    after: Duration,
    address: String,
}

impl FromStr for Move {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (seconds, address) =
            text.split_once(':').ok_or("write SECONDS:HOST:PORT, for example 2.5:192.0.2.1:4433")?;
        let after = seconds.parse().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
        let after = after
            .ok_or_else(|| format!("{seconds:?} is not a number of seconds; write for example 2.5:192.0.2.1:4433"))?;
        Ok(Self { after, address: address.to_owned() })
    }
}

/// What each move leads to, looked up before the download starts.
pub(crate) async fn look_up(moves: &[Move]) -> Outcome<Vec<(Duration, SocketAddr)>> {
    let addresses = resolve(&moves.iter().map(|step| step.address.clone()).collect::<Vec<_>>()).await?;
    let mut steps: Vec<_> = moves.iter().map(|step| step.after).zip(addresses).collect();
    steps.sort();
    Ok(steps)
}

/// Moves at the times given, counted from now. A move that fails leaves the session where it is.
pub(crate) async fn migrate(session: Session, steps: Vec<(Duration, SocketAddr)>) {
    let start = tokio::time::Instant::now();
    for (after, address) in steps {
        tokio::time::sleep_until(start + after).await;
        if let Err(error) = move_to(&session, address).await
            && session.close_reason().is_none()
        {
            output::tell(format_args!("tcpls: can't move to {address}: {error}"));
        }
    }
}

/// The new TCP connection is up before the others are left.
async fn move_to(session: &Session, address: SocketAddr) -> Outcome {
    let before: Vec<ConnectionId> = session.tcp_connections();
    add_tcp(session, address.into()).await?;
    for tcp in before {
        // One that was lost meanwhile needs no leave.
        _ = session.retire_tcp(tcp);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_move_is_seconds_and_an_address() {
        let step =
            |seconds, address: &str| Ok(Move { after: Duration::from_secs_f64(seconds), address: address.to_owned() });
        assert_eq!("2.5:192.0.2.1:4433".parse(), step(2.5, "192.0.2.1:4433"));
        assert_eq!("0:[::1]:4433".parse(), step(0.0, "[::1]:4433"));
        for bad in ["", "2", "x:192.0.2.1:1", "-1:192.0.2.1:1", "NaN:192.0.2.1:1", "1e99:192.0.2.1:1"] {
            assert!(bad.parse::<Move>().is_err(), "{bad:?}");
        }
    }
}
