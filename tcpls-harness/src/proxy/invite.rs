//! Invites: one line with everything that a client needs to reach a server and to be served.
//!
//! `docs/invites.md` specifies the format.

use std::str::FromStr;
use std::{error, fmt};

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as BASE64;

use super::target::Target;
use super::users::Credentials;
use crate::tls::{Pin, Pins, provider};

/// What each invite of this version begins with.
const PREFIX: &str = "tcpls1:";
/// What invites of all versions begin with.
const FAMILY: &str = "tcpls";
/// Longer lines are no invites.
const MAX_LINE: usize = 4096;
/// Most addresses in an invite.
const MAX_ADDRESSES: usize = 8;
/// Longest name of a client, in bytes.
const MAX_NAME: usize = 64;
/// Bytes of a secret that [`Secret::generate`] returns, and the limits of others.
const SECRET: usize = 16;
const MIN_SECRET: usize = 16;
const MAX_SECRET: usize = 64;

/// The types of items.
const ADDRESS: u8 = 1;
const PIN: u8 = 2;
const NAME: u8 = 3;
const SECRET_ITEM: u8 = 4;
/// Items with this bit may be ignored by a reader that does not know them.
const OPTIONAL: u8 = 0x80;

/// An invite: where a server is, which keys it may have, and a client's name and secret there.
///
/// [`Invite::line`] is the text; `Debug` does not show the secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invite {
    addresses: Vec<Target>,
    pins: Pins,
    name: ClientName,
    secret: Secret,
}

impl Invite {
    /// Makes an invite. A client connects to all addresses, and prefers the first.
    ///
    /// # Errors
    /// There is no address, or more than 8.
    pub fn new(addresses: Vec<Target>, pins: Pins, name: ClientName, secret: Secret) -> Result<Self, InviteError> {
        if addresses.is_empty() || addresses.len() > MAX_ADDRESSES {
            return Err(InviteError::Addresses);
        }
        Ok(Self { addresses, pins, name, secret })
    }

    /// Returns the addresses of the server, the preferred one first.
    pub fn addresses(&self) -> &[Target] {
        &self.addresses
    }

    /// Returns the pins of the server's public key.
    pub fn pins(&self) -> Pins {
        self.pins
    }

    /// Returns the client's name.
    pub fn name(&self) -> &ClientName {
        &self.name
    }

    /// Returns the client's name and secret in the form of a request's field.
    pub fn credentials(&self) -> Credentials {
        Credentials::basic(self.name.as_str(), &self.secret.text())
    }

    /// Returns the line of text, which contains the secret.
    pub fn line(&self) -> String {
        let mut bytes = Vec::new();
        let mut put = |item: u8, value: &[u8]| {
            // Each value is shorter than 256 bytes: names of hosts are the longest.
            bytes.extend([item, value.len() as u8]);
            bytes.extend(value);
        };
        self.addresses.iter().for_each(|address| put(ADDRESS, address.to_string().as_bytes()));
        self.pins.iter().for_each(|pin| put(PIN, pin.as_bytes()));
        put(NAME, self.name.as_str().as_bytes());
        put(SECRET_ITEM, &self.secret.0);
        bytes.extend(checksum(&bytes).to_be_bytes());
        format!("{PREFIX}{}", BASE64.encode(&bytes))
    }
}

impl FromStr for Invite {
    type Err = InviteError;

    /// Parses a line; spaces and line ends around it do not matter.
    fn from_str(text: &str) -> Result<Self, InviteError> {
        let text = text.trim();
        if text.len() > MAX_LINE {
            return Err(InviteError::NoInvite);
        }
        let Some(payload) = text.strip_prefix(PREFIX) else {
            let version = text.strip_prefix(FAMILY).and_then(|rest| rest.split_once(':'));
            let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
            let is_other = version.is_some_and(|(version, _)| is_number(version));
            return Err(if is_other { InviteError::Version } else { InviteError::NoInvite });
        };
        let bytes = BASE64.decode(payload).map_err(|_| InviteError::Damaged)?;
        let (items, sum) = bytes.split_last_chunk().ok_or(InviteError::Damaged)?;
        if checksum(items) != u32::from_be_bytes(*sum) {
            return Err(InviteError::Damaged);
        }
        Parts::read(items)?.into_invite()
    }
}

/// The items of an invite that is being read.
#[derive(Default)]
struct Parts {
    addresses: Vec<Target>,
    pins: Option<Pins>,
    pin_count: usize,
    name: Option<ClientName>,
    secret: Option<Secret>,
}

impl Parts {
    fn read(mut items: &[u8]) -> Result<Self, InviteError> {
        let mut parts = Self::default();
        while let [item, len, rest @ ..] = items {
            let (value, behind) = rest.split_at_checked(usize::from(*len)).ok_or(InviteError::Malformed)?;
            parts.take(*item, value)?;
            items = behind;
        }
        if items.is_empty() { Ok(parts) } else { Err(InviteError::Malformed) }
    }

