//! The peer's half of record protection (`docs/protocol.md`, 3), written independently of the core's: its own nonces, its
//! own count of records, every generation of keys kept forever.

use crate::crypto::{KeySchedule, OpenKeys, SealKeys, TAG_LEN};
use crate::wire::ids::ConnectionId;

use super::record::{HANDSHAKE, Record};

/// The position of one direction of one TCP connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Position {
    pub(super) generation: usize,
    /// The AEAD's sequence number: back to 0 at each key update.
    pub(super) sequence: u64,
    /// The next record's number as ACKs count: it never goes back.
    pub(super) number: u64,
}

impl Position {
    pub(super) fn at(number: u64) -> Self {
        Self { generation: 0, sequence: number, number }
    }

    fn advance(&mut self) {
        self.sequence += 1;
        self.number += 1;
    }

    /// A KeyUpdate was the last record of its generation.
    pub(super) fn step(&mut self) {
        self.generation += 1;
        self.sequence = 0;
    }
}

pub(super) struct Keys {
    seal: Vec<SealKeys>,
    open: Vec<OpenKeys>,
    schedule: Box<dyn KeySchedule>,
    /// The generation that joined TCP connections begin with.
    pub(super) seal_current: usize,
}

impl Keys {
    pub(super) fn new(seal: SealKeys, open: OpenKeys, schedule: Box<dyn KeySchedule>) -> Self {
        Self { seal: vec![seal], open: vec![open], schedule, seal_current: 0 }
    }

    /// One complete record.
    pub(super) fn seal(&mut self, tcp: ConnectionId, at: &mut Position, content_type: u8, content: &[u8]) -> Vec<u8> {
        while self.seal.len() <= at.generation {
            self.seal.push(self.schedule.next_seal().expect("there is always a next generation"));
        }
        let keys = &self.seal[at.generation];
        let mut body = [content, &[content_type]].concat();
        let len = u16::try_from(body.len() + TAG_LEN).expect("a record has at most 2^16 bytes").to_be_bytes();
        let header = [23, 3, 3, len[0], len[1]];
        let tag = keys.key.seal(nonce(keys.iv, tcp, at.sequence), &header, &mut body);
        at.advance();
        [&header[..], &body, &tag].concat()
    }

    /// Opens a record of the session under test, which has to be a good one. A KeyUpdate is obeyed. The first record of a
    /// TCP connection may be of any generation.
    pub(super) fn open(&mut self, tcp: ConnectionId, at: &mut Position, record: &[u8]) -> Record {
        let (header, body) = record.split_at(5);
        if header[0] != 23 {
            return Record { number: None, content_type: header[0], content: body.to_vec() };
        }
        let generations = if at.number == 0 { 0..at.generation + 3 } else { at.generation..at.generation + 1 };
        let (generation, mut content) = generations
            .into_iter()
            .find_map(|generation| Some((generation, self.try_open(tcp, generation, at.sequence, header, body)?)))
            .unwrap_or_else(|| panic!("record {} on {tcp} does not open", at.number));
        at.generation = generation;
        let end = content.iter().rposition(|byte| *byte != 0).expect("the content type is not 0");
        let record = Record { number: Some(at.number), content_type: content[end], content: content.split_off(0) };
        let record = Record { content: record.content[..end].to_vec(), ..record };
        at.advance();
        if record.content_type == HANDSHAKE && record.content.first() == Some(&24) {
            at.step();
        }
        record
    }

    fn try_open(
        &mut self,
        tcp: ConnectionId,
        generation: usize,
        sequence: u64,
        header: &[u8],
        body: &[u8],
    ) -> Option<Vec<u8>> {
        while self.open.len() <= generation {
            self.open.push(self.schedule.next_open().expect("there is always a next generation"));
        }
        let keys = &self.open[generation];
        let mut body = body.to_vec();
        keys.key.open(nonce(keys.iv, tcp, sequence), header, &mut body).ok()?;
        body.truncate(body.len() - TAG_LEN);
        Some(body)
    }
}

/// draft I25: the IV, XORed with the connection ID on its leftmost 32 bits and the sequence on its rightmost 64.
fn nonce(iv: [u8; 12], tcp: ConnectionId, sequence: u64) -> [u8; 12] {
    let mut padded = [0; 16];
    padded[4..].copy_from_slice(&iv);
    let mixed = u128::from_be_bytes(padded) ^ (u128::from(tcp.0) << 64) ^ u128::from(sequence);
    mixed.to_be_bytes()[4..].try_into().expect("12 of 16 bytes")
}
