//! `proptest` strategies for frames, records, operations and faults. Feature `testing-proptest`.
//!
//! Borrowed data in frames is taken from constants, so that the frames need no owner.

use core::net::SocketAddr;

use proptest::collection::{SizeRange, vec};
use proptest::prelude::*;

use super::ops::Op;
use crate::wire::frame::{
    Ack, CloseSession, ConnectionReset, ConnectionResetReason, ConnectionStatus, Drain, Frame, MaxData, MaxStreamData,
    MaxStreams, NewAddress, NewToken, NewTokenWide, Padding, RemoveAddress, ResetStream, SessionParameters,
    StopSending, Stream, StreamChange, TcpOption, TcpOptionAnswer, TcpOptionRequest,
};
use crate::wire::ids::Side::{self, Client, Server};
use crate::wire::ids::{AddressId, ConnectionId, ErrorCode, OptionRequestId, RecordSeq, StreamId, Token};
use crate::wire::record::{MAX_CIPHERTEXT, MAX_PLAINTEXT};

/// The data that frames borrow.
static DATA: [u8; 256] = {
    let mut data = [0; 256];
    let mut at = 0;
    while at < data.len() {
        data[at] = (at as u8).wrapping_mul(151) ^ 0x5c;
        at += 1;
    }
    data
};

/// Entries of Session Parameters: IDs 1 to 7 with values of 8 bytes.
static ENTRIES: [u8; 63] = {
    let mut entries = [0; 63];
    let mut at = 0;
    while at < entries.len() {
        entries[at] = if at % 9 == 0 { (at / 9 + 1) as u8 } else { (at as u8).wrapping_mul(77) };
        at += 1;
    }
    entries
};

/// Either side.
pub fn side() -> impl Strategy<Value = Side> {
    prop_oneof![Just(Client), Just(Server)]
}

/// Faults of paths: cut, stall, corrupt; and the end of a stall.
pub fn fault() -> impl Strategy<Value = Op> {
    prop_oneof![
        2 => any::<u8>().prop_map(|tcp| Op::Cut { tcp }),
        2 => any::<u8>().prop_map(|tcp| Op::Stall { tcp }),
        1 => (any::<u8>(), side()).prop_map(|(tcp, to)| Op::HalfStall { tcp, to }),
        2 => any::<u8>().prop_map(|tcp| Op::Unstall { tcp }),
        1 => (any::<u8>(), side()).prop_map(|(tcp, to)| Op::Corrupt { tcp, to }),
    ]
}

/// Any operation but [`Op::Close`] and [`Op::Drain`], faults among them.
pub fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        12 => (any::<u8>(), side(), any::<u16>()).prop_map(|(tcp, to, bytes)| Op::Deliver { tcp, to, bytes }),
        12 => side().prop_map(Op::Step),
        8 => fault(),
        1 => (side(), any::<u8>(), 0u16..500, 0u8..6)
            .prop_map(|(side, tcp, age, unacked)| Op::TcpInfo { side, tcp, age, unacked }),
        4 => any::<bool>().prop_map(|zero_rtt| Op::Join { zero_rtt }),
        3 => side().prop_map(Op::Open),
        10 => (side(), any::<u8>(), any::<u16>()).prop_map(|(side, stream, len)| Op::Write { side, stream, len }),
        1 => (side(), any::<bool>()).prop_map(|(side, reads)| Op::Reads { side, reads }),
        3 => (side(), any::<u8>(), any::<u16>()).prop_map(|(side, stream, len)| Op::Read { side, stream, len }),
        2 => (side(), any::<u8>()).prop_map(|(side, stream)| Op::Finish { side, stream }),
        1 => (side(), any::<u8>()).prop_map(|(side, stream)| Op::Reset { side, stream }),
        1 => (side(), any::<u8>()).prop_map(|(side, tcp)| Op::Retire { side, tcp }),
        1 => (side(), any::<u8>(), any::<bool>()).prop_map(|(side, tcp, backup)| Op::Backup { side, tcp, backup }),
        1 => (side(), any::<u8>(), any::<u8>()).prop_map(|(side, stream, tcp)| Op::Attach { side, stream, tcp }),
        1 => (side(), any::<u8>(), any::<u8>()).prop_map(|(side, stream, tcp)| Op::Detach { side, stream, tcp }),
        2 => side().prop_map(Op::UpdateKeys),
        1 => (side(), any::<u8>()).prop_map(|(side, tcp)| Op::Ping { side, tcp }),
        1 => (side(), 0u8..3).prop_map(|(side, host)| Op::Advertise { side, host }),
        1 => side().prop_map(Op::Withdraw),
        1 => (side(), any::<u8>(), 0u8..3).prop_map(|(side, tcp, host)| Op::Addressed { side, tcp, host }),
        1 => (side(), any::<u8>(), any::<i8>())
            .prop_map(|(side, stream, priority)| Op::Priority { side, stream, priority }),
        1 => (side(), any::<u8>()).prop_map(|(side, stream)| Op::Stop { side, stream }),
        2 => (side(), 0u8..5).prop_map(|(side, policy)| Op::Schedule { side, policy }),
        1 => side().prop_map(Op::Option),
        1 => (side(), any::<u8>()).prop_map(|(side, tcp)| Op::AskOption { side, tcp }),
        1 => any::<u16>().prop_map(|bytes| Op::Squeeze { bytes }),
        3 => (0u16..2000).prop_map(|millis| Op::Wait { millis }),
    ]
}

/// `len` operations, faults among them.
pub fn ops(len: impl Into<SizeRange>) -> impl Strategy<Value = Vec<Op>> {
    vec(op(), len)
}

