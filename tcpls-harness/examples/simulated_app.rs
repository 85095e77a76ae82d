//! One application, run twice: over real sockets on loopback, and in a simulation in which one of two paths fails.
//!
//! The application is a server that answers with a checksum of what it was sent, and a client that sends. Both name nothing
//! but `Session`, its streams and its `Runtime`.
//!
//! ```sh
//! cargo run -p tcpls-harness --example simulated_app
//! ```

use std::error::Error;
use std::time::Duration;

use tcpls_harness::net::{ClientOptions, Listener, ServerOptions, Session};
use tcpls_harness::sim::Simulation;
use tcpls_harness::sim::scenario::{Fault, FaultKind, Path};
use tcpls_harness::tls::{Identity, Trust};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

/// The server: reads each stream to its end, and answers with a checksum.
async fn serve(session: Session) -> Outcome<()> {
    while let Some(mut stream) = session.accept_stream().await {
        let mut received = Vec::new();
        stream.read_to_end(&mut received).await?;
        stream.write_u64(checksum(&received)).await?;
        stream.shutdown().await?;
    }
    Ok(())
}

/// The client: sends 3 MB with pauses, and returns the server's answer.
async fn send(session: Session) -> Outcome<u64> {
    let runtime = session.runtime();
    let mut stream = session.open_stream().await?;
    for piece in 0..30_u8 {
        stream.write_all(&[piece; 100_000]).await?;
        runtime.sleep(Duration::from_millis(10)).await;
    }
    stream.send().finish()?;
    let sum = stream.read_u64().await?;
    session.close(Default::default(), b"done").await;
    Ok(sum)
}

fn checksum(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |sum, byte| sum * 31 % 1_000_000_007 + u64::from(*byte))
}

/// Over two TCP connections on loopback.
#[tokio::main]
async fn over_sockets() -> Outcome<u64> {
    let identity = Identity::self_signed(&["localhost"])?;
    let any = ["127.0.0.1:0".parse()?, "127.0.0.1:0".parse()?];
    let mut listener = Listener::bind(&any, ServerOptions::new(identity.server(&[b"sum"])?))?;
    let addresses = listener.local_addresses().to_vec();
    let server = tokio::spawn(async move { serve(listener.accept().await).await });
    let tls = Trust::Pem(identity.certificate_pem().to_owned()).client(&[b"sum"])?;
    let sum = send(Session::connect(&addresses, ClientOptions::new(tls, "localhost".try_into()?)).await?).await?;
    server.await??;
    Ok(sum)
}

/// Over two simulated paths: from 150 ms on, nothing gets through on one of them.
fn in_simulation(seed: u64) -> Outcome<u64> {
    let (sender, result) = std::sync::mpsc::channel();
    let report = Simulation::new(seed)
        .path(Path::new("wifi").rate(50_000_000).delay(Duration::from_millis(5)))
        .path(Path::new("mobile").rate(20_000_000).delay(Duration::from_millis(30)))
        .fault(Fault::new(FaultKind::BlackHole, Duration::from_millis(150)).on("wifi"))
        .server(serve)
        .client(async move |session| Outcome::Ok(sender.send(send(session).await?)?))
        .run()?;
    println!("simulated: over after {:.3} s of virtual time", report.ended);
    Ok(result.recv()?)
}

fn main() -> Outcome<()> {
    let real = over_sockets()?;
    let simulated = in_simulation(1)?;
    println!("checksum over sockets: {real}, in the simulation: {simulated}");
    assert_eq!(real, simulated);
    Ok(())
}

#[test]
fn application_has_the_same_result_over_sockets_and_simulated() {
    main().unwrap();
}
