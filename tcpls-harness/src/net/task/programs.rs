//! Congestion controls as BPF programs, which a peer asks for by hash: a helper registers them, and the session's task selects
//! the name.

use std::sync::Arc;

use tcpls_core::event::OptionOutcome;
use tcpls_core::wire::ids::{ConnectionId, OptionRequestId};

use crate::net::session::{Asker, Shared};
use crate::net::tcp_option::{CongestionName, TcpOption};
use crate::programs::{Answer, Helper, ProgramId, Request};

/// Asks the helper in a task of its own, which takes up to its patience; then the socket's option is set, or the peer learns
/// why not. The socket keeps its congestion control until then.
pub(super) fn select(
    shared: Arc<Shared>,
    helper: Option<Helper>,
    id: ProgramId,
    tcp: ConnectionId,
    request: Option<OptionRequestId>,
) {
    let brought = shared.access(|state| state.brought(&id));
    tokio::spawn(async move {
        let wanted = brought.as_deref().map_or(Request::ByHash(id), Request::Signed);
        let answer = match &helper {
            Some(helper) => helper.ask(wanted).await.ok(),
            None => None,
        };
        let chosen = match answer {
            Some(Answer::Registered(name)) => CongestionName::new(name.as_str()).map_err(|_| OptionOutcome::Refused),
            Some(Answer::Unknown) => Err(OptionOutcome::Unknown),
            Some(_) | None => Err(OptionOutcome::Refused),
        };
        shared.with(|state| match chosen {
            Ok(name) => state.choose_option(tcp, TcpOption::CongestionControl(name), request),
            Err(outcome) => state.note_option(Asker::Peer(request), outcome),
        });
    });
}
