//! Frames against the vectors of an independent implementation, against hand-made bad input, and against chance.

use proptest::prelude::*;
use serde_json::Value;

use super::*;
use crate::error::Violation;
use crate::testing::strategies::frame;
use crate::wire::record::{MAX_PLAINTEXT, MAX_STREAM_DATA};

const VECTORS: &str = include_str!("../../../testdata/vectors.json");

/// The frames of the vector file: the JSON object and the bytes that go with it.
fn vectors() -> Vec<(Value, Vec<u8>)> {
    let file: Value = serde_json::from_str(VECTORS).unwrap();
    let frames = file["frames"].as_array().unwrap().iter();
    frames.map(|vector| (vector.clone(), hex::decode(vector["hex"].as_str().unwrap()).unwrap())).collect()
}

fn encoded(frame: Frame<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    frame.encode(&mut out);
    assert_eq!(out.len(), frame.encoded_len(), "{frame:?}");
    out
}

/// All frames of a record, the last one first.
fn decoded(plaintext: &[u8]) -> Result<Vec<Frame<'_>>, FrameError> {
    Frames::new(plaintext).collect()
}

/// The record that holds `frames`, which are given last one first.
fn record(frames: &[Frame<'_>]) -> Vec<u8> {
    frames.iter().rev().copied().flat_map(encoded).collect()
}

fn only(plaintext: &[u8]) -> Result<Frame<'_>, FrameError> {
    let mut frames = Frames::new(plaintext);
    let first = frames.next().expect("there is a byte");
    assert!(first.is_err() || frames.next().is_none(), "more than one frame in {plaintext:02x?}");
    first
}

/// Bytes are either refused or are just what their frames are encoded as: there is one way to write a frame.
fn check_any_bytes(plaintext: &[u8]) {
    if let Ok(frames) = decoded(plaintext) {
        assert_eq!(record(&frames), plaintext);
    }
}

/// The fields of a vector, by name.
struct Fields<'a>(&'a Value);

impl Fields<'_> {
    fn u64(&self, name: &str) -> u64 {
        self.0[name].as_u64().unwrap()
    }

    fn u32(&self, name: &str) -> u32 {
        self.u64(name).try_into().unwrap()
    }

    fn u8(&self, name: &str) -> u8 {
        self.u64(name).try_into().unwrap()
    }

    fn bytes(&self, name: &str) -> Vec<u8> {
        hex::decode(self.0[name].as_str().unwrap()).unwrap()
    }

    fn tcp(&self) -> ConnectionId {
        ConnectionId(self.u32("connection_id"))
    }

    fn stream(&self) -> StreamId {
        StreamId(self.u32("stream_id"))
    }

    fn error(&self) -> ErrorCode {
        ErrorCode(self.u32("error"))
    }

    fn token(&self) -> Token {
        Token(self.bytes("token").try_into().unwrap())
    }

    fn address(&self) -> SocketAddr {
        let octets = self.bytes("address");
        match self.u64("version") {
            4 => (<[u8; 4]>::try_from(octets).unwrap(), self.u64("port") as u16).into(),
            6 => (<[u8; 16]>::try_from(octets).unwrap(), self.u64("port") as u16).into(),
            other => panic!("version {other}"),
        }
    }

    fn entries(&self) -> Vec<u8> {
        let values = self.0["values"].as_array().unwrap().iter();
        let entry = |pair: &Value| {
            let mut entry = vec![pair[0].as_u64().unwrap() as u8];
            entry.extend(pair[1].as_u64().unwrap().to_be_bytes());
            entry
        };
        values.flat_map(entry).collect()
    }
}

