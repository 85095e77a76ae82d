//! Hellos against bytes written by hand from RFC 8446 and `docs/protocol.md`, against bad input, and against chance.

use bytes::BytesMut;
use proptest::prelude::*;

use super::*;
use crate::wire::ids::Token;
use crate::wire::record::{HEADER_LEN, MAX_PLAINTEXT};

const EXT: ExtensionTypes =
    ExtensionTypes { tcpls: 0xff60, tcpls_join: 0xff61, tcpls_token: 0xff62, tcpls_parameters: 0xff63 };

fn hex(text: &str) -> Vec<u8> {
    hex::decode(text.replace(' ', "")).unwrap()
}

/// A body and its type as a handshake message.
fn message(ty: u8, body: &[u8]) -> Vec<u8> {
    [&[ty], &(body.len() as u32).to_be_bytes()[1..], body].concat()
}

/// A message in records of at most `size` bytes each.
fn records(message: &[u8], size: usize) -> Vec<u8> {
    let record = |fragment: &[u8]| [&[22, 3, 1], &(fragment.len() as u16).to_be_bytes()[..], fragment].concat();
    message.chunks(size).flat_map(record).collect()
}

/// What one complete record in plaintext holds: type and body of its message.
fn body_of(record: &[u8]) -> &[u8] {
    split_message(&record[HEADER_LEN..]).unwrap().1
}

fn join_hello() -> JoinHello<'static> {
    JoinHello {
        random: [0x11; 32],
        session_id: [0x22; 32],
        suite: 0x1302,
        server_name: Some("example.com"),
        alpn: Some(b"tcpls"),
        key_share: [0x33; 32],
        token: Token([0x44; 32]),
        zero_rtt: None,
    }
}

fn zero_rtt_hello() -> JoinHello<'static> {
    let zero_rtt = ZeroRtt { identity: &[0x55; 8], obfuscated_age: 0x0102_0304, binder: &[0x66; 32] };
    JoinHello { zero_rtt: Some(zero_rtt), ..join_hello() }
}

fn encoded(hello: &JoinHello<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    hello.encode(&EXT, &mut out);
    out
}

/// The fields of the hello up to the length of the extensions, and the extensions that any join has.
const HELLO_FIELDS: &str = concat!(
    "0303",                                                             // legacy_version
    "1111111111111111111111111111111111111111111111111111111111111111", // random
    "20",                                                               // legacy_session_id, 32 bytes
    "2222222222222222222222222222222222222222222222222222222222222222",
    "0006 1302 1301 1303", // cipher_suites, the session's first
    "01 00",               // legacy_compression_methods: null
);
const HELLO_EXTENSIONS: &str = concat!(
    "0000 0010 000e 00 000b 6578616d706c652e636f6d", // server_name: a list of 14 bytes, host_name of 11
    "000a 0008 0006 001d 0017 0018",                 // supported_groups: x25519, secp256r1, secp384r1
    "000d 0016 0014",                                // signature_algorithms: ten of them
    "0403 0503 0603 0807 0804 0805 0806 0401 0501 0601",
    "0010 0008 0006 05 7463706c73", // ALPN: "tcpls"
    "002b 0003 02 0304",            // supported_versions: TLS 1.3
    "002d 0002 01 01",              // psk_key_exchange_modes: psk_dhe_ke
    "0033 0026 0024 001d 0020",     // key_share: one entry, x25519, 32 bytes
    "3333333333333333333333333333333333333333333333333333333333333333",
    "ff60 0000", // tcpls: empty
    "ff61 0020", // tcpls_join: the token and nothing else
    "4444444444444444444444444444444444444444444444444444444444444444",
);

// draft I13
#[test]
fn a_join_looks_like_this() {
    // draft E01, I11, I31, I32
    let golden = concat!(
        "16 0301 00f8", // handshake record, TLS 1.0, 248 bytes
        "01 0000f4",    // ClientHello, 244 bytes
    );
    let golden = [hex(golden), hex(HELLO_FIELDS), hex("00a5"), hex(HELLO_EXTENSIONS)].concat();
    assert_eq!(encoded(&join_hello()), golden);
}

