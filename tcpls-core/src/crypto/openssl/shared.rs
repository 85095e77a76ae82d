//! Sessions of servers in a store outside of OpenSSL, which several servers can share.
//!
//! OpenSSL makes the sessions and looks them up by callbacks. The store is asked before OpenSSL has the ClientHello
//! ([`Gate`](super::gate::Gate)); what it gives out waits in the handshake's notes for OpenSSL's callback.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use openssl::ex_data::Index;
use openssl::ssl::{Ssl, SslAcceptorBuilder, SslOptions, SslRef, SslSession, SslSessionCacheMode};

use super::Notes;
use super::secrets::Secret;

/// The bit of `SSL_OP_NO_ANTI_REPLAY` (`ssl.h`): with it, OpenSSL does not see to it that tickets work once.
pub(super) const NO_ANTI_REPLAY: u32 = 24;
/// The longest session that is stored: one with the certificate of a client has some KiB.
const MAX_SESSION: usize = 16 << 10;
/// The bit of the first byte of a stored value that no value of another library has. The others are the length of the terms.
const MARK: u8 = 0x80;

/// A store of the sessions of servers with OpenSSL, each of which is given out once.
///
/// Servers that share one, such as those of a farm, resume each other's sessions and accept early data with them. A copy of
/// a client's first flight is then rejected by all of them, as long as [`take`](Self::take) is atomic. Sessions contain
/// the keys of their tickets: a thief of the store can decrypt the early data that is sent with them.
///
/// The methods run within the handshake, on the thread that calls [`Connection::handle_bytes`], and block it. A store
/// that is reached over a network must bound the time of an answer, and answer `None` after it: the handshake goes on as a
/// full one, and early data is rejected. A store should forget sessions after their lifetime, which is that of the
/// configuration's tickets, 2 hours by default and 7 days at most; OpenSSL does not resume older ones.
///
/// With the feature `rustls`, an `Arc<dyn StoresServerSessions>` of rustls is such a store.
///
/// [`Connection::handle_bytes`]: crate::connection::Connection::handle_bytes
pub trait SharedSessions: Send + Sync {
    /// Stores a session of at most 17 KiB under its ticket, 32 random bytes. The ticket is sent to the client after the
    /// call, whether or not the session was stored.
    fn put(&self, ticket: &[u8; 32], session: Vec<u8>);

    /// Removes the session of a ticket and returns it. Of several calls, also from several servers, only one may get it.
    ///
    /// The ticket comes from a client, and may be any bytes. What is returned is checked.
    fn take(&self, ticket: &[u8; 32]) -> Option<Vec<u8>>;
}

/// Sessions on their way between OpenSSL and the store, in one handshake.
#[derive(Default)]
pub(super) struct Passage {
    /// What the store gave out for the ticket of the ClientHello.
    taken: OnceLock<([u8; 32], Secret)>,
    /// The sessions of the tickets that OpenSSL has made since the last call of `put_made`.
    made: Mutex<Vec<([u8; 32], Secret)>>,
}

impl Passage {
    /// Takes the session of a ticket out of the store. Returns whether it was made under these terms.
    pub(super) fn take(&self, store: &dyn SharedSessions, ticket: [u8; 32], terms: &[u8]) -> bool {
        let stored = store.take(&ticket).map(Secret::new);
        let Some((under, session)) = stored.as_ref().and_then(|stored| split(stored.bytes())) else { return false };
        let is_under_terms = under == terms;
        self.taken.set((ticket, Secret::new(session.to_vec()))).is_ok() && is_under_terms
    }

    /// Puts the sessions that OpenSSL has made into the store.
    pub(super) fn put_made(&self, store: &dyn SharedSessions, terms: &[u8]) {
        let made = core::mem::take(&mut *self.made.lock().unwrap_or_else(PoisonError::into_inner));
        for (ticket, session) in made {
            let head = [MARK | terms.len() as u8]; // at most 64 bytes
            store.put(&ticket, [&head, terms, session.bytes()].concat());
        }
    }

    /// OpenSSL's callback for a session that it has made.
    fn note_made(&self, session: &SslSession) {
        let (Ok(ticket), Ok(encoded)) = (session.id().try_into(), session.to_der().map(Secret::new)) else { return };
        if encoded.bytes().len() <= MAX_SESSION {
            self.made.lock().unwrap_or_else(PoisonError::into_inner).push((ticket, encoded));
        }
    }

    /// OpenSSL's callback for the session of a ticket. OpenSSL asks for each ticket of the ClientHello, and again after a
    /// HelloRetryRequest.
    fn find(&self, ticket: &[u8]) -> Option<SslSession> {
        let (taken, session) = self.taken.get()?;
        if taken != ticket { None } else { SslSession::from_der(session.bytes()).ok() }
    }
}

/// Splits what was stored into terms and session.
fn split(stored: &[u8]) -> Option<(&[u8], &[u8])> {
    let (&head, rest) = stored.split_first()?;
    let (terms, session) = rest.split_at_checked(usize::from(head ^ MARK))?;
    (head & MARK != 0 && session.len() <= MAX_SESSION).then_some((terms, session))
}

/// Makes OpenSSL issue tickets that are keys of a store, and look sessions up in the notes at `index` alone.
// D190
#[allow(unsafe_code)]
pub(super) fn share(acceptor: &mut SslAcceptorBuilder, index: Index<Ssl, Arc<Notes>>) {
    acceptor.set_session_cache_mode(SslSessionCacheMode::SERVER | SslSessionCacheMode::NO_INTERNAL);
    // Tickets with the session inside would work any number of times.
    acceptor.set_options(SslOptions::NO_TICKET | SslOptions::from_bits_retain(1 << NO_ANTI_REPLAY));
    acceptor.set_new_session_callback(move |tls, session| {
        if let Some(notes) = tls.ex_data(index) {
            notes.passage.note_made(&session);
        }
    });
    let find = move |tls: &mut SslRef, ticket: &[u8]| tls.ex_data(index)?.passage.find(ticket);
    // SAFETY: sessions must not be of another context. `find` makes each from bytes, and it belongs to none.
    unsafe { acceptor.set_get_session_callback(find) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_a_stored_session_is_refused() {
        let stored = |head: u8, len: usize| [&[head][..], &vec![0x30; len]].concat();
        assert_eq!(split(&stored(MARK | 2, 5)).map(|(terms, session)| (terms.len(), session.len())), Some((2, 3)));
        assert!(split(&stored(MARK, MAX_SESSION)).is_some() && split(&stored(MARK, MAX_SESSION + 1)).is_none());
        for (head, len) in [(2, 5), (0, 5), (MARK | 6, 5), (0xff, 5)] {
            assert_eq!(split(&stored(head, len)), None, "{head} {len}");
        }
        assert_eq!(split(&[]), None);
    }
}
