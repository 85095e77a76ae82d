//! The rules one by one, then all of them against a model that looks at every holder each time.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use proptest::prelude::*;

use super::*;

const MIB: u64 = 1 << 20;

fn v4(host: u8) -> Client {
    Client::at(IpAddr::V4(Ipv4Addr::new(192, 0, 2, host)))
}

fn sessions(limit: u64) -> Budget {
    Budget::new(Limits::UNLIMITED.with(Resource::Sessions, limit))
}

fn secs(seconds: u64) -> Time {
    Time::from_millis(seconds * 1000)
}

/// A session that holds as much memory as an idle one.
fn session(budget: &mut Budget, now: Time, client: Client) -> HolderId {
    let id = budget.enter(now, client);
    budget.set_held(id, Resource::Sessions, 1);
    budget.set_held(id, Resource::Memory, 32 << 10);
    id
}

fn evicted(budget: &mut Budget, now: Time) -> Vec<HolderId> {
    core::iter::from_fn(|| budget.poll_eviction(now)).map(|eviction| eviction.holder).collect()
}

#[test]
fn no_holder_gives_way_while_there_is_room() {
    let mut budget = sessions(1000);
    (0..1000).for_each(|_| _ = session(&mut budget, secs(0), v4(1)));
    assert_eq!(budget.poll_eviction(secs(100)), None, "a carrier-grade NAT may have all there is");
    session(&mut budget, secs(100), v4(2));
    assert!(budget.poll_eviction(secs(100)).is_some());
    assert_eq!((budget.poll_eviction(secs(100)), budget.used(Resource::Sessions)), (None, 1000));
}

#[test]
fn the_prefix_that_holds_most_gives_way() {
    let mut budget = sessions(10);
    let others: Vec<HolderId> = (2..6).map(|host| session(&mut budget, secs(0), v4(host))).collect();
    let attacker: Vec<HolderId> = (0..6).map(|_| session(&mut budget, secs(1), v4(1))).collect();
    let late = session(&mut budget, secs(2), v4(9));
    assert_eq!(evicted(&mut budget, secs(2)), [attacker[0]]);
    assert!(others.iter().chain([&late]).all(|id| budget.held(*id, Resource::Sessions) == 1));
}

#[test]
fn memory_is_compared_roughly_so_that_a_few_bytes_more_do_not_decide() {
    let mut budget = Budget::new(Limits::UNLIMITED.with(Resource::Memory, 33 * MIB));
    let idle = budget.enter(secs(0), v4(1));
    budget.set_held(idle, Resource::Memory, 16 * MIB);
    let busy = budget.enter(secs(0), v4(2));
    budget.set_held(busy, Resource::Memory, 16 * MIB + MIB / 2);
    budget.add_delivered(secs(1), busy, MIB);
    let third = budget.enter(secs(1), v4(3));
    budget.set_held(third, Resource::Memory, MIB);
    let eviction = budget.poll_eviction(secs(1));
    assert_eq!(eviction, Some(Eviction { holder: idle, resource: Resource::Memory, descriptors: 0 }));
    assert_eq!(budget.poll_eviction(secs(1)), None);
}

#[test]
fn within_a_prefix_the_least_delivered_per_byte_held_gives_way() {
    let mut budget = sessions(3);
    let [thrifty, hungry, used] = [(MIB, 2000), (16 * MIB, 10_000), (MIB, 5000)].map(|(memory, delivered)| {
        let id = session(&mut budget, secs(0), v4(1));
        budget.set_held(id, Resource::Memory, memory);
        budget.add_delivered(secs(1), id, delivered);
        id
    });
    for expected in [hungry, thrifty, used] {
        budget.set_limits(budget.limits().with(Resource::Sessions, budget.used(Resource::Sessions) - 1));
        assert_eq!(evicted(&mut budget, secs(2)), [expected]);
    }
}

