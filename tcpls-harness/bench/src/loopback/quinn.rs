//! quinn.

super::quic::transfer!(quinn, |chunk: &quinn::Chunk| chunk.bytes.len(), true);
