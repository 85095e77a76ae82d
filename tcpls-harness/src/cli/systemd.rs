//! systemd: sockets that it passes to a server, and notifications to it.

use std::net::TcpListener;

use socket2::SockRef;

use super::Outcome;

/// A state of a server that systemd wants to know (sd_notify(3)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// It accepts sessions.
    Ready,
    /// It closes its sessions.
    Stopping,
}

/// Takes the listening sockets that systemd passes (sd_listen_fds(3)). To be called once.
///
/// # Errors
/// There are none, or one is something else.
pub(super) fn sockets() -> Outcome<Vec<TcpListener>> {
    let passed = sd_listen_fds::get().map_err(|error| format!("can't take sockets from systemd: {error}"))?;
    if passed.is_empty() {
        return Err("systemd passes no socket: start the service by its socket unit, or pass --listen HOST:PORT".into());
    }
    let usable = |(name, descriptor): (Option<String>, sd_listen_fds::OwnedFd)| {
        let socket = TcpListener::from(descriptor);
        let has_address = socket.local_addr().is_ok();
        if has_address && listens(&socket) {
            return Ok(socket);
        }
        let name = name.unwrap_or_else(|| "without a name".to_owned());
        Err(format!(
            "the socket {name} from systemd is no listening TCP socket: write ListenStream=ADDRESS:PORT and Accept=no into \
             its unit"
        ))
    };
    Ok(passed.into_iter().map(usable).collect::<Result<_, _>>()?)
}

/// Whether a socket listens. That of a unit with Accept=yes is a TCP connection: accepting on it would fail for ever.
#[cfg(target_os = "linux")]
fn listens(socket: &TcpListener) -> bool {
    SockRef::from(socket).is_listener().unwrap_or(false)
}

#[cfg(not(target_os = "linux"))]
fn listens(socket: &TcpListener) -> bool {
    SockRef::from(socket).r#type().is_ok_and(|kind| kind == socket2::Type::STREAM)
}

/// Notifies systemd, if it wants that. What cannot be sent is left out: the server works without.
#[cfg(unix)]
pub(super) fn notify(state: State) {
    #[cfg(target_os = "linux")]
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::net::UnixDatagram;

    let Some(path) = std::env::var_os("NOTIFY_SOCKET") else { return };
    let Ok(socket) = UnixDatagram::unbound() else { return };
    let text: &[u8] = match state {
        State::Ready => b"READY=1",
        State::Stopping => b"STOPPING=1",
    };
    #[cfg(target_os = "linux")]
    if let Some(name) = path.as_bytes().strip_prefix(b"@") {
        use std::os::linux::net::SocketAddrExt;
        if let Ok(address) = std::os::unix::net::SocketAddr::from_abstract_name(name) {
            _ = socket.send_to_addr(text, &address);
        }
        return;
    }
    _ = socket.send_to(text, &path);
}

#[cfg(not(unix))]
pub(super) fn notify(_state: State) {}
