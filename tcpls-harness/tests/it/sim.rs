//! The simulator: what is shipped reaches its goals, runs can be repeated, and chance finds nothing.

use std::path::PathBuf;
use std::time::Duration;

use tcpls_harness::sim::report::BIN;
use tcpls_harness::sim::scenario::{Crypto, EarlyData, FaultKind, Span, Transport};
use tcpls_harness::sim::swarm::{Mode, generate, minimise, swarm};
use tcpls_harness::sim::{RealOptions, Report, RunOptions, Scenario, run, run_real};

use crate::support::{Lines, nothing_failed};

fn directory() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/scenarios"))
}

fn shipped() -> Vec<(String, Scenario)> {
    let mut files: Vec<PathBuf> = [directory(), directory().join("regressions")]
        .iter()
        .flat_map(|directory| std::fs::read_dir(directory).into_iter().flatten())
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "toml"))
        .collect();
    files.sort();
    let read = |path: PathBuf| {
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        let text = std::fs::read_to_string(&path).unwrap();
        (name, Scenario::parse(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display())))
    };
    files.into_iter().map(read).collect()
}

fn scenario(name: &str) -> Scenario {
    shipped().into_iter().find(|(other, _)| other == name).unwrap().1
}

fn run_of(name: &str, seed: u64) -> Report {
    run(&scenario(name), seed, RunOptions::default())
}

#[test]
fn every_scenario_that_is_shipped_reaches_its_goals() {
    let all = shipped();
    assert!(all.len() > 12, "they are not where they should be");
    for (name, scenario) in all {
        let report = run(&scenario, 1, RunOptions::default());
        assert!(report.is_good(), "{name}: {:?} {:?}", report.wrong, report.missed);
    }
}

/// Milliseconds from TCP's handshake to the end of an answer of 10 KB.
fn answer_after(early_data: EarlyData, crypto: Crypto, transport: Transport) -> u64 {
    let text = "title = 't'\npath = [{ name = 'a', delay = '50ms' }]\ntransfer = [{ send = '300B', receive = '10kB' }]";
    let scenario = Scenario { early_data, crypto, transport, ..Scenario::parse(text).unwrap() };
    let report = run(&scenario, 1, RunOptions::default());
    assert!(report.is_good(), "{:?} {:?}", report.wrong, report.missed);
    let ended = report.sessions[0].transfers[0].ended.unwrap();
    (ended * 1000.0).round() as u64 - 100
}

#[test]
fn answer_takes_one_round_trip_with_early_data_and_two_without() {
    for (crypto, transport) in
        [(Crypto::Null, Transport::Pipes), (Crypto::Tls, Transport::Pipes), (Crypto::Tls, Transport::Packets)]
    {
        let after = |early_data| answer_after(early_data, crypto, transport);
        let times = (after(EarlyData::Accepted), after(EarlyData::Rejected), after(EarlyData::None));
        assert_eq!(times, (100, 200, 200), "{crypto:?} {transport:?}");
    }
}

#[test]
fn the_same_seed_gives_the_same_trace_and_another_seed_another() {
    let hash = |seed| run_of("reset-alone", seed).trace;
    assert_eq!(hash(1), hash(1));
    assert_ne!(hash(1), hash(2));
    let elsewhere = std::thread::spawn(move || run_of("reset-alone", 1).trace).join().unwrap();
    assert_eq!(elsewhere, hash(1));
}

#[test]
fn a_trace_is_json_lines_in_the_order_of_time_and_watching_changes_nothing() {
    let lines = Lines::default();
    let options = RunOptions { trace: Some(Box::new(lines.clone())), ..RunOptions::default() };
    let watched = run(&scenario("reset-standby"), 3, options);
    assert_eq!(watched.trace, run_of("reset-standby", 3).trace);
    let text = lines.text();
    let times: Vec<u64> = text
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["t"].as_u64().unwrap())
        .collect();
    assert!(times.len() > 1000 && times.is_sorted());
    let blind = run(&scenario("reset-standby"), 3, RunOptions { hash: false, ..RunOptions::default() });
    assert_eq!((blind.ended, blind.trace.as_str()), (watched.ended, ""));
}

