//! The directory with what servers keep from one start to the next.

use std::env;
use std::path::PathBuf;

use super::Outcome;
use crate::private;

/// Where a server keeps its private key and its invites.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct StateArgs {
    /// Directory that keeps the server's private key and its invites. Default: $STATE_DIRECTORY (set by systemd),
    /// $XDG_STATE_HOME/tcpls, or ~/.local/state/tcpls
    #[arg(long, value_name = "DIR")]
    pub state: Option<PathBuf>,
}

impl StateArgs {
    /// Returns the directory, which is created if it does not exist.
    pub(crate) fn directory(&self) -> Outcome<State> {
        let path = match &self.state {
            Some(path) => path.clone(),
            None => default_path(|name| env::var_os(name).map(PathBuf::from))
                .ok_or("there is no home directory to keep a private key in; name a directory with --state")?,
        };
        private::directory(&path).map_err(|error| {
            let path = path.display();
            format!("can't use the state directory {path}: {error}; or choose another with --state")
        })?;
        Ok(State(path))
    }
}

/// The directory without `--state`.
#[cfg(unix)]
pub(super) fn default_directory() -> Option<PathBuf> {
    default_path(|name| env::var_os(name).map(PathBuf::from))
}

/// The first directory that the environment names.
fn default_path(variable: impl Fn(&str) -> Option<PathBuf>) -> Option<PathBuf> {
    // Relative paths are to be ignored (XDG Base Directory Specification).
    let absolute = |name: &str| variable(name).filter(|path| path.is_absolute());
    absolute("STATE_DIRECTORY")
        .or_else(|| absolute("XDG_STATE_HOME").map(|path| path.join("tcpls")))
        .or_else(|| absolute("HOME").map(|path| path.join(".local/state/tcpls")))
}

/// A state directory that exists.
#[derive(Clone, Debug)]
pub(crate) struct State(PathBuf);

impl State {
    /// The directory with the invites.
    pub(crate) fn invites(&self) -> PathBuf {
        self.0.join("invites")
    }

    /// The file with the private key.
    pub(crate) fn key(&self) -> PathBuf {
        self.0.join("key.pem")
    }

    /// The file with the private key that takes its place.
    pub(crate) fn next_key(&self) -> PathBuf {
        self.0.join("next-key.pem")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn default_directory_is_systemds_or_that_of_the_xdg_specification() {
        let path = |known: &[(&str, &str)]| {
            default_path(|name| known.iter().find(|(known, _)| *known == name).map(|(_, path)| path.into()))
        };
        let home = ("HOME", "/home/ann");
        let state = ("XDG_STATE_HOME", "/state");
        assert_eq!(path(&[("STATE_DIRECTORY", "/var/lib/tcpls"), state, home]), Some("/var/lib/tcpls".into()));
        assert_eq!(path(&[state, home]), Some("/state/tcpls".into()));
        assert_eq!(path(&[("XDG_STATE_HOME", "state"), home]), Some("/home/ann/.local/state/tcpls".into()));
        assert_eq!(path(&[home]), Some("/home/ann/.local/state/tcpls".into()));
        assert_eq!(path(&[]), None);
    }
}
