//! Numbers of reasons and events in a recording, and their names.

use crate::connection::schedule::Choice;
use crate::connection::timers::TimeoutReason;
use crate::connection::trace;
use crate::error::{AlertDescription, HandshakeErrorKind};
use crate::event::{Event, StreamEvent, TcpEvent};

/// Defines a function to a number, and the names by number, from 1.
macro_rules! numbered {
    ($(#[$doc:meta])* $function:ident($ty:ty), $names:ident: $($pattern:pat => $name:literal,)*) => {
        $(#[$doc])*
        pub const $names: &[&str] = &[$($name),*];

        pub(super) fn $function(value: &$ty) -> u8 {
            let mut number = 0;
            $(
                number += 1;
                if matches!(value, $pattern) {
                    return number;
                }
            )*
            _ = number;
            0
        }
    };
}

numbered! {
    /// Reasons of deadlines.
    reason(TimeoutReason), REASONS:
    TimeoutReason::Handshake => "handshake",
    TimeoutReason::Join => "join",
    TimeoutReason::Ack => "ack",
    TimeoutReason::Silence => "silence",
    TimeoutReason::Probe => "probe",
    TimeoutReason::KeepAlive => "keep-alive",
    TimeoutReason::Leave => "leave",
    TimeoutReason::KeyUpdate => "key-update",
    TimeoutReason::UserTimeout => "user-timeout",
    TimeoutReason::Idle => "idle",
    TimeoutReason::Stranded => "stranded",
    TimeoutReason::Parameters => "parameters",
    TimeoutReason::HalfClose => "half-close",
    TimeoutReason::Drain => "drain",
    TimeoutReason::Close => "close",
}

numbered! {
    /// Events that the driver takes.
    event(Event), EVENTS:
    Event::Established(_) => "established",
    Event::HandshakeConfirmed => "handshake-confirmed",
    Event::Tcp(TcpEvent::Joined { .. }) => "joined",
    Event::Tcp(TcpEvent::Stalled { .. }) => "stalled",
    Event::Tcp(TcpEvent::Resumed { .. }) => "resumed",
    Event::Tcp(TcpEvent::Status { .. }) => "status",
    Event::Tcp(TcpEvent::Lost { .. }) => "lost",
    Event::Tcp(TcpEvent::Discarded { .. }) => "discarded",
    Event::Stream(StreamEvent::Opened) => "stream-opened",
    Event::Stream(StreamEvent::Available) => "stream-available",
    Event::Stream(StreamEvent::Readable { .. }) => "readable",
    Event::Stream(StreamEvent::Writable { .. }) => "writable",
    Event::Stream(StreamEvent::Delivered { .. }) => "delivered",
    Event::Stream(StreamEvent::Stopped { .. }) => "stopped",
    Event::TokensAvailable { .. } => "tokens-available",
    Event::AddressAdvertised { .. } => "address-advertised",
    Event::AddressWithdrawn { .. } => "address-withdrawn",
    Event::TcpOption { .. } => "tcp-option",
    Event::Stranded { .. } => "stranded",
    Event::Recovered => "recovered",
    Event::PeerDraining => "peer-draining",
    Event::PeerClosing { .. } => "peer-closing",
    Event::Closed { .. } => "closed",
    Event::TcpOptionAnswered { .. } => "tcp-option-answered",
}

numbered! {
    /// Events of the trace that are compared. Those that are left out follow from records.
    traced(trace::Event<'_>), TRACED:
    trace::Event::JoinStarted { .. } => "join-started",
    trace::Event::LaneDeclared { .. } => "lane-declared",
    trace::Event::ClaimMade { .. } => "claim-made",
    trace::Event::ClaimAccepted { .. } => "claim-accepted",
    trace::Event::ClaimRefused { .. } => "claim-refused",
    trace::Event::Joined { .. } => "joined",
    trace::Event::StatusChanged { .. } => "status-changed",
    trace::Event::Probed { .. } => "probed",
    trace::Event::Stalled { .. } => "stalled",
    trace::Event::Hedged { .. } => "hedged",
    trace::Event::Resumed { .. } => "resumed",
    trace::Event::Retiring { .. } => "retiring",
    trace::Event::Requeued { .. } => "requeued",
    trace::Event::Lost { .. } => "lost",
    trace::Event::Discarded { .. } => "discarded",
    trace::Event::KeyUpdateStarted { .. } => "key-update-started",
    trace::Event::KeyUpdateSent { .. } => "key-update-sent",
    trace::Event::KeyUpdateReceived { .. } => "key-update-received",
    trace::Event::LimitReached { .. } => "limit-reached",
    trace::Event::TimedOut { .. } => "timed-out",
    trace::Event::StateChanged { .. } => "state-changed",
    trace::Event::Draining { .. } => "draining",
    trace::Event::PeerDraining { .. } => "peer-draining",
    trace::Event::Closing { .. } => "closing",
    trace::Event::PeerClosing { .. } => "peer-closing",
    trace::Event::Closed { .. } => "closed",
    trace::Event::EarlyRejected { .. } => "early-rejected",
}

/// The name with this number, if there is one.
pub(super) fn name(names: &'static [&'static str], number: u8) -> &'static str {
    usize::from(number).checked_sub(1).and_then(|at| names.get(at)).copied().unwrap_or("none")
}

/// The TCP connection, stream or count that an event is about.
pub(super) fn about(event: &Event) -> u64 {
    match *event {
        Event::Tcp(
            TcpEvent::Joined { tcp }
            | TcpEvent::Stalled { tcp }
            | TcpEvent::Resumed { tcp }
            | TcpEvent::Status { tcp, .. }
            | TcpEvent::Lost { tcp, .. }
            | TcpEvent::Discarded { tcp },
        )
        | Event::TcpOption { tcp, .. }
        | Event::TcpOptionAnswered { tcp, .. } => tcp.0.into(),
        Event::Stream(
            StreamEvent::Readable { id }
            | StreamEvent::Writable { id }
            | StreamEvent::Delivered { id }
            | StreamEvent::Stopped { id, .. },
        ) => id.0.into(),
        Event::TokensAvailable { count } => count as u64,
        Event::AddressAdvertised { id, .. } | Event::AddressWithdrawn { id, .. } => id.0.into(),
        Event::Stranded { until } => until.as_nanos(),
        Event::PeerClosing { error } => error.0.into(),
        _ => 0,
    }
}

pub(super) const fn choice(choice: Choice) -> u8 {
    match choice {
        Choice::Send => 0,
        Choice::Wait => 1,
        Choice::Duplicate => 2,
    }
}

/// The choice with this number.
pub(super) const fn choice_of(number: u8) -> Choice {
    match number {
        0 => Choice::Send,
        2 => Choice::Duplicate,
        _ => Choice::Wait,
    }
}

/// The number of a kind of failure, from 1, and its alert.
pub(super) const fn failure(kind: HandshakeErrorKind) -> (u8, u8) {
    match kind {
        HandshakeErrorKind::Configuration => (1, 0),
        HandshakeErrorKind::CertificateExpired => (2, 0),
        HandshakeErrorKind::CertificateNotYetValid => (3, 0),
        HandshakeErrorKind::UnknownIssuer => (4, 0),
        HandshakeErrorKind::WrongName => (5, 0),
        HandshakeErrorKind::BadCertificate => (6, 0),
        HandshakeErrorKind::NoCertificate => (7, 0),
        HandshakeErrorKind::NoApplicationProtocol => (8, 0),
        HandshakeErrorKind::Incompatible => (9, 0),
        HandshakeErrorKind::PeerAlert(alert) => (10, alert.0),
        HandshakeErrorKind::PeerClosed => (11, 0),
        HandshakeErrorKind::Violation => (12, 0),
        HandshakeErrorKind::Other => (13, 0),
    }
}

/// The kind of failure with this number; `None` for 0, which is none.
pub(super) const fn failure_of(number: u8, alert: u8) -> Option<HandshakeErrorKind> {
    Some(match number {
        0 => return None,
        1 => HandshakeErrorKind::Configuration,
        2 => HandshakeErrorKind::CertificateExpired,
        3 => HandshakeErrorKind::CertificateNotYetValid,
        4 => HandshakeErrorKind::UnknownIssuer,
        5 => HandshakeErrorKind::WrongName,
        6 => HandshakeErrorKind::BadCertificate,
        7 => HandshakeErrorKind::NoCertificate,
        8 => HandshakeErrorKind::NoApplicationProtocol,
        9 => HandshakeErrorKind::Incompatible,
        10 => HandshakeErrorKind::PeerAlert(AlertDescription(alert)),
        11 => HandshakeErrorKind::PeerClosed,
        12 => HandshakeErrorKind::Violation,
        _ => HandshakeErrorKind::Other,
    })
}
