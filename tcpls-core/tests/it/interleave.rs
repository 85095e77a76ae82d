//! Any calls in any order, with bytes cut anywhere and TCP connections lost at any moment: what arrives is always an exact
//! prefix of what was written, and once the faults are over everything arrives.

use std::time::Duration;

use proptest::prelude::*;
use tcpls_core::connection::State;
use tcpls_core::testing::strategies::{ops, side};
use tcpls_core::testing::{Model, Op};

use crate::support::tls::ClientCertificate;
use crate::support::{Client, Server, Setup, Tls};

fn run(setup: Setup, ops: &[Op]) -> Model {
    let mut model = Model::new(setup);
    model.run(ops);
    model
}

/// More tokens than by default, small sockets, long timeouts.
fn setup() -> Setup {
    let setup = Setup { socket_buffer: 40_000, ..Setup::default() };
    setup.both(|config| {
        (config.spare_tokens, config.max_tcp_connections) = (4, 12);
        config.idle_timeout = None;
    })
}

/// 64 cases; the environment may ask for more.
#[expect(clippy::disallowed_methods, reason = "the core reads no environment; its tests may")]
fn config() -> ProptestConfig {
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(64);
    ProptestConfig { failure_persistence: None, max_shrink_iters: 1_000, ..ProptestConfig::with_cases(cases) }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn once_the_faults_are_over_everything_has_arrived(ops in ops(1..120)) {
        let mut model = run(setup(), &ops);
        model.heal();
        for side in [Client, Server] {
            prop_assert_eq!(model.pair.close_reason(side), None);
            prop_assert_eq!(model.pair.conn(side).state(), State::Established);
        }
        prop_assert_eq!(model.pair.live(Client), model.pair.live(Server));
        model.check_complete();
    }

    #[test]
    fn narrow_windows_change_nothing(ops in ops(1..120)) {
        let setup = setup().both(|config| {
            (config.initial_session_window, config.max_session_window) = (60_000, 120_000);
            (config.initial_stream_window, config.max_stream_window) = (20_000, 50_000);
            (config.send_buffer, config.stream_send_buffer) = (100_000, 60_000);
            config.max_streams = 3;
        });
        let mut model = run(setup, &ops);
        model.heal();
        prop_assert_eq!(model.pair.close_reason(Client), None);
        prop_assert_eq!(model.pair.close_reason(Server), None);
        model.check_complete();
    }

    #[test]
    fn tiny_windows_and_client_certificates_change_nothing(
        ops in ops(1..120),
        window in 1024u64..5000,
        confidentiality in 3_000u64..6_000,
    ) {
        let tls = Tls { client_auth: true, client_certificate: Some(ClientCertificate::Trusted), ..Tls::default() };
        let setup = Setup { tls: Some(tls), ..setup() }.both(|config| {
            (config.initial_session_window, config.max_session_window) = (window * 2, window * 4);
            (config.initial_stream_window, config.max_stream_window) = (window, window * 2);
            (config.send_buffer, config.stream_send_buffer) = (40_000, 20_000);
            (config.overhead_budget, config.ack_every_records) = (1 << 30, 2);
            config.confidentiality_limit = Some(confidentiality);
        });
        let mut model = run(setup, &ops);
        model.heal();
        prop_assert_eq!(model.pair.close_reason(Client), None);
        prop_assert_eq!(model.pair.close_reason(Server), None);
        model.check_complete();
    }

    #[test]
    fn session_drained_at_any_moment_serves_each_stream_whole_or_not_at_all(
        before in ops(0..80),
        drains in side(),
        between in ops(0..30),
        both in any::<bool>(),
        after in ops(0..20),
    ) {
        let second = both.then_some(Op::Drain(drains.peer()));
        let ops: Vec<Op> =
            before.into_iter().chain([Op::Drain(drains)]).chain(between).chain(second).chain(after).collect();
        let mut model = run(setup(), &ops);
        model.heal();
        model.check_complete();
        for side in [Client, Server] {
            prop_assert!(model.pair.conn(side).is_draining());
            prop_assert_eq!(model.pair.conn(side).open_stream().is_err(), true);
        }
        model.pair.drive_for(Duration::from_secs(2 * 3600));
        for side in [Client, Server] {
            prop_assert_eq!(model.pair.conn(side).state(), State::Closed);
        }
    }

    #[test]
    fn a_session_that_is_closed_at_any_moment_ends_on_both_sides(
        before in ops(0..80),
        closer in side(),
        error in 0u8..2,
        after in ops(0..20),
    ) {
        let ops: Vec<Op> = before.into_iter().chain([Op::Close { side: closer, error }]).chain(after).collect();
        let mut model = run(setup(), &ops);
        model.pair.heal();
        model.pair.drive_for(Duration::from_secs(80));
        model.check_prefixes();
        for side in [Client, Server] {
            prop_assert_eq!(model.pair.conn(side).state(), State::Closed);
        }
    }
}
