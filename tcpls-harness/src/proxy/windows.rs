//! The windows of a session for tunnels: connections whose programs read nothing must not stop the others, as they do not
//! where each is a TCP connection.

use tcpls_core::config::Config;

/// The initial window of a stream: what TCP sends at first (10 segments, RFC 6928), and a little more.
const WINDOW: u64 = 16 * 1024;
/// The most unread data that a session may hold for windows of that size.
const MAX_UNREAD: u64 = 64 << 20;
/// The smallest window that a configuration may have.
const MIN_WINDOW: u64 = 1024;

/// Returns the configuration of a session for at most this many connections at a time, any number of which may be unread
/// without stopping the others.
///
/// The initial windows of all streams together are half of the session's; windows of streams that are read grow into the
/// other half. For many connections, initial windows become smaller, down to 16 KiB; for more than 1024 the session's
/// maximum is larger, up to 64 MiB; beyond 2048, windows are smaller again.
#[must_use]
pub fn session_config(config: Config, connections: u32) -> Config {
    config.with(|config| {
        let count = u64::from(connections.max(1));
        config.max_streams = connections.max(1);
        config.max_session_window = config.max_session_window.max((2 * WINDOW * count).min(MAX_UNREAD));
        let share = (config.max_session_window / 2 / count).max(MIN_WINDOW);
        config.initial_stream_window = config.initial_stream_window.min(share);
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn initial_windows_of_all_connections_are_half_of_the_sessions_window() {
        for (connections, window, all) in
            [(1, 1 << 20, 32), (128, 128 << 10, 32), (1024, 16 << 10, 32), (2048, 16 << 10, 64), (16_384, 2 << 10, 64)]
        {
            let config = session_config(Config::default(), connections);
            assert_eq!((config.initial_stream_window, config.max_session_window), (window, all << 20), "{connections}");
            assert_eq!(config.max_streams, connections);
            assert!(config.initial_stream_window * u64::from(connections) <= config.max_session_window / 2);
        }
    }

    #[test]
    fn every_number_of_connections_gives_a_valid_configuration() {
        for connections in [0, 1, 100_000, u32::MAX] {
            session_config(Config::default(), connections).validate().unwrap();
        }
    }
}
