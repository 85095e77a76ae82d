//! QMux (draft-ietf-quic-qmux), QUIC's streams over TLS: the qmux crate on tokio-rustls, with windows as large as ours.

use std::net::SocketAddr;
use std::sync::mpsc;

use bytes::Bytes;
use qmux::transport::Stream;
use qmux::{Config, Session, Version};
use tokio_rustls::{TlsAcceptor, TlsConnector};
use web_transport_trait::{RecvStream as _, SendStream as _, Session as _};

use super::bare::next_piece;
use super::{BATCH, Job, Sample, block_on, two_ends};
use crate::Outcome;
use crate::meter::Meter;
use crate::sockets::Transport;
use crate::tls::server_name;

const WINDOW: u64 = 16 << 20;
const SESSION_WINDOW: u64 = 32 << 20;
/// The application protocol.
pub const PROTOCOL: &[u8] = b"qmux-02";

/// A client's session.
pub async fn connect(tls: TlsConnector, address: SocketAddr) -> Outcome<Session> {
    let tls = tls.connect(server_name(), Transport::Tcp.connect(address)?).await?;
    let config = config();
    Ok(Session::connect(Stream::new(tls, config.version, config.max_record_size), config).await?)
}

/// A server's session; it says first where it listens.
pub async fn accept(tls: TlsAcceptor, address_is: mpsc::Sender<SocketAddr>) -> Outcome<Session> {
    let listener = Transport::Tcp.listen()?;
    address_is.send(listener.local_addr()?)?;
    let (socket, _) = listener.accept().await?;
    socket.set_nodelay(true)?;
    let (tls, config) = (tls.accept(socket).await?, config());
    Ok(Session::accept(Stream::new(tls, config.version, config.max_record_size), config).await?)
}

fn config() -> Config {
    let mut config = Config::negotiated(Version::QMux02, None);
    config.max_data = SESSION_WINDOW;
    config.max_stream_data_bidi_local = WINDOW;
    config.max_stream_data_bidi_remote = WINDOW;
    config
}

/// Bulk transfer over one stream.
pub fn run(job: &Job) -> Outcome<Sample> {
    let (client, server) = (job.tls.client(PROTOCOL)?, job.tls.server(PROTOCOL)?);
    let receive = |address_is, meter| block_on(receive(server.into(), address_is, meter));
    two_ends(job, receive, |address, meter| block_on(send(client.into(), address, meter)))
}

async fn receive(tls: TlsAcceptor, address_is: mpsc::Sender<SocketAddr>, mut meter: Meter) -> Outcome<Meter> {
    let session = accept(tls, address_is).await?;
    let (mut answer, mut stream) = session.accept_bi().await?;
    while let Some(chunk) = stream.read_chunk(usize::MAX).await? {
        meter.moved(chunk.len());
    }
    answer.finish()?;
    session.closed().await; // by the client, which has read the end
    Ok(meter)
}

async fn send(tls: TlsConnector, address: SocketAddr, mut meter: Meter) -> Outcome<Meter> {
    let session = connect(tls, address).await?;
    let (mut stream, mut answer) = session.open_bi().await?;
    while meter.left() > 0 {
        let mut piece = Bytes::from_static(next_piece(meter.left(), BATCH));
        let len = piece.len();
        stream.write_all_buf(&mut piece).await?;
        meter.moved(len);
    }
    stream.finish()?;
    while answer.read_chunk(usize::MAX).await?.is_some() {}
    meter.finish();
    session.close(0, "");
    Ok(meter)
}
