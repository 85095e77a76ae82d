//! The application of the drivers `poll_loop` and `io_uring`: a download over two TCP connections, of which one is cut
//! in the middle.

use std::sync::Arc;

use ring::rand::{SecureRandom, SystemRandom};
use tcpls_core::crypto::rustls::{RustlsClient, RustlsServer};
use tcpls_core::{
    Config, Connection, ConnectionId, Event, NewSession, Seed, SessionKey, Sessions, Side, SocketId, StreamId,
    TcpEvent, Time,
};

/// Bytes that the client downloads.
pub(crate) const SIZE: usize = 16 << 20;

/// The application's requests to the driver.
pub(crate) enum Wish {
    /// To connect a socket, and to join it to this session.
    Dial(SessionKey),
    /// To break this socket's TCP connection.
    Cut(SocketId),
}

/// The applications of both ends: the server answers a stream with [`SIZE`] bytes, the client closes once it has them.
#[derive(Default)]
pub(crate) struct Download {
    client: Option<(SessionKey, StreamId)>,
    server: Option<(SessionKey, StreamId)>,
    written: usize,
    is_cut: bool,
    pub(crate) received: usize,
}

impl Download {
    pub(crate) fn handle_event(&mut self, sessions: &mut Sessions, key: SessionKey, event: Event) -> Option<Wish> {
        let conn = sessions.session(key)?;
        let side = conn.side();
        match event {
            Event::Established(_) if side == Side::Client => {
                let id = conn.open_stream().expect("the peer allows one");
                conn.stream(id).write(b"all of it").expect("it is open");
                self.client = Some((key, id));
                return Some(Wish::Dial(key)); // a second TCP connection
            }
            Event::Stranded { .. } if side == Side::Client => return Some(Wish::Dial(key)),
            Event::Tcp(TcpEvent::Joined { tcp }) => println!("{side:?}: TCP connection {} joined", tcp.0),
            Event::Tcp(TcpEvent::Lost { tcp, fault }) => println!("{side:?}: TCP connection {} lost: {fault}", tcp.0),
            Event::Closed { reason } => {
                println!("{side:?}: {reason}");
                sessions.remove_session(key);
                return None;
            }
            _ => {}
        }
        if side == Side::Server
            && let Some(id) = conn.accept_stream()
        {
            self.server = Some((key, id));
        }
        None
    }

    /// Writes and reads as much as is possible now.
    pub(crate) fn run(&mut self, sessions: &mut Sessions, now: Time) -> Option<Wish> {
        if let Some((key, id)) = self.server
            && let Some(conn) = sessions.session(key)
        {
            let block = [7; 64 << 10];
            while let Ok(taken @ 1..) = conn.stream(id).write(&block[..block.len().min(SIZE - self.written)]) {
                self.written += taken;
            }
            if self.written == SIZE {
                _ = conn.stream(id).finish(); // a second time it does nothing
            }
        }
        let (key, id) = self.client?;
        let conn = sessions.session(key)?;
        while let Ok(Some(data)) = conn.stream(id).read(usize::MAX) {
            self.received += data.len();
        }
        if self.received == SIZE {
            conn.close(now, Default::default(), b"");
        }
        if self.received > SIZE / 2 && !self.is_cut && conn.tcp_connections().count() == 2 {
            self.is_cut = true;
            println!("after {} bytes the first TCP connection is cut", self.received);
            return sessions.socket(key, ConnectionId::FIRST).map(Wish::Cut);
        }
        None
    }
}

/// The client's end of a new session.
pub(crate) fn client(tls: &RustlsClient) -> Connection {
    let name = "localhost".try_into().expect("it is a name");
    let handshake = tls.handshake(name).expect("the configuration works");
    Connection::client(Time::ZERO, Arc::new(Config::default()), handshake, Seed(random()))
}

/// The server's end of a new session.
pub(crate) fn server(tls: &RustlsServer, now: Time, new: NewSession) -> Connection {
    let handshake = tls.handshake().expect("the configuration works");
    Connection::server(now, Arc::new(Config::default()), handshake, new, Seed(random()))
}

pub(crate) fn random() -> [u8; 32] {
    let mut bytes = [0; 32];
    SystemRandom::new().fill(&mut bytes).expect("the operating system has random numbers");
    bytes
}

/// A certificate made on the spot, and a client that trusts it.
pub(crate) fn tls() -> (RustlsClient, RustlsServer) {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".into()]).expect("it is a name");
    let mut roots = rustls::RootCertStore::empty();
    roots.add(made.cert.der().clone()).expect("it is a certificate");
    let key = rustls::pki_types::PrivateKeyDer::Pkcs8(made.signing_key.serialize_der().into());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls13 = &[&rustls::version::TLS13];
    let client = rustls::ClientConfig::builder_with_provider(provider.clone()).with_protocol_versions(tls13);
    let client = client.expect("it has TLS 1.3").with_root_certificates(roots).with_no_client_auth();
    let server = rustls::ServerConfig::builder_with_provider(provider).with_protocol_versions(tls13);
    let server = server.expect("it has TLS 1.3").with_no_client_auth();
    let server = server.with_single_cert(vec![made.cert.der().clone()], key).expect("key and certificate fit");
    let names: &[&[u8]] = &[b"download"];
    let client = RustlsClient::new(client.into(), names).expect("the configuration works");
    (client, RustlsServer::new(server.into(), names).expect("the configuration works"))
}