#[test]
fn a_join_with_early_records_looks_like_a_resumption() {
    let golden = concat!(
        "16 0301 0133", // handshake record, TLS 1.0, 307 bytes
        "01 00012f",    // ClientHello, 303 bytes
    );
    let resumption = concat!(
        "002a 0000",                           // early_data
        "0029 0033",                           // pre_shared_key, 51 bytes, the last one
        "000e 0008 5555555555555555 01020304", // identities: one, and its obfuscated age
        "0021 20",                             // binders: one of 32 bytes
        "6666666666666666666666666666666666666666666666666666666666666666",
    );
    let golden = [hex(golden), hex(HELLO_FIELDS), hex("00e0"), hex(HELLO_EXTENSIONS), hex(resumption)].concat();
    assert_eq!(encoded(&zero_rtt_hello()), golden);
}

#[test]
fn fields_of_a_join_are_read_back() {
    let record = encoded(&join_hello());
    let hello = parse_client_hello(body_of(&record), &EXT).unwrap();
    let expected = ClientHello {
        random: [0x11; 32],
        session_id: [0x22; 32].into(),
        suites: vec![0x1302, 0x1301, 0x1303],
        server_name: Some("example.com".to_owned()),
        alpn: vec![b"tcpls".to_vec()],
        key_shares: vec![0x001d],
        supports_tls13: true,
        tcpls: true,
        join: Some(Token([0x44; 32])),
        early_data: false,
        psk: false,
        ticket: None,
        ech: None,
    };
    assert_eq!(hello, expected);
    let record = encoded(&zero_rtt_hello());
    let hello = parse_client_hello(body_of(&record), &EXT).unwrap();
    assert_eq!(hello, ClientHello { early_data: true, psk: true, ..expected });
}

#[test]
fn an_unusual_suite_is_offered_ahead_of_the_usual_ones() {
    let record = encoded(&JoinHello { suite: 0x1304, ..join_hello() });
    let hello = parse_client_hello(body_of(&record), &EXT).unwrap();
    assert_eq!(hello.suites, [0x1304, 0x1301, 0x1302, 0x1303]);
}

#[test]
fn names_that_no_extension_can_carry_are_left_out() {
    let long = "x".repeat(256);
    for name in ["", &long] {
        let record = encoded(&JoinHello { server_name: Some(name), alpn: Some(name.as_bytes()), ..join_hello() });
        let hello = parse_client_hello(body_of(&record), &EXT).unwrap();
        assert_eq!((hello.server_name, hello.alpn), (None, Vec::new()));
    }
}

// draft I47
#[test]
fn the_code_points_are_a_matter_of_configuration() {
    let other = ExtensionTypes { tcpls: 0xff70, tcpls_join: 0xff71, tcpls_token: 0xff72, tcpls_parameters: 0xff73 };
    let mut record = Vec::new();
    join_hello().encode(&other, &mut record);
    let read = |ext| parse_client_hello(body_of(&record), ext).unwrap();
    assert_eq!((read(&other).tcpls, read(&other).join), (true, Some(Token([0x44; 32]))));
    assert_eq!((read(&EXT).tcpls, read(&EXT).join), (false, None));
    assert_eq!(ExtensionTypes::default(), EXT);
}

fn join_server_hello() -> JoinServerHello<'static> {
    JoinServerHello { random: [0x77; 32], session_id: &[0x22; 32], suite: 0x1301, key_share: [0x88; 32], psk: false }
}

const SERVER_FIELDS: &str = concat!(
    "0303",                                                             // legacy_version
    "7777777777777777777777777777777777777777777777777777777777777777", // random
    "20",                                                               // legacy_session_id_echo
    "2222222222222222222222222222222222222222222222222222222222222222",
    "1301", // cipher_suite
    "00",   // legacy_compression_method
);
const SERVER_EXTENSIONS: &str = concat!(
    "002b 0002 0304",      // supported_versions: TLS 1.3
    "0033 0024 001d 0020", // key_share: x25519, 32 bytes
    "8888888888888888888888888888888888888888888888888888888888888888",
);

