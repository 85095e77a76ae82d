//! TLS over one TCP connection: tokio-rustls. Its server does not see early data before the handshake is complete.

use std::io::Read;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use rustls::ClientConfig;
use rustls::client::Resumption;
use rustls::pki_types::ServerName;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::peer::{Args, Connects, REQUEST, Start, answer_one, exchange, listens};
use crate::lab::{Outcome, peer};

/// Early data that the server accepts.
const MAX_EARLY_DATA: u32 = 16 << 10;

pub(super) async fn serve(args: &Args) -> Outcome {
    let mut config = peer::server_config(&args.certificate)?;
    config.max_early_data_size = MAX_EARLY_DATA;
    config.send_half_rtt_data = true;
    let tls = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind(args.address).await?;
    listens();
    loop {
        let (socket, _) = listener.accept().await?;
        socket.set_nodelay(true)?;
        let tls = tls.clone();
        tokio::spawn(async move {
            // Measuring TCP's handshakes, the client closes some before it has sent anything.
            let mut stream = tls.accept(socket).await?;
            let mut early = vec![0; REQUEST];
            let ahead = stream.get_mut().1.early_data().map_or(Ok(0), |mut data| data.read(&mut early))?;
            answer_one(stream, ahead).await
        });
    }
}

pub(super) struct Client {
    address: SocketAddr,
    config: ClientConfig,
}

impl Client {
    pub(super) fn new(args: &Args) -> Outcome<Self> {
        Ok(Self { address: args.address, config: peer::client_config(&args.certificate)? })
    }
}

impl Connects for Client {
    async fn request(&mut self, start: Start) -> Outcome<Instant> {
        let mut config = self.config.clone();
        if start == Start::Full {
            config.resumption = Resumption::disabled();
        }
        config.enable_early_data = start == Start::Early;
        let socket = TcpStream::connect(self.address).await?;
        socket.set_nodelay(true)?;
        let connector = TlsConnector::from(Arc::new(config)).early_data(start == Start::Early);
        exchange(connector.connect(ServerName::try_from("localhost")?, socket).await?).await
    }
}
