//! Queries of the kernel's state of a TCP connection. On systems other than Linux and Android there is none, and only
//! the session's acknowledgments show dark paths.

use tcpls_core::connection::TcpInfo;
use tokio::net::TcpStream;

/// Segments that may leave at once after a pause (RFC 6928).
#[cfg(any(target_os = "linux", target_os = "android"))]
const RESTART_WINDOW: u32 = 10;

/// A state of TCP, and an option that a TCP connection has, as the kernel numbers them.
#[cfg(any(target_os = "linux", target_os = "android"))]
const SYN_SENT: u8 = 2;
#[cfg(any(target_os = "linux", target_os = "android"))]
const SYN_DATA: u8 = 32;

/// Whether the handshake of TCP is not complete, or has not begun. Costs one system call.
#[cfg(any(target_os = "linux", target_os = "android"))]
pub(crate) fn is_opening(stream: &TcpStream) -> bool {
    get(stream).is_some_and(|info| info.tcpi_state == SYN_SENT)
}

/// Whether the peer's TCP has acknowledged data of the SYN. Costs one system call.
#[cfg(any(target_os = "linux", target_os = "android"))]
pub(crate) fn took_syn_data(stream: &TcpStream) -> bool {
    get(stream).is_some_and(|info| info.tcpi_options & SYN_DATA > 0)
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
pub(crate) fn is_opening(_stream: &TcpStream) -> bool {
    false
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
pub(crate) fn took_syn_data(_stream: &TcpStream) -> bool {
    false
}

/// Asks the kernel. Never blocks; costs one system call.
#[cfg(any(target_os = "linux", target_os = "android"))]
pub(crate) fn tcp_info(stream: &TcpStream) -> Option<TcpInfo> {
    use std::time::Duration;

    use tcpls_core::time::Time;

    // Before the handshake of TCP, nothing is known of the path.
    let info = get(stream).filter(|info| info.tcpi_state != SYN_SENT)?;
    let age = u64::from(info.tcpi_last_ack_recv).saturating_mul(1_000_000);
    let rtt = Duration::from_micros(info.tcpi_rtt.into());
    // u32::MAX stands for "not measured yet".
    let min_rtt = Duration::from_micros(info.tcpi_min_rtt.into()).min(rtt);
    let heard = Time::from_nanos(crate::net::os::now().as_nanos().saturating_sub(age));
    // Behind a hole, what is acknowledged selectively, or has arrived and can't be read, shows that the path carries data.
    let beyond_a_hole = u64::from(info.tcpi_delivered) + u64::from(info.tcpi_rcv_ooopack);
    let acked = info.tcpi_bytes_acked + beyond_a_hole;
    Some(TcpInfo::default().with(|i| {
        i.heard = heard;
        i.unacked = info.tcpi_unacked;
        i.rtt = rtt;
        i.min_rtt = min_rtt;
        i.acked = acked;
    }))
}

/// Bytes that the congestion window allows to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Window {
    /// At once, besides what is under way.
    pub(crate) free: usize,
    /// When nothing is under way, after a pause or without one.
    pub(crate) after_pause: usize,
}

/// Asks the kernel. Never blocks; costs one system call.
#[cfg(any(target_os = "linux", target_os = "android"))]
pub(crate) fn window(stream: &TcpStream) -> Option<Window> {
    let info = get(stream)?;
    // After a pause the window is made small again, but only as the next segment leaves (RFC 5681, 4.1).
    let has_paused = u64::from(info.tcpi_last_data_sent) * 1000 > u64::from(info.tcpi_rto);
    let after_pause = info.tcpi_snd_cwnd.min(RESTART_WINDOW);
    let segments = if has_paused { after_pause } else { info.tcpi_snd_cwnd }.saturating_sub(info.tcpi_unacked);
    let bytes = |segments: u32| segments as usize * info.tcpi_snd_mss as usize;
    Some(Window { free: bytes(segments), after_pause: bytes(after_pause) })
}

/// The state of the bytes that were written to a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SendQueue {
    /// Bytes that the peer's kernel has acknowledged.
    pub(crate) acked: u64,
    /// About how many bytes are not acknowledged: those under way are counted in segments.
    pub(crate) held: u64,
}

/// Asks the kernel. Never blocks; costs one system call.
#[cfg(any(target_os = "linux", target_os = "android"))]
pub(crate) fn send_queue(stream: &TcpStream) -> Option<SendQueue> {
    let info = get(stream)?;
    let under_way = u64::from(info.tcpi_unacked) * u64::from(info.tcpi_snd_mss);
    Some(SendQueue { acked: info.tcpi_bytes_acked, held: under_way + u64::from(info.tcpi_notsent_bytes) })
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
pub(crate) fn send_queue(_stream: &TcpStream) -> Option<SendQueue> {
    None
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
pub(crate) fn tcp_info(_stream: &TcpStream) -> Option<TcpInfo> {
    None
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
pub(crate) fn window(_stream: &TcpStream) -> Option<Window> {
    None
}

#[cfg(any(target_os = "linux", target_os = "android"))]
fn get(stream: &TcpStream) -> Option<libc::tcp_info> {
    use std::os::fd::AsRawFd;

    #[cfg(test)]
    crate::net::costs::count(|costs| costs.questions += 1);
    let mut info = std::mem::MaybeUninit::<libc::tcp_info>::zeroed();
    let mut len = size_of::<libc::tcp_info>() as libc::socklen_t;
    // SAFETY: the kernel writes at most `len` bytes into `info`, which is as long and lives until after the call.
    let failed = unsafe {
        let to = info.as_mut_ptr().cast();
        libc::getsockopt(stream.as_raw_fd(), libc::IPPROTO_TCP, libc::TCP_INFO, to, &mut len)
    };
    // SAFETY: all bytes are initialised, to zero where an older kernel wrote none, and any bytes make a `tcp_info` of integers.
    (failed == 0).then(|| unsafe { info.assume_init() })
}

#[cfg(all(test, any(target_os = "linux", target_os = "android")))]
mod tests {
    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    #[tokio::test]
    async fn tcp_info_has_the_last_arrival_and_the_round_trip_time() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let info = tcp_info(&stream).unwrap();
        assert_eq!(info.unacked, 0);
        assert!(info.heard <= crate::net::os::now());
        assert!(!info.rtt.is_zero() && info.min_rtt <= info.rtt, "{info:?}");
        let window = window(&stream).unwrap();
        assert!(window.after_pause > 1000 && window.free >= window.after_pause, "{window:?}");
    }
}