/// The frame that a vector describes; `data` has what it borrows.
fn described<'a>(name: &str, fields: &Fields<'_>, data: &'a [u8]) -> Frame<'a> {
    match name {
        "ping" => Frame::Ping,
        "padding" => Padding { len: 1 }.into(),
        "stream" => {
            let fin = fields.0["fin"].as_bool().unwrap();
            Stream { id: fields.stream(), offset: fields.u64("offset"), fin, data }.into()
        }
        "ack" => Ack { tcp: fields.tcp(), highest: RecordSeq(fields.u64("highest")) }.into(),
        "new_token" => NewToken { sequence: fields.u8("sequence"), token: fields.token() }.into(),
        "connection_reset" => ConnectionReset { tcp: fields.tcp() }.into(),
        "new_address" => NewAddress { id: AddressId(fields.u8("id")), address: fields.address() }.into(),
        "remove_address" => RemoveAddress { id: AddressId(fields.u8("id")) }.into(),
        "stream_change" => {
            let next_stream = StreamId(fields.u32("next_stream_id"));
            StreamChange { next_stream, next_offset: fields.u64("next_offset") }.into()
        }
        "session_parameters" => SessionParameters { entries: data }.into(),
        "max_data" => MaxData { maximum: fields.u64("maximum") }.into(),
        "max_stream_data" => MaxStreamData { id: fields.stream(), maximum: fields.u64("maximum") }.into(),
        "max_streams" => MaxStreams { maximum: fields.u32("maximum") }.into(),
        "reset_stream" => {
            ResetStream { id: fields.stream(), error: fields.error(), final_size: fields.u64("final_size") }.into()
        }
        "stop_sending" => StopSending { id: fields.stream(), error: fields.error() }.into(),
        "close_session" => CloseSession { error: fields.error(), reason: data }.into(),
        "new_token_wide" => NewTokenWide { sequence: fields.u32("sequence"), token: fields.token() }.into(),
        "connection_status" => ConnectionStatus { tcp: fields.tcp(), backup: fields.u64("status") == 0 }.into(),
        "connection_reset_reason" => ConnectionResetReason { tcp: fields.tcp(), reason: fields.u8("reason") }.into(),
        "lane" => Frame::Lane,
        "drain" => Drain { streams: fields.u32("streams") }.into(),
        "tcp_option" => TcpOption { kind: fields.u8("kind"), value: data }.into(),
        "tcp_option_request" => {
            let (id, tcp) = (OptionRequestId(fields.u32("request")), ConnectionId(fields.u32("connection_id")));
            TcpOptionRequest { id, tcp, kind: fields.u8("kind"), value: data }.into()
        }
        "tcp_option_answer" => {
            TcpOptionAnswer { id: OptionRequestId(fields.u32("request")), outcome: fields.u8("outcome") }.into()
        }
        other => panic!("a vector of an unknown frame, {other}"),
    }
}

#[test]
fn every_frame_has_the_bytes_that_the_independent_implementation_gives_it() {
    // draft I36, I41–I46
    let vectors = vectors();
    assert!(vectors.len() >= 42);
    for (vector, bytes) in &vectors {
        let (name, fields) = (vector["frame"].as_str().unwrap(), Fields(&vector["fields"]));
        let data = match name {
            "stream" => fields.bytes("data"),
            "close_session" => fields.bytes("reason"),
            "tcp_option" | "tcp_option_request" => fields.bytes("value"),
            "session_parameters" => fields.entries(),
            _ => Vec::new(),
        };
        let frame = described(name, &fields, &data);
        assert_eq!(encoded(frame), *bytes, "{vector}");
        assert_eq!(only(bytes), Ok(frame), "{vector}");
        assert_eq!(frame.name(), name);
    }
}

#[test]
fn refused_vectors_give_their_errors() {
    let file: Value = serde_json::from_str(VECTORS).unwrap();
    let vectors = file["refused_frames"].as_array().unwrap();
    assert!(vectors.len() >= 14);
    for vector in vectors {
        let fields = Fields(vector);
        let ty = fields.u8("type");
        let error = match vector["error"].as_str().unwrap() {
            "unknown" => FrameError::Unknown(ty),
            "truncated" => FrameError::Truncated(ty),
            "invalid_field" => FrameError::InvalidField(ty),
            other => panic!("an unknown error, {other}"),
        };
        assert_eq!(decoded(&fields.bytes("hex")), Err(error), "{vector}");
    }
}

