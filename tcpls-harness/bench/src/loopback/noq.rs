//! noq.

super::quic::transfer!(noq, Bytes::len);
