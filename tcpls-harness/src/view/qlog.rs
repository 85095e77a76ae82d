//! Records of a qlog file in the namespace `tcpls`, as lines of a trace. `docs/qlog.md` has both names of each event.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use serde::Deserialize;
use tcpls_core::Side;

use super::line::{Alert, Cause, Content, Frame, Line};

/// What precedes each record (RFC 7464, 2.2).
pub(super) const SEPARATOR: u8 = 0x1e;
const NAMESPACE: &str = "tcpls";

/// A record of a file.
#[derive(Debug)]
pub(super) enum Record {
    Header {
        side: Option<Side>,
        title: Option<String>,
    },
    Event(Box<Line>),
    /// An event of another namespace.
    Other,
}

/// Reads what follows the separator.
///
/// # Errors
/// What is wrong with it.
pub(super) fn record(bytes: &[u8]) -> Result<Record, String> {
    // Fields of other namespaces have types of their own.
    let named: Named = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    if named.name.as_deref().and_then(|name| name.split_once(':')).is_some_and(|(space, _)| space != NAMESPACE) {
        return Ok(Record::Other);
    }
    let raw: Raw = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    if let Some(trace) = raw.trace {
        return trace.header(raw.title);
    }
    let (Some(time), Some(name)) = (raw.time, raw.name) else {
        return Err("it is neither the header nor an event of a qlog file".to_owned());
    };
    match name.split_once(':') {
        Some((_, name)) => {
            let tcp = raw.tuple.as_deref().map(tuple).transpose()?;
            Ok(Record::Event(Box::new(raw.data.line(nanos(time), name, tcp)?)))
        }
        None => Err(format!("the event {name:?} has no namespace")),
    }
}

/// Milliseconds as nanoseconds; what was before the origin happens at the origin.
fn nanos(millis: f64) -> u64 {
    (millis * 1e6).round() as u64
}

fn tuple(id: &str) -> Result<u32, String> {
    id.parse().map_err(|_| format!("the tuple {id:?} is not a connection ID"))
}

#[derive(Deserialize)]
struct Named {
    name: Option<String>,
}

#[derive(Deserialize)]
struct Raw {
    time: Option<f64>,
    name: Option<String>,
    tuple: Option<String>,
    #[serde(default)]
    data: Data,
    title: Option<String>,
    trace: Option<Trace>,
}

#[derive(Deserialize)]
struct Trace {
    vantage_point: Option<VantagePoint>,
    #[serde(default)]
    event_schemas: Vec<String>,
}

#[derive(Deserialize)]
struct VantagePoint {
    #[serde(rename = "type")]
    ty: String,
}

impl Trace {
    fn header(self, title: Option<String>) -> Result<Record, String> {
        let is_ours = |schema: &String| schema.rsplit('=').next() == Some(NAMESPACE);
        if !self.event_schemas.iter().any(is_ours) {
            return Err("it is a qlog file of another protocol: none of its event schemas is that of TCPLS".to_owned());
        }
        let side = match self.vantage_point.as_ref().map(|point| point.ty.as_str()) {
            Some("client") => Some(Side::Client),
            Some("server") => Some(Side::Server),
            _ => None,
        };
        Ok(Record::Header { side, title })
    }
}

/// The fields of all events.
#[derive(Default, Deserialize)]
struct Data {
    record_number: Option<u64>,
    raw: Option<Size>,
    frames: Option<Vec<RawFrame>>,
    alert: Option<Alert>,
    handshake_type: Option<u8>,
    plain_length: Option<u64>,
    invalid: Option<bool>,
    highest: Option<u64>,
    bytes: Option<u64>,
    bytes_in_flight: Option<u64>,
    latest_rtt: Option<f64>,
    smoothed_rtt: Option<f64>,
    min_rtt: Option<f64>,
    sample: Option<u64>,
    is_lower_bound: Option<bool>,
    estimate: Option<u64>,
    choice: Option<String>,
    unsent: Option<u64>,
    zero_rtt: Option<bool>,
    backup: Option<bool>,
    lane: Option<bool>,
    claim: Option<u64>,
    tuple_id: Option<String>,
    tuple_local: Option<Endpoint>,
    tuple_remote: Option<Endpoint>,
    owed_since: Option<f64>,
    reason: Option<String>,
    generation: Option<u64>,
    requested: Option<bool>,
    limit: Option<String>,
    old: Option<String>,
    new: Option<String>,
    streams: Option<u64>,
    error: Option<Cause>,
    count: Option<u64>,
}

#[derive(Default, Deserialize)]
struct Size {
    length: Option<u64>,
    payload_length: Option<u64>,
}

#[derive(Deserialize)]
struct RawFrame {
    frame_type: String,
    stream_id: Option<u64>,
    offset: Option<u64>,
    fin: Option<bool>,
    #[serde(default)]
    raw: Size,
}

