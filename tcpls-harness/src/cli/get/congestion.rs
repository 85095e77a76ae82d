//! `--ask-congestion`: the server's congestion control.

use tcpls_core::error::AskOptionError;
use tcpls_core::event::{Event, OptionOutcome};

use super::super::output;
use crate::net::{CongestionName, Session, TcpOption};

/// Asks for a congestion control on all TCP connections, and prints the answer for each, until the session ends.
pub(super) async fn ask(session: Session, name: CongestionName) {
    let mut events = session.events();
    let option = TcpOption::CongestionControl(name.clone());
    let (wanted, _) = option.encode();
    let asking = async {
        // Answers are events.
        if let Err(AskOptionError::NotSupported) = session.all_tcp().ask_peer(option).await {
            output::tell(format_args!("the server takes no requests: its congestion control stays as it is"));
        }
    };
    let hearing = async {
        while let Some(event) = events.next().await {
            if let Event::TcpOptionAnswered { tcp, kind, outcome, .. } = event
                && kind == wanted
            {
                match outcome {
                    OptionOutcome::Applied => output::tell(format_args!("{tcp}: the server uses {name}")),
                    outcome => output::tell(format_args!("{tcp}: the server does not use {name}: {outcome}")),
                }
            }
        }
    };
    tokio::join!(asking, hearing);
}
