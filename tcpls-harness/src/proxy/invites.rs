//! The invites that a server has given out, as files in a directory: a file for each name, with the hash of the secret.
//!
//! A server reads the file at each request, so that a new invite is accepted and a revoked one refused at once.

use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::invite::{ClientName, Secret};
use super::users::{Accounts, is_equal};
use crate::private;
use crate::tls::{Pin, Pins, sha256};

/// The first word of each file: how it is to be read.
const VERSION: &str = "sha256";

/// The invites in a directory.
#[derive(Clone, Debug)]
pub struct Invites {
    directory: PathBuf,
}

/// An invite that was given out.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Invited {
    /// For whom.
    pub name: ClientName,
    /// When it was made.
    pub created: SystemTime,
    /// The keys of the server that the client accepts.
    pub pins: Vec<Pin>,
}

impl Invites {
    /// Uses the invites in a directory, which is created if it does not exist.
    ///
    /// # Errors
    /// It can't be created, or other users may write to it.
    pub fn at(directory: &Path) -> io::Result<Self> {
        private::directory(directory)?;
        Ok(Self { directory: directory.to_owned() })
    }

    /// Accepts another secret for `name`, of which only the hash is stored, and remembers which keys of the server the invite
    /// has. False if the name is taken.
    ///
    /// # Errors
    /// The file can't be written.
    pub fn add(&self, name: &ClientName, secret: &Secret, pins: Pins) -> io::Result<bool> {
        let created = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let pins: String = pins.iter().map(|pin| format!(" {}", hex(pin.as_bytes()))).collect();
        private::create(&self.file(name), &format!("{VERSION} {} {created}{pins}\n", hex(&hash(&secret.text()))))
    }

    /// Returns all invites, by name.
    ///
    /// # Errors
    /// The directory or a file can't be read.
    pub fn list(&self) -> io::Result<Vec<Invited>> {
        let mut invites = Vec::new();
        for entry in std::fs::read_dir(&self.directory)? {
            // Others are not ours, or being written.
            let Some(name) = entry?.file_name().to_str().and_then(|name| name.parse::<ClientName>().ok()) else {
                continue;
            };
            match private::read(&self.file(&name)) {
                Ok(text) => {
                    let record =
                        Record::parse(&text).ok_or_else(|| io::Error::other(format!("{name} is malformed")))?;
                    invites.push(Invited { name, created: record.created, pins: record.pins });
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {} // revoked meanwhile
                Err(error) => return Err(io::Error::other(format!("{name}: {error}"))),
            }
        }
        invites.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(invites)
    }

    /// Refuses the secret of `name` from now on. False if there is no such invite.
    ///
    /// # Errors
    /// The file can't be removed.
    pub fn revoke(&self, name: &ClientName) -> io::Result<bool> {
        match private::remove(&self.file(name)) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn file(&self, name: &ClientName) -> PathBuf {
        self.directory.join(name.as_str())
    }
}

impl Accounts for Invites {
    fn accepts(&self, name: &str, secret: &str) -> bool {
        let found = name.parse().ok().and_then(|name| private::read(&self.file(&name)).ok());
        let record = found.and_then(|text| Record::parse(&text));
        // Without an invite, the same is done.
        let wanted = record.as_ref().map_or([0; 32], |record| record.hash);
        is_equal(&hash(secret), &wanted) & record.is_some()
    }
}

/// The content of a file.
struct Record {
    hash: [u8; 32],
    created: SystemTime,
    pins: Vec<Pin>,
}

impl Record {
    fn parse(text: &str) -> Option<Self> {
        let mut words = text.split_whitespace();
        let (VERSION, hash, created) = (words.next()?, words.next()?, words.next()?) else { return None };
        let pins = words.map(|pin| unhex(pin).map(Pin::new)).collect::<Option<_>>()?;
        let created = UNIX_EPOCH.checked_add(Duration::from_secs(created.parse().ok()?))?;
        Some(Self { hash: unhex(hash)?, created, pins })
    }
}

/// The secret is random: a fast hash is as good as a slow one.
fn hash(secret: &str) -> [u8; 32] {
    sha256(secret.as_bytes())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Option<[u8; 32]> {
    let digits: Vec<u8> = text.chars().map(|c| c.to_digit(16).map(|digit| digit as u8)).collect::<Option<_>>()?;
    let bytes: Vec<u8> = digits.chunks(2).map(|pair| pair[0] << 4 | pair.get(1).copied().unwrap_or(0)).collect();
    bytes.try_into().ok().filter(|_| text.len() == 64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn invites_are_accepted_until_they_are_revoked_and_stored_as_hashes() {
        let directory = std::env::temp_dir().join(format!("tcpls-invites-{}", std::process::id()));
        let invites = Invites::at(&directory).unwrap();
        let (ann, bob): (ClientName, ClientName) = ("ann".parse().unwrap(), "bob".parse().unwrap());
        let (secret, other) = (Secret::generate(), Secret::generate());
        let pins = Pins::new(Pin::new([1; 32]));
        let both = pins.or(Pin::new([2; 32]));
        assert!(invites.add(&ann, &secret, pins).unwrap() && invites.add(&bob, &other, both).unwrap());
        assert!(!invites.add(&ann, &other, pins).unwrap(), "the name is taken");
        let listed: Vec<Vec<Pin>> = invites.list().unwrap().into_iter().map(|invited| invited.pins).collect();
        assert_eq!(listed, [pins.iter().collect::<Vec<_>>(), both.iter().collect()]);
        let names: Vec<ClientName> = invites.list().unwrap().into_iter().map(|invited| invited.name).collect();
        assert_eq!(names, [ann.clone(), bob]);
        let server = invites.clone();
        assert!(server.accepts("ann", &secret.text()));
        for (name, text) in
            [("ann", other.text()), ("bob", secret.text()), ("eve", secret.text()), ("../invites/ann", secret.text())]
        {
            assert!(!server.accepts(name, &text), "{name}");
        }
        let stored = std::fs::read_to_string(directory.join("ann")).unwrap();
        assert!(!stored.contains(&secret.text()) && stored.starts_with("sha256 "), "{stored}");
        assert!(invites.revoke(&ann).unwrap() && !invites.revoke(&ann).unwrap());
        assert!(!server.accepts("ann", &secret.text()));
        // A name of no secret at all.
        private::create(&directory.join("carl"), "sha256\n").unwrap();
        assert!(!server.accepts("carl", "") && invites.list().unwrap_err().to_string().contains("carl"));
        std::fs::remove_dir_all(&directory).unwrap();
    }
}
