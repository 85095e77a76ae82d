//! The addresses of this host, for listeners on all of them.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use crate::sync::Mutex;

/// How long addresses are taken for those of the host before they are read again.
const READ_AGAIN: Duration = Duration::from_secs(10);

/// The addresses of this host, as they were read last.
#[derive(Debug, Default)]
pub(super) struct HostAddresses(Mutex<Option<(Instant, Vec<IpAddr>)>>);

impl HostAddresses {
    /// Returns them; reads them at most once in 10 s. None without the feature `interfaces`.
    pub(super) fn get(&self) -> Vec<IpAddr> {
        let mut known = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        match &*known {
            Some((read, addresses)) if read.elapsed() < READ_AGAIN => addresses.clone(),
            _ => known.insert((Instant::now(), read())).1.clone(),
        }
    }
}

/// Of interfaces that are up, but for bridges to containers, which exist on the client's host, too.
#[cfg(feature = "interfaces")]
fn read() -> Vec<IpAddr> {
    use crate::links::Kind;

    let interfaces = crate::net::interfaces::host(&[]).map(|host| host.interfaces).unwrap_or_default();
    let usable = interfaces.into_iter().filter(|interface| interface.up && interface.kind != Kind::Internal);
    usable.flat_map(|interface| interface.addresses).collect()
}

#[cfg(not(feature = "interfaces"))]
fn read() -> Vec<IpAddr> {
    Vec::new()
}
