//! Interfaces that come up during a session: a path from each that it does not use, and when to look for them.

use std::future::pending;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use crate::dial::{Device, Local, NetworkChange, Path};
use crate::links::Interface;
use crate::net::Session;
use crate::net::interfaces::{host, paths_to};

/// When to look for routes after an interface or an address was found: they come after the addresses.
const ROUTES_AFTER: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(5)];

/// When to look for interfaces with a route.
#[derive(Debug, Default)]
pub(super) struct Looks([Option<Instant>; 2]);

impl Looks {
    /// An address counts, too: a DHCP client gets one long after the interface is up. Further changes do not postpone the
    /// next look.
    pub(super) fn note(&mut self, now: Instant, change: NetworkChange) {
        if matches!(change, NetworkChange::DeviceFound(_) | NetworkChange::AddressFound(_)) {
            let [soon, late] = ROUTES_AFTER.map(|after| now + after);
            self.0 = [Some(self.next().map_or(soon, |next| next.min(soon))), Some(late)];
        }
    }

    fn next(&self) -> Option<Instant> {
        self.0.into_iter().flatten().next()
    }

    /// Waits for the next look. Cancel safe.
    pub(super) async fn due(&mut self) {
        match self.next() {
            Some(at) => sleep_until(at).await,
            None => pending().await,
        }
        if let Some(look) = self.0.iter_mut().find(|look| look.is_some()) {
            *look = None;
        }
    }
}

/// Where a TCP connection, or a path without one, begins.
#[derive(Clone, Copy, Debug)]
struct Used {
    device: Option<Device>,
    address: Option<IpAddr>,
}

/// Adds a path from each interface that leads to the session's server and is not used. What the system does not say is
/// left as it is.
pub(super) fn join_new(session: &Session) {
    let statuses = session.paths();
    let mut remotes: Vec<SocketAddr> = statuses.iter().map(|status| status.path.remote).collect();
    remotes.dedup();
    session.handle().with(|state| remotes.retain(|remote| state.conn.may_join_at(*remote)));
    let Ok(host) = host(&remotes) else { return };
    let used: Vec<Used> = session.handle().with(|state| {
        let address = |path: &Path, tcp: Option<_>| {
            let bound = path.local.or_else(|| state.conn.local_address(tcp?));
            bound.map(|address| address.ip().to_canonical())
        };
        let used = statuses.iter().map(|status| (status.path, address(&status.path, status.tcp)));
        used.map(|(path, address)| Used { device: path.device, address }).collect()
    });
    for path in unused(paths_to(&remotes), &used, &host.interfaces) {
        session.add_path(path.remote, Local::of(&path));
    }
}

/// The first of `chosen` from each interface that no path in `used` begins at.
fn unused(chosen: Vec<Path>, used: &[Used], interfaces: &[Interface]) -> Vec<Path> {
    let is_used = |device: Device| {
        let has = |address: IpAddr| {
            interfaces.iter().any(|interface| interface.device == device && interface.addresses.contains(&address))
        };
        used.iter().any(|used| used.device == Some(device) || (used.device.is_none() && used.address.is_some_and(has)))
    };
    let mut new: Vec<Path> = Vec::new();
    for path in chosen {
        let Some(device) = path.device else { continue };
        if !is_used(device) && !new.iter().any(|other| other.device == path.device) {
            new.push(path);
        }
    }
    new
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::links::Kind;

    #[tokio::test(start_paused = true)]
    async fn routes_are_looked_for_after_each_address_and_not_later_if_more_follow() {
        let (start, mut looks) = (Instant::now(), Looks::default());
        let second = Duration::from_secs(1);
        looks.note(start, NetworkChange::DeviceFound(Device::new("wlan0").unwrap()));
        looks.note(start + second / 2, NetworkChange::AddressFound([192, 0, 2, 7].into()));
        looks.note(start + second / 2, NetworkChange::AddressLost([192, 0, 2, 8].into()));
        for after in [second, second * 11 / 2] {
            looks.due().await;
            assert_eq!(start.elapsed(), after);
        }
        assert!(tokio::time::timeout(second * 3600, looks.due()).await.is_err());
        let now = Instant::now();
        looks.note(now, NetworkChange::AddressFound([198, 51, 100, 7].into()));
        looks.due().await;
        assert_eq!(now.elapsed(), second);
    }

    #[test]
    fn new_interface_gets_one_path_and_used_ones_get_none() {
        let [wifi, cable, phone] = ["wlan0", "eth0", "usb0"].map(|name| Device::new(name).unwrap());
        let with = |device, address: [u8; 4]| {
            let mut interface = Interface::new(device, Kind::Link);
            interface.addresses.push(address.into());
            interface
        };
        let host = [with(wifi, [192, 0, 2, 7]), with(cable, [198, 51, 100, 7]), with(phone, [203, 0, 113, 7])];
        let remotes = [1, 2].map(|n| SocketAddr::from(([10, 0, 0, n], 443)));
        let chosen: Vec<Path> = [wifi, cable, phone]
            .into_iter()
            .flat_map(|device| remotes.map(|remote| Local::from(device).to(remote)))
            .collect();
        let used = [
            // A TCP connection that the routes have sent over the Wi-Fi.
            Used { device: None, address: Some([192, 0, 2, 7].into()) },
            Used { device: Some(cable), address: None },
        ];
        let new = unused(chosen.clone(), &used, &host);
        assert_eq!(new, [Local::from(phone).to(remotes[0])]);
        assert_eq!(unused(chosen, &[], &host).len(), 3);
        assert_eq!(unused(vec![Path::from(remotes[0])], &used, &host), [], "the routes decide");
    }
}
