//! Middleboxes on a path: their effect on the bytes of a TCP connection. They see byte streams, like boxes that
//! reassemble or terminate TCP, and are at the end of a link. The scenario selects them; `pipes` delivers the bytes.

mod hello;
mod inspector;
mod proxy;
mod stripper;

use bytes::BytesMut;
use tcpls_core::Time;

use self::inspector::Inspector;
use self::proxy::Proxy;
use self::stripper::Stripper;
use crate::sim::rng::SimRng;
use crate::sim::scenario;

/// The boxes that one TCP connection goes through, from the client to the server. Directions: 0 to the server, 1 to the
/// client.
#[derive(Debug, Default)]
pub(super) struct Middleboxes(Vec<Middlebox>);

#[derive(Debug)]
enum Middlebox {
    TlsAware(Box<Inspector>),
    Strip(Stripper),
    Proxy([Proxy; 2]),
}

impl Middleboxes {
    pub(super) fn new(plan: &[scenario::Middlebox]) -> Self {
        let start = |kind: &scenario::Middlebox| match *kind {
            scenario::Middlebox::TlsAware => Middlebox::TlsAware(Box::default()),
            scenario::Middlebox::Strip { extension } => Middlebox::Strip(Stripper::new(extension)),
            scenario::Middlebox::Proxy { hold, most } => Middlebox::Proxy([0, 1].map(|_| Proxy::new(hold.0, most.0))),
        };
        Self(plan.iter().map(start).collect())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What comes out at the other end when `bytes` come in, or (if they are none) time has passed; `last`: and then a FIN.
    ///
    /// # Errors
    /// The reason why a box ends the TCP connection.
    pub(super) fn pass(
        &mut self,
        now: Time,
        way: usize,
        mut bytes: BytesMut,
        last: bool,
        rng: &mut SimRng,
    ) -> Result<BytesMut, String> {
        let count = self.0.len();
        for step in 0..count {
            let at = if way == 0 { step } else { count - 1 - step };
            bytes = match &mut self.0[at] {
                Middlebox::TlsAware(inspector) => inspector.look(way, &bytes).map(|()| bytes)?,
                Middlebox::Strip(stripper) if way == 0 => stripper.pass(bytes, last),
                Middlebox::Strip(_) => bytes,
                Middlebox::Proxy(ways) => ways[way].pass(now, &bytes, last, rng),
            };
        }
        Ok(bytes)
    }

    /// When a box forwards the bytes that it holds in this direction.
    pub(super) fn next(&self, way: usize) -> Option<Time> {
        let proxies = self.0.iter().filter_map(|middlebox| match middlebox {
            Middlebox::Proxy(ways) => ways[way].due(),
            _ => None,
        });
        proxies.min()
    }
}
