//! Reads the blocks of a file.

use std::collections::BTreeMap;

use super::super::format::{BLOCK_HEADER, BlockHeader, FormatError, read_file_header};
use super::super::recorder::Mark;

/// A file with the recordings of one or more sessions.
#[derive(Debug)]
pub struct Recording<'a> {
    sessions: Vec<Session<'a>>,
    damage: Option<FormatError>,
}

/// The recording of one session.
#[derive(Debug)]
pub struct Session<'a> {
    number: u32,
    is_full: bool,
    blocks: Vec<&'a [u8]>,
    mark: Option<Mark>,
}

impl<'a> Recording<'a> {
    /// Reads a file. Takes no more memory than a few bytes for each block.
    ///
    /// # Errors
    /// The file is no recording, or one of another version. A file that is damaged further on is read up to that place.
    pub fn read(file: &'a [u8]) -> Result<Self, FormatError> {
        let (is_full, mut rest) = read_file_header(file)?;
        let mut sessions = BTreeMap::<u32, Session<'a>>::new();
        let mut damage = None;
        while !rest.is_empty() {
            let at = (file.len() - rest.len()) as u64;
            let Some((header, payload, behind)) = split_block(rest) else {
                damage = Some(FormatError::Truncated { at });
                break;
            };
            if !header.fits(payload) {
                damage = Some(FormatError::Checksum { at });
                break;
            }
            let Some(mark) = Mark::from_u8(header.mark) else {
                damage = Some(FormatError::Malformed { entry: 0, what: "a block has an unknown mark" });
                break;
            };
            let new = Session { number: header.session, is_full, blocks: Vec::new(), mark: None };
            let session = sessions.entry(header.session).or_insert(new);
            session.blocks.push(payload);
            session.mark = Some(mark).filter(|mark| *mark != Mark::More);
            rest = behind;
        }
        Ok(Self { sessions: sessions.into_values().collect(), damage })
    }

    /// Returns the sessions, in the order of their numbers.
    pub fn sessions(&self) -> &[Session<'a>] {
        &self.sessions
    }

    /// Returns what ends the file before its end, if anything does.
    pub const fn damage(&self) -> Option<&FormatError> {
        self.damage.as_ref()
    }
}

impl<'a> Session<'a> {
    /// Returns its number in the file.
    pub const fn number(&self) -> u32 {
        self.number
    }

    /// Returns whether the recording contains the session's data.
    pub const fn is_full(&self) -> bool {
        self.is_full
    }

    /// Returns why the recording ends; `None` if its end is missing.
    pub const fn mark(&self) -> Option<Mark> {
        self.mark
    }

    pub(super) fn blocks(&self) -> &[&'a [u8]] {
        &self.blocks
    }
}

fn split_block(bytes: &[u8]) -> Option<(BlockHeader, &[u8], &[u8])> {
    let (header, rest) = bytes.split_first_chunk::<BLOCK_HEADER>()?;
    let header = BlockHeader::read(header);
    let (payload, behind) = rest.split_at_checked(header.len)?;
    Some((header, payload, behind))
}
