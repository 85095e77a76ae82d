//! Events as qlog has them: `time`, `name`, `tuple` and `data`. Durations are in milliseconds, sizes in bytes.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};
use tcpls_core::connection::schedule::{Choice, TcpView};
use tcpls_core::trace::{Content, Event, Limit};
use tcpls_core::{ConnectionId, State, Time, TimeoutReason};

use super::super::event::{AlertJson, ErrorJson, fields, without_text};
use super::frame::FrameJson;

/// One event of a session.
pub(super) struct Record<'a> {
    time: f64,
    started: Time,
    event: &'a Event<'a>,
}

impl<'a> Record<'a> {
    pub(super) fn new(started: Time, now: Time, event: &'a Event<'a>) -> Self {
        Self { time: since(started, now), started, event }
    }
}

impl Serialize for Record<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        fields!(map, time: self.time, name: name(self.event));
        if let Some(tcp) = self.event.tcp() {
            fields!(map, tuple: Tuple(tcp));
        }
        fields!(map, data: Data(self));
        map.end()
    }
}

/// A note in place of events that were lost.
#[derive(Serialize)]
pub(super) struct Lost {
    time: f64,
    name: &'static str,
    data: Count,
}

#[derive(Serialize)]
struct Count {
    count: u64,
}

impl Lost {
    pub(super) fn new(started: Time, now: Time, count: u64) -> Self {
        Self { time: since(started, now), name: "tcpls:events_lost", data: Count { count } }
    }
}

/// Milliseconds since the origin of the trace; below 0 for an event before it.
fn since(started: Time, now: Time) -> f64 {
    (now.as_nanos() as f64 - started.as_nanos() as f64) / 1e6
}

fn millis(duration: Duration) -> f64 {
    duration.as_nanos() as f64 / 1e6
}

/// A TCP connection as qlog's TupleID: its connection ID in decimal digits.
struct Tuple(ConnectionId);

impl Serialize for Tuple {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0.0)
    }
}