    fn take(&mut self, item: u8, value: &[u8]) -> Result<(), InviteError> {
        let text = || std::str::from_utf8(value).map_err(|_| InviteError::Malformed);
        match item {
            ADDRESS => self.addresses.push(text()?.parse().map_err(|_| InviteError::Malformed)?),
            PIN => {
                let pin = Pin::new(value.try_into().map_err(|_| InviteError::Malformed)?);
                self.pins = Some(self.pins.map_or(Pins::new(pin), |pins| pins.or(pin)));
                self.pin_count += 1;
            }
            NAME if self.name.is_none() => self.name = Some(text()?.parse().map_err(|_| InviteError::Malformed)?),
            SECRET_ITEM if self.secret.is_none() => {
                self.secret = Some(Secret::from_bytes(value).ok_or(InviteError::Malformed)?);
            }
            NAME | SECRET_ITEM => return Err(InviteError::Malformed),
            _ if item & OPTIONAL != 0 => {}
            _ => return Err(InviteError::Version),
        }
        Ok(())
    }

    fn into_invite(self) -> Result<Invite, InviteError> {
        let (Some(pins), 1..=2, Some(name), Some(secret)) = (self.pins, self.pin_count, self.name, self.secret) else {
            return Err(InviteError::Malformed);
        };
        Invite::new(self.addresses, pins, name, secret).map_err(|_| InviteError::Malformed)
    }
}

/// The checksum of the prefix and the items. It finds errors of copying, not attacks.
fn checksum(items: &[u8]) -> u32 {
    crc32(&[PREFIX.as_bytes(), items].concat())
}

/// CRC-32 as in Ethernet (ISO-HDLC).
fn crc32(bytes: &[u8]) -> u32 {
    let mut sum = u32::MAX;
    for byte in bytes {
        sum ^= u32::from(*byte);
        for _ in 0..8 {
            sum = if sum & 1 == 1 { sum >> 1 ^ 0xedb8_8320 } else { sum >> 1 };
        }
    }
    !sum
}

/// The name of a client that an invite is for: 1 to 64 ASCII letters, digits, and `.`, `_`, `-`, `@`, not at the start.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClientName(String);

impl ClientName {
    /// Returns the name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ClientName {
    type Err = InviteError;

    fn from_str(text: &str) -> Result<Self, InviteError> {
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-@".contains(&byte);
        let begins = text.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric());
        if begins && text.len() <= MAX_NAME && text.bytes().all(is_plain) {
            Ok(Self(text.to_owned()))
        } else {
            Err(InviteError::Name)
        }
    }
}

impl fmt::Display for ClientName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The secret of an invite: 16 to 64 random bytes. `Debug` does not show it.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Vec<u8>);

impl Secret {
    /// Returns 16 random bytes of the operating system.
    ///
    /// # Panics
    /// If the operating system has no random numbers; then no TLS is possible either.
    pub fn generate() -> Self {
        let mut bytes = [0; SECRET];
        let filled = provider().secure_random.fill(&mut bytes);
        filled.expect("an operating system without random numbers can run no TLS");
        Self(bytes.to_vec())
    }

    /// Makes a secret of 16 to 64 bytes; `None` if there are fewer or more.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        (MIN_SECRET..=MAX_SECRET).contains(&bytes.len()).then(|| Self(bytes.to_vec()))
    }

    /// Returns the text that credentials have: Base64 with the alphabet for URLs, without padding.
    pub fn text(&self) -> String {
        BASE64.encode(&self.0)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

/// Why text is not an invite, or a part of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum InviteError {
    /// It does not begin as invites do, or is too long.
    NoInvite,
    /// It was made for a later version.
    Version,
    /// The checksum does not match: it was copied incompletely or changed.
    Damaged,
    /// The checksum matches, but the content is invalid.
    Malformed,
    /// There is no address, or there are more than 8.
    Addresses,
    /// The name is empty, too long, or has other characters.
    Name,
}

impl fmt::Display for InviteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoInvite => "this is no invite; an invite is one line that begins with tcpls1:",
            Self::Version => "the invite was made for a later version of tcpls; update this one",
            Self::Damaged => "the invite is incomplete or was changed; copy the whole line",
            Self::Malformed => "the invite has no valid content; ask for a new one",
            Self::Addresses => "an invite has 1 to 8 addresses",
            Self::Name => "the name is not 1 to 64 letters, digits and . _ - @ that begin with a letter or digit",
        })
    }
}

