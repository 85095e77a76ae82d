//! Random additions to a generated scenario: middleboxes, more clients, other queues, extremes. Each kind is enabled or
//! disabled for a run, with random numbers of its own, so that the rest of a seed's scenario does not change.

use std::time::Duration;

use super::Mode;
use crate::sim::rng::{Purpose, SimRng};
use crate::sim::scenario::{
    Action, ActionKind, Bottleneck, Bounds, Crypto, EarlyData, End, Extension, Farm, Fault, FaultKind, Flood,
    FloodKind, Lanes, Middlebox, Rate, Scenario, Scheduler, Size, Span, Transfer, Transport,
};

/// One in this many runs has middleboxes of a kind.
const RARITY: u64 = 8;

/// Everything that is drawn apart.
pub(super) fn add_extras(scenario: &mut Scenario, seed: u64, mode: Mode) {
    add_middleboxes(scenario, &mut SimRng::new(seed, Purpose::Middleboxes), mode);
    add_routers(scenario, &mut SimRng::new(seed, Purpose::Queues));
    add_streams(scenario, &mut SimRng::new(seed, Purpose::Streams));
    add_extremes(scenario, &mut SimRng::new(seed, Purpose::Extremes), mode);
    add_actions(scenario, &mut SimRng::new(seed, Purpose::Actions), mode);
    add_clients(scenario, &mut SimRng::new(seed, Purpose::Clients));
    add_servers(scenario, &mut SimRng::new(seed, Purpose::Servers), mode);
    add_bounds(scenario, &mut SimRng::new(seed, Purpose::Bounds));
    add_drains(scenario, &mut SimRng::new(seed, Purpose::Drains), mode);
    add_option_requests(scenario, &mut SimRng::new(seed, Purpose::Options));
    add_early_data(scenario, &mut SimRng::new(seed, Purpose::EarlyData));
    slow_down(scenario, &mut SimRng::new(seed, Purpose::Slow), mode);
    add_lanes(scenario, &mut SimRng::new(seed, Purpose::Lanes));
    add_group(scenario, &mut SimRng::new(seed, Purpose::Groups));
    add_farm(scenario, &mut SimRng::new(seed, Purpose::Farms));
    add_settings(scenario, &mut SimRng::new(seed, Purpose::Settings), mode);
    scenario.resumed_joins = SimRng::new(seed, Purpose::ResumedJoins).one_in(2);
}

/// Sometimes an end acknowledges more or fewer records at once, or a server has clients join at advertised addresses alone,
/// of which there may be none.
fn add_settings(scenario: &mut Scenario, rng: &mut SimRng, mode: Mode) {
    for settings in [&mut scenario.client, &mut scenario.server] {
        if rng.one_in(RARITY) {
            let order = rng.between(1, 10);
            settings.ack_every_records = Some(rng.between(1, 1 << order) as u32);
        }
    }
    if rng.one_in(2 * RARITY) && mode == Mode::Safety {
        scenario.server.joins_at_advertised_only = Some(true);
    }
}

/// Sometimes clients have a ticket and send early data, of the transfers that begin at once. The server may reject it, and
/// attackers may send copies of it.
fn add_early_data(scenario: &mut Scenario, rng: &mut SimRng) {
    if !rng.one_in(RARITY) {
        return;
    }
    scenario.early_data = if rng.one_in(3) { EarlyData::Rejected } else { EarlyData::Accepted };
    for transfer in scenario.transfer.iter_mut().filter(|_| !rng.one_in(3)) {
        transfer.at = Span::default();
    }
    if rng.one_in(2) {
        scenario.flood.push(Flood {
            at: Span(Duration::from_millis(rng.below(100))),
            every: Span(Duration::from_millis(rng.between(1, 1_000))),
            count: rng.between(1, 5) as u32,
            kind: FloodKind::Replay,
            path: Some(scenario.path[rng.below(scenario.path.len() as u64) as usize].name.clone()),
        });
    }
}

