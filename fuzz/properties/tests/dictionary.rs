//! The fuzzer's dictionary has one frame of every type, as the codec encodes it, and every type byte.

#![allow(clippy::unwrap_used, reason = "what fails here is a failed test")]

use std::fmt::Write;
use std::fs;
use std::path::PathBuf;

use tcpls_core::testing::peer::frames::{
    PING, ack, address, close_session, connection_reset, connection_reset_reason, connection_status, fin, max_data,
    max_stream_data, max_streams, option_answer, option_request, padding, parameters, remove_address, reset_stream,
    stop_sending, stream, stream_change, tcp_option, token, token_wide,
};
use tcpls_core::wire::frame::Frame;
use tcpls_core::{AddressId, ConnectionId};

fn frames() -> Vec<Frame<'static>> {
    let v6 = tcpls_core::wire::frame::NewAddress { id: AddressId(2), address: "[2001:db8::1]:443".parse().unwrap() };
    vec![
        padding(1),
        PING,
        stream(0, 0, b"data"),
        fin(0, 4, b"data"),
        ack(ConnectionId(0), 1),
        token(1, 7),
        connection_reset(ConnectionId(1)),
        address(1, 1),
        v6.into(),
        remove_address(1),
        stream_change(0, 8),
        parameters(&[1, 0, 0, 0, 0, 0, 1, 0, 0]),
        max_data(1 << 20),
        max_stream_data(0, 1 << 20),
        max_streams(16),
        reset_stream(0, 8),
        stop_sending(1),
        close_session(0),
        token_wide(300, 7),
        connection_status(ConnectionId(1), true),
        connection_reset_reason(ConnectionId(1), 1),
        tcp_option(28, &[0, 30]),
        option_request(0, ConnectionId(0), 28, &[0, 30]),
        option_answer(0, 1),
        Frame::Lane,
        tcpls_core::wire::frame::Drain { streams: 1 }.into(),
    ]
}

/// In the format of libFuzzer and AFL.
fn dictionary() -> String {
    let mut text =
        "# A frame of each type, then the types. Written by fuzz/properties/tests/dictionary.rs.\n".to_owned();
    let mut entry = |name: &str, bytes: &[u8]| {
        let escaped = bytes.iter().fold(String::new(), |mut text, byte| {
            write!(text, "\\x{byte:02x}").unwrap();
            text
        });
        writeln!(text, "{name}=\"{escaped}\"").unwrap();
    };
    for (number, frame) in frames().iter().enumerate() {
        let mut bytes = Vec::new();
        frame.encode(&mut bytes);
        entry(&format!("{}_{number}", frame.name()), &bytes);
    }
    (0x00..=0x09).chain(0x40..=0x4e).for_each(|ty: u8| entry(&format!("type_{ty:02x}"), &[ty]));
    text
}

/// `UPDATE_DOCS=1` writes the file anew.
#[test]
fn dictionary_has_a_frame_of_every_type() {
    let types: std::collections::BTreeSet<u8> = frames().iter().map(Frame::ty).collect();
    assert_eq!(types, (0x00..=0x09).chain(0x40..=0x4e).collect());
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../frames.dict");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(&path, dictionary()).unwrap();
    }
    assert_eq!(fs::read_to_string(&path).unwrap(), dictionary(), "{} is out of date", path.display());
}
