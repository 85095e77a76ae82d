//! Every setting of a session, at its smallest and its largest, and settings that contradict each other: each is refused by
//! name, or a session with it carries data in both directions.

use std::time::Duration;

use tcpls_core::config::{Config, Lanes};
use tcpls_core::connection::State;
use tcpls_core::error::{CloseReason, ConfigError};
use tcpls_core::event::Event;

use crate::support::{Client, Server, Setup, Side, bytes};

const LONGEST: Duration = Duration::MAX;

/// Ten times what bytes need to arrive, and well below the shortest timeout.
const MOMENT: Duration = Duration::from_millis(10);

/// A setting with one value.
type Change = fn(&mut Config);

/// The tested values of each setting, by the name of its field. A contradiction is listed with the setting that is
/// refused.
const CHANGES: &[(&str, &[Change])] = &[
    (
        "initial_session_window",
        &[
            |c| c.initial_session_window = 0,
            |c| c.initial_session_window = 1,
            |c| (c.initial_session_window, c.max_session_window) = (1023, 1023),
            |c| (c.initial_session_window, c.max_session_window) = (1024, 1024),
            |c| (c.initial_session_window, c.max_session_window) = (u64::MAX, u64::MAX),
        ],
    ),
    (
        "max_session_window",
        &[
            |c| c.max_session_window = 0,
            |c| c.max_session_window = c.initial_session_window - 1,
            |c| c.max_session_window = c.initial_session_window,
            |c| c.max_session_window = u64::MAX,
            |c| c.initial_session_window = u64::MAX,
        ],
    ),
    (
        "initial_stream_window",
        &[
            |c| c.initial_stream_window = 0,
            |c| (c.initial_stream_window, c.max_stream_window) = (1, 1),
            |c| (c.initial_stream_window, c.max_stream_window) = (1023, 1023),
            |c| (c.initial_stream_window, c.max_stream_window) = (1024, 1024),
            |c| (c.initial_stream_window, c.max_stream_window) = (u64::MAX, u64::MAX),
        ],
    ),
    (
        "max_stream_window",
        &[
            |c| c.max_stream_window = 0,
            |c| c.max_stream_window = c.initial_stream_window - 1,
            |c| c.max_stream_window = c.initial_stream_window,
            |c| c.max_stream_window = u64::MAX,
            |c| c.initial_stream_window = u64::MAX,
        ],
    ),
    ("max_streams", &[|c| c.max_streams = 0, |c| c.max_streams = 1, |c| c.max_streams = u32::MAX]),
    (
        "send_buffer",
        &[|c| c.send_buffer = 0, |c| c.send_buffer = 1023, |c| c.send_buffer = 1024, |c| c.send_buffer = usize::MAX],
    ),
    (
        "stream_send_buffer",
        &[
            |c| c.stream_send_buffer = 0,
            |c| c.stream_send_buffer = 1,
            |c| c.stream_send_buffer = 1024,
            |c| c.stream_send_buffer = usize::MAX,
            |c| (c.send_buffer, c.stream_send_buffer) = (1024, usize::MAX),
            |c| (c.send_buffer, c.stream_send_buffer) = (usize::MAX, 1024),
        ],
    ),
    (
        "max_unacknowledged_records",
        &[
            |c| c.max_unacknowledged_records = 0,
            |c| c.max_unacknowledged_records = 1,
            |c| c.max_unacknowledged_records = u32::MAX,
            |c| (c.max_unacknowledged_records, c.ack_every_records) = (1, u32::MAX),
        ],
    ),
    (
        "max_gaps",
        &[
            |c| c.max_gaps = 0,
            |c| c.max_gaps = 7,
            |c| (c.initial_stream_window, c.max_stream_window, c.max_gaps) = (1 << 16, 1 << 16, 7),
            |c| (c.initial_stream_window, c.max_stream_window, c.max_gaps) = (1 << 16, 1 << 16, 8),
            |c| c.max_gaps = usize::MAX,
        ],
    ),
    (
        "idle_timeout",
        &[
            |c| c.idle_timeout = Some(Duration::ZERO),
            |c| c.idle_timeout = Some(Duration::from_nanos(1)),
            |c| c.idle_timeout = Some(Duration::from_millis(100)),
            |c| c.idle_timeout = Some(LONGEST),
            |c| c.idle_timeout = None,
        ],
    ),
    (
        "user_timeout",
        &[
            |c| c.user_timeout = Duration::ZERO,
            |c| c.user_timeout = Duration::from_millis(99),
            |c| c.user_timeout = Duration::from_millis(100),
            |c| c.user_timeout = LONGEST,
        ],
    ),
    (
        "probe_after",
        &[
            |c| c.probe_after = Some(Duration::ZERO),
            |c| c.probe_after = Some(Duration::from_millis(100)),
            |c| c.probe_after = Some(LONGEST),
            |c| c.probe_after = None,
        ],
    ),
    (
        "max_ack_delay",
        &[
            |c| c.max_ack_delay = Duration::ZERO,
            |c| c.max_ack_delay = Duration::from_nanos(1),
            |c| (c.max_ack_delay, c.user_timeout) = (Duration::from_millis(1 << 14), Duration::from_secs(17)),
            |c| (c.max_ack_delay, c.user_timeout) = (Duration::from_millis((1 << 14) + 1), LONGEST),
            |c| c.max_ack_delay = c.user_timeout,
            |c| (c.max_ack_delay, c.idle_timeout) = (Duration::from_secs(1), Some(Duration::from_secs(1))),
            |c| c.max_ack_delay = LONGEST,
        ],
    ),
    (
        "ack_every_records",
        &[|c| c.ack_every_records = 0, |c| c.ack_every_records = 1, |c| c.ack_every_records = u32::MAX],
    ),
    (
        "max_tcp_connections",
        &[
            |c| c.max_tcp_connections = 0,
            |c| c.max_tcp_connections = 1,
            |c| c.max_tcp_connections = u32::MAX,
            |c| (c.max_tcp_connections, c.spare_tokens) = (1, 16),
        ],
    ),
    ("lanes", &[|c| c.lanes = Lanes::Off, |c| c.lanes = Lanes::Always]),
    ("joins_at_advertised_only", &[|c| c.joins_at_advertised_only = true]),
    (
        "spare_tokens",
        &[
            |c| c.spare_tokens = 0,
            |c| c.spare_tokens = 16,
            |c| c.spare_tokens = 17,
            |c| c.spare_tokens = u32::MAX,
            |c| (c.max_tcp_connections, c.spare_tokens) = (u32::MAX, 16),
        ],
    ),
    (
        "handshake_timeout",
        &[
            |c| c.handshake_timeout = Duration::ZERO,
            |c| c.handshake_timeout = Duration::from_millis(100),
            |c| c.handshake_timeout = LONGEST,
        ],
    ),
    (
        "join_timeout",
        &[
            |c| c.join_timeout = Duration::ZERO,
            |c| c.join_timeout = Duration::from_millis(100),
            |c| c.join_timeout = LONGEST,
        ],
    ),
    ("session_timeout", &[|c| c.session_timeout = Duration::ZERO, |c| c.session_timeout = LONGEST]),
    (
        "close_timeout",
        &[
            |c| c.close_timeout = Duration::ZERO,
            |c| c.close_timeout = Duration::from_millis(100),
            |c| (c.close_timeout, c.close_limit) = (LONGEST, LONGEST),
        ],
    ),
    (
        "close_limit",
        &[
            |c| c.close_limit = Duration::ZERO,
            |c| c.close_limit = Duration::from_millis(1),
            |c| c.close_timeout = LONGEST,
            |c| c.close_limit = LONGEST,
        ],
    ),
    ("zero_rtt_join", &[|c| c.zero_rtt_join = false, |c| c.zero_rtt_join = true]),
    (
        "confidentiality_limit",
        &[
            |c| c.confidentiality_limit = Some(0),
            |c| c.confidentiality_limit = Some(31),
            |c| c.confidentiality_limit = Some(32),
            |c| c.confidentiality_limit = Some(u64::MAX),
            |c| c.confidentiality_limit = None,
        ],
    ),
    (
        "integrity_limit",
        &[
            |c| c.integrity_limit = Some(0),
            |c| c.integrity_limit = Some(1),
            |c| c.integrity_limit = Some(u64::MAX),
            |c| c.integrity_limit = None,
        ],
    ),
    (
        "overhead_budget",
        &[
            |c| c.overhead_budget = 0,
            |c| c.overhead_budget = 99,
            |c| c.overhead_budget = 100,
            |c| c.overhead_budget = u32::MAX,
        ],
    ),
];

