//! Logs events of sessions with the `tracing` crate: a span for each session, and in it one for each TCP connection.
//!
//! If there is no subscriber when a session begins, it gets no sink, and logging costs nothing.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};

use tcpls_core::trace::{Event, Sink};
use tcpls_core::{Connection, ConnectionId, Side, Time};
use tracing::level_filters::LevelFilter;
use tracing::{Level, Span};

/// The target of all events and spans: what a filter names, as in `RUST_LOG=tcpls=debug`.
const TARGET: &str = "tcpls";

/// Numbers the sessions of this process.
static SESSIONS: AtomicU64 = AtomicU64::new(1);

/// Returns the sink of a session that has just begun with `peer`, if there is a subscriber.
pub(super) fn sink(conn: &Connection, peer: SocketAddr) -> Option<Box<dyn Sink>> {
    if LevelFilter::current() == LevelFilter::OFF {
        return None;
    }
    let session = SESSIONS.fetch_add(1, Ordering::Relaxed);
    let side = match conn.side() {
        Side::Client => "client",
        Side::Server => "server",
    };
    let span = tracing::error_span!(target: TARGET, parent: None, "session", number = session, side, %peer);
    Some(Box::new(Log { session: span, tcps: BTreeMap::new() }))
}

/// What an application notes, in the span that it is in.
pub(super) fn note(text: &dyn fmt::Display) {
    tracing::info!(target: TARGET, "{text}");
}

/// A value that an application records.
pub(super) fn metric(name: &str, value: f64) {
    tracing::info!(target: TARGET, name, value, "metric");
}

struct Log {
    session: Span,
    /// Of the TCP connections that are not discarded.
    tcps: BTreeMap<ConnectionId, Span>,
}

impl Log {
    /// The span that an event belongs to.
    fn span(&mut self, event: &Event<'_>) -> &Span {
        let Some(tcp) = event.tcp() else { return &self.session };
        let session = &self.session;
        // An acknowledgment may come for a TCP connection that is discarded: its span would never be closed.
        let may_be_late = matches!(
            event,
            Event::Acknowledged { .. }
                | Event::RttSample { .. }
                | Event::RateSample { .. }
                | Event::StatusChanged { .. }
        );
        if may_be_late && !self.tcps.contains_key(&tcp) {
            return session;
        }
        self.tcps.entry(tcp).or_insert_with(|| tracing::error_span!(target: TARGET, parent: session, "tcp", id = tcp.0))
    }
}

impl Sink for Log {
    fn event(&mut self, _now: Time, event: &Event<'_>) {
        let level = level(event);
        if level <= LevelFilter::current() {
            let span = self.span(event);
            if level == Level::INFO {
                tracing::info!(target: TARGET, parent: span, "{event:?}");
            } else if level == Level::DEBUG {
                tracing::debug!(target: TARGET, parent: span, "{event:?}");
            } else {
                tracing::trace!(target: TARGET, parent: span, "{event:?}");
            }
        }
        if let Event::Discarded { tcp } = event {
            self.tcps.remove(tcp);
        }
    }
}

/// The level of an event: states and ends of sessions, events of TCP connections, records.
fn level(event: &Event<'_>) -> Level {
    match event {
        Event::StateChanged { .. }
        | Event::Draining { .. }
        | Event::PeerDraining { .. }
        | Event::Closing { .. }
        | Event::PeerClosing { .. }
        | Event::Closed { .. } => Level::INFO,
        Event::RecordSent { .. }
        | Event::RecordReceived { .. }
        | Event::EarlySent { .. }
        | Event::EarlyReceived { .. }
        | Event::Acknowledged { .. }
        | Event::RttSample { .. }
        | Event::RateSample { .. }
        | Event::Scheduled { .. }
        | Event::TimedOut { .. } => Level::TRACE,
        _ => Level::DEBUG,
    }
}

#[cfg(test)]
#[cfg(feature = "sim")]
mod tests {
    use std::fmt;
    use std::sync::{Arc, Mutex};

    use tcpls_core::testing::{Setup, bytes};
    use tracing::field::{Field, Visit};
    use tracing::span::{Attributes, Id, Record};
    use tracing::{Metadata, Subscriber};

    use super::*;

    /// What a subscriber heard: the spans by number, and each event with the number of its span.
    #[derive(Default)]
    struct Heard {
        spans: Vec<String>,
        closed: Vec<u64>,
        events: Vec<(Option<u64>, Level, String)>,
    }

    #[derive(Clone)]
    struct Recorder(Arc<Mutex<Heard>>, LevelFilter);

    struct Text(String);

