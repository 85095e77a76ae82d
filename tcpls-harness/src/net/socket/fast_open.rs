//! TCP Fast Open (RFC 7413): what is written first rides in the SYN. Linux and Android; elsewhere without effect.
//!
//! With a cookie of the server's, `connect` succeeds before anything is sent: the TCP connection is *deferred*, and its
//! success shows nothing. A path on which a deferred one fails, or its data is lost with the SYN, gets none for an hour.

use std::collections::VecDeque;
use std::sync::PoisonError;
use std::time::Duration;

use tcpls_core::time::Time;
use tokio::net::{TcpListener, TcpSocket, TcpStream};

use super::tcp_info;
use crate::dial::Path;
use crate::net::os::now;
use crate::sync::Mutex;

/// How long a path gets no deferred TCP connections after one has failed.
const PENALTY: Duration = Duration::from_secs(3600);
/// Paths that are remembered.
const MAX_FAILED: usize = 256;
/// TCP repeats a lost SYN after this time, without data (RFC 6298, 2.1).
const SYN_TIMEOUT: Duration = Duration::from_secs(1);
/// TCP connections with data in their SYN that may wait for the end of TCP's handshake (RFC 7413, 5.1).
#[cfg(any(target_os = "linux", target_os = "android"))]
const QUEUE: libc::c_int = 256;

static FAILED: Mutex<Failed> = Mutex::new(Failed(VecDeque::new()));

/// Paths on which deferred TCP connections have failed, and when: of all sessions of the process.
struct Failed(VecDeque<(Path, Time)>);

impl Failed {
    fn note(&mut self, path: Path, at: Time) {
        self.0.retain(|(failed, _)| *failed != path);
        if self.0.len() >= MAX_FAILED {
            self.0.pop_front();
        }
        self.0.push_back((path, at));
    }

    fn allows(&self, path: Path, now: Time) -> bool {
        !self.0.iter().any(|(failed, at)| *failed == path && now < *at + PENALTY)
    }
}

fn with_failed<R>(f: impl FnOnce(&mut Failed) -> R) -> R {
    f(&mut FAILED.lock().unwrap_or_else(PoisonError::into_inner))
}

/// A TCP connection that is deferred, until bytes of the peer show that it works.
#[derive(Debug)]
pub(super) struct Deferred {
    path: Path,
    since: Time,
    /// It belongs to a session, which writes at once: before that there is no SYN.
    is_used: bool,
    has_answer: bool,
}

impl Deferred {
    /// A session writes to it now.
    pub(super) fn begin(&mut self) {
        self.is_used = true;
    }

    /// The first bytes of the peer have arrived.
    pub(super) fn note_answer(self, stream: &TcpStream) {
        self.answered(now(), || tcp_info::took_syn_data(stream));
    }

    /// An answer that came late, without the peer having taken the SYN's data, shows that the path drops such SYNs.
    fn answered(mut self, at: Time, took_syn_data: impl FnOnce() -> bool) {
        self.has_answer = true;
        if at - self.since >= SYN_TIMEOUT && !took_syn_data() {
            with_failed(|failed| failed.note(self.path, at));
        }
    }
}

impl Drop for Deferred {
    fn drop(&mut self) {
        if self.is_used && !self.has_answer {
            with_failed(|failed| failed.note(self.path, now()));
        }
    }
}

/// Lets the kernel defer the TCP connection that this socket is used for, if the path is not known to fail with that.
pub(super) fn allow(socket: &TcpSocket, path: Path) {
    if with_failed(|failed| failed.allows(path, now())) {
        set_connect(socket);
    }
}

/// Returns the note about a TCP connection that has just been connected, if it is deferred.
pub(super) fn deferred(stream: &TcpStream, path: Path) -> Option<Deferred> {
    tcp_info::is_opening(stream).then(|| Deferred { path, since: now(), is_used: false, has_answer: false })
}

/// Accepts data in SYNs.
#[cfg(any(target_os = "linux", target_os = "android"))]
pub(crate) fn accept(listener: &TcpListener) {
    use std::os::fd::AsRawFd;

    set(listener.as_raw_fd(), libc::TCP_FASTOPEN, QUEUE);
}

#[cfg(any(target_os = "linux", target_os = "android"))]
fn set_connect(socket: &TcpSocket) {
    use std::os::fd::AsRawFd;

    set(socket.as_raw_fd(), libc::TCP_FASTOPEN_CONNECT, 1);
}

/// A kernel that does not know the option does without.
#[cfg(any(target_os = "linux", target_os = "android"))]
fn set(descriptor: libc::c_int, option: libc::c_int, value: libc::c_int) {
    let len = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: the kernel reads as many bytes as it is given, of a value that lives that long.
    unsafe {
        libc::setsockopt(descriptor, libc::IPPROTO_TCP, option, (&raw const value).cast(), len);
    }
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
pub(crate) fn accept(_listener: &TcpListener) {}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn set_connect(_socket: &TcpSocket) {}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(port: u16) -> Path {
        Path { remote: ([192, 0, 2, 1], port).into(), local: None, device: None }
    }

    #[test]
    fn path_that_has_failed_is_remembered_for_an_hour() {
        let mut failed = Failed(VecDeque::new());
        assert!(failed.allows(path(1), Time::ZERO));
        failed.note(path(1), Time::from_millis(1000));
        assert!(!failed.allows(path(1), Time::from_millis(3_600_999)) && failed.allows(path(2), Time::ZERO));
        assert!(failed.allows(path(1), Time::from_millis(3_601_000)));
        failed.note(path(1), Time::from_millis(5_000_000));
        assert!(!failed.allows(path(1), Time::from_millis(5_000_001)), "it has failed again");
    }

    #[test]
    fn number_of_remembered_paths_is_bounded() {
        let mut failed = Failed(VecDeque::new());
        (0..1000).for_each(|port| failed.note(path(port), Time::ZERO));
        assert_eq!(failed.0.len(), MAX_FAILED);
        assert!(failed.allows(path(743), Time::ZERO) && !failed.allows(path(744), Time::ZERO));
    }

    #[test]
    fn path_whose_answer_is_late_without_the_data_of_the_syn_has_failed() {
        let answered = |port, after, took_syn_data: bool| {
            let since = now();
            let deferred = Deferred { path: path(port), since, is_used: true, has_answer: false };
            deferred.answered(since + after, || took_syn_data);
            with_failed(|failed| failed.allows(path(port), since + after))
        };
        let late = SYN_TIMEOUT;
        assert!(answered(8, late, true), "the path is long");
        assert!(answered(8, late - Duration::from_millis(1), false), "the server has another cookie");
        assert!(!answered(8, late, false), "the SYN was repeated, without data");
    }

    #[test]
    fn deferred_tcp_connection_that_ends_without_an_answer_has_failed() {
        drop(Deferred { path: path(7), since: now(), is_used: true, has_answer: true });
        drop(Deferred { path: path(7), since: now(), is_used: false, has_answer: false });
        assert!(with_failed(|failed| failed.allows(path(7), now())));
        drop(Deferred { path: path(7), since: now(), is_used: true, has_answer: false });
        assert!(!with_failed(|failed| failed.allows(path(7), now())));
    }
}
