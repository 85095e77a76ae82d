//! The part of the configuration that streams need: a session may be one of many, and the whole is five times as large.

use crate::config::Config;

/// Limits from the configuration; see there.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) streams: u32,
    pub(super) gaps: usize,
    pub(super) send_buffer: usize,
    pub(super) stream_send_buffer: usize,
    pub(super) initial_window: u64,
    pub(super) max_window: u64,
    /// Of the session: it bounds what is held without credit, too.
    pub(super) session_window: u64,
}

impl Limits {
    pub(super) fn of(config: &Config) -> Self {
        Self {
            streams: config.max_streams,
            gaps: config.max_gaps,
            send_buffer: config.send_buffer,
            stream_send_buffer: config.stream_send_buffer,
            initial_window: config.initial_stream_window,
            max_window: config.max_stream_window,
            session_window: config.max_session_window,
        }
    }
}