#[test]
fn the_answer_to_a_join_looks_like_this() {
    let mut plain = Vec::new();
    join_server_hello().encode(&mut plain);
    let head = hex("16 0303 007a  02 000076"); // record of 122 bytes, ServerHello of 118
    assert_eq!(plain, [head, hex(SERVER_FIELDS), hex("002e"), hex(SERVER_EXTENSIONS)].concat());

    let mut resumed = Vec::new();
    JoinServerHello { psk: true, ..join_server_hello() }.encode(&mut resumed);
    let head = hex("16 0303 0080  02 00007c"); // record of 128 bytes, ServerHello of 124
    let psk = hex("0029 0002 0000"); // pre_shared_key: the first
    assert_eq!(resumed, [head, hex(SERVER_FIELDS), hex("0034"), hex(SERVER_EXTENSIONS), psk].concat());
}

#[test]
fn fields_of_the_answer_are_read_back() {
    let mut record = Vec::new();
    join_server_hello().encode(&mut record);
    let hello = parse_server_hello(body_of(&record), &EXT).unwrap();
    let expected = ServerHello {
        random: [0x77; 32],
        session_id: [0x22; 32].into(),
        suite: 0x1301,
        tls13: true,
        is_retry_request: false,
    };
    assert_eq!(hello, expected);
}

#[test]
fn a_retry_request_is_recognised() {
    // RFC 8446, 4.1.3: the SHA-256 of "HelloRetryRequest".
    let random = ring::digest::digest(&ring::digest::SHA256, b"HelloRetryRequest");
    let mut record = Vec::new();
    JoinServerHello { random: random.as_ref().try_into().unwrap(), ..join_server_hello() }.encode(&mut record);
    assert!(parse_server_hello(body_of(&record), &EXT).unwrap().is_retry_request);
}

fn server_hello(legacy_version: &str, compression: &str, extensions: &str) -> Result<ServerHello, HelloError> {
    let random = "77".repeat(32);
    let extensions = hex(extensions);
    let mut body = hex(&format!("{legacy_version} {random} 00 1301 {compression}"));
    body.extend((extensions.len() as u16).to_be_bytes());
    body.extend(extensions);
    parse_server_hello(&body, &EXT)
}

// draft E11
#[test]
fn a_server_hello_that_breaks_a_rule_is_refused() {
    assert!(server_hello("0303", "00", "002b 0002 0304").unwrap().tls13);
    assert!(!server_hello("0303", "00", "").unwrap().tls13);
    assert!(!server_hello("0303", "00", "002b 0002 0303").unwrap().tls13);
    let refused = [
        (server_hello("0302", "00", ""), HelloError::IllegalParameter),
        (server_hello("0303", "01", ""), HelloError::IllegalParameter),
        (server_hello("0303", "00", "002b 0002 0304 002b 0002 0304"), HelloError::IllegalParameter),
        (server_hello("0303", "00", "ff60 0000"), HelloError::IllegalParameter), // draft I30
        (server_hello("0303", "00", "002b 0003 030400"), HelloError::Decode),
        (server_hello("0303", "00", "002b 0004 0304"), HelloError::Decode),
    ];
    for (at, (result, error)) in refused.into_iter().enumerate() {
        assert_eq!(result, Err(error), "case {at}");
    }
}

/// A ClientHello with these extensions and no others.
fn client_hello(extensions: &str) -> Vec<u8> {
    client_hello_with("01 00", extensions)
}

fn client_hello_with(compression: &str, extensions: &str) -> Vec<u8> {
    let random = "11".repeat(32);
    let extensions = hex(extensions);
    let mut body = hex(&format!("0303 {random} 00 0002 1301 {compression}"));
    body.extend((extensions.len() as u16).to_be_bytes());
    body.extend(extensions);
    body
}

fn parsed(extensions: &str) -> Result<ClientHello, HelloError> {
    parse_client_hello(&client_hello(extensions), &EXT)
}

