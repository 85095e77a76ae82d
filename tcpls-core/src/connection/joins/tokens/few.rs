//! A few tokens by their numbers, in a sorted list without spare room: a session mostly has one or two, and a node of a
//! tree has room for eleven.

use crate::wire::ids::Token;

/// Tokens in the order of their numbers.
#[derive(Default)]
pub(super) struct Few(Vec<(u32, Token)>);

impl Few {
    fn find(&self, number: u32) -> Result<usize, usize> {
        self.0.binary_search_by_key(&number, |(own, _)| *own)
    }

    pub(super) fn get(&self, number: u32) -> Option<Token> {
        self.find(number).ok().map(|at| self.0[at].1)
    }

    pub(super) fn contains(&self, number: u32) -> bool {
        self.find(number).is_ok()
    }

    /// Adds a token, in place of the one with the same number if there is any.
    pub(super) fn insert(&mut self, number: u32, token: Token) {
        match self.find(number) {
            Ok(at) => self.0[at].1 = token,
            Err(at) => {
                self.0.reserve_exact(1);
                self.0.insert(at, (number, token));
            }
        }
    }

    pub(super) fn remove(&mut self, number: u32) -> Option<Token> {
        let at = self.find(number).ok()?;
        Some(self.take(at).1)
    }

    /// Removes the token with the lowest number.
    pub(super) fn pop_first(&mut self) -> Option<(u32, Token)> {
        (!self.0.is_empty()).then(|| self.take(0))
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn into_numbers(self) -> impl Iterator<Item = u32> {
        self.0.into_iter().map(|(number, _)| number)
    }

    fn take(&mut self, at: usize) -> (u32, Token) {
        let taken = self.0.remove(at);
        if self.0.is_empty() {
            self.0 = Vec::new();
        }
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_in_the_order_of_their_numbers_and_found_by_them() {
        let mut few = Few::default();
        [5, 1, 9, 3].into_iter().for_each(|number| few.insert(number, Token([number as u8; 32])));
        few.insert(3, Token([7; 32]));
        assert_eq!((few.get(3), few.get(4)), (Some(Token([7; 32])), None));
        assert_eq!((few.remove(5), few.remove(5)), (Some(Token([5; 32])), None));
        assert_eq!(few.pop_first(), Some((1, Token([1; 32]))));
        assert!(few.contains(9) && !few.contains(1) && few.len() == 2);
        assert_eq!(few.into_numbers().collect::<Vec<_>>(), [3, 9]);
    }

    #[test]
    fn there_is_no_room_for_more_tokens_than_there_are() {
        let mut few = Few::default();
        few.insert(1, Token([1; 32]));
        few.insert(2, Token([2; 32]));
        assert_eq!(few.0.capacity(), 2);
        assert!(few.pop_first().is_some() && few.pop_first().is_some() && few.pop_first().is_none());
        assert_eq!(few.0.capacity(), 0);
    }
}
