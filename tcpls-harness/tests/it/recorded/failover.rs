//! Replays a recorded session: it must decide as it did when it was recorded.

use tcpls_core::record::replay::{Recording, Replay};

#[test]
fn failover_replays_as_recorded() {
    let recording = Recording::read(include_bytes!("failover.tcplsrec")).unwrap();
    for session in recording.sessions() {
        let mut replay = Replay::new(session);
        while replay.step().unwrap_or_else(|error| panic!("session {}: {error}", session.number())).is_some() {}
    }
}
