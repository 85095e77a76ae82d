//! A server farm: endpoints that share a token secret, and joins that reach any of them.

use bytes::BytesMut;
use tcpls_core::testing::hello::JoinHello;
use tcpls_core::wire::ids::{ServerId, SessionId, Token};
use tcpls_core::{Endpoint, EndpointConfig, Incoming, Seed, Time, TokenSecret};

const SECRET: [u8; 32] = [0x5e; 32];
/// Sessions of each server, and joins of each session.
const SESSIONS: usize = 100;
const JOINS: u32 = 2;

fn hello(token: Token) -> BytesMut {
    let hello = JoinHello {
        random: [1; 32],
        session_id: [2; 32],
        suite: 0x1301,
        server_name: Some("localhost"),
        alpn: Some(b"tcpls"),
        key_share: [3; 32],
        token,
        zero_rtt: None,
    };
    let mut bytes = Vec::new();
    hello.encode(&EndpointConfig::default().extensions, &mut bytes);
    BytesMut::from(&bytes[..])
}

/// How a balancer selects a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Balance {
    /// By chance.
    Random,
    /// One after the other; other clients come in between.
    RoundRobin,
    /// By the client's address, which one session in four has changed before each join.
    Source,
}

/// What became of the joins of a farm.
#[derive(Debug)]
struct Outcome {
    joins: u32,
    passed_on: u32,
    /// The most that one server passed on, and got from others.
    most_passed_on: u32,
    most_received: u32,
}

impl Outcome {
    /// A row of the page.
    fn row(&self, servers: usize, balance: Balance) -> String {
        let balance = match balance {
            Balance::Random => "by chance",
            Balance::RoundRobin => "in turns",
            Balance::Source => "by client address",
        };
        let share = 100.0 * f64::from(self.passed_on) / f64::from(self.joins);
        let (sessions, mean) = (servers * SESSIONS, f64::from(self.passed_on) / servers as f64);
        format!(
            "| {servers} | {sessions} | {balance} | {share:.1} % | {mean:.0} | {} | {} |",
            self.most_passed_on, self.most_received
        )
    }
}

/// Numerical Recipes' generator, whose high bits are good.
struct Random(u32);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        ((u64::from(self.0) * bound as u64) >> 32) as usize
    }
}

/// All sessions of a farm join; each join that is passed on must reach its server with one hop.
fn join_all(count: usize, balance: Balance) -> Outcome {
    let endpoint = |number: usize| {
        let config = EndpointConfig::default().with(|config| config.server = Some(ServerId(number as u16)));
        Endpoint::new(config, SECRET, Seed([number as u8; 32]))
    };
    let mut servers: Vec<Endpoint> = (0..count).map(endpoint).collect();
    let recognized = |endpoint: &mut Endpoint, bytes: &mut BytesMut| {
        let incoming = endpoint.handle_accepted(Time::ZERO);
        endpoint.handle_bytes(Time::ZERO, incoming, bytes).unwrap()
    };
    let (secret, mut random, mut turn) = (TokenSecret::new(SECRET), Random(1), 0);
    let (mut joins, mut passed_on, mut received) = (0, vec![0; count], vec![0; count]);
    // All sessions begin before any joins, and a path of all of them is lost between the first join and the second.
    let mut select = |random: &mut Random, client: usize| match balance {
        Balance::Random => random.below(count),
        Balance::RoundRobin => {
            turn += 1 + random.below(3);
            turn % count
        }
        Balance::Source => Random(client as u32).below(count),
    };
    let mut sessions: Vec<(usize, usize)> =
        (0..count * SESSIONS).map(|client| (select(&mut random, client), client)).collect();
    for sequence in 1..=JOINS {
        for (number, (owner, client)) in sessions.iter_mut().enumerate() {
            if random.below(4) == 0 {
                *client += count * SESSIONS;
            }
            let mut id = [7; 12];
            id[..2].copy_from_slice(&(*owner as u16).to_be_bytes());
            id[8..].copy_from_slice(&(number as u32).to_be_bytes());
            let reached = select(&mut random, *client);
            let mut bytes = hello(secret.seal(SessionId(id), sequence));
            let sent = bytes.clone();
            joins += 1;
            let join = match recognized(&mut servers[reached], &mut bytes) {
                Incoming::Foreign(foreign) => {
                    assert_eq!((&bytes, foreign.sequence()), (&sent, sequence), "all bytes are passed on");
                    let next = usize::from(foreign.session().server().0);
                    passed_on[reached] += 1;
                    received[next] += 1;
                    recognized(&mut servers[next], &mut bytes)
                }
                own => own,
            };
            let Incoming::Join(join) = join else { panic!("one hop leads to the owner, not to {join:?}") };
            assert_eq!((usize::from(join.session().server().0), bytes.len()), (*owner, 0));
        }
    }
    let most = |counts: &[u32]| counts.iter().copied().max().unwrap();
    Outcome {
        joins,
        passed_on: passed_on.iter().sum(),
        most_passed_on: most(&passed_on),
        most_received: most(&received),
    }
}

#[test]
fn joins_that_are_passed_on_grow_with_the_sessions_and_not_with_the_servers() {
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/farms.md")).unwrap();
    let mut rows = Vec::new();
    for (servers, balance) in [
        (10, Balance::Random),
        (10, Balance::RoundRobin),
        (10, Balance::Source),
        (100, Balance::Random),
        (100, Balance::RoundRobin),
        (100, Balance::Source),
        (1000, Balance::Random),
    ] {
        let outcome = join_all(servers, balance);
        rows.push(outcome.row(servers, balance));
        // Each server has the same work in a farm of any size.
        let per_server = JOINS * SESSIONS as u32;
        assert!(outcome.most_passed_on < 2 * per_server && outcome.most_received < 2 * per_server, "{outcome:?}");
    }
    let table = rows.join("\n");
    assert!(page.contains(&table), "docs/farms.md has another table than:\n{table}");
}