fn data() -> impl Strategy<Value = &'static [u8]> {
    (0..DATA.len(), 0usize..60).prop_map(|(from, len)| &DATA[from..(from + len).min(DATA.len())])
}

fn address() -> impl Strategy<Value = SocketAddr> {
    let v4 = any::<([u8; 4], u16)>().prop_map(SocketAddr::from);
    let v6 = any::<([u8; 16], u16)>().prop_map(SocketAddr::from);
    prop_oneof![v4, v6]
}

/// Any valid frame. Stream offsets are below 2^61, Padding is at most 256 bytes.
pub fn frame() -> impl Strategy<Value = Frame<'static>> {
    let tcp = || any::<u32>().prop_map(ConnectionId);
    let id = || any::<u32>().prop_map(StreamId);
    let error = || any::<u32>().prop_map(ErrorCode);
    let token = || any::<[u8; 32]>().prop_map(Token);
    let request = || any::<u32>().prop_map(OptionRequestId);
    let stream = (id(), 0..1u64 << 61, any::<bool>(), data());
    let draft = prop_oneof![
        (1usize..=256).prop_map(|len| Frame::from(Padding { len })),
        Just(Frame::Ping),
        stream.prop_map(|(id, offset, fin, data)| Stream { id, offset, fin, data }.into()),
        (tcp(), any::<u64>()).prop_map(|(tcp, highest)| Ack { tcp, highest: RecordSeq(highest) }.into()),
        (1u8.., token()).prop_map(|(sequence, token)| NewToken { sequence, token }.into()),
        tcp().prop_map(|tcp| ConnectionReset { tcp }.into()),
        (any::<u8>(), address()).prop_map(|(id, address)| NewAddress { id: AddressId(id), address }.into()),
        any::<u8>().prop_map(|id| RemoveAddress { id: AddressId(id) }.into()),
        (id(), any::<u64>()).prop_map(|(next_stream, next_offset)| StreamChange { next_stream, next_offset }.into()),
    ];
    let streams = prop_oneof![
        any::<u64>().prop_map(|maximum| Frame::from(MaxData { maximum })),
        (id(), any::<u64>()).prop_map(|(id, maximum)| MaxStreamData { id, maximum }.into()),
        any::<u32>().prop_map(|maximum| MaxStreams { maximum }.into()),
        (id(), error(), any::<u64>()).prop_map(|(id, error, final_size)| ResetStream { id, error, final_size }.into()),
        (id(), error()).prop_map(|(id, error)| StopSending { id, error }.into()),
    ];
    let session = prop_oneof![
        (0usize..=7).prop_map(|n| Frame::from(SessionParameters { entries: &ENTRIES[..9 * n] })),
        (error(), data()).prop_map(|(error, reason)| CloseSession { error, reason }.into()),
        (1u32.., token()).prop_map(|(sequence, token)| NewTokenWide { sequence, token }.into()),
        (tcp(), any::<bool>()).prop_map(|(tcp, backup)| ConnectionStatus { tcp, backup }.into()),
        (tcp(), any::<u8>()).prop_map(|(tcp, reason)| ConnectionResetReason { tcp, reason }.into()),
        (any::<u8>(), data()).prop_map(|(kind, value)| TcpOption { kind, value }.into()),
        Just(Frame::Lane),
        any::<u32>().prop_map(|streams| Drain { streams }.into()),
        (request(), tcp(), any::<u8>(), data()).prop_map(|(id, tcp, kind, value)| TcpOptionRequest {
            id,
            tcp,
            kind,
            value
        }
        .into()),
        (request(), any::<u8>()).prop_map(|(id, outcome)| TcpOptionAnswer { id, outcome }.into()),
    ];
    prop_oneof![9 => draft, 5 => streams, 9 => session]
}

/// The content of a record: up to 24 valid frames in the order of the wire, at most 2^14 bytes.
pub fn content() -> impl Strategy<Value = Vec<u8>> {
    vec(frame(), 0..24).prop_map(|frames| {
        let mut content = Vec::new();
        for frame in frames {
            if content.len() + frame.encoded_len() <= MAX_PLAINTEXT {
                frame.encode(&mut content);
            }
        }
        content
    })
}

/// A TLS record with a valid header and any body of at most 16,640 bytes, short ones more often than long ones.
pub fn record() -> impl Strategy<Value = Vec<u8>> {
    let len = prop_oneof![8 => 1usize..100, 2 => 100usize..2000, 1 => 2000usize..=MAX_CIPHERTEXT];
    (20u8..=23, len).prop_flat_map(|(content_type, len)| {
        vec(any::<u8>(), len).prop_map(move |body| {
            let len = (body.len() as u16).to_be_bytes();
            [&[content_type, 3, 3][..], &len, &body].concat()
        })
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::strategy::ValueTree;
    use proptest::test_runner::TestRunner;

    use super::*;

    fn samples<S: Strategy>(strategy: S, n: usize) -> Vec<S::Value> {
        let mut runner = TestRunner::deterministic();
        (0..n).map(|_| strategy.new_tree(&mut runner).unwrap().current()).collect()
    }

    #[test]
    fn frames_of_every_type_are_made() {
        let types: BTreeSet<u8> = samples(frame(), 1000).iter().map(Frame::ty).collect();
        assert_eq!(types, (0x00..=0x09).chain(0x40..=0x4e).collect());
    }

    #[test]
    fn every_operation_but_close_and_drain_is_made() {
        let name = |op: &Op| format!("{op:?}").split([' ', '(']).next().unwrap().to_owned();
        let names: BTreeSet<String> = samples(op(), 2000).iter().map(name).collect();
        assert_eq!(names.len(), 31, "{names:?}");
        assert!(!names.contains("Close") && !names.contains("Drain"));
    }
}
