//! `tcpls perf server`.

use std::net::SocketAddr;

use bytes::Bytes;
use serde::Serialize;
use tcpls_core::error::{ReadError, WriteError};
use tokio::task::JoinSet;

use super::{CHUNK, PROTOCOL};
use crate::cli::listen::ListenArgs;
use crate::cli::record::RecordArgs;
use crate::cli::server::Sessions;
use crate::cli::signals::{Signal, Signals};
use crate::cli::{Outcome, output, report};
use crate::files::codes;
use crate::net::{RecvStream, SendStream, ServerOptions, Session, Stream};
use crate::tls::Identity;

/// Wait for clients that measure
///
/// The certificate is made on the spot: clients need --insecure. What is sent are zeros.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Where to listen.
    #[command(flatten)]
    listen: ListenArgs,
    /// The recording.
    #[command(flatten)]
    record: RecordArgs,
    /// Print the addresses as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Listening<'a> {
    addresses: &'a [SocketAddr],
}

/// Serves until SIGINT or SIGTERM, then closes the sessions. SIGHUP changes nothing: there is no file to read again.
pub(super) async fn run(args: Args) -> Outcome {
    report::or_error(serve(&args).await, args.json)
}

async fn serve(args: &Args) -> Outcome {
    let mut signals = Signals::listen()?;
    let identity = Identity::self_signed(&["localhost".to_owned()])?;
    let mut options = ServerOptions::new(identity.server(&[PROTOCOL])?);
    args.listen.apply(&mut options);
    options.record = args.record.start()?;
    let mut listener = args.listen.prepare()?.bind(options)?;
    let addresses = listener.local_addresses();
    if args.json {
        output::event(&Listening { addresses });
    } else {
        addresses.iter().for_each(|address| output::tell(format_args!("listening on {address}")));
    }
    let mut sessions = Sessions::new(codes::STOPPING);
    loop {
        tokio::select! {
            session = listener.accept() => {
                listener.advertise(&session);
                sessions.serve(session.clone(), serve_session(session));
            }
            () = sessions.ended() => {}
            signal = signals.next() => if signal != Signal::Hangup { break },
        }
    }
    signals.end_at_next();
    sessions.stop().await;
    Ok(())
}

async fn serve_session(session: Session) {
    let mut streams = JoinSet::new();
    loop {
        tokio::select! {
            stream = session.accept_stream() => match stream {
                Some(stream) => _ = streams.spawn(answer(stream)),
                None => return,
            },
            Some(_) = streams.join_next() => {}
        }
    }
}

/// Errors of a stream are ignored: the client counts its bytes.
async fn answer(stream: Stream) {
    let (mut send, mut recv) = stream.split();
    if let Ok(Some(len)) = read_request(&mut recv).await {
        _ = send_zeros(&mut send, len).await;
    }
}

/// Reads to the end; returns the requested number of bytes, if there was one.
async fn read_request(recv: &mut RecvStream) -> Result<Option<u64>, ReadError> {
    let mut wanted = Vec::with_capacity(8);
    while let Some(chunk) = recv.read_chunk(usize::MAX).await? {
        let missing = 8 - wanted.len();
        wanted.extend_from_slice(chunk.get(..missing.min(chunk.len())).unwrap_or_default());
    }
    Ok(<[u8; 8]>::try_from(wanted).ok().map(u64::from_be_bytes))
}

/// Sends `len` zeros and the end.
pub(super) async fn send_zeros(send: &mut SendStream, mut len: u64) -> Result<(), WriteError> {
    static ZEROS: [u8; CHUNK] = [0; CHUNK];
    while len > 0 {
        let piece = usize::try_from(len).unwrap_or(CHUNK).min(CHUNK);
        send.write_chunk(Bytes::from_static(&ZEROS[..piece])).await?;
        len -= piece as u64;
    }
    send.finish()
}
