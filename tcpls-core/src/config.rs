//! What a session may use and how long it waits. The bounds on memory and work that an application may want
//! to move are fields here, with safe defaults; those that should not move are constants where they apply.

use core::time::Duration;

use crate::error::{Bound, ConfigError};

/// The least that a window or a buffer for sending may be, in bytes.
const MIN_BUFFER: u64 = 1024;
/// The shortest timeout.
const MIN_TIMEOUT: Duration = Duration::from_millis(100);
/// The longest that an acknowledgment may be held back, in milliseconds.
pub(crate) const MAX_ACK_DELAY_MS: u64 = 1 << 14;
/// The most tokens that a client stores.
const MAX_SPARE_TOKENS: u64 = 16;
/// Gaps that any stream may have.
const MIN_GAPS: u64 = 8;
/// Gaps that are enough for any window.
const ENOUGH_GAPS: u64 = 1024;
/// Two full records: of a window that full records fill, every second may be missing.
const BYTES_PER_GAP: u64 = 2 * ((1 << 14) - 15);
/// Records that one generation of keys must be good for, so that the next can be agreed on meanwhile.
const MIN_KEY_USES: u64 = 32;
/// Overhead that any session has.
const MIN_OVERHEAD: u64 = 100;

/// Settings of one end of a session. Everything that a peer could exhaust is bounded, here or by a constant.
///
/// [`Config::default`] suits bulk transfer and interactive use on the public Internet. [`Config::validate`] says what cannot
/// work: windows and buffers below 1 KiB, timeouts below 100 ms, counts of 0, settings that contradict each other.
#[derive(Clone, Debug)]
pub struct Config {
    /// How far the peer may run ahead of what came on all streams together, at the start. The window grows by itself up to
    /// [`Config::max_session_window`]; that streams are not read does not close it.
    pub initial_session_window: u64,
    /// The bound on what is buffered for reading, and the most that the session's window grows to. Streams that are not
    /// read leave room for others up to this bound: with the defaults, as long as they are no more than 15.
    pub max_session_window: u64,
    /// Bytes of one stream that the peer may have sent and the application has not read, at the start. A 32nd of
    /// [`Config::max_session_window`] or less keeps 15 streams that are not read from stopping the others.
    pub initial_stream_window: u64,
    /// The most that one stream's window grows to. All windows together grow by no more than what
    /// [`Config::max_session_window`] has beyond 16 initial windows, or by half of it if that is more.
    pub max_stream_window: u64,
    /// How many streams the peer may have open at the same time.
    pub max_streams: u32,
    /// Bytes that all streams together may hold that were written and are not yet acknowledged; a write
    /// beyond is refused until there is room. Bounds the memory that failover costs. Beyond what is in flight and what
    /// the peer's credit lets go out, a session holds 64 KiB, and a plain session 256 KiB in all, if that is less.
    pub send_buffer: usize,
    /// The same for one stream.
    pub stream_send_buffer: usize,
    /// Records on one TCP connection that may wait for an acknowledgment before stream data has to wait, too: some 100 bytes
    /// are kept for each. At least 1; full records of a fast and long path need some thousands.
    pub max_unacknowledged_records: u32,
    /// Received ranges with gaps between them that one stream may hold. More is the peer's fault.
    pub max_gaps: usize,

    /// After how long the session ends on which no stream is open and no Ping comes, or whose peer says nothing although streams
    /// are open. The shorter of both ends' counts. `None`: never.
    pub idle_timeout: Option<Duration>,
    /// After how long without ACK progress, while ack-eliciting records are outstanding, a TCP connection is
    /// given up. Bytes that come on it, and bytes that the peer's TCP acknowledges anew, restart it.
    pub user_timeout: Duration,
    /// While streams are open: after how long without an authentic record a TCP connection is asked for a sign of life. The time
    /// doubles with each answer, up to 16 times, until stream data flows again. `None`: never; then a side that has nothing to
    /// send does not notice a dark path.
    pub probe_after: Option<Duration>,
    /// The longest that an acknowledgment is held back. At most 16 s (2¹⁴ ms).
    pub max_ack_delay: Duration,
    /// Ack-eliciting records after which an acknowledgment is no longer held back.
    pub ack_every_records: u32,
    /// TCP connections in use at the same time, tokens in the client's hands included. At least 1. The client always has
    /// one token: if one more joins, the server leaves the one that has been silent longest.
    pub max_tcp_connections: u32,
    /// Server: tokens that the client should always have in hand, within [`Config::max_tcp_connections`]. At most 16. This is how many
    /// TCP connections can join at once, and how many joins may fail before a stranded session cannot recover.
    pub spare_tokens: u32,
    /// How long the TLS handshake may take. Bytes that move restart it, for at most four times as long.
    pub handshake_timeout: Duration,
    /// How long a join may take until its first authentic record. Bytes that move restart it, for at most four times as long.
    pub join_timeout: Duration,
    /// How long the session outlives its last TCP connection.
    pub session_timeout: Duration,
    /// How long closing may take without progress before it is cut short. Also how long a peer that said close_notify on one
    /// of several TCP connections may take to deliver what is under way on the others.
    pub close_timeout: Duration,
    /// How long closing may take in all, however much progress it makes.
    pub close_limit: Duration,
    /// Client: send records right behind a join's ClientHello, without waiting for the ServerHello.
    pub zero_rtt_join: bool,

