//! Settings that change the configuration of one end.

use serde::{Deserialize, Serialize};
use tcpls_core::{Config, config};

use super::{Size, Span};

/// The settings of one end; absent ones have the value of `Config::default()`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Settings {
    /// The policy that selects the TCP connection for new stream data.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scheduler: Option<Scheduler>,
    /// `send_buffer` and, if that is larger, `stream_send_buffer`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub send_buffer: Option<Size>,
    /// Both of the session's windows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session_window: Option<Size>,
    /// Both windows of streams.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stream_window: Option<Size>,
    /// Streams of the peer at the same time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_streams: Option<u32>,
    /// `user_timeout`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_timeout: Option<Span>,
    /// `idle_timeout`; "0ns" is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idle_timeout: Option<Span>,
    /// `session_timeout`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session_timeout: Option<Span>,
    /// `join_timeout`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub join_timeout: Option<Span>,
    /// `max_tcp_connections`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_tcp_connections: Option<u32>,
    /// `lanes`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lanes: Option<Lanes>,
    /// `joins_at_advertised_only`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub joins_at_advertised_only: Option<bool>,
    /// `spare_tokens`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub spare_tokens: Option<u32>,
    /// `zero_rtt_join`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub zero_rtt_join: Option<bool>,
    /// `max_unacknowledged_records`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_unacknowledged_records: Option<u32>,
    /// `max_ack_delay`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_ack_delay: Option<Span>,
    /// `ack_every_records`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ack_every_records: Option<u32>,
    /// `confidentiality_limit`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub confidentiality_limit: Option<u64>,
}

/// The core's schedulers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[expect(missing_docs, reason = "each is documented in tcpls_core::connection::schedule")]
pub enum Scheduler {
    EarliestDelivery,
    Aggregate,
    LowestRtt,
    RoundRobin,
    Redundant,
    ActiveStandby,
}

/// The core's modes for lanes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[expect(missing_docs, reason = "each is documented in tcpls_core::config::Lanes")]
pub enum Lanes {
    Off,
    Auto,
    Always,
}

impl Lanes {
    fn mode(self) -> config::Lanes {
        match self {
            Self::Off => config::Lanes::Off,
            Self::Auto => config::Lanes::Auto,
            Self::Always => config::Lanes::Always,
        }
    }
}

impl Settings {
    /// The core's configuration with these settings.
    pub fn config(&self) -> Config {
        let mut config = Config::default();
        if let Some(Size(size)) = self.send_buffer {
            config.send_buffer = usize::try_from(size).unwrap_or(usize::MAX);
            config.stream_send_buffer = config.stream_send_buffer.min(config.send_buffer);
        }
        if let Some(Size(window)) = self.session_window {
            (config.initial_session_window, config.max_session_window) = (window, window);
        }
        if let Some(Size(window)) = self.stream_window {
            (config.initial_stream_window, config.max_stream_window) = (window, window);
        }
        if let Some(idle) = self.idle_timeout {
            config.idle_timeout = (!idle.0.is_zero()).then_some(idle.0);
        }
        fn set<T>(field: &mut T, value: Option<T>) {
            if let Some(value) = value {
                *field = value;
            }
        }
        set(&mut config.max_streams, self.max_streams);
        set(&mut config.user_timeout, self.user_timeout.map(|span| span.0));
        set(&mut config.session_timeout, self.session_timeout.map(|span| span.0));
        set(&mut config.join_timeout, self.join_timeout.map(|span| span.0));
        set(&mut config.max_tcp_connections, self.max_tcp_connections);
        set(&mut config.lanes, self.lanes.map(Lanes::mode));
        set(&mut config.joins_at_advertised_only, self.joins_at_advertised_only);
        set(&mut config.spare_tokens, self.spare_tokens);
        set(&mut config.zero_rtt_join, self.zero_rtt_join);
        set(&mut config.max_unacknowledged_records, self.max_unacknowledged_records);
        set(&mut config.max_ack_delay, self.max_ack_delay.map(|span| span.0));
        set(&mut config.ack_every_records, self.ack_every_records);
        config.confidentiality_limit = self.confidentiality_limit.or(config.confidentiality_limit);
        config
    }
}