/// Sometimes there are several servers, if the account of one has no limits.
fn add_farm(scenario: &mut Scenario, rng: &mut SimRng) {
    if rng.one_in(RARITY) && !scenario.bounds.is_set() {
        let order = rng.between(1, 12);
        let connect = Span(Duration::from_micros(rng.below(1 << order)));
        scenario.farm = Farm { servers: rng.between(2, 5) as u16, connect };
    }
}

/// Sometimes some of the paths are a group.
fn add_group(scenario: &mut Scenario, rng: &mut SimRng) {
    if rng.one_in(RARITY) {
        let members = scenario.path.iter_mut().filter(|_| !rng.one_in(3));
        members.for_each(|path| path.group = Some("group".to_owned()));
    }
}

/// Often one of the ends has no lanes, or a client has one on each path whatever it carries.
fn add_lanes(scenario: &mut Scenario, rng: &mut SimRng) {
    match rng.below(6) {
        0 | 1 => scenario.client.lanes = Some(Lanes::Always),
        2 => scenario.client.lanes = Some(Lanes::Off),
        3 => scenario.server.lanes = Some(Lanes::Off),
        _ => {}
    }
}

/// Sometimes a load balancer has no backend for a while, on some of the paths or on all; sometimes the server restarts,
/// and no session survives that.
fn add_servers(scenario: &mut Scenario, rng: &mut SimRng, mode: Mode) {
    let plain = |at, until, kind, path| Fault {
        at: Span(Duration::from_millis(at)),
        until,
        kind,
        path,
        tcp: None,
        direction: None,
        rate: None,
        delay: None,
    };
    if rng.one_in(RARITY) && scenario.transport == Transport::Pipes {
        let (at, order) = (rng.between(2_000, 15_000), rng.between(8, 14));
        let until = Span(Duration::from_millis(at + rng.between(1, 1 << order)));
        let all = rng.one_in(2);
        for path in &scenario.path {
            if all || rng.one_in(2) {
                let away = plain(at, Some(until), FaultKind::BackendAway, Some(path.name.clone()));
                scenario.fault.push(away);
            }
        }
        scenario.at_least = scenario.at_least.max(until);
        scenario.limit.0 += until.0;
    }
    if rng.one_in(2 * RARITY) && mode == Mode::Safety {
        scenario.fault.push(plain(rng.between(0, 15_000), None, FaultKind::Restart, None));
    }
}

/// Sometimes an end drains the session, or both do, once or again with another limit, while streams run or before there are
/// any. Where everything must be delivered, the limit gives them time.
fn add_drains(scenario: &mut Scenario, rng: &mut SimRng, mode: Mode) {
    if !rng.one_in(RARITY) {
        return;
    }
    for _ in 0..rng.between(1, 3) {
        let order = rng.below(15);
        let limit = Span(Duration::from_millis(rng.below(1 << order)));
        scenario.action.push(Action {
            at: Span(Duration::from_millis(rng.below(10_000))),
            by: if rng.one_in(3) { End::Client } else { End::Server },
            kind: ActionKind::Drain,
            path: None,
            transfer: None,
            scheduler: None,
            limit: (mode == Mode::Safety).then_some(limit),
        });
    }
}

