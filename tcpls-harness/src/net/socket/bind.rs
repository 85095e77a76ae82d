//! Where a TCP connection begins on this host: its socket is bound to an address, to a network interface, or to both.

use std::{error, fmt, io};

use tokio::net::TcpSocket;

use crate::dial::{Device, Local, Path};

/// Binds `socket` to the local end of `path`, as far as that is given.
pub(super) fn bind(socket: &TcpSocket, path: Path) -> io::Result<()> {
    let fails = |local: Local| {
        move |error: io::Error| {
            let kind = error.kind();
            io::Error::new(kind, NotBound { local, error })
        }
    };
    if let Some(device) = path.device {
        to_device(socket, device, path.remote.is_ipv4()).map_err(fails(device.into()))?;
    }
    if let Some(local) = path.local {
        #[cfg(any(target_os = "linux", target_os = "android"))]
        if local.port() == 0 {
            select_port_at_connect(socket);
        }
        socket.bind(local).map_err(fails(local.into()))?;
    }
    Ok(())
}

/// Leaves the choice of the port to `connect`, which can take one that other sockets use for other remote ends.
///
/// Otherwise TCP connections to one remote end would use up the ports of an address. Without effect before Linux 4.2.
#[cfg(any(target_os = "linux", target_os = "android"))]
fn select_port_at_connect(socket: &TcpSocket) {
    use std::os::fd::AsRawFd;

    let (on, len) = (1_i32, size_of::<i32>() as libc::socklen_t);
    // SAFETY: the kernel reads as many bytes as it is given, of a value that lives that long.
    unsafe {
        let value = (&raw const on).cast();
        libc::setsockopt(socket.as_raw_fd(), libc::IPPROTO_IP, libc::IP_BIND_ADDRESS_NO_PORT, value, len);
    }
}

/// Whether a TCP connection failed at its local end.
pub(crate) fn is_local(error: &io::Error) -> bool {
    error.get_ref().is_some_and(|error| error.is::<NotBound>())
}

/// A socket could not be bound.
#[derive(Debug)]
struct NotBound {
    local: Local,
    error: io::Error,
}

impl fmt::Display for NotBound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { local, error } = self;
        write!(f, "can't bind to {local}: {error}")?;
        f.write_str(match (local.device, error.kind()) {
            (Some(_), io::ErrorKind::PermissionDenied) => {
                "; Linux before 5.7 requires CAP_NET_RAW for interfaces: use an address of the interface"
            }
            (Some(_), io::ErrorKind::Unsupported) => "; use an address of the interface",
            (None, io::ErrorKind::AddrNotAvailable) => "; no interface of this host has this address now",
            _ => "",
        })
    }
}

impl error::Error for NotBound {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        self.error.source()
    }
}

/// Without privileges since Linux 5.7, if the socket is not bound to an interface yet.
#[cfg(any(target_os = "linux", target_os = "android"))]
pub(crate) fn to_device(socket: &impl std::os::fd::AsFd, device: Device, _v4: bool) -> io::Result<()> {
    let socket = socket2::SockRef::from(socket);
    match device.name().parse() {
        Ok(index) => socket.bind_device_by_index_v4(Some(index)),
        Err(_) => socket.bind_device(Some(device.name().as_bytes())),
    }
}

#[cfg(target_vendor = "apple")]
pub(crate) fn to_device(socket: &impl std::os::fd::AsFd, device: Device, v4: bool) -> io::Result<()> {
    let (socket, index) = (socket2::SockRef::from(socket), Some(index(device)?));
    if v4 { socket.bind_device_by_index_v4(index) } else { socket.bind_device_by_index_v6(index) }
}

