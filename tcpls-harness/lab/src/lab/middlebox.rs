//! A stateful middlebox at the client's end of a path. When it loses its state, it resets both ends of all TCP
//! connections, and answers their further packets with resets, like a firewall that restarts or whose state an operator
//! clears.

use std::collections::BTreeMap;

use super::forge::{self, Segment};

/// Addresses and ports of client and server.
type Key = ((std::net::Ipv4Addr, u16), (std::net::Ipv4Addr, u16));

/// The sequence numbers behind what has passed: of the client's and of the server's.
#[derive(Clone, Copy, Debug, Default)]
struct Flow {
    client: u32,
    server: u32,
}

/// The TCP connections that it passes.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
enum Policy {
    #[default]
    All,
    /// What belongs to TCP connections that began since.
    Known,
    Nothing,
}

#[derive(Debug, Default)]
pub(crate) struct Middlebox {
    flows: BTreeMap<Key, Flow>,
    policy: Policy,
}

/// The fate of a packet.
#[derive(Debug, PartialEq)]
pub(crate) enum Verdict {
    Pass,
    /// Dropped, and its sender gets this, if anything.
    Answer(Option<Vec<u8>>),
}

impl Middlebox {
    /// All TCP connections are forgotten; the resets for the clients and those for the servers. New ones may begin or not.
    pub(crate) fn forget(&mut self, new_ones_may_begin: bool) -> [Vec<Vec<u8>>; 2] {
        self.policy = if new_ones_may_begin { Policy::Known } else { Policy::Nothing };
        let flows = std::mem::take(&mut self.flows);
        let to_client = flows.iter().map(|((client, server), flow)| forge::reset(*server, *client, flow.server, None));
        let to_server = flows.iter().map(|((client, server), flow)| forge::reset(*client, *server, flow.client, None));
        [to_client.collect(), to_server.collect()]
    }

    /// Everything passes again.
    pub(crate) fn let_all_pass(&mut self) {
        self.policy = Policy::All;
    }

    /// A packet of the client's comes by.
    pub(crate) fn pass_up(&mut self, packet: &[u8]) -> Verdict {
        self.judge(packet, |segment| (segment.source, segment.destination), |flow| &mut flow.client)
    }

    /// A packet of the server's comes by.
    pub(crate) fn pass_down(&mut self, packet: &[u8]) -> Verdict {
        self.judge(packet, |segment| (segment.destination, segment.source), |flow| &mut flow.server)
    }

    fn judge(&mut self, packet: &[u8], key: fn(&Segment) -> Key, passed: fn(&mut Flow) -> &mut u32) -> Verdict {
        let Some(segment) = Segment::parse(packet) else { return Verdict::Pass };
        let key = key(&segment);
        let begins = segment.syn && self.policy != Policy::Nothing;
        if self.policy == Policy::All || begins || self.flows.contains_key(&key) {
            let next = passed(self.flows.entry(key).or_default());
            // A SYN is where counting begins.
            if segment.syn || *next == 0 || (segment.end().wrapping_sub(*next) as i32) > 0 {
                *next = segment.end();
            }
            return Verdict::Pass;
        }
        Verdict::Answer(segment.answer())
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use etherparse::PacketBuilder;

    use super::*;

    const CLIENT: (Ipv4Addr, u16) = (Ipv4Addr::new(10, 0, 1, 1), 1234);
    const SERVER: (Ipv4Addr, u16) = (Ipv4Addr::new(10, 0, 1, 2), 443);

    fn data(from: (Ipv4Addr, u16), to: (Ipv4Addr, u16), sequence: u32, len: usize) -> Vec<u8> {
        let mut packet = Vec::new();
        let builder = PacketBuilder::ipv4(from.0.octets(), to.0.octets(), 64).tcp(from.1, to.1, sequence, 500).ack(9);
        builder.write(&mut packet, &vec![1; len]).unwrap();
        packet
    }

    fn syn(port: u16) -> Vec<u8> {
        let mut packet = Vec::new();
        let builder = PacketBuilder::ipv4(CLIENT.0.octets(), SERVER.0.octets(), 64).tcp(port, SERVER.1, 77, 500).syn();
        builder.write(&mut packet, &[]).unwrap();
        packet
    }

    #[test]
    fn both_ends_get_the_reset_that_they_expect() {
        let mut middlebox = Middlebox::default();
        assert_eq!(middlebox.pass_up(&data(CLIENT, SERVER, 100, 10)), Verdict::Pass);
        assert_eq!(middlebox.pass_down(&data(SERVER, CLIENT, 5000, 1000)), Verdict::Pass);
        // What was sent again is no news.
        assert_eq!(middlebox.pass_down(&data(SERVER, CLIENT, 4000, 1000)), Verdict::Pass);
        let [to_client, to_server] = middlebox.forget(true);
        let parse = |packets: &[Vec<u8>]| Segment::parse(&packets[0]).unwrap();
        let (to_client, to_server) = (parse(&to_client), parse(&to_server));
        assert_eq!((to_client.rst, to_client.source, to_client.sequence), (true, SERVER, 6000));
        assert_eq!((to_server.rst, to_server.source, to_server.sequence), (true, CLIENT, 110));
    }

    #[test]
    fn cleared_box_resets_old_tcp_connections_and_passes_new_ones() {
        for may in [true, false] {
            let mut middlebox = Middlebox::default();
            middlebox.pass_up(&data(CLIENT, SERVER, 100, 10));
            middlebox.forget(may);
            let old = data(SERVER, CLIENT, 5000, 1000);
            assert_eq!(middlebox.pass_down(&old), Verdict::Answer(Segment::parse(&old).unwrap().answer()));
            assert_eq!(middlebox.pass_up(&syn(99)) == Verdict::Pass, may);
            assert_eq!(middlebox.pass_up(&data((CLIENT.0, 99), SERVER, 78, 1)) == Verdict::Pass, may);
            middlebox.let_all_pass();
            assert_eq!(middlebox.pass_down(&old), Verdict::Pass);
        }
    }
}
