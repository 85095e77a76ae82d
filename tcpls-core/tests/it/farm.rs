//! A server farm: endpoints that share a token secret, and joins that reach any of them.

use bytes::BytesMut;
use tcpls_core::testing::hello::JoinHello;
use tcpls_core::wire::ids::{ServerId, SessionId, Token};
use tcpls_core::{Endpoint, EndpointConfig, Incoming, Seed, Time, TokenSecret};

const SERVERS: u16 = 1000;
const SECRET: [u8; 32] = [0x5e; 32];

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

#[test]
fn share_of_joins_that_are_passed_on_is_that_of_the_other_servers() {
    const JOINS: u32 = 20_000;
    let endpoint = |number: u16| {
        let config = EndpointConfig::default().with(|config| config.server = Some(ServerId(number)));
        let mut seed = [0; 32];
        seed[..2].copy_from_slice(&number.to_be_bytes());
        Endpoint::new(config, SECRET, Seed(seed))
    };
    let mut servers: Vec<Endpoint> = (0..SERVERS).map(endpoint).collect();
    let recognized = |endpoint: &mut Endpoint, bytes: &mut BytesMut| {
        let incoming = endpoint.handle_accepted(Time::ZERO);
        endpoint.handle_bytes(Time::ZERO, incoming, bytes).unwrap()
    };
    let secret = TokenSecret::new(SECRET);
    let (mut passed_on, mut random) = (0, 1_u32);
    for join in 0..JOINS {
        let owner = (join % u32::from(SERVERS)) as u16;
        let mut id = [7; 12];
        id[..2].copy_from_slice(&owner.to_be_bytes());
        id[8..].copy_from_slice(&join.to_be_bytes());
        // The balancer selects a server by chance (Numerical Recipes' generator, whose high bits are good).
        random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let reached = usize::from((random >> 16) as u16 % SERVERS);
        let mut bytes = hello(secret.seal(SessionId(id), join));
        let sent = bytes.clone();
        let join = match recognized(&mut servers[reached], &mut bytes) {
            Incoming::Foreign(foreign) => {
                passed_on += 1;
                assert_eq!((&bytes, foreign.sequence()), (&sent, join), "all bytes are passed on");
                let next = &mut servers[usize::from(foreign.session().server().0)];
                recognized(next, &mut bytes)
            }
            own => own,
        };
        let Incoming::Join(join) = join else { panic!("one hop leads to the owner, not to {join:?}") };
        assert_eq!((join.session().server(), bytes.len()), (ServerId(owner), 0));
    }
    let expected = JOINS - JOINS / u32::from(SERVERS);
    assert!(passed_on > expected - 20 && passed_on < JOINS, "{passed_on} of {JOINS}");
}
