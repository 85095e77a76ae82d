//! A client: asks a server for connections.

use bytes::Bytes;
use tcpls_core::error::OpenStreamError;

use super::refusal::Refusal;
use super::server::read_head;
use super::target::Target;
use super::users::Credentials;
use crate::http::Head;
use crate::net::{Session, Stream};

/// Opens a stream and asks the server for a connection to `target`. Returns the stream, and what arrived behind the response.
///
/// Cancel safe: the stream is reset.
///
/// # Errors
/// The server's refusal; [`Refusal::NoSession`] if the session has ended or is drained, [`Refusal::Other`] if the stream
/// was reset.
pub async fn request(
    session: &Session,
    target: &Target,
    credentials: Option<&Credentials>,
) -> Result<(Stream, Bytes), Refusal> {
    exchange(session, "CONNECT", target, credentials, "").await
}

/// Sends a request with `more` fields, and waits for the answer; see [`request`].
pub(super) async fn exchange(
    session: &Session,
    method: &str,
    target: &Target,
    credentials: Option<&Credentials>,
    more: &str,
) -> Result<(Stream, Bytes), Refusal> {
    let mut stream = session.open_stream().await.map_err(|error| match error {
        OpenStreamError::Closed | OpenStreamError::Draining => Refusal::NoSession,
        _ => Refusal::Other,
    })?;
    stream.set_label(&target.to_string());
    let credentials =
        credentials.map_or_else(String::new, |credentials| format!("Proxy-Authorization: {}\r\n", credentials.field()));
    let head = format!("{method} {target} HTTP/1.1\r\nHost: {target}\r\n{credentials}{more}\r\n");
    let answered = match stream.write_chunk(head.into()).await {
        Ok(()) => read_head(&mut stream).await,
        Err(_) => Ok(None),
    };
    match answered {
        Ok(Some((head, rest))) => match head.status() {
            Some(200..=299) => Ok((stream, rest)),
            Some(status) => {
                let refusal = Refusal::from_response(status, error_type(&head));
                Err(refusal.with_retry_after(head.field("retry-after")))
            }
            None => Err(Refusal::Other),
        },
        _ if session.close_reason().is_some() || session.is_draining() => Err(Refusal::NoSession),
        _ => Err(Refusal::Other),
    }
}

/// The error type in a Proxy-Status field (RFC 9209) with one member, as [`Refusal::response`] writes it.
fn error_type(head: &Head) -> Option<&str> {
    let parameters = head.field("proxy-status")?.split(';').skip(1);
    parameters.map(str::trim).find_map(|parameter| parameter.strip_prefix("error="))
}