impl error::Error for InviteError {}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn invite() -> Invite {
        let addresses = ["proxy.example:443", "192.0.2.1:8443", "[2001:db8::1]:443"].map(|text| text.parse().unwrap());
        let pins = Pins::new(Pin::new([1; 32])).or(Pin::new([2; 32]));
        let secret = Secret::from_bytes(&[3; 16]).unwrap();
        Invite::new(addresses.to_vec(), pins, "ann".parse().unwrap(), secret).unwrap()
    }

    /// A line with these items and the right checksum.
    fn line(items: &[u8]) -> String {
        format!("{PREFIX}{}", BASE64.encode([items, &checksum(items).to_be_bytes()].concat()))
    }

    fn items(line: &str) -> Vec<u8> {
        let mut bytes = BASE64.decode(line.strip_prefix(PREFIX).unwrap()).unwrap();
        bytes.truncate(bytes.len() - 4);
        bytes
    }

    #[test]
    fn the_example_of_the_specification_is_this_invite() {
        let page = include_str!("../../../docs/invites.md");
        let example = page.lines().find(|line| line.starts_with(PREFIX)).unwrap();
        assert_eq!(invite().line(), example);
        assert_eq!(example.parse(), Ok(invite()));
        assert_eq!(format!(" {example}\r\n").parse(), Ok(invite()));
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926, "the check value of CRC-32");
    }

    #[test]
    fn credentials_are_name_and_secret_which_debug_does_not_show() {
        let invite = invite();
        assert_eq!(invite.credentials(), Credentials::parse(&format!("ann:{}", invite.secret.text())).unwrap());
        assert!(!format!("{invite:?}").contains(&invite.secret.text()) && !format!("{invite:?}").contains("[3, 3"));
        assert_ne!(Secret::generate(), Secret::generate());
    }

    #[test]
    fn each_fault_has_its_error() {
        let items = items(&invite().line());
        let with = |more: &[u8]| line(&[&items, more].concat()).parse::<Invite>();
        assert_eq!(with(&[0x80, 1, 7]), Ok(invite()), "it may be ignored");
        assert_eq!(with(&[0x05, 0]), Err(InviteError::Version));
        assert_eq!(with(&[0x80]), Err(InviteError::Malformed));
        assert_eq!(with(&[0x80, 2, 7]), Err(InviteError::Malformed));
        assert_eq!(with(&[NAME, 1, b'a']), Err(InviteError::Malformed), "two names");
        assert_eq!(with(&[&[PIN, 32][..], &[4; 32]].concat()), Err(InviteError::Malformed), "three pins");
        assert_eq!(line(&[]).parse::<Invite>(), Err(InviteError::Malformed));
        for (text, error) in [
            ("", InviteError::NoInvite),
            ("tcpls:AAAA", InviteError::NoInvite),
            ("tcpls-ca.pem", InviteError::NoInvite),
            ("tcpls2:AAAA", InviteError::Version),
            ("tcpls1:", InviteError::Damaged),
            ("tcpls1:AA A", InviteError::Damaged),
        ] {
            assert_eq!(text.parse::<Invite>(), Err(error), "{text}");
        }
        for name in ["", "-a", ".a", "a/b", "a:b", "é", &"a".repeat(65)] {
            assert_eq!(name.parse::<ClientName>(), Err(InviteError::Name), "{name}");
        }
    }

    #[test]
    fn each_changed_character_and_each_cut_is_noticed() {
        let line = invite().line();
        for at in 0..line.len() {
            assert!(line[..at].parse::<Invite>().is_err(), "cut at {at}");
            for c in ['A', 'b', '7', '-'] {
                let changed = format!("{}{c}{}", &line[..at], &line[at + 1..]);
                assert!(changed == line || changed.parse::<Invite>().is_err(), "{c} at {at}");
            }
        }
    }

    fn addresses() -> impl Strategy<Value = Vec<Target>> {
        let name = "[a-z]{1,20}(\\.[a-z]{1,20}){0,3}".prop_map(|name| format!("{name}:1"));
        let address =
            any::<(std::net::Ipv6Addr, u16)>().prop_map(|(address, port)| format!("[{address}]:{}", port.max(1)));
        vec(prop_oneof![name, address].prop_map(|text| text.parse().unwrap()), 1..=MAX_ADDRESSES)
    }

    proptest! {
        #[test]
        fn any_invite_is_parsed_as_it_was_written(
            addresses in addresses(),
            pins in (any::<[u8; 32]>(), any::<Option<[u8; 32]>>()),
            name in "[a-z0-9][a-zA-Z0-9._@-]{0,63}",
            secret in vec(any::<u8>(), MIN_SECRET..=MAX_SECRET),
        ) {
            let pins = pins.1.map_or(Pins::new(Pin::new(pins.0)), |second| Pins::new(Pin::new(pins.0)).or(Pin::new(second)));
            let secret = Secret::from_bytes(&secret).unwrap();
            let invite = Invite::new(addresses, pins, name.parse().unwrap(), secret).unwrap();
            prop_assert_eq!(invite.line().parse(), Ok(invite));
        }

        #[test]
        fn any_items_are_an_invite_or_an_error(items in vec(any::<u8>(), 0..200), text in ".{0,60}") {
            _ = line(&items).parse::<Invite>();
            _ = format!("{PREFIX}{text}").parse::<Invite>();
        }
    }
}
