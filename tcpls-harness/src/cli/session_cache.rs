//! Sessions of a client in a file: `--session-cache`.
//!
//! A session leaves the file when a run takes it, because it works once, and the run adds its new ones at its end. If two
//! runs take the same one at the same time, the server accepts the early data of one, and has a full handshake with the
//! other.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use tcpls_core::crypto::openssl::{OpensslTickets, StoredTicket};

use super::{Outcome, output};
use crate::private;

/// Sessions in one file at most; beyond that, the oldest are dropped.
const MAX_SESSIONS: usize = 64;
/// The format of the file.
const VERSION: u32 = 1;

/// The sessions of one server, with the file that they come from.
pub(crate) struct SessionCache {
    path: PathBuf,
    trust: [u8; 32],
    tickets: Arc<OpensslTickets>,
}

/// The contents of the file.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Contents {
    version: u32,
    /// The oldest first.
    sessions: Vec<Entry>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    /// What certificates were verified against, and the client's own.
    trust: Binary,
    server_name: String,
    session: Binary,
    alpn: Binary,
    state: Binary,
    certificates: Vec<Binary>,
    expiry: u64,
}

/// Bytes that are base64 in the file.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
struct Binary(Vec<u8>);

impl TryFrom<String> for Binary {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        // The text is not repeated: it may be a secret.
        STANDARD.decode(text).map(Self).map_err(|_| "no base64")
    }
}

impl From<Binary> for String {
    fn from(bytes: Binary) -> Self {
        STANDARD.encode(bytes.0)
    }
}

impl SessionCache {
    /// Takes the sessions with a server out of a file, as far as they began under the same trust.
    ///
    /// # Errors
    /// The file holds something else, can't be read or written, or other users may read it.
    pub(crate) fn open(path: &Path, trust: [u8; 32], server_name: &str) -> Outcome<Self> {
        let mut contents = read(path)?;
        let is_ours = |entry: &mut Entry| entry.trust.0 == trust && entry.server_name == server_name;
        let taken: Vec<Entry> = contents.sessions.extract_if(.., is_ours).collect();
        // Without a session, too: what can't be written at the end is better known now.
        write(path, &contents)?;
        let tickets = Arc::new(OpensslTickets::default());
        tickets.import(taken.into_iter().map(StoredTicket::from));
        Ok(Self { path: path.to_owned(), trust, tickets })
    }

    pub(crate) fn tickets(&self) -> &Arc<OpensslTickets> {
        &self.tickets
    }

    /// Adds what is left and what is new to the file. What prevents it is reported, and no failure of the command.
    pub(crate) fn store(&self) {
        let added = self.tickets.export().into_iter().map(|ticket| Entry::new(self.trust, ticket));
        let stored = read(&self.path).and_then(|mut contents| {
            contents.sessions.extend(added);
            let excess = contents.sessions.len().saturating_sub(MAX_SESSIONS);
            contents.sessions.drain(..excess);
            write(&self.path, &contents)
        });
        if let Err(error) = stored {
            output::tell(format_args!("tcpls: no session is kept: {error}"));
        }
    }
}

impl Entry {
    fn new(trust: [u8; 32], ticket: StoredTicket) -> Self {
        let StoredTicket { server_name, session, alpn, state, certificates, expiry } = ticket;
        let [session, alpn, state] = [session, alpn, state].map(Binary);
        let certificates = certificates.into_iter().map(Binary).collect();
        Self { trust: Binary(trust.to_vec()), server_name, session, alpn, state, certificates, expiry }
    }
}

impl From<Entry> for StoredTicket {
    fn from(entry: Entry) -> Self {
        let Entry { trust: _, server_name, session, alpn, state, certificates, expiry } = entry;
        let certificates = certificates.into_iter().map(|certificate| certificate.0).collect();
        Self { server_name, session: session.0, alpn: alpn.0, state: state.0, certificates, expiry }
    }
}

fn read(path: &Path) -> Outcome<Contents> {
    let unusable = |error: &dyn std::fmt::Display| {
        let path = path.display();
        format!("can't use the sessions in {path}: {error}; without the file, there are none")
    };
    let text = match private::read(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            return Ok(Contents { version: VERSION, sessions: Vec::new() });
        }
        read => read.map_err(|error| unusable(&error))?,
    };
    let contents: Contents = serde_json::from_str(&text).map_err(|error| unusable(&error))?;
    if contents.version != VERSION {
        return Err(unusable(&"the file is of another version of this program").into());
    }
    Ok(contents)
}