/// Sometimes the server's account has small limits, of some kinds, and attackers who use them up. Clients that share their
/// address, or hold much, may give way, too.
fn add_bounds(scenario: &mut Scenario, rng: &mut SimRng) {
    if !rng.one_in(10) {
        return;
    }
    let clients = scenario.clients as u64;
    let mut sometimes = |low, high| rng.one_in(3).then(|| rng.between(low, high));
    scenario.bounds = Bounds {
        memory: sometimes(128 << 10, 4 << 20).map(Size),
        descriptors: sometimes(2, 20),
        pending: sometimes(1, 6),
        handshakes: sometimes(1, 6),
        sessions: sometimes(clients, clients + 6),
        claims: sometimes(1, 4),
        one_address: false,
    };
    scenario.bounds.one_address = rng.one_in(2);
    for _ in 0..rng.below(3) {
        scenario.flood.push(Flood {
            at: Span(Duration::from_millis(rng.below(10_000))),
            every: Span(Duration::from_millis(rng.between(5, 500))),
            count: rng.between(1, 25) as u32,
            kind: if rng.one_in(3) { FloodKind::Silent } else { FloodKind::Session },
            path: Some(scenario.path[rng.below(scenario.path.len() as u64) as usize].name.clone()),
        });
    }
}

/// Puts boxes on some paths of some scenarios.
fn add_middleboxes(scenario: &mut Scenario, rng: &mut SimRng, mode: Mode) {
    if scenario.transport == Transport::Packets {
        return;
    }
    let [reads_tls, proxies, strips] = [(); 3].map(|()| rng.one_in(RARITY));
    // Where TCPLS is stripped there is no session, and joins fail: nothing to wait for.
    let strips = strips && mode == Mode::Safety;
    if reads_tls || strips {
        scenario.crypto = Crypto::Tls;
    }
    for path in &mut scenario.path {
        let mut stands = |kind: bool, make: &mut dyn FnMut(&mut SimRng) -> Middlebox| {
            if kind && rng.one_in(2) {
                path.middleboxes.push(make(rng));
            }
        };
        stands(reads_tls, &mut |_| Middlebox::TlsAware);
        stands(proxies, &mut proxy);
        stands(strips, &mut |rng| Middlebox::Strip {
            extension: if rng.one_in(2) { Extension::Alpn } else { Extension::Tcpls },
        });
        stands(reads_tls, &mut |_| Middlebox::TlsAware);
    }
}

fn proxy(rng: &mut SimRng) -> Middlebox {
    let (order, size) = (rng.below(8), rng.between(0, 16));
    Middlebox::Proxy { hold: Span(Duration::from_millis(rng.below(1 << order))), most: Size(1 << size) }
}

/// Packets that a router's queue takes at least: TCP that loses most of each flight says nothing about what runs on it.
const ROUTER_QUEUE: u64 = 16;
/// The smallest window or buffer that a configuration may have.
const LEAST_BUFFER: u64 = 1024;

/// Sometimes the queues of paths are not the hosts' own.
fn add_routers(scenario: &mut Scenario, rng: &mut SimRng) {
    let packets = scenario.transport == Transport::Packets;
    for path in scenario.path.iter_mut().filter(|_| packets && rng.one_in(2)) {
        path.bottleneck = Bottleneck::Router;
        path.queue = path.queue.map(|queue| queue.max(Size(ROUTER_QUEUE * u64::from(path.mtu))));
    }
}

/// The least rate of a slow link in bytes per second: 4 kbit/s.
const SLOWEST: u64 = 500;
/// Time for a handshake on the slowest path, with what others have queued there.
const SLOW_START: Duration = Duration::from_secs(30);
/// The slowest path carries everything in this time.
const SLOW_TRANSFERS: u64 = 20;

