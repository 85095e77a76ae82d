//! Reduces a failing scenario while it still fails: fewer faults, actions, transfers and paths, simpler settings, less
//! data.

use super::faults_of;
use crate::sim::scenario::{
    Bottleneck, Bounds, Crypto, EarlyData, Farm, Keep, Role, Scenario, Settings, Size, Span, Transport,
};

/// Runs that may be spent on one scenario.
const MAX_RUNS: usize = 2_000;

/// The smallest scenario found that fails with this seed as `scenario` does; itself if it does not fail.
pub fn minimise(scenario: &Scenario, seed: u64) -> Scenario {
    let mut runs = 0;
    let mut smallest = scenario.clone();
    let Some(kind) = kind_of(&smallest, seed) else { return smallest };
    loop {
        let smaller = candidates(&smallest).into_iter().find(|candidate| {
            runs += 1;
            runs <= MAX_RUNS
                && *candidate != smallest
                && candidate.check().is_ok()
                && kind_of(candidate, seed).as_ref() == Some(&kind)
        });
        match smaller {
            Some(smaller) => smallest = smaller,
            None => return smallest,
        }
    }
}

/// What goes wrong first, without the numbers in it.
fn kind_of(scenario: &Scenario, seed: u64) -> Option<String> {
    let first = faults_of(scenario, seed).into_iter().next()?;
    Some(first.chars().filter(|c| !c.is_ascii_digit()).collect())
}

/// What is a little less, the largest steps first.
fn candidates(from: &Scenario) -> Vec<Scenario> {
    let mut all = Vec::new();
    let mut add = |change: &dyn Fn(&mut Scenario)| {
        let mut candidate = from.clone();
        change(&mut candidate);
        all.push(candidate);
    };
    add(&|s| s.fault.clear());
    add(&|s| s.action.clear());
    (0..from.fault.len()).for_each(|number| add(&|s| _ = s.fault.remove(number)));
    (0..from.action.len()).for_each(|number| add(&|s| _ = s.action.remove(number)));
    (0..from.transfer.len()).for_each(|number| add(&|s| drop_transfer(s, number)));
    (1..from.path.len()).for_each(|number| add(&|s| drop_path(s, number)));
    add(&|s| s.client = Settings::default());
    add(&|s| s.server = Settings::default());
    for_each_setting(&mut add);
    add(&|s| s.at_least = Span::default());
    add(&|s| s.flood.clear());
    for number in 0..from.flood.len() {
        add(&|s| _ = s.flood.remove(number));
        add(&|s| s.flood[number].count /= 2);
        add(&|s| s.flood[number].count = s.flood[number].count.saturating_sub(1));
    }
    add(&|s| s.bounds = Bounds::default());
    add(&|s| s.bounds.memory = None);
    add(&|s| s.bounds.descriptors = None);
    add(&|s| s.bounds.pending = None);
    add(&|s| s.bounds.handshakes = None);
    add(&|s| s.bounds.sessions = None);
    add(&|s| s.bounds.claims = None);
    add(&|s| s.farm = Farm::default());
    add(&|s| s.farm.servers = 2);
    add(&|s| s.clients = 1);
    add(&|s| s.clients = 2);
    add(&|s| s.keep = Keep::Paths);
    add(&|s| s.crypto = Crypto::Null);
    add(&|s| s.early_data = EarlyData::None);
    add(&|s| s.resumed_joins = false);
    add(&|s| {
        s.transport = Transport::Pipes;
        for path in &mut s.path {
            (path.loss, path.burst, path.reorder, path.mtu) = (0.0, None, 0.0, 1500);
            path.bottleneck = Bottleneck::Host;
        }
    });
    for number in 0..from.path.len() {
        add(&|s| s.path[number].role = Role::Active);
        add(&|s| s.path[number].group = None);
        add(&|s| s.path[number].jitter = Span::default());
        add(&|s| s.path[number].queue = None);
        add(&|s| s.path[number].up_rate = None);
        add(&|s| s.path[number].rate = None);
        add(&|s| s.path[number].bottleneck = Bottleneck::Host);
        add(&|s| s.path[number].loss = 0.0);
        add(&|s| s.path[number].burst = None);
        add(&|s| s.path[number].reorder = 0.0);
        add(&|s| s.path[number].mtu = 1500);
        (0..from.path[number].middleboxes.len()).for_each(|at| add(&|s| _ = s.path[number].middleboxes.remove(at)));
    }
    for number in 0..from.transfer.len() {
        add(&|s| s.transfer[number].send = Size(s.transfer[number].send.0 / 2));
        add(&|s| s.transfer[number].receive = Size(s.transfer[number].receive.0 / 2));
        add(&|s| s.transfer[number].read_rate = None);
        add(&|s| s.transfer[number].write_rate = None);
        add(&|s| s.transfer[number].reset_after = None);
        add(&|s| s.transfer[number].stop_after = None);
        add(&|s| s.transfer[number].priority = 0);
        add(&|s| s.transfer[number].at = Span::default());
    }
    all
}

/// Takes a change of a scenario.
type Add<'a> = &'a mut dyn FnMut(&dyn Fn(&mut Scenario));

fn for_each_setting(add: Add<'_>) {
    let clears: [fn(&mut Settings); 16] = [
        |s| s.scheduler = None,
        |s| s.send_buffer = None,
        |s| s.session_window = None,
        |s| s.stream_window = None,
        |s| s.max_streams = None,
        |s| s.user_timeout = None,
        |s| s.idle_timeout = None,
        |s| s.session_timeout = None,
        |s| s.join_timeout = None,
        |s| s.max_tcp_connections = None,
        |s| s.lanes = None,
        |s| s.spare_tokens = None,
        |s| s.zero_rtt_join = None,
        |s| s.max_unacknowledged_records = None,
        |s| s.max_ack_delay = None,
        |s| s.confidentiality_limit = None,
    ];
    for clear in clears {
        add(&|s| clear(&mut s.client));
        add(&|s| clear(&mut s.server));
    }
}

fn drop_transfer(scenario: &mut Scenario, number: usize) {
    scenario.transfer.remove(number);
    scenario.action.retain(|action| action.transfer != Some(number));
    for action in &mut scenario.action {
        action.transfer = action.transfer.map(|other| other - usize::from(other > number));
    }
}

fn drop_path(scenario: &mut Scenario, number: usize) {
    let name = Some(scenario.path.remove(number).name);
    scenario.fault.retain(|fault| fault.path != name);
    scenario.action.retain(|action| action.path != name);
    scenario.flood.retain(|flood| flood.path != name);
}
