//! Checks of one endpoint at the end of a run.

use std::time::Duration;

use tcpls_core::error::CloseReason;
use tcpls_core::{Side, Time};

use crate::sim::hosts::driver::Driver;
use crate::sim::scenario::{FaultKind, Scenario, Scheduler};
use crate::sim::traffic::transfers::Transfers;

/// The latest that a timeout may be handled.
const PUNCTUAL: Duration = Duration::from_millis(1);

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

/// Whether an end that drains its session did not begin to close it within the limit. A suspended one can't.
pub(super) fn drains_late(scenario: &Scenario, now: Time, driver: &Driver) -> Option<String> {
    let side = driver.side();
    let may_sleep = side == Side::Client && scenario.fault.iter().any(|fault| fault.kind == FaultKind::Suspend);
    let limit = driver.drained_by.filter(|_| !may_sleep)?;
    let late = driver.closing_at.unwrap_or(now).saturating_since(limit);
    (late > PUNCTUAL).then(|| format!("the {side} closes its drained session {:.3} s late", late.as_secs_f64()))
}

/// Whether an end is configured to send data more than once.
fn duplicates(scenario: &Scenario, side: Side) -> bool {
    let settings = if side == Side::Client { &scenario.client } else { &scenario.server };
    let chosen = scenario.action.iter().filter(|action| Side::from(action.by) == side);
    let mut schedulers = settings.scheduler.into_iter().chain(chosen.filter_map(|action| action.scheduler));
    schedulers.any(|scheduler| scheduler == Scheduler::Redundant)
}
