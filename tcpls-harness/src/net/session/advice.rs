//! The policy for addresses that the server advertises. A malicious server may direct this client at third parties, or
//! at hosts that only this client can reach.
//!
//! Used by `client`, for [`Session::add_advertised`]. Addresses from the application itself are not checked.
//!
//! [`Session::add_advertised`]: crate::net::Session::add_advertised

use std::collections::VecDeque;
use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use tcpls_core::time::Time;

use crate::dial::Local;
use crate::net::reach::Reach;
use crate::sync::Mutex;

/// Advertised addresses that one session connects to in [`PERIOD`], successfully or not.
const MAX_DIALS: usize = 16;
const PERIOD: Duration = Duration::from_secs(60);

/// Decides which advertised addresses may be connected to.
///
/// The default is [`AddressPolicy::safe`].
#[derive(Clone)]
pub struct AddressPolicy(Arc<Decide>);

/// Decides from the advertised address and the server's address at the start of the session whether to connect.
type Decide = dyn Fn(SocketAddr, SocketAddr) -> bool + Send + Sync;

impl AddressPolicy {
    /// Uses a policy of the application, called with the advertised address and the server's address at the start of
    /// the session. It must not block. It may call the session.
    pub fn new(decide: impl Fn(SocketAddr, SocketAddr) -> bool + Send + Sync + 'static) -> Self {
        Self(Arc::new(decide))
    }

    /// Allows no address that is unspecified, link-local, multicast, broadcast or reserved, and no port 0; loopback
    /// only if the session was started on loopback; private addresses only if it was not started on a public one. IPv4
    /// addresses inside IPv6 ones are checked as IPv4.
    pub fn safe() -> Self {
        Self::new(is_safe)
    }

    /// As [`AddressPolicy::safe`], but allows private addresses also if the session was started on a public one: the servers
    /// behind a load balancer may have no others, and this host is in their network.
    pub fn with_private() -> Self {
        Self::new(|advertised, server| {
            is_safe(advertised, server) || (advertised.port() != 0 && Reach::of(advertised.ip()) == Reach::Private)
        })
    }

    /// Allows no advertised address.
    pub fn never() -> Self {
        Self::new(|_, _| false)
    }
}

impl Default for AddressPolicy {
    fn default() -> Self {
        Self::safe()
    }
}

impl fmt::Debug for AddressPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AddressPolicy")
    }
}

/// The policy of a client session, and its recent decisions.
#[derive(Debug)]
pub(crate) struct Advice {
    policy: AddressPolicy,
    server: SocketAddr,
    /// The local ends that were given.
    pub(crate) locals: Vec<Local>,
    dials: Mutex<VecDeque<Time>>,
}

impl Advice {
    /// `server` is the address that the session was started with.
    pub(crate) fn new(policy: AddressPolicy, server: SocketAddr) -> Self {
        Self { policy, server, locals: Vec::new(), dials: Mutex::default() }
    }

    /// TCP connections begin at `locals`, if any.
    pub(crate) fn from(self, locals: Vec<Local>) -> Self {
        Self { locals, ..self }
    }

    /// Returns whether `address` may be connected to now; if so, it counts against the rate limit.
    pub(crate) fn allows(&self, now: Time, address: SocketAddr) -> bool {
        if !(self.policy.0)(address, self.server) {
            return false;
        }
        let mut dials = self.dials.lock().unwrap_or_else(PoisonError::into_inner);
        while dials.front().is_some_and(|first| *first + PERIOD <= now) {
            dials.pop_front();
        }
        if dials.len() >= MAX_DIALS {
            return false;
        }
        dials.push_back(now);
        true
    }
}