#[test]
fn the_parameters_of_the_vectors_are_written_as_they_were() {
    for (vector, bytes) in vectors() {
        if let Ok(Frame::SessionParameters(SessionParameters { entries })) = only(&bytes) {
            let mut again = Vec::new();
            Parameters::from_entries(entries).encode_entries(&mut again);
            assert_eq!(again, entries, "{vector}");
        }
    }
}

#[test]
fn every_cut_and_every_flipped_bit_of_a_vector_is_refused_or_is_another_good_record() {
    for (_, bytes) in vectors() {
        for cut in 0..=bytes.len() {
            check_any_bytes(&bytes[..cut]);
            check_any_bytes(&bytes[cut..]);
        }
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            check_any_bytes(&flipped);
        }
    }
}

#[test]
fn a_vector_without_its_first_bytes_is_cut_short() {
    for (vector, bytes) in vectors() {
        for cut in 1..bytes.len() {
            let ty = bytes[bytes.len() - 1];
            let error = only(&bytes[cut..]).expect_err("a frame that lacks bytes");
            assert_eq!(error, FrameError::Truncated(ty), "{vector} from {cut}");
        }
    }
}

#[test]
fn the_worked_example_decodes_from_its_end() {
    // draft I35: Ping, then Stream 4 at 0x10 with "hi" and FIN, then ACK of record 7 on TCP connection 1.
    let plaintext = hex::decode(
        concat!("01", "6869 0002 0000000000000010 00000004 03", "0000000000000007 00000001 04").replace(' ', ""),
    )
    .unwrap();
    let frames = [
        Frame::Ack(Ack { tcp: ConnectionId(1), highest: RecordSeq(7) }),
        Frame::Stream(Stream { id: StreamId(4), offset: 0x10, fin: true, data: b"hi" }),
        Frame::Ping,
    ];
    assert_eq!(decoded(&plaintext), Ok(frames.to_vec()));
    assert_eq!(record(&frames), plaintext);
}

#[test]
fn a_run_of_padding_is_one_item() {
    // draft I39
    let mut plaintext = vec![0; 3];
    plaintext.push(ty::PING);
    plaintext.resize(MAX_PLAINTEXT, 0);
    let frames = [Padding { len: MAX_PLAINTEXT - 4 }.into(), Frame::Ping, Padding { len: 3 }.into()];
    assert_eq!(decoded(&plaintext), Ok(frames.to_vec()));
    assert_eq!(record(&frames), plaintext);
}

#[test]
fn padding_does_not_include_zeros_of_a_frame() {
    let frames = [
        Frame::Padding(Padding { len: 2 }),
        Frame::Stream(Stream { id: StreamId(0), offset: 0, fin: false, data: &[0; 4] }),
        Frame::Padding(Padding { len: 1 }),
    ];
    assert_eq!(decoded(&record(&frames)), Ok(frames.to_vec()));
}

#[test]
fn types_out_of_the_table_are_unknown() {
    // draft I36
    for ty in (0x0a..0x40).chain(0x4f..=0xff) {
        let plaintext = [[0xaa; 40].as_slice(), &[ty]].concat();
        assert_eq!(decoded(&plaintext), Err(FrameError::Unknown(ty)));
    }
}

#[test]
fn after_an_error_there_is_nothing_more() {
    let mut frames = Frames::new(&[ty::PING, 0xff, ty::PING]);
    assert_eq!(frames.next(), Some(Ok(Frame::Ping)));
    assert_eq!(frames.next(), Some(Err(FrameError::Unknown(0xff))));
    assert_eq!(frames.next(), None);
    assert_eq!(frames.next(), None);
}

