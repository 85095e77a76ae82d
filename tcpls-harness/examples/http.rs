//! HTTP/1.1 and HTTP/2 with hyper over TCPLS streams: a download completes although a TCP connection is reset in the middle of
//! the response body. hyper notices nothing, and no request is repeated.
//!
//! A stream of a session takes the place of a TCP connection with TLS. ALPN selects the version of HTTP as it does there, so
//! this server also serves clients that speak only TLS.
//!
//! ```sh
//! cargo run -p tcpls-harness --example http
//! ```

use std::convert::Infallible;
use std::error::Error;
use std::net::SocketAddr;

use http_body_util::{BodyExt, Empty, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tcpls_harness::core::{ConnectionId, Event, TcpEvent};
use tcpls_harness::net::{ClientOptions, Listener, ServerOptions, Session};
use tcpls_harness::tls::{Identity, Trust};

const HTTP_1: &[u8] = b"http/1.1";
const HTTP_2: &[u8] = b"h2";
/// Bytes of the response body.
const SIZE: usize = 16 << 20;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let identity = Identity::self_signed(&["localhost"])?;
    let any: SocketAddr = "127.0.0.1:0".parse()?;
    let listener = Listener::bind(&[any, any], ServerOptions::new(identity.server(&[HTTP_2, HTTP_1])?))?;
    let addresses = listener.local_addresses().to_vec();
    let serving = tokio::spawn(serve(listener));

    for protocol in [HTTP_1, HTTP_2] {
        let tls = Trust::Pem(identity.certificate_pem().to_owned()).client(&[protocol])?;
        let session = Session::connect(&addresses, ClientOptions::new(tls, "localhost".try_into()?)).await?;
        let mut events = session.events();
        while session.tcp_connections().len() < 2 {
            events.next().await.ok_or("the session ended")?;
        }

        let mut response = get(&session, protocol).await?.into_body();
        let (mut body, mut is_reset) = (Vec::new(), false);
        while let Some(frame) = response.frame().await {
            body.extend_from_slice(frame?.data_ref().map_or(&[], |data| data));
            if body.len() > SIZE / 4 && !is_reset {
                is_reset = true;
                session.reset_tcp(ConnectionId::FIRST);
                while session.tcp_connections().contains(&ConnectionId::FIRST) {
                    if let Some(Event::Tcp(TcpEvent::Lost { tcp, fault })) = events.next().await {
                        println!("after {} bytes: TCP connection {} lost: {fault}", body.len(), tcp.0);
                    }
                }
            }
        }
        assert!(is_reset, "the body ended before a TCP connection was reset");
        assert!(body == content(), "the body is incomplete or wrong");
        println!("{}: {} bytes received in one response", String::from_utf8_lossy(protocol), body.len());
        session.close(Default::default(), b"").await;
    }
    serving.abort();
    Ok(())
}

/// Sends a request on a stream of its own, as an HTTP connection of its own, and returns the head of the response.
async fn get(session: &Session, protocol: &[u8]) -> Result<Response<Incoming>, Box<dyn Error>> {
    let request = Request::get("https://localhost/file").header("host", "localhost").body(Empty::<Bytes>::new())?;
    let io = TokioIo::new(session.open_stream().await?);
    if protocol == HTTP_2 {
        let (mut http, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await?;
        tokio::spawn(connection);
        Ok(http.send_request(request).await?)
    } else {
        let (mut http, connection) = hyper::client::conn::http1::handshake(io).await?;
        tokio::spawn(connection);
        Ok(http.send_request(request).await?)
    }
}

/// Serves all sessions: each of their streams is an HTTP connection. Never returns.
async fn serve(mut listener: Listener) {
    loop {
        let session = listener.accept().await;
        tokio::spawn(async move {
            let protocol = session.established().and_then(|established| established.application_protocol);
            let is_http_2 = protocol.as_deref() == Some(HTTP_2);
            while let Some(stream) = session.accept_stream().await {
                let io = TokioIo::new(stream);
                tokio::spawn(async move {
                    // An error is a client that has gone.
                    if is_http_2 {
                        let http = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                        _ = http.serve_connection(io, service_fn(answer)).await;
                    } else {
                        let http = hyper::server::conn::http1::Builder::new();
                        _ = http.serve_connection(io, service_fn(answer)).await;
                    }
                });
            }
        });
    }
}

async fn answer(_: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    Ok(Response::new(Full::from(content())))
}

/// What is downloaded; no part of it equals the part that follows.
fn content() -> Vec<u8> {
    (0..SIZE / 4).flat_map(|index| (index as u32).to_be_bytes()).collect()
}

#[test]
fn response_body_survives_reset() {
    main().unwrap();
}