#[test]
fn a_client_sends_one_token_of_32_bytes() {
    // draft E09, I10, I32
    let token = |len: usize| format!("ff61 {len:04x} {}", "44".repeat(len));
    assert_eq!(parsed(&token(32)).unwrap().join, Some(Token([0x44; 32])));
    for len in [0, 1, 31, 33, 64] {
        assert_eq!(parsed(&token(len)), Err(HelloError::Decode), "{len} bytes");
    }
    assert_eq!(parsed(&(token(32) + &token(32))), Err(HelloError::IllegalParameter));
    assert_eq!(parsed(&(token(32) + "000a 0004 0002 001d" + &token(32))), Err(HelloError::IllegalParameter));
}

#[test]
fn extensions_of_tcpls_stand_where_the_draft_has_them() {
    // draft I30, I31
    assert!(parsed("ff60 0000").unwrap().tcpls);
    assert_eq!(parsed("ff60 0001 00"), Err(HelloError::Decode));
    assert_eq!(parsed(&format!("ff62 0020 {}", "44".repeat(32))), Err(HelloError::IllegalParameter));
    assert!(parsed("ff63 0002 0000").is_ok());
}

#[test]
fn a_pre_shared_key_comes_last() {
    assert!(parsed("ff60 0000 0029 0002 0000").unwrap().psk);
    assert_eq!(parsed("0029 0002 0000 ff60 0000"), Err(HelloError::IllegalParameter));
}

#[test]
fn first_ticket_is_read_if_it_is_as_long_as_a_token() {
    let ticket = |identity: usize, list: usize, len: usize| {
        let body = format!("{list:04x} {identity:04x} {} 00000000 0021 20 {}", "55".repeat(len), "66".repeat(32));
        parsed(&format!("0029 {:04x} {body}", 2 + 2 + len + 4 + 2 + 33)).unwrap().ticket
    };
    assert_eq!(ticket(32, 38, 32), Some(Token([0x55; 32])));
    for (identity, list, len) in [(31, 37, 31), (33, 39, 33), (32, 33, 31), (32, 500, 32), (500, 38, 32), (32, 30, 32)]
    {
        assert_eq!(ticket(identity, list, len), None, "{identity} bytes in a list of {list}, and {len} in all");
    }
}

#[test]
fn name_that_a_join_may_show_follows_from_encrypted_client_hello() {
    let name = "0000 0006 0004 00 0001 61";
    assert_eq!(parsed(name).unwrap().cover(), None);
    let outer = parsed(&format!("{name} fe0d 0003 00 0001")).unwrap().cover().unwrap();
    assert_eq!(outer, Cover::Name(Some("a".to_owned())));
    assert!(outer.fits(Some("a")) && outer.fits(None) && !outer.fits(Some("b")));
    let nameless = parsed("fe0d 0003 00 0001").unwrap().cover().unwrap();
    assert!(nameless.fits(None) && !nameless.fits(Some("a")));
    let inner = parsed(&format!("{name} fe0d 0001 01")).unwrap().cover().unwrap();
    assert!(inner.fits(Some("b")) && inner.fits(None));
    let long = format!("0000 0105 0103 00 0100 {} fe0d 0001 00", "61".repeat(256));
    assert_eq!(parsed(&long).unwrap().cover(), Some(Cover::Name(None)), "what is kept of it is bounded");
    assert_eq!(parsed("fe0d 0000"), Err(HelloError::Decode));
}

#[test]
fn unknown_extensions_are_ignored() {
    let hello = parsed("1a1a 0003 010203 eaea 0000 0015 0001 00").unwrap();
    assert_eq!(hello, parsed("").unwrap());
}

#[test]
fn a_hello_without_extensions_is_an_old_clients() {
    let body = hex(&format!("0303 {} 00 0004 c02f 002f 02 01 00", "11".repeat(32)));
    let hello = parse_client_hello(&body, &EXT).unwrap();
    assert_eq!((hello.supports_tls13, hello.suites), (false, vec![0xc02f, 0x002f]));
}

#[test]
fn tls_1_3_knows_no_compression() {
    let parse = |compression, extensions| parse_client_hello(&client_hello_with(compression, extensions), &EXT);
    assert!(parse("02 01 00", "").is_ok());
    assert_eq!(parse("02 01 00", "002b 0003 02 0304"), Err(HelloError::IllegalParameter));
    assert_eq!(parse("01 01", "002b 0003 02 0304"), Err(HelloError::IllegalParameter));
    assert_eq!(parse("00", "002b 0003 02 0304"), Err(HelloError::Decode));
}