#[test]
fn deliveries_count_for_thirty_seconds() {
    let mut budget = sessions(1);
    let early = session(&mut budget, secs(0), v4(1));
    budget.add_delivered(secs(1), early, 100_000);
    let late = session(&mut budget, secs(20), v4(1));
    budget.add_delivered(secs(20), late, 2000);
    let mut later = Budget::new(*budget.limits());
    core::mem::swap(&mut later, &mut budget);
    assert_eq!(evicted(&mut later, secs(31)), [early]);
}

#[test]
fn a_stranded_honest_client_outlasts_fresh_sessions_that_delivered_nothing() {
    let mut budget = sessions(100);
    let honest = session(&mut budget, secs(0), v4(1));
    budget.add_delivered(secs(1), honest, 5 * MIB);
    budget.set_stranded(secs(2), honest, true);
    for second in 40..60 {
        (0..100).for_each(|_| _ = session(&mut budget, secs(second), v4(1)));
        evicted(&mut budget, secs(second));
        assert_eq!(budget.held(honest, Resource::Sessions), 1, "after {second} s, in one prefix with the attacker");
    }
}

#[test]
fn of_sessions_that_delivered_nothing_the_longest_stranded_gives_way() {
    let mut budget = sessions(3);
    let live = session(&mut budget, secs(0), v4(1));
    let [first, second] = [1, 2].map(|at| {
        let id = session(&mut budget, secs(0), v4(1));
        budget.set_stranded(secs(at), id, true);
        id
    });
    for expected in [first, second, live] {
        session(&mut budget, secs(5), v4(1));
        assert_eq!(evicted(&mut budget, secs(5)), [expected]);
    }
}

#[test]
fn a_byte_now_and_then_does_not_keep_a_session_ahead_of_newcomers() {
    let mut budget = sessions(2);
    let drip = session(&mut budget, secs(0), v4(1));
    let idle = session(&mut budget, secs(1), v4(1));
    (2..20).for_each(|second| budget.add_delivered(secs(second), drip, 16));
    session(&mut budget, secs(20), v4(1));
    assert_eq!(evicted(&mut budget, secs(20)), [drip]);
    session(&mut budget, secs(21), v4(1));
    assert_eq!(evicted(&mut budget, secs(21)), [idle]);
}

#[test]
fn client_that_joins_again_is_no_longer_stranded() {
    let mut budget = sessions(2);
    let back = session(&mut budget, secs(0), v4(1));
    budget.set_stranded(secs(1), back, true);
    let stranded = session(&mut budget, secs(2), v4(1));
    budget.set_stranded(secs(3), stranded, true);
    budget.set_stranded(secs(4), back, false);
    session(&mut budget, secs(5), v4(1));
    assert_eq!(evicted(&mut budget, secs(5)), [stranded]);
}

#[test]
fn anonymous_clients_give_way_before_authenticated_ones() {
    let mut budget = sessions(10);
    let known: Vec<HolderId> = (0..9).map(|_| session(&mut budget, secs(0), v4(1))).collect();
    known.iter().for_each(|id| budget.set_authenticated(*id));
    let unknown = session(&mut budget, secs(1), v4(2));
    budget.add_delivered(secs(1), unknown, MIB);
    session(&mut budget, secs(2), v4(1));
    let gone = evicted(&mut budget, secs(2));
    assert!(gone.len() == 1 && !known.contains(&gone[0]), "{gone:?}");
}

#[test]
fn an_ipv6_client_is_its_64_and_a_mapped_address_is_ipv4() {
    let v6 = |text: &str| Client::at(text.parse::<Ipv6Addr>().unwrap().into());
    assert_eq!(v6("2001:db8:1:2::1"), v6("2001:db8:1:2:ffff:ffff:ffff:ffff"));
    assert_ne!(v6("2001:db8:1:2::1"), v6("2001:db8:1:3::1"));
    assert_eq!(v6("::ffff:192.0.2.7"), v4(7));
    assert_ne!(v4(7), v4(8));
}

#[test]
fn clients_behind_a_trusted_proxy_are_judged_one_by_one() {
    let mut budget = sessions(10);
    let proxied: Vec<HolderId> = (0..8).map(|_| session(&mut budget, secs(0), Client::ALONE)).collect();
    let pair: Vec<HolderId> = (0..2).map(|_| session(&mut budget, secs(1), v4(1))).collect();
    session(&mut budget, secs(2), Client::ALONE);
    assert_eq!(evicted(&mut budget, secs(2)), [pair[0]]);
    assert!(proxied.iter().all(|id| budget.held(*id, Resource::Sessions) == 1));
}

