//! Any calls in any order, with bytes cut anywhere and TCP connections lost at any moment: what arrives is always an exact
//! prefix of what was written, and once the faults are over everything arrives.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use proptest::prelude::*;
use tcpls_core::connection::schedule::{ActiveStandby, Aggregate, LowestRtt, Redundant, RoundRobin, Scheduler};
use tcpls_core::connection::{State, TcpInfo};
use tcpls_core::time::Time;
use tcpls_core::wire::ids::{AddressId, ConnectionId, ErrorCode, StreamId};

use crate::support::tls::ClientCertificate;
use crate::support::{Client, Pair, Server, Setup, Side, Tls, bytes};

/// One thing that happens. Numbers pick from what is there at the time.
#[derive(Clone, Debug)]
enum Op {
    Deliver {
        pipe: u8,
        to: Side,
        bytes: u16,
    },
    Step(Side),
    Cut(u8),
    Stall(u8),
    /// Nothing arrives at one end; the other direction goes on.
    HalfStall {
        pipe: u8,
        to: Side,
    },
    Unstall(u8),
    /// A bit of what is under way flips.
    Corrupt {
        pipe: u8,
        to: Side,
    },
    /// What the stack underneath reports: the age of the last segment received, and how many sent ones are not acknowledged.
    TcpInfo {
        side: Side,
        pipe: u8,
        age: u16,
        unacked: u8,
    },
    Join {
        slowly: bool,
    },
    Open(Side),
    Write {
        side: Side,
        stream: u8,
        len: u16,
    },
    /// The application reads what it can from now on, or only what the script asks for.
    Reads {
        side: Side,
        reads: bool,
    },
    Read {
        side: Side,
        stream: u8,
        len: u16,
    },
    Finish {
        side: Side,
        stream: u8,
    },
    Reset {
        side: Side,
        stream: u8,
    },
    Retire {
        side: Side,
        pipe: u8,
    },
    Backup {
        side: Side,
        pipe: u8,
        backup: bool,
    },
    Attach {
        side: Side,
        stream: u8,
        pipe: u8,
    },
    Detach {
        side: Side,
        stream: u8,
        pipe: u8,
    },
    UpdateKeys(Side),
    Ping {
        side: Side,
        pipe: u8,
    },
    Advertise {
        side: Side,
        host: u8,
    },
    Withdraw(Side),
    Addressed {
        side: Side,
        pipe: u8,
        host: u8,
    },
    Priority {
        side: Side,
        stream: u8,
        priority: i8,
    },
    Stop {
        side: Side,
        stream: u8,
    },
    Schedule {
        side: Side,
        policy: u8,
    },
    Option(Side),
    Squeeze {
        bytes: u16,
    },
    Wait {
        millis: u16,
    },
    Close {
        side: Side,
        error: u8,
    },
}

fn side() -> impl Strategy<Value = Side> {
    prop_oneof![Just(Client), Just(Server)]
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        12 => (any::<u8>(), side(), any::<u16>()).prop_map(|(pipe, to, bytes)| Op::Deliver { pipe, to, bytes }),
        12 => side().prop_map(Op::Step),
        2 => any::<u8>().prop_map(Op::Cut),
        2 => any::<u8>().prop_map(Op::Stall),
        1 => (any::<u8>(), side()).prop_map(|(pipe, to)| Op::HalfStall { pipe, to }),
        2 => any::<u8>().prop_map(Op::Unstall),
        1 => (any::<u8>(), side()).prop_map(|(pipe, to)| Op::Corrupt { pipe, to }),
        1 => (side(), any::<u8>(), 0u16..500, 0u8..6)
            .prop_map(|(side, pipe, age, unacked)| Op::TcpInfo { side, pipe, age, unacked }),
        4 => any::<bool>().prop_map(|slowly| Op::Join { slowly }),
        3 => side().prop_map(Op::Open),
        10 => (side(), any::<u8>(), any::<u16>()).prop_map(|(side, stream, len)| Op::Write { side, stream, len }),
        1 => (side(), any::<bool>()).prop_map(|(side, reads)| Op::Reads { side, reads }),
        3 => (side(), any::<u8>(), any::<u16>()).prop_map(|(side, stream, len)| Op::Read { side, stream, len }),
        2 => (side(), any::<u8>()).prop_map(|(side, stream)| Op::Finish { side, stream }),
        1 => (side(), any::<u8>()).prop_map(|(side, stream)| Op::Reset { side, stream }),
        1 => (side(), any::<u8>()).prop_map(|(side, pipe)| Op::Retire { side, pipe }),
        1 => (side(), any::<u8>(), any::<bool>()).prop_map(|(side, pipe, backup)| Op::Backup { side, pipe, backup }),
        1 => (side(), any::<u8>(), any::<u8>()).prop_map(|(side, stream, pipe)| Op::Attach { side, stream, pipe }),
        1 => (side(), any::<u8>(), any::<u8>()).prop_map(|(side, stream, pipe)| Op::Detach { side, stream, pipe }),
        2 => side().prop_map(Op::UpdateKeys),
        1 => (side(), any::<u8>()).prop_map(|(side, pipe)| Op::Ping { side, pipe }),
        1 => (side(), 0u8..3).prop_map(|(side, host)| Op::Advertise { side, host }),
        1 => side().prop_map(Op::Withdraw),
        1 => (side(), any::<u8>(), 0u8..3).prop_map(|(side, pipe, host)| Op::Addressed { side, pipe, host }),
        1 => (side(), any::<u8>(), any::<i8>())
            .prop_map(|(side, stream, priority)| Op::Priority { side, stream, priority }),
        1 => (side(), any::<u8>()).prop_map(|(side, stream)| Op::Stop { side, stream }),
        2 => (side(), 0u8..5).prop_map(|(side, policy)| Op::Schedule { side, policy }),
        1 => side().prop_map(Op::Option),
        1 => any::<u16>().prop_map(|bytes| Op::Squeeze { bytes }),
        3 => (0u16..2000).prop_map(|millis| Op::Wait { millis }),
    ]
}