    /// Records sealed with one key before the session refuses to seal more, over all TCP connections.
    /// `None`: what the cipher suite allows (2²³ for AES-GCM).
    pub confidentiality_limit: Option<u64>,
    /// Records that failed to open, over all TCP connections, before the session ends. `None`: what the
    /// cipher suite allows.
    pub integrity_limit: Option<u64>,
    /// How much more overhead than payload a peer may send before the session ends (enhance your calm). A unit is a record
    /// or a control frame; each KiB of stream data earns one back.
    pub overhead_budget: u32,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            initial_session_window: 2 << 20,
            max_session_window: 32 << 20,
            initial_stream_window: 1 << 20,
            max_stream_window: 16 << 20,
            max_streams: 128,
            send_buffer: 32 << 20,
            stream_send_buffer: 16 << 20,
            max_unacknowledged_records: 16_384,
            max_gaps: 1024,
            idle_timeout: Some(Duration::from_secs(60)),
            user_timeout: Duration::from_secs(10),
            probe_after: Some(Duration::from_secs(2)),
            max_ack_delay: Duration::from_millis(25),
            ack_every_records: 32,
            max_tcp_connections: 8,
            spare_tokens: 4,
            handshake_timeout: Duration::from_secs(10),
            join_timeout: Duration::from_secs(5),
            session_timeout: Duration::from_secs(60),
            close_timeout: Duration::from_secs(5),
            close_limit: Duration::from_secs(600),
            zero_rtt_join: true,
            confidentiality_limit: None,
            integrity_limit: None,
            overhead_budget: 20_000,
        }
    }
}

impl Config {
    /// Whether these settings can work. [`Connection::client`] and [`Connection::server`] ask it: a session with a
    /// configuration that cannot ends at once, with [`CloseReason::Config`].
    ///
    /// [`Connection::client`]: crate::connection::Connection::client
    /// [`Connection::server`]: crate::connection::Connection::server
    /// [`CloseReason::Config`]: crate::error::CloseReason::Config
    ///
    /// # Errors
    /// The first setting that is too small or too large, or contradicts another.
    pub fn validate(&self) -> Result<(), ConfigError> {
        self.check_windows()?;
        self.check_counts()?;
        self.check_times()
    }

    fn check_windows(&self) -> Result<(), ConfigError> {
        ConfigError::at_least("initial_session_window", self.initial_session_window, MIN_BUFFER, "bytes")?;
        ConfigError::at_least("initial_stream_window", self.initial_stream_window, MIN_BUFFER, "bytes")?;
        if self.max_session_window < self.initial_session_window {
            return Err(ConfigError::new("max_session_window", Bound::NotBelow("initial_session_window")));
        }
        if self.max_stream_window < self.initial_stream_window {
            return Err(ConfigError::new("max_stream_window", Bound::NotBelow("initial_stream_window")));
        }
        ConfigError::at_least("send_buffer", self.send_buffer as u64, MIN_BUFFER, "bytes")?;
        ConfigError::at_least("stream_send_buffer", self.stream_send_buffer as u64, MIN_BUFFER, "bytes")
    }

    fn check_counts(&self) -> Result<(), ConfigError> {
        ConfigError::at_least("max_streams", self.max_streams.into(), 1, "stream")?;
        ConfigError::at_least("max_unacknowledged_records", self.max_unacknowledged_records.into(), 1, "record")?;
        let gaps = (self.max_stream_window / BYTES_PER_GAP).clamp(MIN_GAPS, ENOUGH_GAPS);
        ConfigError::at_least("max_gaps", self.max_gaps as u64, gaps, "gaps for such windows")?;
        ConfigError::at_least("ack_every_records", self.ack_every_records.into(), 1, "record")?;
        ConfigError::at_least("max_tcp_connections", self.max_tcp_connections.into(), 1, "TCP connection")?;
        if u64::from(self.spare_tokens) > MAX_SPARE_TOKENS {
            return Err(ConfigError::new("spare_tokens", Bound::AtMost(MAX_SPARE_TOKENS, "tokens")));
        }
        let key_uses = self.confidentiality_limit.unwrap_or(u64::MAX);
        ConfigError::at_least("confidentiality_limit", key_uses, MIN_KEY_USES, "records")?;
        ConfigError::at_least("integrity_limit", self.integrity_limit.unwrap_or(u64::MAX), 1, "record")?;
        ConfigError::at_least("overhead_budget", self.overhead_budget.into(), MIN_OVERHEAD, "units")
    }

    fn check_times(&self) -> Result<(), ConfigError> {
        for (field, time) in [
            ("idle_timeout", self.idle_timeout),
            ("user_timeout", Some(self.user_timeout)),
            ("probe_after", self.probe_after),
            ("handshake_timeout", Some(self.handshake_timeout)),
            ("join_timeout", Some(self.join_timeout)),
            ("close_timeout", Some(self.close_timeout)),
        ] {
            ConfigError::lasts(field, time.unwrap_or(Duration::MAX), MIN_TIMEOUT)?;
        }
        ConfigError::lasts("close_limit", self.close_limit, Duration::from_millis(1))?;
        if self.max_ack_delay > Duration::from_millis(MAX_ACK_DELAY_MS) {
            return Err(ConfigError::new("max_ack_delay", Bound::AtMost(MAX_ACK_DELAY_MS, "ms")));
        }
        // The peer would declare lost what was received: it goes by the shorter of both user timeouts.
        if self.max_ack_delay >= self.user_timeout {
            return Err(ConfigError::new("max_ack_delay", Bound::Below("user_timeout")));
        }
        if self.idle_timeout.is_some_and(|idle| self.max_ack_delay >= idle) {
            return Err(ConfigError::new("max_ack_delay", Bound::Below("idle_timeout")));
        }
        Ok(())
    }
}
