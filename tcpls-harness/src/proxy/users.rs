//! Credentials: Basic (RFC 7617) and Bearer (RFC 6750) in the field Proxy-Authorization.

use std::fmt;
use std::hint::black_box;
use std::sync::Arc;

use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

/// Encodes with padding, and decodes what clients send with or without it.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// A client's credentials, as the field Proxy-Authorization has them. They are not shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials(String);

impl Credentials {
    /// Makes credentials of `NAME:SECRET` (Basic), or of a secret alone (Bearer). `None` if they contain nothing, or a
    /// character that a field cannot have.
    pub fn parse(text: &str) -> Option<Self> {
        if text.is_empty() || text.chars().any(char::is_control) {
            return None;
        }
        if text.contains(':') {
            return Some(Self(format!("Basic {}", BASE64.encode(text))));
        }
        text.bytes().all(|byte| byte.is_ascii_graphic()).then(|| Self(format!("Bearer {text}")))
    }

    /// Makes Basic credentials of a name without colon and a secret, both ASCII without control characters.
    pub(super) fn basic(name: &str, secret: &str) -> Self {
        Self(format!("Basic {}", BASE64.encode(format!("{name}:{secret}"))))
    }

    /// The value of the field.
    pub fn field(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credentials")
    }
}

/// Names and secrets that are kept elsewhere, such as [`Invites`](super::Invites).
pub trait Accounts: fmt::Debug + Send + Sync {
    /// Whether the secret is that of `name`. It is asked at each request, and must take the same time wherever the secret
    /// differs.
    fn accepts(&self, name: &str, secret: &str) -> bool;
}

/// Who may use a server: names and their secrets, which are not shown.
#[derive(Clone, Default)]
pub struct Users {
    listed: Vec<User>,
    others: Option<Arc<dyn Accounts>>,
    by_certificate: bool,
}

#[derive(Clone)]
struct User {
    name: Arc<str>,
    secret: String,
}

impl Users {
    /// Adds a user. A name must not contain a colon, and a secret must not be empty: false, and nothing is added.
    pub fn add(&mut self, name: &str, secret: &str) -> bool {
        let is_usable = !name.is_empty() && !name.contains(':') && !secret.is_empty();
        let is_text = !name.chars().chain(secret.chars()).any(char::is_control);
        if is_usable && is_text {
            self.listed.push(User { name: name.into(), secret: secret.to_owned() });
        }
        is_usable && is_text
    }

    /// Also accepts the names and secrets of `accounts`, in Basic credentials. Such users are never empty: a client needs
    /// credentials even if no account exists.
    #[must_use]
    pub fn or(mut self, accounts: Arc<dyn Accounts>) -> Self {
        self.others = Some(accounts);
        self
    }

    /// Names clients by their certificates, if no credentials are required: by the first alternative name of the subject
    /// that is an address of mail (rfc822Name), a DNS name (dNSName) or a URI, as the certificate has them.
    ///
    /// For a server whose TLS configuration verifies clients' certificates: the issuers of those decide about names.
    #[must_use]
    pub fn or_by_certificate(mut self) -> Self {
        self.by_certificate = true;
        self
    }

    /// Whether clients need no credentials and have the names in their certificates.
    pub(super) fn are_certified(&self) -> bool {
        self.is_empty() && self.by_certificate
    }

    /// Whether there are none: then every client may use the server.
    pub fn is_empty(&self) -> bool {
        self.listed.is_empty() && self.others.is_none()
    }

    /// Returns the user with the credentials in a field Proxy-Authorization. Takes the same time wherever they differ from
    /// a user's.
    pub fn find(&self, field: &str) -> Option<Arc<str>> {
        let (scheme, rest) = field.split_once(' ')?;
        let (scheme, rest) = (scheme.to_ascii_lowercase(), rest.trim_matches(' '));
        let (name, secret) = match scheme.as_str() {
            "basic" => {
                let pair = String::from_utf8(BASE64.decode(rest).ok()?).ok()?;
                let (name, secret) = pair.split_once(':')?;
                (Some(name.to_owned()), secret.to_owned())
            }
            "bearer" => (None, rest.to_owned()),
            _ => return None,
        };
        let mut found = None;
        for user in &self.listed {
            let is_name = name.as_ref().is_none_or(|name| is_equal(name.as_bytes(), user.name.as_bytes()));
            // Both are compared for each user.
            if is_equal(secret.as_bytes(), user.secret.as_bytes()) & is_name {
                found = Some(user.name.clone());
            }
        }
        if let (None, Some(name), Some(others)) = (&found, &name, &self.others) {
            found = others.accepts(name, &secret).then(|| name.as_str().into());
        }
        found
    }
}

impl fmt::Debug for Users {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.listed.iter().map(|user| &user.name)).entries(&self.others).finish()
    }
}

/// Compares in a time that depends on the length of `given` alone.
pub(super) fn is_equal(given: &[u8], wanted: &[u8]) -> bool {
    let mut difference = given.len() ^ wanted.len();
    for (index, byte) in given.iter().enumerate() {
        let other = wanted.get(index % wanted.len().max(1)).copied().unwrap_or(0);
        difference |= usize::from(black_box(byte ^ other));
    }
    black_box(difference) == 0
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn users() -> Users {
        let mut users = Users::default();
        assert!(users.add("ann", "secret one") && users.add("bob", "token-2"));
        users
    }

    #[test]
    fn users_are_found_by_basic_and_bearer_credentials() {
        let users = users();
        for (given, name) in [
            ("ann:secret one", Some("ann")),
            ("bob:token-2", Some("bob")),
            ("token-2", Some("bob")),
            ("ann:token-2", None),
            ("ann:secret on", None),
            ("ann:secret one ", None),
            ("ann:", None),
            (":secret one", None),
            ("token-", None),
        ] {
            let credentials = Credentials::parse(given).unwrap();
            assert_eq!(users.find(credentials.field()).as_deref(), name, "{given}");
        }
        assert_eq!(users.find("bAsIc  Ym9iOnRva2VuLTI=").as_deref(), Some("bob"), "spaces and case do not matter");
        for field in ["", "Basic", "Basic !", "Basic Ym9i", "Digest a", "Bearer "] {
            assert_eq!(users.find(field), None, "{field}");
        }
    }

    #[test]
    fn secrets_are_not_shown_and_unusable_ones_are_refused() {
        let shown = format!("{:?} {:?}", users(), Credentials::parse("ann:secret one").unwrap());
        assert_eq!(shown, "[\"ann\", \"bob\"] Credentials");
        let mut users = Users::default();
        for (name, secret) in [("", "a"), ("a:b", "a"), ("a", ""), ("a\n", "b"), ("a", "b\r")] {
            assert!(!users.add(name, secret), "{name:?} {secret:?}");
        }
        assert!(users.is_empty());
        for text in ["", "a\r\nb", "two words"] {
            assert_eq!(Credentials::parse(text), None, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn any_field_is_judged_without_a_panic(field in ".{0,100}") {
            prop_assert_eq!(users().find(&field), None);
            prop_assert_eq!(users().find(&format!("Basic {field}")), None);
        }

        #[test]
        fn comparison_is_equality(a in "[ab]{0,4}", b in "[ab]{0,4}") {
            prop_assert_eq!(is_equal(a.as_bytes(), b.as_bytes()), a == b);
        }
    }
}