/// The session ends at once, sends nothing, and names the setting.
fn assert_refused(setup: Setup, side: Side, error: ConfigError, what: &str) {
    let mut pair = setup.start();
    pair.step(Client);
    pair.deliver_all();
    assert_eq!(pair.conn(side).close_reason(), Some(&CloseReason::Config(error)), "{what}");
    assert!(pair.events(side).iter().any(|event| matches!(event, Event::Closed { .. })), "{what}");
}

/// Data goes both ways, and over a second TCP connection.
fn assert_works(setup: Setup, what: &str) {
    let mut pair = setup.start();
    pair.drive_for(MOMENT);
    for side in [Client, Server] {
        assert_eq!(pair.conn(side).state(), State::Established, "{what}");
    }
    pair.open_tcp();
    let data = bytes(60_000);
    for side in [Client, Server] {
        let id = pair.open_stream(side);
        pair.submit(side, id, &data);
        for _ in 0..2_000 {
            if pair.stream_end(side.peer(), id).is_some() {
                break;
            }
            pair.drive_for(MOMENT);
        }
        assert_eq!(pair.close_reason(side), None, "{what}");
        pair.assert_received(side.peer(), id, &data);
    }
    pair.close(Client, 0, b"");
    pair.drive();
    for side in [Client, Server] {
        assert!(
            matches!(pair.close_reason(side), Some(CloseReason::Local { .. } | CloseReason::Peer { .. })),
            "{what}"
        );
    }
}

