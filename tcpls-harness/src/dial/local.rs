//! Local ends of paths: an address of this host, a network interface, or both, what they cost, and what they share.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU8;
use std::str::FromStr;

use super::{Group, Path};

/// The longest name of an interface (`IFNAMSIZ` without its final zero).
const MAX_NAME: usize = 15;

/// A network interface of this host, by name (`wlan0`), or by number where the text has digits alone (`3`).
///
/// A TCP connection that is bound to one uses its routes alone. Where the operating system cannot bind to interfaces, or
/// does not allow it, connecting fails.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Device {
    name: [u8; MAX_NAME],
    len: NonZeroU8,
}

impl Device {
    /// Returns the interface of this name, which need not exist; `None` if no interface can have it.
    pub fn new(name: &str) -> Option<Self> {
        let is_possible = |byte: u8| byte != b'/' && !byte.is_ascii_whitespace() && !byte.is_ascii_control();
        if name.len() > MAX_NAME || !name.bytes().all(is_possible) {
            return None;
        }
        let mut bytes = [0; MAX_NAME];
        bytes[..name.len()].copy_from_slice(name.as_bytes());
        Some(Self { name: bytes, len: NonZeroU8::new(name.len() as u8)? })
    }

    /// Returns its name, or its number as text.
    pub fn name(&self) -> &str {
        std::str::from_utf8(&self.name[..usize::from(self.len.get())]).expect("made from text")
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Debug for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Device({:?})", self.name())
    }
}

impl FromStr for Device {
    type Err = NoDevice;

    fn from_str(text: &str) -> Result<Self, NoDevice> {
        Self::new(text).ok_or(NoDevice)
    }
}

/// The text is no name of a network interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoDevice;

impl fmt::Display for NoDevice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the name of an interface has 1 to {MAX_NAME} bytes, without spaces and slashes")
    }
}

impl std::error::Error for NoDevice {}

/// A local end of paths: an address, an interface, or both. With neither, the operating system's routes decide.
///
/// ```
/// use std::net::IpAddr;
/// use tcpls_harness::dial::{Device, Local};
///
/// let wifi = Local::from(Device::new("wlan0").unwrap());
/// let phone = Local::from(Device::new("usb0").unwrap()).metered();
/// let cable = Local::from(IpAddr::from([192, 0, 2, 7])).backup();
/// assert_eq!([wifi, phone, cable].map(|local| local.to_string()), ["wlan0", "usb0", "192.0.2.7"]);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Local {
    /// The address; port 0 selects a free one.
    pub address: Option<SocketAddr>,
    /// The interface.
    pub device: Option<Device>,
    /// Its TCP connections are backups: joined, and without data while another TCP connection answers.
    pub backup: bool,
    /// Data costs money there: TCP connections are opened only while no other path answers, and are backups.
    pub metered: bool,
    /// The paths with which it shares a bottleneck: one TCP connection of the group carries data.
    pub group: Option<Group>,
}

impl Local {
    /// Returns it as a backup.
    #[must_use]
    pub fn backup(self) -> Self {
        Self { backup: true, ..self }
    }

    /// Returns it as metered.
    #[must_use]
    pub fn metered(self) -> Self {
        Self { metered: true, ..self }
    }

    /// Returns it as a member of a group.
    #[must_use]
    pub fn in_group(self, group: Group) -> Self {
        Self { group: Some(group), ..self }
    }

    /// Returns it with an address.
    #[must_use]
    pub fn at(self, address: impl Into<IpAddr>) -> Self {
        Self { address: Some(SocketAddr::new(address.into(), 0)), ..self }
    }

    /// Whether `remote` can be of its family.
    pub(super) fn fits(&self, remote: &SocketAddr) -> bool {
        self.address.is_none_or(|address| address.is_ipv4() == remote.is_ipv4())
    }

    /// Returns the path from here to `remote`.
    pub fn to(&self, remote: SocketAddr) -> Path {
        Path { remote, local: self.address, device: self.device }
    }

    /// Returns the local end of `path`, without marks.
    pub fn of(path: &Path) -> Self {
        Self { address: path.local, device: path.device, ..Self::default() }
    }

    /// Whether `path` begins here.
    pub(super) fn is_of(&self, path: &Path) -> bool {
        let ip = |address: Option<SocketAddr>| address.map(|address| address.ip());
        ip(self.address) == ip(path.local) && self.device == path.device
    }
}

impl From<IpAddr> for Local {
    fn from(address: IpAddr) -> Self {
        Self::default().at(address)
    }
}

impl From<SocketAddr> for Local {
    fn from(address: SocketAddr) -> Self {
        Self { address: Some(address), ..Self::default() }
    }
}

impl From<Option<SocketAddr>> for Local {
    fn from(address: Option<SocketAddr>) -> Self {
        Self { address, ..Self::default() }
    }
}

impl From<Device> for Local {
    fn from(device: Device) -> Self {
        Self { device: Some(device), ..Self::default() }
    }
}

impl fmt::Display for Local {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.address, self.device) {
            (Some(address), Some(device)) => write!(f, "{} on {device}", address.ip()),
            (Some(address), None) => address.ip().fmt(f),
            (None, Some(device)) => device.fmt(f),
            (None, None) => f.write_str("any interface"),
        }
    }
}

/// Whether the address is of one link alone.
pub(crate) fn is_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    }
}
