//! How much an idle socket sends at once. The kernel knows, but a query costs a system call; for small amounts the last
//! answer is sufficient.

use std::time::Duration;

use tcpls_core::time::Time;
use tokio::net::TcpStream;

use super::tcp_info::{Window, window};

/// A window that has less room than this is full: records so small would not arrive sooner.
const MIN_FLIGHT: usize = 2 * 1024;
/// How long an answer is relied upon. Losses may have made the window smaller since.
const VALID: Duration = Duration::from_secs(1);

/// The kernel's last answer about one socket.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Flight {
    known: Option<(Time, Window)>,
}

impl Flight {
    /// What is sure to leave at once while `in_flight` bytes are under way, at most `batch`; `None` if the kernel is to be
    /// asked.
    pub(super) fn sure(&self, now: Time, in_flight: usize, batch: usize) -> Option<usize> {
        let (_, window) = self.known.filter(|(asked, _)| now - *asked < VALID)?;
        let sure = window.after_pause.saturating_sub(in_flight).min(batch);
        (sure >= MIN_FLIGHT.min(batch)).then_some(sure)
    }

    /// Asks the kernel what would leave at once, at most `batch`. Without an answer, or with a full window, it is all of that.
    pub(super) fn ask(&mut self, now: Time, stream: &TcpStream, batch: usize) -> usize {
        let answer = window(stream);
        self.known = answer.map(|window| (now, window));
        first_flight(batch, answer.map(|window| window.free))
    }
}

/// `window`: what the congestion window allows to send at once, if that is known.
fn first_flight(batch: usize, window: Option<usize>) -> usize {
    window.filter(|window| *window >= MIN_FLIGHT).map_or(batch, |window| window.min(batch))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_batch_on_an_idle_socket_fits_its_window_unless_full() {
        assert_eq!(first_flight(32_768, Some(14_480)), 14_480);
        assert_eq!(first_flight(32_768, Some(100_000)), 32_768);
        assert_eq!(first_flight(32_768, Some(1448)), 32_768, "small records would not arrive sooner");
        assert_eq!(first_flight(32_768, None), 32_768);
    }

    #[test]
    fn the_kernel_is_asked_when_its_answer_is_old_or_too_little_is_sure() {
        let asked = Time::from_millis(5000);
        let flight = Flight { known: Some((asked, Window { free: 100_000, after_pause: 14_480 })) };
        let soon = asked + Duration::from_millis(999);
        assert_eq!(flight.sure(soon, 0, 32_768), Some(14_480), "as after a pause: there may have been one");
        assert_eq!(flight.sure(soon, 1000, 32_768), Some(13_480));
        assert_eq!(flight.sure(soon, 0, 4096), Some(4096));
        assert_eq!(flight.sure(soon, 0, 1000), Some(1000));
        assert_eq!(flight.sure(soon, 13_000, 32_768), None);
        assert_eq!(flight.sure(asked + VALID, 0, 32_768), None);
        assert_eq!(Flight::default().sure(asked, 0, 32_768), None);
    }
}
