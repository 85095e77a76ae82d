//! A client's tickets: what is kept of each, for how long, and in which form an application stores it.

use core::fmt;
use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use openssl::asn1::Asn1Time;

use super::secrets::Secret;
use crate::crypto::EARLY_DATA;
use crate::crypto::alpn::is_tcpls;
use crate::crypto::by_server::ByServer;

/// Servers whose tickets are kept if the user sets no number.
const SERVERS: usize = 256;
/// Tickets of one server: a session keeps as many.
const PER_SERVER: usize = 4;
/// The longest state that is kept with a ticket.
pub(super) const MAX_STATE: usize = 512;
/// The longest life of a ticket in seconds: 7 days (RFC 8446, 4.6.1).
pub(super) const MAX_LIFETIME: u64 = 7 * 24 * 3600;

/// A client's tickets of TCPLS sessions with OpenSSL, with what their servers granted: each serves one resumption.
///
/// Share one only among configurations that have the same trust and the same client certificate: a session that is
/// resumed is one whose certificates were verified before, and OpenSSL does not verify them again.
/// [`export`](Self::export) and [`import`](Self::import) carry tickets over to another process.
pub struct OpensslTickets(Mutex<ByServer<VecDeque<Ticket>>>);

/// A ticket and what belongs to it.
#[derive(Clone)]
pub(super) struct Ticket {
    /// An `SSL_SESSION` in DER, with the key of the ticket.
    pub(super) session: Secret,
    /// The ALPN name of its session; empty without one.
    pub(super) alpn: Vec<u8>,
    /// What the session remembers; empty if that is nothing.
    pub(super) state: Vec<u8>,
    /// The server's certificates: the session has the first alone.
    pub(super) chain: Vec<Vec<u8>>,
    /// Until when the ticket works, in seconds since 1970.
    pub(super) expiry: u64,
}

/// A ticket in the form in which an application stores it. A holder can read the early data that is sent with it,
/// and answer in the name of the server.
#[derive(Clone, PartialEq, Eq)]
pub struct StoredTicket {
    /// The server's name, as the application has given it.
    pub server_name: String,
    /// OpenSSL's session in DER (`i2d_SSL_SESSION`), with its key: a secret.
    pub session: Vec<u8>,
    /// The ALPN name of its session; empty without one.
    pub alpn: Vec<u8>,
    /// What the session remembers for early data; empty if that is nothing.
    pub state: Vec<u8>,
    /// The server's certificates in DER, its own first.
    pub certificates: Vec<Vec<u8>>,
    /// Until when the ticket works, in seconds since 1970.
    pub expiry: u64,
}

impl fmt::Debug for OpensslTickets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpensslTickets").field("servers", &self.kept().most()).finish_non_exhaustive()
    }
}

impl fmt::Debug for StoredTicket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoredTicket").field("server_name", &self.server_name).finish_non_exhaustive()
    }
}

impl Default for OpensslTickets {
    fn default() -> Self {
        Self::new(SERVERS)
    }
}

impl OpensslTickets {
    /// Returns an empty store for the tickets of `servers` servers, by name, at least 1; of each it keeps 4.
    pub fn new(servers: usize) -> Self {
        Self(Mutex::new(ByServer::new(servers)))
    }

    /// Returns copies of all tickets that still work, for each server the oldest first.
    pub fn export(&self) -> Vec<StoredTicket> {
        let (kept, now) = (self.kept(), now());
        let of_server = |(name, tickets): (&str, &VecDeque<Ticket>)| {
            let works = tickets.iter().filter(|ticket| ticket.expiry > now);
            works.map(|ticket| ticket.store(name)).collect::<Vec<_>>()
        };
        kept.iter().flat_map(of_server).collect()
    }

    /// Adds tickets that were exported, in this order. A ticket that OpenSSL cannot read is dropped when its turn comes.
    pub fn import(&self, tickets: impl IntoIterator<Item = StoredTicket>) {
        for ticket in tickets {
            let StoredTicket { server_name, session, alpn, state, certificates, expiry } = ticket;
            let session = Secret::new(session);
            self.insert(&server_name, Ticket { session, alpn, state, chain: certificates, expiry });
        }
    }

    fn kept(&self) -> MutexGuard<'_, ByServer<VecDeque<Ticket>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the newest ticket of a server that still works.
    pub(super) fn take(&self, server_name: &str) -> Option<Ticket> {
        let (mut kept, now) = (self.kept(), now());
        let tickets = kept.get_mut(server_name)?;
        while let Some(ticket) = tickets.pop_back() {
            // Later than in the longest life is a clock that was set back.
            if ticket.expiry > now && ticket.expiry <= now + MAX_LIFETIME {
                return Some(ticket);
            }
        }
        None
    }

    pub(super) fn insert(&self, server_name: &str, ticket: Ticket) {
        let mut kept = self.kept();
        let tickets = kept.touch(server_name);
        tickets.push_back(ticket);
        while tickets.len() > PER_SERVER {
            tickets.pop_front();
        }
    }
}