/// The name of an event in the namespace `tcpls`.
fn name(event: &Event<'_>) -> &'static str {
    match event {
        Event::RecordSent { .. } => "tcpls:record_sent",
        Event::RecordReceived { .. } => "tcpls:record_received",
        Event::EarlySent { .. } => "tcpls:early_record_sent",
        Event::EarlyReceived { .. } => "tcpls:early_record_received",
        Event::EarlyRejected { .. } => "tcpls:early_data_rejected",
        Event::Acknowledged { .. } => "tcpls:records_acked",
        Event::RttSample { .. } => "tcpls:rtt_sampled",
        Event::RateSample { .. } => "tcpls:rate_sampled",
        Event::Scheduled { .. } => "tcpls:scheduled",
        Event::JoinStarted { .. } => "tcpls:join_started",
        Event::LaneDeclared { .. } => "tcpls:lane_declared",
        Event::ClaimMade { .. } => "tcpls:claim_made",
        Event::ClaimAccepted { .. } => "tcpls:claim_accepted",
        Event::ClaimRefused { .. } => "tcpls:claim_refused",
        Event::TcpAddresses { .. } => "tcpls:tuple_assigned",
        Event::Joined { .. } => "tcpls:joined",
        Event::StatusChanged { .. } => "tcpls:status_changed",
        Event::Probed { .. } => "tcpls:probed",
        Event::Stalled { .. } => "tcpls:stalled",
        Event::Hedged { .. } => "tcpls:hedged",
        Event::Resumed { .. } => "tcpls:resumed",
        Event::Retiring { .. } => "tcpls:retiring",
        Event::Requeued { .. } => "tcpls:requeued",
        Event::Lost { .. } => "tcpls:lost",
        Event::Discarded { .. } => "tcpls:discarded",
        Event::KeyUpdateStarted { .. } => "tcpls:key_update_started",
        Event::KeyUpdateSent { .. } => "tcpls:key_update_sent",
        Event::KeyUpdateReceived { .. } => "tcpls:key_update_received",
        Event::LimitReached { .. } => "tcpls:limit_reached",
        Event::TimedOut { .. } => "tcpls:timed_out",
        Event::StateChanged { .. } => "tcpls:state_changed",
        Event::Draining { .. } => "tcpls:draining",
        Event::PeerDraining { .. } => "tcpls:peer_draining",
        Event::Closing { .. } => "tcpls:closing",
        Event::PeerClosing { .. } => "tcpls:peer_closing",
        Event::Closed { .. } => "tcpls:closed",
        // An event of a later version of the core.
        _ => "tcpls:other",
    }
}

/// The field `data`. What `tuple` says is not repeated.
struct Data<'a>(&'a Record<'a>);

impl Serialize for Data<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Record { started, event, .. } = *self.0;
        let mut map = serializer.serialize_map(None)?;
        match *event {
            Event::RecordSent { seq, bytes, ref content, .. }
            | Event::RecordReceived { seq, bytes, ref content, .. } => {
                fields!(map, record_number: seq.0, raw: Length { length: bytes as u64 });
                content_fields(&mut map, content)?;
            }
            Event::EarlySent { bytes, ref content, .. } | Event::EarlyReceived { bytes, ref content, .. } => {
                fields!(map, raw: Length { length: bytes as u64 });
                content_fields(&mut map, content)?;
            }
            Event::Acknowledged { highest, bytes, in_flight, .. } => {
                fields!(map, highest: highest.0, bytes: bytes, bytes_in_flight: in_flight);
            }
            Event::RttSample { sample, smoothed, variation, min, .. } => {
                fields!(map, latest_rtt: millis(sample), smoothed_rtt: millis(smoothed));
                fields!(map, rtt_variance: millis(variation), min_rtt: millis(min));
            }
            Event::RateSample { sample, is_lower_bound, estimate, .. } => {
                fields!(map, sample: sample, is_lower_bound: is_lower_bound);
                if let Some(estimate) = estimate {
                    fields!(map, estimate: estimate);
                }
            }
            Event::Scheduled { choice, unsent, views, .. } => {
                fields!(map, choice: choice_name(choice), unsent: unsent, tuples: Views(views));
            }
            Event::JoinStarted { zero_rtt, backup, lane, .. } => {
                fields!(map, zero_rtt: zero_rtt, backup: backup, lane: lane);
            }
            // A claim may be an eavesdropper's: it has no tuple.
            Event::ClaimMade { claim, tcp } => fields!(map, claim: claim.number(), tuple_id: Tuple(tcp)),
            Event::ClaimAccepted { claim, .. } => fields!(map, claim: claim.number()),
            Event::ClaimRefused { claim, alert } => fields!(map, claim: claim.number(), alert: AlertJson::from(alert)),
            Event::TcpAddresses { tcp, local, remote } => {
                fields!(map, tuple_id: Tuple(tcp));
                if let Some(remote) = remote {
                    fields!(map, tuple_remote: Endpoint(remote));
                }
                if let Some(local) = local {
                    fields!(map, tuple_local: Endpoint(local));
                }
            }
            Event::StatusChanged { backup, .. } => fields!(map, backup: backup),
            Event::Stalled { owed_since, in_flight, .. } => {
                if let Some(owed_since) = owed_since {
                    fields!(map, owed_since: since(started, owed_since));
                }
                fields!(map, bytes_in_flight: in_flight);
            }
            Event::Hedged { bytes, .. } | Event::Requeued { bytes, .. } | Event::EarlyRejected { bytes, .. } => {
                fields!(map, bytes: bytes);
            }
            Event::Lost { ref fault, .. } => fields!(map, reason: fault.to_string()),
            Event::KeyUpdateStarted { generation } | Event::KeyUpdateSent { generation, .. } => {
                fields!(map, generation: generation);
            }
            Event::KeyUpdateReceived { generation, requested, .. } => {
                fields!(map, generation: generation, requested: requested);
            }
            Event::LimitReached { limit, .. } => fields!(map, limit: limit_name(limit)),
            Event::TimedOut { reason } => fields!(map, reason: Variant(&reason)),
            Event::StateChanged { from, to } => fields!(map, old: state_name(from), new: state_name(to)),
            Event::Draining { streams } | Event::PeerDraining { streams } => fields!(map, streams: streams),
            Event::Closing { error } | Event::PeerClosing { error } => fields!(map, error: ErrorJson::from(error)),
            Event::Closed { reason, .. } => fields!(map, reason: without_text(reason)),
            // What has no fields but the TCP connection, and an event of a later version of the core.
            _ => {}
        }
        map.end()
    }
}

