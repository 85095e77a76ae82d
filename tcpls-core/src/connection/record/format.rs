//! The bytes of a recording: integers of variable length, blocks with a checksum, the header of a file.

/// The first bytes of a file.
pub(super) const MAGIC: [u8; 8] = *b"TCPLSREC";
/// The version of the format. A change that an older reader would misread increases it.
pub const VERSION: u16 = 1;
/// A block is passed on as soon as it has this many bytes.
pub(super) const BLOCK: usize = 64 << 10;
/// Bytes in front of a block's entries: length, session, mark, checksum.
pub const BLOCK_HEADER: usize = 13;

/// Why a recording cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FormatError {
    /// The file does not begin as a recording.
    NotARecording,
    /// The file has another version of the format.
    Version {
        /// The version of the file.
        found: u16,
        /// The release that wrote it.
        release: String,
    },
    /// The checksum of a block is wrong.
    Checksum {
        /// Where the block begins in the file, in bytes.
        at: u64,
    },
    /// The file ends inside a block.
    Truncated {
        /// Where the block begins in the file, in bytes.
        at: u64,
    },
    /// A block has contents that no recorder writes.
    Malformed {
        /// The number of the entry in its session, counted from 0.
        entry: u64,
        /// What is wrong.
        what: &'static str,
    },
}

impl core::fmt::Display for FormatError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::NotARecording => f.write_str("the file is not a recording of a TCPLS session"),
            Self::Version { found, release } => {
                let release = release.escape_default();
                write!(f, "the recording has version {found} of the format (written by tcpls {release}); ")?;
                write!(f, "this release reads version {VERSION}: replay it with that release")
            }
            Self::Checksum { at } => write!(f, "the checksum of the block at byte {at} is wrong: the file is damaged"),
            Self::Truncated { at } => {
                write!(f, "the file ends inside the block at byte {at}: it was not written to its end")
            }
            Self::Malformed { entry, what } => write!(f, "entry {entry} is malformed: {what}"),
        }
    }
}

impl core::error::Error for FormatError {}

/// The contents of an entry are malformed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Malformed(pub(super) &'static str);

/// Returns the header of a file: magic, version, whether it contains data, the release that writes it.
pub fn file_header(full: bool) -> Vec<u8> {
    let release = env!("CARGO_PKG_VERSION");
    let mut header = MAGIC.to_vec();
    header.extend_from_slice(&VERSION.to_be_bytes());
    header.push(u8::from(full));
    header.push(release.len() as u8);
    header.extend_from_slice(release.as_bytes());
    let checksum = crc32(&[&header]);
    header.extend_from_slice(&checksum.to_be_bytes());
    header
}

/// Reads the header of a file; whether it contains data, and the bytes behind it.
pub(super) fn read_file_header(file: &[u8]) -> Result<(bool, &[u8]), FormatError> {
    let rest = file.strip_prefix(&MAGIC).ok_or(FormatError::NotARecording)?;
    let truncated = FormatError::Truncated { at: 0 };
    let (&[high, low, full, len], rest) = rest.split_first_chunk::<4>().ok_or_else(|| truncated.clone())?;
    let (release, rest) = rest.split_at_checked(usize::from(len)).ok_or_else(|| truncated.clone())?;
    let (sum, rest) = rest.split_first_chunk::<4>().ok_or(truncated)?;
    if crc32(&[&MAGIC, &[high, low, full, len], release]) != u32::from_be_bytes(*sum) {
        return Err(FormatError::Checksum { at: 0 });
    }
    let found = u16::from_be_bytes([high, low]);
    if found != VERSION {
        return Err(FormatError::Version { found, release: String::from_utf8_lossy(release).into_owned() });
    }
    Ok((full == 1, rest))
}

/// The beginning of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BlockHeader {
    pub(super) len: usize,
    pub(super) session: u32,
    pub(super) mark: u8,
    checksum: u32,
}

impl BlockHeader {
    pub(super) fn read(bytes: &[u8; BLOCK_HEADER]) -> Self {
        let word = |at: usize| u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        Self { len: word(0) as usize, session: word(4), mark: bytes[8], checksum: word(9) }
    }

    pub(super) fn fits(&self, payload: &[u8]) -> bool {
        checksum(self.session, self.mark, payload) == self.checksum
    }
}

/// Fills in the header of a block, for which its first bytes are reserved.
pub(crate) fn seal_block(block: &mut [u8], session: u32, mark: u8) {
    let Some((header, payload)) = block.split_first_chunk_mut::<BLOCK_HEADER>() else { return };
    let sum = checksum(session, mark, payload);
    header[..4].copy_from_slice(&(payload.len() as u32).to_be_bytes());
    header[4..8].copy_from_slice(&session.to_be_bytes());
    header[8] = mark;
    header[9..].copy_from_slice(&sum.to_be_bytes());
}

fn checksum(session: u32, mark: u8, payload: &[u8]) -> u32 {
    crc32(&[&session.to_be_bytes(), &[mark], payload])
}

