//! The nonce ledger: no key seals two records with one nonce, whatever a session does with its keys and TCP connections.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::crypto::{Agreed, Handshake, KeySchedule, OpenKeys, SealKey, SealKeys, TAG_LEN};
use crate::error::HandshakeError;

/// A key: the end that seals with it, and its generation.
type Key = (u32, u32);

/// Records every nonce that the keys of the watched handshakes are used with.
///
/// Clones share one ledger, so that one can watch all ends of a test. It grows by one entry per sealed record.
#[derive(Clone, Debug, Default)]
pub struct Ledger(Arc<Mutex<Entries>>);

#[derive(Debug, Default)]
struct Entries {
    /// Handshakes that are watched.
    ends: u32,
    /// Keys, by end and generation, and the nonces that each was used with.
    used: BTreeSet<(Key, [u8; 12])>,
    /// The IVs of each end's generations.
    ivs: BTreeSet<(u32, [u8; 12])>,
    repeated: Vec<String>,
}

impl Ledger {
    /// Returns `tls` with all records that its keys will seal entered into this ledger.
    pub fn watch(&self, tls: Box<dyn Handshake>) -> Box<dyn Handshake> {
        let end = {
            let mut entries = self.entries();
            entries.ends += 1;
            entries.ends
        };
        Box::new(Watched { tls, end, ledger: self.clone() })
    }

    /// Returns a description of each nonce or generation of keys that was used twice since the last call.
    pub fn take_repeated(&self) -> Vec<String> {
        std::mem::take(&mut self.entries().repeated)
    }

    fn entries(&self) -> MutexGuard<'_, Entries> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn enter(&self, key: Key, nonce: [u8; 12]) {
        let mut entries = self.entries();
        if !entries.used.insert((key, nonce)) {
            entries.repeated.push(format!("key {key:?} was used twice with nonce {nonce:02x?}"));
        }
    }

    /// Null keys have no IV: theirs is 0 in each generation.
    fn watch_keys(&self, keys: SealKeys, name: Key) -> SealKeys {
        let mut entries = self.entries();
        if keys.iv != [0; 12] && !entries.ivs.insert((name.0, keys.iv)) {
            entries.repeated.push(format!("key {name:?} has the IV of an earlier generation"));
        }
        drop(entries);
        let key = WatchedKey { key: keys.key, name, ledger: self.clone() };
        SealKeys { key: Box::new(key), iv: keys.iv }
    }
}

struct Watched {
    tls: Box<dyn Handshake>,
    end: u32,
    ledger: Ledger,
}

impl Handshake for Watched {
    fn handle_record(&mut self, record: &mut [u8]) -> Result<(), HandshakeError> {
        self.tls.handle_record(record)
    }

    fn write(&mut self, out: &mut Vec<u8>) {
        self.tls.write(out);
    }

    fn write_half_rtt(&mut self, plaintext: &[u8], out: &mut Vec<u8>) -> bool {
        self.tls.write_half_rtt(plaintext, out)
    }

    fn early_state(&self) -> Option<&[u8]> {
        self.tls.early_state()
    }

    fn write_early(&mut self, plaintext: &[u8], out: &mut Vec<u8>) -> bool {
        self.tls.write_early(plaintext, out)
    }

    fn read_early(&mut self) -> Option<Vec<u8>> {
        self.tls.read_early()
    }

    fn set_early_terms(&mut self, terms: &[u8]) {
        self.tls.set_early_terms(terms);
    }

    fn is_complete(&self) -> bool {
        self.tls.is_complete()
    }

    fn tcpls(&self) -> Option<bool> {
        self.tls.tcpls()
    }

    fn alpn(&self) -> Option<&[u8]> {
        self.tls.alpn()
    }

    fn is_draft_only(&self) -> bool {
        self.tls.is_draft_only()
    }

    fn is_resumed(&self) -> bool {
        self.tls.is_resumed()
    }

    fn resumes_joins(&self) -> bool {
        self.tls.resumes_joins()
    }

    fn memory(&self) -> usize {
        self.tls.memory()
    }

    /// What the handshake sealed counts: TCP connection 0, record numbers from 0 (RFC 8446, 5.3).
    fn finish(self: Box<Self>) -> Result<Agreed, HandshakeError> {
        let mut agreed = self.tls.finish()?;
        let (sealed, keys) = agreed.seal;
        for number in 0..sealed {
            let mut nonce = keys.iv;
            nonce[4..].iter_mut().zip(number.to_be_bytes()).for_each(|(nonce, byte)| *nonce ^= byte);
            self.ledger.enter((self.end, 0), nonce);
        }
        agreed.seal = (sealed, self.ledger.watch_keys(keys, (self.end, 0)));
        agreed.schedule =
            Box::new(WatchedSchedule { schedule: agreed.schedule, name: (self.end, 0), ledger: self.ledger.clone() });
        Ok(agreed)
    }
}

struct WatchedSchedule {
    schedule: Box<dyn KeySchedule>,
    name: Key,
    ledger: Ledger,
}

impl KeySchedule for WatchedSchedule {
    fn next_seal(&mut self) -> Result<SealKeys, HandshakeError> {
        self.name.1 += 1;
        Ok(self.ledger.watch_keys(self.schedule.next_seal()?, self.name))
    }

    fn next_open(&mut self) -> Result<OpenKeys, HandshakeError> {
        self.schedule.next_open()
    }

    fn handle_new_session_ticket(&mut self, body: &[u8]) -> Result<(), HandshakeError> {
        self.schedule.handle_new_session_ticket(body)
    }

    fn remember(&mut self, state: &[u8]) {
        self.schedule.remember(state);
    }

    fn memory(&self) -> usize {
        self.schedule.memory()
    }

    fn can_join(&self) -> bool {
        self.schedule.can_join()
    }

    fn join(&mut self, token: &[u8; 32], early_data: bool) -> Option<Box<dyn Handshake>> {
        self.schedule.join(token, early_data)
    }
}

struct WatchedKey {
    key: Box<dyn SealKey>,
    name: Key,
    ledger: Ledger,
}

impl SealKey for WatchedKey {
    fn seal(&self, nonce: [u8; 12], aad: &[u8], in_out: &mut [u8]) -> [u8; TAG_LEN] {
        self.ledger.enter(self.name, nonce);
        self.key.seal(nonce, aad, in_out)
    }

    fn confidentiality_limit(&self) -> u64 {
        self.key.confidentiality_limit()
    }
}

#[cfg(test)]
mod tests {
    use super::super::null::NullHandshake;
    use super::*;
    use crate::wire::ids::Side;

    #[test]
    fn nonce_used_twice_with_one_key_is_reported() {
        let ledger = Ledger::default();
        let mut tls = ledger.watch(Box::new(NullHandshake::lenient(Side::Client)));
        tls.handle_record(&mut [22]).unwrap();
        let mut agreed = tls.finish().unwrap();
        let next = agreed.schedule.next_seal().unwrap();
        for (key, nonce) in [(&agreed.seal.1.key, 1), (&agreed.seal.1.key, 2), (&next.key, 1)] {
            key.seal([nonce; 12], &[], &mut []);
        }
        assert_eq!(ledger.take_repeated(), [""; 0]);
        next.key.seal([1; 12], &[], &mut []);
        assert_eq!(ledger.take_repeated().len(), 1);
    }
}
