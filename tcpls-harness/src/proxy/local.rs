//! Programs that ask a tunnel's client for connections: SOCKS version 5 and HTTP CONNECT on one port, told apart by their
//! first byte. A forward connects each of them to the same target.

use std::future::poll_fn;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::peer::Peer;
use super::refusal::Refusal;
use super::server::{Method, refusal_of, request_of};
use super::socks;
use super::splice::{Spliced, Splicing, splice};
use super::target::Target;
use super::tunnel::Tunnel;
use crate::http::HeadReader;
use crate::net::Runtime;

/// How long a program may take to say what it wants.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long a refused program may take to read the answer, and how much it may send meanwhile.
const FAREWELL: Duration = Duration::from_secs(1);
const MAX_UNREAD: u64 = 64 * 1024;
/// The first byte of SOCKS version 4.
const SOCKS_4: u8 = 4;

/// How the connection of a program went.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Served {
    /// The program left, or sent something that is no request.
    NoRequest,
    /// The request was refused, here or by the server.
    Refused(Option<Target>, Refusal),
    /// The connection was there. Sent are bytes to the target.
    Carried(Target, Spliced),
}

/// Reads what a program wants, as SOCKS version 5 or HTTP CONNECT, and carries its connection through the tunnel.
pub async fn serve_program<P: Peer>(runtime: &Runtime, tunnel: &Tunnel, mut program: P) -> Served {
    let Some(Some(asked)) = runtime.timeout(PATIENCE, ask(&mut program)).await else { return Served::NoRequest };
    let Asked { protocol, target, rest } = match asked {
        Ok(asked) => asked,
        Err((answer, refusal)) => {
            say_no(runtime, program, &answer).await;
            return Served::Refused(None, refusal);
        }
    };
    let granted = match protocol {
        Protocol::Socks => Bytes::copy_from_slice(&socks::granted()),
        Protocol::Http => Bytes::from_static(b"HTTP/1.1 200 Connection established\r\n\r\n"),
    };
    match carry(runtime, tunnel, program, &target, granted, rest).await {
        Ok(served) => served,
        Err((program, refusal)) => {
            let answer = match protocol {
                Protocol::Socks => socks::refused(refusal).to_vec(),
                // The program has no part in the credentials between client and server.
                Protocol::Http if is_of_credentials(refusal) => Refusal::Other.response(),
                Protocol::Http => refusal.response(),
            };
            say_no(runtime, program, &answer).await;
            Served::Refused(Some(target), refusal)
        }
    }
}

/// Whether a refusal is about the credentials between client and server.
fn is_of_credentials(refusal: Refusal) -> bool {
    matches!(refusal, Refusal::Credentials | Refusal::WrongTooOften { .. })
}

/// Carries a program's connection to `target` through the tunnel.
pub async fn serve_forward<P: Peer>(runtime: &Runtime, tunnel: &Tunnel, program: P, target: &Target) -> Served {
    match carry(runtime, tunnel, program, target, Bytes::new(), Bytes::new()).await {
        Ok(served) => served,
        Err((mut program, refusal)) => {
            program.abort(); // as if the target had refused the connection
            Served::Refused(Some(target.clone()), refusal)
        }
    }
}

/// Connects to the target, and carries the connection to its end. The program gets `first` once it is there; `rest` is what
/// it has sent already.
async fn carry<P: Peer>(
    runtime: &Runtime,
    tunnel: &Tunnel,
    mut program: P,
    target: &Target,
    first: Bytes,
    rest: Bytes,
) -> Result<Served, (P, Refusal)> {
    let connected = tokio::select! {
        biased;
        connected = tunnel.connect(target) => connected,
        () = poll_fn(|cx| program.poll_failed(cx)) => return Ok(Served::NoRequest),
    };
    let (stream, early) = match connected {
        Ok(connected) => connected,
        Err(refusal) => return Err((program, refusal)),
    };
    let splicing = Splicing::default().with(|splicing| {
        splicing.to_peer = if early.is_empty() { first } else { [first, early].concat().into() };
        splicing.to_stream = rest;
    });
    Ok(Served::Carried(target.clone(), splice(runtime, stream, program, splicing).await))
}

#[derive(Clone, Copy)]
enum Protocol {
    Socks,
    Http,
}

/// A request.
struct Asked {
    protocol: Protocol,
    target: Target,
    /// What was received behind it.
    rest: Bytes,
}

/// Reads a request; `None` if the program left. An error has the answer to the program.
async fn ask<P: Peer>(program: &mut P) -> Option<Result<Asked, (Vec<u8>, Refusal)>> {
    let mut buffer = BytesMut::new();
    more(program, &mut buffer).await?;
    match buffer[0] {
        socks::VERSION => ask_socks(program, buffer).await,
        SOCKS_4 => Some(Err((socks::REJECTED_V4.to_vec(), Refusal::Version))),
        _ => ask_http(program, buffer).await,
    }
}

async fn ask_socks<P: Peer>(program: &mut P, mut buffer: BytesMut) -> Option<Result<Asked, (Vec<u8>, Refusal)>> {
    loop {
        match socks::parse_greeting(&buffer) {
            Ok(Some((true, len))) => {
                buffer.advance(len);
                break;
            }
            Ok(Some((false, _))) => return Some(Err((socks::NO_METHOD.to_vec(), Refusal::Credentials))),
            Ok(None) => more(program, &mut buffer).await?,
            Err(_) => return None,
        }
    }
    program.write_all(&socks::METHOD).await.ok()?;
    program.flush().await.ok()?;
    loop {
        match socks::parse_request(&buffer) {
            Ok(Some((target, len))) => {
                buffer.advance(len);
                return Some(Ok(Asked { protocol: Protocol::Socks, target, rest: buffer.freeze() }));
            }
            Ok(None) => more(program, &mut buffer).await?,
            Err(error) => return Some(Err((error.reply()?.to_vec(), Refusal::BadRequest))),
        }
    }
}

async fn ask_http<P: Peer>(program: &mut P, mut buffer: BytesMut) -> Option<Result<Asked, (Vec<u8>, Refusal)>> {
    let mut reader = HeadReader::default();
    loop {
        let head = match reader.push(&buffer.split()) {
            Ok(Some(head)) => head,
            Ok(None) => {
                more(program, &mut buffer).await?;
                continue;
            }
            Err(bad) => return Some(Err((refusal_of(bad).response(), refusal_of(bad)))),
        };
        return Some(match request_of(&head) {
            Ok((Method::Listen, _)) => Err((Refusal::Method.response(), Refusal::Method)),
            Ok((Method::Connect, target)) => Ok(Asked { protocol: Protocol::Http, target, rest: reader.into_rest() }),
            Err(refusal) => Err((refusal.response(), refusal)),
        });
    }
}

/// Reads some bytes; `None` at the end.
async fn more<P: Peer>(program: &mut P, buffer: &mut BytesMut) -> Option<()> {
    buffer.reserve(1024);
    program.read_buf(buffer).await.ok().filter(|read| *read > 0).map(|_| ())
}

/// Sends the answer to a refused program. What it has sent is read for a moment: unread data would make the end a reset, and
/// the answer could be lost.
async fn say_no<P: Peer>(runtime: &Runtime, mut program: P, answer: &[u8]) {
    let saying = async {
        program.write_all(answer).await?;
        program.shutdown().await?;
        tokio::io::copy(&mut program.take(MAX_UNREAD), &mut tokio::io::sink()).await
    };
    _ = runtime.timeout(FAREWELL, saying).await;
}