fn write(path: &Path, contents: &Contents) -> Outcome {
    let unwritten = |error| format!("can't write the sessions to {}: {error}", path.display());
    private::write(path, &serde_json::to_string(contents)?).map_err(unwritten)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::{SystemTime, UNIX_EPOCH};

    use super::*;

    fn ticket(server_name: &str, session: u8) -> StoredTicket {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        StoredTicket {
            server_name: server_name.to_owned(),
            session: vec![session],
            alpn: b"tcpls".to_vec(),
            state: vec![1, 2],
            certificates: vec![vec![3; 10], vec![4; 10]],
            expiry: now + 1000,
        }
    }

    /// A file in a directory of its own.
    struct Place(PathBuf);

    impl Place {
        fn new(name: &str) -> Self {
            let directory = std::env::temp_dir().join(format!("tcpls-sessions-{name}-{}", std::process::id()));
            private::directory(&directory).unwrap();
            Self(directory)
        }

        fn file(&self) -> PathBuf {
            self.0.join("sessions")
        }

        fn open(&self, trust: u8, server_name: &str) -> SessionCache {
            SessionCache::open(&self.file(), [trust; 32], server_name).unwrap()
        }
    }

    impl Drop for Place {
        fn drop(&mut self) {
            _ = std::fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn sessions_are_taken_once_by_who_has_the_same_trust_and_server() {
        let place = Place::new("taken");
        let cache = place.open(1, "a.test");
        cache.tickets().import([ticket("a.test", 7), ticket("a.test", 8)]);
        cache.store();
        for (trust, server_name) in [(2, "a.test"), (1, "b.test")] {
            let other = place.open(trust, server_name);
            assert_eq!(other.tickets().export(), []);
            other.store();
        }
        let again = place.open(1, "a.test");
        assert_eq!(
            again.tickets().export(),
            [ticket("a.test", 7), ticket("a.test", 8)].map(|stored| {
                let expiry = again.tickets().export()[0].expiry;
                StoredTicket { expiry, ..stored }
            })
        );
        assert_eq!(place.open(1, "a.test").tickets().export(), [], "they are with the other run");
        again.store();
        assert_eq!(place.open(1, "a.test").tickets().export().len(), 2);
    }

    #[test]
    fn oldest_sessions_leave_a_full_file() {
        let place = Place::new("full");
        for number in 0..=MAX_SESSIONS {
            let name = format!("{number}.test");
            let cache = place.open(1, &name);
            cache.tickets().import([ticket(&name, 0)]);
            cache.store();
        }
        assert_eq!(place.open(1, "0.test").tickets().export(), []);
        assert_eq!(place.open(1, "1.test").tickets().export().len(), 1);
        assert_eq!(read(&place.file()).unwrap().sessions.len(), MAX_SESSIONS - 1);
    }

    #[cfg(unix)]
    #[test]
    fn file_of_sessions_is_for_its_owner_alone() {
        use std::fs::{Permissions, metadata, set_permissions};
        use std::os::unix::fs::PermissionsExt;
        let place = Place::new("mode");
        place.open(1, "a.test");
        assert_eq!(metadata(place.file()).unwrap().permissions().mode() & 0o777, 0o600);
        set_permissions(place.file(), Permissions::from_mode(0o640)).unwrap();
        let error = SessionCache::open(&place.file(), [1; 32], "a.test").err().unwrap().to_string();
        assert!(error.contains("chmod 600"), "{error}");
    }

    #[test]
    fn other_files_are_refused_and_left_as_they_are_without_showing_their_contents() {
        let place = Place::new("other");
        private::create(&place.file(), "").unwrap();
        let one = r#"{"trust":"AA==","server_name":"a","session":"secret?","alpn":"","state":"","certificates":[],"expiry":1}"#;
        for text in
            ["", "secret?", "{}", r#"{"version":2,"sessions":[]}"#, &format!(r#"{{"version":1,"sessions":[{one}]}}"#)]
        {
            std::fs::write(place.file(), text).unwrap();
            let error = SessionCache::open(&place.file(), [1; 32], "a").err().unwrap().to_string();
            assert!(error.contains("can't use the sessions") && !error.contains("secret"), "{error}");
            assert_eq!(std::fs::read_to_string(place.file()).unwrap(), text);
        }
    }
}
