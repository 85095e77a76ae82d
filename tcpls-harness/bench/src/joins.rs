//! The server's CPU time for a join, compared with that for a new session: both in memory; only the calls on the
//! server's side are timed.

use std::sync::Arc;
use std::time::Duration;

use tcpls_core::Config;
use tcpls_results::{Better, Cell, Column, Goal, Row, Table};

use crate::Outcome;
use crate::cores::pin;
use crate::memory::pair::Pair;
use crate::output::Output;
use crate::tls::Tls;

/// How much of a handshake's cost a join may have.
const GOAL: f64 = 1.0 / 20.0;

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
    let (tls, config) = (Tls::new()?, Arc::new(Config::default()));
    let (mut pair, _) = Pair::handshake(&tls, &config)?;
    let (mut handshakes, mut joins) = (Vec::new(), Vec::new());
    for _ in 0..args.times {
        handshakes.push(Pair::handshake(&tls, &config)?.1);
        let (tcp, time) = pair.join()?;
        joins.push(time);
        pair.retire(tcp)?;
    }
    let median = |times: &[Duration]| Cell::median(times.iter().map(|time| time.as_secs_f64() * 1e6));
    let (handshake, join) = (median(&handshakes), median(&joins));
    let ratio = join.zip(handshake).and_then(|(join, handshake)| Cell::value(join.value / handshake.value));
    let ratio = ratio.map(|ratio| ratio.with_goal(Some(Goal::AtMost(GOAL))));
    let cells = vec![handshake.map(Cell::without_range), join.map(Cell::without_range), ratio];
    let columns = vec![
        Column::new("full handshake", "µs", 1, Better::Lower),
        Column::new("join", "µs", 1, Better::Lower),
        Column::portable("join / full handshake", "", 3, Better::Lower),
    ];
    let rows = vec![Row { name: "CPU of the server".to_owned(), cells }];
    args.output.give(vec![Table { name: "joins".to_owned(), rows_are: String::new(), columns, rows }])
}
