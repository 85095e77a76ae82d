//! tokio-rustls, the way most programs use it; over TCP, and over MPTCP of the kernel.

use std::sync::mpsc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::bare::next_piece;
use super::{Job, SMALL, Sample, block_on, two_ends};
use crate::Outcome;
use crate::meter::Meter;
use crate::sockets::Transport;
use crate::tls::{PROTOCOL, server_name};

/// Bulk transfer over TCP, 16 KiB at once.
pub fn run(job: &Job) -> Outcome<Sample> {
    run_over(Transport::Tcp, job)
}

/// The same over MPTCP.
pub fn over_mptcp(job: &Job) -> Outcome<Sample> {
    run_over(Transport::Mptcp, job)
}

fn run_over(transport: Transport, job: &Job) -> Outcome<Sample> {
    let (client, server) = (job.tls.client(PROTOCOL)?, job.tls.server(PROTOCOL)?);
    let receive = move |address_is: mpsc::Sender<_>, mut meter: Meter| {
        block_on(async move {
            let listener = transport.listen()?;
            address_is.send(listener.local_addr()?)?;
            let (socket, _) = listener.accept().await?;
            socket.set_nodelay(true)?;
            let mut tls = TlsAcceptor::from(server).accept(socket).await?;
            let mut buffer = vec![0; SMALL];
            while meter.left() > 0 {
                match tls.read(&mut buffer).await? {
                    0 => break,
                    len => meter.moved(len),
                }
            }
            tls.shutdown().await?;
            Ok(meter)
        })
    };
    two_ends(job, receive, move |address, mut meter| {
        block_on(async move {
            let socket = transport.connect(address)?;
            let mut tls = TlsConnector::from(client).connect(server_name(), socket).await?;
            while meter.left() > 0 {
                let piece = next_piece(meter.left(), SMALL);
                tls.write_all(piece).await?;
                meter.moved(piece.len());
            }
            tls.flush().await?;
            while tls.read(&mut [0; 1024]).await? > 0 {}
            meter.finish();
            Ok(meter)
        })
    })
}
