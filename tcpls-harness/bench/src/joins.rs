//! The server's CPU time for a join, compared with that for a new session: both in memory; only the calls on the
//! server's side are timed. The key exchange, which is a part of both unless a join has the draft's form, is timed alone as
//! well.

use std::sync::Arc;
use std::time::Instant;

use tcpls_core::Config;
use tcpls_results::{Better, Cell, Column, Goal, Row, Table};

use crate::Outcome;
use crate::cores::pin;
use crate::memory::pair::Pair;
use crate::output::Output;
use crate::tls::{Tls, exchange_keys, key_share};

/// What is measured. In the draft's form, the server performs no key exchange; a resumption has one, and no signature.
#[derive(Clone, Copy)]
struct Kind {
    name: &'static str,
    is_resumption: bool,
    zero_rtt: bool,
    /// How much of a handshake's cost a join may have.
    goal: f64,
}

const KINDS: [Kind; 3] = [
    Kind { name: "the draft's form", is_resumption: false, zero_rtt: true, goal: 1.0 / 20.0 },
    Kind { name: "resumption, 0-RTT", is_resumption: true, zero_rtt: true, goal: 1.0 / 4.0 },
    Kind { name: "resumption, 1-RTT", is_resumption: true, zero_rtt: false, goal: 1.0 / 4.0 },
];

/// The server's CPU time for a join, against a full handshake
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Number of handshakes and of joins, in turns
    #[arg(long, value_name = "N", default_value_t = 1000)]
    times: usize,
    #[command(flatten)]
    output: Output,
}

/// Measures and prints.
pub fn run(args: &Args) -> Outcome {
    pin(0);
    let mut rows = Vec::new();
    for (key, tls) in [("ECDSA P-256", Tls::new()?), ("RSA 2048", Tls::rsa()?)] {
        for kind in KINDS {
            let cells = measure(&tls, kind, args.times)?;
            rows.push(Row { name: format!("{}, certificate with {key}", kind.name), cells });
        }
    }
    let columns = vec![
        Column::new("full handshake", "µs", 1, Better::Lower),
        Column::new("join", "µs", 1, Better::Lower),
        Column::new("key exchange alone", "µs", 1, Better::Lower),
        Column::portable("join / full handshake", "", 3, Better::Lower),
    ];
    args.output.give(vec![Table { name: "joins".to_owned(), rows_are: "CPU of the server".to_owned(), columns, rows }])
}

fn measure(tls: &Tls, kind: Kind, times: usize) -> Outcome<Vec<Option<Cell>>> {
    let mut config = Config::default();
    config.zero_rtt_join = kind.zero_rtt;
    config.idle_timeout = None; // many joins take a while, without any stream
    let config = Arc::new(config);
    let server = tls.tcpls_server()?;
    // The client of each session is a new one, so that the handshake is a full one.
    let client = || if kind.is_resumption { tls.tcpls_client_with_resumed_joins() } else { tls.tcpls_client() };
    let share = key_share()?;
    let (mut pair, _) = Pair::handshake_between(&client()?, &server, &config)?;
    let (mut handshakes, mut joins, mut exchanges, mut ratios) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for _ in 0..times {
        let (_, handshake) = Pair::handshake_between(&client()?, &server, &config)?;
        let (tcp, join) = pair.join_as(|join| join.is_resumption() == kind.is_resumption)?;
        pair.retire(tcp)?;
        let start = Instant::now();
        exchange_keys(&share)?;
        exchanges.push(start.elapsed().as_secs_f64() * 1e6);
        ratios.push(join.as_secs_f64() / handshake.as_secs_f64());
        handshakes.push(handshake.as_secs_f64() * 1e6);
        joins.push(join.as_secs_f64() * 1e6);
    }
    let median = |values: Vec<f64>| Cell::median(values).map(Cell::without_range);
    let ratio = median(ratios).map(|ratio| ratio.with_goal(Some(Goal::AtMost(kind.goal))));
    Ok(vec![median(handshakes), median(joins), median(exchanges), ratio])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_join_is_measured_with_both_certificates() {
        for tls in [Tls::new().unwrap(), Tls::rsa().unwrap()] {
            for kind in KINDS {
                let cells = measure(&tls, kind, 3).unwrap();
                assert!(cells.iter().all(Option::is_some), "{}", kind.name);
            }
        }
    }
}
