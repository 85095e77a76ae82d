//! IPv6 addresses with a zone identifier (RFC 4007, 11), such as `fe80::1%eth0`: a link-local address is ambiguous without the
//! interface. As RFC 9844 has it, the zone is written behind an unescaped percent sign, in URLs too, and never leaves this
//! host. It is an interface's name or number; printed addresses have its number.

/// The host, without brackets, and the port of `[ADDRESS%ZONE]:PORT`; `None` if that is not what `text` is.
///
/// The standard library takes a zone only as a number where an address is in brackets; the system's resolver takes names,
/// but no brackets.
pub(crate) fn split(text: &str) -> Option<(&str, u16)> {
    let (host, port) = text.strip_prefix('[')?.rsplit_once("]:")?;
    let port = port.parse().ok()?;
    zone_of(host).map(|_| (host, port))
}

/// The zone of an IPv6 address.
pub(crate) fn zone_of(host: &str) -> Option<&str> {
    let (address, zone) = host.split_once('%')?;
    (address.parse::<std::net::Ipv6Addr>().is_ok() && !zone.is_empty()).then_some(zone)
}

/// The host without its zone: what a certificate can name.
pub(crate) fn without_zone(host: &str) -> &str {
    match zone_of(host) {
        Some(zone) => &host[..host.len() - zone.len() - 1],
        None => host,
    }
}

/// The zone of a host as RFC 6874 wrote it in URLs, `%25eth0`, becomes `%eth0`. A number stays as it is: behind an unescaped
/// sign, `%251` is zone 251.
pub(crate) fn unescape(host: &str) -> String {
    match zone_of(host).and_then(|zone| zone.strip_prefix("25")) {
        Some(zone) if zone.starts_with(|c: char| !c.is_ascii_digit()) => format!("{}%{zone}", without_zone(host)),
        _ => host.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zones_are_found_in_ipv6_addresses_alone() {
        assert_eq!(split("[fe80::1%eth0]:443"), Some(("fe80::1%eth0", 443)));
        assert_eq!(split("[fe80::1%3]:443"), Some(("fe80::1%3", 443)));
        for other in ["[fe80::1]:443", "[fe80::1%]:443", "[x%eth0]:443", "[fe80::1%eth0]", "fe80::1%eth0:443", "a%b:1"]
        {
            assert_eq!(split(other), None, "{other}");
        }
        assert_eq!(without_zone("fe80::1%eth0"), "fe80::1");
        assert_eq!(without_zone("x%eth0"), "x%eth0");
    }

    #[test]
    fn the_old_way_of_writing_zones_in_urls_is_understood() {
        assert_eq!(unescape("fe80::1%25eth0"), "fe80::1%eth0");
        for same in ["fe80::1%eth0", "fe80::1%25", "fe80::1%251", "fe80::1", "localhost"] {
            assert_eq!(unescape(same), same);
        }
    }
}
