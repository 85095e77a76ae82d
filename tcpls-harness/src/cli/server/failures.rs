//! Failed handshakes and joins, and refused requests of unknown clients, in the log: a few at once, then one a second, and how many
//! more there were. A flood cannot fill a log.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tcpls_core::time::Time;
use tokio::time::{Instant, sleep_until};

use super::log::{Happening, Log};
use crate::cli::metrics::METRICS;
use crate::cli::status;
use crate::cli::text::visible;
use crate::net::{HandshakeFailures, HandshakeFault};
use crate::rate_limit::{Bucket, RateLimit};

/// Failures that are shown.
const SHOWN: RateLimit = RateLimit::new(20, Duration::from_secs(1));
/// How long the others are counted before their number is shown.
const COUNTED: Duration = Duration::from_secs(10);

/// Reports failures until the listener is gone.
pub(crate) async fn report(mut failures: HandshakeFailures, log: Log) {
    let mut throttle = Throttle::new(Instant::now());
    loop {
        let due = throttle.due();
        tokio::select! {
            failure = failures.next() => {
                let Some(failure) = failure else { break };
                METRICS.failed(&failure.fault);
                // A health check, or a scan: no client of ours.
                let is_news = failure.fault != HandshakeFault::Ended { received: 0 };
                if is_news && throttle.shows(Instant::now()) {
                    let (client, reason) = (failure.client, visible(&failure.fault.to_string()));
                    log.tell(&if failure.fault.is_of_join() {
                        let session = failure.session.as_ref().and_then(status::number_of);
                        Happening::JoinFailed { session, client, reason }
                    } else {
                        Happening::HandshakeFailed { client, reason }
                    });
                }
            }
            () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {
                log.tell(&Happening::HandshakesFailed { more: throttle.take_hidden() + missed(&mut failures) });
            }
        }
    }
    if throttle.due().is_some() {
        log.tell(&Happening::HandshakesFailed { more: throttle.take_hidden() + missed(&mut failures) });
    }
}

/// The failures that came too fast to be reported one by one.
fn missed(failures: &mut HandshakeFailures) -> u64 {
    let missed = failures.take_missed();
    METRICS.missed(missed);
    missed
}

/// Refused requests of clients that did not say who they are. Clones are one log.
#[derive(Clone, Debug)]
pub(crate) struct RefusedRequests(Arc<Mutex<Throttle>>);

impl RefusedRequests {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Mutex::new(Throttle::new(Instant::now()))))
    }

    /// Logs a refused request, or counts it. The number is logged later.
    pub(crate) fn tell(&self, refused: &Happening<'_>, log: Log) {
        let mut throttle = self.throttle();
        let was_due = throttle.due();
        if throttle.shows(Instant::now()) {
            drop(throttle);
            return log.tell(refused);
        }
        if let (None, Some(due)) = (was_due, throttle.due()) {
            let others = self.clone();
            tokio::spawn(async move {
                sleep_until(due).await;
                let more = others.throttle().take_hidden();
                log.tell(&Happening::RequestsRefused { more });
            });
        }
    }

    fn throttle(&self) -> MutexGuard<'_, Throttle> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Which failures are shown.
#[derive(Debug)]
struct Throttle {
    start: Instant,
    shown: Bucket,
    hidden: u64,
    due: Option<Instant>,
}

impl Throttle {
    fn new(now: Instant) -> Self {
        Self { start: now, shown: Bucket::new(SHOWN), hidden: 0, due: None }
    }

    /// Whether a failure that happens now is shown. If not, it is counted.
    fn shows(&mut self, now: Instant) -> bool {
        if self.shown.admit(Time::ZERO + (now - self.start)) {
            return true;
        }
        self.hidden += 1;
        self.due.get_or_insert(now + COUNTED);
        false
    }

    /// When the number of hidden failures is to be shown.
    fn due(&self) -> Option<Instant> {
        self.due
    }

    fn take_hidden(&mut self) -> u64 {
        self.due = None;
        std::mem::take(&mut self.hidden)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_shown_as_a_burst_then_one_a_second_and_a_number() {
        let start = Instant::now();
        let mut throttle = Throttle::new(start);
        let mut lines = 0;
        let mut counted = 0;
        for millisecond in 0..60_000 {
            let now = start + Duration::from_millis(millisecond);
            if throttle.due().is_some_and(|due| due <= now) {
                (lines, counted) = (lines + 1, counted + throttle.take_hidden());
            }
            lines += u64::from(throttle.shows(now));
        }
        assert_eq!(throttle.due().map(|due| due - start), Some(Duration::from_millis(60_020)));
        let shown = 60_000 - counted - throttle.take_hidden();
        assert_eq!((shown, lines), (20 + 59, 20 + 59 + 5));
        assert_eq!(throttle.due(), None);
    }

    #[test]
    fn rare_failures_are_all_shown() {
        let start = Instant::now();
        let mut throttle = Throttle::new(start);
        assert!((0..1000).all(|second| throttle.shows(start + Duration::from_secs(second))));
        assert_eq!(throttle.due(), None);
    }
}
