//! Early data on its way through OpenSSL.

use openssl::ssl::{Error, ErrorCode};

use super::{Driver, Phase};
use crate::crypto::openssl::early::Early;
use crate::crypto::openssl::gate::Verdict;
use crate::error::HandshakeError;
use crate::wire::ids::Side;
use crate::wire::record::MAX_PLAINTEXT;

impl Driver {
    /// Client: makes the ClientHello, and leaves it open for early data.
    pub(super) fn begin_early(&mut self, state: Vec<u8>) -> Result<(), HandshakeError> {
        // Early data without content: OpenSSL writes the ClientHello alone.
        match self.tls.write_early_data(&[]) {
            Err(error) if error.code() != ErrorCode::WANT_READ => {
                return Err(self.failed(error));
            }
            _ => self.collect()?,
        }
        self.early = Early::begin(state, &self.outgoing);
        Ok(())
    }

    /// Client: seals early data, by OpenSSL's own keys.
    pub(super) fn seal_early(&mut self, plaintext: &[u8], out: &mut Vec<u8>) -> bool {
        if !self.early.may_write(plaintext.len()) || self.phase != Phase::Handshaking {
            return false;
        }
        let sealed = self.tls.write_early_data(plaintext).ok().filter(|len| *len == plaintext.len());
        self.early.note_written(sealed);
        // Of what went wrong, nothing is sent.
        let sent = self.tls.get_mut().take_flight();
        out.append(&mut self.outgoing);
        if sealed.is_some() {
            out.extend_from_slice(&sent);
        }
        sealed.is_some()
    }

    /// Passes a record to OpenSSL, unless it is part of a ClientHello that a server has to see whole before that. Returns
    /// whether OpenSSL has something to read.
    pub(super) fn let_through(&mut self, record: &[u8]) -> bool {
        self.early.is_over = true;
        let Some(gate) = self.gate.as_mut().filter(|_| !self.hello_is_over) else {
            self.tls.get_mut().feed(record);
            return true;
        };
        let Verdict::Complete { records, offers_early_data, is_allowed } = gate.take_record(record, &self.notes) else {
            return false;
        };
        self.hello_is_over = true;
        self.early.is_offered = offers_early_data;
        // OpenSSL rejects what it is not asked for, and resumes the session all the same.
        self.reads_early = offers_early_data && is_allowed;
        self.tls.get_mut().feed(&records);
        true
    }

    /// Server: takes early data until OpenSSL needs more records, or there is no more of it.
    pub(super) fn read_early_data(&mut self) -> Result<(), Error> {
        loop {
            let mut content = vec![0; MAX_PLAINTEXT];
            match self.tls.read_early_data(&mut content)? {
                0 => {
                    self.reads_early = false;
                    return Ok(());
                }
                len => {
                    content.truncate(len);
                    content.shrink_to_fit();
                    self.early.is_accepted = true;
                    self.early.received.push_back(content);
                }
            }
        }
    }

    /// Client: whether the server's EncryptedExtensions accept early data.
    pub(super) fn note_acceptance(&mut self) {
        if self.side == Side::Client {
            self.early.is_accepted = self.flight.as_ref().is_some_and(|flight| flight.accepts_early_data());
        }
    }
}
