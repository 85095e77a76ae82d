//! [`LinkModel`]: links of your own between the hosts of a simulation.

use tcpls_core::Time;

use crate::sim::rng::SimRng;
use crate::sim::scenario::{Direction, Fault, FaultKind};

/// One direction of a path, as a model of your own: when does each packet arrive, and which are lost?
///
/// For simulations over packets ([`Transport::Packets`]), in which TCP reacts to what the model does:
/// see [`Simulation::link`]. Closures are models, too.
///
/// ```
/// use std::time::Duration;
/// use tcpls_harness::core::Time;
/// use tcpls_harness::net::Session;
/// use tcpls_harness::sim::scenario::{Direction, Path};
/// use tcpls_harness::sim::{Failure, LinkModel, SimRng, Simulation};
///
/// /// Packets wait for the next slot of a radio link, which takes them all. Now and then a slot is lost with what it carries.
/// struct Slots {
///     length: Duration,
///     last: Time,
///     is_lost: bool,
/// }
///
/// impl LinkModel for Slots {
///     fn carry(&mut self, now: Time, _packet: &[u8], random: &mut SimRng) -> Option<Time> {
///         let length = self.length.as_nanos() as u64;
///         let next = Time::from_nanos((now.as_nanos() / length + 1) * length);
///         if next > self.last {
///             (self.last, self.is_lost) = (next, random.one_in(50));
///         }
///         (!self.is_lost).then_some(next)
///     }
/// }
///
/// let slots = || Slots { length: Duration::from_millis(5), last: Time::ZERO, is_lost: false };
/// let run = |seed| {
///     let simulation = Simulation::new(seed).path(Path::new("radio"));
///     let simulation = simulation.link("radio", Direction::Up, slots()).link("radio", Direction::Down, slots());
///     simulation.client(async |session: Session| drop(session.open_stream().await)).run()
/// };
/// assert_eq!(run(1)?.trace, run(1)?.trace);
/// # Ok::<(), Failure>(())
/// ```
///
/// A model is deterministic, or a run cannot be replayed: what it decides at random, it decides with the numbers that it gets.
///
/// [`Transport::Packets`]: crate::sim::scenario::Transport::Packets
/// [`Simulation::link`]: crate::sim::Simulation::link
/// [`Simulation::new`]: crate::sim::Simulation::new
pub trait LinkModel {
    /// An IP packet enters the link at `now`: when it arrives at the other end, or `None` if it never does. A time before
    /// `now` counts as `now`. Calls come in order of time.
    ///
    /// `random` follows from the seed of the run. Each direction of each path has numbers of its own: what a model draws changes
    /// nothing else.
    fn carry(&mut self, now: Time, packet: &[u8], random: &mut SimRng) -> Option<Time>;
}

impl<F: FnMut(Time, &[u8], &mut SimRng) -> Option<Time>> LinkModel for F {
    fn carry(&mut self, now: Time, packet: &[u8], random: &mut SimRng) -> Option<Time> {
        self(now, packet, random)
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
