//! Why a connection is refused, as HTTP responses say it.

use std::{error, fmt};

/// Why a connection to a target is refused.
///
/// The response has the status, the error type of RFC 9209 in a Proxy-Status field, and a line of text for people. A client
/// reads the error type again with [`Refusal::from_response`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refusal {
    /// The request is malformed.
    BadRequest,
    /// The head of the request is too long.
    HeadTooLarge,
    /// The request did not arrive in time.
    RequestTimeout,
    /// The method is not CONNECT.
    Method,
    /// The version of HTTP is neither 1.0 nor 1.1.
    Version,
    /// There are no credentials, or wrong ones.
    Credentials,
    /// The client's network has sent wrong credentials too often: none are looked at now.
    WrongTooOften {
        /// When to try again; 0 if it is unknown.
        seconds: u32,
    },
    /// The target is not permitted.
    Denied,
    /// Another client listens on the port.
    Taken,
    /// The client has too many look-ups of names.
    TooManyNames,
    /// The client has reached its limit of connections.
    TooMany,
    /// The server has reached its limit of connections.
    Overloaded,
    /// The name has no address.
    Unresolved,
    /// The target refused the connection.
    Refused,
    /// There is no route to the target.
    Unreachable,
    /// The target did not answer in time.
    TimedOut,
    /// There is no session with the server.
    NoSession,
    /// The server gave another answer, or none.
    Other,
}

impl Refusal {
    const ALL: [Self; 18] = [
        Self::BadRequest,
        Self::HeadTooLarge,
        Self::RequestTimeout,
        Self::Method,
        Self::Version,
        Self::Credentials,
        Self::Denied,
        Self::Taken,
        Self::WrongTooOften { seconds: 0 },
        Self::TooManyNames,
        Self::TooMany,
        Self::Overloaded,
        Self::Unresolved,
        Self::Refused,
        Self::Unreachable,
        Self::TimedOut,
        Self::NoSession,
        Self::Other,
    ];

    /// The status code and its reason phrase.
    pub fn status(self) -> (u16, &'static str) {
        match self {
            Self::BadRequest => (400, "Bad Request"),
            Self::Denied => (403, "Forbidden"),
            Self::Method => (405, "Method Not Allowed"),
            Self::Credentials => (407, "Proxy Authentication Required"),
            Self::RequestTimeout => (408, "Request Timeout"),
            Self::Taken => (409, "Conflict"),
            Self::WrongTooOften { .. } | Self::TooManyNames | Self::TooMany => (429, "Too Many Requests"),
            Self::HeadTooLarge => (431, "Request Header Fields Too Large"),
            Self::Unresolved | Self::Refused | Self::Unreachable | Self::Other => (502, "Bad Gateway"),
            Self::Overloaded | Self::NoSession => (503, "Service Unavailable"),
            Self::TimedOut => (504, "Gateway Timeout"),
            Self::Version => (505, "HTTP Version Not Supported"),
        }
    }

