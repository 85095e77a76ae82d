//! Whether the kernel spreads what a socket sends over the round trip.
//!
//! TCP sends a window that opens at once in one burst: when credit arrives, when the scheduler returns to a path, when a lost
//! segment was repaired. A queue that is shorter than the burst drops the end of it, and congestion control takes that for a
//! slow path. TCP can pace by itself, somewhat faster than one window in a round trip and whatever the queueing discipline:
//! that takes no privilege, but a socket option, `SO_MAX_PACING_RATE`. Linux and Android have it; elsewhere nothing is done.

use std::time::Duration;

use tokio::net::TcpStream;

use super::tcp_info::tcp_info;

/// Less than this leaves in one burst in any case: it fits into TCP's first window (RFC 6928).
const BURST: usize = 14 * 1024;
/// Paths with a shorter round trip are not paced. TCP paces pieces that its rate sends in a millisecond: within two of these,
/// pacing spreads nothing, and its timers cost throughput on loopback and in data centres.
const MIN_ROUND_TRIP: Duration = Duration::from_millis(2);

/// How often the kernel is asked for the round trip. It measures one with TCP's handshake, and at the latest with the first
/// data that the peer acknowledges; the next batch follows that. A socket without one after some batches is not paced.
const MAX_QUESTIONS: u8 = 4;

/// Decides for one socket, once: pacing cannot be turned off.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pacing {
    /// How often the kernel may still be asked; 0 once it is decided.
    questions: u8,
    /// It was asked before the batch that is being written, which may take several writes.
    has_asked: bool,
}

impl Default for Pacing {
    fn default() -> Self {
        Self { questions: MAX_QUESTIONS, has_asked: false }
    }
}

impl Pacing {
    /// `bytes` of a batch are about to be written. Costs two system calls before the first batch that is more than a burst, and one
    /// where pacing spreads nothing: the kernel has usually measured the round trip of TCP's handshake by then. If not, the next
    /// batches ask again, at most [`MAX_QUESTIONS`] in all: a socket costs at most five system calls.
    #[inline]
    pub(super) fn before_write(&mut self, stream: &TcpStream, bytes: usize) {
        let ask = || {
            #[cfg(test)]
            crate::net::costs::count(|costs| costs.pace_questions += 1);
            tcp_info(stream).map(|info| info.min_rtt)
        };
        if self.is_wanted(bytes, ask) {
            pace(stream);
        }
    }

    /// The batch is written.
    #[inline]
    pub(super) fn after_batch(&mut self) {
        self.has_asked = false;
    }

    /// Whether pacing is to begin before `bytes` are written.
    fn is_wanted(&mut self, bytes: usize, round_trip: impl FnOnce() -> Option<Duration>) -> bool {
        if self.questions == 0 || self.has_asked || bytes < BURST {
            return false;
        }
        self.has_asked = true;
        let round_trip = round_trip();
        // Zero: the kernel has measured none yet, and the next batch decides.
        let is_open = round_trip.is_some_and(|round_trip| round_trip.is_zero());
        self.questions = if is_open { self.questions - 1 } else { 0 };
        round_trip.is_some_and(|round_trip| round_trip >= MIN_ROUND_TRIP)
    }
}

/// In bytes per second. Each rate but "no limit" has TCP pace, at its own rate if that is less.
#[cfg(any(target_os = "linux", target_os = "android"))]
const RATE: u64 = u64::MAX - 1;

/// A kernel that refuses leaves the socket as it is.
#[cfg(any(target_os = "linux", target_os = "android"))]
fn pace(stream: &TcpStream) {
    use std::os::fd::AsRawFd;

    #[cfg(test)]
    crate::net::costs::count(|costs| costs.paced += 1);
    let (rate, len) = (RATE, size_of::<u64>() as libc::socklen_t);
    // SAFETY: the kernel reads as many bytes as it is given, of a value that lives that long.
    unsafe {
        let value = (&raw const rate).cast();
        libc::setsockopt(stream.as_raw_fd(), libc::SOL_SOCKET, libc::SO_MAX_PACING_RATE, value, len);
    }
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn pace(_stream: &TcpStream) {}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(ms: u64) -> Option<Duration> {
        Some(Duration::from_millis(ms))
    }

    #[test]
    fn first_batch_of_more_than_a_burst_decides_by_the_round_trip() {
        let is_paced = |round_trip| Pacing::default().is_wanted(BURST, || round_trip);
        assert_eq!([ms(0), ms(1), ms(2), ms(80), None].map(is_paced), [false, false, true, true, false]);
    }

    #[test]
    fn kernel_is_asked_once_and_not_for_less_than_a_burst() {
        let mut asked = 0;
        let mut pacing = Pacing::default();
        for bytes in [100, BURST - 1, BURST, 100, 10 * BURST] {
            pacing.is_wanted(bytes, || {
                asked += 1;
                ms(1)
            });
            pacing.after_batch();
        }
        assert_eq!(asked, 1);
        assert!(!pacing.is_wanted(BURST, || ms(80)), "it is decided");
    }

    #[test]
    fn decision_stays_open_while_no_round_trip_is_measured() {
        let mut pacing = Pacing::default();
        assert!(!pacing.is_wanted(BURST, || ms(0)));
        assert!(!pacing.is_wanted(BURST, || ms(80)), "the rest of the same batch");
        pacing.after_batch();
        assert!(pacing.is_wanted(BURST, || ms(80)));
    }

    #[test]
    fn kernel_that_never_measures_a_round_trip_is_asked_four_times() {
        let (mut pacing, mut asked) = (Pacing::default(), 0);
        for _ in 0..1000 {
            let ask = || {
                asked += 1;
                ms(0)
            };
            assert!(!pacing.is_wanted(BURST, ask));
            pacing.after_batch();
        }
        assert_eq!(asked, 4);
        assert!(!pacing.is_wanted(BURST, || ms(80)), "it is decided");
    }

    #[cfg(any(target_os = "linux", target_os = "android"))]
    #[tokio::test]
    async fn kernel_paces_at_its_own_rate() {
        use std::os::fd::AsRawFd;

        use tokio::net::TcpListener;

        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let limit = || {
            let (mut rate, mut len) = (0_u64, size_of::<u64>() as libc::socklen_t);
            // SAFETY: the kernel writes at most `len` bytes into `rate`.
            let failed = unsafe {
                let to = (&raw mut rate).cast();
                libc::getsockopt(stream.as_raw_fd(), libc::SOL_SOCKET, libc::SO_MAX_PACING_RATE, to, &mut len)
            };
            assert_eq!(failed, 0);
            rate
        };
        assert_eq!(limit(), u64::MAX, "no limit, and no pacing");
        pace(&stream);
        assert_eq!(limit(), RATE);
    }
}
