//! What records contain: frames without what they carry.

use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};
use tcpls_core::trace::{Content, Frame, Frames};

use super::event::{AlertJson, ErrorJson, fields, variant};

/// An object with one entry, the kind of content.
pub(super) struct ContentJson<'a>(pub(super) &'a Content<'a>);

impl Serialize for ContentJson<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(1))?;
        match *self.0 {
            Content::Frames(frames) => fields!(map, frames: FramesJson(frames)),
            Content::Plain { bytes } => fields!(map, plain: bytes),
            Content::Alert(alert) => fields!(map, alert: AlertJson::from(alert)),
            Content::Handshake { ty } => fields!(map, handshake: ty),
            _ => fields!(map, invalid: true),
        }
        map.end()
    }
}

struct FramesJson<'a>(Frames<'a>);

impl Serialize for FramesJson<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().map(FrameJson))
    }
}

/// An object with the frame's name as `type`, in kebab case, and its fields.
struct FrameJson(Frame);

impl Serialize for FrameJson {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("type", &variant(&self.0))?;
        match self.0 {
            Frame::Padding { len } => fields!(map, len: len),
            Frame::Stream { id, ref range, fin } => {
                fields!(map, id: id.0, start: range.start, end: range.end, fin: fin);
            }
            Frame::Ack { tcp, highest } => fields!(map, tcp: tcp.0, highest: highest.0),
            Frame::NewToken { sequence } => fields!(map, sequence: sequence),
            Frame::ConnectionReset { tcp, reason } => fields!(map, tcp: tcp.0, reason: reason),
            Frame::NewAddress { id, address } => fields!(map, id: id.0, address: address.to_string()),
            Frame::RemoveAddress { id } => fields!(map, id: id.0),
            Frame::StreamChange { id, offset } => fields!(map, id: id.0, offset: offset),
            Frame::SessionParameters(ref parameters) => {
                fields!(map, initial_max_data: parameters.initial_max_data);
                fields!(map, initial_max_stream_data: parameters.initial_max_stream_data);
                fields!(map, max_streams: parameters.max_streams, idle_timeout_ms: parameters.idle_timeout_ms);
                fields!(map, user_timeout_ms: parameters.user_timeout_ms);
                fields!(map, max_ack_delay_ms: parameters.max_ack_delay_ms);
                fields!(map, max_tcp_connections: parameters.max_tcp_connections, lanes: parameters.lanes);
            }
            Frame::MaxData { maximum } => fields!(map, maximum: maximum),
            Frame::MaxStreamData { id, maximum } => fields!(map, id: id.0, maximum: maximum),
            Frame::MaxStreams { maximum } => fields!(map, maximum: maximum),
            Frame::ResetStream { id, error, final_size } => {
                fields!(map, id: id.0, error: ErrorJson::from(error), final_size: final_size);
            }
            Frame::StopSending { id, error } => fields!(map, id: id.0, error: ErrorJson::from(error)),
            Frame::CloseSession { error, reason_len } => {
                fields!(map, error: ErrorJson::from(error), reason_len: reason_len);
            }
            Frame::ConnectionStatus { tcp, backup } => fields!(map, tcp: tcp.0, backup: backup),
            Frame::TcpOption { kind, len } => fields!(map, kind: kind, len: len),
            Frame::TcpOptionRequest { id, tcp, kind, len } => {
                fields!(map, request: id.0, tcp: tcp.0, kind: kind, len: len);
            }
            Frame::TcpOptionAnswer { id, outcome } => fields!(map, request: id.0, outcome: variant(&outcome)),
            Frame::Invalid(error) => fields!(map, error: error.to_string()),
            // Ping and Lane have no fields; a frame of a later version of the core has its name alone.
            _ => {}
        }
        map.end()
    }
}