#[test]
fn malformed_extensions_can_not_be_decoded() {
    let malformed = [
        "0000 0000",                    // server_name without a list
        "0000 0002 0000",               // an empty list
        "0000 0005 0003 00 0000",       // an empty name
        "0000 0006 0004 00 0002 61",    // a name that is cut short
        "0000 0006 0004 00 0001 ff",    // not UTF-8
        "0000 0007 0004 00 0001 61 00", // a byte after the list
        "0010 0002 0000",               // ALPN with an empty list
        "0010 0003 0001 00",            // an empty protocol name
        "002b 0001 00",                 // supported_versions without one
        "002b 0002 01 03",              // half a version
        "002b 0004 02 0304 00",         // a byte after the list
        "002a 0001 00",                 // early_data that is not empty
        "0033 0006 0004 001d 0000",     // a key share without a key
        "0033 0007 0005 001d 0002 00",  // a key that is cut short
        "0033 0001 00",                 // half a length
        "0033",                         // half an extension
        "0033 0004 0000",               // an extension that is cut short
    ];
    for extensions in malformed {
        assert_eq!(parsed(extensions), Err(HelloError::Decode), "{extensions}");
    }
    assert_eq!(parsed("0000 0009 0007 00 0001 61 01 0000").unwrap().server_name.as_deref(), Some("a"));
    assert_eq!(parsed("0000 000a 0008 00 0001 61 00 0001 62"), Err(HelloError::IllegalParameter));
}

#[test]
fn more_protocol_names_than_the_limit_are_refused() {
    let alpn = |names: usize| {
        let list = names * 2;
        parsed(&format!("0010 {:04x} {list:04x} {}", list + 2, "0161".repeat(names)))
    };
    assert_eq!(alpn(128).unwrap().alpn.len(), 128);
    assert_eq!(alpn(129), Err(HelloError::Decode));
    assert_eq!(alpn(7_000), Err(HelloError::Decode));
}

#[test]
fn lists_of_suites_and_session_ids_have_bounds() {
    let random = "11".repeat(32);
    let parse = |rest: &str| parse_client_hello(&hex(&format!("0303 {random} {rest}")), &EXT);
    assert!(parse(&format!("20 {} 0002 1301 01 00 0000", "22".repeat(32))).is_ok());
    assert_eq!(parse(&format!("21 {} 0002 1301 01 00 0000", "22".repeat(33))), Err(HelloError::Decode));
    assert_eq!(parse("00 0000 01 00 0000"), Err(HelloError::Decode));
    assert_eq!(parse("00 0003 130113 01 00 0000"), Err(HelloError::Decode));
    assert_eq!(parse("00 0002 1301 01 00 0000 00"), Err(HelloError::Decode));
}

#[test]
fn every_cut_of_a_hello_is_an_error_and_no_flipped_bit_is_a_panic() {
    let mut server = Vec::new();
    JoinServerHello { psk: true, ..join_server_hello() }.encode(&mut server);
    let client = encoded(&zero_rtt_hello());
    let (client, server) = (body_of(&client), body_of(&server));
    // What ends before the extensions is a whole hello of an old version.
    let (before_client, before_server) = (hex(HELLO_FIELDS).len(), hex(SERVER_FIELDS).len());
    for cut in (0..client.len()).filter(|&cut| cut != before_client) {
        assert_eq!(parse_client_hello(&client[..cut], &EXT), Err(HelloError::Decode), "{cut} bytes");
    }
    for cut in (0..server.len()).filter(|&cut| cut != before_server) {
        assert_eq!(parse_server_hello(&server[..cut], &EXT), Err(HelloError::Decode), "{cut} bytes");
    }
    for body in [client, server] {
        for bit in 0..body.len() * 8 {
            let mut flipped = body.to_vec();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let _ = parse_client_hello(&flipped, &EXT);
            let _ = parse_server_hello(&flipped, &EXT);
        }
    }
}