    impl Visit for Text {
        fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
            self.0 += &format!(" {field}={value:?}");
        }
    }

    impl Subscriber for Recorder {
        fn enabled(&self, metadata: &Metadata<'_>) -> bool {
            *metadata.level() <= self.1
        }

        fn max_level_hint(&self) -> Option<LevelFilter> {
            Some(self.1)
        }

        fn new_span(&self, span: &Attributes<'_>) -> Id {
            let mut text = Text(span.metadata().name().to_owned());
            span.record(&mut text);
            let parent = span.parent().map(|parent| format!(" in {}", parent.into_u64()));
            let mut heard = self.0.lock().unwrap();
            heard.spans.push(text.0 + &parent.unwrap_or_default());
            Id::from_u64(heard.spans.len() as u64)
        }

        fn event(&self, event: &tracing::Event<'_>) {
            let mut text = Text(String::new());
            event.record(&mut text);
            let span = event.parent().map(Id::into_u64);
            self.0.lock().unwrap().events.push((span, *event.metadata().level(), text.0));
        }

        fn try_close(&self, id: Id) -> bool {
            self.0.lock().unwrap().closed.push(id.into_u64());
            true
        }

        fn record(&self, _: &Id, _: &Record<'_>) {}
        fn record_follows_from(&self, _: &Id, _: &Id) {}
        fn enter(&self, _: &Id) {}
        fn exit(&self, _: &Id) {}
    }

    /// A session over two TCP connections, one of which is lost, whose client is logged at this level.
    fn run(level: LevelFilter) -> Heard {
        let heard = Arc::default();
        tracing::subscriber::with_default(Recorder(Arc::clone(&heard), level), || {
            let mut pair = Setup { tls: None, ..Setup::default() }.start();
            let log = sink(pair.client(), ([127, 0, 0, 1], 443).into());
            pair.client().set_trace(log);
            pair.drive();
            pair.join();
            pair.transfer(Side::Client, &bytes(100_000));
            pair.cut(ConnectionId::FIRST);
            pair.drive();
            pair.close(Side::Client, 0, b"");
            pair.drive();
        });
        Arc::into_inner(heard).unwrap().into_inner().unwrap()
    }

    #[test]
    fn each_tcp_connection_has_its_span_in_that_of_its_session() {
        let heard = run(LevelFilter::TRACE);
        let [session, first, second] = &heard.spans[..] else { panic!("{:?}", heard.spans) };
        assert!(
            session.starts_with("session number=") && session.ends_with("side=\"client\" peer=127.0.0.1:443"),
            "{session}"
        );
        assert_eq!((&first[..], &second[..]), ("tcp id=0 in 1", "tcp id=1 in 1"));
        assert_eq!(heard.closed, [2, 3, 1]);
        let lost = heard.events.iter().find(|(.., text)| text.contains("Lost {")).unwrap();
        assert_eq!((lost.0, lost.1), (Some(2), Level::DEBUG));
        let joined = heard.events.iter().find(|(.., text)| text.contains("Joined { tcp: ConnectionId(1) }")).unwrap();
        assert_eq!(joined.0, Some(3));
        assert!(heard.events.iter().any(|(.., level, text)| *level == Level::TRACE && text.contains("RecordSent")));
        let (span, level, text) = heard.events.last().unwrap();
        assert_eq!((*span, *level), (Some(1), Level::INFO));
        assert!(text.contains("Closed"), "{text}");
    }

    #[test]
    fn records_are_logged_at_level_trace_alone() {
        let heard = run(LevelFilter::DEBUG);
        assert!(heard.events.iter().all(|(.., text)| !text.contains("Record")));
        assert!(heard.events.iter().any(|(.., text)| text.contains("JoinStarted")));
        let heard = run(LevelFilter::INFO);
        assert!(heard.events.iter().all(|(span, level, _)| (*span, *level) == (Some(1), Level::INFO)));
        assert!(run(LevelFilter::OFF).spans.is_empty());
    }

    #[test]
    fn what_applications_say_is_logged_at_level_info() {
        let heard: Arc<Mutex<Heard>> = Arc::default();
        tracing::subscriber::with_default(Recorder(heard.clone(), LevelFilter::INFO), || {
            let runtime = crate::net::Runtime::tokio();
            runtime.note(format_args!("{} questions", 3));
            runtime.metric("seconds", 0.5);
        });
        let said = [" message=3 questions", " message=metric name=\"seconds\" value=0.5"];
        assert_eq!(heard.lock().unwrap().events, said.map(|text| (None, Level::INFO, text.to_owned())));
    }
}
