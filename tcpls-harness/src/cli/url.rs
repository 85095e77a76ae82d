//! URLs of `get`: `https://NAME[:PORT]/PATH`, without query and fragment: they name files.

use std::{error, fmt};

use super::zones;
use crate::files::percent_decode;

/// A file on a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Url {
    /// The host name or address in the URL, without the brackets of an IPv6 address; with its zone, if it has one.
    pub(crate) name: String,
    pub(crate) port: Option<u16>,
    /// As in the request: percent-encoded, with the slash that it begins with.
    pub(crate) path: String,
    /// The last part of the path, decoded: the name that the file gets here.
    pub(crate) file: String,
}

/// Why a URL is invalid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum UrlError {
    Scheme,
    NoName,
    User,
    Port,
    NoPath,
    Character,
    Percent,
    Query,
    Fragment,
    NoFileName,
}

impl fmt::Display for UrlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Scheme => "it does not begin with https://; write https://NAME/PATH",
            Self::NoName => "there is no name before the path; write https://NAME/PATH",
            Self::User => "user names and passwords have no meaning here; write https://NAME/PATH",
            Self::Port => "the port is not a number from 1 to 65535",
            Self::NoPath => "there is no path; write https://NAME/PATH",
            Self::Character => "there is a space or a control character in the path; write %20 for a space",
            Self::Percent => {
                "a percent sign is not followed by two hexadecimal digits of UTF-8; write %25 for the sign itself"
            }
            Self::Query => "files have no queries; write %3F for a question mark in a name",
            Self::Fragment => "fragments have no meaning here; write %23 for a number sign in a name",
            Self::NoFileName => "the path does not end in a name that a file can have",
        })
    }
}

impl error::Error for UrlError {}

impl Url {
    pub(crate) fn parse(text: &str) -> Result<Self, UrlError> {
        let rest = text.strip_prefix("https://").ok_or(UrlError::Scheme)?;
        let (authority, path) = rest.split_at(rest.find('/').ok_or(UrlError::NoPath)?);
        if authority.contains('@') {
            return Err(UrlError::User);
        }
        let (name, port) = split_port(authority)?;
        if name.is_empty() {
            return Err(UrlError::NoName);
        }
        // The first sign ends the path, whatever it is about.
        match path.find(['?', '#']).map(|at| path.as_bytes()[at]) {
            Some(b'?') => return Err(UrlError::Query),
            Some(_) => return Err(UrlError::Fragment),
            None => {}
        }
        if path.bytes().any(|byte| byte.is_ascii_control() || byte == b' ') {
            return Err(UrlError::Character);
        }
        let decoded = percent_decode(path.as_bytes()).ok_or(UrlError::Percent)?;
        let last = path.rsplit('/').next().unwrap_or_default();
        let file = percent_decode(last.as_bytes()).ok_or(UrlError::Percent)?;
        let usable = !file.is_empty() && file != "." && file != ".." && !file.contains(['/', '\\']);
        if !usable || !decoded.ends_with(&file) {
            return Err(UrlError::NoFileName);
        }
        Ok(Self { name: zones::unescape(name), port, path: path.to_owned(), file })
    }

    /// The value of Host in a request for it.
    pub(crate) fn host(&self) -> String {
        let name = zones::without_zone(&self.name);
        let name = if name.contains(':') { format!("[{name}]") } else { name.to_owned() };
        self.port.map_or(name.clone(), |port| format!("{name}:{port}"))
    }

    /// The name, and the default port.
    pub(crate) fn host_and_port(&self) -> String {
        let port = self.port.unwrap_or(443);
        if self.name.contains(':') { format!("[{}]:{port}", self.name) } else { format!("{}:{port}", self.name) }
    }
}

/// Takes the brackets off IPv6 addresses.
fn split_port(authority: &str) -> Result<(&str, Option<u16>), UrlError> {
    let (name, port) = match authority.strip_prefix('[') {
        Some(rest) => {
            let (name, behind) = rest.split_once(']').ok_or(UrlError::NoName)?;
            let port = if behind.is_empty() { None } else { Some(behind.strip_prefix(':').ok_or(UrlError::Port)?) };
            (name, port)
        }
        None => match authority.split_once(':') {
            Some((name, port)) => (name, Some(port)),
            None => (authority, None),
        },
    };
    let number = |port: &str| match port.parse() {
        Ok(port) if port > 0 => Ok(port),
        _ => Err(UrlError::Port),
    };
    Ok((name, port.map(number).transpose()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_taken_apart() {
        let url = Url::parse("https://localhost:8443/a/b%20c").unwrap();
        assert_eq!((url.name.as_str(), url.port), ("localhost", Some(8443)));
        assert_eq!((url.path.as_str(), url.file.as_str()), ("/a/b%20c", "b c"));
        assert_eq!(url.host_and_port(), "localhost:8443");
        let url = Url::parse("https://[::1]/50%25.txt").unwrap();
        assert_eq!((url.name.as_str(), url.port, url.file.as_str()), ("::1", None, "50%.txt"));
        assert_eq!(url.host_and_port(), "[::1]:443");
        assert_eq!(Url::parse("https://[::1]:1/a").unwrap().port, Some(1));
        for text in ["https://[fe80::1%eth0]:1/a", "https://[fe80::1%25eth0]:1/a"] {
            let url = Url::parse(text).unwrap();
            assert_eq!(url.host_and_port(), "[fe80::1%eth0]:1", "{text}");
            assert_eq!(url.host(), "[fe80::1]:1", "{text}");
        }
    }

    #[test]
    fn each_fault_has_its_own_error() {
        let bad = [
            ("http://a/b", UrlError::Scheme),
            ("a/b", UrlError::Scheme),
            ("https://a", UrlError::NoPath),
            ("https:///b", UrlError::NoName),
            ("https://[::1/b", UrlError::NoName),
            ("https://me@a/b", UrlError::User),
            ("https://a:0/b", UrlError::Port),
            ("https://a:/b", UrlError::Port),
            ("https://a:65536/b", UrlError::Port),
            ("https://[::1]1/b", UrlError::Port),
            ("https://a/x y", UrlError::Character),
            ("https://a/x\r\nGET", UrlError::Character),
            ("https://a/50%.txt", UrlError::Percent),
            ("https://a/%ff", UrlError::Percent),
            ("https://a/%00", UrlError::Percent),
            ("https://a/50%/b", UrlError::Percent),
            ("https://a/b?q#f", UrlError::Query),
            ("https://a/b#f?q", UrlError::Fragment),
            ("https://a/", UrlError::NoFileName),
            ("https://a/..", UrlError::NoFileName),
            ("https://a/%2e%2e", UrlError::NoFileName),
            ("https://a/x%2fy", UrlError::NoFileName),
        ];
        for (text, error) in bad {
            assert_eq!(Url::parse(text), Err(error), "{text}");
        }
    }
}
