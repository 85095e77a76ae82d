//! [`LinkModel`]: links of your own between the hosts of a simulation.

use tcpls_core::Time;

/// One direction of a path, as a model of your own: when does each packet arrive, and which are lost?
///
/// For simulations over packets ([`Transport::Packets`]), in which TCP reacts to what the model does:
/// see [`Simulation::link`]. Closures are models, too.
///
/// ```
/// use std::time::Duration;
/// use tcpls_harness::core::Time;
/// use tcpls_harness::sim::LinkModel;
///
/// /// Packets wait for the next slot of a radio link, which takes them all.
/// struct Slots(Duration);
///
/// impl LinkModel for Slots {
///     fn carry(&mut self, now: Time, _packet: &[u8]) -> Option<Time> {
///         let slot = self.0.as_nanos() as u64;
///         Some(Time::from_nanos((now.as_nanos() / slot + 1) * slot))
///     }
/// }
/// ```
///
/// [`Transport::Packets`]: super::scenario::Transport::Packets
/// [`Simulation::link`]: super::Simulation::link
pub trait LinkModel {
    /// An IP packet enters the link at `now`: when it arrives at the other end, or `None` if it never does. A time before
    /// `now` counts as `now`. Calls come in order of time.
    fn carry(&mut self, now: Time, packet: &[u8]) -> Option<Time>;
}

impl<F: FnMut(Time, &[u8]) -> Option<Time>> LinkModel for F {
    fn carry(&mut self, now: Time, packet: &[u8]) -> Option<Time> {
        self(now, packet)
    }
}