#[derive(Deserialize)]
struct Endpoint {
    ip_v4: Option<Ipv4Addr>,
    port_v4: Option<u16>,
    ip_v6: Option<Ipv6Addr>,
    port_v6: Option<u16>,
}

impl Endpoint {
    fn text(&self) -> Option<String> {
        let v4 = self.ip_v4.map(IpAddr::V4).zip(self.port_v4);
        let (ip, port) = v4.or(self.ip_v6.map(IpAddr::V6).zip(self.port_v6))?;
        Some(SocketAddr::new(ip, port).to_string())
    }
}

impl RawFrame {
    fn frame(self) -> Frame {
        let Self { frame_type, stream_id: id, offset: start, fin, raw } = self;
        let end = start.zip(raw.payload_length).and_then(|(start, len)| start.checked_add(len));
        Frame { ty: kebab(&frame_type), id, start, end, fin }
    }
}

impl Data {
    /// The line that `name` is at `t`.
    fn line(self, t: u64, name: &str, tcp: Option<u32>) -> Result<Line, String> {
        let what = match name {
            "early_record_sent" => "early-sent".to_owned(),
            "early_record_received" => "early-received".to_owned(),
            "early_data_rejected" => "early-rejected".to_owned(),
            "records_acked" => "acknowledged".to_owned(),
            "rtt_sampled" => "rtt-sample".to_owned(),
            "rate_sampled" => "rate-sample".to_owned(),
            "tuple_assigned" => "tcp-addresses".to_owned(),
            name => kebab(name),
        };
        let named = self.tuple_id.as_deref().map(tuple).transpose()?;
        let is_record = self.raw.is_some();
        let (fault, reason) = if what == "lost" { (self.reason, None) } else { (None, self.reason) };
        let reason = if what == "timed-out" { reason.as_deref().map(kebab) } else { reason };
        let content = is_record.then(|| Content {
            frames: self.frames.into_iter().flatten().map(RawFrame::frame).collect(),
            plain: self.plain_length,
            alert: None,
            handshake: self.handshake_type,
            invalid: self.invalid,
        });
        let (alert, of_record) = if is_record { (None, self.alert) } else { (self.alert, None) };
        let content = content.map(|content| Content { alert: of_record, ..content });
        Ok(Line {
            t,
            what,
            tcp: tcp.or(named),
            seq: self.record_number,
            bytes: self.raw.and_then(|raw| raw.length).or(self.bytes),
            content,
            highest: self.highest,
            in_flight: self.bytes_in_flight,
            sample: self.latest_rtt.map(nanos).or(self.sample),
            smoothed: self.smoothed_rtt.map(nanos),
            min: self.min_rtt.map(nanos),
            is_lower_bound: self.is_lower_bound,
            estimate: self.estimate,
            choice: self.choice,
            unsent: self.unsent,
            zero_rtt: self.zero_rtt,
            backup: self.backup,
            lane: self.lane,
            claim: self.claim,
            alert,
            owed_since: self.owed_since.map(nanos),
            fault,
            generation: self.generation,
            requested: self.requested,
            limit: self.limit.as_deref().map(kebab),
            reason,
            from: self.old,
            to: self.new,
            streams: self.streams,
            error: self.error,
            local: self.tuple_local.as_ref().and_then(Endpoint::text),
            remote: self.tuple_remote.as_ref().and_then(Endpoint::text),
            count: self.count,
            ..Line::default()
        })
    }
}

