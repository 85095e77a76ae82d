//! Middleboxes by chance, each kind switched on or off for a run. Drawn apart from the rest: what stands on its paths is all
//! that a scenario differs in from the same one without.

use std::time::Duration;

use super::super::chance::Chance;
use super::super::scenario::{Crypto, Extension, Middlebox, Scenario, Size, Span, Transport};
use super::Mode;

/// One run in so many has boxes of a kind.
const RARITY: u64 = 8;

/// Puts boxes on some paths of some scenarios.
pub(super) fn add_boxes(scenario: &mut Scenario, chance: &mut Chance, mode: Mode) {
    if scenario.transport == Transport::Packets {
        return;
    }
    let [reads_tls, proxies, strips] = [(); 3].map(|()| chance.one_in(RARITY));
    // Where TCPLS is stripped there is no session, and joins fail: nothing to wait for.
    let strips = strips && mode == Mode::Safety;
    if reads_tls || strips {
        scenario.crypto = Crypto::Tls;
    }
    for path in &mut scenario.path {
        let mut stands = |kind: bool, make: &mut dyn FnMut(&mut Chance) -> Middlebox| {
            if kind && chance.one_in(2) {
                path.boxes.push(make(chance));
            }
        };
        stands(reads_tls, &mut |_| Middlebox::TlsAware);
        stands(proxies, &mut proxy);
        stands(strips, &mut |chance| Middlebox::Strip {
            extension: if chance.one_in(2) { Extension::Alpn } else { Extension::Tcpls },
        });
        stands(reads_tls, &mut |_| Middlebox::TlsAware);
    }
}

fn proxy(chance: &mut Chance) -> Middlebox {
    let (order, size) = (chance.below(8), chance.between(0, 16));
    Middlebox::Proxy { hold: Span(Duration::from_millis(chance.below(1 << order))), most: Size(1 << size) }
}