/// Feeds `pieces` to a fresh reader one after the other, until there is a message.
fn read<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Result<Option<(Vec<u8>, BytesMut)>, HelloError> {
    let (mut reader, mut buffer) = (HelloReader::default(), BytesMut::new());
    for piece in pieces {
        buffer.extend_from_slice(piece);
        if let Some(message) = reader.push(&mut buffer)? {
            return Ok(Some((message, buffer)));
        }
    }
    Ok(None)
}

#[test]
fn hello_is_found_for_any_fragmentation() {
    let wire = encoded(&zero_rtt_hello());
    let hello = parse_client_hello(body_of(&wire), &EXT).unwrap();
    for cut in 0..wire.len() {
        let (before, after) = wire.split_at(cut);
        assert_eq!(peek_client_hello(before, &EXT), Ok(None), "{cut} bytes");
        let (message, left) = read([before, after]).unwrap().unwrap();
        assert_eq!((&message[..], left.len()), (&wire[HEADER_LEN..], 0), "cut at {cut}");
    }
    let (message, _) = read(wire.chunks(1)).unwrap().unwrap();
    assert_eq!(message, wire[HEADER_LEN..]);
    assert_eq!(peek_client_hello(&wire, &EXT), Ok(Some((hello, wire.len()))));
}

#[test]
fn a_hello_is_found_in_records_of_every_size() {
    let whole = encoded(&zero_rtt_hello());
    let hello = parse_client_hello(body_of(&whole), &EXT).unwrap();
    let message = &whole[HEADER_LEN..];
    for size in 1..=message.len() {
        let wire = records(message, size);
        let early = [&wire[..], &CHANGE_CIPHER_SPEC, &[23, 3, 3, 0, 1, 0]].concat();
        assert_eq!(peek_client_hello(&early, &EXT), Ok(Some((hello.clone(), wire.len()))), "records of {size}");
        let (found, left) = read([&early[..]]).unwrap().unwrap();
        assert_eq!((&found[..], &left[..]), (message, &early[wire.len()..]), "records of {size}");
    }
}

#[test]
fn a_hello_is_found_with_a_record_border_at_every_byte() {
    let whole = encoded(&join_hello());
    let message = &whole[HEADER_LEN..];
    for cut in 1..message.len() {
        let wire = [records(&message[..cut], cut), records(&message[cut..], message.len())].concat();
        let (hello, len) = peek_client_hello(&wire, &EXT).unwrap().unwrap();
        assert_eq!((hello.join, len), (Some(Token([0x44; 32])), wire.len()), "border at {cut}");
        assert_eq!(peek_client_hello(&wire[..wire.len() - 1], &EXT), Ok(None));
    }
}

#[test]
fn a_reader_reads_one_message_after_another() {
    let (mut reader, mut buffer) = (HelloReader::default(), BytesMut::new());
    for body in [&[1_u8, 2, 3][..], &[], &[4; 300]] {
        let message = message(SERVER_HELLO, body);
        buffer.extend_from_slice(&records(&message, 2));
        assert_eq!(reader.push(&mut buffer), Ok(Some(message)));
    }
    assert!(buffer.is_empty());
}

#[test]
fn a_hello_fills_its_last_record() {
    let one_more = [message(CLIENT_HELLO, &client_hello("")), vec![0]].concat();
    let wire = records(&one_more, MAX_PLAINTEXT);
    assert_eq!(peek_client_hello(&wire, &EXT), Err(HelloError::Unexpected));
    assert_eq!(read([&wire[..]]), Err(HelloError::Unexpected));
}

#[test]
fn empty_records_are_refused() {
    let wire = [&records(&[CLIENT_HELLO], 1)[..], &[22, 3, 1, 0, 0]].concat();
    assert_eq!(peek_client_hello(&wire, &EXT), Err(HelloError::Unexpected));
    assert_eq!(read([&wire[..]]), Err(HelloError::Unexpected));
}

