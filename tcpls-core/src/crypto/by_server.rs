//! What a client keeps of each server, for a limited number of servers.

use std::collections::{BTreeMap, VecDeque};

/// Values by the server's name. Beyond the limit, the server that was used first is forgotten.
pub(super) struct ByServer<T> {
    most: usize,
    values: BTreeMap<String, T>,
    /// The names in the order in which they were used last.
    order: VecDeque<String>,
}

impl<T: Default> ByServer<T> {
    /// Returns an empty map for `most` servers, at least 1.
    pub(super) fn new(most: usize) -> Self {
        Self { most: most.max(1), values: BTreeMap::new(), order: VecDeque::new() }
    }

    /// Returns how many servers there may be.
    pub(super) fn most(&self) -> usize {
        self.most
    }

    pub(super) fn get_mut(&mut self, name: &str) -> Option<&mut T> {
        self.values.get_mut(name)
    }

    /// Returns the value of a server, which is the one used last.
    pub(super) fn touch(&mut self, name: &str) -> &mut T {
        self.order.retain(|known| known != name);
        self.order.push_back(name.to_owned());
        while self.order.len() > self.most {
            if let Some(oldest) = self.order.pop_front() {
                self.values.remove(&oldest);
            }
        }
        self.values.entry(name.to_owned()).or_default()
    }

    /// Returns the servers, the one used first at the start.
    #[cfg(feature = "openssl")]
    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &T)> {
        self.order.iter().filter_map(|name| Some((name.as_str(), self.values.get(name)?)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn server_that_was_used_first_is_forgotten_at_the_limit() {
        let mut kept = ByServer::new(2);
        for (name, value) in [("a", 1), ("b", 2), ("a", 3), ("c", 4)] {
            *kept.touch(name) = value;
        }
        assert_eq!(["a", "b", "c"].map(|name| kept.get_mut(name).copied()), [Some(3), None, Some(4)]);
        assert_eq!(kept.most(), 2);
    }
}
