//! An oracle around a TLS provider: no key seals two records with one nonce, whatever the session does with its keys and TCP
//! connections (attacks.md, 18). `pair` puts it around both ends of every session.

use std::collections::BTreeSet;
use std::sync::Mutex;

use tcpls_core::crypto::{Agreed, Handshake, HandshakeFailure, KeySchedule, OpenKeys, SealKey, SealKeys, TAG_LEN};
use tcpls_core::error::HandshakeError;

/// A handshake whose keys are watched.
pub struct Watched(pub Box<dyn Handshake>);

impl Handshake for Watched {
    fn handle_record(&mut self, record: &mut [u8]) -> Result<(), HandshakeFailure> {
        self.0.handle_record(record)
    }

    fn write(&mut self, out: &mut Vec<u8>) {
        self.0.write(out);
    }

    fn write_half_rtt(&mut self, plaintext: &[u8], out: &mut Vec<u8>) -> bool {
        self.0.write_half_rtt(plaintext, out)
    }

    fn is_complete(&self) -> bool {
        self.0.is_complete()
    }

    fn tcpls(&self) -> Option<bool> {
        self.0.tcpls()
    }

    fn finish(self: Box<Self>) -> Result<Agreed, HandshakeError> {
        let agreed = self.0.finish()?;
        let (sealed, keys) = agreed.seal;
        let mut ivs = BTreeSet::new();
        let keys = watch(keys, sealed, &mut ivs);
        Ok(Agreed {
            seal: (sealed, keys),
            schedule: Box::new(WatchedSchedule { schedule: agreed.schedule, ivs }),
            ..agreed
        })
    }
}

/// `sealed` records went out under these keys before, on TCP connection 0: there, the nonce is plain TLS 1.3's.
fn watch(keys: SealKeys, sealed: u64, ivs: &mut BTreeSet<[u8; 12]>) -> SealKeys {
    assert!(ivs.insert(keys.iv), "a generation of keys comes again");
    let mut used = BTreeSet::new();
    for sequence in 0..sealed {
        let mut nonce = keys.iv;
        nonce[4..].iter_mut().zip(sequence.to_be_bytes()).for_each(|(byte, part)| *byte ^= part);
        used.insert(nonce);
    }
    SealKeys { key: Box::new(WatchedKey { key: keys.key, used: Mutex::new(used) }), iv: keys.iv }
}

struct WatchedKey {
    key: Box<dyn SealKey>,
    used: Mutex<BTreeSet<[u8; 12]>>,
}

impl SealKey for WatchedKey {
    fn seal(&self, nonce: [u8; 12], aad: &[u8], in_out: &mut [u8]) -> [u8; TAG_LEN] {
        let is_new = self.used.lock().unwrap().insert(nonce);
        assert!(is_new, "the nonce {nonce:02x?} seals a second record");
        self.key.seal(nonce, aad, in_out)
    }

    fn confidentiality_limit(&self) -> u64 {
        self.key.confidentiality_limit()
    }
}

struct WatchedSchedule {
    schedule: Box<dyn KeySchedule>,
    ivs: BTreeSet<[u8; 12]>,
}

impl KeySchedule for WatchedSchedule {
    fn next_seal(&mut self) -> Result<SealKeys, HandshakeError> {
        self.schedule.next_seal().map(|keys| watch(keys, 0, &mut self.ivs))
    }

    fn next_open(&mut self) -> Result<OpenKeys, HandshakeError> {
        self.schedule.next_open()
    }

    fn handle_new_session_ticket(&mut self, body: &[u8]) -> Result<(), HandshakeError> {
        self.schedule.handle_new_session_ticket(body)
    }
}
