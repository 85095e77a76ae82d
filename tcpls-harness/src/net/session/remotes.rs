//! The addresses of each TCP connection, also for a while after the TCP connection is lost: applications read events
//! later than they happen.

use std::collections::VecDeque;
use std::net::SocketAddr;

use tcpls_core::wire::ids::ConnectionId;

/// Lost TCP connections whose addresses are remembered.
const MAX_LOST: usize = 16;

/// Both ends of a TCP connection, as far as they are known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ends {
    pub(crate) local: Option<SocketAddr>,
    pub(crate) remote: Option<SocketAddr>,
}

/// The addresses.
#[derive(Debug, Default)]
pub(crate) struct Remotes {
    /// A list, because a session has few TCP connections, and may be one of many.
    live: Vec<(ConnectionId, Ends)>,
    lost: VecDeque<(ConnectionId, Ends)>,
}

impl Remotes {
    /// TCP connection `tcp` has a socket with these ends.
    pub(crate) fn set(&mut self, tcp: ConnectionId, local: Option<SocketAddr>, remote: Option<SocketAddr>) {
        self.lost.retain(|(lost, _)| *lost != tcp);
        self.live.retain(|(live, _)| *live != tcp);
        self.live.reserve_exact(1);
        self.live.push((tcp, Ends { local, remote }));
    }

    /// TCP connection `tcp` has no socket any more.
    pub(crate) fn discard(&mut self, tcp: ConnectionId) {
        let Some(index) = self.live.iter().position(|(live, _)| *live == tcp) else { return };
        let (_, ends) = self.live.swap_remove(index);
        if self.lost.len() == MAX_LOST {
            self.lost.pop_front();
        }
        self.lost.push_back((tcp, ends));
    }

    pub(crate) fn get(&self, tcp: ConnectionId) -> Option<SocketAddr> {
        self.ends(tcp).remote
    }

    pub(crate) fn ends(&self, tcp: ConnectionId) -> Ends {
        let mut known = self.live.iter().chain(&self.lost);
        known.find(|(known, _)| *known == tcp).map(|(_, ends)| *ends).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(port: u16) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, 1], port))
    }

    #[test]
    fn addresses_of_live_tcp_connections_are_kept_and_of_16_lost_ones() {
        let mut remotes = Remotes::default();
        remotes.set(ConnectionId(0), None, Some(at(0)));
        for tcp in 1..=100 {
            remotes.set(ConnectionId(tcp), None, Some(at(tcp as u16)));
            remotes.discard(ConnectionId(tcp));
        }
        let known: Vec<u32> = (0..=100).filter(|tcp| remotes.get(ConnectionId(*tcp)).is_some()).collect();
        assert_eq!(known, std::iter::once(0).chain(85..=100).collect::<Vec<_>>());
        remotes.set(ConnectionId(90), None, Some(at(1000)));
        assert_eq!(remotes.get(ConnectionId(90)), Some(at(1000)), "the ID is in use again");
    }
}
