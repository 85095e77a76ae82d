//! The TCP connections of a capture: which one a segment belongs to, and who its client is.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use tcpls_core::Side;
use tcpls_core::wire::record::ContentType;

use super::key_log::KeyLog;
use super::reassembly::Half;
use super::segment::Segment;
use super::sessions::Sessions;
use super::tcp::{Decrypted, Tcp};
use super::{Record, Skipped, Summary};

/// What is kept of all TCP connections.
#[derive(Clone, Copy)]
struct Limits {
    /// TCP connections that are followed at the same time; the one with the oldest last segment is given up for another.
    flows: usize,
    /// Bytes that all of them may keep.
    memory: usize,
}

const LIMITS: Limits = Limits { flows: 65_536, memory: 256 << 20 };

pub(super) struct Flows<'a> {
    limits: Limits,
    sessions: Sessions<'a>,
    flows: BTreeMap<u64, Flow>,
    /// The flows by their last segment, the oldest first.
    by_use: BTreeMap<u64, u64>,
    segments: u64,
    /// The flow of two addresses, the smaller one first.
    by_addresses: BTreeMap<(SocketAddr, SocketAddr), u64>,
    opened: u64,
    memory: usize,
    summary: Summary,
}

struct Flow {
    addresses: (SocketAddr, SocketAddr),
    /// The address of the client, from the first SYN or data.
    client: Option<SocketAddr>,
    /// Of the client and of the server.
    halves: [Half; 2],
    tcp: Tcp,
    has_data: bool,
    /// Bytes that it keeps.
    memory: usize,
    /// The number of its last segment.
    used: u64,
}

impl<'a> Flows<'a> {
    pub(super) fn new(key_log: &'a KeyLog) -> Self {
        Self {
            limits: LIMITS,
            sessions: Sessions::new(key_log),
            flows: BTreeMap::new(),
            by_use: BTreeMap::new(),
            segments: 0,
            by_addresses: BTreeMap::new(),
            opened: 0,
            memory: 0,
            summary: Summary::default(),
        }
    }

    /// Takes a segment, and passes on the records that it completes.
    pub(super) fn handle(&mut self, time: u64, segment: &Segment<'_>, on_record: &mut impl FnMut(&Record<'_>)) {
        let addresses = (segment.from.min(segment.to), segment.from.max(segment.to));
        let number = match self.by_addresses.get(&addresses) {
            // The ports are used again.
            Some(&number) if segment.syn && !segment.ack && self.flows[&number].has_data => {
                self.close(number);
                self.open(addresses)
            }
            Some(&number) => number,
            None => self.open(addresses),
        };
        let Some(flow) = self.flows.get_mut(&number) else { return };
        self.segments += 1;
        self.by_use.remove(&flow.used);
        self.by_use.insert(self.segments, number);
        flow.used = self.segments;
        let summary = &mut self.summary;
        flow.handle(segment, &mut self.sessions, |sessions, sender, decrypted| {
            summary.records += 1;
            on_record(&Record {
                time,
                session: sessions.number(decrypted.session),
                tcp: decrypted.tcp,
                sender,
                from: segment.from,
                to: segment.to,
                number: decrypted.number,
                generation: decrypted.generation,
                content_type: decrypted.opened.content_type,
                content: &decrypted.opened.content,
            });
        });
        let memory = flow.tcp.memory() + flow.halves.iter().map(Half::memory).sum::<usize>();
        self.memory = self.memory - flow.memory + memory;
        flow.memory = memory;
        if self.memory > self.limits.memory {
            flow.give_up(Skipped::TooMany);
            self.memory -= memory;
            flow.memory = 0;
        }
    }

    fn open(&mut self, addresses: (SocketAddr, SocketAddr)) -> u64 {
        if self.flows.len() == self.limits.flows
            && let Some((_, &oldest)) = self.by_use.first_key_value()
        {
            self.close(oldest);
        }
        self.opened += 1;
        self.flows.insert(self.opened, Flow::new(addresses));
        self.by_addresses.insert(addresses, self.opened);
        self.opened
    }

    fn close(&mut self, number: u64) {
        let Some(flow) = self.flows.remove(&number) else { return };
        self.by_use.remove(&flow.used);
        if self.by_addresses.get(&flow.addresses) == Some(&number) {
            self.by_addresses.remove(&flow.addresses);
        }
        self.memory -= flow.memory;
        self.summary.tcp_connections += u64::from(flow.has_data);
        if let Some(why) = flow.skipped() {
            *self.summary.skipped.entry(why).or_default() += 1;
        }
    }

    pub(super) fn finish(mut self) -> Summary {
        while let Some((&number, _)) = self.flows.first_key_value() {
            self.close(number);
        }
        Summary { sessions: self.sessions.numbered(), ..self.summary }
    }
}

impl Flow {
    fn new(addresses: (SocketAddr, SocketAddr)) -> Self {
        let (halves, tcp) = Default::default();
        Self { addresses, client: None, halves, tcp, has_data: false, memory: 0, used: 0 }
    }

    fn handle(
        &mut self,
        segment: &Segment<'_>,
        sessions: &mut Sessions<'_>,
        mut on_record: impl FnMut(&mut Sessions<'_>, Side, Decrypted),
    ) {
        if segment.syn {
            self.client.get_or_insert(if segment.ack { segment.to } else { segment.from });
        } else if !segment.data.is_empty() {
            self.has_data = true;
            self.client.get_or_insert(segment.from);
        }
        let Some(client) = self.client else { return };
        let sender = if segment.from == client { Side::Client } else { Side::Server };
        let half = &mut self.halves[sender as usize];
        let mut seq = segment.seq;
        if segment.syn {
            half.handle_syn(seq);
            seq = seq.wrapping_add(1); // of its data: TCP Fast Open
        }
        let tcp = &mut self.tcp;
        half.handle(seq, segment.data, |bytes| {
            tcp.handle(sender, bytes, sessions, |sessions, decrypted| {
                if sender == Side::Server && decrypted.opened.content_type == ContentType::ApplicationData as u8 {
                    sessions.take_tokens(decrypted.session, &decrypted.opened.content);
                }
                on_record(sessions, sender, decrypted);
            });
        });
        if self.tcp.over().is_some() {
            self.halves.iter_mut().for_each(Half::give_up);
        }
    }

    fn give_up(&mut self, why: Skipped) {
        self.tcp.give_up(why);
        self.halves.iter_mut().for_each(Half::give_up);
    }

    /// Why it, or the rest of it, was not decrypted.
    fn skipped(&self) -> Option<Skipped> {
        let has_gap = || self.halves.iter().any(Half::has_gap);
        match self.tcp.over() {
            Some(why) => Some(why),
            None if has_gap() => Some(Skipped::Gap),
            None if self.has_data && !self.tcp.has_begun() => Some(Skipped::NoClientHello),
            None => None,
        }
    }
}

#[cfg(test)]
mod tests;