/// `IP_UNICAST_IF`: routes and source addresses of this interface alone.
#[cfg(windows)]
pub(crate) fn to_device(socket: &impl std::os::windows::io::AsRawSocket, device: Device, v4: bool) -> io::Result<()> {
    use windows_sys::Win32::Networking::WinSock::{
        IP_UNICAST_IF, IPPROTO_IP, IPPROTO_IPV6, IPV6_UNICAST_IF, setsockopt,
    };

    let index = index(device)?.get();
    // In network byte order for IPv4, in that of the host for IPv6.
    let (level, option, value) =
        if v4 { (IPPROTO_IP, IP_UNICAST_IF, index.to_be()) } else { (IPPROTO_IPV6, IPV6_UNICAST_IF, index) };
    let bytes = value.to_ne_bytes();
    // SAFETY: Winsock reads as many bytes as it is given, of an array that lives that long.
    let result =
        unsafe { setsockopt(socket.as_raw_socket() as usize, level, option, bytes.as_ptr(), bytes.len() as i32) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(not(any(target_os = "linux", target_os = "android", target_vendor = "apple", windows)))]
pub(crate) fn to_device<S>(_socket: &S, _device: Device, _v4: bool) -> io::Result<()> {
    Err(io::Error::new(io::ErrorKind::Unsupported, "sockets can't be bound to interfaces on this system"))
}

/// The number of an interface.
#[cfg(any(target_vendor = "apple", windows))]
fn index(device: Device) -> io::Result<std::num::NonZeroU32> {
    use std::ffi::CString;
    use std::num::NonZeroU32;

    if let Ok(index) = device.name().parse() {
        return Ok(index);
    }
    let name = CString::new(device.name())?;
    // SAFETY: the name ends with a zero, and lives until the call returns.
    #[cfg(windows)]
    let index = unsafe { windows_sys::Win32::NetworkManagement::IpHelper::if_nametoindex(name.as_ptr().cast()) };
    // SAFETY: the name ends with a zero, and lives until the call returns.
    #[cfg(not(windows))]
    let index = unsafe { libc::if_nametoindex(name.as_ptr()) };
    NonZeroU32::new(index).ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "there is no such interface"))
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::net::SocketAddr;

    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn port_of_a_bound_socket_is_selected_when_it_connects() {
        for any in ["127.0.0.1:0", "[::1]:0"] {
            let any: SocketAddr = any.parse().unwrap();
            let Ok(listener) = TcpListener::bind(any).await else { continue };
            let socket = if any.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }.unwrap();
            bind(&socket, Path { local: Some(any), ..Path::from(listener.local_addr().unwrap()) }).unwrap();
            assert_eq!(socket.local_addr().unwrap(), any);
            let stream = socket.connect(listener.local_addr().unwrap()).await.unwrap();
            assert_ne!(stream.local_addr().unwrap().port(), 0);
        }
    }
    use crate::net::socket::{SocketOptions, connect};

    /// Connects to a listener on loopback.
    async fn from(local: Local) -> io::Result<()> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let [path] = Path::pairs(&[listener.local_addr()?], &[local])[..] else { panic!("one path") };
        let stream = connect(path, &SocketOptions::default()).await?;
        let bound = socket2::SockRef::from(&stream).device()?;
        assert_eq!(bound.is_some(), local.device.is_some());
        let begins = stream.local_addr()?.ip();
        assert!(local.address.is_none_or(|address| address.ip() == begins));
        Ok(())
    }

    #[tokio::test]
    async fn socket_is_bound_to_no_interface_unless_one_is_named() {
        for local in [Local::default(), Local::from(std::net::IpAddr::from([127, 0, 0, 5]))] {
            from(local).await.unwrap();
        }
    }

    #[tokio::test]
    async fn socket_is_bound_to_the_interface_by_name_and_by_number() {
        let lo = Device::new("lo").unwrap();
        let number = std::fs::read_to_string("/sys/class/net/lo/ifindex").unwrap();
        for local in [lo.into(), Device::new(number.trim()).unwrap().into(), Local::from(lo).at([127, 0, 0, 5])] {
            from(local).await.unwrap();
        }
    }

    #[tokio::test]
    async fn end_that_this_host_does_not_have_is_named() {
        let nowhere = Local::from(SocketAddr::from(([192, 0, 2, 1], 0)));
        for (local, text) in [
            (Device::new("no-such").unwrap().into(), "can't bind to no-such: No such device"),
            (nowhere, "can't bind to 192.0.2.1: Cannot assign requested address"),
        ] {
            let error = from(local).await.unwrap_err();
            assert!(is_local(&error) && error.to_string().starts_with(text), "{error}");
        }
    }
}
