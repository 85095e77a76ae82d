use bytes::Bytes;
use std::net::SocketAddr;
use tcpls_core::wire::ids::*;
use tcpls_harness::net::*;
use tcpls_harness::tls::*;

async fn pair() -> (Session, Session, Listener) {
    let id = Identity::self_signed(&["localhost".into()]).unwrap();
    let a: SocketAddr = "127.0.0.1:0".parse().unwrap();
    let mut listener = Listener::bind(&[a, a], ServerOptions::new(id.server(&[b"t"]).unwrap())).unwrap();
    let tls = Trust::Pem(id.certificate_pem().to_owned()).client(&[b"t"]).unwrap();
    let addresses = [listener.local_addresses()[0]];
    let (client, server) = tokio::join!(
        Session::connect(&addresses, ClientOptions::new(tls, "localhost".try_into().unwrap())),
        listener.accept()
    );
    (client.unwrap(), server, listener)
}

#[tokio::test]
async fn hello() {
    let (client, server, listener) = pair().await;
    eprintln!("{:?} {:?}", client.established(), server);
    let mut events = client.events();
    if client.tokens() == 0 {
        while !matches!(events.next().await, Some(tcpls_core::event::Event::TokensAvailable { .. })) {}
    }
    eprintln!("tokens {}", client.tokens());
    let second = client.add_tcp(listener.local_addresses()[1], None).await.unwrap();
    let mut s = client.open_stream().await.unwrap();
    s.write_chunk(Bytes::from_static(b"hello")).await.unwrap();
    s.finish().unwrap();
    let mut t = server.accept_stream().await.unwrap();
    assert_eq!(t.read_chunk(100).await.unwrap().unwrap(), "hello");
    assert_eq!(t.read_chunk(100).await.unwrap(), None);
    let sender = tokio::spawn(async move {
        for i in 0..1000u32 {
            t.write_chunk(Bytes::from(vec![i as u8; 100_000])).await.unwrap();
        }
        t.finish().unwrap();
    });
    let start = std::time::Instant::now();
    let mut n = 0;
    let mut cut = false;
    while let Some(c) = s.read_chunk(usize::MAX).await.unwrap() {
        for (i, b) in c.iter().enumerate() {
            assert_eq!(*b, ((n + i) / 100_000) as u8);
        }
        n += c.len();
        if n > 50_000_000 && !cut {
            cut = true;
            client.reset_tcp(ConnectionId(0));
        }
    }
    assert_eq!(n, 100_000_000);
    eprintln!("{:?} {:?}", start.elapsed(), second);
    sender.await.unwrap();
    for t in client.stats().tcp {
        eprintln!("{t:?}");
    }
    eprintln!("{:?}", client.close(ErrorCode(0), b"bye").await);
    eprintln!("{:?} {:?}", server.closed().await, start.elapsed());
}
