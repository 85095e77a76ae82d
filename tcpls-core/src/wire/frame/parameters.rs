//! The meaning of the entries of Session Parameters: an ID of 8 bits and a value of 64 bits each, with a default for
//! each absent one.
//!
//! Called by the session for its own parameters and the peer's; the session checks the values.

use bytes::BufMut;

use super::PARAMETER_LEN;

/// The parameters that one endpoint sends to the other, once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parameters {
    /// 1: how much the peer may send on all streams together, in bytes, until Max Data allows more. Default 0.
    pub initial_max_data: u64,
    /// 2: how much the peer may send on each stream, in bytes, until Max Stream Data allows more. Default 0.
    pub initial_max_stream_data: u64,
    /// 3: how many streams the peer may open, until Max Streams allows more. Default 0.
    pub max_streams: u64,
    /// 4: idle timeout, in milliseconds; 0 is none. Default 0.
    pub idle_timeout_ms: u64,
    /// 5: user timeout, without an acknowledgment, after which a TCP connection is lost, in milliseconds; 0 is none.
    /// Default 0.
    pub user_timeout_ms: u64,
    /// 6: the maximum delay of an acknowledgment, in milliseconds. Default 25.
    pub max_ack_delay_ms: u64,
    /// 7: TCP connections in use at the same time. Default 8.
    pub max_tcp_connections: u64,
    /// 8: whether the sender keeps bulk data off TCP connections that the peer declares lanes: 1, or 0 if it does not
    /// know them. Default 0.
    pub lanes: u64,
    /// 9: how long the sender keeps the session without a TCP connection, in milliseconds. Default 2⁶⁴ − 1: it does not
    /// say.
    pub session_timeout_ms: u64,
    /// 10: whether the sender understands [`Drain`](super::Drain): 1, or 0 if it does not. Default 0.
    pub drain: u64,
    /// 11: whether the server takes joins that are TLS resumptions: 1, or 0 if it does not. Default 0.
    pub resumed_joins: u64,
    /// 12: a number that the server draws when it starts: another one shows that it does not have the sessions of this one.
    /// Default 0: it does not say.
    pub instance: u64,
    /// 13: whether the sender, a server, accepts joins only at addresses that it advertises: 1, or 0 for any. Default 0.
    pub advertised_only: u64,
    /// 14: whether the sender answers [`TcpOptionRequest`](super::TcpOptionRequest): 1, or 0 if it does not know the frame.
    /// Default 0.
    pub option_requests: u64,
}

impl Default for Parameters {
    fn default() -> Self {
        Self {
            initial_max_data: 0,
            initial_max_stream_data: 0,
            max_streams: 0,
            idle_timeout_ms: 0,
            user_timeout_ms: 0,
            max_ack_delay_ms: 25,
            max_tcp_connections: 8,
            lanes: 0,
            session_timeout_ms: u64::MAX,
            drain: 0,
            resumed_joins: 0,
            instance: 0,
            advertised_only: 0,
            option_requests: 0,
        }
    }
}

impl Parameters {
    /// Appends the entries for a [`SessionParameters`](super::SessionParameters) frame: only the values that differ
    /// from the default, by ascending ID.
    pub fn encode_entries(&self, out: &mut Vec<u8>) {
        let (mut this, mut default) = (*self, Self::default());
        for ((id, value), (_, default)) in this.by_id().into_iter().zip(default.by_id()) {
            if value != default {
                out.put_u8(id);
                out.put_u64(*value);
            }
        }
    }

    /// Reads the entries of a decoded [`SessionParameters`](super::SessionParameters) frame. What is absent has its
    /// default; unknown IDs are ignored.
    pub fn from_entries(entries: &[u8]) -> Self {
        let mut parameters = Self::default();
        for (id, value) in entries_of(entries) {
            if let Some((_, known)) = parameters.by_id().into_iter().find(|(known, _)| *known == id) {
                *known = value;
            }
        }
        parameters
    }