#[test]
fn a_join_with_data_in_its_first_flight_saves_a_round_trip() {
    let gap = |name| Duration::from_secs_f64(run_of(name, 1).sessions[0].transfers[0].gap.0);
    let saved = gap("reset-alone-1rtt").saturating_sub(gap("reset-alone"));
    assert!((Duration::from_millis(19)..Duration::from_millis(22)).contains(&saved), "{saved:?}");
}

#[test]
fn clients_of_one_server_have_sessions_of_their_own_and_share_the_paths() {
    let mut scenario = scenario("three-clients");
    let report = run(&scenario, 2, RunOptions::default());
    assert!(report.is_good(), "{:?} {:?}", report.wrong, report.missed);
    assert_eq!(report.sessions.len(), 3);
    for session in &report.sessions {
        assert_eq!(
            session.transfers.iter().map(|transfer| transfer.read).collect::<Vec<_>>(),
            [[64, 8_000_000], [1_000_000; 2]]
        );
        let numbers = |end: usize| session.tcp[end].iter().map(|tcp| tcp.tcp).collect::<Vec<_>>();
        assert!(
            numbers(1).len() > 3 && numbers(1).iter().all(|tcp| numbers(0).contains(tcp)),
            "joins come to their session"
        );
    }
    let sum: u64 = report.meter.rows.iter().map(|row| row[0]).sum();
    assert_eq!(sum, 3 * 10_000_064);
    scenario.clients = 1;
    let alone = run(&scenario, 2, RunOptions::default());
    assert!(alone.ended < report.ended / 1.5, "{} alone, {} together", alone.ended, report.ended);
}

#[test]
fn paths_of_a_group_together_carry_what_one_of_them_would() {
    let report = run_of("group", 1);
    assert_eq!(report.meter.columns, ["delivered", "a", "b", "c"]);
    let rows = Duration::from_secs(1).as_nanos() / BIN.as_nanos();
    // Mbit/s on each path in some seconds.
    let rates = |from: usize, to: usize| {
        let rows = &report.meter.rows[from * rows as usize..to * rows as usize];
        [1, 2, 3].map(|path| rows.iter().map(|row| row[path]).sum::<u64>() * 8 / 1_000_000 / (to - from) as u64)
    };
    assert_eq!(rates(1, 3), [5, 0, 5], "of two in a group one carries data");
    assert_eq!(rates(4, 6), [0, 5, 5], "while it is dark, the other does");
    assert_eq!(rates(7, 16), [0, 5, 5], "it answers again");
    assert_eq!(rates(18, 20), [5, 0, 5], "and has done so for 10 s");
}

#[test]
fn a_goal_that_is_out_of_reach_is_missed() {
    let mut scenario = scenario("reset-alone");
    scenario.goals.max_gap = Some(Span(Duration::from_millis(20)));
    scenario.goals.within = Some(Span(Duration::from_secs(1)));
    scenario.goals.max_lost = Some(0);
    scenario.goals.no_session = true;
    let missed = run(&scenario, 1, RunOptions::default()).missed;
    assert_eq!(missed.len(), 4, "{missed:?}");
}

#[test]
fn session_outlives_a_balancer_whose_backend_is_away_for_up_to_55_s() {
    for (seconds, spare_tokens) in [(3, 4), (8, 4), (25, 1), (25, 2), (55, 4)] {
        let mut scenario = scenario("backend-away");
        scenario.server.spare_tokens = Some(spare_tokens);
        scenario.fault.iter_mut().for_each(|fault| fault.until = Some(Span(Duration::from_secs(2 + seconds))));
        scenario.goals.max_gap = Some(Span(Duration::from_secs(seconds + 3)));
        scenario.goals.within = Some(Span(Duration::from_secs(seconds + 10)));
        let report = run(&scenario, seconds, RunOptions::default());
        assert!(report.is_good(), "{seconds} s, {spare_tokens} tokens: {:?} {:?}", report.wrong, report.missed);
    }
}

