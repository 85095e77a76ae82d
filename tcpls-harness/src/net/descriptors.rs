//! What to do when the operating system has no file descriptor left.

use std::io;
use std::time::Duration;

/// How long it takes until a descriptor that is about to be closed is free.
pub(crate) const DESCRIPTOR_PAUSE: Duration = Duration::from_millis(1);
/// Pauses between attempts do not become longer than this.
#[cfg(any(feature = "files", feature = "sim"))]
const MAX_PAUSE: Duration = Duration::from_millis(50);
/// After this number of attempts, which take 5 s, there will be none.
#[cfg(any(feature = "files", feature = "sim"))]
const MAX_ATTEMPTS: u32 = 100;

/// Whether the process, or the system, has as many files open as it may.
pub(crate) fn are_used_up(error: &io::Error) -> bool {
    const ENFILE: i32 = 23;
    const EMFILE: i32 = 24;
    cfg!(unix) && matches!(error.raw_os_error(), Some(ENFILE | EMFILE))
}

/// Pauses between attempts to open something.
#[cfg(any(feature = "files", feature = "sim"))]
#[derive(Debug, Default)]
pub(crate) struct Attempts(u32);

#[cfg(any(feature = "files", feature = "sim"))]
impl Attempts {
    /// Waits before the next attempt; false, at once, after the last one.
    pub(crate) async fn pause(&mut self) -> bool {
        self.0 += 1;
        if self.0 >= MAX_ATTEMPTS {
            return false;
        }
        let doubled = DESCRIPTOR_PAUSE * 2_u32.pow(self.0.min(8) - 1);
        tokio::time::sleep(doubled.min(MAX_PAUSE)).await;
        true
    }
}
