//! Verification of certificates beyond what OpenSSL does alone: trust by key, and an application's reason to refuse one.

use std::error::Error;
use std::sync::PoisonError;

use openssl::error::ErrorStack;
use openssl::ssl::{SslContextBuilder, SslVerifyMode};
use openssl::x509::store::X509StoreBuilder;
use openssl::x509::{X509, X509Ref, X509StoreContext, X509StoreContextRef, X509VerifyResult};

use super::notes_index;

/// `X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT` (`x509_vfy.h`).
const SELF_SIGNED: i32 = 18;

/// Makes an endpoint trust `certificates`, those that they issued, and self-signed ones with the name and the public key of one
/// of them.
///
/// OpenSSL alone accepts a self-signed certificate only if it is one of those, so that a peer which renews it would be
/// refused; rustls trusts by name and key. Dates, names and purposes of the renewed certificate are verified as of any
/// other. A certificate that is renewed with another key is refused.
///
/// It sets the store of trusted certificates, `mode`, and the callback for verification; a later call that sets one of these
/// replaces what this one has done.
///
/// # Errors
/// OpenSSL cannot store a certificate.
pub fn trust_by_key(
    context: &mut SslContextBuilder,
    certificates: &[X509],
    mode: SslVerifyMode,
) -> Result<(), ErrorStack> {
    let mut store = X509StoreBuilder::new()?;
    for certificate in certificates {
        store.add_cert(certificate.clone())?;
    }
    context.set_cert_store(store.build());
    let trusted = certificates.to_vec();
    context.set_verify_callback(mode, move |is_accepted, found| {
        if is_accepted {
            return true;
        }
        let is_self_signed = found.error().as_raw() == SELF_SIGNED;
        let certificate = found.current_cert().filter(|_| is_self_signed);
        let is_renewed = certificate.is_some_and(|renewed| trusted.iter().any(|known| is_renewal(renewed, known)));
        if is_renewed {
            found.set_error(X509VerifyResult::OK);
        }
        is_renewed
    });
    Ok(())
}

/// Notes why the application refuses a certificate, for its callback for verification, which then returns `false`.
///
/// The error of the handshake has the text of `why`, and `why` as its source. Its kind follows from the result that the
/// callback has set with [`X509StoreContextRef::set_error`]. Outside of handshakes of this provider, it has no effect.
pub fn refuse_certificate(found: &X509StoreContextRef, why: impl Error + Send + Sync + 'static) {
    let (Ok(tls), Ok(notes)) = (X509StoreContext::ssl_idx(), notes_index()) else { return };
    if let Some(notes) = found.ex_data(tls).and_then(|tls| tls.ex_data(notes)) {
        *notes.refusal.lock().unwrap_or_else(PoisonError::into_inner) = Some(Box::new(why));
    }
}

/// Whether `renewed` has the name and the key of `known`, and was signed with it.
fn is_renewal(renewed: &X509Ref, known: &X509Ref) -> bool {
    let (Ok(key), Ok(known_key)) = (renewed.public_key(), known.public_key()) else { return false };
    let names = [renewed.subject_name(), renewed.issuer_name(), known.subject_name()].map(|name| name.to_der().ok());
    let has_name = names[0].is_some() && names.iter().all(|name| *name == names[0]);
    has_name && key.public_eq(&known_key) && renewed.verify(&known_key).unwrap_or(false)
}
