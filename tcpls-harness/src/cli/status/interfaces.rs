//! Which interface has an address of this host.

use std::collections::BTreeMap;
use std::net::IpAddr;

/// The interfaces by address.
#[derive(Debug, Default)]
pub(super) struct Interfaces(BTreeMap<IpAddr, String>);

impl Interfaces {
    /// Asks the operating system; on others than Linux, no interface is known.
    pub(super) fn list() -> Self {
        Self(system::list())
    }

    /// The interface with this address.
    pub(super) fn name(&self, address: IpAddr) -> Option<String> {
        self.0.get(&address).cloned()
    }
}

#[cfg(any(target_os = "linux", target_os = "android"))]
mod system {
    use std::collections::BTreeMap;
    use std::ffi::CStr;
    use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

    pub(super) fn list() -> BTreeMap<IpAddr, String> {
        let mut names = BTreeMap::new();
        let mut first = std::ptr::null_mut();
        // SAFETY: the pointer is to a variable that lives until after the call.
        if unsafe { libc::getifaddrs(&mut first) } != 0 {
            return names;
        }
        let mut next = first;
        // SAFETY: `next` is null, or an entry of the list, which is freed only below.
        while let Some(entry) = unsafe { next.as_ref() } {
            next = entry.ifa_next;
            if let Some(address) = address(entry) {
                // SAFETY: the name of an entry is a C string that lives as long as the list.
                let name = unsafe { CStr::from_ptr(entry.ifa_name) };
                names.insert(address, name.to_string_lossy().into_owned());
            }
        }
        // SAFETY: the list is from getifaddrs, and no reference into it is left.
        unsafe { libc::freeifaddrs(first) };
        names
    }

    fn address(entry: &libc::ifaddrs) -> Option<IpAddr> {
        // SAFETY: the address of an entry is null or as long as its family demands.
        unsafe {
            match i32::from(entry.ifa_addr.as_ref()?.sa_family) {
                libc::AF_INET => {
                    let address = entry.ifa_addr.cast::<libc::sockaddr_in>().read_unaligned();
                    Some(Ipv4Addr::from(u32::from_be(address.sin_addr.s_addr)).into())
                }
                libc::AF_INET6 => {
                    let address = entry.ifa_addr.cast::<libc::sockaddr_in6>().read_unaligned();
                    Some(Ipv6Addr::from(address.sin6_addr.s6_addr).into())
                }
                _ => None,
            }
        }
    }
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
mod system {
    use std::collections::BTreeMap;
    use std::net::IpAddr;

    pub(super) fn list() -> BTreeMap<IpAddr, String> {
        BTreeMap::new()
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn the_loopback_interface_has_the_loopback_address() {
        assert_eq!(Interfaces::list().name(IpAddr::from([127, 0, 0, 1])).as_deref(), Some("lo"));
        assert_eq!(Interfaces::list().name(IpAddr::from([192, 0, 2, 1])), None);
    }
}
