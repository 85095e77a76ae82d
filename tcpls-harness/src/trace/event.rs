//! Events: a name, and the fields of the table in `docs/trace.md`.

use std::fmt::{self, Write as _};
use std::net::SocketAddr;
use std::time::Duration;

use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};
use tcpls_core::connection::schedule::TcpView;
use tcpls_core::error::{AlertDescription, CloseReason, code};
use tcpls_core::trace::Event;
use tcpls_core::{ErrorCode, Time};

use super::EventJson;
use super::content::ContentJson;

/// Writes the fields of an object: each `name: value`.
macro_rules! fields {
    ($map:ident, $($name:ident: $value:expr),+ $(,)?) => {{ $($map.serialize_entry(stringify!($name), &$value)?;)+ }};
}
pub(super) use fields;

/// The name of the variant of an enum, in kebab case, as its derived `Debug` begins with it.
pub(crate) fn variant(value: &impl fmt::Debug) -> String {
    struct Name(String);
    impl fmt::Write for Name {
        fn write_str(&mut self, text: &str) -> fmt::Result {
            for c in text.chars() {
                if !c.is_ascii_alphanumeric() {
                    return Err(fmt::Error); // the fields begin
                }
                if c.is_ascii_uppercase() && !self.0.is_empty() {
                    self.0.push('-');
                }
                self.0.push(c.to_ascii_lowercase());
            }
            Ok(())
        }
    }
    let mut name = Name(String::new());
    _ = write!(name, "{value:?}");
    name.0
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

impl Serialize for EventJson<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("what", &variant(self.0))?;
        match *self.0 {
            Event::RecordSent { tcp, seq, bytes, ref content }
            | Event::RecordReceived { tcp, seq, bytes, ref content } => {
                fields!(map, tcp: tcp.0, seq: seq.0, bytes: bytes, content: ContentJson(content));
            }
            Event::EarlySent { tcp, bytes, ref content } | Event::EarlyReceived { tcp, bytes, ref content } => {
                fields!(map, tcp: tcp.0, bytes: bytes, content: ContentJson(content));
            }
            Event::EarlyRejected { tcp, bytes } => fields!(map, tcp: tcp.0, bytes: bytes),
            Event::Acknowledged { tcp, highest, bytes, in_flight } => {
                fields!(map, tcp: tcp.0, highest: highest.0, bytes: bytes, in_flight: in_flight);
            }
            Event::RttSample { tcp, sample, smoothed, variation, min } => {
                fields!(map, tcp: tcp.0, sample: nanos(sample), smoothed: nanos(smoothed));
                fields!(map, variation: nanos(variation), min: nanos(min));
            }
            Event::RateSample { tcp, sample, is_lower_bound, estimate } => {
                fields!(map, tcp: tcp.0, sample: sample, is_lower_bound: is_lower_bound, estimate: estimate);
            }
            Event::Scheduled { tcp, choice, unsent, views } => {
                let views: Vec<ViewJson> = views.iter().map(ViewJson::from).collect();
                fields!(map, tcp: tcp.0, choice: variant(&choice), unsent: unsent, views: views);
            }
            Event::JoinStarted { tcp, zero_rtt, backup, lane } => {
                fields!(map, tcp: tcp.0, zero_rtt: zero_rtt, backup: backup, lane: lane);
            }
            Event::ClaimMade { claim, tcp } | Event::ClaimAccepted { claim, tcp } => {
                fields!(map, claim: claim.number(), tcp: tcp.0);
            }
            Event::ClaimRefused { claim, alert } => fields!(map, claim: claim.number(), alert: AlertJson::from(alert)),
            Event::StatusChanged { tcp, backup } => fields!(map, tcp: tcp.0, backup: backup),
            Event::Stalled { tcp, owed_since, in_flight } => {
                fields!(map, tcp: tcp.0, owed_since: owed_since.map(Time::as_nanos), in_flight: in_flight);
            }
            Event::Hedged { tcp, bytes } | Event::Requeued { tcp, bytes } => fields!(map, tcp: tcp.0, bytes: bytes),
            Event::TcpAddresses { tcp, local, remote } => {
                let text = |address: Option<SocketAddr>| address.map(|address| address.to_string());
                fields!(map, tcp: tcp.0, local: text(local), remote: text(remote));
            }
            Event::Joined { tcp }
            | Event::LaneDeclared { tcp }
            | Event::Probed { tcp }
            | Event::Resumed { tcp }
            | Event::Retiring { tcp }
            | Event::Discarded { tcp } => fields!(map, tcp: tcp.0),
            Event::Lost { tcp, fault } => fields!(map, tcp: tcp.0, fault: fault.to_string()),
            Event::KeyUpdateStarted { generation } => fields!(map, generation: generation),
            Event::KeyUpdateSent { tcp, generation } => fields!(map, tcp: tcp.0, generation: generation),
            Event::KeyUpdateReceived { tcp, generation, requested } => {
                fields!(map, tcp: tcp.0, generation: generation, requested: requested);
            }
            Event::LimitReached { limit, tcp } => fields!(map, limit: variant(&limit), tcp: tcp.map(|tcp| tcp.0)),
            Event::TimedOut { reason } => fields!(map, reason: variant(&reason)),
            Event::StateChanged { from, to } => fields!(map, from: variant(&from), to: variant(&to)),
            Event::Draining { streams } | Event::PeerDraining { streams } => fields!(map, streams: streams),
            Event::Closing { error } | Event::PeerClosing { error } => fields!(map, error: ErrorJson::from(error)),
            Event::Closed { reason, truncated } => fields!(map, reason: without_text(reason), truncated: truncated),
            // An event of a later version of the core: its name alone.
            _ => {}
        }
        map.end()
    }
}

