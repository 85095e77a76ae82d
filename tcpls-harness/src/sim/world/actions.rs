//! Actions of applications in a scenario, besides transfers.

use std::time::Duration;

use tcpls_core::{ConnectionId, ErrorCode, StreamId, Time};

use crate::sim::hosts::driver::{Driver, scheduler};
use crate::sim::scenario::{Action, ActionKind};

/// The TCP option that applications send (RFC 5482).
const USER_TIMEOUT_OPTION: u8 = 28;
/// How long streams may continue in a drained session, where a scenario says nothing.
const DAY: Duration = Duration::from_secs(86_400);

/// Does it at one end, on path number `path` and with `stream` where that matters. `join` is the client's host's business.
///
/// # Errors
/// The error of the session.
pub(super) fn perform(
    driver: &mut Driver,
    now: Time,
    action: &Action,
    path: usize,
    stream: Option<StreamId>,
) -> Result<(), String> {
    let tcps: Vec<ConnectionId> = driver.on_path(path).collect();
    let conn = &mut driver.conn;
    match action.kind {
        ActionKind::Join => {}
        ActionKind::Scheduler => action.scheduler.into_iter().for_each(|chosen| conn.set_scheduler(scheduler(chosen))),
        ActionKind::UpdateKeys => conn.update_keys(now),
        ActionKind::Drain => driver.drain(now, action.limit.map_or(DAY, |limit| limit.0)),
        ActionKind::Close => conn.close(now, ErrorCode(0), b""),
        ActionKind::Advertise => return driver.advertise(path),
        ActionKind::Withdraw => return driver.withdraw(path),
        ActionKind::AskOptions => return driver.ask_options(now, path),
        ActionKind::TcpOption => {
            conn.send_tcp_option(USER_TIMEOUT_OPTION, &[0, 30]).map_err(|error| error.to_string())?;
        }
        kind => {
            for tcp in tcps {
                let outcome = match (kind, stream) {
                    (ActionKind::Retire, _) => conn.retire_tcp(now, tcp),
                    (ActionKind::Backup, _) => conn.set_backup(tcp, true),
                    (ActionKind::Available, _) => conn.set_backup(tcp, false),
                    (ActionKind::Ping, _) => conn.ping(tcp),
                    (ActionKind::Attach, Some(id)) => conn.stream(id).attach(tcp),
                    (ActionKind::Detach, Some(id)) => conn.stream(id).detach(tcp),
                    _ => Ok(()),
                };
                outcome.map_err(|error| error.to_string())?;
            }
        }
    }
    Ok(())
}
