//! Reads the header that a load balancer sends in front of a client's bytes.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::Duration;

use bytes::{Buf, BytesMut};
use tcpls_core::budget::Resource;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::sync::oneshot;

use super::failures::HandshakeFault;
use super::farm::TAG;
use crate::net::proxy_protocol::{self, Ends, Header};

/// What a header says.
pub(super) struct Taken {
    /// The ends of the client's TCP connection, if it names them.
    pub(super) ends: Option<Ends>,
    /// What another server of the farm added.
    pub(super) tag: Option<Vec<u8>>,
}

/// Takes the header from the start of `stream`; what was read behind it stays in `input`. It fails after `limit`, however
/// many bytes arrive, or if the TCP connection has to give way.
pub(super) async fn take(
    stream: &mut TcpStream,
    input: &mut BytesMut,
    in_the_way: &mut oneshot::Receiver<Resource>,
    limit: Duration,
) -> Result<Taken, HandshakeFault> {
    let mut sleep = pin!(tokio::time::sleep(limit));
    loop {
        match Header::parse(input) {
            Ok(Some(header)) => {
                let tag = input.get(..header.len).and_then(|bytes| proxy_protocol::field(bytes, TAG));
                let taken = Taken { ends: header.ends, tag: tag.map(<[u8]>::to_vec) };
                input.advance(header.len);
                return Ok(taken);
            }
            Ok(None) => {}
            Err(error) => return Err(HandshakeFault::ProxyHeader(error)),
        }
        input.reserve(512);
        let read: io::Result<usize> = {
            let mut read = pin!(stream.read_buf(input));
            poll_fn(|cx| {
                if let Poll::Ready(short) = Pin::new(&mut *in_the_way).poll(cx) {
                    return Poll::Ready(Err(HandshakeFault::Evicted(short.unwrap_or(Resource::Descriptors))));
                }
                if sleep.as_mut().poll(cx).is_ready() {
                    return Poll::Ready(Err(HandshakeFault::ProxyHeaderTimeout));
                }
                read.as_mut().poll(cx).map(Ok)
            })
            .await?
        };
        if !read.is_ok_and(|len| len > 0) {
            return Err(HandshakeFault::Ended { received: input.len() });
        }
    }
}
