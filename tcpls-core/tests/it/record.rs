//! Recordings: a replay decides as the session did, without its keys and data.

use std::time::Duration;

use proptest::prelude::*;
use tcpls_core::record::replay::{Recording, Replay, ReplayError};
use tcpls_core::record::{EVENTS, FormatError, ITEMS, Mark, REASONS, TRACED, VERSION};
use tcpls_core::testing::{Model, Recordings, strategies};
use tcpls_core::wire::ids::ConnectionId;
use tcpls_core::{Config, JoinOptions, TcpInfo};

use crate::support::{Client, Pair, Server, Setup, bytes};

const FIRST: ConnectionId = ConnectionId::FIRST;

fn recorded(recordings: &Recordings, setup: Setup) -> Setup {
    Setup { recordings: Some(recordings.clone()), ..setup }
}

/// Joins, a failover, a key update on both sides, addresses, options and a close.
fn eventful(mut pair: Pair) {
    pair.join();
    pair.spread();
    pair.transfer(Client, &bytes(300_000));
    pair.update_keys(Client);
    pair.transfer(Server, &bytes(90_000));
    let (up, down) = (pair.open_stream(Client), pair.open_stream(Server));
    pair.submit(Client, up, &bytes(400_000));
    pair.submit(Server, down, &bytes(200_000));
    (0..3).for_each(|_| _ = pair.round());
    pair.cut(FIRST);
    pair.drive();
    pair.update_keys(Server);
    let backup = pair.open_tcp_with(JoinOptions::default().with(|join| join.backup = true));
    pair.drive();
    let address = "192.0.2.77:4433".parse().unwrap();
    pair.client().set_tcp_addresses(backup, None, Some(address));
    pair.client().handle_tcp_info(backup, TcpInfo::default());
    let advertised = pair.server().advertise(address).unwrap();
    pair.client().send_tcp_option(254, b"cubic").unwrap();
    pair.drive();
    pair.server().withdraw(advertised).unwrap();
    let reset = pair.open_stream(Client);
    pair.write(Client, reset, &bytes(5000));
    let now = pair.now;
    pair.client().stream(reset).reset(tcpls_core::ErrorCode(7)).unwrap();
    pair.client().drain(now, Duration::from_secs(2));
    pair.drive_for(Duration::from_secs(3));
    pair.close(Server, 0x1234, b"the text of a reason");
    pair.drive();
}

#[test]
fn memory_of_a_recorder_is_counted_and_freed_when_the_driver_says_so() {
    let recordings = Recordings::redacted();
    let mut pair = recorded(&recordings, Setup { tls: None, ..Setup::default() }).established();
    pair.transfer(Client, &bytes(300_000));
    let (written, held) = (recordings.file().len(), pair.client().memory());
    pair.client().shrink_to_fit();
    let block = recordings.file().len() - written;
    assert!(block > 500, "{block} bytes were passed on");
    let freed = held - pair.client().memory();
    assert!((block..block + (128 << 10)).contains(&freed), "{freed} bytes were freed for {block} bytes of entries");
    pair.transfer(Server, &bytes(10_000));
    pair.close(Client, 0, b"");
    pair.drive();
    drop(pair);
    assert!(recordings.check() > 50, "it goes on behind the block that was passed on early");
}

#[test]
fn replayed_sessions_decide_as_recorded_with_null_crypto() {
    let recordings = Recordings::redacted();
    eventful(recorded(&recordings, Setup { tls: None, ..Setup::default() }).established());
    assert!(recordings.check() > 500);
}

#[test]
fn replayed_sessions_decide_as_recorded_with_tls() {
    let recordings = Recordings::redacted();
    eventful(recorded(&recordings, Setup::default()).established());
    assert!(recordings.check() > 500);
}

#[test]
fn replayed_sessions_decide_as_recorded_with_their_data() {
    let recordings = Recordings::full();
    eventful(recorded(&recordings, Setup::default()).established());
    recordings.check();
    let data = bytes(300_000);
    let has = |part: &[u8]| recordings.file().windows(part.len()).any(|bytes| bytes == part);
    assert!(has(&data[1000..1100]) && has(b"the text of a reason") && has(b"cubic"));
}

#[test]
fn a_recorded_session_sends_the_same_bytes() {
    let wires = [None, Some(Recordings::redacted())].map(|recordings| {
        let mut pair = Setup { recordings, ..Setup::default() }.established();
        pair.join();
        pair.transfer(Client, &bytes(100_000));
        pair.wire().into_iter().map(|(up, down)| (up.to_vec(), down.to_vec())).collect::<Vec<_>>()
    });
    assert!(wires[0] == wires[1]);
}

