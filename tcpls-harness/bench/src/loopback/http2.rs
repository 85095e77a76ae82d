//! HTTP/2: POST requests of the h2 crate on tokio-rustls, with windows as large as ours.

use std::future::poll_fn;
use std::sync::mpsc;

use bytes::Bytes;
use h2::{RecvStream, SendStream};
use http::{Request, Response};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::bare::next_piece;
use super::tcpls::Shared;
use super::{BATCH, Job, Sample, block_on, two_ends};
use crate::Outcome;
use crate::meter::Meter;
use crate::tls::server_name;

const WINDOW: u32 = 16 << 20;
const SESSION_WINDOW: u32 = 32 << 20;
const PROTOCOL: &[u8] = b"h2";

/// One request.
pub fn one(job: &Job) -> Outcome<Sample> {
    run(job, 1)
}

/// 100 requests at once.
pub fn hundred_streams(job: &Job) -> Outcome<Sample> {
    run(job, 100)
}

fn run(job: &Job, streams: u32) -> Outcome<Sample> {
    let (client, server) = (job.tls.client(PROTOCOL)?, job.tls.server(PROTOCOL)?);
    let receive = |address_is: mpsc::Sender<_>, meter: Meter| {
        block_on(async move {
            let listener = TcpListener::bind("127.0.0.1:0").await?;
            address_is.send(listener.local_addr()?)?;
            let (socket, _) = listener.accept().await?;
            socket.set_nodelay(true)?;
            let tls = TlsAcceptor::from(server).accept(socket).await?;
            let mut builder = h2::server::Builder::new();
            builder.initial_window_size(WINDOW).initial_connection_window_size(SESSION_WINDOW).max_frame_size(16_384);
            let mut conn: h2::server::Connection<_, Bytes> = builder.handshake(tls).await?;
            let meter = Shared::new(meter);
            let mut tasks = JoinSet::new();
            while let Some(request) = conn.accept().await {
                let (request, mut respond) = request?;
                let meter = meter.clone();
                tasks.spawn(async move {
                    read(request.into_body(), &meter).await?;
                    respond.send_response(Response::new(()), true)?;
                    Ok::<(), crate::Failure>(())
                });
            }
            while let Some(ended) = tasks.join_next().await {
                ended??;
            }
            meter.take()
        })
    };
    two_ends(job, receive, |address, meter: Meter| {
        block_on(async move {
            let socket = TcpStream::connect(address).await?;
            socket.set_nodelay(true)?;
            let tls = TlsConnector::from(client).connect(server_name(), socket).await?;
            let mut builder = h2::client::Builder::new();
            builder.max_send_buffer_size(BATCH);
            let (requests, conn) = builder.handshake(tls).await?;
            let conn = tokio::spawn(conn);
            let (share, rest) = (meter.left() / u64::from(streams), meter.left() % u64::from(streams));
            let meter = Shared::new(meter);
            let mut tasks = JoinSet::new();
            for index in 0..streams {
                let bytes = share + if index == 0 { rest } else { 0 };
                let mut requests = requests.clone().ready().await?;
                let request = Request::post("https://localhost/").body(())?;
                let (response, body) = requests.send_request(request, false)?;
                let meter = meter.clone();
                tasks.spawn(async move {
                    write(body, bytes, &meter).await?;
                    response.await?;
                    Ok::<(), crate::Failure>(())
                });
            }
            while let Some(ended) = tasks.join_next().await {
                ended??;
            }
            drop(requests);
            conn.await??;
            let mut meter = meter.take()?;
            meter.finish();
            Ok(meter)
        })
    })
}

async fn read(mut body: RecvStream, meter: &Shared) -> Outcome {
    while let Some(chunk) = body.data().await {
        let len = chunk?.len();
        body.flow_control().release_capacity(len)?;
        meter.with(|meter| meter.moved(len));
    }
    Ok(())
}

/// h2 takes what there is capacity for.
async fn write(mut body: SendStream<Bytes>, mut left: u64, meter: &Shared) -> Outcome {
    while left > 0 {
        body.reserve_capacity(next_piece(left, BATCH).len());
        let room = poll_fn(|cx| body.poll_capacity(cx)).await.ok_or("the stream is closed")??;
        let piece = next_piece(left, room.min(BATCH));
        left -= piece.len() as u64;
        body.send_data(Bytes::from_static(piece), left == 0)?;
        meter.with(|meter| meter.moved(piece.len()));
    }
    Ok(())
}
