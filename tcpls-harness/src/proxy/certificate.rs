//! The name of a client in its certificate.

use crate::der::{Reader, SEQUENCE};

/// The extension with the subject's alternative names: 2.5.29.17 (RFC 5280, section 4.2.1.6).
const ALTERNATIVE_NAMES: &[u8] = &[0x55, 0x1d, 0x11];
/// The longest name.
const MAX_NAME: usize = 255;

/// Returns the first alternative name of the subject that is an address of mail, a DNS name or a URI, and that has 1 to 255
/// printable ASCII characters without spaces.
pub(super) fn name_of(certificate: &[u8]) -> Option<&str> {
    const OBJECT: u8 = 0x06;
    const BOOLEAN: u8 = 0x01;
    const OCTETS: u8 = 0x04;
    let mut extensions = Reader::new(extensions(certificate)?);
    while let Some(extension) = extensions.element(SEQUENCE) {
        let mut extension = Reader::new(extension);
        let is_of_names = extension.element(OBJECT)? == ALTERNATIVE_NAMES;
        extension.optional(BOOLEAN); // whether it is critical
        if is_of_names {
            return first_name(Reader::new(extension.element(OCTETS)?).element(SEQUENCE)?);
        }
    }
    None
}

/// The extensions of a certificate.
fn extensions(certificate: &[u8]) -> Option<&[u8]> {
    const ISSUER_ID: u8 = 0x81;
    const SUBJECT_ID: u8 = 0x82;
    const EXTENSIONS: u8 = 0xa3;
    let mut fields = Reader::of_certificate(certificate)?;
    fields.element(SEQUENCE)?; // the validity
    fields.element(SEQUENCE)?; // the subject
    fields.element(SEQUENCE)?; // the public key
    fields.optional(ISSUER_ID);
    fields.optional(SUBJECT_ID);
    Reader::new(fields.optional(EXTENSIONS)?).element(SEQUENCE)
}

fn first_name(names: &[u8]) -> Option<&str> {
    const MAIL: u8 = 0x81;
    const DNS: u8 = 0x82;
    const URI: u8 = 0x86;
    let mut names = Reader::new(names);
    while let Some((kind, name)) = names.any() {
        let is_usable = (1..=MAX_NAME).contains(&name.len()) && name.iter().all(u8::is_ascii_graphic);
        if [MAIL, DNS, URI].contains(&kind) && is_usable {
            return std::str::from_utf8(name).ok();
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rcgen::{CertificateParams, KeyPair, SanType};

    use super::*;

    fn certificate(names: Vec<SanType>) -> Vec<u8> {
        let mut parameters = CertificateParams::new(Vec::new()).unwrap();
        parameters.subject_alt_names = names;
        parameters.self_signed(&KeyPair::generate().unwrap()).unwrap().der().to_vec()
    }

    fn dns(name: &str) -> SanType {
        SanType::DnsName(name.try_into().unwrap())
    }

    #[test]
    fn the_first_usable_alternative_name_names_a_client() {
        let mail = || SanType::Rfc822Name("ann@example.com".try_into().unwrap());
        let uri = || SanType::URI("spiffe://example.com/ann".try_into().unwrap());
        let address = || SanType::IpAddress("192.0.2.1".parse().unwrap());
        for (names, expected) in [
            (vec![mail(), dns("laptop.example")], Some("ann@example.com")),
            (vec![address(), dns("laptop.example"), mail()], Some("laptop.example")),
            (vec![uri()], Some("spiffe://example.com/ann")),
            (vec![dns("two words"), dns(&"a".repeat(256)), dns("ann")], Some("ann")),
            (vec![address()], None),
            (vec![], None),
        ] {
            assert_eq!(name_of(&certificate(names)), expected);
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_a_panic(at in 0..400_usize, byte: u8, len in 0..500_usize) {
            let mut bytes = certificate(vec![dns("ann")]);
            let at = at % bytes.len();
            bytes[at] = byte;
            bytes.truncate(len);
            _ = name_of(&bytes);
        }
    }
}