/// CRC-32 as in Ethernet and zip.
fn crc32(parts: &[&[u8]]) -> u32 {
    let step = |crc: u32, byte: &u8| (crc >> 8) ^ TABLE[usize::from(crc as u8 ^ byte)];
    !parts.iter().copied().flatten().fold(u32::MAX, step)
}

const TABLE: [u32; 256] = {
    let (mut table, mut at) = ([0; 256], 0);
    while at < table.len() {
        let (mut crc, mut bit) = (at as u32, 0);
        while bit < 8 {
            crc = if crc & 1 == 1 { 0xedb8_8320 ^ (crc >> 1) } else { crc >> 1 };
            bit += 1;
        }
        table[at] = crc;
        at += 1;
    }
    table
};

/// Writes the fields of an entry.
pub(super) trait Put {
    fn number(&mut self, value: u64);
    fn bytes(&mut self, bytes: &[u8]);
    fn flag(&mut self, flag: bool);
}

impl Put for Vec<u8> {
    #[inline]
    fn number(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.push(value as u8);
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.number(bytes.len() as u64);
        self.extend_from_slice(bytes);
    }

    fn flag(&mut self, flag: bool) {
        self.push(u8::from(flag));
    }
}

/// Reads the fields of an entry.
#[derive(Clone, Copy, Debug)]
pub(super) struct Get<'a>(&'a [u8]);

impl<'a> Get<'a> {
    pub(super) const fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn byte(&mut self) -> Result<u8, Malformed> {
        let (byte, rest) = self.0.split_first().ok_or(Malformed("it ends too early"))?;
        self.0 = rest;
        Ok(*byte)
    }

    pub(super) fn flag(&mut self) -> Result<bool, Malformed> {
        match self.byte()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(Malformed("a flag is neither 0 nor 1")),
        }
    }

    pub(super) fn number(&mut self) -> Result<u64, Malformed> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let part = u64::from(byte & 0x7f);
            if part << shift >> shift != part {
                break;
            }
            value |= part << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(Malformed("a number is too large"))
    }

    pub(super) fn optional(&mut self) -> Result<Option<u64>, Malformed> {
        Ok(self.number()?.checked_sub(1))
    }

    pub(super) fn u32(&mut self) -> Result<u32, Malformed> {
        u32::try_from(self.number()?).map_err(|_| Malformed("a number is too large"))
    }

    pub(super) fn len(&mut self) -> Result<usize, Malformed> {
        usize::try_from(self.number()?).map_err(|_| Malformed("a length is too large"))
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (array, rest) = self.0.split_first_chunk().ok_or(Malformed("it ends too early"))?;
        self.0 = rest;
        Ok(*array)
    }

    pub(super) fn slice(&mut self, len: usize) -> Result<&'a [u8], Malformed> {
        let (slice, rest) = self.0.split_at_checked(len).ok_or(Malformed("it ends too early"))?;
        self.0 = rest;
        Ok(slice)
    }

    pub(super) fn bytes(&mut self) -> Result<&'a [u8], Malformed> {
        let len = self.len()?;
        self.slice(len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_crc_32() {
        assert_eq!(crc32(&[b"1234", b"56789"]), 0xcbf4_3926);
    }

    #[test]
    fn numbers_are_read_as_written_and_longer_ones_are_refused() {
        for value in [0, 1, 127, 128, 300, u64::from(u32::MAX), u64::MAX - 1, u64::MAX] {
            let mut bytes = Vec::new();
            bytes.number(value);
            let mut get = Get::new(&bytes);
            assert_eq!((get.number(), get.is_empty()), (Ok(value), true));
        }
        assert!(Get::new(&[0x80; 12]).number().is_err());
        assert!(Get::new(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2]).number().is_err());
    }

    #[test]
    fn a_file_of_another_version_names_the_release_that_wrote_it() {
        let mut header = file_header(false);
        assert_eq!(read_file_header(&header), Ok((false, &[][..])));
        header[9] = 9;
        assert_eq!(read_file_header(&header), Err(FormatError::Checksum { at: 0 }));
        let body = header.len() - 4;
        let sum = crc32(&[&header[..body]]);
        header[body..].copy_from_slice(&sum.to_be_bytes());
        let error = read_file_header(&header).unwrap_err();
        assert!(error.to_string().contains("version 9") && error.to_string().contains(env!("CARGO_PKG_VERSION")));
        assert_eq!(read_file_header(b"TCPLSRE"), Err(FormatError::NotARecording));
    }

    #[test]
    fn a_changed_bit_in_a_block_is_detected() {
        let mut block = [&[0; BLOCK_HEADER][..], b"entries"].concat();
        seal_block(&mut block, 7, 1);
        let header = BlockHeader::read(block.first_chunk().unwrap());
        assert_eq!((header.len, header.session, header.mark), (7, 7, 1));
        assert!(header.fits(&block[BLOCK_HEADER..]));
        for bit in 32..block.len() * 8 {
            let mut broken = block.clone();
            broken[bit / 8] ^= 1 << (bit % 8);
            assert!(!BlockHeader::read(broken.first_chunk().unwrap()).fits(&broken[BLOCK_HEADER..]), "bit {bit}");
        }
    }
}
