//! What a request is for, without sockets.

use super::Refusal;
use crate::http::{BadHead, Head, StartLine};

/// A request for a file.
#[derive(Debug, PartialEq, Eq)]
pub struct Request {
    /// Whether it is a GET; otherwise, a HEAD.
    pub is_get: bool,
    /// Percent-decoded, with the slash that it begins with; it never contains a NUL.
    pub path: String,
}

/// Returns what a head requests.
///
/// # Errors
/// Why it requests no file.
pub fn parse(head: &Head) -> Result<Request, Refusal> {
    let StartLine::Request { method, target, minor } = &head.start else { return Err(Refusal::BadRequest) };
    // What has no Host, or two, or content could be understood differently by each proxy on the way.
    let hosts = head.all("host").count();
    let has_content =
        head.field("transfer-encoding").is_some() || head.all("content-length").any(|length| length != "0");
    if hosts > 1 || (hosts == 0 && *minor > 0) || has_content {
        return Err(Refusal::BadRequest);
    }
    let is_get = match method.as_str() {
        "GET" => true,
        "HEAD" => false,
        _ => return Err(Refusal::Method),
    };
    let path = path_of(target).and_then(|path| percent_decode(path.as_bytes())).ok_or(Refusal::BadRequest)?;
    Ok(Request { is_get, path })
}

/// The path of a target in origin-form or absolute-form (RFC 9112, 3.2). A query does not change what a file is.
fn path_of(target: &str) -> Option<&str> {
    let target = match target.split_once("://") {
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("https") => rest.find('/').map_or("/", |at| &rest[at..]),
        _ => target,
    };
    let path = target.split('?').next().unwrap_or_default();
    (path.starts_with('/') && !path.contains('#')).then_some(path)
}

/// Undoes percent-encoding (RFC 3986, 2.1); `None` if it is broken, or if the result is not UTF-8 or holds a NUL.
pub(crate) fn percent_decode(encoded: &[u8]) -> Option<String> {
    let mut decoded = Vec::with_capacity(encoded.len());
    let mut rest = encoded.iter();
    while let Some(byte) = rest.next() {
        let digit = |byte: Option<&u8>| byte.and_then(|byte| char::from(*byte).to_digit(16));
        decoded.push(match byte {
            b'%' => u8::try_from(digit(rest.next())? << 4 | digit(rest.next())?).ok()?,
            byte => *byte,
        });
    }
    String::from_utf8(decoded).ok().filter(|path| !path.contains('\0'))
}

/// Whether the client sends no other request on this stream.
pub(super) fn is_last(head: &Head) -> bool {
    let is_old = matches!(head.start, StartLine::Request { minor: 0, .. });
    let mut options = head.all("connection").flat_map(|value| value.split(','));
    is_old || options.any(|option| option.trim_matches([' ', '\t']).eq_ignore_ascii_case("close"))
}

/// The refusal of what is no head.
pub(super) fn refusal_of(bad: BadHead) -> Refusal {
    match bad {
        BadHead::Malformed => Refusal::BadRequest,
        BadHead::Version => Refusal::Version,
        BadHead::TooLong => Refusal::HeadTooLarge,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::HeadReader;

    fn head(text: &str) -> Head {
        HeadReader::default().push(format!("{text}\r\n\r\n").as_bytes()).unwrap().unwrap()
    }

    fn path(target: &str) -> Result<String, Refusal> {
        parse(&head(&format!("GET {target} HTTP/1.1\r\nHost: a"))).map(|request| request.path)
    }

    #[test]
    fn a_request_names_a_path() {
        assert_eq!(path("/a/b.txt"), Ok("/a/b.txt".to_owned()));
        assert_eq!(path("/a%20b%C3%A9?version=/7#x"), Ok("/a bé".to_owned()));
        assert_eq!(path("https://a:1/b?c"), Ok("/b".to_owned()));
        assert_eq!(path("HTTPS://a"), Ok("/".to_owned()));
        for target in ["a", "*", "/%00", "/%f", "/%", "/%zz", "/%ff", "/a#b", "http://a/b", "//a?b://c"] {
            let known = target == "//a?b://c";
            assert_eq!(path(target).is_ok(), known, "{target}");
        }
    }

    #[test]
    fn only_requests_without_content_for_get_and_head_are_served() {
        let refusal = |text| parse(&head(text)).map(|request| request.is_get);
        assert_eq!(refusal("HEAD / HTTP/1.1\r\nHost: a\r\nContent-Length: 0"), Ok(false));
        assert_eq!(refusal("GET / HTTP/1.0"), Ok(true));
        for text in [
            "GET / HTTP/1.1",
            "GET / HTTP/1.1\r\nHost: a\r\nHost: a",
            "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1",
            "GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked",
            "HTTP/1.1 200 OK",
        ] {
            assert_eq!(refusal(text), Err(Refusal::BadRequest), "{text}");
        }
        assert_eq!(refusal("CONNECT a:1 HTTP/1.1\r\nHost: a"), Err(Refusal::Method));
    }

    #[test]
    fn connection_close_and_http_1_0_end_the_requests_of_a_stream() {
        assert!(!is_last(&head("GET / HTTP/1.1\r\nConnection: keep-alive")));
        assert!(is_last(&head("GET / HTTP/1.1\r\nConnection: x, Close")));
        assert!(is_last(&head("GET / HTTP/1.0")));
    }
}