    /// The values with their IDs, which ascend.
    fn by_id(&mut self) -> [(u8, &mut u64); 14] {
        [
            (1, &mut self.initial_max_data),
            (2, &mut self.initial_max_stream_data),
            (3, &mut self.max_streams),
            (4, &mut self.idle_timeout_ms),
            (5, &mut self.user_timeout_ms),
            (6, &mut self.max_ack_delay_ms),
            (7, &mut self.max_tcp_connections),
            (8, &mut self.lanes),
            (9, &mut self.session_timeout_ms),
            (10, &mut self.drain),
            (11, &mut self.resumed_joins),
            (12, &mut self.instance),
            (13, &mut self.advertised_only),
            (14, &mut self.option_requests),
        ]
    }
}

/// Whether an ID, known or not, appears twice.
pub(super) fn has_repeated_id(entries: &[u8]) -> bool {
    let mut seen = [false; 256];
    entries_of(entries).any(|(id, _)| core::mem::replace(&mut seen[usize::from(id)], true))
}

fn entries_of(entries: &[u8]) -> impl Iterator<Item = (u8, u64)> {
    entries.chunks_exact(PARAMETER_LEN).filter_map(|entry| {
        let (id, value) = entry.split_first()?;
        Some((*id, u64::from_be_bytes(value.try_into().ok()?)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(parameters: Parameters) -> Vec<u8> {
        let mut out = Vec::new();
        parameters.encode_entries(&mut out);
        out
    }

    #[test]
    fn defaults_take_no_bytes() {
        assert!(encoded(Parameters::default()).is_empty());
        assert_eq!(Parameters::from_entries(&[]), Parameters::default());
    }

    #[test]
    fn non_default_parameters_are_written_by_ascending_id() {
        let parameters =
            Parameters { max_tcp_connections: 3, initial_max_data: 0x0102, max_ack_delay_ms: 0, ..Default::default() };
        let entries = [
            [1, 0, 0, 0, 0, 0, 0, 1, 2], // initial max data
            [6, 0, 0, 0, 0, 0, 0, 0, 0], // max ack delay
            [7, 0, 0, 0, 0, 0, 0, 0, 3], // max TCP connections
        ]
        .concat();
        assert_eq!(encoded(parameters), entries);
        assert_eq!(Parameters::from_entries(&entries), parameters);
    }

    #[test]
    fn every_parameter_has_the_id_of_the_table() {
        let entries: Vec<u8> = (1..=14).flat_map(|id| [id, 0, 0, 0, 0, 0, 0, 1, id]).collect();
        let parameters = Parameters {
            initial_max_data: 0x101,
            initial_max_stream_data: 0x102,
            max_streams: 0x103,
            idle_timeout_ms: 0x104,
            user_timeout_ms: 0x105,
            max_ack_delay_ms: 0x106,
            max_tcp_connections: 0x107,
            lanes: 0x108,
            session_timeout_ms: 0x109,
            drain: 0x10a,
            resumed_joins: 0x10b,
            instance: 0x10c,
            advertised_only: 0x10d,
            option_requests: 0x10e,
        };
        assert_eq!(Parameters::from_entries(&entries), parameters);
        assert_eq!(encoded(parameters), entries);
    }

    #[test]
    fn unknown_ids_are_ignored() {
        let entries = [[0, 9, 9, 9, 9, 9, 9, 9, 9], [15; 9], [255; 9], [3, 0, 0, 0, 0, 0, 0, 0, 5]].concat();
        assert_eq!(Parameters::from_entries(&entries), Parameters { max_streams: 5, ..Default::default() });
    }

    #[test]
    fn a_repeated_id_is_seen_even_if_it_is_unknown() {
        assert!(!has_repeated_id(&[[1; 9], [2; 9], [200; 9]].concat()));
        assert!(has_repeated_id(&[[200; 9], [2; 9], [200; 9]].concat()));
    }
}
