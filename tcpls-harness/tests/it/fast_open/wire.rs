//! What Fast Open puts on the wire: a TUN device whose packets this test sees, holds back and drops.
//!
//! The device has the address [`HERE`]. What goes to [`THERE`] comes back with both addresses exchanged, which leaves
//! TCP's checksum as it is: so a server that listens here is reached there.

use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::sync::{Arc, Mutex};

use tcpls_core::wire::ids::{ConnectionId, ErrorCode};
use tcpls_harness::dial::Keep;
use tcpls_harness::net::{Events, Session, Stream};
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest};
use tokio::sync::Notify;

use super::{Ends, echo, in_namespace, joined, open};
use crate::support::soon;

const HERE: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);
const THERE: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 2);

/// Where the addresses are in a packet of IPv4.
const SOURCE: Range<usize> = 12..16;
const DESTINATION: Range<usize> = 16..20;

/// What the wire does with packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rule {
    Pass,
    /// Nothing passes. It is not lost.
    Hold,
    /// Of a client whose SYN has data, nothing else passes.
    SynAlone,
    /// SYNs with data are lost.
    NoDataInSyns,
}

/// A SYN of a client.
#[derive(Clone, Debug)]
struct Syn {
    /// The client's port.
    from: u16,
    data: Vec<u8>,
    has_cookie: bool,
    is_lost: bool,
}

struct State {
    rule: Rule,
    /// The server's.
    port: u16,
    syns: Vec<Syn>,
    /// Ports of clients whose SYN had data.
    fast: BTreeSet<u16>,
    held: Vec<Vec<u8>>,
}

#[derive(Clone)]
struct Wire {
    state: Arc<Mutex<State>>,
    /// What was held is to pass.
    released: Arc<Notify>,
}

/// The parts of a TCP packet that matter here.
struct Packet {
    from: u16,
    to: u16,
    is_syn: bool,
    has_cookie: bool,
    data: Vec<u8>,
}

/// TCP's option of Fast Open (RFC 7413), with a cookie if it has more than two bytes.
const FAST_OPEN: u8 = 34;

fn parse(packet: &[u8]) -> Option<Packet> {
    let ip_len = 4 * usize::from(packet.first().filter(|first| *first >> 4 == 4)? & 15);
    let total = usize::from(u16::from_be_bytes([packet[2], packet[3]]));
    let tcp = packet.get(ip_len..total).filter(|_| packet[9] == 6)?;
    let (from, to) = (u16::from_be_bytes([tcp[0], tcp[1]]), u16::from_be_bytes([tcp[2], tcp[3]]));
    let tcp_len = 4 * usize::from(tcp[12] >> 4);
    let (mut options, mut has_cookie) = (&tcp[20..tcp_len], false);
    while let [kind, rest @ ..] = options {
        options = match (*kind, rest) {
            (0, _) => &[],
            (1, rest) => rest,
            (kind, [len, ..]) => {
                has_cookie |= kind == FAST_OPEN && *len > 2;
                &options[usize::from(*len)..]
            }
            (_, []) => panic!("an option is cut"),
        };
    }
    // SYN without ACK.
    let is_syn = tcp[13] & 0x12 == 2;
    Some(Packet { from, to, is_syn, has_cookie, data: tcp[tcp_len..].to_vec() })
}

impl Wire {
    /// Makes the device in this thread's namespace.
    #[expect(deprecated, reason = "a File is what the unsafe function of later versions requires")]
    fn start() -> io::Result<Self> {
        let tun = AsyncFd::with_interest(open_tun("wire")?, Interest::READABLE)?;
        for line in [format!("addr add {HERE}/24 dev wire"), "link set wire up".to_owned()] {
            let status = std::process::Command::new("ip").args(line.split(' ')).status()?;
            assert!(status.success(), "ip {line}");
        }
        let state = State { rule: Rule::Hold, port: 0, syns: Vec::new(), fast: BTreeSet::new(), held: Vec::new() };
        let wire = Self { state: Arc::new(Mutex::new(state)), released: Arc::default() };
        tokio::spawn(wire.clone().carry(tun));
        Ok(wire)
    }