#[test]
fn what_a_recorder_adds_to_a_record_is_small() {
    let recordings = Recordings::redacted();
    let mut pair = recorded(&recordings, Setup { tls: None, ..Setup::default() }).established();
    let before = recordings.file().len();
    pair.transfer(Client, &bytes(8_000_000));
    drop(pair);
    let added = recordings.file().len() - before;
    assert!(added < 8_000_000 / 50, "{added} bytes"); // both ends, small sockets
}

#[test]
fn a_replay_has_the_state_of_the_session_and_names_its_events() {
    let recordings = Recordings::redacted();
    eventful(recorded(&recordings, Setup::default()).established());
    let file = recordings.file();
    let recording = Recording::read(&file).unwrap();
    let [client, server] = recording.sessions() else { panic!("two sessions") };
    assert_eq!((client.mark(), server.mark()), (Some(Mark::Complete), Some(Mark::Complete)));
    let mut replay = Replay::new(client);
    let mut lost = None;
    while let Some(step) = replay.step().unwrap() {
        if step.events().any(|event| event == "lost") && lost.is_none() {
            lost = Some((step.to_string(), replay.connection().unwrap().tcp_connections().collect::<Vec<_>>()));
        }
    }
    let (text, live) = lost.expect("a TCP connection was lost");
    assert!(text.contains("HandleTcpEnd"), "{text}");
    assert_eq!(live, [ConnectionId(1)]);
}

#[test]
fn a_cut_or_damaged_file_is_read_up_to_the_damage() {
    let recordings = Recordings::redacted();
    eventful(recorded(&recordings, Setup { tls: None, ..Setup::default() }).established());
    let file = recordings.file();
    let cut = Recording::read(&file[..file.len() - 1]).unwrap();
    assert!(matches!(cut.damage(), Some(FormatError::Truncated { .. })), "{:?}", cut.damage());
    let mut damaged = file.clone();
    *damaged.last_mut().unwrap() ^= 1;
    let damaged = Recording::read(&damaged).unwrap();
    assert!(matches!(damaged.damage(), Some(FormatError::Checksum { .. })), "{:?}", damaged.damage());
    assert_eq!(Recording::read(b"not a recording").err(), Some(FormatError::NotARecording));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn any_operations_and_faults_replay(ops in strategies::ops(1..60), seed in 0u64..4) {
        let recordings = Recordings::redacted();
        let setup = Setup { tls: None, seed, ..Setup::default() };
        let mut model = Model::new(recorded(&recordings, setup));
        model.run(&ops);
        model.heal();
        drop(model);
        recordings.check();
    }
}

/// Setting by setting, a replay gets what the session had.
#[test]
fn every_setting_is_recorded() {
    let odd = Config::default().with(|config| {
        config.initial_session_window = 70_001;
        config.initial_stream_window = 60_007;
        config.max_streams = 3;
        config.idle_timeout = None;
        config.probe_after = Some(Duration::from_millis(777));
        config.max_ack_delay = Duration::from_millis(3);
        config.ack_every_records = 5;
        config.spare_tokens = 2;
        config.confidentiality_limit = Some(40);
        config.integrity_limit = Some(9);
    });
    let recordings = Recordings::redacted();
    let setup = Setup { client: odd.clone(), server: odd, ..Setup::default() };
    let mut pair = recorded(&recordings, setup).established();
    pair.join();
    pair.transfer(Client, &bytes(400_000));
    pair.drive_for(Duration::from_secs(3));
    drop(pair);
    recordings.check();
}

#[test]
fn the_page_lists_every_item_and_name() {
    let page = include_str!("../../../docs/recordings.md");
    for (code, name, fields) in ITEMS {
        let fields: Vec<String> = fields.iter().map(|field| format!("`{field}`")).collect();
        let row = format!("| {code:#04x} | {name} | {} |", fields.join(", ")).replace("|  |", "| |");
        assert!(page.contains(&row), "docs/recordings.md needs the line {row}");
    }
    let text = page.split_whitespace().collect::<Vec<_>>().join(" ");
    for names in [REASONS, EVENTS, TRACED] {
        assert!(text.contains(&format!(": {}.", names.join(", "))), "docs/recordings.md needs {names:?}");
    }
    assert!(page.contains(&format!("the version, 16 bits, {VERSION};")));
}

#[test]
fn an_error_of_a_replay_says_where() {
    let error = ReplayError::Format(FormatError::Malformed { entry: 7, what: "unknown item" });
    assert_eq!(error.to_string(), "entry 7 is malformed: unknown item");
}
