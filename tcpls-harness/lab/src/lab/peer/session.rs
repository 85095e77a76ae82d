//! Uploads over TCPLS: one stream from the client, and a byte back once all of it has arrived.

use bytes::Bytes;
use tcpls_core::error::code;
use tcpls_harness::net::{ClientOptions, Listener, ServerOptions, Session};
use tcpls_harness::tls::{Identity, Trust};

use super::{Args, Direction, LISTENING, READY, Receiver};
use crate::lab::Outcome;

const PROTOCOL: &[u8] = b"lab";
const CHUNK: usize = 256 * 1024;

/// Receives the file of the first client.
pub(super) fn serve(args: &Args) -> Outcome {
    run(args, async {
        let identity = Identity::self_signed(&["localhost".to_owned()])?;
        std::fs::write(&args.certificate, identity.certificate_pem())?;
        let mut listener = Listener::bind(&args.address, ServerOptions::new(identity.server(&[PROTOCOL])?))?;
        println!("{LISTENING}");
        let session = listener.accept().await;
        let mut stream = session.accept_stream().await.ok_or("the session ended without a stream")?;
        let mut receiver = Receiver::new(args)?;
        while let Some(chunk) = stream.read_chunk(usize::MAX).await? {
            receiver.take(&chunk)?;
        }
        receiver.check()?;
        stream.write_chunk(Bytes::from_static(&[READY])).await?;
        stream.finish()?;
        session.closed().await;
        Ok(())
    })
}

/// Sends the file over all addresses.
pub(super) fn connect(args: &Args) -> Outcome {
    run(args, async {
        let tls = Trust::File(args.certificate.clone()).client(&[PROTOCOL])?;
        let options = ClientOptions::new(tls, "localhost".try_into()?);
        let session = Session::connect(&args.address, options).await?;
        let mut file = Bytes::from(std::fs::read(&args.file)?);
        let mut stream = session.open_stream().await?;
        while !file.is_empty() {
            stream.write_chunk(file.split_to(CHUNK.min(file.len()))).await?;
        }
        stream.finish()?;
        let answer = stream.read_chunk(usize::MAX).await?;
        session.close(code::NO_ERROR, b"").await;
        if answer.as_deref() == Some(&[READY]) { Ok(()) } else { Err("the server did not say that it has all".into()) }
    })
}

fn run(args: &Args, work: impl Future<Output = Outcome>) -> Outcome {
    if args.direction != Direction::Up {
        return Err("downloads over TCPLS are for the tcpls command".into());
    }
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?.block_on(work)
}
