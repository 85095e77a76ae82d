//! TCP options that the application sends inside the session (`docs/protocol.md`, TCP Option).

/// The longest value of a TCP option that is sent.
pub(super) const MAX_OPTION_VALUE: usize = 64;
/// TCP options that are sent in a session. They are kept: one that is lost is sent again.
const MAX_OPTIONS: usize = 256;

/// Options in the order in which the application gave them.
#[derive(Default)]
pub(super) struct TcpOptions(Vec<(u8, Vec<u8>)>);

impl TcpOptions {
    /// Takes one more, cut to [`MAX_OPTION_VALUE`]; its place, or `None` if there are too many.
    pub(super) fn push(&mut self, kind: u8, value: &[u8]) -> Option<u32> {
        let index = u32::try_from(self.0.len()).ok().filter(|_| self.0.len() < MAX_OPTIONS)?;
        let value = value.get(..value.len().min(MAX_OPTION_VALUE)).unwrap_or_default();
        self.0.push((kind, value.to_vec()));
        Some(index)
    }

    /// Its kind and value.
    pub(super) fn get(&self, index: u32) -> Option<(u8, &[u8])> {
        self.0.get(index as usize).map(|(kind, value)| (*kind, value.as_slice()))
    }

    /// In bytes.
    pub(super) fn memory(&self) -> usize {
        let values: usize = self.0.iter().map(|(_, value)| value.capacity()).sum();
        values + self.0.capacity() * size_of::<(u8, Vec<u8>)>()
    }
}
