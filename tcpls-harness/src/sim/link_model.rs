//! [`LinkModel`]: links of your own between the hosts of a simulation.

use tcpls_core::Time;

use super::scenario::{Direction, Fault, FaultKind};

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
/// A model is deterministic: the same calls get the same answers, or a run cannot be replayed. One that decides at random has
/// a generator of its own, which starts from the seed that [`Simulation::new`] gets, too.
///
/// [`Transport::Packets`]: super::scenario::Transport::Packets
/// [`Simulation::link`]: super::Simulation::link
/// [`Simulation::new`]: super::Simulation::new
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

/// The links of a simulation that are models of users: neither rate nor delay can be set there.
#[derive(Debug, Default)]
pub(crate) struct OwnLinks(Vec<(String, Direction)>);

impl OwnLinks {
    pub(crate) fn of(links: &[(String, Direction, Box<dyn LinkModel>)]) -> Self {
        Self(links.iter().map(|(path, direction, _)| (path.clone(), *direction)).collect())
    }

    /// Refuses a fault that would change nothing, because all links that it is about are models.
    pub(crate) fn check(&self, fault: &Fault) -> Result<(), String> {
        let what = match fault.kind {
            FaultKind::Rate => "rate",
            FaultKind::Delay => "delay",
            _ => return Ok(()),
        };
        let is_own =
            |direction| self.0.iter().any(|(path, own)| fault.path.as_ref() == Some(path) && *own == direction);
        let links = fault.direction.map_or(vec![Direction::Up, Direction::Down], |direction| vec![direction]);
        if links.iter().all(|direction| is_own(*direction)) {
            let path = fault.path.as_deref().unwrap_or_default();
            return Err(format!("path {path:?} has no {what} to set: its links are models of your own"));
        }
        Ok(())
    }
}
