//! Records as lines for people: what they carry, without stream data, tokens and other values.

use std::fmt;

use tcpls_core::error::AlertDescription;
use tcpls_core::wire::frame::{Frame, Frames};
use tcpls_core::wire::record::{Alert, ContentType};

use super::Record;

/// Writes `12.000345678 session 0 tcp 1 client 192.0.2.1:50000 > 192.0.2.2:443 record 5: stream 4 [0..100) fin, ping`.
pub(super) fn write(record: &Record<'_>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let Record { session, tcp, sender, from, to, generation, .. } = record;
    let (seconds, nanos) = (record.time / 1_000_000_000, record.time % 1_000_000_000);
    let sender = format!("{sender:?}").to_lowercase();
    write!(f, "{seconds}.{nanos:09} session {session} tcp {} {sender} {from} > {to} ", tcp.0)?;
    match record.number {
        Some(number) => write!(f, "record {number}")?,
        None => f.write_str("early data")?,
    }
    if *generation > 0 {
        write!(f, " (key generation {generation})")?;
    }
    f.write_str(": ")?;
    match ContentType::from_u8(record.content_type) {
        Some(ContentType::ApplicationData) => frames(record.content, f),
        Some(ContentType::Alert) => match Alert::parse(record.content) {
            Some(alert) => write!(f, "{}", AlertDescription(alert.description)),
            None => f.write_str("malformed alert"),
        },
        Some(ContentType::Handshake) => f.write_str(match record.content.first() {
            Some(4) => "New Session Ticket",
            Some(24) => "KeyUpdate",
            _ => "handshake message, or part of one",
        }),
        _ => write!(f, "content type {}", record.content_type),
    }
}

/// Frames in the order in which a receiver processes them.
fn frames(content: &[u8], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    for (number, decoded) in Frames::new(content).enumerate() {
        if number > 0 {
            f.write_str(", ")?;
        }
        match decoded {
            Ok(decoded) => frame(&decoded, f)?,
            Err(error) => write!(f, "malformed: {error}")?,
        }
    }
    Ok(())
}

fn frame(frame: &Frame<'_>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    f.write_str(frame.name())?;
    match frame {
        Frame::Padding(padding) => write!(f, " {} bytes", padding.len),
        Frame::Stream(stream) => {
            let end = stream.offset.saturating_add(stream.data.len() as u64);
            write!(f, " {} [{}..{end}){}", stream.id.0, stream.offset, if stream.fin { " fin" } else { "" })
        }
        Frame::Ack(ack) => write!(f, " tcp {} up to {}", ack.tcp.0, ack.highest.0),
        Frame::NewToken(new) => write!(f, " {}", new.sequence),
        Frame::NewTokenWide(new) => write!(f, " {}", new.sequence),
        Frame::ConnectionReset(reset) => write!(f, " tcp {}", reset.tcp.0),
        Frame::ConnectionResetReason(reset) => write!(f, " tcp {} reason {}", reset.tcp.0, reset.reason),
        Frame::NewAddress(new) => write!(f, " {} {}", new.id.0, new.address),
        Frame::RemoveAddress(removed) => write!(f, " {}", removed.id.0),
        Frame::StreamChange(change) => write!(f, " {} at {}", change.next_stream.0, change.next_offset),
        Frame::MaxData(max) => write!(f, " {}", max.maximum),
        Frame::MaxStreamData(max) => write!(f, " {} of stream {}", max.maximum, max.id.0),
        Frame::MaxStreams(max) => write!(f, " {}", max.maximum),
        Frame::ResetStream(reset) => {
            write!(f, " {} error {} size {}", reset.id.0, reset.error.0, reset.final_size)
        }
        Frame::StopSending(stop) => write!(f, " {} error {}", stop.id.0, stop.error.0),
        Frame::CloseSession(close) => write!(f, " error {}", close.error.0),
        Frame::ConnectionStatus(status) => {
            write!(f, " tcp {} {}", status.tcp.0, if status.backup { "backup" } else { "available" })
        }
        Frame::TcpOption(option) => write!(f, " kind {} {} bytes", option.kind, option.value.len()),
        Frame::TcpOptionRequest(request) => {
            write!(f, " {} tcp {} kind {} {} bytes", request.id.0, request.tcp.0, request.kind, request.value.len())
        }
        Frame::TcpOptionAnswer(answer) => write!(f, " {} outcome {}", answer.id.0, answer.outcome),
        Frame::Drain(drain) => write!(f, " {} streams", drain.streams),
        _ => Ok(()),
    }
}
