//! An echo server and a client of it in one process: certificates on both sides, two TCP connections, one stream.
//!
//! ```sh
//! cargo run -p tcpls-harness --example echo
//! ```

use std::error::Error;
use std::net::SocketAddr;

use tcpls_harness::core::{Event, TcpEvent};
use tcpls_harness::net::{ClientOptions, Listener, ServerOptions, Session};
use tcpls_harness::tls::{Identity, Trust};
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy};

/// The application protocol (ALPN) that both ends speak.
const PROTOCOL: &[u8] = b"echo";

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let (server, client) = (Identity::self_signed(&["localhost"])?, Identity::self_signed(&["client"])?);
    // A deployment has these as files. The server accepts clients with a certificate in, or issued by one in, this file.
    let clients = std::env::temp_dir().join(format!("tcpls-echo-clients-{}.pem", std::process::id()));
    std::fs::write(&clients, client.certificate_pem())?;
    let server_tls = server.server_for(&[PROTOCOL], Some(&clients));
    std::fs::remove_file(&clients)?;

    let any: SocketAddr = "127.0.0.1:0".parse()?;
    let listener = Listener::bind(&[any, any], ServerOptions::new(server_tls?))?;
    let addresses = listener.local_addresses().to_vec();
    let serving = tokio::spawn(serve(listener));

    let tls = Trust::Pem(server.certificate_pem().to_owned()).client_as(&[PROTOCOL], Some(&client))?;
    let options = ClientOptions::new(tls, "localhost".try_into()?);
    // By default the client keeps a TCP connection to each address, and dials again what is lost.
    let session = Session::connect(&addresses, options).await?;
    let mut events = session.events();
    while session.tcp_connections().len() < 2 {
        if let Some(Event::Tcp(TcpEvent::Joined { tcp })) = events.next().await {
            println!("client: TCP connection {} joined", tcp.0);
        }
    }

    let mut stream = session.open_stream().await?;
    stream.write_all(b"hello over two TCP connections").await?;
    stream.shutdown().await?; // the end of what is sent; the other direction stays open
    let mut echo = String::new();
    stream.read_to_string(&mut echo).await?;
    println!("client: {echo}");
    assert_eq!(echo, "hello over two TCP connections");

    let closed = session.close(Default::default(), b"").await;
    println!("client: {}", closed.reason);
    serving.abort();
    Ok(())
}

/// Serves all sessions. Returns never.
async fn serve(mut listener: Listener) {
    loop {
        let session = listener.accept().await;
        // The certificate was verified in the handshake; which of the clients it is, the application decides.
        println!("server: a client with a certificate of {} bytes", session.peer_certificates()[0].len());
        tokio::spawn(async move {
            while let Some(stream) = session.accept_stream().await {
                tokio::spawn(async move {
                    let (mut send, mut recv) = stream.split();
                    // An error is a stream that was cut short: the client does not wait for the rest.
                    if copy(&mut recv, &mut send).await.is_ok() {
                        _ = send.shutdown().await;
                    }
                });
            }
        });
    }
}

#[test]
fn echo_arrives() {
    main().unwrap();
}