/// Streams end in three ways.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    Open,
    Finished,
    Reset,
}

/// What was written by one side on one stream.
struct Written {
    bytes: Vec<u8>,
    fate: Fate,
}

/// A pair and what should come of it.
struct Model {
    pair: Pair,
    written: BTreeMap<(Side, StreamId), Written>,
    advertised: Vec<(Side, AddressId)>,
    /// Who has sent duplicates on purpose.
    redundant: Vec<Side>,
    data: Vec<u8>,
}

fn address(host: u8) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, host], 443))
}

fn scheduler(policy: u8) -> Box<dyn Scheduler> {
    match policy {
        0 => Box::new(Aggregate),
        1 => Box::new(LowestRtt),
        2 => Box::new(RoundRobin),
        3 => Box::new(Redundant),
        _ => Box::new(ActiveStandby),
    }
}

impl Model {
    fn new(setup: Setup) -> Self {
        Self {
            pair: setup.established(),
            written: BTreeMap::new(),
            advertised: Vec::new(),
            redundant: Vec::new(),
            data: bytes(1 << 16),
        }
    }

    /// One of the TCP connections that `side` has.
    fn tcp(&mut self, side: Side, number: u8) -> Option<ConnectionId> {
        let live = self.pair.live(side);
        live.get(usize::from(number) % live.len().max(1)).copied()
    }

    /// One that has a socket, so that something can happen to it.
    fn socket(&mut self, number: u8) -> Option<ConnectionId> {
        let tcp = self.tcp(if number.is_multiple_of(2) { Client } else { Server }, number / 2)?;
        self.pair.has_socket(tcp).then_some(tcp)
    }

    /// One of the streams that `side` writes to.
    fn stream(&self, side: Side, number: u8) -> Option<StreamId> {
        let open = |((writer, id), written): (&(Side, StreamId), &Written)| {
            (*writer == side && written.fate == Fate::Open).then_some(*id)
        };
        let open: Vec<StreamId> = self.written.iter().filter_map(open).collect();
        open.get(usize::from(number) % open.len().max(1)).copied()
    }