/// Sizes of what is on the wire (main schema, `RawInfo`).
#[derive(Serialize)]
struct Length {
    length: u64,
}

fn content_fields<M: SerializeMap>(map: &mut M, content: &Content<'_>) -> Result<(), M::Error> {
    struct Frames<'a>(&'a tcpls_core::trace::Frames<'a>);
    impl Serialize for Frames<'_> {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            serializer.collect_seq(self.0.iter().map(FrameJson))
        }
    }
    match *content {
        Content::Frames(ref frames) => fields!(map, frames: Frames(frames)),
        Content::Plain { bytes } => fields!(map, plain_length: bytes as u64),
        Content::Alert(alert) => fields!(map, alert: AlertJson::from(alert)),
        Content::Handshake { ty } => fields!(map, handshake_type: ty),
        _ => fields!(map, invalid: true),
    }
    Ok(())
}

/// An address and port, in the fields of QUIC's `TupleEndpointInfo`.
struct Endpoint(SocketAddr);

impl Serialize for Endpoint {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(2))?;
        match self.0 {
            SocketAddr::V4(address) => fields!(map, ip_v4: address.ip(), port_v4: address.port()),
            SocketAddr::V6(address) => fields!(map, ip_v6: address.ip(), port_v6: address.port()),
        }
        map.end()
    }
}

/// What a scheduler saw of TCP connections.
struct Views<'a>(&'a [TcpView]);

impl Serialize for Views<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().map(View))
    }
}

struct View<'a>(&'a TcpView);

impl Serialize for View<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let view = self.0;
        let mut map = serializer.serialize_map(None)?;
        fields!(map, tuple_id: Tuple(view.tcp));
        if let Some(smoothed_rtt) = view.smoothed_rtt {
            fields!(map, smoothed_rtt: millis(smoothed_rtt));
        }
        if let Some(min_rtt) = view.min_rtt {
            fields!(map, min_rtt: millis(min_rtt));
        }
        if let Some(delivery_rate) = view.delivery_rate {
            fields!(map, delivery_rate: delivery_rate);
        }
        fields!(map, bytes_in_flight: view.bytes_in_flight, bytes_sent: view.bytes_sent);
        fields!(map, blocked: view.blocked, backup: view.backup, lane: view.lane, bulk: view.bulk);
        fields!(map, stalled: view.stalled);
        map.end()
    }
}

fn choice_name(choice: Choice) -> &'static str {
    match choice {
        Choice::Send => "send",
        Choice::Wait => "wait",
        Choice::Duplicate => "duplicate",
        _ => "other",
    }
}

fn limit_name(limit: Limit) -> &'static str {
    match limit {
        Limit::BadRecord => "bad_record",
        Limit::Tickets => "tickets",
        Limit::TcpConnections => "tcp_connections",
        _ => "other",
    }
}

fn state_name(state: State) -> &'static str {
    match state {
        State::Handshaking => "handshaking",
        State::Established => "established",
        State::Plain => "plain",
        State::Stranded { .. } => "stranded",
        State::Closing => "closing",
        State::Closed => "closed",
        _ => "other",
    }
}

/// The name of a variant without fields, in snake case.
struct Variant<'a>(&'a TimeoutReason);

impl fmt::Display for Variant<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&super::super::event::variant(self.0).replace('-', "_"))
    }
}

impl Serialize for Variant<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}
