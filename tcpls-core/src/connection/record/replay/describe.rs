//! Items as text, for people.

use core::fmt;

use super::super::hooks::choice_name;
use super::super::item::Item;
use super::super::names;
use crate::connection::trace::Frames;
use crate::error::AlertDescription;
use crate::time::Time;

impl fmt::Display for Item {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Client { .. } => f.write_str("Client"),
            Self::Server { .. } => f.write_str("Server"),
            Self::Returned { value } => write!(f, "returned {value}"),
            Self::Nothing {} => f.write_str("returned nothing"),
            Self::Blocked {} => f.write_str("would block"),
            Self::Refused { error } => write!(f, "failed: {}", error.text()),
            Self::Written { data } => write!(f, "took {} bytes", data.0.len()),
            Self::Reported { kind, about, detail } => {
                write!(f, "event {} ({about})", names::name(names::EVENTS, *kind))?;
                if detail.0.is_empty() { Ok(()) } else { write!(f, " {}", detail.text().escape_debug()) }
            }
            Self::Deadline { at, reason: 0 } if at.0 == Time::ZERO => f.write_str("no deadline before the call"),
            Self::Deadline { at, reason } => {
                write!(f, "deadline before the call: {:.6}, {}", at.0, names::name(names::REASONS, *reason))
            }
            Self::Record { content_type, len } => write!(f, "record of type {content_type} with {len} bytes"),
            Self::Opened { content_type, content, padding, generation } => {
                write!(f, "it opens: ")?;
                put_content(f, *content_type, &content.0)?;
                write!(f, ", padding {padding}, keys {generation}")
            }
            Self::Sent { tcp, seq, bytes, kind, content } => {
                write!(f, "sends record {} on {tcp}, {bytes} bytes: ", seq.0)?;
                match (kind, content.0.first()) {
                    (0, _) => put_content(f, 23, &content.0),
                    (2, Some(alert)) => AlertDescription(*alert).fmt(f),
                    (3, Some(ty)) => write!(f, "handshake message {ty}"),
                    _ => f.write_str("data"),
                }
            }
            Self::EarlySent { tcp, bytes, content } => {
                write!(f, "sends early data on {tcp}, {bytes} bytes: {:?}", Frames::new(&content.0))
            }
            Self::Scheduled { tcp, choice } => write!(f, "the scheduler says {} for {tcp}", choice_name(*choice)),
            Self::Traced { kind, tcp: Some(tcp) } => write!(f, "{} (tcp {tcp})", names::name(names::TRACED, *kind)),
            Self::Traced { kind, tcp: None } => f.write_str(names::name(names::TRACED, *kind)),
            other => write!(f, "{other:?}"),
        }
    }
}

fn put_content(f: &mut fmt::Formatter<'_>, content_type: u8, content: &[u8]) -> fmt::Result {
    match content_type {
        23 => write!(f, "{:?}", Frames::new(content)),
        content_type => write!(f, "{} bytes of type {content_type}", content.len()),
    }
}
