//! Reads DER, as far as certificates need it (X.690).

pub(crate) const SEQUENCE: u8 = 0x30;
pub(crate) const INTEGER: u8 = 0x02;

/// Reads elements from front to back.
pub(crate) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// The fields of a certificate (RFC 5280, section 4.1) from the validity on; `None` if these bytes are none.
    pub(crate) fn of_certificate(certificate: &'a [u8]) -> Option<Self> {
        const VERSION: u8 = 0xa0;
        let mut fields = Self(Self(Self(certificate).element(SEQUENCE)?).element(SEQUENCE)?);
        fields.optional(VERSION);
        fields.element(INTEGER)?; // the serial number
        fields.element(SEQUENCE)?; // the algorithm of the signature
        fields.element(SEQUENCE)?; // the issuer
        Some(fields)
    }

    /// The content of the next element, which must have this tag.
    pub(crate) fn element(&mut self, tag: u8) -> Option<&'a [u8]> {
        self.any().filter(|(found, _)| *found == tag).map(|(_, content)| content)
    }

    /// The content of the next element if it has this tag; otherwise it stays the next one.
    pub(crate) fn optional(&mut self, tag: u8) -> Option<&'a [u8]> {
        if self.0.first() == Some(&tag) { self.element(tag) } else { None }
    }

    /// The tag and the content of the next element.
    pub(crate) fn any(&mut self) -> Option<(u8, &'a [u8])> {
        let [tag, first, rest @ ..] = self.0 else { return None };
        // Up to 127, the byte is the length; beyond, it says in how many bytes the length follows.
        let (len, rest) = match first {
            0..=0x7f => (usize::from(*first), rest),
            0x81..=0x84 => {
                let (len, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
                (len.iter().fold(0, |len, byte| len << 8 | usize::from(*byte)), rest)
            }
            _ => return None,
        };
        let (content, behind) = rest.split_at_checked(len)?;
        self.0 = behind;
        Some((*tag, content))
    }
}
