//! The queue of the command's output, and what it imports from the module above it.

include!(concat!(env!("OUT_DIR"), "/src/screen.include"));
include!(concat!(env!("OUT_DIR"), "/src/sink.include"));

/// Why something could not be written.
#[derive(Clone, Debug)]
pub(crate) struct Unwritten(std::io::ErrorKind);

impl Unwritten {
    pub(crate) fn new(error: &std::io::Error) -> Self {
        Self(error.kind())
    }

    pub(crate) fn is_quiet(&self) -> bool {
        self.0 == std::io::ErrorKind::BrokenPipe
    }
}

#[path = "models/output.rs"]
pub mod models;
