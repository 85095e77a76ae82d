//! Encrypted ClientHello (RFC 9849): what it leaves visible of the server's name, and so what joins may show.

/// The part of Encrypted ClientHello that a ClientHello is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ech {
    /// The network sees it. It carries the other one encrypted, or random bytes that pass for that (GREASE).
    Outer,
    /// It was decrypted by a server in front of this one.
    Inner,
}

impl Ech {
    /// The first byte of the extension. The TLS library refuses unknown types; for them it is as if nothing were hidden.
    pub(super) const fn from_type(ty: u8) -> Self {
        if ty == 1 { Self::Inner } else { Self::Outer }
    }
}

/// What the network may see in the place of a session's server name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cover {
    /// This name, or none.
    Name(Option<String>),
    /// Only a server in front of this one knows which.
    Unknown,
}

impl Cover {
    /// Whether a join may show `name`, which is not that of the session (decision D153).
    pub fn fits(&self, name: Option<&str>) -> bool {
        match self {
            Self::Name(cover) => name.is_none() || name == cover.as_deref(),
            Self::Unknown => true,
        }
    }
}