#[test]
fn only_holders_of_the_exceeded_resource_give_way() {
    let mut budget = Budget::new(Limits::UNLIMITED.with(Resource::Handshakes, 2));
    let idle: Vec<HolderId> = (0..9).map(|_| session(&mut budget, secs(0), v4(1))).collect();
    let shaking: Vec<HolderId> = (0..3)
        .map(|at| {
            let id = session(&mut budget, secs(at), v4(2));
            budget.set_held(id, Resource::Handshakes, 1);
            id
        })
        .collect();
    assert_eq!(evicted(&mut budget, secs(3)), [shaking[0]], "the oldest handshake");
    assert!(idle.iter().all(|id| budget.held(*id, Resource::Sessions) == 1));
}

#[test]
fn a_holder_can_be_asked_for_before_the_limit_is_reached() {
    let mut budget = sessions(10);
    let only = session(&mut budget, secs(0), v4(1));
    assert_eq!(budget.evict(secs(1), Resource::Descriptors), None, "it holds none");
    let eviction = Eviction { holder: only, resource: Resource::Sessions, descriptors: 0 };
    assert_eq!(budget.evict(secs(1), Resource::Sessions), Some(eviction));
    assert_eq!(budget.evict(secs(1), Resource::Sessions), None);
}

#[test]
fn removed_member_is_ignored_and_holds_nothing() {
    let mut budget = sessions(10);
    let id = session(&mut budget, secs(0), v4(1));
    budget.add_delivered(secs(0), id, 1);
    budget.leave(id);
    budget.set_held(id, Resource::Memory, 5);
    budget.add_delivered(secs(1), id, 5);
    budget.set_stranded(secs(1), id, true);
    budget.set_authenticated(id);
    budget.leave(id);
    assert!(budget.is_empty() && Resource::ALL.iter().all(|resource| budget.used(*resource) == 0));
    assert!(budget.ageing.is_empty() && budget.shares.iter().all(|shares| shares.sums.is_empty()));
}

// The model.

#[derive(Clone, Debug)]
enum Op {
    Enter(u8),
    Leave(usize),
    Hold(usize, Resource, u64),
    Authenticate(usize),
    Strand(usize, bool),
    Deliver(usize, u64),
    Wait(u64),
    Poll,
}

fn op() -> impl Strategy<Value = Op> {
    let resource = (0..Resource::ALL.len()).prop_map(|index| Resource::ALL[index]);
    prop_oneof![
        4 => (0u8..5).prop_map(Op::Enter),
        1 => any::<usize>().prop_map(Op::Leave),
        8 => (any::<usize>(), resource, 0u64..40).prop_map(|(at, resource, amount)| Op::Hold(at, resource, amount)),
        1 => any::<usize>().prop_map(Op::Authenticate),
        2 => (any::<usize>(), any::<bool>()).prop_map(|(at, stranded)| Op::Strand(at, stranded)),
        4 => (any::<usize>(), 0u64..3000).prop_map(|(at, bytes)| Op::Deliver(at, bytes)),
        3 => (0u64..12_000).prop_map(Op::Wait),
        3 => Just(Op::Poll),
    ]
}

/// What the model knows of a holder.
struct Known {
    id: HolderId,
    host: u8,
    authenticated: bool,
    held: [u64; Resource::ALL.len()],
    delivered: Vec<(Time, u64)>,
    stranded: bool,
    active: Time,
}

#[derive(Default)]
struct Model {
    now: Time,
    holders: Vec<Known>,
}

