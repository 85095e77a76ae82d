//! Every option of clients and servers, at its smallest and its largest: each is refused by name, or carries data.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tcpls_core::config::Config;
use tcpls_core::wire::ids::{ErrorCode, ServerId};
use tcpls_harness::net::{ClientOptions, ConnectError, Farm, ListenError, Listener, RateLimit, ServerOptions, Session};

use crate::library;
use crate::support::{ANY, PROTOCOL, Server, pattern, read_all};

const LONGEST: Duration = Duration::MAX;

type Change<T> = fn(&mut T);

/// Client options by name. The last ones of each are refused, as many as the number says.
const CLIENT: &[(&str, usize, &[Change<ClientOptions>])] = &[
    (
        "unsent_low_water",
        2,
        &[
            |o| o.socket.unsent_low_water = 4096,
            |o| o.socket.unsent_low_water = u32::MAX,
            |o| o.socket.unsent_low_water = 4095,
            |o| o.socket.unsent_low_water = 0,
        ],
    ),
    (
        "socket buffers",
        0,
        &[
            |o| o.socket.send_buffer = Some(0),
            |o| o.socket.send_buffer = Some(1 << 30),
            |o| o.socket.receive_buffer = Some(0),
            |o| o.socket.receive_buffer = Some(1 << 30),
        ],
    ),
    ("wanted", 1, &[|o| o.dial.wanted = 1, |o| o.dial.wanted = usize::MAX, |o| o.dial.wanted = 0]),
    ("stagger", 0, &[|o| o.dial.stagger = Duration::ZERO, |o| o.dial.stagger = LONGEST]),
    ("patience", 0, &[|o| o.dial.patience = Duration::ZERO, |o| o.dial.patience = LONGEST]),
    (
        "connect_timeout",
        2,
        &[
            |o| o.dial.connect_timeout = LONGEST,
            |o| o.dial.connect_timeout = Duration::from_millis(99),
            |o| o.dial.connect_timeout = Duration::ZERO,
        ],
    ),
    (
        "initial_stream_window",
        1,
        &[|o| {
            o.config = Arc::new(Config::default().with(|config| config.initial_stream_window = 0));
        }],
    ),
];

/// The same for servers.
const SERVER: &[(&str, usize, &[Change<ServerOptions>])] = &[
    ("unsent_low_water", 1, &[|o| o.socket.unsent_low_water = 4096, |o| o.socket.unsent_low_water = 1]),
    ("max_sessions", 1, &[|o| o.max_sessions = 1, |o| o.max_sessions = usize::MAX, |o| o.max_sessions = 0]),
    ("max_handshakes", 1, &[|o| o.max_handshakes = 1, |o| o.max_handshakes = usize::MAX, |o| o.max_handshakes = 0]),
    ("max_claims", 1, &[|o| o.max_claims = 1, |o| o.max_claims = usize::MAX, |o| o.max_claims = 0]),
    ("max_hand_overs", 1, &[|o| o.max_hand_overs = usize::MAX, |o| o.max_hand_overs = 0]),
    ("hand_over_rate", 1, &[|o| o.hand_over_rate = RateLimit::new(u32::MAX, LONGEST), |o| o.hand_over_rate.burst = 0]),
    (
        "client_hand_over_rate",
        1,
        &[|o| o.client_hand_over_rate.interval = Duration::ZERO, |o| o.client_hand_over_rate.burst = 0],
    ),
    ("farm", 1, &[|o| o.farm = Some(Farm::new(ServerId(1), ANY))]),
    ("max_memory", 2, &[|o| o.max_memory = u64::MAX, |o| o.max_memory = (1 << 20) - 1, |o| o.max_memory = 0]),
    ("max_descriptors", 1, &[|o| o.max_descriptors = usize::MAX, |o| o.max_descriptors = 0]),
    ("max_refusals", 0, &[|o| o.max_refusals = 0]),
    (
        "max_pending",
        1,
        &[|o| o.endpoint.max_pending = 1, |o| o.endpoint.max_pending = usize::MAX, |o| o.endpoint.max_pending = 0],
    ),
    ("hello_timeout", 1, &[|o| o.endpoint.hello_timeout = LONGEST, |o| o.endpoint.hello_timeout = Duration::ZERO]),
    ("max_streams", 1, &[|o| o.config = Arc::new(Config::default().with(|config| config.max_streams = 0))]),
];

/// Data goes both ways.
async fn assert_works(server: &mut Listener, options: ClientOptions, what: &str) {
    let addresses = [server.local_addresses()[0]];
    let (client, peer) = tokio::join!(Session::connect(&addresses, options), server.accept());
    let client = client.unwrap_or_else(|error| panic!("{what}: {error}"));
    let mut stream = client.open_stream().await.unwrap();
    stream.write_chunk(Bytes::from(pattern(20_000))).await.unwrap();
    stream.finish().unwrap();
    let mut answer = peer.accept_stream().await.unwrap();
    assert_eq!(read_all(answer.recv()).await, pattern(20_000), "{what}");
    answer.write_chunk(Bytes::from(pattern(30_000))).await.unwrap();
    answer.finish().unwrap();
    assert_eq!(read_all(stream.recv()).await, pattern(30_000), "{what}");
    client.close(ErrorCode(0), b"").await;
    peer.closed().await;
}

#[tokio::test]
async fn every_client_option_at_its_limits_is_refused_by_name_or_works() {
    let mut server = Server::start();
    for (name, refused, changes) in CLIENT {
        for (number, change) in changes.iter().enumerate() {
            let mut options = server.options();
            change(&mut options);
            let what = format!("{name}, {number}");
            if number < changes.len() - refused {
                assert_works(&mut server.listener, options, &what).await;
                continue;
            }
            let Err(ConnectError::Config(error)) = Session::connect(&server.addresses, options).await else {
                panic!("{what}: it was not refused");
            };
            assert_eq!(error.field(), *name);
        }
    }
}

#[tokio::test]
async fn every_server_option_at_its_limits_is_refused_by_name_or_works() {
    let server = Server::start();
    for (name, refused, changes) in SERVER {
        for (number, change) in changes.iter().enumerate() {
            let mut options = ServerOptions::new(library::server(&server.identity, PROTOCOL));
            change(&mut options);
            let what = format!("{name}, {number}");
            match Listener::bind(&[ANY], options) {
                Ok(mut listener) => {
                    assert!(number < changes.len() - refused, "{what}: it was not refused");
                    assert_works(&mut listener, server.options(), &what).await;
                }
                Err(ListenError::Config(error)) => {
                    assert!(number >= changes.len() - refused, "{what}: {error}");
                    assert_eq!(error.field(), *name);
                }
                Err(error) => panic!("{what}: {error}"),
            }
        }
    }
}
