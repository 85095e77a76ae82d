//! Congestion controls that a peer brings: a signed BPF object in pieces, each the value of a request.

use tcpls_core::event::OptionOutcome;

use crate::programs::{MAX_OBJECT, ProgramId, SIGNATURE_LEN};

/// Bytes of the object in a piece; the last one may be shorter. A request has 4 more.
const PIECE: usize = 60;
/// The longest object with its signature, in bytes.
const MAX_LEN: usize = SIGNATURE_LEN + MAX_OBJECT;
/// Pieces that a session takes: four of the longest objects.
const MAX_PIECES: usize = 4 * MAX_LEN.div_ceil(PIECE);

/// Returns the values of the requests for a signed object; `None` if it is too long.
pub(crate) fn pieces(signed: &[u8]) -> Option<impl Iterator<Item = Vec<u8>>> {
    let length = u16::try_from(signed.len()).ok().filter(|_| signed.len() <= MAX_LEN)?;
    let chunks = signed.chunks(PIECE).zip(0_u16..);
    Some(chunks.map(move |(chunk, index)| [&length.to_be_bytes()[..], &index.to_be_bytes(), chunk].concat()))
}

/// What a peer has brought so far.
#[derive(Debug, Default)]
pub(crate) struct Brought {
    bytes: Vec<u8>,
    pieces: usize,
}

impl Brought {
    /// Takes a piece. One of an object of another length begins a new object.
    pub(crate) fn take(&mut self, value: &[u8]) -> OptionOutcome {
        let Some((&[l0, l1, i0, i1], piece)) = value.split_first_chunk::<4>() else { return OptionOutcome::Refused };
        let length = usize::from(u16::from_be_bytes([l0, l1]));
        let start = usize::from(u16::from_be_bytes([i0, i1])) * PIECE;
        let is_piece = start < length && piece.len() == PIECE.min(length - start);
        if !is_piece || length > MAX_LEN || self.pieces >= MAX_PIECES {
            return OptionOutcome::Refused;
        }
        self.pieces += 1;
        if self.bytes.len() != length {
            self.bytes = vec![0; length];
        }
        self.bytes[start..start + piece.len()].copy_from_slice(piece);
        OptionOutcome::Applied
    }

    /// Returns the signed object, if that is what is there. It stays for the session's other TCP connections, which are asked
    /// for at the same time or join later.
    pub(crate) fn complete(&self, id: &ProgramId) -> Option<Vec<u8>> {
        let is_complete = self.bytes.get(SIGNATURE_LEN..).is_some_and(|object| ProgramId::of(object) == *id);
        is_complete.then(|| self.bytes.clone())
    }

    /// In bytes.
    pub(crate) fn memory(&self) -> usize {
        self.bytes.capacity()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(length: usize) -> Vec<u8> {
        (0..length).map(|at| u8::try_from(at % 251).unwrap()).collect()
    }

    #[test]
    fn an_object_is_complete_when_all_pieces_are_there_in_any_order() {
        for length in [65, 120, 121, 6720, MAX_LEN] {
            let signed = object(length);
            let id = ProgramId::of(&signed[SIGNATURE_LEN..]);
            let mut all: Vec<Vec<u8>> = pieces(&signed).unwrap().collect();
            assert!(all.iter().all(|piece| piece.len() <= 64), "the limit of a request");
            all.reverse();
            let mut brought = Brought::default();
            assert_eq!(brought.complete(&id), None);
            for piece in all {
                assert_eq!(brought.take(&piece), OptionOutcome::Applied);
            }
            assert_eq!(brought.complete(&ProgramId::new([7; 32])), None);
            assert_eq!(brought.complete(&id), Some(signed.clone()));
            assert_eq!(brought.complete(&id), Some(signed), "for the next TCP connection");
            assert_eq!(brought.memory(), length);
        }
        assert!(pieces(&object(MAX_LEN + 1)).is_none());
    }

    #[test]
    fn pieces_beyond_an_object_or_of_another_length_are_refused() {
        let mut brought = Brought::default();
        let longest = u16::try_from(MAX_LEN).unwrap();
        let value = |length: u16, index: u16, piece: usize| {
            [&length.to_be_bytes()[..], &index.to_be_bytes(), &object(piece)].concat()
        };
        for wrong in [
            vec![],
            vec![0, 1, 0],
            value(0, 0, 0),
            value(100, 0, 59),
            value(100, 1, 41),
            value(100, 2, 0),
            value(100, u16::MAX, 60),
            value(longest + 1, 0, 60),
        ] {
            assert_eq!(brought.take(&wrong), OptionOutcome::Refused, "{wrong:?}");
        }
        assert_eq!(brought.bytes.len(), 0);
        assert_eq!(brought.take(&value(100, 1, 40)), OptionOutcome::Applied);
    }

    #[test]
    fn a_session_takes_four_of_the_longest_objects() {
        let mut brought = Brought::default();
        let signed = object(MAX_LEN);
        for _ in 0..4 {
            assert!(pieces(&signed).unwrap().all(|piece| brought.take(&piece) == OptionOutcome::Applied));
        }
        let next = pieces(&signed).unwrap().next().unwrap();
        assert_eq!(brought.take(&next), OptionOutcome::Refused);
        assert_eq!(brought.bytes.len(), MAX_LEN);
    }
}
