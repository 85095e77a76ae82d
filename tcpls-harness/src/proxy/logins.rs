//! Who sends a request, and how often a network may send wrong credentials.
//!
//! Secrets of users may be weak, and guesses cost an attacker nothing. After a few wrong ones, a network waits before
//! the next is looked at: 1 s, then twice that after each, up to 5 min. So does a /48 of IPv6, which has 65,536 networks,
//! after guesses from several of them.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use tcpls_core::budget::Client;
use tcpls_core::time::Time;

use super::certificate::name_of;
use super::refusal::Refusal;
use super::users::{Users, is_equal};

/// The first wait.
const FIRST_WAIT: Duration = Duration::from_secs(1);
/// The longest wait.
const LONGEST_WAIT: Duration = Duration::from_secs(5 * 60);
/// How long after its last wrong credentials and its wait a network is remembered.
const REMEMBERED: Duration = Duration::from_secs(15 * 60);
/// The most networks that are remembered: about 400 KiB. The same number of prefixes of 48 bits is remembered, too.
const MAX_NETWORKS: usize = 4096;
/// As many networks of a prefix of 48 bits may use up what each may send before the prefix waits.
const NETWORKS_OF_SITE: u32 = 16;
/// The longest credentials that a session may repeat while its network waits.
const MAX_REPEATED: usize = 1024;

/// The users of a server, and the networks that sent wrong credentials.
#[derive(Debug)]
pub(super) struct Logins {
    users: RwLock<Users>,
    networks: Mutex<Networks>,
}

impl Logins {
    /// `free` is how many wrong credentials a network may send before it has to wait.
    pub(super) fn new(users: Users, free: u32) -> Self {
        Self { users: RwLock::new(users), networks: Mutex::new(Networks::new(free)) }
    }

    pub(super) fn set_users(&self, users: Users) {
        *self.users.write().unwrap_or_else(PoisonError::into_inner) = users;
    }

    /// Returns the user with the credentials in a field Proxy-Authorization. If the server has no users, it is the name in the
    /// client's certificate, if clients are named by that.
    ///
    /// While the client's network has to wait, credentials are not looked at, or guesses would go on. Those that the
    /// same session has used before are no guess: they are, and do not count if they were revoked.
    pub(super) fn authenticate(
        &self,
        field: Option<&str>,
        client: Client,
        session: &Accepted,
        now: Time,
    ) -> Result<Option<Arc<str>>, Refusal> {
        let users = self.users.read().unwrap_or_else(PoisonError::into_inner);
        if users.is_empty() {
            return Ok(session.certified.clone().filter(|_| users.are_certified()));
        }
        // No credentials are no wrong ones: clients that know nothing of a proxy ask without.
        let field = field.ok_or(Refusal::Credentials)?;
        let is_repeated = session.is_repeated(field);
        if !is_repeated && let Some(wait) = self.networks().wait(client, now) {
            return Err(Refusal::WrongTooOften { seconds: u32::try_from(wait.as_secs() + 1).unwrap_or(u32::MAX) });
        }
        let Some(user) = users.find(field) else {
            if !is_repeated {
                self.networks().count(client, now);
            }
            return Err(Refusal::Credentials);
        };
        session.remember(field);
        Ok(Some(user))
    }

    fn networks(&self) -> std::sync::MutexGuard<'_, Networks> {
        self.networks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a server knows of a session's client.
#[derive(Default)]
pub(super) struct Accepted {
    /// The name in the client's certificate.
    certified: Option<Arc<str>>,
    /// The credentials that were accepted, which are not shown.
    field: Mutex<String>,
}

impl Accepted {
    /// Makes one for a client that has shown these certificates, its own first.
    pub(super) fn new(certificates: &[Vec<u8>]) -> Self {
        let certified = certificates.first().and_then(|own| name_of(own)).map(Into::into);
        Self { certified, field: Mutex::default() }
    }

    fn is_repeated(&self, field: &str) -> bool {
        let accepted = self.field.lock().unwrap_or_else(PoisonError::into_inner);
        !accepted.is_empty() && is_equal(field.as_bytes(), accepted.as_bytes())
    }

