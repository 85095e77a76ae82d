//! QUIC: quinn with its own settings.

use std::sync::Arc;

use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn::{ClientConfig, Connection, Endpoint, RecvStream, SendStream, ServerConfig};
use tokio::io::Join;

use super::conn::{Conn, Duplex};
use super::peer::{Args, Server};
use crate::lab::{Outcome, peer};

type Stream = Join<RecvStream, SendStream>;

pub(super) async fn serve(args: &Args, server: Server) -> Outcome {
    let tls = QuicServerConfig::try_from(peer::server_config(&args.certificate)?)?;
    let endpoint = Endpoint::server(ServerConfig::with_crypto(Arc::new(tls)), args.address[0])?;
    server.listens();
    while let Some(incoming) = endpoint.accept().await {
        let (conn, server) = (incoming.await?, server.clone());
        tokio::spawn(async move {
            while let Ok((send, recv)) = conn.accept_bi().await {
                server.answer(tokio::io::join(recv, send));
            }
        });
    }
    Ok(())
}

pub(super) async fn connect(args: &Args) -> Outcome<Connection> {
    let tls = QuicClientConfig::try_from(peer::client_config(&args.certificate)?)?;
    let endpoint = Endpoint::client("0.0.0.0:0".parse()?)?;
    Ok(endpoint.connect_with(ClientConfig::new(Arc::new(tls)), args.address[0], "localhost")?.await?)
}

impl Conn for Connection {
    type Stream = Stream;

    async fn open(&self) -> Outcome<Stream> {
        let (send, recv) = self.open_bi().await?;
        Ok(tokio::io::join(recv, send))
    }
}

impl Duplex for Stream {
    fn prioritize(&mut self) -> Outcome {
        Ok(self.writer().set_priority(1)?)
    }
}
