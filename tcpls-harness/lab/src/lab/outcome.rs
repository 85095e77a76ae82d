//! The outcome of a run: plain data, written to files and read back. `run` fills it in, `goal` and `summary` evaluate
//! it.

use serde::{Deserialize, Serialize};

/// Names of cases that goals refer to.
pub(crate) const OURS: &str = "tcpls";
pub(crate) const MPTCP: &str = "mptcp";

/// The outcome of a run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Run {
    pub(crate) scenario: String,
    pub(crate) case: String,
    pub(crate) run: u32,
    /// Whether all bytes arrived, and were correct.
    pub(crate) intact: bool,
    /// Why not.
    pub(crate) error: Option<String>,
    pub(crate) bytes: u64,
    /// From the first byte to the last.
    pub(crate) seconds: f64,
    /// Goodput over these.
    pub(crate) mbit: f64,
    /// Goodput over the first two seconds; nothing if it took no longer.
    #[serde(default)]
    pub(crate) mbit_first: Option<f64>,
    /// From the start of the client to the last byte, handshakes included; nothing if no byte arrived.
    #[serde(default)]
    pub(crate) whole_seconds: Option<f64>,
    /// Goodput from the first event on; all of it if there was none.
    pub(crate) mbit_after: f64,
    /// The lowest goodput over any 200 ms, but for the first half second and the end; nothing if it took no longer.
    pub(crate) lowest_mbit: Option<f64>,
    /// For each event whose gap is measured, in milliseconds; nothing if no byte arrived after it.
    pub(crate) gaps_ms: Vec<Option<f64>>,
    /// The same of gaps that begin within 0.2 s after the event.
    pub(crate) gaps_soon_ms: Vec<Option<f64>>,
    /// The round-trip time just before each of these events, on the path that it happens to.
    pub(crate) rtt_ms: Vec<f64>,
    /// Payload delivered on each path, towards client and server.
    pub(crate) path_bytes: Vec<[u64; 2]>,
    /// TCP connections that the client said were lost; nothing if it would not say.
    pub(crate) lost: Option<u32>,
    /// What it said, with milliseconds since the first event, or since the first byte if there was none.
    pub(crate) said: Vec<(f64, String)>,
    /// The same of the server.
    pub(crate) server_said: Vec<(f64, String)>,
    /// The latest packet behind its time, in milliseconds, how many were more than one millisecond late, and how many there were.
    pub(crate) late_ms: f64,
    pub(crate) late: u64,
    pub(crate) packets: u64,
}

impl Run {
    /// Whether the machine was too busy for the figures to mean much: one packet in fifty was late, or one by as long as a
    /// round trip.
    pub(crate) fn was_disturbed(&self) -> bool {
        self.late * 50 > self.packets || self.late_ms > 20.0
    }
}