    async fn carry(self, tun: AsyncFd<File>) {
        let mut packet = [0; 2048];
        loop {
            let held = tokio::select! {
                mut ready = tun.readable() => match ready.as_mut().unwrap().try_io(|tun| tun.get_ref().read(&mut packet)) {
                    Ok(read) => {
                        let mut state = self.state.lock().unwrap();
                        state.held.push(packet[..read.unwrap()].to_vec());
                        state.release()
                    }
                    Err(_) => continue,
                },
                () = self.released.notified() => self.state.lock().unwrap().release(),
            };
            for mut packet in held {
                let (source, destination) = (packet[SOURCE].to_vec(), packet[DESTINATION].to_vec());
                packet[SOURCE].copy_from_slice(&destination);
                packet[DESTINATION].copy_from_slice(&source);
                // The kernel takes packets as long as it has memory.
                _ = tun.get_ref().write(&packet);
            }
        }
    }

    fn set(&self, rule: Rule) {
        self.state.lock().unwrap().rule = rule;
        self.released.notify_one();
    }

    fn syns(&self) -> Vec<Syn> {
        self.state.lock().unwrap().syns.clone()
    }

    /// The first SYN of each TCP connection: the kernel repeats one after a second, which may pass on a busy machine.
    fn firsts(&self) -> Vec<Syn> {
        let mut seen = BTreeSet::new();
        self.syns().into_iter().filter(|syn| seen.insert(syn.from)).collect()
    }
}

impl State {
    /// Takes the packets that may pass out of those that are held.
    fn release(&mut self) -> Vec<Vec<u8>> {
        let (mut passing, mut held) = (Vec::new(), Vec::new());
        for packet in std::mem::take(&mut self.held) {
            let Some(tcp) = parse(&packet) else { continue };
            let is_to_server = tcp.to == self.port;
            let with_data = tcp.is_syn && !tcp.data.is_empty();
            let (is_held, is_lost) = match self.rule {
                Rule::Pass => (false, false),
                Rule::Hold => (true, false),
                Rule::SynAlone => (is_to_server && !tcp.is_syn && self.fast.contains(&tcp.from), false),
                Rule::NoDataInSyns => (false, with_data),
            };
            if is_held {
                held.push(packet);
                continue;
            }
            if tcp.is_syn && is_to_server {
                self.fast.extend(with_data.then_some(tcp.from));
                self.syns.push(Syn { from: tcp.from, data: tcp.data, has_cookie: tcp.has_cookie, is_lost });
            }
            if !is_lost {
                passing.push(packet);
            }
        }
        self.held = held;
        passing
    }
}

