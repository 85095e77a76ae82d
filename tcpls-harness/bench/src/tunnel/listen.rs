//! Listening sockets of the ends of a forwarder and of the target.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::mpsc::Sender;

use tokio::net::{TcpListener, TcpSocket};

use crate::Outcome;

/// Connections that wait to be accepted.
const BACKLOG: u32 = 4096;

/// Listens on a free port of the loopback interface.
pub(super) fn listen(address_is: &Sender<SocketAddr>) -> Outcome<TcpListener> {
    let socket = TcpSocket::new_v4()?;
    socket.bind((Ipv4Addr::LOCALHOST, 0).into())?;
    let listener = socket.listen(BACKLOG)?;
    address_is.send(listener.local_addr()?)?;
    Ok(listener)
}