/// Sometimes makes some paths, or all, as slow as a throttled radio link, with long queues. Transfers are then smaller, and
/// everything begins later.
fn slow_down(scenario: &mut Scenario, rng: &mut SimRng, mode: Mode) {
    if !rng.one_in(12) || scenario.transport == Transport::Packets {
        return;
    }
    let all = rng.one_in(2);
    let mut slowest = u64::MAX;
    for path in &mut scenario.path {
        if !all && !rng.one_in(2) {
            continue;
        }
        let order = rng.below(5);
        let rate = rng.between(SLOWEST << order, (2 * SLOWEST) << order);
        path.rate = Some(Rate(rate));
        path.up_rate = rng.one_in(2).then(|| Rate(rng.between(SLOWEST, 16 * SLOWEST)));
        let rate = path.up_rate.map_or(rate, |up| rate.min(up.0));
        slowest = slowest.min(rate);
        path.queue = Some(Size((rate * rng.between(1, 10)).max(3_000)));
        path.delay.0 = path.delay.0.max(Duration::from_millis(rng.below(1_500)));
    }
    if slowest == u64::MAX {
        return;
    }
    if mode == Mode::Liveness {
        // No join succeeds within a timeout shorter than the round trip.
        (scenario.client.join_timeout, scenario.server.join_timeout) = (None, None);
    }
    let most = slowest * SLOW_TRANSFERS / (2 * scenario.transfer.len() as u64).max(1);
    for transfer in &mut scenario.transfer {
        (transfer.send.0, transfer.receive.0) = (transfer.send.0.min(most), transfer.receive.0.min(most));
        transfer.at.0 += SLOW_START;
    }
    for fault in &mut scenario.fault {
        fault.at.0 += SLOW_START;
        fault.until.iter_mut().for_each(|until| until.0 += SLOW_START);
    }
    scenario.action.iter_mut().for_each(|action| action.at.0 += SLOW_START);
    for flood in &mut scenario.flood {
        // Their handshakes take up the slowest path, too.
        (flood.at.0, flood.count) = (flood.at.0 + SLOW_START, flood.count.min(5));
    }
    if scenario.at_least > Span::default() {
        scenario.at_least.0 += SLOW_START;
    }
    scenario.limit.0 += Duration::from_secs(300);
}

/// Sometimes there are more clients, who need more time.
fn add_clients(scenario: &mut Scenario, rng: &mut SimRng) {
    if rng.one_in(10) {
        scenario.clients = rng.between(2, 3) as usize;
        scenario.limit.0 *= scenario.clients as u32;
    }
}

/// Sometimes there are many streams of a few bytes. Where one is allowed at a time, each takes some round trips.
fn add_streams(scenario: &mut Scenario, rng: &mut SimRng) {
    if !rng.one_in(12) {
        return;
    }
    let round_trip = scenario.path.iter().map(|path| (path.delay.0 + path.jitter.0) * 2).max().unwrap_or_default();
    let at = Span(Duration::from_millis(rng.below(6_000)));
    for _ in 0..rng.between(10, 60) {
        scenario.transfer.push(Transfer {
            at: if rng.one_in(2) { at } else { Span(Duration::from_millis(rng.below(6_000))) },
            by: if rng.one_in(2) { End::Client } else { End::Server },
            send: Size(rng.below(2_000)),
            receive: Size(rng.below(2_000)),
            read_rate: None,
            write_rate: None,
            reset_after: rng.one_in(6).then(|| Size(rng.below(1_000))),
            stop_after: rng.one_in(6).then(|| Size(rng.below(1_000))),
            priority: rng.below(3) as i8 - 1,
        });
        scenario.limit.0 += round_trip * 4;
    }
}

/// Sometimes a limit has its smallest value. With such windows, transfers are small, or a run would take too long.
fn add_extremes(scenario: &mut Scenario, rng: &mut SimRng, mode: Mode) {
    for settings in [&mut scenario.client, &mut scenario.server] {
        if !rng.one_in(6) {
            continue;
        }
        match rng.below(6) {
            0 => settings.max_streams = Some(1),
            1 => settings.max_unacknowledged_records = Some(rng.between(1, 8) as u32),
            2 => settings.max_ack_delay = Some(Span(Duration::from_millis(rng.below(400)))),
            3 => (settings.max_tcp_connections, settings.spare_tokens) = (Some(1), Some(1)),
            4 => settings.send_buffer = Some(Size(LEAST_BUFFER + rng.below(300))),
            _ => {
                let window = Some(Size(LEAST_BUFFER + rng.below(300)));
                if rng.one_in(2) { settings.session_window = window } else { settings.stream_window = window }
            }
        }
        let small = [settings.send_buffer, settings.session_window, settings.stream_window];
        if let Some(least) =
            small.into_iter().flatten().map(|size| size.0).min().filter(|least| *least < LEAST_BUFFER + 300)
        {
            for transfer in &mut scenario.transfer {
                transfer.send.0 = transfer.send.0.min(20 * least);
                transfer.receive.0 = transfer.receive.0.min(20 * least);
            }
        }
    }
    // Then nothing happens for a while: what was lost must have come back.
    if mode == Mode::Liveness && rng.one_in(4) {
        let last = scenario.action.iter().map(|action| action.at.0).max().unwrap_or_default();
        scenario.at_least = Span(last + Duration::from_secs(30));
        scenario.limit.0 += Duration::from_secs(30);
    }
}

