//! Early data beside handshake messages that span records.

use std::io::{Read, Write};

use rustls::{ClientConnection, Connection};

use super::*;
use crate::crypto::EarlyData;

/// A client of rustls itself, with records of `size` bytes, and servers that share their tickets with it.
struct Ends {
    client: Arc<ClientConfig>,
    accepts: RustlsServer,
    rejects: RustlsServer,
}

impl Ends {
    /// The client has tickets.
    fn new(size: usize) -> Self {
        let identity = Identity::new();
        let mut client = identity.client(provider_with(&SUITES));
        client.alpn_protocols = vec![b"tcpls".to_vec()];
        client.enable_early_data = true;
        client.max_fragment_size = Some(size);
        let rejects = RustlsServer::new(Arc::new(identity.server(provider_with(&SUITES))), &[]).unwrap();
        let ends = Self { client: Arc::new(client), accepts: rejects.with_early_data().unwrap(), rejects };
        let (client, _) = ends.client(0);
        assert_eq!(handshake(client, ends.accepts.handshake().unwrap(), b"").0, EarlyData::None);
        ends
    }

    /// Returns whether it sends `early` bytes of early data, too.
    fn client(&self, early: usize) -> (ClientConnection, bool) {
        let mut client = ClientConnection::new(self.client.clone(), localhost()).unwrap();
        let sends = client.early_data().is_some_and(|mut data| data.write_all(&vec![1; early]).is_ok());
        (client, sends)
    }
}

/// Runs a handshake. The server writes `half_rtt` after each record that it gets. Returns what it says of early data,
/// the early data, and what the client got.
fn handshake(client: ClientConnection, server: Box<dyn Handshake>, half_rtt: &[u8]) -> (EarlyData, Vec<u8>, Vec<u8>) {
    let (mut client, mut server) = (Connection::Client(client), server);
    let (mut early, mut answers) = (Vec::new(), Vec::new());
    while !server.is_complete() || client.is_handshaking() {
        let mut bytes = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut bytes).unwrap();
        }
        for mut record in records(&bytes) {
            server.handle_record(&mut record).unwrap();
            let mut flight = Vec::new();
            if !server.is_complete() {
                server.write_half_rtt(half_rtt, &mut flight);
            }
            early.extend(std::iter::from_fn(|| server.read_early()).flatten());
            flight.extend(written(&mut *server));
            while !flight.is_empty() {
                let read = client.read_tls(&mut &flight[..]).unwrap();
                flight.drain(..read);
                client.process_new_packets().unwrap();
            }
        }
    }
    let _ = client.reader().read_to_end(&mut answers); // there is more to come
    (server.finish().unwrap().early_data, early, answers)
}

#[test]
fn messages_behind_early_data_may_span_records() {
    for size in [32, 33, 100] {
        let ends = Ends::new(size);
        let (client, sends) = ends.client(300);
        assert!(sends);
        let (outcome, early, answers) = handshake(client, ends.accepts.handshake().unwrap(), b"answer");
        assert_eq!((outcome, early), (EarlyData::Accepted, vec![1; 300]));
        assert!(answers.starts_with(b"answeranswer"), "an answer for each record, {} bytes", answers.len());

        let (client, sends) = ends.client(300);
        assert!(sends);
        let (outcome, early, answers) = handshake(client, ends.rejects.handshake().unwrap(), b"answer");
        assert_eq!((outcome, early), (EarlyData::Rejected, vec![]));
        assert!(answers.starts_with(b"answeranswer"), "an answer for each record, {} bytes", answers.len());
    }
}

#[test]
fn client_hello_that_offers_early_data_may_span_records() {
    let ends = Ends::new(16_000);
    // rustls skips 16 KiB, and would count these more than once.
    let (mut client, sends) = ends.client(14_000);
    assert!(sends);
    let mut bytes = Vec::new();
    while client.wants_write() {
        client.write_tls(&mut bytes).unwrap();
    }
    let mut records = records(&bytes);
    let hello = records.remove(0);
    let mut server = ends.rejects.handshake().unwrap();
    for part in hello[5..].chunks(100) {
        let mut record = [&hello[..3], &(part.len() as u16).to_be_bytes(), part].concat();
        server.handle_record(&mut record).unwrap();
    }
    for mut record in records {
        server.handle_record(&mut record).unwrap();
    }
    client.read_tls(&mut &written(&mut *server)[..]).unwrap();
    client.process_new_packets().unwrap();
    let mut bytes = Vec::new();
    while client.wants_write() {
        client.write_tls(&mut bytes).unwrap();
    }
    feed(&mut *server, &bytes).unwrap();
    written(&mut *server);
    assert_eq!(server.finish().unwrap().early_data, EarlyData::Rejected);
}
