//! How many joins a server passes on in a time: of each client, and of all. Without sockets and clock.

use std::collections::BTreeMap;

use tcpls_core::budget::Client;
use tcpls_core::time::Time;

use crate::rate_limit::RateLimit;

/// Clients that are remembered before those are forgotten that have their whole burst again.
const MIN_REMEMBERED: usize = 64;

/// Which limit was reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Exceeded {
    /// That of this client.
    Client,
    /// That of all clients together.
    Total,
}

/// The joins that were passed on lately. Memory is bounded by what [`RateLimit`]s admit: a client is forgotten once it has its
/// whole burst again.
#[derive(Debug)]
pub(super) struct Pace {
    client: RateLimit,
    total: RateLimit,
    /// When all have their whole burst again, and each client has.
    all_full: Time,
    full: BTreeMap<Client, Time>,
    /// Size of the map at which complete ones are forgotten.
    forget_at: usize,
}

impl Pace {
    pub(super) fn new(client: RateLimit, total: RateLimit) -> Self {
        Self { client, total, all_full: Time::ZERO, full: BTreeMap::new(), forget_at: MIN_REMEMBERED }
    }

    /// Admits a join of this client, and counts it. One that is not admitted does not count. A client without a known address
    /// has no limit of its own.
    pub(super) fn admit(&mut self, now: Time, client: Client) -> Result<(), Exceeded> {
        let all_full = self.total.admit(self.all_full, now).ok_or(Exceeded::Total)?;
        if client != Client::ALONE {
            let full = self.full.get(&client).copied().unwrap_or(now);
            let full = self.client.admit(full, now).ok_or(Exceeded::Client)?;
            self.full.insert(client, full);
            if self.full.len() >= self.forget_at {
                self.full.retain(|_, full| *full > now);
                self.forget_at = (2 * self.full.len()).max(MIN_REMEMBERED);
            }
        }
        self.all_full = all_full;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn client(number: u32) -> Client {
        Client::at(std::net::Ipv4Addr::from_bits(number).into())
    }

    fn pace(client: u32, total: u32) -> Pace {
        Pace::new(RateLimit::new(client, SECOND), RateLimit::new(total, SECOND))
    }

    #[test]
    fn client_has_its_burst_and_then_one_after_each_interval() {
        let mut pace = pace(3, 100);
        let start = Time::ZERO + 5 * SECOND;
        let mut admitted = |now: Time, number: u32| pace.admit(now, client(number));
        assert_eq!([1, 1, 1, 1, 2].map(|number| admitted(start, number).is_ok()), [true, true, true, false, true]);
        assert_eq!(admitted(start + (SECOND - Duration::from_nanos(1)), 1), Err(Exceeded::Client));
        assert_eq!([(); 2].map(|()| admitted(start + SECOND, 1).is_ok()), [true, false]);
        assert_eq!([(); 4].map(|()| admitted(start + 100 * SECOND, 1).is_ok()), [true, true, true, false]);
    }

    #[test]
    fn all_clients_share_a_limit_and_refused_joins_do_not_count() {
        let mut pace = pace(2, 5);
        assert_eq!([1, 1, 1, 1, 1].map(|number| pace.admit(Time::ZERO, client(number)).is_ok())[2..], [false; 3]);
        assert_eq!([2, 2, 3].map(|number| pace.admit(Time::ZERO, client(number))), [Ok(()); 3]);
        assert_eq!(pace.admit(Time::ZERO, client(4)), Err(Exceeded::Total));
        assert_eq!(pace.admit(Time::ZERO, Client::ALONE), Err(Exceeded::Total));
        assert_eq!(pace.admit(Time::ZERO + SECOND, client(4)), Ok(()));
    }

    #[test]
    fn clients_without_an_address_have_no_limit_of_their_own() {
        let mut pace = pace(1, 50);
        assert!((0..50).all(|_| pace.admit(Time::ZERO, Client::ALONE).is_ok()));
        assert!(pace.full.is_empty());
    }

    #[test]
    fn clients_that_have_their_burst_again_are_forgotten() {
        let mut pace = pace(2, u32::MAX);
        for number in 0..100_000 {
            pace.admit(Time::ZERO + SECOND * number / 10, client(number)).unwrap();
            assert!(pace.full.len() <= MIN_REMEMBERED, "at most ten have not");
        }
    }
}