/// Sometimes ends ask each other for options of TCP connections.
fn add_option_requests(scenario: &mut Scenario, rng: &mut SimRng) {
    if !rng.one_in(4) {
        return;
    }
    let last = scenario.action.iter().map(|action| action.at.0).max().unwrap_or_default().max(Duration::from_secs(5));
    for _ in 0..rng.between(1, 8) {
        let at = Span(Duration::from_millis(rng.between(500, last.as_millis() as u64)));
        let by = if rng.one_in(2) { End::Client } else { End::Server };
        let path = Some(scenario.path[rng.below(scenario.path.len() as u64) as usize].name.clone());
        let kind = ActionKind::AskOptions;
        scenario.action.push(Action { at, by, kind, path, transfer: None, scheduler: None, limit: None });
    }
}

/// Sometimes applications use rare calls: they advertise and withdraw addresses, send TCP options, update keys in
/// redundant mode, close on both sides at once.
fn add_actions(scenario: &mut Scenario, rng: &mut SimRng, mode: Mode) {
    let Some(last) = scenario.action.iter().map(|action| action.at.0).chain([Duration::from_secs(5)]).max() else {
        return;
    };
    let at = |rng: &mut SimRng| Span(Duration::from_millis(rng.between(500, last.as_millis() as u64)));
    let path = |rng: &mut SimRng, scenario: &Scenario| {
        Some(scenario.path[rng.below(scenario.path.len() as u64) as usize].name.clone())
    };
    let by = |rng: &mut SimRng| if rng.one_in(2) { End::Client } else { End::Server };
    let plain = |at, by, kind, path| Action { at, by, kind, path, transfer: None, scheduler: None, limit: None };
    if rng.one_in(10) {
        // After a server has withdrawn its last address and then fails, no client can join.
        let withdraw = if mode == Mode::Safety { ActionKind::Withdraw } else { ActionKind::Advertise };
        for kind in [ActionKind::Advertise, withdraw].repeat(rng.between(1, 4) as usize) {
            let (at, by, path) = (at(rng), by(rng), path(rng, scenario));
            scenario.action.push(plain(at, by, kind, path));
        }
    }
    if rng.one_in(10) {
        for _ in 0..rng.between(1, 5) {
            let (at, by) = (at(rng), by(rng));
            scenario.action.push(plain(at, by, ActionKind::TcpOption, None));
        }
    }
    if rng.one_in(20) {
        scenario.client.scheduler = Some(Scheduler::Redundant);
        scenario.server.scheduler = Some(Scheduler::Redundant);
        for _ in 0..rng.between(1, 6) {
            let (at, by) = (at(rng), by(rng));
            scenario.action.push(plain(at, by, ActionKind::UpdateKeys, None));
        }
    }
    if mode == Mode::Safety && rng.one_in(16) {
        let (at, order) = (at(rng), rng.below(8));
        let apart = Duration::from_millis(rng.below(1 << order));
        scenario.action.push(plain(at, End::Client, ActionKind::Close, None));
        scenario.action.push(plain(Span(at.0 + apart), End::Server, ActionKind::Close, None));
    }
}
