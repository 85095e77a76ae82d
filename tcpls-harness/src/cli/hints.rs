//! Hints for a session that could not be established, instead of the TLS library's texts.

use std::time::{SystemTime, UNIX_EPOCH};

use super::paths::TrustArgs;
use super::validity::{expired, not_yet_valid};

/// What a command knows about its servers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Hints<'a> {
    pub(crate) trust: &'a TrustArgs,
    /// The hint for a server with a self-signed certificate.
    pub(crate) self_made: &'static str,
}

impl Hints<'_> {
    /// Returns `text`, an error of a session, with dates in place of seconds, and a hint.
    pub(crate) fn explain(&self, text: &str) -> String {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let text = replace(text, "certificate expired: ", "not valid after ", " seconds ago)", |at| {
            format!("certificate {}", expired(at, now))
        });
        let text = replace(&text, "certificate not valid yet: ", "not valid before ", " seconds in future)", |at| {
            format!("certificate {}", not_yet_valid(at, now))
        });
        let text = names(&without_wrapping(&text));
        match self.hint(&text) {
            Some(hint) => format!("{text}; {hint}"),
            None => text,
        }
    }

    fn hint(&self, text: &str) -> Option<String> {
        // Certificates that servers made themselves have one issuer's name, and keys of their own.
        let hint = if text.contains("UnknownIssuer") || text.contains("BadSignature") {
            match &self.trust.ca {
                Some(file) => format!(
                    "it was not issued by a certificate in {}: is that file of this server, and of its last start?",
                    file.display()
                ),
                None => self.self_made.to_owned(),
            }
        } else if text.contains("certificate expired") {
            "the server has to renew it; pass --insecure to test without".to_owned()
        } else if text.contains("certificate is not valid before") {
            "check the clocks of both machines".to_owned()
        } else if text.contains("has another public key") {
            "it is another server, or its key was replaced: ask its operator for a new invite".to_owned()
        } else if text.contains("not valid for name") {
            "use a name that is in the certificate".to_owned()
        } else if text.contains("(certificate_required)") {
            "the server demands a certificate of its clients: pass --cert and --key".to_owned()
        } else if text.contains("(no_application_protocol)") {
            "the server speaks another application protocol: is it the right port?".to_owned()
        } else {
            return None;
        };
        Some(hint)
    }
}

/// Replaces each part of `text` from `start` to `end` by what `tell` makes of the number behind `key` in it.
fn replace(text: &str, start: &str, key: &str, end: &str, tell: impl Fn(u64) -> String) -> String {
    let mut done = String::new();
    let mut rest = text;
    while let Some((before, behind)) = rest.split_once(start) {
        let Some((part, behind)) = behind.split_once(end) else { break };
        let digits = part.split_once(key).map(|(_, digits)| digits.split(' ').next().unwrap_or_default());
        let Some(number) = digits.and_then(|digits| digits.parse().ok()) else { break };
        done += before;
        done += &tell(number);
        rest = behind;
    }
    done + rest
}

/// Removes the names of types around what a verifier of ours says.
fn without_wrapping(text: &str) -> String {
    let Some((before, rest)) = text.split_once("Other(OtherError(") else { return text.to_owned() };
    match rest.split_once("))") {
        Some((inside, behind)) => format!("{before}{inside}{behind}"),
        None => text.to_owned(),
    }
}

/// Formats the names in a certificate for people.
fn names(text: &str) -> String {
    let mut done = String::new();
    let mut rest = text;
    while let Some(at) = ["DnsName(\"", "IpAddress("].into_iter().filter_map(|kind| rest.find(kind)).min() {
        let (before, name) = rest.split_at(at);
        let Some((name, behind)) = name.split_once(')') else { break };
        done += before;
        done += name.split_once('(').map_or(name, |(_, name)| name).trim_matches('"');
        rest = behind;
    }
    done + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    fn explain(text: &str, ca: Option<&str>) -> String {
        let trust = TrustArgs { ca: ca.map(Into::into), insecure: false, invite: None };
        Hints { trust: &trust, self_made: "name its file with --ca" }.explain(text)
    }

    #[test]
    fn the_hint_on_ca_is_given_only_where_it_helps() {
        let text = "handshake failed: invalid peer certificate: UnknownIssuer";
        assert_eq!(explain(text, None), format!("{text}; name its file with --ca"));
        assert!(explain(text, Some("ca.pem")).contains("not issued by a certificate in ca.pem"));
        for other in [
            "handshake failed: certificate not valid for name \"x\"",
            "alert 116",
            "alert 120 (no_application_protocol)",
        ] {
            assert!(!explain(other, None).contains("--ca"), "{other}");
        }
    }

    #[test]
    fn another_key_than_the_pinned_one_is_explained() {
        let text = explain("handshake failed: Other(OtherError(the server has another public key: x)): end", None);
        assert!(text.starts_with("handshake failed: the server has another public key: x: end; "), "{text}");
        assert!(text.contains("invite"), "{text}");
    }

    #[test]
    fn a_broken_message_is_left_as_it_is() {
        for text in [
            "certificate expired: verification",
            "certificate expired: not valid after x seconds ago)",
            "DnsName(\"",
            "Other(OtherError(x",
        ] {
            assert!(explain(text, None).starts_with(text), "{text}");
        }
    }
}
