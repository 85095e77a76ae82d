//! `--path`: where a client's paths begin on this host.

use std::fmt;
use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::str::FromStr;
use std::time::Duration;

use clap::Args;

use super::paths::no_zone;
use super::zones;
use crate::dial::{Device, Group, Local, Path};
use crate::links;
use crate::net::interfaces::paths_to;
use crate::net::{ClientOptions, PathFailure, PathFault};

/// Where paths begin.
#[derive(Clone, Debug, Default, Args)]
pub struct UplinkArgs {
    /// Interface or local address to connect from, for example wlan0 or 192.0.2.7; each --path adds a TCP connection to
    /// each address of the server. ",backup": connected, and used while no other path works. ",metered": not even
    /// connected while another path works. ",share=NAME": paths of the same name share a bottleneck, for example a router,
    /// and take the rate of one TCP connection: the first that works carries data. "auto", the default: each interface through which a route leads to the server;
    /// if the preferred one is a VPN, only that. "any": what the routes of the operating system select
    #[arg(long = "path", alias = "local", value_name = "INTERFACE|ADDRESS[,backup][,metered][,share=NAME]")]
    pub uplinks: Vec<Uplink>,
}

impl UplinkArgs {
    /// Returns the paths to these addresses, of which `wanted` are for one TCP connection from each local end, and puts
    /// these ends into the options.
    pub(crate) fn plan(&self, addresses: &[SocketAddr], wanted: usize, options: &mut ClientOptions) -> Vec<Path> {
        self.plan_with(addresses, wanted, options, paths_to)
    }

    /// Whether paths are chosen by the interfaces that are there.
    pub(crate) fn is_automatic(&self) -> bool {
        self.uplinks.is_empty() || self.uplinks.contains(&Uplink::Auto)
    }

    fn plan_with(
        &self,
        addresses: &[SocketAddr],
        wanted: usize,
        options: &mut ClientOptions,
        automatic: impl Fn(&[SocketAddr]) -> Vec<Path>,
    ) -> Vec<Path> {
        let named = self.uplinks.iter().filter_map(|uplink| match uplink {
            Uplink::Local(local) => Some(*local),
            Uplink::Auto => None,
        });
        let named: Vec<Local> = named.collect();
        let mut paths = if named.is_empty() { Vec::new() } else { Path::pairs(addresses, &named) };
        let mut locals = named.clone();
        if self.is_automatic() {
            let is_named = |device: Device| named.iter().any(|local| local.device == Some(device));
            let mut found = automatic(addresses);
            found.retain(|path| !path.device.is_some_and(is_named));
            locals.extend(links::locals(&found));
            found.append(&mut paths);
            paths = found;
        }
        options.dial.wanted = wanted.max(1) * locals.len().max(1);
        if options.dial.wanted > 1 {
            options.dial.stagger = Duration::ZERO; // each of them is to be used anyway
        }
        options.locals = locals;
        paths
    }
}

/// What keeps the path of a failure from working, if it is a setting of this host. `is_strict` says whether the reverse path
/// filter of an interface is strict.
pub(crate) fn hint(failure: &PathFailure, is_strict: impl Fn(Device) -> bool) -> Option<String> {
    let device = failure.path.device?;
    let PathFault::Tcp(error) = &failure.fault else { return None };
    let has_no_answer = error.kind() == ErrorKind::TimedOut && failure.path.remote.is_ipv4();
    (has_no_answer && is_strict(device)).then(|| {
        format!(
            "the reverse path filter of {device} is strict and drops answers that arrive there: sysctl \
             net.ipv4.conf.{device}.rp_filter=2 lets them in"
        )
    })
}

/// One value of `--path`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Uplink {
    /// Each interface through which a route leads to the server.
    Auto,
    /// An interface, an address, or what the routes select.
    Local(Local),
}

impl FromStr for Uplink {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut parts = text.split(',');
        let place = parts.next().unwrap_or_default();
        let mark = |local: Local, mark: &str| match mark.split_once('=') {
            None if mark == "backup" => Ok(local.backup()),
            None if mark == "metered" => Ok(local.metered()),
            Some(("share", name)) => {
                let group = name.parse::<Group>().map_err(|error| format!("{mark}: {error}"))?;
                Ok(local.in_group(group))
            }
            _ => Err(format!(
                "{mark:?} is no mark of a path; write {place},backup or {place},metered or {place},share=NAME"
            )),
        };
        match place {
            "auto" if text == place => Ok(Self::Auto),
            "auto" => Err("\"auto\" takes no marks; add --path INTERFACE,metered for an interface".to_owned()),
            _ => parts.try_fold(local(place)?, mark).map(Self::Local),
        }
    }
}

impl fmt::Display for Uplink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Local(local) => local.fmt(f),
        }
    }
}

