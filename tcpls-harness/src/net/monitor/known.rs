//! What is known of this host's interfaces, and what differs from it.

use std::collections::BTreeSet;
use std::net::IpAddr;

use crate::dial::{Device, NetworkChange};

/// An address of an interface.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seen {
    pub(super) device: Device,
    /// Whether the interface is up, with a carrier.
    pub(super) up: bool,
    pub(super) address: IpAddr,
}

/// The addresses that can be used, and the interfaces that have any.
#[derive(Debug, Default)]
pub(super) struct Known {
    addresses: BTreeSet<IpAddr>,
    devices: BTreeSet<Device>,
}

impl Known {
    /// Takes over what is seen; returns the changes, losses first. An address that two interfaces have is lost with the
    /// second.
    pub(super) fn update(&mut self, seen: Vec<Seen>) -> Vec<NetworkChange> {
        let usable = || seen.iter().filter(|seen| seen.up);
        let new = Self {
            addresses: usable().map(|seen| seen.address).collect(),
            devices: usable().map(|seen| seen.device).collect(),
        };
        let old = std::mem::replace(self, new);
        let lost = old.addresses.difference(&self.addresses).copied().map(NetworkChange::AddressLost);
        let lost = lost.chain(old.devices.difference(&self.devices).copied().map(NetworkChange::DeviceLost));
        let found = self.addresses.difference(&old.addresses).copied().map(NetworkChange::AddressFound);
        let found = found.chain(self.devices.difference(&old.devices).copied().map(NetworkChange::DeviceFound));
        lost.chain(found).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::NetworkChange::{AddressFound, AddressLost, DeviceFound, DeviceLost};
    use super::*;

    fn seen(device: &str, up: bool, address: [u8; 4]) -> Seen {
        Seen { device: Device::new(device).unwrap(), up, address: address.into() }
    }

    #[test]
    fn interface_that_goes_down_takes_its_addresses_with_it() {
        let (wifi, lan) = (Device::new("wlan0").unwrap(), [192, 0, 2, 7]);
        let mut known = Known::default();
        let lo = seen("lo", true, [127, 0, 0, 1]);
        known.update(vec![lo]);
        let found = known.update(vec![lo, seen("wlan0", true, lan)]);
        assert_eq!(found, [AddressFound(lan.into()), DeviceFound(wifi)]);
        assert_eq!(known.update(vec![lo, seen("wlan0", true, lan)]), []);
        // Linux keeps the IPv4 addresses of an interface that is down.
        let lost = known.update(vec![lo, seen("wlan0", false, lan)]);
        assert_eq!(lost, [AddressLost(lan.into()), DeviceLost(wifi)]);
        assert_eq!(known.update(vec![lo]), []);
    }

    #[test]
    fn another_address_of_an_interface_is_no_other_interface() {
        let (old, new) = ([192, 0, 2, 7], [198, 51, 100, 7]);
        let mut known = Known::default();
        known.update(vec![seen("wlan0", true, old)]);
        let changes = known.update(vec![seen("wlan0", true, new)]);
        assert_eq!(changes, [AddressLost(old.into()), AddressFound(new.into())]);
    }

    #[test]
    fn address_of_two_interfaces_is_lost_with_the_second() {
        let (both, device) = ([192, 0, 2, 7], |name| Device::new(name).unwrap());
        let mut known = Known::default();
        known.update(vec![seen("eth0", true, both), seen("eth1", true, both)]);
        let one = known.update(vec![seen("eth0", false, both), seen("eth1", true, both)]);
        assert_eq!(one, [DeviceLost(device("eth0"))]);
        assert_eq!(known.update(vec![]), [AddressLost(both.into()), DeviceLost(device("eth1"))]);
    }
}
