//! QUIC: quinn with its own settings.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn::{ClientConfig, Connection, Endpoint, ServerConfig};
use rustls::client::Resumption;

use super::peer::{Args, Connects, Start, answer_one, exchange, listens};
use crate::lab::{Outcome, peer};

pub(super) async fn serve(args: &Args) -> Outcome {
    let mut config = peer::server_config(&args.certificate)?;
    config.max_early_data_size = u32::MAX; // QUIC's own limits apply
    let tls = QuicServerConfig::try_from(config)?;
    let endpoint = Endpoint::server(ServerConfig::with_crypto(Arc::new(tls)), args.address)?;
    listens();
    while let Some(incoming) = endpoint.accept().await {
        let conn = match incoming.accept()?.into_0rtt() {
            Ok((conn, _)) => conn,
            Err(connecting) => connecting.await?,
        };
        tokio::spawn(async move {
            if let Ok((send, recv)) = conn.accept_bi().await {
                _ = answer_one(tokio::io::join(recv, send), 0).await;
            }
            conn.closed().await
        });
    }
    Ok(())
}

pub(super) struct Client {
    address: SocketAddr,
    config: rustls::ClientConfig,
    endpoint: Endpoint,
}

impl Client {
    pub(super) fn new(args: &Args) -> Outcome<Self> {
        let mut config = peer::client_config(&args.certificate)?;
        config.enable_early_data = true;
        Ok(Self { address: args.address, config, endpoint: Endpoint::client("0.0.0.0:0".parse()?)? })
    }
}

async fn ask(conn: &Connection) -> Outcome<Instant> {
    let (send, recv) = conn.open_bi().await?;
    exchange(tokio::io::join(recv, send)).await
}

impl Connects for Client {
    async fn request(&mut self, start: Start) -> Outcome<Instant> {
        let mut config = self.config.clone();
        if start == Start::Full {
            config.resumption = Resumption::disabled();
        }
        let config = ClientConfig::new(Arc::new(QuicClientConfig::try_from(config)?));
        let connecting = self.endpoint.connect_with(config, self.address, "localhost")?;
        let conn = match start {
            Start::Early => match connecting.into_0rtt() {
                Ok((conn, _)) => conn,
                Err(_) => return Err("there was no ticket for early data".into()),
            },
            _ => connecting.await?,
        };
        let first = ask(&conn).await?;
        conn.close(0_u8.into(), b"");
        Ok(first)
    }
}