/// Why a session ended, without the text that the peer's application gave.
pub(super) fn without_text(reason: &CloseReason) -> String {
    match *reason {
        CloseReason::Peer { error, .. } => CloseReason::Peer { error, reason: Vec::new() }.to_string(),
        ref other => other.to_string(),
    }
}

/// What a scheduler saw of a TCP connection.
#[derive(Serialize)]
struct ViewJson {
    tcp: u32,
    smoothed_rtt: Option<u64>,
    min_rtt: Option<u64>,
    bytes_in_flight: u64,
    delivery_rate: Option<u64>,
    least_rate: u64,
    bytes_sent: u64,
    share: u64,
    blocked: bool,
    backup: bool,
    lane: bool,
    bulk: bool,
}

impl From<&TcpView> for ViewJson {
    fn from(view: &TcpView) -> Self {
        Self {
            tcp: view.tcp.0,
            smoothed_rtt: view.smoothed_rtt.map(nanos),
            min_rtt: view.min_rtt.map(nanos),
            bytes_in_flight: view.bytes_in_flight,
            delivery_rate: view.delivery_rate,
            least_rate: view.least_rate,
            bytes_sent: view.bytes_sent,
            share: view.share,
            blocked: view.blocked,
            backup: view.backup,
            lane: view.lane,
            bulk: view.bulk,
        }
    }
}

/// An alert, with its name if it has one.
#[derive(Serialize)]
pub(super) struct AlertJson {
    number: u8,
    name: Option<&'static str>,
}

impl From<AlertDescription> for AlertJson {
    fn from(alert: AlertDescription) -> Self {
        Self { number: alert.0, name: alert.name() }
    }
}

/// An error code, with its name if it is one of the protocol's.
#[derive(Serialize)]
pub(super) struct ErrorJson {
    code: u32,
    name: Option<&'static str>,
}

impl From<ErrorCode> for ErrorJson {
    fn from(error: ErrorCode) -> Self {
        Self { code: error.0, name: code::name(error) }
    }
}