fn kebab(name: &str) -> String {
    name.replace('_', "-")
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};
    use std::time::Duration;

    use tcpls_core::connection::schedule::Choice;
    use tcpls_core::error::CloseReason;
    use tcpls_core::trace::{Event, Limit, Sink};
    use tcpls_core::wire::ids::RecordSeq;
    use tcpls_core::{ConnectionId, ErrorCode, State, Time, TimeoutReason};

    use super::*;
    use crate::trace::JsonLines;
    use crate::trace::qlog::{Header, JsonSeq};
    use crate::view::Page;

    /// A writer that shares what was written.
    #[derive(Clone, Default)]
    struct Shared(Arc<Mutex<Vec<u8>>>);

    impl std::io::Write for Shared {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn html(page: &Page) -> String {
        let mut html = Vec::new();
        page.write(&mut html).unwrap();
        String::from_utf8(html).unwrap()
    }

    #[test]
    fn page_of_a_qlog_file_is_that_of_the_trace_of_the_same_events() {
        let (lines, seq) = (Shared::default(), Shared::default());
        let start = Time::from_millis(1500);
        let mut sinks: [Box<dyn Sink>; 2] = [
            Box::new(JsonLines::new(lines.clone())),
            Box::new(JsonSeq::new(seq.clone(), &Header::new(Side::Client, start))),
        ];
        let tcp = ConnectionId(1);
        let ms = Duration::from_millis;
        let (local, remote) = (Some(([10, 0, 0, 1], 1).into()), Some("[2001:db8::1]:443".parse().unwrap()));
        let events = [
            Event::JoinStarted { tcp, zero_rtt: true, backup: true, lane: false },
            Event::TcpAddresses { tcp, local, remote },
            Event::StateChanged { from: State::Handshaking, to: State::Established },
            Event::Joined { tcp },
            Event::EarlyRejected { tcp, bytes: 7 },
            Event::Acknowledged { tcp, highest: RecordSeq(3), bytes: 12, in_flight: 99 },
            Event::RttSample { tcp, sample: ms(9), smoothed: ms(8), variation: ms(2), min: Duration::from_nanos(7) },
            Event::RateSample { tcp, sample: 5, is_lower_bound: true, estimate: Some(6) },
            Event::Scheduled { tcp, choice: Choice::Duplicate, unsent: 3, views: &[] },
            Event::Stalled { tcp, owed_since: Some(Time::from_millis(1501)), in_flight: 4 },
            Event::Hedged { tcp, bytes: 4 },
            Event::Requeued { tcp, bytes: 5 },
            Event::KeyUpdateReceived { tcp, generation: 2, requested: true },
            Event::LimitReached { limit: Limit::TcpConnections, tcp: Some(tcp) },
            Event::TimedOut { reason: TimeoutReason::KeepAlive },
            Event::Draining { streams: 9 },
            Event::Closing { error: ErrorCode(16) },
            Event::Closed { reason: &CloseReason::HandshakeTimeout, truncated: false },
        ];
        for (number, event) in events.iter().enumerate() {
            let now = start + Duration::from_nanos(1_234_567 * number as u64);
            sinks.iter_mut().for_each(|sink| sink.event(now, event));
        }
        let pages = [lines, seq].map(|text| {
            let page = Page::of_trace(&text.0.lock().unwrap()[..]).unwrap();
            assert_eq!(page.events(), events.len());
            html(&page)
        });
        assert!(pages[0] == pages[1], "{}\n{}", pages[0], pages[1]);
        assert!(pages[0].contains("10.0.0.1:1 to [2001:db8::1]:443"));
    }

    #[test]
    fn header_names_the_end_and_a_gap_is_said() {
        let header =
            r#"{"trace":{"vantage_point":{"type":"server"},"event_schemas":["urn:uuid:1?=tcpls"]},"title":"mine"}"#;
        let gap = r#"{"time":1.5,"name":"tcpls:events_lost","data":{"count":7}}"#;
        let lost = r#"{"time":2,"name":"tcpls:lost","tuple":"3","data":{"reason":"reset"}}"#;
        let other = r#"{"time":2,"name":"quic:packet_sent","data":{}}"#;
        let html =
            html(&Page::of_trace(format!("\x1e{header}\n\x1e{gap}\n\x1e{other}\n\x1e{lost}\n").as_bytes()).unwrap());
        for part in ["<h1 id=\"title\">mine</h1>", "7 events are missing", "The server loses TCP connection 3: reset."]
        {
            assert!(html.contains(part), "{part}");
        }
    }

    #[test]
    fn event_of_another_namespace_may_have_fields_of_any_type() {
        for fields in [
            r#""data":{"reason":5}"#,
            r#""data":{"error":{"code":"x"},"raw":[1]}"#,
            r#""tuple":7,"data":"text""#,
            r#""trace":{},"data":[]"#,
        ] {
            let event = format!(r#"{{"time":1,"name":"app:x",{fields}}}"#);
            assert!(matches!(record(event.as_bytes()), Ok(Record::Other)), "{event}");
            assert!(record(event.replace("app:", "tcpls:").as_bytes()).is_err(), "{event}");
        }
    }

    #[test]
    fn what_is_no_record_of_tcpls_is_refused() {
        let refused = |text: &str| record(text.as_bytes()).unwrap_err();
        let quic = r#"{"trace":{"event_schemas":["urn:ietf:params:qlog:events:quic"]}}"#;
        assert!(refused(quic).contains("another protocol"));
        assert!(refused("{}").contains("neither"));
        assert!(refused(r#"{"time":1,"name":"lost"}"#).contains("namespace"));
        assert!(refused(r#"{"time":1,"name":"tcpls:lost","tuple":"x"}"#).contains("connection ID"));
        assert_eq!((nanos(-1.0), nanos(1e300)), (0, u64::MAX));
        let header = r#"{"trace":{"event_schemas":["urn:uuid:1?=tcpls"]}}"#;
        let two = format!("\x1e{header}\n\x1e{header}\n");
        assert!(Page::of_trace(two.as_bytes()).unwrap_err().to_string().starts_with("line 2 "));
    }
}