#[test]
fn client_of_a_restarted_server_ends_within_seconds_with_the_reason() {
    let report = run_of("restart", 1);
    let reason = report.sessions[0].closed[0].as_deref().unwrap();
    assert!(reason.contains("the server refused the last token"), "{reason}");
    assert!(report.sessions[0].starved && report.ended < 8.0, "{}", report.ended);
}

#[test]
fn client_of_a_restarted_server_ends_within_round_trips_if_joins_are_resumptions() {
    for crypto in [Crypto::Tls, Crypto::Null] {
        let scenario = Scenario { crypto, ..scenario("restart-resumed") };
        let report = run(&scenario, 1, RunOptions::default());
        assert!(report.is_good(), "{crypto:?}: {:?} {:?}", report.wrong, report.missed);
        let reason = report.sessions[0].closed[0].as_deref().unwrap();
        assert!(reason.contains("the server no longer has this session"), "{crypto:?}: {reason}");
        assert!(!report.sessions[0].starved, "{crypto:?}: tokens are left");
    }
}

#[test]
fn bytes_over_time_add_up() {
    let report = run_of("aggregation", 1);
    let sum: u64 = report.meter.rows.iter().map(|row| row[0]).sum();
    assert_eq!(sum, 60_000_064);
    assert!(report.meter.csv().starts_with("seconds,delivered,a,b\n0.00,"));
}

/// Found by chance: the client was dialing a TCP connection that its application joins when the server evicted it.
#[test]
fn client_that_begins_again_after_early_data_dials_its_joins_again() {
    let path = |name, rate| format!("[[path]]\nname = '{name}'\nrate = '{rate}kbit/s'\ndelay = '1400ms'\n");
    let head = "title = 't'\nearly-data = 'rejected'\nkeep = 'session'\nclients = 2\nbounds = { pending = 1 }\n";
    let scenario = Scenario::parse(&[head.to_owned(), path("a", 18), path("b", 16)].concat()).unwrap();
    for seed in 0..10 {
        let report = run(&scenario, seed, RunOptions::default());
        assert!(report.wrong.is_empty(), "{seed}: {:?}", report.wrong);
    }
}

#[test]
fn chance_finds_nothing_wrong() {
    let tally = swarm(0..750, &[Mode::Safety, Mode::Liveness], 2);
    assert_eq!(tally.runs, 1500);
    nothing_failed(&tally);
    assert!(tally.starved < 50, "{} sessions ran out of tokens", tally.starved);
}

#[test]
fn scenarios_from_chance_can_be_written_and_read() {
    for (seed, mode) in (0..100).flat_map(|seed| [(seed, Mode::Safety), (seed, Mode::Liveness)]) {
        let scenario = generate(seed, mode);
        assert_eq!(Scenario::parse(&scenario.print()).as_ref(), Ok(&scenario));
    }
}

#[test]
fn a_scenario_that_fails_is_made_as_small_as_it_gets() {
    // No session survives a session timeout of 0.
    let impatient = (0..).map(|seed| {
        let mut scenario = generate(seed, Mode::Liveness);
        scenario.client.session_timeout = Some(Span(Duration::ZERO));
        scenario
    });
    let mut candidates = impatient.filter(|scenario| {
        scenario.fault.len() > 4
            && scenario.fault.iter().any(|fault| fault.kind == FaultKind::Down)
            && scenario.path.len() == 1
    });
    let failing = candidates.find(|scenario| !run(scenario, 1, RunOptions::default()).is_good()).unwrap();
    let small = minimise(&failing, 1);
    assert_eq!((small.fault.len(), small.path.len(), small.action.len()), (1, 1, 0), "{}", small.print());
    assert!(small.transfer.len() <= 1);
}

