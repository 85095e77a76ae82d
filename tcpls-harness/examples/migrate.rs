//! A download moves from one address of the server to another while it runs, and not a byte is lost: the server advertises where
//! it can be reached next, the client joins a TCP connection there and leaves the old one.
//!
//! ```sh
//! cargo run -p tcpls-harness --example migrate
//! ```

use std::error::Error;
use std::net::SocketAddr;

use tcpls_harness::core::{ConnectionId, Event, TcpEvent};
use tcpls_harness::dial::Keep;
use tcpls_harness::net::{ClientOptions, Listener, ServerOptions, Session};
use tcpls_harness::tls::{Identity, Trust};
use tokio::io::AsyncWriteExt;

const PROTOCOL: &[u8] = b"download";
/// Bytes that are downloaded.
const SIZE: usize = 16 << 20;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let identity = Identity::self_signed(&["localhost"])?;
    let any: SocketAddr = "127.0.0.1:0".parse()?;
    let listener = Listener::bind(&[any, any], ServerOptions::new(identity.server(&[PROTOCOL])?))?;
    let (old, new) = (listener.local_addresses()[0], listener.local_addresses()[1]);
    let serving = tokio::spawn(serve(listener, new));

    let tls = Trust::Pem(identity.certificate_pem().to_owned()).client(&[PROTOCOL])?;
    let mut options = ClientOptions::new(tls, "localhost".try_into()?);
    options.dial.keep = Keep::Nothing; // this application decides itself when to join and to leave
    let session = Session::connect(&[old], options).await?;
    let mut events = session.events();
    let mut stream = session.open_stream().await?;
    stream.write_all(b"all of it").await?;
    stream.shutdown().await?;

    let (mut received, mut is_moving) = (0, false);
    loop {
        tokio::select! {
            chunk = stream.read_chunk(64 << 10) => match chunk? {
                Some(bytes) => received += bytes.len(),
                None => break,
            },
            Some(event) = events.next() => match event {
                Event::AddressAdvertised { address, .. } if !is_moving => {
                    is_moving = true;
                    let joined = session.add_tcp(address, None).await?;
                    println!("after {received} bytes: joined TCP connection {} to {address}", joined.0);
                    // What it carries is waited for; nothing new is sent on it.
                    session.retire_tcp(ConnectionId::FIRST)?;
                }
                _ => {}
            },
        }
    }
    println!("{received} bytes received");
    assert_eq!(received, SIZE);
    while session.tcp_connections().contains(&ConnectionId::FIRST) {
        if let Some(Event::Tcp(TcpEvent::Lost { tcp, fault })) = events.next().await {
            println!("TCP connection {} is gone: {fault}", tcp.0);
        }
    }
    session.close(Default::default(), b"").await;
    serving.abort();
    Ok(())
}

/// Answers each stream with [`SIZE`] bytes, and says at once where else it can be reached.
async fn serve(mut listener: Listener, elsewhere: SocketAddr) {
    loop {
        let session = listener.accept().await;
        tokio::spawn(async move {
            if session.advertise(elsewhere).is_err() {
                return; // closed already
            }
            while let Some(mut stream) = session.accept_stream().await {
                tokio::spawn(async move {
                    // An error is a client that has gone: there is nothing else to do for it.
                    if stream.write_all(&vec![7; SIZE]).await.is_ok() {
                        _ = stream.shutdown().await;
                    }
                });
            }
        });
    }
}

#[test]
fn download_moves() {
    main().unwrap();
}