#[test]
fn an_address_is_of_version_4_or_6() {
    // draft I45
    let v4 = hex::decode("01bb0a00000104f007").unwrap();
    let address = NewAddress { id: AddressId(0xf0), address: "10.0.0.1:443".parse().unwrap() };
    assert_eq!(only(&v4), Ok(address.into()));
    for version in (0..=255).filter(|version| ![4, 6].contains(version)) {
        let plaintext = [[1; 18].as_slice(), &[version, 0, ty::NEW_ADDRESS]].concat();
        assert_eq!(only(&plaintext), Err(FrameError::InvalidField(ty::NEW_ADDRESS)));
    }
}

#[test]
fn a_connection_is_backup_or_available() {
    let status = |backup| Ok(ConnectionStatus { tcp: ConnectionId(9), backup }.into());
    assert_eq!(only(&[0, 0, 0, 0, 9, ty::CONNECTION_STATUS]), status(true));
    assert_eq!(only(&[1, 0, 0, 0, 9, ty::CONNECTION_STATUS]), status(false));
    for other in 2..=255 {
        let refused = Err(FrameError::InvalidField(ty::CONNECTION_STATUS));
        assert_eq!(only(&[other, 0, 0, 0, 9, ty::CONNECTION_STATUS]), refused);
    }
}

#[test]
fn repeated_parameter_is_an_error() {
    let frame = |ids: &[u8]| {
        let mut plaintext: Vec<u8> = ids.iter().flat_map(|&id| [id; 9]).collect();
        plaintext.extend([ids.len() as u8, ty::SESSION_PARAMETERS]);
        plaintext
    };
    assert!(only(&frame(&[])).is_ok());
    assert!(only(&frame(&[7, 1, 200])).is_ok());
    assert!(only(&frame(&(0..255).collect::<Vec<u8>>())).is_ok());
    assert_eq!(only(&frame(&[200, 1, 200])), Err(FrameError::InvalidField(ty::SESSION_PARAMETERS)));
    // One entry announced, a byte missing.
    assert_eq!(only(&frame(&[1])[1..]), Err(FrameError::Truncated(ty::SESSION_PARAMETERS)));
}

#[test]
fn a_stream_ends_at_2_to_the_62nd_at_most() {
    let frame = |offset, data| Frame::Stream(Stream { id: StreamId(8), offset, fin: false, data });
    let last = frame(MAX_STREAM_SIZE - 2, b"hi");
    assert_eq!(only(&encoded(last)), Ok(last));
    assert_eq!(only(&encoded(frame(MAX_STREAM_SIZE, b""))), Ok(frame(MAX_STREAM_SIZE, b"")));
    for bad in [frame(MAX_STREAM_SIZE - 1, b"hi"), frame(MAX_STREAM_SIZE + 1, b""), frame(u64::MAX, b"hi")] {
        assert_eq!(only(&encoded(bad)), Err(FrameError::InvalidField(ty::STREAM)));
    }
}

#[test]
fn a_token_is_not_numbered_0() {
    let narrow = |sequence| encoded(NewToken { sequence, token: Token([7; 32]) }.into());
    let wide = |sequence| encoded(NewTokenWide { sequence, token: Token([7; 32]) }.into());
    assert!(only(&narrow(1)).is_ok());
    assert!(only(&wide(1)).is_ok());
    assert_eq!(only(&narrow(0)), Err(FrameError::InvalidField(ty::NEW_TOKEN)));
    assert_eq!(only(&wide(0)), Err(FrameError::InvalidField(ty::NEW_TOKEN_WIDE)));
}

#[test]
fn a_full_record_of_stream_data_lies_at_its_start_and_is_not_copied() {
    // draft E05
    let data = vec![0x5a; MAX_STREAM_DATA];
    let plaintext = encoded(Stream { id: StreamId(2), offset: 1, fin: false, data: &data }.into());
    assert_eq!(plaintext.len(), MAX_PLAINTEXT);
    let Ok(Frame::Stream(stream)) = only(&plaintext) else { panic!("no stream") };
    assert_eq!(stream.data, data);
    assert_eq!(stream.data.as_ptr(), plaintext.as_ptr());
}

