//! The server's CPU time for a join, compared with that for a new session: both in memory; only the calls on the
//! server's side are timed.

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use tcpls_core::Config;

use crate::Outcome;
use crate::cores::pin;
use crate::memory::pair::Pair;
use crate::table;
use crate::tls::{PROVIDER, Tls};

/// How much of a handshake's cost a join may have.
const GOAL: f64 = 1.0 / 20.0;

/// The server's CPU time for a join, against a full handshake
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Number of handshakes and of joins, in turns
    #[arg(long, value_name = "N", default_value_t = 1000)]
    times: usize,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Medians, in microseconds.
#[derive(Serialize)]
struct Report {
    handshake: f64,
    join: f64,
    ratio: f64,
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
    let median = |times: &[Duration]| table::median(times.iter().map(|time| time.as_secs_f64() * 1e6));
    let (handshake, join) = (median(&handshakes), median(&joins));
    let report = Report { handshake, join, ratio: join / handshake };
    if args.json {
        println!("{}", serde_json::to_string(&report)?);
        return Ok(());
    }
    println!("at the server, in memory, ECDSA P-256 and X25519 by {PROVIDER}, median of {}", args.times);
    println!("full handshake  {handshake:.1} µs");
    let verdict = if report.ratio <= GOAL { "" } else { ", missed" };
    println!("join            {join:.1} µs, 1/{:.0} of it (goal: 1/20{verdict})", 1.0 / report.ratio);
    Ok(())
}