#[test]
fn scenario_files_that_make_no_sense_are_refused_with_the_reason() {
    let head = "title = \"t\"\n[[path]]\nname = \"a\"\n";
    for (text, reason) in [
        ("title = \"t\"\npath = []\n", "needs a path"),
        (&format!("clients = 0\n{head}"), "between 1 and 100000"),
        (&format!("clients = 100001\n{head}"), "between 1 and 100000"),
        (&format!("transport = \"packets\"\nclients = 101\n{head}"), "between 1 and 100"),
        (&format!("{head}speed = 3\n"), "unknown field"),
        (&format!("{head}[[path]]\nname = \"a\"\n"), "two paths"),
        (&format!("{head}[[fault]]\nat = \"1s\"\nkind = \"reset\"\npath = \"b\"\n"), "no path is called"),
        (&format!("{head}[[fault]]\nat = \"1s\"\nkind = \"reset\"\n"), "needs \"path\""),
        (&format!("{head}[[fault]]\nat = \"2s\"\nuntil = \"1s\"\nkind = \"down\"\npath = \"a\"\n"), "before it begins"),
        (&format!("{head}[[action]]\nat = \"1s\"\nby = \"server\"\nkind = \"join\"\npath = \"a\"\n"), "only clients"),
        (&format!("{head}box = [{{ kind = \"wall\" }}]\n"), "unknown variant"),
        (&format!("{head}box = [{{ kind = \"proxy\", hold = \"1s\" }}]\n"), "missing field `most`"),
        (&format!("crypto = \"null\"\n{head}box = [{{ kind = \"tls-aware\" }}]\n"), "needs crypto"),
        (
            &format!("transport = \"packets\"\n{head}box = [{{ kind = \"proxy\", hold = \"1s\", most = \"1B\" }}]\n"),
            "on pipes only",
        ),
        (&format!("{head}[bounds]\nmemory = \"1KiB\"\n"), "limit of memory must be at least"),
        (&format!("{head}[bounds]\nsessions = 0\n"), "limit of sessions must be at least 1"),
        (&format!("{head}[[flood]]\nat = \"1s\"\nevery = \"0s\"\ncount = 3\n"), "longer than nothing"),
        (&format!("{head}[[flood]]\nat = \"1s\"\nevery = \"1ms\"\ncount = 501\n"), "more than 500"),
        (&format!("{head}[[flood]]\nat = \"1s\"\nevery = \"1ms\"\ncount = 3\npath = \"b\"\n"), "no path is called"),
        (&format!("{head}[[action]]\nat = \"1s\"\nkind = \"attach\"\npath = \"a\"\ntransfer = 0\n"), "not there"),
    ] {
        let error = Scenario::parse(text).unwrap_err();
        assert!(error.contains(reason), "{error}");
    }
}

#[test]
fn real_tcp_delivers_what_pipes_deliver() {
    for name in ["black-hole", "reset-alone", "migration"] {
        let pipes = run_of(name, 1);
        let mut scenario = scenario(name);
        scenario.transport = Transport::Packets;
        let packets = run(&scenario, 1, RunOptions::default());
        let delivered =
            |report: &Report| report.sessions[0].transfers.iter().map(|t| (t.read, t.ends.clone())).collect::<Vec<_>>();
        assert_eq!(delivered(&packets), delivered(&pipes), "{name}");
        assert_eq!(packets.wrong, [""; 0]);
        assert_eq!(packets.sessions[0].closed, pipes.sessions[0].closed);
    }
}

#[tokio::test]
async fn real_sockets_deliver_what_is_simulated() {
    let text = r#"
        title = "both ways, with a reset"
        [[path]]
        name = "a"
        rate = "40Mbit/s"
        delay = "2ms"
        [[path]]
        name = "b"
        rate = "40Mbit/s"
        delay = "2ms"
        role = "standby"
        [[transfer]]
        receive = "2MB"
        [[transfer]]
        by = "server"
        send = "300kB"
        receive = "200kB"
        [[fault]]
        at = "200ms"
        kind = "reset"
        path = "a"
    "#;
    agree(text).await;
}

/// Over real sockets the same is delivered as in a simulation.
async fn agree(text: &str) {
    let scenario = Scenario::parse(text).unwrap();
    let simulated = run(&scenario, 1, RunOptions::default());
    assert!(simulated.is_good(), "{:?} {:?}", simulated.wrong, simulated.missed);
    let real = run_real(&scenario, RealOptions::default()).await.unwrap();
    assert_eq!(real.len(), 2);
    for (real, simulated) in real.iter().zip(&simulated.sessions[0].transfers) {
        assert_eq!((&real.read, &real.ends), (&simulated.read, &simulated.ends));
    }
}