impl Model {
    /// The member that gives way: by looking at everything.
    fn victim(&self, limits: &Limits) -> Option<Eviction> {
        let of = |known: &Known, resource: Resource| known.held[resource as usize];
        let resource = Resource::ALL
            .into_iter()
            .find(|r| self.holders.iter().map(|known| of(known, *r)).sum::<u64>() > limits.get(*r))?;
        let is_one = |a: &Known, b: &Known| {
            a.authenticated == b.authenticated && if a.host == 0 { a.id == b.id } else { a.host == b.host }
        };
        let group = |known: &Known| -> u64 {
            let sum = self.holders.iter().filter(|other| is_one(known, other)).map(|other| of(other, resource)).sum();
            rank::size(resource, sum)
        };
        let recent = |known: &Known| -> u64 {
            let counts = |at: Time| epoch(at) + 6 > epoch(self.now);
            known.delivered.iter().filter(|(at, _)| counts(*at)).map(|(_, bytes)| bytes).sum()
        };
        let order = |known: &&Known| {
            let total: u64 = known.delivered.iter().map(|(_, bytes)| bytes).sum();
            let per_gib = ((recent(known) / 1024) << 30) / of(known, Resource::Memory).max(1);
            let digits = u64::BITS - (total / 1024).leading_zeros();
            let rank = (per_gib, digits, !known.stranded, known.active, known.id);
            (known.authenticated, Reverse(group(known)), rank)
        };
        let victim = self.holders.iter().filter(|known| of(known, resource) > 0).min_by_key(order)?;
        Some(Eviction { holder: victim.id, resource, descriptors: of(victim, Resource::Descriptors) })
    }

    fn find(&mut self, at: usize) -> Option<&mut Known> {
        let len = self.holders.len();
        if len == 0 { None } else { self.holders.get_mut(at % len) }
    }
}

fn apply(op: &Op, budget: &mut Budget, model: &mut Model) {
    let now = model.now;
    match *op {
        Op::Enter(host) => {
            let id = budget.enter(now, if host == 0 { Client::ALONE } else { v4(host) });
            let known = Known {
                id,
                host,
                authenticated: false,
                held: [0; Resource::ALL.len()],
                delivered: vec![],
                stranded: false,
                active: now,
            };
            model.holders.push(known);
        }
        Op::Wait(millis) => model.now = now + core::time::Duration::from_millis(millis),
        Op::Poll => {
            let victim = model.victim(budget.limits());
            assert_eq!(budget.poll_eviction(now), victim);
            model.holders.retain(|known| Some(known.id) != victim.map(|victim| victim.holder));
        }
        Op::Leave(at) => {
            if let Some(id) = model.find(at).map(|known| known.id) {
                budget.leave(id);
                model.holders.retain(|known| known.id != id);
            }
        }
        Op::Hold(at, resource, amount) => {
            if let Some(known) = model.find(at) {
                budget.set_held(known.id, resource, amount);
                known.held[resource as usize] = amount;
            }
        }
        Op::Authenticate(at) => {
            if let Some(known) = model.find(at) {
                budget.set_authenticated(known.id);
                known.authenticated = true;
            }
        }
        Op::Strand(at, stranded) => {
            if let Some(known) = model.find(at) {
                budget.set_stranded(now, known.id, stranded);
                if known.stranded != stranded {
                    (known.stranded, known.active) = (stranded, now);
                }
            }
        }
        Op::Deliver(at, bytes) => {
            if let Some(known) = model.find(at) {
                budget.add_delivered(now, known.id, bytes);
                let total = |known: &Known| known.delivered.iter().map(|(_, bytes)| bytes).sum::<u64>();
                let before = total(known);
                known.delivered.push((now, bytes));
                if before / 1024 < total(known) / 1024 {
                    known.active = now;
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_calls_give_the_same_result_as_a_linear_search(ops in proptest::collection::vec(op(), 1..120)) {
        let limits = Resource::ALL.into_iter().fold(Limits::UNLIMITED, |limits, resource| limits.with(resource, 100));
        let (mut budget, mut model) = (Budget::new(limits), Model::default());
        for op in &ops {
            apply(op, &mut budget, &mut model);
            for resource in Resource::ALL {
                let held: u64 = model.holders.iter().map(|known| known.held[resource as usize]).sum();
                prop_assert_eq!(budget.used(resource), held);
            }
            prop_assert_eq!(budget.len(), model.holders.len());
        }
    }
}
