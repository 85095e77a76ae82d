//! Agreement on TCPLS by TLS extensions instead of ALPN (decision D132).

use core::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::Arc;

use openssl::error::ErrorStack;
use openssl::ex_data::Index;
use openssl::ssl::{ExtensionContext, Ssl, SslAlert, SslContextBuilder, SslRef};

use super::Notes;
use crate::wire::hello::ExtensionTypes;
use crate::wire::ids::Side;

/// The index of `tcpls_parameters` in arrays.
const PARAMETERS: usize = 0;
/// The index of `tcpls`.
const TCPLS: usize = 1;

/// What both ends have sent of the extensions in one handshake.
#[derive(Default)]
pub(super) struct Agreement {
    /// Client: its ClientHello has the extensions.
    is_offered: bool,
    /// How often each was received. A server counts both ClientHellos if it asked for a second.
    received: [AtomicU8; 2],
    /// Server: which of them its EncryptedExtensions have.
    answered: [AtomicBool; 2],
}

impl Agreement {
    /// The agreement of a client that offers the extensions or not.
    pub(super) fn of_client(is_offered: bool) -> Self {
        Self { is_offered, ..Self::default() }
    }

    /// Whether the server's EncryptedExtensions have both extensions.
    // draft E08
    pub(super) fn is_reached(&self, side: Side) -> bool {
        match side {
            Side::Client => self.received.iter().all(|count| count.load(Ordering::Relaxed) > 0),
            Side::Server => self.answered.iter().all(|answered| answered.load(Ordering::Relaxed)),
        }
    }

    /// Client: the server has TCPLS without the frames that are defined here (decision D20).
    pub(super) fn is_draft_only(&self) -> bool {
        let [parameters, tcpls] = &self.received;
        self.is_offered && tcpls.load(Ordering::Relaxed) > 0 && parameters.load(Ordering::Relaxed) == 0
    }

    /// Whether this endpoint's message has extension `which`.
    fn sends(&self, side: Side, which: usize) -> bool {
        match side {
            Side::Client => self.is_offered,
            Side::Server => {
                // Each ClientHello had both. OpenSSL calls this for those in the last one, `tcpls` after the other.
                let [parameters, tcpls] = &self.received;
                let both = parameters.load(Ordering::Relaxed) == tcpls.load(Ordering::Relaxed)
                    && (which == PARAMETERS || self.answered[PARAMETERS].load(Ordering::Relaxed));
                self.answered[which].store(both, Ordering::Relaxed);
                both
            }
        }
    }

    /// Takes in extension `which` of the peer's, which is empty.
    fn take(&self, side: Side, which: usize, data: &[u8]) -> Result<(), SslAlert> {
        if !data.is_empty() {
            return Err(SslAlert::DECODE_ERROR);
        }
        self.received[which].fetch_add(1, Ordering::Relaxed); // TLS has at most two ClientHellos
        if side == Side::Client && self.is_draft_only() { Err(SslAlert::HANDSHAKE_FAILURE) } else { Ok(()) }
    }
}

/// Lets handshakes of `context` send and receive the extensions; their agreements are in the notes at `index`.
// draft I30
pub(super) fn register(context: &mut SslContextBuilder, index: Index<Ssl, Arc<Notes>>) -> Result<(), ErrorStack> {
    let types = ExtensionTypes::default();
    // OpenSSL takes in extensions in the order in which they were added: `tcpls` comes last, and finds the other.
    add::<PARAMETERS>(context, types.tcpls_parameters, index)?;
    add::<TCPLS>(context, types.tcpls, index)
}

/// The crate `openssl` tells callbacks apart by their types, so that each extension needs an instance of this function.
fn add<const WHICH: usize>(
    context: &mut SslContextBuilder,
    code: u16,
    index: Index<Ssl, Arc<Notes>>,
) -> Result<(), ErrorStack> {
    let side = |tls: &SslRef| if tls.is_server() { Side::Server } else { Side::Client };
    context.add_custom_ext(
        code,
        ExtensionContext::CLIENT_HELLO | ExtensionContext::TLS1_3_ENCRYPTED_EXTENSIONS,
        move |tls, _, _| {
            let sends = tls.ex_data(index).is_some_and(|notes| notes.agreement.sends(side(tls), WHICH));
            Ok(sends.then_some([0; 0]))
        },
        move |tls, _, data, _| match tls.ex_data(index) {
            Some(notes) => notes.agreement.take(side(tls), WHICH, data),
            None => Ok(()),
        },
    )
}
