//! What a proxy and its clients read first, as any bytes: they are parsed without a panic, with the same result for any
//! fragmentation, and what is accepted is written again as it was read.

use tcpls_harness::http::{HeadReader, StartLine};
use tcpls_harness::proxy::{Allow, Host, Pattern, Target, Users, socks};

/// The target `proxy`: the first byte selects what the others are.
pub fn proxy(bytes: &[u8]) {
    let Some((kind, bytes)) = bytes.split_first() else { return };
    match kind % 3 {
        0 => head(bytes),
        1 => requests_of_socks(bytes),
        _ => text(&String::from_utf8_lossy(bytes)),
    }
}

/// The head of a request or a response, and what follows.
fn head(bytes: &[u8]) {
    let mut whole = HeadReader::default();
    let parsed = whole.push(bytes);
    let (mut pieces, mut fed) = (HeadReader::default(), 0);
    let in_pieces = bytes.chunks(7).find_map(|piece| {
        fed += piece.len();
        pieces.push(piece).transpose()
    });
    match (parsed, in_pieces) {
        (Ok(Some(head)), Some(Ok(other))) => {
            assert_eq!(head, other);
            let (rest, other) = (whole.into_rest(), pieces.into_rest());
            assert!(bytes.ends_with(&rest) && rest.starts_with(&other));
            assert_eq!(rest.len() - other.len(), bytes.len() - fed);
            if let StartLine::Request { target, .. } = &head.start
                && let Ok(target) = target.parse::<Target>()
            {
                assert_eq!(target.to_string().parse(), Ok(target));
            }
            for field in head.all("proxy-authorization") {
                assert_eq!(users().find(field), None, "no user has a secret of that kind");
            }
        }
        (Err(error), Some(Err(other))) => assert_eq!(error, other),
        (Ok(None), None) => {}
        (whole, other) => panic!("{whole:?} {other:?}"),
    }
}

/// Secrets of 32 bytes that no input has.
fn users() -> Users {
    let mut users = Users::default();
    assert!(users.add("ann", "\u{3a9}7f3c0d9e5b2a4168f0c1d2e3b4a59687"));
    users
}

fn requests_of_socks(bytes: &[u8]) {
    if let Ok(Some((_, len))) = socks::parse_greeting(bytes) {
        assert!(len <= bytes.len());
        (0..len).for_each(|shorter| assert_eq!(socks::parse_greeting(&bytes[..shorter]), Ok(None)));
    }
    if let Ok(Some((target, len))) = socks::parse_request(bytes) {
        assert!(len <= bytes.len());
        (0..len).for_each(|shorter| assert_eq!(socks::parse_request(&bytes[..shorter]), Ok(None)));
        assert_eq!(target.to_string().parse(), Ok(target));
    }
}

/// A pattern, and a target after a space.
fn text(text: &str) {
    let (pattern, target) = text.split_once(' ').unwrap_or((text, text));
    let (Ok(pattern), Ok(target)) = (pattern.parse::<Pattern>(), target.parse::<Target>()) else { return };
    let allow = Allow::new(vec![pattern]);
    for address in ["127.0.0.1", "10.0.0.1", "8.8.8.8", "::1", "fd00::1", "2600::1"] {
        let address = match target.host {
            Host::Address(address) => address,
            Host::Name(_) => address.parse().expect("it is one"),
        };
        assert!(allow.might_permit(&target) || !allow.permits(&target, address), "{text}");
    }
}
