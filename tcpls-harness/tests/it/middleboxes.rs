//! Middleboxes in the simulator: what they kill, what they do not, and that what they change does not pass unnoticed.

use tcpls_core::error::TcpFault;
use tcpls_harness::sim::scenario::{Crypto, Extension, Middlebox};
use tcpls_harness::sim::{Report, RunOptions, Scenario, run};

fn shipped(name: &str) -> Scenario {
    let file = format!("{}/scenarios/{name}.toml", env!("CARGO_MANIFEST_DIR"));
    Scenario::parse(&std::fs::read_to_string(file).unwrap()).unwrap()
}

fn run_of(scenario: &Scenario, seed: u64) -> Report {
    run(scenario, seed, RunOptions::default())
}

#[test]
fn tls_aware_box_passes_a_session_under_any_faults() {
    for zero_rtt in [true, false] {
        let mut scenario = shipped("tls-aware-box");
        scenario.client.zero_rtt_join = Some(zero_rtt);
        let report = run_of(&scenario, 2);
        assert!(report.is_good() && report.killed.is_empty(), "{:?} {:?}", report.wrong, report.missed);
        let states = |name: &str| report.sessions[0].tcp[0].iter().filter(|tcp| tcp.state.contains(name)).count();
        assert!(
            states("lost: reset") == 2 && states("lost: alert 47") > 0,
            "resets and refusals: {:?}",
            report.sessions[0].tcp[0]
        );
    }
}

#[test]
fn tls_aware_box_resets_non_tls_bytes_and_the_run_fails() {
    let mut scenario = shipped("tls-aware-box");
    scenario.crypto = Crypto::Null;
    let report = run_of(&scenario, 1);
    assert!(!report.sessions[0].began && !report.killed.is_empty());
    assert!(report.killed.iter().all(|why| why.contains("no ClientHello of TLS 1.3")), "{:?}", report.killed);
    assert_eq!(report.wrong.len(), report.killed.len());
}

#[test]
fn corrupted_record_header_costs_only_its_tcp_connection_at_the_box() {
    let mut text = r#"
        title = "small records, and a bit flipped in some"
        [[path]]
        name = "a"
        delay = "5ms"
        box = [{ kind = "tls-aware" }]
        [[transfer]]
        send = "30kB"
        write-rate = "24kbit/s"
    "#
    .to_owned();
    for number in 1..40 {
        text += &format!("[[fault]]\nat = \"{number}00ms\"\nkind = \"corrupt\"\npath = \"a\"\ndirection = \"up\"\n");
    }
    let report = run_of(&Scenario::parse(&text).unwrap(), 1);
    assert!(report.is_good(), "{:?} {:?}", report.wrong, report.missed);
    let headers = report.killed.iter().filter(|why| why.contains("no record begins with")).count();
    assert!(headers > 0 && headers < 39, "{:?}", report.killed);
}

#[test]
fn without_its_protocol_name_a_hello_leads_to_no_session_and_without_the_box_to_one() {
    let mut scenario = shipped("stripped-everywhere");
    assert!(run_of(&scenario, 1).is_good());
    scenario.path[0].middleboxes.clear();
    assert_eq!(run_of(&scenario, 1).missed, ["there is a session"]);
}

#[test]
fn joins_without_their_extension_fail_and_the_session_does_not_notice() {
    for extension in [Extension::Alpn, Extension::Tcpls] {
        let mut scenario = shipped("stripped");
        scenario.path.remove(0);
        scenario.path[1].middleboxes = vec![Middlebox::Strip { extension }];
        let report = run_of(&scenario, 1);
        assert!(report.is_good(), "{extension:?}: {:?} {:?}", report.wrong, report.missed);
        let (first, joins) = report.sessions[0].tcp[0].split_first().unwrap();
        assert!(first.state == "in use" && joins.len() > 2, "{:?}", report.sessions[0].tcp[0]);
        let failed = [TcpFault::Alert(47), TcpFault::BadRecord].map(|fault| format!("lost: {fault}"));
        assert!(joins.iter().all(|tcp| failed.contains(&tcp.state) && tcp.received == 0), "{joins:?}");
        assert_eq!(report.sessions[0].tcp[1].len(), 1, "none was let in");
    }
}