#[test]
fn every_setting_at_its_limits_is_refused_by_name_or_carries_data() {
    let mut refused = 0;
    for (field, changes) in CHANGES {
        for (number, change) in changes.iter().enumerate() {
            for sides in [&[Client][..], &[Server], &[Client, Server]] {
                let mut setup = Setup::default();
                sides.iter().for_each(|side| match side {
                    Client => change(&mut setup.client),
                    Server => change(&mut setup.server),
                });
                let what = format!("{field}, {number}, {sides:?}");
                let config = if sides[0] == Client { &setup.client } else { &setup.server };
                match config.validate() {
                    Err(error) => {
                        assert_eq!(error.field(), *field, "{what}: {error}");
                        assert!(error.to_string().starts_with(field), "{error}");
                        assert_refused(setup, sides[0], error, &what);
                        refused += 1;
                    }
                    Ok(()) => assert_works(setup, &what),
                }
            }
        }
    }
    assert!(refused > 100, "{refused}");
}

#[test]
fn the_sweep_has_every_setting() {
    let shown = format!("{:#?}", Config::default());
    let fields: Vec<&str> = shown
        .lines()
        .filter_map(|line| line.strip_prefix("    ")?.split_once(": ").filter(|(name, _)| !name.starts_with(' ')))
        .map(|(name, _)| name)
        .collect();
    let swept: Vec<&str> = CHANGES.iter().map(|(field, _)| *field).collect();
    assert_eq!(swept, fields);
}
