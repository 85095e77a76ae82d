//! Sockets of asynchronous peers: TCP, or MPTCP of the kernel, which looks the same to a program.

use std::net::{Ipv4Addr, SocketAddr};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpStream};

use crate::Outcome;

/// The transport of a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    Tcp,
    Mptcp,
}

impl Transport {
    /// Why it can't be measured here, if it can't.
    pub fn unavailable(self) -> Option<String> {
        let error = self.socket().err()?;
        Some(format!("the kernel makes no {self:?} sockets: {error}"))
    }

    /// Listens on a free port of the loopback interface.
    pub fn listen(self) -> Outcome<TcpListener> {
        let socket = self.socket()?;
        socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into())?;
        socket.listen(1)?;
        socket.set_nonblocking(true)?;
        Ok(TcpListener::from_std(socket.into())?)
    }

    /// Connects, with TCP_NODELAY.
    pub fn connect(self, address: SocketAddr) -> Outcome<TcpStream> {
        let socket = self.socket()?;
        socket.connect(&address.into())?;
        socket.set_tcp_nodelay(true)?;
        socket.set_nonblocking(true)?;
        Ok(TcpStream::from_std(socket.into())?)
    }

    fn socket(self) -> std::io::Result<Socket> {
        let protocol = if self == Self::Mptcp { Protocol::MPTCP } else { Protocol::TCP };
        Socket::new(Domain::IPV4, Type::STREAM, Some(protocol))
    }
}
