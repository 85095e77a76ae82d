//! Base64 (RFC 4648), in both alphabets.

const STANDARD: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
#[cfg(feature = "proxy")]
const URL: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// Encodes with padding (section 4).
pub(crate) fn encode(bytes: &[u8]) -> String {
    let mut text = digits(bytes, STANDARD);
    while !text.len().is_multiple_of(4) {
        text.push('=');
    }
    text
}

/// Decodes with or without padding; `None` if the text is malformed.
#[cfg(feature = "proxy")]
pub(crate) fn decode(text: &str) -> Option<Vec<u8>> {
    let digits = text.trim_end_matches('=');
    let padding = text.len() - digits.len();
    if (padding > 0 && !text.len().is_multiple_of(4)) || padding > 2 {
        return None;
    }
    values(digits, STANDARD).map(|(bytes, _)| bytes)
}

/// Encodes with the alphabet for URLs, without padding (section 5).
#[cfg(feature = "proxy")]
pub(crate) fn encode_url(bytes: &[u8]) -> String {
    digits(bytes, URL)
}

/// Decodes what [`encode_url`] returns, and nothing else: unused bits are 0.
#[cfg(feature = "proxy")]
pub(crate) fn decode_url(text: &str) -> Option<Vec<u8>> {
    values(text, URL).filter(|(_, unused)| *unused == 0).map(|(bytes, _)| bytes)
}

fn digits(bytes: &[u8], alphabet: &[u8; 64]) -> String {
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let bits = chunk.iter().fold(0, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        text.extend((0..=chunk.len()).map(|index| char::from(alphabet[(bits >> (18 - 6 * index)) as usize % 64])));
    }
    text
}

/// The bytes, and the bits that are left over.
#[cfg(feature = "proxy")]
fn values(digits: &str, alphabet: &[u8; 64]) -> Option<(Vec<u8>, u32)> {
    if digits.len() % 4 == 1 {
        return None;
    }
    let (mut bytes, mut bits, mut count) = (Vec::with_capacity(digits.len() / 4 * 3 + 2), 0_u32, 0);
    for digit in digits.bytes() {
        let value = alphabet.iter().position(|other| *other == digit)?;
        (bits, count) = (bits << 6 | value as u32, count + 6);
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count) as u8);
            bits &= (1 << count) - 1;
        }
    }
    Some((bytes, bits))
}

#[cfg(all(test, feature = "proxy"))]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn alphabet_and_padding_are_those_of_rfc_4648() {
        for (bytes, text) in [("", ""), ("M", "TQ=="), ("Ma", "TWE="), ("Man", "TWFu"), ("Many", "TWFueQ==")] {
            assert_eq!(encode(bytes.as_bytes()), text);
        }
        assert_eq!(encode_url(&[0xfb, 0xff]), "-_8");
        for text in ["-_9", "A", "-_8=", "+/8"] {
            assert_eq!(decode_url(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn bytes_are_decoded_as_they_were_encoded(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            let text = encode(&bytes);
            prop_assert_eq!(decode(text.trim_end_matches('=')), Some(bytes.clone()));
            prop_assert_eq!(decode(&text), Some(bytes.clone()));
            prop_assert_eq!(decode_url(&encode_url(&bytes)), Some(bytes));
        }

        #[test]
        fn what_is_decoded_has_one_text(text in "[A-Za-z0-9_-]{0,12}") {
            if let Some(bytes) = decode_url(&text) {
                prop_assert_eq!(encode_url(&bytes), text);
            }
        }
    }
}
