//! Kinds and values of options on the wire.

use super::*;

fn name(name: &str) -> TcpOption {
    TcpOption::CongestionControl(CongestionName::new(name).unwrap())
}

fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

#[test]
fn options_have_the_bytes_of_the_specification_and_are_read_as_written() {
    let options = [
        (TcpOption::UserTimeout(secs(30)), 28, &[0, 30][..]),
        (TcpOption::UserTimeout(secs(0x7fff)), 28, &[0x7f, 0xff]),
        (TcpOption::UserTimeout(secs(600 * 60)), 28, &[0x82, 0x58]),
        (name("bbr"), 254, b"bbr"),
        (TcpOption::KeepAlive(Some(secs(300))), 253, &[0, 0, 1, 44]),
        (TcpOption::KeepAlive(None), 253, &[0; 4]),
        (TcpOption::Socket(SocketOption::SendBuffer, 65536), 252, b"SO_SNDBUF=65536"),
    ];
    for (option, kind, value) in options {
        assert_eq!(option.encode(), (kind, value.to_vec()));
        assert_eq!(TcpOption::decode(kind, value), Ok(option));
    }
}

#[test]
fn times_are_rounded_up_to_what_can_be_written() {
    let written = |time| TcpOption::UserTimeout(time).encode().1;
    assert_eq!(written(Duration::from_millis(1)), [0, 1]);
    assert_eq!(written(Duration::from_millis(30_001)), [0, 31]);
    assert_eq!(written(secs(0x8000)), [0x82, 0x23], "547 minutes");
    assert_eq!(written(Duration::MAX), [0xff, 0xff]);
    assert_eq!(TcpOption::KeepAlive(Some(Duration::ZERO)).encode().1, [0, 0, 0, 1], "0 means never");
    assert_eq!(TcpOption::KeepAlive(Some(Duration::MAX)).encode().1, [0xff; 4]);
}

#[test]
fn what_is_no_option_is_unknown_and_what_is_no_value_invalid() {
    for (kind, value) in [(0, &b""[..]), (29, &[0, 30]), (252, b"SO_DEBUG=1"), (252, b"=1")] {
        assert_eq!(TcpOption::decode(kind, value), Err(Malformed::Unknown), "{kind} {value:?}");
    }
    let names = ["", "bbr\0", "a/b", "sixteen-letters-", "b r", "\u{fc}"];
    let names = names.map(|name| (254, name.as_bytes()));
    let others = [
        (28, &[0, 0][..]),
        (28, &[0x80, 0]),
        (28, &[30]),
        (28, &[0, 0, 30]),
        (254, &[0xff]),
        (253, &[0, 30]),
        (252, b"SO_SNDBUF"),
        (252, b"SO_SNDBUF="),
        (252, b"SO_SNDBUF=+1"),
        (252, b"SO_SNDBUF=-1"),
        (252, b"SO_SNDBUF=4294967296"),
        (252, b"SO_SNDBUF=1 "),
        (252, &[0xff, b'=', b'1']),
    ];
    for (kind, value) in names.into_iter().chain(others) {
        assert_eq!(TcpOption::decode(kind, value), Err(Malformed::Invalid), "{kind} {value:?}");
    }
}
