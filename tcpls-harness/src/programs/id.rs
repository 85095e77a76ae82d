//! What programs are known by: the hash of their object, and the name that sockets use.

use std::fmt;
use std::str::FromStr;

use crate::tls::sha256;

/// The SHA-256 of a program's object file, written as 64 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProgramId([u8; 32]);

impl ProgramId {
    /// Makes an ID of the hash.
    pub const fn new(hash: [u8; 32]) -> Self {
        Self(hash)
    }

    /// Returns the ID of an object.
    pub fn of(object: &[u8]) -> Self {
        Self(sha256(object))
    }

    /// Returns the hash.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for ProgramId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for ProgramId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for ProgramId {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const WRONG: &str = "the SHA-256 of an object has 64 hexadecimal digits; sha256sum prints it";
        let digits: Option<Vec<u8>> =
            text.chars().map(|digit| digit.to_digit(16).and_then(|digit| digit.try_into().ok())).collect();
        let digits: [u8; 64] = digits.and_then(|digits| digits.try_into().ok()).ok_or(WRONG)?;
        Ok(Self(std::array::from_fn(|at| digits[2 * at] << 4 | digits[2 * at + 1])))
    }
}

/// The name of a registered congestion control: 1 to 15 letters, digits, `_` and `-`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProgramName(String);

impl ProgramName {
    /// The longest name, in bytes: the kernel's limit of 16 includes a zero.
    pub const MAX_LEN: usize = 15;
    /// How much of it a program chooses; the rest is from its hash.
    pub const MAX_STEM: usize = 10;

    /// Returns the name of a program that calls itself `stem`: a shortened stem, `_`, and 4 digits of the hash.
    ///
    /// So no program can take the name of one of the kernel's own, or of another program.
    ///
    /// # Errors
    /// The stem is empty or has other characters than a name.
    pub fn of(stem: &[u8], id: &ProgramId) -> Result<Self, &'static str> {
        let stem = &stem[..stem.len().min(Self::MAX_STEM)];
        let stem = Self::read(stem).ok_or("the program's name may have letters, digits, _ and - only")?;
        let [first, second, ..] = id.0;
        Ok(Self(format!("{}_{first:02x}{second:02x}", stem.0)))
    }

    /// Reads a name.
    pub fn read(name: &[u8]) -> Option<Self> {
        let is_valid = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
        let fits = (1..=Self::MAX_LEN).contains(&name.len()) && name.iter().all(is_valid);
        fits.then(|| Self(String::from_utf8_lossy(name).into_owned()))
    }

    /// Returns the name, as `setsockopt(TCP_CONGESTION)` takes it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ProgramName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ProgramName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_read_as_it_is_written_and_nothing_else_is() {
        let id = ProgramId::of(b"abc");
        assert!(id.to_string().starts_with("ba7816bf"));
        assert_eq!(id.to_string().parse(), Ok(id));
        assert_eq!(id.to_string().to_uppercase().parse(), Ok(id));
        let long = id.to_string();
        for text in ["", &long[..2], &long[1..], &format!("{long}0"), &long.replace('b', "x")] {
            assert!(text.parse::<ProgramId>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_name_ends_with_digits_of_the_hash_and_fits_the_kernel() {
        let id = ProgramId::new([0xab; 32]);
        assert_eq!(ProgramName::of(b"cubic", &id).unwrap().as_str(), "cubic_abab");
        let long = ProgramName::of(b"abcdefghijklmnop", &id).unwrap();
        assert_eq!(long.as_str(), "abcdefghij_abab");
        assert_eq!(ProgramName::read(long.as_str().as_bytes()), Some(long));
        for stem in [&b""[..], b"a b", b"\x1b[2J", b"\xff"] {
            assert!(ProgramName::of(stem, &id).is_err(), "{stem:?}");
        }
        assert_eq!(ProgramName::read(&[b'a'; 16]), None);
    }
}
