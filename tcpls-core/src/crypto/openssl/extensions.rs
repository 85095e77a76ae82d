//! Agreement on TCPLS by TLS extensions instead of ALPN (decisions D132 and D142).

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

/// What an endpoint does about the extensions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Policy {
    /// A client does not send them.
    #[default]
    Absent,
    /// With `tcpls_parameters` or without: sessions with only the draft's frames are accepted (decision D142).
    Any,
    /// Only with `tcpls_parameters`.
    Parameters,
}

/// What both ends have sent of the extensions in one handshake.
#[derive(Default)]
pub(super) struct Agreement {
    policy: Policy,
    /// How often each was received. A server counts both ClientHellos if it asked for a second.
    received: [AtomicU8; 2],
    /// Server: which of them its EncryptedExtensions have.
    answered: [AtomicBool; 2],
}

impl Agreement {
    pub(super) fn new(policy: Policy) -> Self {
        Self { policy, ..Self::default() }
    }

    /// Whether the server's EncryptedExtensions have `tcpls`.
    // draft E08
    pub(super) fn is_reached(&self, side: Side) -> bool {
        self.has(side, TCPLS)
    }

    /// Whether they have it alone: the session has only the draft's frames.
    pub(super) fn is_draft_only(&self, side: Side) -> bool {
        self.has(side, TCPLS) && !self.has(side, PARAMETERS)
    }

    /// Whether the server has the draft's frames alone, and the client needs the others.
    pub(super) fn is_too_little(&self, side: Side) -> bool {
        side == Side::Client && self.policy == Policy::Parameters && self.is_draft_only(side)
    }

    fn has(&self, side: Side, which: usize) -> bool {
        match side {
            // OpenSSL does not let an extension in that the ClientHello did not have.
            Side::Client => self.received[which].load(Ordering::Relaxed) > 0,
            Side::Server => self.answered[which].load(Ordering::Relaxed),
        }
    }

    /// Whether this endpoint's message has extension `which`.
    fn sends(&self, side: Side, which: usize) -> bool {
        if side == Side::Client {
            return self.policy != Policy::Absent;
        }
        // OpenSSL calls this for those in the last ClientHello, `tcpls` after the other.
        let [parameters, tcpls] = [PARAMETERS, TCPLS].map(|which| self.received[which].load(Ordering::Relaxed));
        let answers = if which == PARAMETERS {
            parameters == tcpls // each ClientHello had both
        } else {
            self.has(side, PARAMETERS) || parameters == 0 && self.policy == Policy::Any
        };
        self.answered[which].store(answers, Ordering::Relaxed);
        answers
    }

    /// Takes in extension `which` of the peer's, which is empty.
    fn take(&self, side: Side, which: usize, data: &[u8]) -> Result<(), SslAlert> {
        if !data.is_empty() {
            return Err(SslAlert::DECODE_ERROR);
        }
        self.received[which].fetch_add(1, Ordering::Relaxed); // TLS has at most two ClientHellos
        // `tcpls` is the last to be taken in.
        let is_refused = which == TCPLS && self.is_too_little(side);
        if is_refused { Err(SslAlert::HANDSHAKE_FAILURE) } else { Ok(()) }
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
