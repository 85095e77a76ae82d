//! Invites: any text, and any items with the checksum that lets a parser look at them.

use tcpls_harness::proxy::Invite;

const PREFIX: &str = "tcpls1:";
const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// The target `invite`: the input is read as a line, and as the items of an invite.
pub fn invite(input: &[u8]) {
    round_trip(&String::from_utf8_lossy(input));
    let sum = checksum(input);
    round_trip(&line(input, sum));
    assert!(line(input, !sum).parse::<Invite>().is_err());
}

/// What is accepted is written as a line that is read as the same.
fn round_trip(text: &str) {
    let Ok(invite) = text.parse::<Invite>() else { return };
    let line = invite.line();
    assert_eq!(line.parse(), Ok(invite.clone()));
    assert!((1..=8).contains(&invite.addresses().len()) && (1..=2).contains(&invite.pins().iter().count()));
    assert!(!format!("{invite:?}").contains(&line));
}

/// The specification's format, written a second time.
fn line(items: &[u8], sum: u32) -> String {
    let bytes = [items, &sum.to_be_bytes()].concat();
    let bits: Vec<u8> = bytes.iter().flat_map(|byte| (0..8).rev().map(move |bit| byte >> bit & 1)).collect();
    let value = |bits: &[u8]| (0..6).fold(0, |value, at| value << 1 | usize::from(bits.get(at).copied().unwrap_or(0)));
    PREFIX.chars().chain(bits.chunks(6).map(|bits| char::from(DIGITS[value(bits)]))).collect()
}

fn checksum(items: &[u8]) -> u32 {
    let bytes = PREFIX.bytes().chain(items.iter().copied());
    !bytes.fold(u32::MAX, |sum, byte| {
        (0..8).fold(sum ^ u32::from(byte), |sum, _| (sum >> 1) ^ (0xedb8_8320 & (sum & 1).wrapping_neg()))
    })
}
