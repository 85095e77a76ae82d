//! Writes pieces of stream data as frames.

use super::Connection;
use crate::stream::Chunk;
use crate::time::Time;
use crate::wire::frame;
use crate::wire::ids::ConnectionId;

/// The most Stream frames in one record: enough for many small streams, few enough for an insertion sort.
pub(super) const MAX_CHUNKS: usize = 16;

impl Connection {
    /// Appends pieces of stream data for a record on `tcp`, as Stream frames.
    pub(super) fn write_chunks(&mut self, now: Time, tcp: ConnectionId, chunks: &[Chunk], out: &mut Vec<u8>) {
        let mut bytes = 0;
        let has_classes = self.streams.has_classes();
        for chunk in chunks {
            self.streams.copy_chunk(chunk, out);
            if has_classes {
                self.note_data(now, tcp, u64::from(chunk.len), self.streams.is_interactive(chunk.id));
            }
            frame::encode_stream_tail(chunk.id, chunk.offset, chunk.fin, chunk.len, out);
            self.frames_sent.count(if chunk.fin { frame::ty::STREAM_FIN } else { frame::ty::STREAM });
            bytes += u64::from(chunk.len);
        }
        if let Some(entry) = self.tcps.get_mut(tcp).filter(|_| !chunks.is_empty()) {
            entry.data_sealed(bytes);
        }
    }
}