#[test]
fn other_records_are_refused_and_stay_to_be_looked_at() {
    let fragment = records(&[SERVER_HELLO, 0], 2);
    for other in [&[21, 3, 3, 0, 2, 2, 47][..], &CHANGE_CIPHER_SPEC, &[23, 3, 3, 0, 1, 0]] {
        let mut buffer = BytesMut::from(&[&fragment[..], other].concat()[..]);
        let mut reader = HelloReader::default();
        for _ in 0..2 {
            assert_eq!(reader.push(&mut buffer), Err(HelloError::Unexpected));
            assert_eq!(&buffer[..], other);
        }
        assert_eq!(peek_client_hello(other, &EXT), Err(HelloError::Unexpected));
    }
    assert_eq!(peek_client_hello(b"GET / HTTP/1.1\r\n", &EXT), Err(HelloError::NotTls));
    assert_eq!(read([&b"SSH-2.0-"[..]]), Err(HelloError::NotTls));
}

#[test]
fn only_a_client_hello_begins_a_tcp_connection() {
    let wire = records(&[SERVER_HELLO], 1);
    assert_eq!(peek_client_hello(&wire, &EXT), Err(HelloError::Unexpected));
}

#[test]
fn a_hello_takes_16_kib_at_most() {
    // The most that fits, in one record.
    let longest = records(&message(CLIENT_HELLO, &[0; MAX_HELLO - 9]), MAX_PLAINTEXT);
    assert_eq!(longest.len(), MAX_HELLO);
    assert!(read([&longest[..]]).unwrap().is_some());
    // A byte more: refused for its record's length alone.
    let too_long = records(&message(CLIENT_HELLO, &[0; MAX_HELLO - 8]), MAX_PLAINTEXT);
    assert_eq!(read([&too_long[..HEADER_LEN]]), Err(HelloError::TooLong));
    assert_eq!(peek_client_hello(&too_long[..HEADER_LEN], &EXT), Err(HelloError::TooLong));
    // Announced by the message.
    let announced = records(&[CLIENT_HELLO, 0, 0x40, 1], 4);
    assert_eq!(peek_client_hello(&announced, &EXT), Err(HelloError::TooLong));
    assert_eq!(read([&announced[..]]), Err(HelloError::TooLong));
    // Crumbs: the headers count.
    let crumbs = records(&message(CLIENT_HELLO, &[0; 4000]), 1);
    assert_eq!(peek_client_hello(&crumbs, &EXT), Err(HelloError::TooLong));
    assert_eq!(read([&crumbs[..]]), Err(HelloError::TooLong));
    // Longer than any record in plaintext.
    assert_eq!(peek_client_hello(&[22, 3, 1, 0x40, 1], &EXT), Err(HelloError::RecordOverflow));
}

#[test]
fn each_error_has_its_alert() {
    assert_eq!(HelloError::NotTls.alert(), Alert::UnexpectedMessage);
    assert_eq!(HelloError::RecordOverflow.alert(), Alert::RecordOverflow);
    assert_eq!(HelloError::Unexpected.alert(), Alert::UnexpectedMessage);
    assert_eq!(HelloError::TooLong.alert(), Alert::DecodeError);
    assert_eq!(HelloError::Decode.alert(), Alert::DecodeError);
    assert_eq!(HelloError::IllegalParameter.alert(), Alert::IllegalParameter);
}

#[test]
fn message_length_must_match_its_header() {
    assert_eq!(split_message(&[1, 0, 0, 2, 8, 9]), Ok((1, &[8, 9][..])));
    assert_eq!(split_message(&[1, 0, 0, 0]), Ok((1, &[][..])));
    assert_eq!(split_message(&[1, 0, 0, 2, 8]), Err(HelloError::Decode));
    assert_eq!(split_message(&[1, 0, 0, 0, 8]), Err(HelloError::Decode));
    assert_eq!(split_message(&[1, 0, 0]), Err(HelloError::Decode));
}

fn bytes(len: usize) -> impl Strategy<Value = Vec<u8>> {
    proptest::collection::vec(any::<u8>(), 0..len)
}

#[test]
fn errors_describe_their_cause() {
    assert_eq!(HelloError::TooLong.to_string(), "hello of more than 16 KiB");
    assert_eq!(HelloError::Decode.to_string(), "hello that can't be decoded");
}

