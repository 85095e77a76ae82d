//! The simulator's loan of a session to its handles, while another thread has one.

use std::sync::Arc;

use tcpls_core::testing::NullHandshake;
use tcpls_core::{Config, Connection, Seed, Side};

use crate::kit::{spawn, still};
use crate::net::os::NOW;
use crate::sim::handles::Handles;

/// Another thread drops the last handle while the session is lent, or is not: it is closed at the next loan at the latest.
pub fn session_without_handles_is_closed() {
    let mut handles = Handles::new(still());
    let session = handles.take_session().expect("it is there once");
    let tls = Box::new(NullHandshake::new(Side::Client, [0; 32]));
    let mut conn = Connection::client(NOW, Arc::new(Config::default()), tls, Seed([0; 32]));
    let other = spawn(move || {
        _ = session.tcp_connections();
        drop(session);
    });
    handles.lend(&mut conn);
    handles.take_back(&mut conn);
    other.join().unwrap();
    assert_eq!(conn.tcp_connections().count() == 0, conn.close_reason().is_some());
    handles.lend(&mut conn);
    handles.take_back(&mut conn);
    assert!(conn.close_reason().is_some());
}
