//! Sessions of TCPLS.

use std::sync::Arc;

use tcpls_core::{Config, ConnectionId, Lanes};
use tcpls_harness::net::{ClientOptions, Listener, ServerOptions, Session, Stream};
use tcpls_harness::tls::{Identity, Trust};

use super::conn::{Conn, Duplex};
use super::peer::{Args, Server};
use crate::lab::Outcome;

const PROTOCOL: &[u8] = b"latency";

fn config(args: &Args) -> Arc<Config> {
    Arc::new(Config::default().with(|config| {
        if args.no_lanes {
            config.lanes = Lanes::Off;
        }
    }))
}

pub(super) async fn serve(args: &Args, server: Server) -> Outcome {
    let identity = Identity::self_signed(&["localhost".to_owned()])?;
    std::fs::write(&args.certificate, identity.certificate_pem())?;
    let mut options = ServerOptions::new(identity.server(&[PROTOCOL])?);
    options.config = config(args);
    let mut listener = Listener::bind(&args.address, options)?;
    server.listens();
    loop {
        let (session, server) = (listener.accept().await, server.clone());
        tokio::spawn(async move {
            while let Some(stream) = session.accept_stream().await {
                server.answer(stream);
            }
        });
    }
}

pub(super) async fn connect(args: &Args) -> Outcome<Session> {
    let tls = Trust::File(args.certificate.clone()).client(&[PROTOCOL])?;
    let mut options = ClientOptions::new(tls, "localhost".try_into()?);
    options.config = config(args);
    Ok(Session::connect(&args.address, options).await?)
}

impl Conn for Session {
    type Stream = Stream;

    async fn open(&self) -> Outcome<Stream> {
        Ok(self.open_stream().await?)
    }

    fn lanes(&self) -> usize {
        self.stats().tcp.iter().filter(|tcp| tcp.lane).count()
    }
}

impl Duplex for Stream {
    fn prioritize(&mut self) -> Outcome {
        Ok(self.send().set_priority(1)?)
    }

    fn attach(&mut self) -> Outcome {
        Ok(self.send().attach(ConnectionId::FIRST)?)
    }
}