fn is_safe(advertised: SocketAddr, server: SocketAddr) -> bool {
    advertised.port() != 0 && Reach::of(advertised.ip()).is_for(Reach::of(server.ip()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(advertised: &str, server: &str) -> bool {
        is_safe(advertised.parse().unwrap(), server.parse().unwrap())
    }

    const PUBLIC: &str = "198.51.100.1:443";
    const PRIVATE: &str = "192.168.1.1:443";
    const LOOPBACK: &str = "127.0.0.1:443";
    const PUBLIC_V6: &str = "[2001:db8::1]:443";

    #[test]
    fn client_connects_to_no_advertised_address_that_only_it_can_reach() {
        let host = ["127.0.0.1:22", "127.255.255.254:1", "[::1]:80", "[::ffff:127.0.0.1]:80", "[64:ff9b::7f00:1]:80"];
        let private = [
            "10.0.0.1:80",
            "172.16.0.1:80",
            "172.31.255.255:80",
            "192.168.0.1:80",
            "100.64.0.1:80",
            "198.18.0.1:80",
            "[fc00::1]:80",
            "[fd12:3456::1]:80",
            "[fec0::1]:80",
            "[::ffff:10.0.0.1]:80",
            "[2002:a00:1::1]:80",
            "[64:ff9b::a00:1]:80",
            "[64:ff9b:1::a00:1]:80",
        ];
        let never = [
            "0.0.0.0:80",
            "0.1.2.3:80",
            "[::]:80",
            "169.254.169.254:80",
            "[fe80::1]:80",
            "[febf::1]:80",
            "[::ffff:169.254.169.254]:80",
            "224.0.0.1:80",
            "239.255.255.250:80",
            "240.0.0.1:80",
            "255.255.255.255:80",
            "192.0.0.1:80",
            "[ff02::1]:80",
            "[::ffff:224.0.0.1]:80",
            "[::10.0.0.1]:80",
            "[100::1]:80",
            "[4000::1]:80",
            "203.0.113.1:0",
        ];
        for server in [PUBLIC, PUBLIC_V6, PRIVATE, LOOPBACK, "[::1]:1", "[fd00::1]:1"] {
            for address in never {
                assert!(!allowed(address, server), "{address} from {server}");
            }
        }
        for server in [PUBLIC, PUBLIC_V6] {
            for address in host.iter().chain(&private) {
                assert!(!allowed(address, server), "{address} from {server}");
            }
        }
        for address in private {
            assert!(allowed(address, PRIVATE), "{address}");
            assert!(allowed(address, "[fd00::1]:1"), "{address}");
        }
        for address in host {
            assert!(!allowed(address, PRIVATE), "{address}");
            assert!(allowed(address, LOOPBACK), "{address}");
        }
        for address in ["203.0.113.7:443", "[2001:db8::7]:443", "172.32.0.1:443", "[64:ff9b::cb00:7107]:443"] {
            for server in [PUBLIC, PUBLIC_V6, PRIVATE, LOOPBACK] {
                assert!(allowed(address, server), "{address} from {server}");
            }
        }
    }

    #[test]
    fn client_connects_to_a_bounded_number_of_advertised_addresses() {
        let server = PUBLIC.parse().unwrap();
        let address = |n: u16| SocketAddr::from(([203, 0, 113, 1], 1000 + n));
        let advice = Advice::new(AddressPolicy::default(), server);
        let count = |now: u64| (0..100).filter(|n| advice.allows(Time::from_millis(now), address(*n))).count();
        assert_eq!(count(0), MAX_DIALS);
        assert_eq!(count(59_999), 0);
        assert_eq!(count(60_000), MAX_DIALS);
        assert_eq!(count(60_001), 0);
    }

    #[test]
    fn refused_addresses_do_not_count_against_the_rate() {
        let advice = Advice::new(AddressPolicy::default(), PUBLIC.parse().unwrap());
        assert!((0..100).all(|_| !advice.allows(Time::ZERO, LOOPBACK.parse().unwrap())));
        assert!(advice.allows(Time::ZERO, "203.0.113.1:443".parse().unwrap()));
    }

    #[test]
    fn an_application_can_decide_otherwise() {
        let address = "10.0.0.1:443".parse().unwrap();
        let anywhere = Advice::new(AddressPolicy::new(|_, _| true), PUBLIC.parse().unwrap());
        assert!(anywhere.allows(Time::ZERO, address));
        let private = Advice::new(AddressPolicy::with_private(), PUBLIC.parse().unwrap());
        assert!(private.allows(Time::ZERO, address) && private.allows(Time::ZERO, "203.0.113.7:443".parse().unwrap()));
        for refused in [LOOPBACK, "169.254.169.254:80", "10.0.0.1:0", "[fe80::1]:80"] {
            assert!(!private.allows(Time::ZERO, refused.parse().unwrap()), "{refused}");
        }
        let nowhere = Advice::new(AddressPolicy::never(), PRIVATE.parse().unwrap());
        assert!(!nowhere.allows(Time::ZERO, address));
    }
}
