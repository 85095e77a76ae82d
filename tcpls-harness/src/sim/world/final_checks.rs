//! Checks of one endpoint at the end of a run.

use tcpls_core::Side;
use tcpls_core::error::CloseReason;

use crate::sim::hosts::driver::Driver;
use crate::sim::scenario::{FaultKind, Scenario, Scheduler};
use crate::sim::traffic::transfers::Transfers;

/// Returns the errors in the end of an endpoint, and in what it sent; `transfers` are those of its session.
pub(super) fn final_checks(scenario: &Scenario, transfers: &Transfers, driver: &Driver) -> Vec<String> {
    let mut wrong = Vec::new();
    let corrupt = scenario.fault.iter().any(|fault| fault.kind == FaultKind::Corrupt);
    let (side, stats) = (driver.side(), driver.stats());
    match driver.conn.close_reason() {
        // Both ends are ours.
        Some(CloseReason::Violation(rule)) => {
            wrong.push(format!("the {side} says that the peer violated the protocol: {rule}"))
        }
        Some(CloseReason::Handshake(error)) if !corrupt => wrong.push(format!("the {side}: {error}")),
        _ => {}
    }
    let sent: u64 = stats.tcp.iter().map(|tcp| tcp.counters.stream_bytes_sent).sum();
    let again: u64 = stats.tcp.iter().map(|tcp| tcp.counters.requeued_bytes).sum();
    let written = transfers.written(side);
    for tcp in &stats.tcp {
        let (carried, again) = (tcp.counters.stream_bytes_sent, tcp.counters.requeued_bytes);
        if again > carried {
            wrong.push(format!("the {side}: {again} bytes were requeued of {carried} that {} carried", tcp.tcp));
        }
    }
    // What applications of users write is not counted.
    if driver.handles.is_none() && sent > written + again && !duplicates(scenario, side) {
        wrong.push(format!("the {side} sent {sent} bytes, {again} of them again, of {written} that were written"));
    }
    wrong
}

/// Whether an end is configured to send data more than once.
fn duplicates(scenario: &Scenario, side: Side) -> bool {
    let settings = if side == Side::Client { &scenario.client } else { &scenario.server };
    let chosen = scenario.action.iter().filter(|action| Side::from(action.by) == side);
    let mut schedulers = settings.scheduler.into_iter().chain(chosen.filter_map(|action| action.scheduler));
    schedulers.any(|scheduler| scheduler == Scheduler::Redundant)
}
