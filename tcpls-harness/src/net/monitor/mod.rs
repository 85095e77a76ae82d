//! Watches this host's network and its sleep, and reports changes to sessions. Nothing wakes the process while nothing
//! changes.
//!
//! | file | subject |
//! | --- | --- |
//! | `mod` | [`NetworkMonitor`] |
//! | `uplinks` | interfaces that a session does not use yet |
//! | `known` | what is known of the interfaces, and what differs from it: without sockets |
//! | `linux` | when to look again, and whether the host was asleep, from Linux |

mod known;
#[cfg(any(target_os = "linux", target_os = "android"))]
mod linux;
mod uplinks;

use std::collections::VecDeque;
use std::io;

use tokio::time::Instant;

use self::known::{Known, Seen};
#[cfg(any(target_os = "linux", target_os = "android"))]
use self::linux::Notices;
use self::uplinks::Looks;
use crate::dial::{Device, NetworkChange};
use crate::net::Session;

/// When to look again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(not(any(target_os = "linux", target_os = "android")), expect(dead_code, reason = "nothing reports there"))]
enum Notice {
    /// An interface or an address may have changed.
    Network,
    /// The host was asleep.
    Resumed,
}

/// The changes of this host's network: addresses and interfaces that are lost or found, and the end of a suspend.
///
/// On Linux the kernel reports them (rtnetlink, and a timer that a suspend cancels); other systems are not supported yet.
#[derive(Debug)]
pub struct NetworkMonitor {
    notices: Notices,
    known: Known,
    changes: VecDeque<NetworkChange>,
    joins_new: bool,
}

impl NetworkMonitor {
    /// Begins to watch. Call it within a tokio runtime.
    ///
    /// # Errors
    /// The system is not supported ([`io::ErrorKind::Unsupported`]), or does not allow it.
    pub fn new() -> io::Result<Self> {
        let notices = Notices::new()?; // first, so that no change is missed
        let mut known = Known::default();
        known.update(look()?);
        Ok(Self { notices, known, changes: VecDeque::new(), joins_new: false })
    }

    /// Makes [`NetworkMonitor::report_to`] add paths from interfaces that come up later, where
    /// [`paths_to`](crate::net::interfaces::paths_to) chooses them.
    #[must_use]
    pub fn joining_new_interfaces(self, joins: bool) -> Self {
        Self { joins_new: joins, ..self }
    }

    /// Waits for the next change. Cancel safe.
    ///
    /// # Errors
    /// The system reports nothing more.
    pub async fn next(&mut self) -> io::Result<NetworkChange> {
        loop {
            if let Some(change) = self.changes.pop_front() {
                return Ok(change);
            }
            let notice = self.notices.next().await?;
            self.changes.extend(self.known.update(look()?));
            // After the addresses: what is dialed then uses those that are there.
            self.changes.extend((notice == Notice::Resumed).then_some(NetworkChange::Resumed));
        }
    }

    /// Reports all changes to `session` until it has ended.
    ///
    /// # Errors
    /// As [`NetworkMonitor::next`].
    pub async fn report_to(mut self, session: &Session) -> io::Result<()> {
        let mut looks = Looks::default();
        loop {
            tokio::select! {
                change = self.next() => {
                    let change = change?;
                    session.handle_network_change(change);
                    if self.joins_new {
                        looks.note(Instant::now(), change);
                    }
                }
                () = looks.due() => uplinks::join_new(session),
                _ = session.closed() => return Ok(()),
            }
        }
    }
}

/// The interfaces of this host.
fn look() -> io::Result<Vec<Seen>> {
    use getifaddrs::InterfaceFlags;
    let up = InterfaceFlags::UP | InterfaceFlags::RUNNING;
    let seen = getifaddrs::getifaddrs()?.filter_map(|found| {
        let address = found.address.ip_addr()?;
        Some(Seen { device: Device::new(&found.name)?, up: found.flags.contains(up), address: address.to_canonical() })
    });
    Ok(seen.collect())
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
#[derive(Debug)]
enum Notices {}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
impl Notices {
    fn new() -> io::Result<Self> {
        Err(io::ErrorKind::Unsupported.into())
    }

    async fn next(&mut self) -> io::Result<Notice> {
        match *self {}
    }
}

#[cfg(test)]
#[cfg(any(target_os = "linux", target_os = "android"))]
mod tests {
    use std::net::IpAddr;
    use std::process::Command;
    use std::time::Duration;

    use super::*;
    use crate::dial::NetworkChange::{AddressFound, AddressLost, DeviceLost};

    fn ip(arguments: &str) {
        let status = Command::new("ip").args(arguments.split(' ')).status();
        assert!(status.is_ok_and(|status| status.success()), "ip {arguments}");
    }

    /// Waits for this change among others, such as those of link-local addresses.
    async fn expect(monitor: &mut NetworkMonitor, change: NetworkChange) {
        let found = async { while monitor.next().await.unwrap() != change {} };
        let found = tokio::time::timeout(Duration::from_secs(60), found).await;
        assert!(found.is_ok(), "no {change:?}");
    }

    /// In a network namespace of its own.
    async fn changes() {
        let (address, device) = (IpAddr::from([192, 0, 2, 7]), Device::new("v0").unwrap());
        ip("link add v0 type veth peer name v1");
        ip("link set v1 up");
        let mut monitor = NetworkMonitor::new().unwrap();
        ip("addr add 192.0.2.7/24 dev v0");
        ip("link set v0 up");
        expect(&mut monitor, AddressFound(address)).await;
        ip("link set v0 down");
        expect(&mut monitor, AddressLost(address)).await;
        expect(&mut monitor, DeviceLost(device)).await;
        ip("link set v0 up");
        expect(&mut monitor, AddressFound(address)).await;
        ip("addr del 192.0.2.7/24 dev v0");
        expect(&mut monitor, AddressLost(address)).await;
        ip("addr add 192.0.2.7/24 dev v0");
        expect(&mut monitor, AddressFound(address)).await;
        ip("link set v1 down"); // a cable without a carrier
        expect(&mut monitor, AddressLost(address)).await;
    }

    #[test]
    fn links_and_addresses_that_change_are_reported_by_the_kernel() {
        // The namespace is that of this thread alone.
        let thread = std::thread::spawn(|| {
            // SAFETY: the call takes a number, and concerns this thread.
            if unsafe { libc::unshare(libc::CLONE_NEWNET) } != 0 {
                return println!("skipped: a network namespace needs privileges");
            }
            if Command::new("ip").arg("-V").status().is_err() {
                return println!("skipped: there is no ip command");
            }
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(changes());
        });
        thread.join().unwrap();
    }
}
