//! Readers that take big-endian fields off a slice: [`Tail`] from its end, as frames are read (draft, 5.2), and
//! [`Head`] from its start, as TLS messages are.
//!
//! Every step either returns a field, or returns [`Short`] and leaves the reader unchanged, so that callers need no
//! length checks and cannot read out of bounds. Called by the decoders of `frame` and `hello`, which interpret the
//! fields.

/// There are fewer bytes left than the field needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Short;

/// Takes fields from the end of a slice.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tail<'a>(&'a [u8]);

impl<'a> Tail<'a> {
    pub(crate) const fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(crate) const fn len(&self) -> usize {
        self.0.len()
    }

    /// The last `N` bytes that are left, in the order in which they stand.
    // draft I01
    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], Short> {
        let (rest, field) = self.0.split_last_chunk().ok_or(Short)?;
        self.0 = rest;
        Ok(*field)
    }

    pub(crate) fn u8(&mut self) -> Result<u8, Short> {
        self.array().map(u8::from_be_bytes)
    }

    pub(crate) fn u16(&mut self) -> Result<u16, Short> {
        self.array().map(u16::from_be_bytes)
    }

    pub(crate) fn u32(&mut self) -> Result<u32, Short> {
        self.array().map(u32::from_be_bytes)
    }

    pub(crate) fn u64(&mut self) -> Result<u64, Short> {
        self.array().map(u64::from_be_bytes)
    }

    /// The last `len` bytes that are left.
    pub(crate) fn slice(&mut self, len: usize) -> Result<&'a [u8], Short> {
        let at = self.0.len().checked_sub(len).ok_or(Short)?;
        let (rest, field) = self.0.split_at_checked(at).ok_or(Short)?;
        self.0 = rest;
        Ok(field)
    }

    /// Takes the run of `byte` at the end, if there is one, and returns its length.
    pub(crate) fn run_of(&mut self, byte: u8) -> usize {
        let before = self.0.len();
        while let [rest @ .., last] = self.0
            && *last == byte
        {
            self.0 = rest;
        }
        before - self.0.len()
    }
}

/// Takes fields from the start of a slice.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Head<'a>(&'a [u8]);

impl<'a> Head<'a> {
    pub(crate) const fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// The first `N` bytes that are left.
    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], Short> {
        let (field, rest) = self.0.split_first_chunk().ok_or(Short)?;
        self.0 = rest;
        Ok(*field)
    }

    pub(crate) fn u8(&mut self) -> Result<u8, Short> {
        self.array().map(u8::from_be_bytes)
    }

    pub(crate) fn u16(&mut self) -> Result<u16, Short> {
        self.array().map(u16::from_be_bytes)
    }

    /// A vector with a length of one byte in front (RFC 8446, 3.4).
    pub(crate) fn vec8(&mut self) -> Result<&'a [u8], Short> {
        let mut ahead = *self;
        let len = ahead.u8()?;
        self.commit(ahead, usize::from(len))
    }

    /// A vector with a length of two bytes in front (RFC 8446, 3.4).
    pub(crate) fn vec16(&mut self) -> Result<&'a [u8], Short> {
        let mut ahead = *self;
        let len = ahead.u16()?;
        self.commit(ahead, usize::from(len))
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Fails if anything is left: for the end of a structure that fills its space.
    pub(crate) fn end(self) -> Result<(), Short> {
        if self.is_empty() { Ok(()) } else { Err(Short) }
    }

    /// Takes `len` bytes after what `ahead` has read, so that a vector is taken whole or not at all.
    fn commit(&mut self, ahead: Self, len: usize) -> Result<&'a [u8], Short> {
        let (field, rest) = ahead.0.split_at_checked(len).ok_or(Short)?;
        self.0 = rest;
        Ok(field)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tail_is_read_backwards_with_each_field_in_network_byte_order() {
        // draft I01, I35
        let bytes: Vec<u8> = (1..=20).collect();
        let mut tail = Tail::new(&bytes);
        assert_eq!(tail.u8(), Ok(20));
        assert_eq!(tail.u16(), Ok(0x1213));
        assert_eq!(tail.u32(), Ok(0x0e0f_1011));
        assert_eq!(tail.u64(), Ok(0x0607_0809_0a0b_0c0d));
        assert_eq!(tail.array(), Ok([4, 5]));
        assert_eq!(tail.slice(3), Ok(&[1, 2, 3][..]));
        assert_eq!(tail.u8(), Err(Short));
    }

    #[test]
    fn a_tail_that_is_too_short_stays_as_it_was() {
        let mut tail = Tail::new(&[1, 2, 3]);
        assert_eq!(tail.u32(), Err(Short));
        assert_eq!(tail.u64(), Err(Short));
        assert_eq!(tail.slice(4), Err(Short));
        assert_eq!(tail.slice(usize::MAX), Err(Short));
        assert_eq!(tail.array::<4>(), Err(Short));
        assert_eq!(tail.slice(3), Ok(&[1, 2, 3][..]));
    }

    #[test]
    fn a_run_ends_at_the_first_other_byte() {
        let mut tail = Tail::new(&[0, 7, 0, 0, 0]);
        assert_eq!(tail.run_of(0), 3);
        assert_eq!(tail.run_of(0), 0);
        assert_eq!(tail.u8(), Ok(7));
        assert_eq!(tail.run_of(0), 1);
        assert_eq!(tail.run_of(0), 0);
    }

    #[test]
    fn the_head_is_read_forwards() {
        let mut head = Head::new(&[1, 2, 3, 2, 8, 9, 0, 1, 7]);
        assert_eq!(head.u8(), Ok(1));
        assert_eq!(head.u16(), Ok(0x0203));
        assert_eq!(head.vec8(), Ok(&[8, 9][..]));
        assert_eq!(head.vec16(), Ok(&[7][..]));
        assert_eq!(head.end(), Ok(()));
    }

    #[test]
    fn a_vector_that_is_cut_short_is_not_taken_at_all() {
        let mut head = Head::new(&[0, 3, 1, 2]);
        assert_eq!(head.vec16(), Err(Short));
        assert_eq!(head.end(), Err(Short));
        assert_eq!(head.vec8(), Ok(&[][..]));
        assert_eq!(head.vec8(), Err(Short));
        assert_eq!(head.array(), Ok([3, 1, 2]));
    }
}
