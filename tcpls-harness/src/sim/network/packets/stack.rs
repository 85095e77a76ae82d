//! One end of one path: a TCP/IP stack (smoltcp) with one address.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};

use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::phy::{Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::socket::tcp::{Socket, SocketBuffer};
use smoltcp::time::Instant;
use smoltcp::wire::{HardwareAddress, IpAddress, IpCidr, IpEndpoint, IpListenEndpoint};
use tcpls_core::Time;

/// Bytes that a socket may hold unread, and unacknowledged.
const BUFFER: usize = 1 << 20;

/// See the module's description.
pub(super) struct Stack {
    interface: Interface,
    pub(super) wire: Wire,
    pub(super) sockets: SocketSet<'static>,
    /// When it has something to do.
    pub(super) wake: Option<Time>,
}

/// The packets that arrived, and those that are to go.
pub(super) struct Wire {
    pub(super) came: VecDeque<Vec<u8>>,
    pub(super) goes: Vec<Vec<u8>>,
    /// Bytes that the link takes now. What a stack sends by itself waits for that, as on a real host; answers do not.
    pub(super) room: usize,
    /// There was more to send.
    pub(super) held_back: bool,
    mtu: usize,
}

fn instant(time: Time) -> Instant {
    Instant::from_micros(i64::try_from(time.as_nanos() / 1000).unwrap_or(i64::MAX))
}

impl Stack {
    pub(super) fn new(address: SocketAddr, mtu: usize, seed: u64) -> Self {
        let mut wire = Wire { came: VecDeque::new(), goes: Vec::new(), room: 0, held_back: false, mtu };
        let mut config = Config::new(HardwareAddress::Ip);
        config.random_seed = seed;
        let mut interface = Interface::new(config, &mut wire, Instant::ZERO);
        interface.update_ip_addrs(|addresses| {
            addresses.push(IpCidr::new(ip(address), 24)).expect("there is room for one address");
        });
        Self { interface, wire, sockets: SocketSet::new(Vec::new()), wake: None }
    }

    pub(super) fn socket(&mut self, handle: SocketHandle) -> &mut Socket<'static> {
        self.sockets.get_mut(handle)
    }

    fn add(&mut self) -> SocketHandle {
        let mut socket = Socket::new(SocketBuffer::new(vec![0; BUFFER]), SocketBuffer::new(vec![0; BUFFER]));
        socket.set_nagle_enabled(false);
        self.sockets.add(socket)
    }

    pub(super) fn listen(&mut self, port: u16) -> SocketHandle {
        let handle = self.add();
        self.socket(handle).listen(port).expect("a fresh socket can listen");
        handle
    }

    pub(super) fn connect(&mut self, remote: SocketAddr, local: SocketAddr) -> SocketHandle {
        let handle = self.add();
        let remote = IpEndpoint::new(ip(remote), remote.port());
        let local = IpListenEndpoint { addr: Some(ip(local)), port: local.port() };
        let socket = self.sockets.get_mut::<Socket<'_>>(handle);
        socket.connect(self.interface.context(), remote, local).expect("a fresh socket can connect");
        handle
    }

    /// Takes in what arrived, sends what is due.
    pub(super) fn poll(&mut self, now: Time) {
        self.interface.poll(instant(now), &mut self.wire, &mut self.sockets);
        let next = self.interface.poll_at(instant(now), &self.sockets);
        let later = |at: Instant| Time::from_nanos(u64::try_from(at.total_micros()).unwrap_or(0) * 1000);
        // Not at this moment again: what could be done now is done.
        self.wake = next.map(|at| later(at).max(Time::from_nanos((now.as_nanos() / 1000 + 1) * 1000)));
    }
}

fn ip(address: SocketAddr) -> IpAddress {
    match address.ip() {
        IpAddr::V4(address) => IpAddress::Ipv4(address),
        IpAddr::V6(_) => unreachable!("paths have IPv4 addresses"),
    }
}

pub(super) struct Came(Vec<u8>);

impl RxToken for Came {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(&self.0)
    }
}

pub(super) struct Goes<'a>(&'a mut Vec<Vec<u8>>, &'a mut usize);

impl TxToken for Goes<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        let mut packet = vec![0; len];
        let result = f(&mut packet);
        self.0.push(packet);
        *self.1 = self.1.saturating_sub(len);
        result
    }
}

impl Device for Wire {
    type RxToken<'a> = Came;
    type TxToken<'a> = Goes<'a>;

    fn receive(&mut self, _timestamp: Instant) -> Option<(Came, Goes<'_>)> {
        let packet = self.came.pop_front()?;
        Some((Came(packet), Goes(&mut self.goes, &mut self.room)))
    }

    fn transmit(&mut self, _timestamp: Instant) -> Option<Goes<'_>> {
        self.held_back |= self.room == 0;
        (self.room > 0).then_some(Goes(&mut self.goes, &mut self.room))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ip;
        capabilities.max_transmission_unit = self.mtu;
        capabilities
    }
}
