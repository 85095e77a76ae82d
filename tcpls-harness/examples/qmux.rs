//! QUIC's API over several TCP connections: the `qmux` crate, unchanged, on one TCPLS stream. Streams of both kinds and a
//! datagram; a TCP connection is reset while four downloads run, and no byte is lost.
//!
//! QMux needs a reliable, ordered byte stream, which is what a TCPLS stream is. What is written for QUIC on the traits of
//! `web-transport-trait` runs on it. All its streams share the order of that one stream: a record that waits for a lost packet
//! holds up all of them.
//!
//! ```sh
//! cargo run -p tcpls-harness --example qmux
//! ```

use std::convert::Infallible;
use std::error::Error;
use std::net::SocketAddr;

use qmux::transport::Stream;
use tcpls_harness::core::ConnectionId;
use tcpls_harness::net::{ClientOptions, Listener, ServerOptions, Session};
use tcpls_harness::tls::{Identity, Trust};
use tokio::task::JoinSet;
use web_transport_trait::{RecvStream as _, SendStream as _, Session as _};

/// The application protocol (ALPN) that both ends speak.
const PROTOCOL: &[u8] = b"qmux-02";
/// Bytes of each download.
const SIZE: usize = 4 << 20;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let identity = Identity::self_signed(&["localhost"])?;
    let any: SocketAddr = "127.0.0.1:0".parse()?;
    let listener = Listener::bind(&[any, any], ServerOptions::new(identity.server(&[PROTOCOL])?))?;
    let addresses = listener.local_addresses().to_vec();
    let serving = tokio::spawn(serve(listener));

    let tls = Trust::Pem(identity.certificate_pem().to_owned()).client(&[PROTOCOL])?;
    let session = Session::connect(&addresses, ClientOptions::new(tls, "localhost".try_into()?)).await?;
    let mut events = session.events();
    while session.tcp_connections().len() < 2 {
        events.next().await.ok_or("the session ended")?;
    }

    let config = config();
    let stream = Stream::new(session.open_stream().await?, config.version, config.max_record_size);
    let quic = qmux::Session::connect(stream, config).await?;

    let greeting = quic.accept_uni().await?.read_all().await?;
    println!("unidirectional stream: {}", String::from_utf8_lossy(&greeting));
    quic.send_datagram("marco".into())?;
    println!("datagram: {}", String::from_utf8_lossy(&quic.recv_datagram().await?));

    let mut downloads = JoinSet::new();
    for number in 1..4 {
        downloads.spawn(download(quic.clone(), number, std::future::ready(())));
    }
    let reset = async {
        session.reset_tcp(ConnectionId::FIRST);
        while session.tcp_connections().contains(&ConnectionId::FIRST) {
            events.next().await;
        }
        println!("TCP connection 0 was reset");
    };
    download(quic.clone(), 0, reset).await?;
    while let Some(done) = downloads.join_next().await {
        done??;
    }

    quic.close(0, "done");
    println!("session: {}", session.closed().await); // by the server, which has read the end of the QMux session
    serving.abort();
    Ok(())
}

/// Downloads over a bidirectional stream, and waits for `interruption` in the middle.
async fn download(quic: qmux::Session, number: u8, interruption: impl Future<Output = ()>) -> Result<(), qmux::Error> {
    let mut interruption = Some(interruption);
    let (mut send, mut recv) = quic.open_bi().await?;
    send.write_all(&[number]).await?;
    send.finish()?;
    let mut received = Vec::new();
    while let Some(piece) = recv.read_chunk(64 << 10).await? {
        received.extend_from_slice(&piece);
        if received.len() > SIZE / 2
            && let Some(interruption) = interruption.take()
        {
            interruption.await;
        }
    }
    assert!(received == vec![number; SIZE], "the download is incomplete or wrong");
    println!("bidirectional stream: download {number} complete");
    Ok(())
}

/// TLS negotiated the application protocol; windows and limits are QMux's defaults.
fn config() -> qmux::Config {
    qmux::Config::negotiated(qmux::Version::QMux02, None)
}

/// Serves all sessions: the first stream of each is a QMux session. Never returns.
async fn serve(mut listener: Listener) {
    loop {
        let session = listener.accept().await;
        tokio::spawn(async move {
            let Some(stream) = session.accept_stream().await else { return };
            let ended = serve_quic(stream).await;
            println!("server: QMux session: {}", ended.expect_err("it is served until it ends"));
            session.close(Default::default(), b"").await;
        });
    }
}

/// Greets on a unidirectional stream, and answers datagrams and bidirectional streams until the session ends.
async fn serve_quic(stream: tcpls_harness::net::Stream) -> Result<Infallible, qmux::Error> {
    let config = config();
    let stream = Stream::new(stream, config.version, config.max_record_size);
    let quic = qmux::Session::accept(stream, config).await?;
    let mut greeting = quic.open_uni().await?;
    greeting.write_all(b"hello").await?;
    greeting.finish()?;
    loop {
        tokio::select! {
            datagram = quic.recv_datagram() => {
                datagram?;
                quic.send_datagram("polo".into())?;
            }
            stream = quic.accept_bi() => {
                let (mut send, mut recv) = stream?;
                tokio::spawn(async move {
                    let request = recv.read_all().await?;
                    send.write_all(&vec![request[0]; SIZE]).await?;
                    send.finish()
                });
            }
        }
    }
}

#[test]
fn downloads_survive_reset() {
    main().unwrap();
}