    /// The error type in the Proxy-Status field (RFC 9209, 2.3).
    pub fn error_type(self) -> &'static str {
        match self {
            Self::BadRequest | Self::HeadTooLarge | Self::RequestTimeout | Self::Method | Self::Version => {
                "http_request_error"
            }
            Self::Credentials | Self::WrongTooOften { .. } | Self::Denied => "http_request_denied",
            Self::Taken => "http_request_error",
            Self::TooMany | Self::Overloaded => "connection_limit_reached",
            Self::TooManyNames | Self::Unresolved => "dns_error",
            Self::Refused => "connection_refused",
            Self::Unreachable => "destination_ip_unroutable",
            Self::TimedOut => "connection_timeout",
            Self::NoSession => "destination_unavailable",
            Self::Other => "proxy_internal_error",
        }
    }

    /// Returns the refusal that a response with this status and this error type stands for.
    pub fn from_response(status: u16, error_type: Option<&str>) -> Self {
        let of_status = |refusal: &&Self| refusal.status().0 == status;
        let mut matching = Self::ALL.iter().filter(of_status);
        let typed = matching.clone().find(|refusal| Some(refusal.error_type()) == error_type);
        // Another proxy on the way may leave the type out; of several refusals with one status, the last is the least specific.
        typed.or_else(|| matching.next_back()).copied().unwrap_or(Self::Other)
    }

    /// Returns the same with the seconds in a field Retry-After, if it is a refusal that has them.
    pub(super) fn with_retry_after(self, field: Option<&str>) -> Self {
        match self {
            Self::WrongTooOften { .. } => {
                Self::WrongTooOften { seconds: field.and_then(|field| field.parse().ok()).unwrap_or_default() }
            }
            other => other,
        }
    }

    /// Returns the whole response, after which the stream ends.
    pub fn response(self) -> Vec<u8> {
        let ((status, reason), error) = (self.status(), self.error_type());
        let more = match self {
            Self::Credentials => {
                "Proxy-Authenticate: Basic realm=\"tcpls\", charset=\"UTF-8\"\r\nProxy-Authenticate: Bearer\r\n"
                    .to_owned()
            }
            Self::WrongTooOften { seconds } => format!("Retry-After: {seconds}\r\n"),
            Self::Method => "Allow: CONNECT\r\n".to_owned(),
            _ => String::new(),
        };
        let text = format!("{self}\n");
        format!(
            "HTTP/1.1 {status} {reason}\r\nProxy-Status: tcpls; error={error}\r\n{more}Content-Type: text/plain\r\n\
             Content-Length: {}\r\nConnection: close\r\n\r\n{text}",
            text.len(),
        )
        .into_bytes()
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::WrongTooOften { seconds: 0 } => "too many wrong credentials came from this network; try again later",
            Self::WrongTooOften { seconds } => {
                return write!(f, "too many wrong credentials came from this network; try again in {seconds} s");
            }
            Self::BadRequest => "the request is malformed",
            Self::HeadTooLarge => "the request is too long",
            Self::RequestTimeout => "the request did not arrive in time",
            Self::Method => "the method is not CONNECT",
            Self::Version => "the version of HTTP is not 1.1",
            Self::Credentials => "the proxy requires credentials",
            Self::Denied => "the proxy does not permit this target",
            Self::Taken => "another client listens on the port",
            Self::TooManyNames => "the client has too many look-ups of names at the same time",
            Self::TooMany => "the client has reached its limit of connections",
            Self::Overloaded => "the proxy has reached its limit of connections",
            Self::Unresolved => "the target's name has no address",
            Self::Refused => "the target refused the connection",
            Self::Unreachable => "there is no route to the target",
            Self::TimedOut => "the target did not answer in time",
            Self::NoSession => "there is no session with the proxy now",
            Self::Other => "the proxy gave no usable answer",
        })
    }
}

impl error::Error for Refusal {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_read_the_refusal_that_servers_sent() {
        for refusal in [
            Refusal::Denied,
            Refusal::Taken,
            Refusal::Unresolved,
            Refusal::Refused,
            Refusal::TimedOut,
            Refusal::TooMany,
            Refusal::TooManyNames,
            Refusal::Overloaded,
        ] {
            assert_eq!(Refusal::from_response(refusal.status().0, Some(refusal.error_type())), refusal);
        }
        assert_eq!(Refusal::from_response(407, None), Refusal::Credentials);
        assert_eq!(Refusal::from_response(429, None), Refusal::TooMany);
        let wait = Refusal::WrongTooOften { seconds: 8 };
        assert_eq!(Refusal::from_response(429, Some(wait.error_type())).with_retry_after(Some("8")), wait);
        assert_eq!(Refusal::TooMany.with_retry_after(Some("8")), Refusal::TooMany);
        assert_eq!(Refusal::from_response(502, None), Refusal::Other);
        assert_eq!(Refusal::from_response(418, Some("teapot")), Refusal::Other);
    }
}
