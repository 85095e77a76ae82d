//! quinn and noq: one is a fork of the other, so one macro covers both. Each runs on one thread for each end, with its
//! own defaults except larger UDP buffers; those of TCP grow automatically.

use std::net::{SocketAddr, UdpSocket};

use crate::Outcome;

/// What is asked of the kernel for UDP.
pub const UDP_BUFFER: usize = 4 << 20;

/// A UDP socket with as large buffers as the kernel grants.
pub fn udp(address: SocketAddr) -> Outcome<UdpSocket> {
    let socket = UdpSocket::bind(address)?;
    let buffers = socket2::SockRef::from(&socket);
    buffers.set_recv_buffer_size(UDP_BUFFER)?;
    buffers.set_send_buffer_size(UDP_BUFFER)?;
    Ok(socket)
}

/// Bulk transfer over one stream of the QUIC with this name; `$length` says how long a chunk is that was read, `$ordered`
/// are the arguments that ask for chunks in order.
macro_rules! transfer {
    ($quic:ident, $length:expr $(, $ordered:expr)?) => {
        use std::net::{Ipv4Addr, SocketAddr};
        use std::sync::{Arc, mpsc};

        use ::$quic::crypto::rustls::{QuicClientConfig, QuicServerConfig};
        use ::$quic::{ClientConfig, Endpoint, EndpointConfig, ServerConfig, TokioRuntime};
        use bytes::Bytes;

        use super::bare::next_piece;
        use super::quic::udp;
        use super::{BATCH, Job, Sample, block_on, two_ends};
        use crate::Outcome;
        use crate::meter::Meter;
        use crate::tls::PROTOCOL;

        /// Bulk transfer.
        pub fn run(job: &Job) -> Outcome<Sample> {
            let client = ClientConfig::new(Arc::new(QuicClientConfig::try_from(job.tls.client(PROTOCOL)?)?));
            let server = QuicServerConfig::try_from(job.tls.server(PROTOCOL)?)?;
            let server = ServerConfig::with_crypto(Arc::new(server));
            let receive = |address_is, meter| block_on(receive(server, address_is, meter));
            two_ends(job, receive, |address, meter| block_on(send(client, address, meter)))
        }

        fn endpoint(server: Option<ServerConfig>) -> Outcome<Endpoint> {
            let socket = udp((Ipv4Addr::LOCALHOST, 0).into())?;
            Ok(Endpoint::new(EndpointConfig::default(), server, socket, Arc::new(TokioRuntime))?)
        }

        async fn receive(
            server: ServerConfig,
            address_is: mpsc::Sender<SocketAddr>,
            mut meter: Meter,
        ) -> Outcome<Meter> {
            let endpoint = endpoint(Some(server))?;
            address_is.send(endpoint.local_addr()?)?;
            let conn = endpoint.accept().await.ok_or("no client connected")?.await?;
            let mut stream = conn.accept_uni().await?;
            while let Some(chunk) = stream.read_chunk(usize::MAX $(, $ordered)?).await? {
                meter.moved($length(&chunk));
            }
            conn.close(0_u32.into(), b"");
            endpoint.wait_idle().await;
            Ok(meter)
        }

        async fn send(client: ClientConfig, address: SocketAddr, mut meter: Meter) -> Outcome<Meter> {
            let endpoint = endpoint(None)?;
            let conn = endpoint.connect_with(client, address, "localhost")?.await?;
            let mut stream = conn.open_uni().await?;
            while meter.left() > 0 {
                let piece = next_piece(meter.left(), BATCH);
                stream.write_chunk(Bytes::from_static(piece)).await?;
                meter.moved(piece.len());
            }
            stream.finish()?;
            conn.closed().await;
            meter.finish();
            Ok(meter)
        }
    };
}

pub(super) use transfer;
