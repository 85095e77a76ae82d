//! Sessions of TCPLS.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use tcpls_core::ErrorCode;
use tcpls_core::crypto::rustls::EarlyTickets;
use tcpls_harness::net::{ClientOptions, Listener, ServerOptions, Session};
use tcpls_harness::tls::{Identity, Trust};

use super::peer::{Args, Connects, Start, answer_one, exchange, listens};
use crate::lab::Outcome;

const PROTOCOL: &[u8] = b"first-byte";

pub(super) async fn serve(args: &Args) -> Outcome {
    let identity = Identity::self_signed(&["localhost".to_owned()])?;
    std::fs::write(&args.certificate, identity.certificate_pem())?;
    let tls = identity.server(&[PROTOCOL])?.with_early_data()?;
    let options = ServerOptions::new(tls).with(|options| options.early_data = true);
    let mut listener = Listener::bind(&[args.address], options)?;
    listens();
    loop {
        let session = listener.accept().await;
        tokio::spawn(async move {
            if let Some(stream) = session.accept_stream().await {
                _ = answer_one(stream, 0).await;
            }
            session.closed().await;
        });
    }
}

pub(super) struct Client {
    address: SocketAddr,
    certificate: PathBuf,
    tickets: Arc<EarlyTickets>,
    /// Shared, because a ticket belongs to the configuration that it was issued to.
    tls: tcpls_core::crypto::rustls::RustlsClient,
}

impl Client {
    pub(super) fn new(args: &Args) -> Outcome<Self> {
        let tls = Trust::File(args.certificate.clone()).client(&[PROTOCOL])?;
        Ok(Self { address: args.address, certificate: args.certificate.clone(), tickets: Arc::default(), tls })
    }
}

impl Connects for Client {
    async fn request(&mut self, start: Start) -> Outcome<Instant> {
        let tls = match start {
            Start::Full => Trust::File(self.certificate.clone()).client(&[PROTOCOL])?,
            Start::Resumed | Start::Early => self.tls.with_early_data(self.tickets.clone()),
        };
        let mut options = ClientOptions::new(tls, "localhost".try_into()?);
        options.early_data = start == Start::Early;
        let session = Session::connect(&[self.address], options).await?;
        if start == Start::Early && session.early_data() == 0 {
            return Err("there was no ticket for early data".into());
        }
        let first = exchange(session.open_stream().await?).await?;
        session.close(ErrorCode(0), b"").await;
        Ok(first)
    }
}