/// Makes a TUN device, which goes when the file is closed.
fn open_tun(name: &str) -> io::Result<File> {
    /// `struct ifreq` of `linux/if.h`, with the flags as the member of the union that counts.
    #[repr(C)]
    struct Request {
        name: [u8; 16],
        flags: i16,
        rest: [u8; 22],
    }
    const TUNSETIFF: u32 = 0x4004_54ca;

    let file = OpenOptions::new().read(true).write(true).custom_flags(libc::O_NONBLOCK).open("/dev/net/tun")?;
    let flags = (libc::IFF_TUN | libc::IFF_NO_PI) as i16;
    let mut request = Request { name: [0; 16], flags, rest: [0; 22] };
    request.name[..name.len()].copy_from_slice(name.as_bytes());
    // SAFETY: TUNSETIFF reads and writes one `struct ifreq`, which `Request` is laid out like.
    if unsafe { libc::ioctl(file.as_raw_fd(), TUNSETIFF as _, &raw mut request) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(file)
}

/// A session over loopback, whose other path is the wire, and which has a cookie for that.
struct Visit {
    wire: Wire,
    client: Session,
    server: Session,
    events: Events,
    /// On the wire.
    tcp: ConnectionId,
    _ends: Ends,
    _open: Stream,
}

impl Visit {
    /// `None`, with a note, if there can be no wire.
    async fn start() -> Option<Self> {
        let wire = Wire::start().map_err(|error| println!("skipped: no TUN device can be made: {error}")).ok()?;
        let mut ends = Ends::at([([127, 0, 0, 1], 0).into(), (HERE, 0).into()]);
        let addresses = [ends.addresses[0], SocketAddr::new(THERE.into(), ends.addresses[1].port())];
        wire.state.lock().unwrap().port = addresses[1].port();
        let mut options = ends.client();
        options.dial.keep = Keep::Paths;
        let (client, server) = tokio::join!(Session::connect(&addresses, options), ends.listener.accept());
        let client = client.unwrap();
        let mut events = client.events();
        let open = open(&client).await;
        wire.set(Rule::Pass);
        let tcp = joined(&mut events).await;
        let mut visit = Self { wire, client, server, events, tcp, _ends: ends, _open: open };
        visit.rejoin().await; // it has brought a cookie, if the one before has not
        Some(visit)
    }

    /// The TCP connection on the wire is lost, and another one joins.
    async fn rejoin(&mut self) {
        self.client.reset_tcp(self.tcp);
        self.tcp = joined(&mut self.events).await;
    }

    async fn end(self) {
        echo(&self.client, &self.server).await;
        self.client.close(ErrorCode(0), b"").await;
    }
}

/// Whether these are the first bytes of a ClientHello, in a record of TLS.
fn is_hello(data: &[u8]) -> bool {
    matches!(data, [22, 3, _, _, _, 1, ..])
}

#[test]
fn hello_of_a_join_is_in_the_syn_and_the_answer_to_it_completes_the_join() {
    in_namespace(async || {
        let Some(mut visit) = Visit::start().await else { return };
        let before = visit.wire.firsts().len();
        // Nothing but the SYN reaches the server until the client knows that it has joined: one round trip.
        visit.wire.set(Rule::SynAlone);
        visit.rejoin().await;
        let syns = visit.wire.firsts();
        assert!(is_hello(&syns[before].data) && syns[before].has_cookie, "{syns:?}");
        assert_eq!(syns.len(), before + 1);
        visit.wire.set(Rule::Pass);
        visit.end().await;
    });
}

#[test]
fn file_of_10_kb_arrives_while_nothing_but_the_syn_has_reached_the_server() {
    in_namespace(async || {
        let Ok(wire) = Wire::start() else { return println!("skipped: no TUN device can be made") };
        wire.set(Rule::Pass);
        let mut ends = Ends::at([(HERE, 0).into()]);
        let address = [SocketAddr::new(THERE.into(), ends.addresses[0].port())];
        wire.state.lock().unwrap().port = address[0].port();
        let mut options = ends.client();
        (options.dial.keep, options.early_data) = (Keep::Session, true);
        // The first brings a ticket and a cookie.
        for number in 0..2 {
            wire.set(if number == 0 { Rule::Pass } else { Rule::SynAlone });
            let client = Session::connect(&address, options.clone()).await.unwrap();
            let mut stream = client.open_stream().await.unwrap();
            stream.write_all(b"request").await.unwrap();
            stream.flush().await.unwrap();
            let serve = async {
                let server = ends.listener.accept().await;
                let mut asked = server.accept_stream().await.unwrap();
                let mut request = [0; 7];
                asked.read_exact(&mut request).await.unwrap();
                asked.write_all(&[7; 10_000]).await.unwrap();
                asked.shutdown().await.unwrap();
                (server, asked)
            };
            let mut file = vec![0; 10_000];
            let (_served, read) = soon(async { tokio::join!(serve, stream.read_exact(&mut file)) }).await;
            read.unwrap();
            wire.set(Rule::Pass);
            client.close(ErrorCode(0), b"").await;
        }
        let syns = wire.firsts();
        assert_eq!(syns.len(), 2, "{syns:?}");
        assert!(syns[0].data.is_empty() && is_hello(&syns[1].data), "{syns:?}");
    });
}

/// The client gives the TCP connection up about when the kernel would repeat the SYN, so this takes a second.
#[test]
fn path_that_loses_syns_with_data_is_joined_without_and_gets_none_afterwards() {
    in_namespace(async || {
        let Some(mut visit) = Visit::start().await else { return };
        let before = visit.wire.syns().len();
        visit.wire.set(Rule::NoDataInSyns);
        visit.rejoin().await;
        let syns = visit.wire.syns().split_off(before);
        assert!(is_hello(&syns[0].data) && syns[0].is_lost, "{syns:?}");
        let is_without = syns[1..].iter().all(|syn| syn.data.is_empty());
        assert!(syns.len() >= 2 && is_without, "the next attempt has none: {syns:?}");
        // The path would take data again, and the kernel has the cookie.
        let before = visit.wire.firsts().len();
        visit.wire.set(Rule::Pass);
        visit.rejoin().await;
        let syns = visit.wire.firsts().split_off(before);
        assert!(syns.len() == 1 && syns[0].data.is_empty() && !syns[0].has_cookie, "{syns:?}");
        visit.end().await;
    });
}