impl Ticket {
    /// What was remembered, if early data may be sent with the ticket by a client that offers these names; the server
    /// takes `max_early_data` bytes.
    ///
    /// TLS accepts early data only if it selects the ticket's ALPN name, which then stands for TCPLS. A session without
    /// such a name is none that can be asked for with early data: the server might take frames for application data.
    pub(super) fn early_state(&self, names: &[Vec<u8>], max_early_data: u32) -> Option<Vec<u8>> {
        let takes_enough = max_early_data as usize >= EARLY_DATA;
        let is_usable = is_tcpls(&self.alpn) && names.contains(&self.alpn) && !self.state.is_empty();
        (takes_enough && is_usable).then(|| self.state.clone())
    }

    fn store(&self, server_name: &str) -> StoredTicket {
        StoredTicket {
            server_name: server_name.to_owned(),
            session: self.session.bytes().to_vec(),
            alpn: self.alpn.clone(),
            state: self.state.clone(),
            certificates: self.chain.clone(),
            expiry: self.expiry,
        }
    }
}

/// Returns the ticket in `body`, which is lifetime, age, nonce, ticket and extensions (RFC 8446, 4.6.1).
pub(super) fn ticket(body: &[u8]) -> Option<&[u8]> {
    let (_nonce, rest) = vector::<1>(body.get(8..)?)?;
    let (ticket, rest) = vector::<2>(rest)?;
    let (_extensions, rest) = vector::<2>(rest)?;
    (!ticket.is_empty() && rest.is_empty()).then_some(ticket)
}

/// Splits off a vector whose length has `N` bytes.
fn vector<const N: usize>(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (len, rest) = bytes.split_first_chunk::<N>()?;
    rest.split_at_checked(len.iter().fold(0, |len, byte| len << 8 | usize::from(*byte)))
}

/// OpenSSL's time, which is the system's, in seconds since 1970; 0 if it has none: then no ticket is used.
pub(super) fn now() -> u64 {
    let since_1970 = || Asn1Time::from_unix(0)?.diff(&*Asn1Time::days_from_now(0)?);
    let seconds = since_1970().map(|passed| i64::from(passed.days) * 24 * 3600 + i64::from(passed.secs));
    seconds.ok().and_then(|seconds| u64::try_from(seconds).ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ticket(session: u8, expiry: u64) -> StoredTicket {
        let (server_name, state, certificates) = ("server.test".to_owned(), vec![1], vec![vec![2; 300]]);
        StoredTicket { server_name, session: vec![session], alpn: b"tcpls".to_vec(), state, certificates, expiry }
    }

    #[test]
    fn tickets_are_exported_and_imported_and_the_newest_is_taken_first() {
        let (first, second) = (OpensslTickets::default(), OpensslTickets::default());
        let stored = [1, 2, 3].map(|session| ticket(session, now() + 100));
        first.import(stored.clone());
        second.import(first.export());
        assert_eq!(second.export(), stored);
        for session in [3, 2, 1] {
            assert_eq!(second.take("server.test").unwrap().store("server.test"), stored[session - 1]);
        }
        assert!(second.take("server.test").is_none() && second.take("other.test").is_none());
    }

    #[test]
    fn tickets_of_the_past_and_of_a_far_future_are_not_used() {
        let tickets = OpensslTickets::default();
        tickets.import([ticket(1, now() + 100), ticket(2, now()), ticket(3, now() + MAX_LIFETIME + 100)]);
        assert_eq!(tickets.take("server.test").unwrap().session.bytes(), [1]);
        assert!(tickets.take("server.test").is_none());
        tickets.import([ticket(1, now() + 100), ticket(2, now())]);
        assert_eq!(tickets.export().len(), 1);
    }

    #[test]
    fn four_tickets_of_a_server_are_kept() {
        let tickets = OpensslTickets::new(0);
        tickets.import((0..6).map(|session| ticket(session, now() + 100)));
        let kept: Vec<u8> = tickets.export().iter().map(|ticket| ticket.session[0]).collect();
        assert_eq!(kept, [2, 3, 4, 5]);
    }

    #[test]
    fn early_data_is_for_sessions_with_a_name_of_tcpls_that_is_offered_again() {
        let names = [b"tcpls".to_vec(), b"h2".to_vec()];
        let early = |change: fn(&mut Ticket), bytes: u32| {
            let tickets = OpensslTickets::default();
            tickets.import([ticket(1, now() + 100)]);
            let mut ticket = tickets.take("server.test").unwrap();
            change(&mut ticket);
            ticket.early_state(&names, bytes)
        };
        assert_eq!(early(|_| {}, 14 << 10), Some(vec![1]));
        assert_eq!(early(|_| {}, (14 << 10) - 1), None);
        assert_eq!(early(|ticket| ticket.state.clear(), 14 << 10), None);
        for alpn in [&b""[..], b"h2", b"tcpls+h2"] {
            let tickets = OpensslTickets::default();
            tickets.import([StoredTicket { alpn: alpn.to_vec(), ..ticket(1, now() + 100) }]);
            assert_eq!(tickets.take("server.test").unwrap().early_state(&names, 14 << 10), None, "{alpn:?}");
        }
    }

    #[test]
    fn debug_output_of_tickets_shows_no_secret() {
        let stored = ticket(217, now() + 100);
        let tickets = OpensslTickets::default();
        tickets.import([stored.clone()]);
        for shown in [format!("{stored:?}"), format!("{tickets:?}")] {
            assert!(!shown.contains("217"), "{shown}");
        }
    }
}
