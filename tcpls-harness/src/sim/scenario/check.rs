//! Checks beyond those of serde: unknown names, and fields that do not belong to a kind.

use tcpls_core::budget::Resource;

use super::paths::DEFAULT_MTU;
use super::{Action, ActionKind, Bottleneck, Crypto, End, Fault, FaultKind, Middlebox, Path, Scenario, Transport};
use crate::dial::Group;
use crate::trace::variant;

/// Each takes 160 KiB of memory.
const MAX_CLIENTS: usize = 100_000;
/// Packets have a limited number of ports.
const MAX_CLIENTS_OF_PACKETS: usize = 100;

/// More would show nothing new.
const MAX_SERVERS: u16 = 1000;
/// Less has no room for a session with its buffers.
const MIN_MEMORY: u64 = 128 << 10;
/// Each takes its turn whenever anything happens.
const MAX_FLOOD: u64 = 500;

impl Scenario {
    /// Checks that it is valid.
    ///
    /// # Errors
    /// Describes the invalid part.
    pub(crate) fn check(&self) -> Result<(), String> {
        if self.path.is_empty() {
            return Err("a scenario needs a path".to_owned());
        }
        let most = if self.transport == Transport::Packets { MAX_CLIENTS_OF_PACKETS } else { MAX_CLIENTS };
        if !(1..=most).contains(&self.clients) {
            return Err(format!("clients must be between 1 and {most}"));
        }
        for (number, path) in self.path.iter().enumerate() {
            let packets = path.loss > 0.0 || path.reorder > 0.0 || path.burst.is_some() || path.mtu != DEFAULT_MTU;
            let packets = packets || path.bottleneck == Bottleneck::Router;
            if packets && self.transport == Transport::Pipes {
                return Err(format!(
                    "path {:?}: only packets are lost, dropped or reordered, or have a length",
                    path.name
                ));
            }
            if !(576..=9000).contains(&path.mtu) {
                return Err(format!("path {:?}: mtu must be between 576 and 9000", path.name));
            }
            if let Some(group) = &path.group {
                group.parse::<Group>().map_err(|error| format!("path {:?}: {error}", path.name))?;
            }
            self.check_middleboxes(path)?;
            if self.path_number(&path.name) != Some(number) {
                return Err(format!("two paths are called {:?}", path.name));
            }
        }
        for (end, settings) in [("client", &self.client), ("server", &self.server)] {
            settings.config().validate().map_err(|error| format!("{end}: {error}"))?;
        }
        if !(1..=MAX_SERVERS).contains(&self.farm.servers) {
            return Err(format!("farm: servers must be between 1 and {MAX_SERVERS}"));
        }
        if !self.farm.is_alone() && self.bounds.is_set() {
            return Err("bounds are those of one server, which is no farm".to_owned());
        }
        self.check_bounds()?;
        self.fault.iter().try_for_each(|fault| self.check_fault(fault, false))?;
        self.action.iter().try_for_each(|action| self.check_action(action))
    }

    fn check_bounds(&self) -> Result<(), String> {
        for (resource, limit) in self.bounds.all() {
            let least = if resource == Resource::Memory { MIN_MEMORY } else { 1 };
            if limit.is_some_and(|limit| limit < least) {
                return Err(format!("bounds: the limit of {resource} must be at least {least}"));
            }
        }
        for flood in &self.flood {
            if flood.every.0.is_zero() {
                return Err(format!("flood at {}: \"every\" must be longer than nothing", flood.at));
            }
            self.check_path(flood.path.as_deref())?;
        }
        if self.flood.iter().map(|flood| u64::from(flood.count)).sum::<u64>() > MAX_FLOOD {
            return Err(format!("floods must not have more than {MAX_FLOOD} TCP connections in all"));
        }
        Ok(())
    }

    fn check_middleboxes(&self, path: &Path) -> Result<(), String> {
        if !path.middleboxes.is_empty() && self.transport == Transport::Packets {
            return Err(format!("path {:?}: boxes see byte streams, so they stand on pipes only", path.name));
        }
        let reads_tls = |kind: &Middlebox| !matches!(kind, Middlebox::Proxy { .. });
        if path.middleboxes.iter().any(reads_tls) && self.crypto == Crypto::Null {
            return Err(format!("path {:?}: a box that reads TLS needs crypto = \"tls\"", path.name));
        }
        Ok(())
    }

    /// Checks that a fault is valid, or (`over`) its end, which needs no value.
    pub(crate) fn check_fault(&self, fault: &Fault, over: bool) -> Result<(), String> {
        let (kind, name) = (fault.kind, variant(&fault.kind));
        let clog = kind == FaultKind::Clog;
        let pipes_only = matches!(kind, FaultKind::Shred | FaultKind::BackendAway);
        if pipes_only && self.transport == Transport::Packets {
            return Err(format!("fault {name} at {} is for pipes only", fault.at));
        }
        let fields = [
            ("path", fault.path.is_some(), !clog && !matches!(kind, FaultKind::Restart | FaultKind::Suspend)),
            ("tcp", fault.tcp.is_some(), clog),
            ("rate", fault.rate.is_some(), kind == FaultKind::Rate && (!over || fault.rate.is_some())),
            ("delay", fault.delay.is_some(), kind == FaultKind::Delay && (!over || fault.delay.is_some())),
        ];
        check_fields(&format!("fault {name} at {}", fault.at), &fields)?;
        if fault.until.is_some_and(|until| until < fault.at) {
            return Err(format!("fault {name} ends at {} before it begins", fault.until.unwrap_or_default()));
        }
        self.check_path(fault.path.as_deref())
    }

    fn check_action(&self, action: &Action) -> Result<(), String> {
        use ActionKind::{Attach, Close, Detach, Drain, Join, Scheduler, TcpOption, UpdateKeys};
        let (kind, name) = (action.kind, variant(&action.kind));
        let fields = [
            ("path", action.path.is_some(), !matches!(kind, Scheduler | UpdateKeys | TcpOption | Drain | Close)),
            ("transfer", action.transfer.is_some(), matches!(kind, Attach | Detach)),
            ("scheduler", action.scheduler.is_some(), kind == Scheduler),
            ("limit", action.limit.is_some(), kind == Drain && action.limit.is_some()),
        ];
        check_fields(&format!("action {name} at {}", action.at), &fields)?;
        if kind == Join && action.by == End::Server {
            return Err("only clients join".to_owned());
        }
        if action.transfer.is_some_and(|number| number >= self.transfer.len()) {
            return Err(format!("action {name} at {} names a transfer that is not there", action.at));
        }
        self.check_path(action.path.as_deref())
    }

    fn check_path(&self, name: Option<&str>) -> Result<(), String> {
        match name {
            Some(name) if self.path_number(name).is_none() => Err(format!("no path is called {name:?}")),
            _ => Ok(()),
        }
    }
}

/// Each field must be there exactly if the kind wants it: name, is there, is wanted.
fn check_fields(what: &str, fields: &[(&str, bool, bool)]) -> Result<(), String> {
    match fields.iter().find(|(_, there, wanted)| there != wanted) {
        Some((name, _, true)) => Err(format!("{what} needs {name:?}")),
        Some((name, ..)) => Err(format!("{what} has no {name:?}")),
        None => Ok(()),
    }
}
