//! s2n-quic with rustls, on one thread for each end, with its own defaults but for larger UDP buffers.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::mpsc;

use bytes::Bytes;
use s2n_quic::client::Connect;
use s2n_quic::provider::io::tokio as io;
use s2n_quic::provider::tls::rustls as tls;
use s2n_quic::{Client, Server};

use super::bare::next_piece;
use super::quic::UDP_BUFFER;
use super::{BATCH, Job, Sample, block_on, two_ends};
use crate::Outcome;
use crate::meter::Meter;
use crate::tls::PROTOCOL;

/// Bulk transfer.
pub fn run(job: &Job) -> Outcome<Sample> {
    let client = tls::Client::from(job.tls.client(PROTOCOL)?);
    let server = tls::Server::from(job.tls.server(PROTOCOL)?);
    let receive = |address_is, meter| block_on(receive(server, address_is, meter));
    two_ends(job, receive, |address, meter| block_on(send(client, address, meter)))
}

fn udp() -> Outcome<io::Provider> {
    let builder = io::Builder::default().with_receive_address((Ipv4Addr::LOCALHOST, 0).into())?;
    Ok(builder.with_recv_buffer_size(UDP_BUFFER)?.with_send_buffer_size(UDP_BUFFER)?.build()?)
}

async fn receive(server: tls::Server, address_is: mpsc::Sender<SocketAddr>, mut meter: Meter) -> Outcome<Meter> {
    let mut server = Server::builder().with_tls(server)?.with_io(udp()?)?.start()?;
    address_is.send(server.local_addr()?)?;
    let mut conn = server.accept().await.ok_or("no client connected")?;
    let mut stream = conn.accept_receive_stream().await?.ok_or("no stream")?;
    while let Some(chunk) = stream.receive().await? {
        meter.moved(chunk.len());
    }
    while let Ok(Some(_)) = conn.accept_receive_stream().await {}
    Ok(meter)
}

async fn send(client: tls::Client, address: SocketAddr, mut meter: Meter) -> Outcome<Meter> {
    let mut client = Client::builder().with_tls(client)?.with_io(udp()?)?.start()?;
    let mut conn = client.connect(Connect::new(address).with_server_name("localhost")).await?;
    let mut stream = conn.open_send_stream().await?;
    while meter.left() > 0 {
        let piece = next_piece(meter.left(), BATCH);
        stream.send(Bytes::from_static(piece)).await?;
        meter.moved(piece.len());
    }
    stream.close().await?;
    meter.finish();
    conn.close(0_u32.into());
    client.wait_idle().await?;
    Ok(meter)
}