#[tokio::test]
async fn real_sockets_deliver_the_simulated_data_under_tcp_faults() {
    let mut text = r#"
        title = "everything that a relay can do"
        [[path]]
        name = "a"
        rate = "40Mbit/s"
        up-rate = "20Mbit/s"
        delay = "2ms"
        [[path]]
        name = "b"
        rate = "40Mbit/s"
        delay = "2ms"
        [[transfer]]
        receive = "8MB"
        send = "1MB"
        [[transfer]]
        by = "server"
        send = "300kB"
        receive = "200kB"
    "#
    .to_owned();
    let faults = [
        ("a", "reset-client", ""),
        ("b", "shred", "until = '1s'"),
        ("a", "fin", ""),
        ("b", "corrupt", "direction = 'up'"),
        ("a", "black-hole", "until = '700ms'\ndirection = 'down'"),
        ("b", "reset-server", ""),
        ("b", "rate", "until = '1s'\nrate = '10Mbit/s'"),
        ("a", "forget", ""),
        ("b", "corrupt", "direction = 'down'"),
        ("a", "delay", "until = '1s'\ndelay = '10ms'"),
        ("b", "black-hole", "until = '1100ms'\ndirection = 'up'"),
        ("a", "down", "until = '1200ms'"),
    ];
    for (number, (path, kind, more)) in faults.iter().enumerate() {
        let at = 150 + number * 60;
        text += &format!("[[fault]]\nat = \"{at}ms\"\nkind = \"{kind}\"\npath = \"{path}\"\n{more}\n");
    }
    agree(&text).await;
}

#[test]
fn work_of_a_farm_grows_with_its_clients_and_joins_reach_other_servers_by_chance() {
    let farm = |clients, servers| {
        let mut scenario = scenario("farm-crowd");
        (scenario.clients, scenario.farm.servers, scenario.goals.hand_overs) = (clients, servers, None);
        let report = run(&scenario, 1, RunOptions::default());
        assert!(report.is_good(), "{:?} {:?}", report.wrong, report.missed);
        let joins: usize = report.sessions.iter().map(|session| session.tcp[0].len() - 1).sum();
        assert_eq!(joins, 2 * clients);
        (report.hand_overs as f64 / joins as f64, report.turns / clients as u64)
    };
    let (few, many) = (farm(20, 4), farm(80, 4));
    assert!((0.65..0.85).contains(&many.0), "three of four joins are passed on: {}", many.0);
    assert!(farm(20, 1000).0 > 0.97);
    let (few, many) = (few.1, many.1);
    assert!(many <= few + few / 10, "turns for a client: {few} of 20 clients, {many} of 80");
}

#[test]
fn requests_for_options_beyond_those_at_once_wait_and_are_all_answered() {
    let text =
        "title = 't'\ncrypto = 'null'\nkeep = 'nothing'\nat-least = '20s'\npath = [{ name = 'a', delay = '5ms' }]
        transfer = [{ send = '1kB', receive = '1kB' }]";
    let action =
        |at: &str, kind: &str| format!("[[action]]\nat = '{at}'\nby = 'client'\nkind = '{kind}'\npath = 'a'\n");
    let joins: String = (1..=7).map(|second| action(&format!("{second}s"), "join")).collect();
    let scenario = Scenario::parse(&format!("{text}\n{joins}{}", action("8s", "ask-options"))).unwrap();
    let lines = Lines::default();
    let options = RunOptions { trace: Some(Box::new(lines.clone())), ..RunOptions::default() };
    let report = run(&scenario, 1, options);
    assert!(report.is_good(), "{:?} {:?}", report.wrong, report.missed);
    let received = |frame: &str| {
        let is_one = |line: &&str| line.contains("\"record-received\"");
        lines.text().lines().filter(is_one).map(|line| line.matches(frame).count()).sum::<usize>()
    };
    assert_eq!(report.sessions[0].tcp[0].len(), 8);
    assert_eq!(received("\"tcp-option-request\""), 24);
    assert_eq!(received("\"tcp-option-answer\""), 24);
}
