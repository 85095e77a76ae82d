//! The models, by topic. Each function is one run.

pub mod ends;
pub mod loan;
pub mod server;
pub mod streams;

pub use crate::output::models as output;
