//! Sets options of a socket while it is in use.

use std::io;

use socket2::SockRef;
use tcpls_core::event::OptionOutcome;

use super::{TcpStream, keep_alive_at};
use crate::net::tcp_option::{SocketOption, TcpOption};

/// The congestion controls that every process may use, as the kernel lists them; none where it does not.
pub(crate) fn unrestricted() -> String {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    {
        std::fs::read_to_string("/proc/sys/net/ipv4/tcp_allowed_congestion_control").unwrap_or_default()
    }
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    {
        String::new()
    }
}

/// Sets an option.
pub(super) fn set(stream: &TcpStream, option: &TcpOption) -> OptionOutcome {
    match try_set(stream, option) {
        None => OptionOutcome::Unknown,
        Some(Ok(())) => OptionOutcome::Applied,
        // Linux has ENOENT for a congestion control that it does not have.
        Some(Err(error)) if error.kind() == io::ErrorKind::NotFound => OptionOutcome::Unknown,
        Some(Err(_)) => OptionOutcome::Refused,
    }
}

/// `None` if the system does not have such an option.
fn try_set(stream: &TcpStream, option: &TcpOption) -> Option<io::Result<()>> {
    let socket = SockRef::from(stream);
    match option {
        TcpOption::KeepAlive(Some(after)) => Some(keep_alive_at(&socket, *after)),
        TcpOption::KeepAlive(None) => Some(socket.set_keepalive(false)),
        #[cfg(any(target_os = "linux", target_os = "android"))]
        TcpOption::UserTimeout(time) => Some(socket.set_tcp_user_timeout(Some(*time))),
        #[cfg(any(target_os = "linux", target_os = "android"))]
        TcpOption::CongestionControl(name) => Some(socket.set_tcp_congestion(name.as_str().as_bytes())),
        #[cfg(all(feature = "programs", unix))]
        TcpOption::CongestionProgram(_) => None,
        TcpOption::Socket(option, value) => set_number(stream, *option, *value),
        #[cfg(not(any(target_os = "linux", target_os = "android")))]
        TcpOption::UserTimeout(_) | TcpOption::CongestionControl(_) => None,
    }
}

fn set_number(stream: &TcpStream, option: SocketOption, value: u32) -> Option<io::Result<()>> {
    let socket = SockRef::from(stream);
    match option {
        SocketOption::SendBuffer => Some(socket.set_send_buffer_size(value as usize)),
        SocketOption::ReceiveBuffer => Some(socket.set_recv_buffer_size(value as usize)),
        #[cfg(any(target_os = "linux", target_os = "android"))]
        SocketOption::MaxSegment => Some(socket.set_tcp_mss(value)),
        #[cfg(any(target_os = "linux", target_os = "android"))]
        SocketOption::ThinLinearTimeouts => Some(socket.set_tcp_thin_linear_timeouts(value > 0)),
        #[cfg(any(target_os = "linux", target_os = "android"))]
        SocketOption::TypeOfService if stream.local_addr().is_ok_and(|local| local.is_ipv6()) => {
            Some(socket.set_tclass_v6(value))
        }
        #[cfg(any(target_os = "linux", target_os = "android"))]
        SocketOption::TypeOfService => Some(socket.set_tos_v4(value)),
        #[cfg(not(any(target_os = "linux", target_os = "android")))]
        _ => None,
    }
}

#[cfg(all(test, any(target_os = "linux", target_os = "android")))]
mod tests {
    use std::time::Duration;

    use tokio::net::TcpListener;

    use super::*;
    use crate::net::tcp_option::CongestionName;

    #[tokio::test]
    async fn options_are_set_on_the_socket() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let socket = SockRef::from(&stream);
        let set = |option| set(&stream, &option);
        assert_eq!(set(TcpOption::UserTimeout(Duration::from_secs(30))), OptionOutcome::Applied);
        assert_eq!(socket.tcp_user_timeout().unwrap(), Some(Duration::from_secs(30)));
        let congestion = |name| TcpOption::CongestionControl(CongestionName::new(name).unwrap());
        assert_eq!(set(congestion("reno")), OptionOutcome::Applied);
        assert!(socket.tcp_congestion().unwrap().starts_with(b"reno\0"));
        assert_ne!(set(congestion("no-such-thing")), OptionOutcome::Applied);
        assert!(socket.tcp_congestion().unwrap().starts_with(b"reno\0"));
        assert_eq!(set(TcpOption::KeepAlive(Some(Duration::from_secs(40)))), OptionOutcome::Applied);
        assert!(socket.keepalive().unwrap());
        assert_eq!(socket.tcp_keepalive_time().unwrap(), Duration::from_secs(40));
        assert_eq!(set(TcpOption::KeepAlive(None)), OptionOutcome::Applied);
        assert!(!socket.keepalive().unwrap());
        assert_eq!(set(TcpOption::Socket(SocketOption::TypeOfService, 0x20)), OptionOutcome::Applied);
        assert_eq!(socket.tos_v4().unwrap(), 0x20);
        assert_eq!(set(TcpOption::Socket(SocketOption::SendBuffer, 100_000)), OptionOutcome::Applied);
        assert_eq!(socket.send_buffer_size().unwrap(), 200_000, "the kernel doubles it");
        assert_eq!(set(TcpOption::Socket(SocketOption::MaxSegment, 1)), OptionOutcome::Refused, "too short");
    }
}
