//! tokio-rustls, the way most programs use it.

use std::sync::mpsc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::bare::next_piece;
use super::{Job, SMALL, Sample, block_on, two_ends};
use crate::Outcome;
use crate::meter::Meter;
use crate::tls::{PROTOCOL, server_name};

/// Bulk transfer, 16 KiB at once.
pub fn run(job: &Job) -> Outcome<Sample> {
    let (client, server) = (job.tls.client(PROTOCOL)?, job.tls.server(PROTOCOL)?);
    let receive = |address_is: mpsc::Sender<_>, mut meter: Meter| {
        block_on(async move {
            let listener = TcpListener::bind("127.0.0.1:0").await?;
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
    two_ends(job, receive, |address, mut meter| {
        block_on(async move {
            let socket = TcpStream::connect(address).await?;
            socket.set_nodelay(true)?;
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
