//! The nonce of a record: what keeps two records of a session from ever sharing one under the same key.
//!
//! Pure arithmetic. The callers, which seal and open records, choose the sequence number.

use crate::wire::ids::ConnectionId;

/// The nonce of the record with AEAD sequence number `aead_seq` on TCP connection `tcp`: the write IV, XORed with the
/// connection ID at its left end and with the sequence number at its right end (draft, 4.3).
///
/// The two fields do not overlap, so different pairs give different nonces. On [`ConnectionId::FIRST`] the result is
/// that of plain TLS 1.3 (RFC 8446, 5.3).
// draft I25, I26
pub fn nonce(iv: &[u8; 12], tcp: ConnectionId, aead_seq: u64) -> [u8; 12] {
    let mut nonce = *iv;
    let (left, right) = nonce.split_at_mut(4);
    xor(left, &tcp.0.to_be_bytes());
    xor(right, &aead_seq.to_be_bytes());
    nonce
}

fn xor(into: &mut [u8], with: &[u8]) {
    for (a, b) in into.iter_mut().zip(with) {
        *a ^= b;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn hex12(text: &str) -> [u8; 12] {
        hex::decode(text).unwrap().try_into().unwrap()
    }

    /// IV, connection ID, sequence, nonce; all but the first row made by an independent implementation.
    const VECTORS: [(&str, u32, u64, &str); 5] = [
        ("000102030405060708090a0b", 1, 2, "000102020405060708090a09"),
        ("caa776096b00064795361167", 3_784_809_060, 1_059_486_392_206_148_300, "2b30ec6d65b40b0536f8d3ab"),
        ("fcdb25463c7baaac8e4a2d31", 1_894_598_586, 3_923_700_214_512_416_582, "8c3662fc0a086222fd68da77"),
        ("53ede19fc0e8d8a6bacbc363", 1_192_514_928, 16_094_355_682_129_922_589, "14f9b4ef1fb27b9e10ef097e"),
        ("035ccc91f72ba5d2886852d2", 3_618_056_602, 18_238_133_569_038_721_411, "d4fbe50b0a31780b64c67351"),
    ];

    // draft I25
    #[test]
    fn nonces_agree_with_the_vectors() {
        for (iv, tcp, seq, expected) in VECTORS {
            assert_eq!(hex::encode(nonce(&hex12(iv), ConnectionId(tcp), seq)), expected);
        }
    }

    #[test]
    fn the_first_tcp_connection_has_the_nonces_of_plain_tls() {
        assert_eq!(nonce(&[0; 12], ConnectionId::FIRST, 0x0102_0304_0506_0708), hex12("000000000102030405060708"));
    }

    // draft I26
    #[test]
    fn no_two_records_share_a_nonce() {
        let edges = [0, 1, 2, 0xff, 0x100, u64::from(u32::MAX), 1 << 32, u64::MAX];
        let tcps = [0, 1, 2, 0x100, 0x8000_0000, u32::MAX];
        let all: BTreeSet<_> =
            tcps.iter().flat_map(|&tcp| edges.map(|seq| nonce(&[0x5a; 12], ConnectionId(tcp), seq))).collect();
        assert_eq!(all.len(), tcps.len() * edges.len());
    }
}
