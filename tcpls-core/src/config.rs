//! What a session may use and how long it waits. The bounds on memory and work that an application may want
//! to move are fields here, with safe defaults; those that nobody should move are constants where they apply.

use core::time::Duration;

/// Settings of one end of a session. Everything that a peer could exhaust is bounded, here or by a constant.
///
/// [`Config::default`] suits bulk transfer and interactive use on the public Internet.
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
    /// Server: tokens that the client should always have in hand, within [`Config::max_tcp_connections`]. At most 16. So many
    /// TCP connections can join at once, and so many joins may get lost on bad paths before the session can't come back.
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
    /// How much more overhead than payload a peer may send before it is told to calm down. A unit is a record
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