fn local(text: &str) -> Result<Local, String> {
    if text == "any" {
        return Ok(Local::default());
    }
    if let Ok(address) = text.parse::<IpAddr>() {
        return Ok(address.into());
    }
    if zones::zone_of(text).is_some() {
        let found = (text, 0).to_socket_addrs().map_err(|error| no_zone(text, &error))?.next();
        return found.map(Local::from).ok_or_else(|| format!("{text} is no address"));
    }
    let device = text.parse::<Device>();
    device.map(Local::from).map_err(|error| format!("neither an address nor an interface: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::Trust;

    fn device(name: &str) -> Local {
        Device::new(name).unwrap().into()
    }

    #[test]
    fn paths_begin_at_interfaces_and_addresses_with_marks() {
        let address = Local::from(IpAddr::from([192, 0, 2, 7]));
        for (text, local) in [
            ("wlan0", device("wlan0")),
            ("wlan0,backup", device("wlan0").backup()),
            ("192.0.2.7,metered", address.metered()),
            ("192.0.2.7,metered,backup", address.backup().metered()),
            ("wlan0,share=home", device("wlan0").in_group(Group::new("home").unwrap())),
            ("any,backup", Local::default().backup()),
        ] {
            assert_eq!(text.parse(), Ok(Uplink::Local(local)), "{text}");
        }
        assert_eq!("auto".parse(), Ok(Uplink::Auto));
        for bad in [
            "",
            ",backup",
            "wlan0,",
            "wlan0,slow",
            "wlan0,share",
            "wlan0,share=",
            "wlan0,backup=home",
            "an interface",
            "sixteen-bytes-ok",
            "fe80::1%no-such-if",
            "auto,metered",
        ] {
            assert!(bad.parse::<Uplink>().is_err(), "{bad}");
        }
    }

    /// The paths of a command line, and the options, where two interfaces are found.
    fn plan(uplinks: &[&str], names: usize) -> (Vec<String>, ClientOptions) {
        let tls = Trust::Anyone.client(&[b"test"]).unwrap();
        let mut options = ClientOptions::new(tls, "localhost".try_into().unwrap());
        let args = UplinkArgs { uplinks: uplinks.iter().map(|text| text.parse().unwrap()).collect() };
        let addresses: Vec<SocketAddr> = (1..=names as u8).map(|n| ([192, 0, 2, n], 443).into()).collect();
        let found = |addresses: &[SocketAddr]| Path::pairs(addresses, &["wlan0", "usb0"].map(device));
        let paths = args.plan_with(&addresses, names, &mut options, found);
        (paths.iter().map(ToString::to_string).collect(), options)
    }

    #[test]
    fn strict_filter_is_named_where_an_interface_gets_no_answer() {
        let hint = |address: &str, device: Option<&str>, kind: ErrorKind, is_strict: bool| {
            let remote: SocketAddr = address.parse().unwrap();
            let path = Path { device: device.and_then(Device::new), ..Path::from(remote) };
            let failure = PathFailure { path, fault: PathFault::Tcp(std::sync::Arc::new(kind.into())) };
            hint(&failure, |_| is_strict)
        };
        let (v4, v6, usb) = ("192.0.2.1:443", "[2001:db8::1]:443", Some("usb0"));
        assert!(hint(v4, usb, ErrorKind::TimedOut, true).unwrap().contains("sysctl net.ipv4.conf.usb0.rp_filter=2"));
        assert_eq!(hint(v4, usb, ErrorKind::TimedOut, false), None);
        assert_eq!(hint(v4, usb, ErrorKind::ConnectionRefused, true), None);
        assert_eq!(hint(v4, None, ErrorKind::TimedOut, true), None);
        assert_eq!(hint(v6, usb, ErrorKind::TimedOut, true), None);
    }

    #[test]
    fn interfaces_are_found_unless_paths_are_named_and_named_ones_have_their_marks() {
        let (paths, options) = plan(&[], 1);
        assert_eq!(paths, ["192.0.2.1:443 from wlan0", "192.0.2.1:443 from usb0"]);
        assert_eq!((options.dial.wanted, options.locals), (2, ["wlan0", "usb0"].map(device).to_vec()));
        assert_eq!(plan(&["usb0"], 2).0, ["192.0.2.1:443 from usb0", "192.0.2.2:443 from usb0"]);
        let (paths, options) = plan(&["auto", "usb0,metered"], 1);
        assert_eq!(paths, ["192.0.2.1:443 from wlan0", "192.0.2.1:443 from usb0"]);
        assert_eq!(options.locals, [device("usb0").metered(), device("wlan0")]);
        let (paths, options) = plan(&["any"], 1);
        assert_eq!((paths, options.dial.wanted), (vec!["192.0.2.1:443".to_owned()], 1));
    }
}