#[test]
fn the_tail_of_a_stream_frame_written_apart_is_the_same() {
    let mut out = b"so long".to_vec();
    encode_stream_tail(StreamId(3), 70, true, 7, &mut out);
    assert_eq!(out, encoded(Stream { id: StreamId(3), offset: 70, fin: true, data: b"so long" }.into()));
    assert_eq!(out.len(), 7 + STREAM_OVERHEAD);
}

// draft I47
#[test]
fn all_but_padding_and_ack_elicit_an_ack_and_types_up_to_9_are_the_drafts() {
    // draft I37
    for (_, bytes) in vectors() {
        let frame = only(&bytes).unwrap();
        assert_eq!(frame.is_ack_eliciting(), ![0x00, 0x04].contains(&frame.ty()), "{frame:?}");
        assert_eq!(frame.is_draft(), frame.ty() < 0x40, "{frame:?}");
    }
}

#[test]
fn bytes_beyond_a_length_field_are_left_out() {
    let long = vec![1; 70_000];
    let out = encoded(CloseSession { error: ErrorCode(1), reason: &long }.into());
    assert_eq!(only(&out), Ok(CloseSession { error: ErrorCode(1), reason: &long[..65_535] }.into()));
    let entries: Vec<u8> = (0..=255).flat_map(|id| [id; 9]).collect();
    let out = encoded(SessionParameters { entries: &entries }.into());
    assert_eq!(only(&out), Ok(SessionParameters { entries: &entries[..255 * 9] }.into()));
}

#[test]
fn a_frame_is_small() {
    assert!(size_of::<Frame<'_>>() <= 40);
}

#[test]
fn each_error_is_a_rule_that_the_peer_broke() {
    assert_eq!(Violation::from(FrameError::Unknown(1)), Violation::UnknownFrame(1));
    assert_eq!(Violation::from(FrameError::Truncated(2)), Violation::TruncatedFrame(2));
    assert_eq!(Violation::from(FrameError::InvalidField(3)), Violation::InvalidField(3));
}

/// Runs of Padding side by side are one when read.
fn merged(frames: Vec<Frame<'_>>) -> Vec<Frame<'_>> {
    let mut merged: Vec<Frame<'_>> = Vec::new();
    for frame in frames {
        match (merged.last_mut(), frame) {
            (Some(Frame::Padding(before)), Frame::Padding(after)) => before.len += after.len,
            _ => merged.push(frame),
        }
    }
    merged
}

#[test]
fn frame_errors_name_the_frame_and_the_cause() {
    assert_eq!(FrameError::Unknown(0x7f).to_string(), "unknown frame type 0x7f");
    assert_eq!(FrameError::Truncated(0x02).to_string(), "frame of type 0x02 is truncated");
}

proptest! {
    #[test]
    fn encoded_frames_decode_last_one_first(
        frames in proptest::collection::vec(frame(), 0..12),
    ) {
        let plaintext = record(&frames);
        prop_assert_eq!(decoded(&plaintext), Ok(merged(frames)));
    }

    #[test]
    fn any_bytes_are_refused_or_are_the_encoding_of_their_frames(
        bytes in proptest::collection::vec(any::<u8>(), 0..300),
    ) {
        check_any_bytes(&bytes);
    }

    #[test]
    fn any_bytes_before_a_known_type_are_refused_or_are_the_encoding_of_their_frames(
        mut bytes in proptest::collection::vec(0u8..12, 0..80),
        ty in prop_oneof![0u8..10, 0x40u8..0x4d],
    ) {
        bytes.push(ty);
        check_any_bytes(&bytes);
    }
}
