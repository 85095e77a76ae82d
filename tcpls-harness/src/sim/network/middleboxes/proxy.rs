//! One direction of a proxy that terminates TCP on one side and opens a new TCP connection on the other. Bytes keep
//! their order; the proxy delays them, and forwards them in pieces of other sizes.

use std::time::Duration;

use bytes::BytesMut;
use tcpls_core::Time;

use crate::sim::rng::SimRng;

/// See the module's description.
#[derive(Debug)]
pub(super) struct Proxy {
    hold: Duration,
    most: usize,
    held: BytesMut,
    /// When some of the held bytes are forwarded.
    due: Option<Time>,
    /// Whether some were: the rest follows with the next piece.
    cut: bool,
}

impl Proxy {
    /// Bytes wait for `hold` at most before their piece is cut, once again after that, and not at all beyond `most` bytes.
    pub(super) fn new(hold: Duration, most: u64) -> Self {
        let most = usize::try_from(most).unwrap_or(usize::MAX);
        Self { hold, most, held: BytesMut::new(), due: None, cut: false }
    }

    /// When [`Proxy::pass`] has something to give, even if nothing comes.
    pub(super) fn due(&self) -> Option<Time> {
        self.due
    }

    /// Takes bytes, and returns those to forward now; `last`: no more bytes follow.
    pub(super) fn pass(&mut self, now: Time, bytes: &[u8], last: bool, rng: &mut SimRng) -> BytesMut {
        self.held.extend_from_slice(bytes);
        let is_due = self.due.is_some_and(|due| due <= now);
        let goes = if last || self.held.len() >= self.most || (is_due && self.cut) {
            self.cut = false;
            self.held.len()
        } else if is_due {
            self.cut = true;
            rng.between(1, self.held.len() as u64) as usize
        } else {
            0
        };
        if goes > 0 {
            self.due = None;
        }
        let out = self.held.split_to(goes);
        if self.held.is_empty() {
            self.due = None;
        } else if self.due.is_none() {
            self.due = Some(now + Duration::from_nanos(rng.below(self.hold.as_nanos() as u64 + 1)));
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::rng::Purpose;

    #[test]
    fn proxy_forwards_bytes_in_order_in_other_pieces_and_in_time() {
        let mut rng = SimRng::new(1, Purpose::Network);
        let mut proxy = Proxy::new(Duration::from_millis(10), 5_000);
        let (mut out, mut pieces, mut waited) = (Vec::new(), Vec::new(), Vec::new());
        for milli in 0..1000u64 {
            let now = Time::from_millis(milli);
            let bytes: &[u8] = if milli < 900 { &[milli as u8; 100] } else { &[] };
            let piece = proxy.pass(now, bytes, false, &mut rng);
            assert!(proxy.held.len() < 5_000);
            out.extend_from_slice(&piece);
            if !piece.is_empty() {
                pieces.push(piece.len());
                waited.push(milli.min(899) - (out.len() as u64 - 1) / 100);
            }
        }
        let sent: Vec<u8> = (0..900u64).flat_map(|milli| [milli as u8; 100]).collect();
        assert!(out == sent, "in order, and all of it");
        assert!(pieces.iter().any(|len| len % 100 != 0) && pieces.iter().any(|len| *len > 500), "{pieces:?}");
        assert!(waited.iter().all(|waited| *waited <= 20) && waited.iter().any(|waited| *waited > 5), "{waited:?}");
    }

    #[test]
    fn nothing_waits_beyond_the_limit_or_behind_the_end() {
        let mut rng = SimRng::new(1, Purpose::Network);
        let mut proxy = Proxy::new(Duration::from_secs(1), 100);
        let mut pass = |bytes: &[u8], last| proxy.pass(Time::ZERO, bytes, last, &mut rng).len();
        assert_eq!(
            [pass(&[0; 99], false), pass(&[0; 1], false), pass(&[0; 7], false), pass(&[], true)],
            [0, 100, 0, 7]
        );
    }
}
