//! Where a client gets its invite from: never from the command line itself, which other users can read.

use std::env;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use super::{Outcome, output};
use crate::proxy::Invite;

/// The environment variable with an invite.
pub(crate) const VARIABLE: &str = "TCPLS_INVITE";
/// More than an invite can have.
const MAX_BYTES: u64 = 64 * 1024;

/// What `--invite` names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InviteSource {
    /// A file, written `@FILE`.
    File(PathBuf),
    /// Standard input, written `-`.
    Stdin,
    /// A file, written without the `@`.
    Unmarked(PathBuf),
    /// Something else, which may be a secret.
    Other,
}

impl FromStr for InviteSource {
    type Err = std::convert::Infallible;

    /// Never fails: an error of the command line's parser would show the text, which may be an invite.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(match text.strip_prefix('@') {
            Some(file) if !file.is_empty() => Self::File(file.into()),
            _ if text == "-" => Self::Stdin,
            _ if text.parse::<Invite>().is_err() && Path::new(text).is_file() => Self::Unmarked(text.into()),
            _ => Self::Other,
        })
    }
}

/// Reads the invite from `source`, or else from the environment variable.
pub(crate) fn read(source: Option<&InviteSource>) -> Outcome<Option<Invite>> {
    let (text, place) = match source {
        Some(InviteSource::File(path)) => {
            let file = std::fs::File::open(path).and_then(|file| Ok((is_shared(&file)?, text_of(file)?)));
            let path = path.display();
            let (is_shared, text) = file.map_err(|error| format!("can't read an invite from {path}: {error}"))?;
            if is_shared {
                output::tell(format_args!("tcpls: other users may read the secret in {path}; run chmod 600 {path}"));
            }
            (text, path.to_string())
        }
        Some(InviteSource::Stdin) => {
            let text = text_of(std::io::stdin().lock());
            (text.map_err(|error| format!("can't read an invite: {error}"))?, "standard input".to_owned())
        }
        Some(InviteSource::Other) => {
            return Err(format!(
                "--invite takes @FILE, or - for standard input, or set {VARIABLE}: other users can read a command \
                 line. If it was an invite, have it revoked"
            )
            .into());
        }
        Some(InviteSource::Unmarked(path)) => {
            return Err(format!("--invite takes the name of a file behind an @: --invite @{}", path.display()).into());
        }
        None => match env::var(VARIABLE) {
            Ok(text) if !text.is_empty() => (text, VARIABLE.to_owned()),
            _ => return Ok(None),
        },
    };
    let invite = text.parse().map_err(|error| format!("{place}: {error}"))?;
    Ok(Some(invite))
}

fn text_of(source: impl Read) -> std::io::Result<String> {
    let mut text = String::new();
    source.take(MAX_BYTES).read_to_string(&mut text)?;
    Ok(text)
}

/// Whether other users may read a file. A pipe has only this reader.
#[cfg(unix)]
fn is_shared(file: &std::fs::File) -> std::io::Result<bool> {
    let metadata = file.metadata()?;
    Ok(metadata.is_file() && std::os::unix::fs::PermissionsExt::mode(&metadata.permissions()) & 0o077 != 0)
}

#[cfg(not(unix))]
fn is_shared(_: &std::fs::File) -> std::io::Result<bool> {
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn invite_on_the_command_line_is_refused_without_showing_it() {
        for text in ["tcpls1:AAAA", "", "@", "file"] {
            let source = text.parse().unwrap();
            assert_eq!(source, InviteSource::Other, "{text}");
            let error = read(Some(&source)).unwrap_err().to_string();
            assert!(!error.contains("tcpls1:") && error.contains(VARIABLE), "{error}");
        }
        let unmarked: InviteSource = "Cargo.toml".parse().unwrap();
        assert!(read(Some(&unmarked)).unwrap_err().to_string().ends_with("--invite @Cargo.toml"));
        assert_eq!("@a b".parse(), Ok(InviteSource::File("a b".into())));
        assert_eq!("-".parse(), Ok(InviteSource::Stdin));
        let error = read(Some(&InviteSource::File("/nonexistent".into()))).unwrap_err().to_string();
        assert!(error.contains("/nonexistent"), "{error}");
    }
}