    fn remember(&self, field: &str) {
        let mut accepted = self.field.lock().unwrap_or_else(PoisonError::into_inner);
        if *accepted != field && field.len() <= MAX_REPEATED {
            field.clone_into(&mut accepted);
        }
    }
}

impl fmt::Debug for Accepted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Accepted").field("certified", &self.certified).finish_non_exhaustive()
    }
}

/// The networks that sent wrong credentials.
#[derive(Debug)]
struct Networks {
    /// IPv4 addresses, and prefixes of IPv6 with 64 bits.
    clients: Guesses<Client>,
    /// Prefixes of IPv6 with 48 bits: what a site gets (RFC 6177).
    sites: Guesses<u64>,
}

impl Networks {
    fn new(free: u32) -> Self {
        Self { clients: Guesses::new(free), sites: Guesses::new(free.max(1).saturating_mul(NETWORKS_OF_SITE)) }
    }

    /// How long `client` has to wait; `None`: its credentials are looked at.
    fn wait(&self, client: Client, now: Time) -> Option<Duration> {
        let site = site_of(client).and_then(|site| self.sites.wait(&site, now));
        self.clients.wait(&client, now).max(site)
    }

    /// Counts wrong credentials.
    ///
    /// A network that guesses alone does not make others of its site wait, which may belong to other people: what it sends
    /// after its own waits counts only once several networks have guessed.
    fn count(&mut self, client: Client, now: Time) {
        if client == Client::ALONE {
            return; // behind a trusted proxy: all of its clients would wait for one of them
        }
        let is_free = self.clients.count(client, now);
        if let Some(site) = site_of(client)
            && (is_free || self.sites.is_used_up(&site, now))
        {
            self.sites.count(site, now);
        }
    }
}

fn site_of(client: Client) -> Option<u64> {
    client.ipv6_prefix().map(|prefix| prefix >> 16)
}

/// Wrong credentials by where they came from.
#[derive(Debug)]
struct Guesses<K> {
    /// How many may be wrong without a wait, and the one that begins the first.
    free: u32,
    records: BTreeMap<K, Record>,
}

#[derive(Clone, Copy, Debug)]
struct Record {
    wrong: u32,
    /// Until when the network waits.
    until: Time,
}

impl Record {
    fn is_forgotten(&self, now: Time) -> bool {
        now >= self.until + REMEMBERED
    }
}

impl<K: Copy + Ord> Guesses<K> {
    fn new(free: u32) -> Self {
        Self { free: free.max(1), records: BTreeMap::new() }
    }

    fn wait(&self, from: &K, now: Time) -> Option<Duration> {
        let record = self.records.get(from)?;
        (record.until > now).then(|| record.until - now)
    }

    /// Whether the next wrong credentials begin a wait that is not the first.
    fn is_used_up(&self, from: &K, now: Time) -> bool {
        self.records.get(from).is_some_and(|record| record.wrong >= self.free && !record.is_forgotten(now))
    }

    /// Counts wrong credentials. Returns whether they were among the first.
    fn count(&mut self, from: K, now: Time) -> bool {
        if !self.records.contains_key(&from) {
            self.make_room(now);
        }
        let record = self.records.entry(from).or_insert(Record { wrong: 0, until: now });
        if record.is_forgotten(now) {
            record.wrong = 0;
        }
        record.wrong = record.wrong.saturating_add(1);
        let wait = match record.wrong.checked_sub(self.free) {
            None => Duration::ZERO,
            Some(more) => FIRST_WAIT.saturating_mul(1 << more.min(16)).min(LONGEST_WAIT),
        };
        record.until = now + wait;
        record.wrong <= self.free
    }