    fn apply(&mut self, op: &Op) {
        let now = self.pair.now;
        match *op {
            Op::Deliver { pipe, to, bytes } => {
                if let Some(tcp) = self.socket(pipe) {
                    self.pair.deliver(tcp, to, usize::from(bytes));
                }
            }
            Op::Step(side) => _ = self.pair.step(side),
            Op::Cut(pipe) => self.socket(pipe).into_iter().for_each(|tcp| self.pair.cut(tcp)),
            Op::Stall(pipe) => self.socket(pipe).into_iter().for_each(|tcp| self.pair.stall(tcp)),
            Op::HalfStall { pipe, to } => {
                self.socket(pipe).into_iter().for_each(|tcp| self.pair.stall_towards(tcp, to));
            }
            Op::Corrupt { pipe, to } => {
                if let Some(tcp) = self.socket(pipe).filter(|tcp| self.pair.is_under_way(*tcp, to)) {
                    self.pair.corrupt(tcp, to);
                }
            }
            Op::TcpInfo { side, pipe, age, unacked } => self.tell_tcp_info(side, pipe, age, unacked),
            Op::Unstall(pipe) => self.socket(pipe).into_iter().for_each(|tcp| self.pair.unstall(tcp)),
            Op::Join { slowly } => self.join(slowly, 1),
            Op::Open(side) => self.open(side),
            Op::Write { side, stream, len } => self.write(side, stream, usize::from(len)),
            Op::Reads { side, reads } => self.pair.end(side).reads = reads,
            Op::Read { side, stream, len } => self.read(side, stream, usize::from(len)),
            Op::Finish { side, stream } => self.finish(side, stream),
            Op::Reset { side, stream } => self.reset(side, stream),
            Op::Retire { side, pipe } => {
                if let Some(tcp) = self.tcp(side, pipe) {
                    _ = self.pair.conn(side).retire_tcp(now, tcp);
                }
            }
            Op::Backup { side, pipe, backup } => {
                if let Some(tcp) = self.tcp(side, pipe) {
                    _ = self.pair.conn(side).set_backup(tcp, backup);
                }
            }
            Op::Attach { side, stream, pipe } => {
                if let (Some(id), Some(tcp)) = (self.stream(side, stream), self.tcp(side, pipe)) {
                    _ = self.pair.conn(side).stream(id).attach(tcp);
                }
            }
            Op::Detach { side, stream, pipe } => {
                if let (Some(id), Some(tcp)) = (self.stream(side, stream), self.tcp(side, pipe)) {
                    _ = self.pair.conn(side).stream(id).detach(tcp);
                }
            }
            Op::UpdateKeys(side) => self.pair.update_keys(side),
            Op::Ping { side, pipe } => {
                if let Some(tcp) = self.tcp(side, pipe) {
                    _ = self.pair.conn(side).ping(tcp);
                }
            }
            Op::Advertise { side, host } => {
                if let Ok(id) = self.pair.conn(side).advertise(address(host)) {
                    self.advertised.push((side, id));
                }
            }
            Op::Withdraw(side) => {
                if let Some(at) = self.advertised.iter().position(|(owner, _)| *owner == side) {
                    let (_, id) = self.advertised.swap_remove(at);
                    _ = self.pair.conn(side).withdraw(id);
                }
            }
            Op::Addressed { side, pipe, host } => {
                if let Some(tcp) = self.tcp(side, pipe) {
                    let (local, remote) =
                        if side == Server { (Some(address(host)), None) } else { (None, Some(address(host))) };
                    self.pair.conn(side).set_tcp_addresses(tcp, local, remote);
                }
            }
            Op::Priority { side, stream, priority } => {
                if let Some(id) = self.stream(side, stream) {
                    _ = self.pair.conn(side).stream(id).set_priority(priority);
                }
            }
            Op::Stop { side, stream } => self.stop(side, stream),
            Op::Schedule { side, policy } => {
                self.redundant.extend((policy == 3).then_some(side));
                self.pair.conn(side).set_scheduler(scheduler(policy));
            }
            Op::Option(side) => _ = self.pair.conn(side).send_tcp_option(28, &[1, 2]),
            Op::Squeeze { bytes } => self.pair.socket_buffer = 256 + usize::from(bytes),
            Op::Wait { millis } => self.pair.advance(Duration::from_millis(millis.into())),
            Op::Close { side, error } => self.pair.close(side, error.into(), b"as it happens"),
        }
        self.pair.settle();
    }

    /// Joins, but leaves `reserve` tokens: a client that spends its last one on a path that fails could never come back.
    fn join(&mut self, slowly: bool, reserve: usize) {
        if self.pair.client().tokens() <= reserve || self.is_ending() {
            return;
        }
        if slowly {
            self.pair.open_tcp_slowly()
        } else {
            self.pair.open_tcp()
        };
    }

    fn is_ending(&mut self) -> bool {
        matches!(self.pair.client().state(), State::Closing | State::Closed)
    }

    fn open(&mut self, side: Side) {
        if let Ok(id) = self.pair.conn(side).open_stream() {
            self.written.insert((side, id), Written { bytes: Vec::new(), fate: Fate::Open });
        }
    }

    fn write(&mut self, side: Side, stream: u8, len: usize) {
        let Some(id) = self.stream(side, stream) else { return };
        let from = usize::from(stream) * 7 % 1000;
        let data = &self.data[from..(from + len).min(self.data.len())];
        if data.is_empty() {
            return;
        }
        if let Ok(n) = self.pair.conn(side).stream(id).write(data) {
            let written = self.written.get_mut(&(side, id)).unwrap();
            written.bytes.extend_from_slice(&data[..n]);
        }
    }

    /// Reads at most `len` bytes of a stream of the peer's.
    fn read(&mut self, side: Side, stream: u8, len: usize) {
        if let Some(id) = self.stream(side.peer(), stream) {
            self.pair.end(side).read_at_most(id, len);
        }
    }

