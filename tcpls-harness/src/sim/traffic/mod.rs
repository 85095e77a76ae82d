//! The traffic of a scenario: transfers, which know what must be delivered, and the bytes that they consist of.

pub(crate) mod pattern;
pub(crate) mod transfers;
