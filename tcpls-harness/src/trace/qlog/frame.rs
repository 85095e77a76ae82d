//! Frames as qlog has them: `frame_type` and the frame's fields.

use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};
use tcpls_core::trace::Frame;
use tcpls_core::wire::frame::Parameters;

use super::super::event::{ErrorJson, fields};

/// One frame of a record.
pub(super) struct FrameJson(pub(super) Frame);

impl Serialize for FrameJson {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        fields!(map, frame_type: name(&self.0));
        match self.0 {
            Frame::Padding { len } => fields!(map, raw: Length { length: len as u64 }),
            Frame::Stream { id, ref range, fin } => {
                let payload_length = range.end - range.start;
                fields!(map, stream_id: id.0, offset: range.start, fin: fin, raw: Payload { payload_length });
            }
            Frame::Ack { tcp, highest } => fields!(map, tcp: tcp.0, highest: highest.0),
            Frame::NewToken { sequence } => fields!(map, sequence: sequence),
            Frame::ConnectionReset { tcp, reason } => fields!(map, tcp: tcp.0, reason: reason),
            Frame::NewAddress { id, address } => {
                fields!(map, address_id: id.0, ip: address.ip(), port: address.port());
            }
            Frame::RemoveAddress { id } => fields!(map, address_id: id.0),
            Frame::StreamChange { id, offset } => fields!(map, stream_id: id.0, offset: offset),
            Frame::SessionParameters(ref parameters) => parameter_fields(&mut map, parameters)?,
            Frame::MaxData { maximum } => fields!(map, maximum: maximum),
            Frame::MaxStreamData { id, maximum } => fields!(map, stream_id: id.0, maximum: maximum),
            Frame::MaxStreams { maximum } => fields!(map, maximum: maximum),
            Frame::ResetStream { id, error, final_size } => {
                fields!(map, stream_id: id.0, error: ErrorJson::from(error), final_size: final_size);
            }
            Frame::StopSending { id, error } => fields!(map, stream_id: id.0, error: ErrorJson::from(error)),
            Frame::CloseSession { error, reason_len } => {
                fields!(map, error: ErrorJson::from(error), reason_length: reason_len as u64);
            }
            Frame::ConnectionStatus { tcp, backup } => fields!(map, tcp: tcp.0, backup: backup),
            Frame::TcpOption { kind, len } => fields!(map, kind: kind, value_length: len as u64),
            Frame::TcpOptionRequest { id, tcp, kind, len } => {
                fields!(map, request_id: id.0, tcp: tcp.0, kind: kind, value_length: len as u64);
            }
            Frame::TcpOptionAnswer { id, outcome } => fields!(map, request_id: id.0, outcome: outcome.code()),
            Frame::Drain { streams } => fields!(map, streams: streams),
            Frame::Invalid(error) => fields!(map, error: error.to_string()),
            // Ping and Lane have no fields.
            _ => {}
        }
        map.end()
    }
}

fn name(frame: &Frame) -> &'static str {
    match frame {
        Frame::Padding { .. } => "padding",
        Frame::Ping => "ping",
        Frame::Stream { .. } => "stream",
        Frame::Ack { .. } => "ack",
        Frame::NewToken { .. } => "new_token",
        Frame::ConnectionReset { .. } => "connection_reset",
        Frame::NewAddress { .. } => "new_address",
        Frame::RemoveAddress { .. } => "remove_address",
        Frame::StreamChange { .. } => "stream_change",
        Frame::SessionParameters(_) => "session_parameters",
        Frame::MaxData { .. } => "max_data",
        Frame::MaxStreamData { .. } => "max_stream_data",
        Frame::MaxStreams { .. } => "max_streams",
        Frame::ResetStream { .. } => "reset_stream",
        Frame::StopSending { .. } => "stop_sending",
        Frame::CloseSession { .. } => "close_session",
        Frame::ConnectionStatus { .. } => "connection_status",
        Frame::TcpOption { .. } => "tcp_option",
        Frame::TcpOptionRequest { .. } => "tcp_option_request",
        Frame::TcpOptionAnswer { .. } => "tcp_option_answer",
        Frame::Lane => "lane",
        Frame::Drain { .. } => "drain",
        Frame::Invalid(_) => "invalid",
        // A frame of a later version of the core.
        _ => "other",
    }
}

/// A parameter that its sender does not announce has its default value.
fn parameter_fields<M: SerializeMap>(map: &mut M, parameters: &Parameters) -> Result<(), M::Error> {
    fields!(map, initial_max_data: parameters.initial_max_data);
    fields!(map, initial_max_stream_data: parameters.initial_max_stream_data, max_streams: parameters.max_streams);
    fields!(map, idle_timeout: parameters.idle_timeout_ms, user_timeout: parameters.user_timeout_ms);
    fields!(map, max_ack_delay: parameters.max_ack_delay_ms, max_tcp_connections: parameters.max_tcp_connections);
    if parameters.session_timeout_ms != u64::MAX {
        fields!(map, session_timeout: parameters.session_timeout_ms);
    }
    fields!(map, lanes: parameters.lanes, drain: parameters.drain, resumed_joins: parameters.resumed_joins);
    fields!(map, advertised_only: parameters.advertised_only, option_requests: parameters.option_requests);
    Ok(())
}

/// A size on the wire (main schema, `RawInfo`).
#[derive(Serialize)]
struct Length {
    length: u64,
}

#[derive(Serialize)]
struct Payload {
    payload_length: u64,
}