    fn tell_tcp_info(&mut self, side: Side, pipe: u8, age: u16, unacked: u8) {
        let Some(tcp) = self.tcp(side, pipe) else { return };
        let heard = Time::from_nanos(self.pair.now.as_nanos().saturating_sub(u64::from(age) * 1_000_000));
        let rtt = Duration::from_millis(2);
        let info = TcpInfo { heard, unacked: unacked.into(), rtt, min_rtt: rtt, acked: age.into() };
        self.pair.conn(side).handle_tcp_info(tcp, info);
    }

    fn finish(&mut self, side: Side, stream: u8) {
        let Some(id) = self.stream(side, stream) else { return };
        if self.pair.conn(side).stream(id).finish().is_ok() {
            self.written.get_mut(&(side, id)).unwrap().fate = Fate::Finished;
        }
    }

    fn reset(&mut self, side: Side, stream: u8) {
        let Some(id) = self.stream(side, stream) else { return };
        if self.pair.conn(side).stream(id).reset(ErrorCode(1)).is_ok() {
            self.written.get_mut(&(side, id)).unwrap().fate = Fate::Reset;
        }
    }

    /// The reader of a stream of the peer's wants no more of it; the writer gives it up.
    fn stop(&mut self, side: Side, stream: u8) {
        let Some(id) = self.stream(side.peer(), stream) else { return };
        if self.pair.conn(side).stream(id).stop(ErrorCode(2)).is_ok() {
            self.written.get_mut(&(side.peer(), id)).unwrap().fate = Fate::Reset;
        }
    }

    /// The faults are over: both ends get at least one TCP connection that works, and time.
    fn heal(&mut self) {
        self.pair.heal();
        [Client, Server].into_iter().for_each(|side| self.pair.end(side).reads = true);
        self.pair.drive();
        for _ in 0..3 {
            if self.pair.live(Client).is_empty() {
                self.join(false, 0);
            }
            self.pair.drive_for(Duration::from_secs(12));
        }
    }

    fn check_prefixes(&mut self) {
        for ((writer, id), written) in &self.written {
            let inbox = self.pair.end(writer.peer()).inbox(*id);
            assert!(written.bytes.starts_with(&inbox.bytes), "{id} of {writer:?} is not what was written");
            if inbox.end == Some(Ok(())) {
                assert!(
                    written.fate == Fate::Finished && inbox.bytes.len() == written.bytes.len(),
                    "{id} ends too early"
                );
            }
        }
    }

    /// Each byte went out again at most once for each TCP connection that was lost with it.
    fn check_thrift(&mut self) {
        for side in [Client, Server] {
            let stats = self.pair.conn(side).stats();
            let sent: u64 = stats.tcp.iter().map(|tcp| tcp.counters.stream_bytes_sent).sum();
            let again: u64 = stats.tcp.iter().map(|tcp| tcp.counters.requeued_bytes).sum();
            let written = self.written.iter().filter(|((writer, _), _)| *writer == side);
            let written: u64 = written.map(|(_, written)| written.bytes.len() as u64).sum();
            let thrifty = sent <= written + again || self.redundant.contains(&side);
            assert!(thrifty, "{side:?} sent {sent} bytes, {again} of them again, of {written} that were written");
        }
    }

    /// Everything has arrived, if the session lives.
    fn check_complete(&mut self) {
        self.check_prefixes();
        self.check_thrift();
        for ((writer, id), written) in &self.written {
            let inbox = self.pair.end(writer.peer()).inbox(*id);
            if written.fate != Fate::Reset {
                assert_eq!(inbox.bytes.len(), written.bytes.len(), "{id} of {writer:?} is not whole");
                assert_eq!(inbox.end, (written.fate == Fate::Finished).then_some(Ok(())), "{id} of {writer:?}");
            }
        }
    }
}

fn run(setup: Setup, ops: &[Op]) -> Model {
    let mut model = Model::new(setup);
    for op in ops {
        model.apply(op);
        model.check_prefixes();
    }
    model
}

/// A few tokens more than there are by default, small sockets, patience.
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
    fn once_the_faults_are_over_everything_has_arrived(ops in prop::collection::vec(op(), 1..120)) {
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
    fn narrow_windows_change_nothing(ops in prop::collection::vec(op(), 1..120)) {
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
        ops in prop::collection::vec(op(), 1..120),
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
    fn a_session_that_is_closed_at_any_moment_ends_on_both_sides(
        before in prop::collection::vec(op(), 0..80),
        closer in side(),
        error in 0u8..2,
        after in prop::collection::vec(op(), 0..20),
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
