//! The nonce of a record: no two records of a session share one under the same key.
//!
//! Arithmetic without state. The callers, which seal and open records, choose the sequence number.

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

    // draft I25
    #[test]
    fn nonces_agree_with_the_vectors() {
        let file: serde_json::Value = serde_json::from_str(include_str!("../../testdata/vectors.json")).unwrap();
        let vectors = file["nonces"].as_array().unwrap();
        assert!(vectors.len() >= 5);
        for vector in vectors {
            let tcp = ConnectionId(vector["connection_id"].as_u64().unwrap() as u32);
            let (iv, sequence) = (hex12(vector["iv"].as_str().unwrap()), vector["sequence"].as_u64().unwrap());
            assert_eq!(hex::encode(nonce(&iv, tcp, sequence)), vector["nonce"].as_str().unwrap());
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
