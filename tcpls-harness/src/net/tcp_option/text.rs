//! Names of congestion controls and of socket options.

use std::fmt;

/// The longest name of a congestion control: `TCP_CA_NAME_MAX` of Linux, less the end of the string.
const MAX_NAME: usize = 15;

/// Why a text is no name of a congestion control.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct OptionTextError;

impl fmt::Display for OptionTextError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the name of a congestion control has 1 to {MAX_NAME} letters, digits, '_', '-' or '.'")
    }
}

impl std::error::Error for OptionTextError {}

/// The name of a congestion control: 1 to 15 ASCII letters, digits, `_`, `-` and `.`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CongestionName(Box<str>);

impl CongestionName {
    /// Checks a name. Whether there is such a congestion control is not known.
    ///
    /// # Errors
    /// The text is no such name.
    pub fn new(name: &str) -> Result<Self, OptionTextError> {
        let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte);
        let is_name = (1..=MAX_NAME).contains(&name.len()) && name.bytes().all(is_allowed);
        if is_name { Ok(Self(name.into())) } else { Err(OptionTextError) }
    }

    /// Returns the text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::str::FromStr for CongestionName {
    type Err = OptionTextError;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Self::new(name)
    }
}

impl fmt::Display for CongestionName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

macro_rules! socket_options {
    ($($(#[$doc:meta])* $variant:ident $name:literal,)*) => {
        /// An option of a socket that has a number as its value; named on the wire as in C.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[non_exhaustive]
        pub enum SocketOption { $($(#[$doc])* $variant,)* }

        impl SocketOption {
            /// Returns the option of this name.
            pub(crate) fn named(name: &str) -> Option<Self> {
                match name {
                    $($name => Some(Self::$variant),)*
                    _ => None,
                }
            }

            /// Returns its name.
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }
        }
    };
}

socket_options! {
    /// The send buffer in bytes.
    SendBuffer "SO_SNDBUF",
    /// The receive buffer in bytes.
    ReceiveBuffer "SO_RCVBUF",
    /// The longest segment in bytes.
    MaxSegment "TCP_MAXSEG",
    /// 1: retransmission timeouts do not grow while few segments are in flight.
    ThinLinearTimeouts "TCP_THIN_LINEAR_TIMEOUTS",
    /// The DSCP and ECN bits of packets of IPv4, the traffic class of those of IPv6.
    TypeOfService "IP_TOS",
}

impl fmt::Display for SocketOption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