proptest! {
    #[test]
    fn any_bytes_go_through_every_parser(bytes in bytes(400)) {
        let _ = parse_client_hello(&bytes, &EXT);
        let _ = parse_server_hello(&bytes, &EXT);
        let _ = split_message(&bytes);
        let _ = read([&bytes[..]]);
        prop_assert!(!matches!(peek_client_hello(&bytes, &EXT), Ok(Some((_, len))) if len > bytes.len()));
    }

    #[test]
    fn any_body_behind_a_valid_beginning_is_parsed_without_a_panic(bytes in bytes(300)) {
        let random = [0x11; 34];
        let _ = parse_client_hello(&[&random[..], &bytes].concat(), &EXT);
        let _ = parse_server_hello(&[&random[..], &bytes].concat(), &EXT);
        let fields = hex(HELLO_FIELDS);
        let len = (bytes.len() as u16).to_be_bytes();
        let _ = parse_client_hello(&[&fields[..], &len, &bytes].concat(), &EXT);
    }

    #[test]
    fn any_extension_body_is_parsed_without_a_panic(
        ty in proptest::sample::select(vec![0u16, 10, 13, 16, 41, 42, 43, 45, 51, 0xff60, 0xff61, 0xff62, 0xff63]),
        body in proptest::collection::vec(0u8..4, 0..40),
    ) {
        let mut list = Vec::new();
        put_extension(ty, &mut list, |out| out.extend_from_slice(&body));
        let _ = parsed(&hex::encode(&list));
        let _ = server_hello("0303", "00", &hex::encode(&list));
    }

    #[test]
    fn any_fragmentation_of_a_hello_gives_the_same_hello(
        mut sizes in proptest::collection::vec(1usize..80, 400),
        pieces in 1usize..500,
    ) {
        let whole = encoded(&zero_rtt_hello());
        let (mut rest, mut wire) = (&whole[HEADER_LEN..], Vec::new());
        while let (false, Some(size)) = (rest.is_empty(), sizes.pop()) {
            let (fragment, after) = rest.split_at(size.min(rest.len()));
            wire.extend(records(fragment, fragment.len()));
            rest = after;
        }
        prop_assert!(rest.is_empty());
        let (message, left) = read(wire.chunks(pieces)).unwrap().unwrap();
        prop_assert_eq!(&message[..], &whole[HEADER_LEN..]);
        prop_assert!(left.is_empty());
        prop_assert_eq!(peek_client_hello(&wire, &EXT).unwrap().map(|(_, len)| len), Some(wire.len()));
    }

    #[test]
    fn any_join_is_read_back(
        random: [u8; 32],
        session_id: [u8; 32],
        suite: u16,
        name in proptest::option::of("[a-z0-9.-]{1,255}"),
        alpn in proptest::option::of(proptest::collection::vec(any::<u8>(), 1..256)),
        key_share: [u8; 32],
        token: [u8; 32],
        ticket in proptest::option::of((proptest::collection::vec(any::<u8>(), 1..1500), any::<u32>())),
    ) {
        let zero_rtt = ticket.as_ref().map(|(identity, obfuscated_age)| {
            ZeroRtt { identity, obfuscated_age: *obfuscated_age, binder: &[0; 48] }
        });
        let token = Token(token);
        let (server_name, alpn) = (name.as_deref(), alpn.as_deref());
        let hello = JoinHello { random, session_id, suite, server_name, alpn, key_share, token, zero_rtt };
        let wire = encoded(&hello);
        let (read, len) = peek_client_hello(&wire, &EXT).unwrap().unwrap();
        prop_assert_eq!(len, wire.len());
        prop_assert_eq!((read.random, &read.session_id[..], read.join), (random, &session_id[..], Some(token)));
        prop_assert_eq!(read.suites.first(), Some(&suite));
        prop_assert_eq!((read.server_name, read.alpn.first().map(Vec::as_slice)), (name, alpn));
        prop_assert_eq!((read.early_data, read.psk), (ticket.is_some(), ticket.is_some()));
    }
}
