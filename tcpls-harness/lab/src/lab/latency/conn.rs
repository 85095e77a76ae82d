//! What is measured, whatever the protocol: connections with streams.

use tokio::io::{AsyncRead, AsyncWrite};

use crate::lab::Outcome;

/// A connection, as its client has it.
pub(super) trait Conn: Clone + Send + Sync + 'static {
    type Stream: Duplex;

    /// Opens a stream of both directions.
    fn open(&self) -> impl Future<Output = Outcome<Self::Stream>> + Send;

    /// TCP connections that are lanes.
    fn lanes(&self) -> usize {
        0
    }
}

/// A stream of both directions, at priority 0 at first.
pub(super) trait Duplex: AsyncRead + AsyncWrite + Send + Unpin + 'static {
    /// Raises the priority, if the protocol has priorities.
    fn prioritize(&mut self) -> Outcome {
        Ok(())
    }

    /// Keeps what is sent on the first TCP connection, if there are several.
    fn attach(&mut self) -> Outcome {
        Ok(())
    }
}
