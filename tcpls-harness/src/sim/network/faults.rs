//! Faults that both transports apply alike: TCP connections that end, other rates and delays, flipped bits.

use std::time::Duration;

use tcpls_core::TcpEnd;

use super::{DOWN, UP};
use crate::sim::scenario::{Direction, Fault, FaultKind};

/// A transport, to such a fault.
pub(super) trait Paths {
    /// The ends of the path's TCP connections in `hear` learn that these are over; the others do not, and no end
    /// receives what is on its way.
    fn cut_all(&mut self, path: usize, hear: [bool; 2], how: TcpEnd);
    /// One direction of a path.
    fn direction(&mut self, path: usize, way: usize) -> Direct<'_>;
}

/// What a fault changes in one direction of a path.
pub(super) struct Direct<'a> {
    pub(super) rate: &'a mut Option<u64>,
    pub(super) delay: &'a mut Duration,
    /// Both without a fault.
    pub(super) usual: (Option<u64>, Duration),
    /// How many of the next packets, or pieces, get a flipped bit.
    pub(super) corrupts: &'a mut usize,
}

/// The directions that a fault concerns.
pub(super) fn ways(fault: &Fault) -> &'static [usize] {
    match fault.direction {
        None => &[UP, DOWN],
        Some(Direction::Up) => &[UP],
        Some(Direction::Down) => &[DOWN],
    }
}

/// Applies a fault, or its end, if both transports do so alike; returns whether they do.
pub(super) fn disturb(net: &mut impl Paths, path: usize, fault: &Fault, over: bool) -> bool {
    let mut each = |change: fn(&mut Direct<'_>, &Fault, bool)| {
        ways(fault).iter().for_each(|way| change(&mut net.direction(path, *way), fault, over));
    };
    match fault.kind {
        FaultKind::Rate => each(|direct, fault, over| *direct.rate = fault.rate_of(over, direct.usual.0)),
        FaultKind::Delay => each(|direct, fault, over| *direct.delay = fault.delay_of(over, direct.usual.1)),
        FaultKind::Corrupt => each(|direct, _, _| *direct.corrupts += 1),
        FaultKind::Reset => net.cut_all(path, [true; 2], TcpEnd::Reset),
        FaultKind::ResetClient => net.cut_all(path, [true, false], TcpEnd::Reset),
        FaultKind::ResetServer => net.cut_all(path, [false, true], TcpEnd::Reset),
        FaultKind::Fin => net.cut_all(path, [true; 2], TcpEnd::Fin),
        FaultKind::Forget => net.cut_all(path, [false; 2], TcpEnd::Reset),
        _ => return false,
    }
    true
}