    /// Forgets what is old if the table is full, and otherwise the network that is forgotten next.
    fn make_room(&mut self, now: Time) {
        if self.records.len() >= MAX_NETWORKS {
            self.records.retain(|_, record| !record.is_forgotten(now));
        }
        if self.records.len() >= MAX_NETWORKS
            && let Some(first) = self.records.iter().min_by_key(|(_, record)| record.until).map(|(from, _)| *from)
        {
            self.records.remove(&first);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::users::Credentials;
    use super::*;

    const FREE: u32 = 5;

    fn logins() -> Logins {
        let mut users = Users::default();
        assert!(users.add("ann", "secret") && users.add("bob", "other"));
        Logins::new(users, FREE)
    }

    fn at(address: &str) -> Client {
        Client::at(address.parse().unwrap())
    }

    fn field(text: &str) -> String {
        Credentials::parse(text).unwrap().field().to_owned()
    }

    fn second(second: u64) -> Time {
        Time::from_millis(1000 * second)
    }

    /// Sends credentials in a session of their own.
    fn send(logins: &Logins, text: &str, client: Client, now: Time) -> Result<(), Refusal> {
        logins.authenticate(Some(&field(text)), client, &Accepted::default(), now).map(|_| ())
    }

    #[test]
    fn a_network_waits_twice_as_long_after_each_wrong_secret_up_to_5_min() {
        let (logins, client) = (logins(), at("192.0.2.1"));
        let mut now = second(1000);
        for _ in 0..FREE - 1 {
            assert_eq!(send(&logins, "ann:guess", client, now), Err(Refusal::Credentials));
            assert_eq!(send(&logins, "ann:secret", client, now), Ok(()), "and a right one does not start anew");
        }
        for wait in [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300] {
            assert_eq!(send(&logins, "ann:guess", client, now), Err(Refusal::Credentials));
            let blocked = |seconds| Err(Refusal::WrongTooOften { seconds });
            assert_eq!(send(&logins, "ann:secret", client, now), blocked(wait + 1), "not even the right one");
            let last = Time::from_millis(now.as_nanos() / 1_000_000 + u64::from(wait) * 1000 - 1);
            assert_eq!(send(&logins, "ann:guess", client, last), blocked(1));
            assert_eq!(send(&logins, "ann:secret", at("192.0.2.2"), now), Ok(()), "from another address");
            now += Duration::from_secs(u64::from(wait));
        }
        assert_eq!(send(&logins, "ann:secret", client, now), Ok(()));
        now += REMEMBERED;
        for _ in 0..FREE {
            assert_eq!(send(&logins, "ann:guess", client, now), Err(Refusal::Credentials), "all is forgotten");
        }
    }

    #[test]
    fn networks_are_ipv4_addresses_and_ipv6_prefixes_of_64_bits() {
        let logins = logins();
        let guess = |client| (0..FREE).for_each(|_| _ = send(&logins, "ann:guess", client, second(1)));
        let is_blocked = |client| send(&logins, "ann:secret", client, second(1)).is_err();
        guess(at("2001:db8::1"));
        assert!(is_blocked(at("2001:db8::ffff:1")) && !is_blocked(at("2001:db8:0:1::1")));
        guess(at("::ffff:192.0.2.1"));
        assert!(is_blocked(at("192.0.2.1")));
        guess(Client::ALONE);
        assert!(!is_blocked(Client::ALONE), "clients behind a trusted proxy are not told apart");
    }

    /// A /64 of a /48.
    fn network(site: u16, number: u16) -> Client {
        at(&format!("2001:db8:{site:x}:{number:x}::1"))
    }

    #[test]
    fn a_prefix_of_48_bits_waits_after_guesses_from_16_of_its_networks() {
        let logins = logins();
        let guess = |client| send(&logins, "ann:guess", client, second(1));
        for number in 0..16 {
            for _ in 0..FREE {
                assert_eq!(guess(network(1, number)), Err(Refusal::Credentials), "network {number}");
            }
        }
        assert_eq!(guess(network(1, 99)), Err(Refusal::WrongTooOften { seconds: 2 }), "also one that has sent none");
        assert_eq!(guess(network(2, 1)), Err(Refusal::Credentials), "another prefix");
        assert_eq!(send(&logins, "ann:secret", network(1, 99), second(2)), Ok(()));
        // From now on, all count, whichever network they come from.
        let mut now = second(2);
        for wait in [2, 4, 8, 16, 32, 64, 128, 256, 300, 300] {
            assert_eq!(send(&logins, "ann:guess", network(1, 0), now), Err(Refusal::Credentials));
            assert_eq!(logins.networks().wait(network(1, 77), now), Some(Duration::from_secs(wait)));
            now += LONGEST_WAIT;
        }
    }

    #[test]
    fn a_network_that_guesses_alone_does_not_make_its_neighbors_wait() {
        let (logins, client) = (logins(), network(1, 1));
        let mut now = second(1);
        for _ in 0..1000 {
            assert_eq!(send(&logins, "ann:guess", client, now), Err(Refusal::Credentials));
            assert_eq!(logins.networks().wait(network(1, 2), now), None);
            now += LONGEST_WAIT;
        }
    }

    #[test]
    fn a_session_may_repeat_its_credentials_while_its_network_waits() {
        let (logins, client, session) = (logins(), at("192.0.2.1"), Accepted::default());
        let ask = |text: &str| logins.authenticate(Some(&field(text)), client, &session, second(1));
        assert_eq!(ask("ann:secret"), Ok(Some("ann".into())));
        (0..FREE).for_each(|_| _ = send(&logins, "bob:guess", client, second(1)));
        assert_eq!(ask("ann:secret"), Ok(Some("ann".into())));
        assert_eq!(ask("bob:other"), Err(Refusal::WrongTooOften { seconds: 2 }));
        logins.set_users(Users::default().or(Arc::new(NoAccounts)));
        let wait = logins.networks().wait(client, second(1));
        for _ in 0..100 {
            assert_eq!(ask("ann:secret"), Err(Refusal::Credentials), "they are checked nevertheless");
        }
        assert_eq!(logins.networks().wait(client, second(1)), wait, "revoked ones do not make the wait longer");
    }

    #[derive(Debug)]
    struct NoAccounts;

    impl super::super::users::Accounts for NoAccounts {
        fn accepts(&self, _: &str, _: &str) -> bool {
            false
        }
    }

    #[test]
    fn requests_without_credentials_and_servers_without_users_count_nothing() {
        let (logins, client) = (logins(), at("192.0.2.1"));
        let session = Accepted::default();
        for _ in 0..100 {
            assert_eq!(logins.authenticate(None, client, &session, second(1)), Err(Refusal::Credentials));
        }
        assert_eq!(send(&logins, "ann:secret", client, second(1)), Ok(()));
        let open = Logins::new(Users::default(), 0);
        let certified = Accepted { certified: Some("ann".into()), ..Accepted::default() };
        assert_eq!(
            open.authenticate(None, client, &certified, second(1)),
            Ok(None),
            "certificates do not name clients"
        );
        open.set_users(Users::default().or_by_certificate());
        assert_eq!(open.authenticate(None, client, &certified, second(1)), Ok(Some("ann".into())));
        let both = logins.authenticate(None, client, &certified, second(1));
        assert_eq!(both, Err(Refusal::Credentials), "a server with users requires their secrets");
        assert_eq!(open.authenticate(Some("Basic !"), client, &session, second(1)), Ok(None));
    }

    #[test]
    fn the_table_of_networks_is_bounded_and_keeps_those_that_wait_longest() {
        let logins = logins();
        let guesser = at("192.0.2.1");
        (0..FREE + 8).for_each(|_| logins.networks().count(guesser, second(1)));
        for network in 0..3 * MAX_NETWORKS as u32 {
            logins.networks().count(Client::at(std::net::Ipv4Addr::from_bits(network).into()), second(2));
            assert!(logins.networks().clients.records.len() <= MAX_NETWORKS);
        }
        assert!(logins.networks().wait(guesser, second(2)).is_some());
        logins.networks().count(at("198.51.100.1"), second(2000));
        assert_eq!(logins.networks().clients.records.len(), 1, "what is old is forgotten");
        for site in 0..2 * MAX_NETWORKS as u16 {
            logins.networks().count(network(site, 0), second(2));
            assert!(logins.networks().sites.records.len() <= MAX_NETWORKS);
        }
    }
}
