//! HTTP/2 over TLS: a POST request for each stream, of the h2 crate on tokio-rustls, with windows as large as ours. The crate
//! has no priorities.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use h2::client::{ResponseFuture, SendRequest};
use http::{Request, Response};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::conn::{Conn, Duplex};
use super::peer::{Args, Server};
use crate::lab::{Outcome, peer};

const PROTOCOL: &[u8] = b"h2";
/// Of a stream and of the connection, in bytes.
const WINDOW: u32 = 16 << 20;
const CONNECTION_WINDOW: u32 = 32 << 20;

pub(super) async fn serve(args: &Args, server: Server) -> Outcome {
    let mut config = peer::server_config(&args.certificate)?;
    config.alpn_protocols = vec![PROTOCOL.to_vec()];
    let tls = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind(args.address[0]).await?;
    server.listens();
    loop {
        let (socket, _) = listener.accept().await?;
        socket.set_nodelay(true)?;
        let socket = tls.accept(socket).await?;
        let mut builder = h2::server::Builder::new();
        builder.initial_window_size(WINDOW).initial_connection_window_size(CONNECTION_WINDOW);
        let mut conn = builder.handshake(socket).await?;
        let server = server.clone();
        tokio::spawn(async move {
            while let Some(Ok((request, mut respond))) = conn.accept().await {
                let Ok(send) = respond.send_response(Response::new(()), false) else { break };
                server.answer(Stream { send, recv: Body::Here(request.into_body()), rest: Bytes::new() });
            }
        });
    }
}

pub(super) async fn connect(args: &Args) -> Outcome<Requests> {
    let mut config = peer::client_config(&args.certificate)?;
    config.alpn_protocols = vec![PROTOCOL.to_vec()];
    let socket = TcpStream::connect(args.address[0]).await?;
    socket.set_nodelay(true)?;
    let name = ServerName::try_from("localhost")?;
    let socket = TlsConnector::from(Arc::new(config)).connect(name, socket).await?;
    let mut builder = h2::client::Builder::new();
    builder.initial_window_size(WINDOW).initial_connection_window_size(CONNECTION_WINDOW);
    let (requests, conn) = builder.handshake(socket).await?;
    tokio::spawn(conn);
    Ok(Requests(requests))
}

#[derive(Clone)]
pub(super) struct Requests(SendRequest<Bytes>);

impl Conn for Requests {
    type Stream = Stream;

    async fn open(&self) -> Outcome<Stream> {
        let mut requests = self.0.clone().ready().await?;
        let request = Request::post("https://localhost/").body(())?;
        let (response, send) = requests.send_request(request, false)?;
        Ok(Stream { send, recv: Body::Awaited(response), rest: Bytes::new() })
    }
}

/// A request and its response.
pub(super) struct Stream {
    send: h2::SendStream<Bytes>,
    recv: Body,
    /// Of the last chunk that was received.
    rest: Bytes,
}

enum Body {
    Awaited(ResponseFuture),
    Here(h2::RecvStream),
}

impl Duplex for Stream {}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if let Body::Awaited(response) = &mut this.recv {
            let response = ready!(Pin::new(response).poll(cx)).map_err(io::Error::other)?;
            this.recv = Body::Here(response.into_body());
        }
        let Body::Here(body) = &mut this.recv else { return Poll::Pending };
        if this.rest.is_empty() {
            let Some(chunk) = ready!(body.poll_data(cx)) else { return Poll::Ready(Ok(())) };
            this.rest = chunk.map_err(io::Error::other)?;
            body.flow_control().release_capacity(this.rest.len()).map_err(io::Error::other)?;
        }
        let len = this.rest.len().min(buf.remaining());
        buf.put_slice(&this.rest[..len]);
        this.rest.advance(len);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        let send = &mut self.get_mut().send;
        send.reserve_capacity(data.len());
        while send.capacity() == 0 {
            match ready!(send.poll_capacity(cx)) {
                Some(capacity) => _ = capacity.map_err(io::Error::other)?,
                None => return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
            }
        }
        let len = data.len().min(send.capacity());
        send.send_data(Bytes::copy_from_slice(&data[..len]), false).map_err(io::Error::other)?;
        Poll::Ready(Ok(len))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.get_mut().send.send_data(Bytes::new(), true).map_err(io::Error::other))
    }
}
