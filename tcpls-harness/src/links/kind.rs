//! What an interface is, by its name.

/// What a network interface is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Kind {
    /// A link to a network: a cable, a radio, a phone.
    Link,
    /// A VPN or another tunnel, whose packets leave through another interface. PPP counts as one: it is a VPN's on most
    /// hosts.
    Tunnel,
    /// A network of containers or virtual machines on this host.
    Internal,
    /// Loopback.
    Loopback,
}

/// Beginnings of the names of tunnels: those of kernels, and of VPNs whose software names its own.
const TUNNELS: &[&str] = &[
    "cscotun",
    "gif",
    "gpd",
    "gre",
    "ip6gre",
    "ip6tnl",
    "ip_vti",
    "ipip",
    "ipsec",
    "l2tp",
    "nebula",
    "nordlynx",
    "ppp",
    "proton",
    "sit",
    "stf",
    "tailscale",
    "tap",
    "tun",
    "utun",
    "vpn",
    "vti",
    "wg",
    "wt",
    "xfrm",
    "zt",
];

/// The same of bridges and ports that lead to containers and virtual machines, and of links without a network.
const INTERNAL: &[&str] = &[
    "awdl", "azv", "cali", "cbr", "cilium", "cni", "docker", "dummy", "flannel", "ifb", "incusbr", "kube", "llw",
    "lxc", "lxd", "podman", "vboxnet", "veth", "virbr", "vmnet", "vnet", "weave",
];

impl Kind {
    /// Judges by the name alone: bridges that are named by hand count as links, and so do interfaces in a container.
    pub fn of_name(name: &str) -> Self {
        let begins = |prefixes: &[&str]| prefixes.iter().any(|prefix| name.starts_with(prefix));
        if name == "lo" || name == "lo0" {
            Self::Loopback
        } else if begins(INTERNAL) || is_docker_bridge(name) {
            Self::Internal
        } else if begins(TUNNELS) {
            Self::Tunnel
        } else {
            Self::Link
        }
    }
}

/// A network that Docker made: `br-` and 12 hexadecimal digits.
fn is_docker_bridge(name: &str) -> bool {
    name.strip_prefix("br-").is_some_and(|id| id.len() == 12 && id.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_uplinks_are_links_and_those_of_tunnels_and_containers_are_not() {
        for name in
            ["eth0", "enp3s0", "enxa0cec8", "wlan0", "wlp2s0", "wwan0", "usb0", "en0", "br0", "br-lan", "bond0", "9"]
        {
            assert_eq!(Kind::of_name(name), Kind::Link, "{name}");
        }
        for name in ["tun0", "tap1", "utun4", "wg0", "wg-home", "ppp0", "ipsec0", "tailscale0", "ztabcdef12"] {
            assert_eq!(Kind::of_name(name), Kind::Tunnel, "{name}");
        }
        for name in ["docker0", "br-0123456789ab", "veth12ab34c", "virbr0", "cni0", "podman1", "vmnet8"] {
            assert_eq!(Kind::of_name(name), Kind::Internal, "{name}");
        }
        assert_eq!([Kind::of_name("lo"), Kind::of_name("lo0")], [Kind::Loopback; 2]);
    }
}
