//! rustls' unbuffered API on blocking sockets: its user has the buffers, so batches are as large as ours.

use std::io::{Read, Write};
use std::net::TcpStream;

use rustls::client::{ClientConnectionData, UnbufferedClientConnection};
use rustls::server::{ServerConnectionData, UnbufferedServerConnection};
use rustls::unbuffered::{ConnectionState, UnbufferedStatus};

use super::bare::{next_piece, wait_for_end};
use super::{BATCH, Job, Sample, accept, connect, two_ends};
use crate::Outcome;
use crate::meter::Meter;
use crate::tls::{PROTOCOL, server_name};

/// The longest record, header included, of a whole batch, and the room that a flight of the handshake needs.
const OUT: usize = BATCH + (BATCH / 16_384 + 1) * 64;

/// Bulk transfer.
pub fn run(job: &Job) -> Outcome<Sample> {
    let (client, server) = (job.tls.client(PROTOCOL)?, job.tls.server(PROTOCOL)?);
    let receive = |address_is, meter| {
        let socket = accept(&address_is)?;
        End::new(UnbufferedServerConnection::new(server)?, socket).receive(meter)
    };
    two_ends(job, receive, |address, meter| {
        let socket = connect(address)?;
        End::new(UnbufferedClientConnection::new(client, server_name())?, socket).send(meter)
    })
}

/// What clients and servers have in common.
trait Process {
    type Data;
    fn process<'c, 'i>(&'c mut self, incoming: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data>;
}

impl Process for UnbufferedClientConnection {
    type Data = ClientConnectionData;
    fn process<'c, 'i>(&'c mut self, incoming: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data> {
        self.process_tls_records(incoming)
    }
}

impl Process for UnbufferedServerConnection {
    type Data = ServerConnectionData;
    fn process<'c, 'i>(&'c mut self, incoming: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data> {
        self.process_tls_records(incoming)
    }
}

struct End<C> {
    tls: C,
    socket: TcpStream,
    /// What was read and not processed lies between `start` and `end`.
    input: Vec<u8>,
    start: usize,
    end: usize,
    out: Vec<u8>,
    written: usize,
}

impl<C: Process> End<C> {
    fn new(tls: C, socket: TcpStream) -> Self {
        Self { tls, socket, input: vec![0; 2 * BATCH], start: 0, end: 0, out: vec![0; OUT], written: 0 }
    }

    /// Reads once; whether anything arrived.
    fn read(&mut self) -> Outcome<bool> {
        self.input.copy_within(self.start..self.end, 0);
        (self.start, self.end) = (0, self.end - self.start);
        let len = self.socket.read(&mut self.input[self.end..])?;
        self.end += len;
        Ok(len > 0)
    }

    /// Until application data may be sent.
    fn shake_hands(&mut self) -> Outcome {
        loop {
            let UnbufferedStatus { discard, state, .. } = self.tls.process(&mut self.input[self.start..self.end]);
            self.start += discard;
            match state? {
                ConnectionState::EncodeTlsData(mut data) => {
                    self.written += data.encode(&mut self.out[self.written..])?
                }
                ConnectionState::TransmitTlsData(data) => {
                    self.socket.write_all(&self.out[..self.written])?;
                    self.written = 0;
                    data.done();
                }
                ConnectionState::BlockedHandshake => {
                    if !self.read()? {
                        return Err("no end of the handshake".into());
                    }
                }
                // The client may have sent data right behind its last flight; it stays where it is.
                ConnectionState::WriteTraffic(_) | ConnectionState::ReadTraffic(_) => return Ok(()),
                state => return Err(format!("{state:?} in the handshake").into()),
            }
        }
    }

    fn send(mut self, mut meter: Meter) -> Outcome<Meter> {
        self.shake_hands()?;
        let ConnectionState::WriteTraffic(mut traffic) = self.tls.process(&mut []).state? else {
            return Err("application data can't be sent".into());
        };
        while meter.left() > 0 {
            let piece = next_piece(meter.left(), BATCH);
            let len = traffic.encrypt(piece, &mut self.out)?;
            self.socket.write_all(&self.out[..len])?;
            meter.moved(piece.len());
        }
        wait_for_end(&mut self.socket);
        meter.finish();
        Ok(meter)
    }

    fn receive(mut self, mut meter: Meter) -> Outcome<Meter> {
        self.shake_hands()?;
        while meter.left() > 0 && self.read()? {
            loop {
                let UnbufferedStatus { discard, state, .. } = self.tls.process(&mut self.input[self.start..self.end]);
                self.start += discard;
                match state? {
                    ConnectionState::ReadTraffic(mut traffic) => {
                        while let Some(record) = traffic.next_record() {
                            let record = record?;
                            self.start += record.discard;
                            meter.moved(record.payload.len());
                        }
                    }
                    ConnectionState::EncodeTlsData(mut data) => _ = data.encode(&mut self.out)?,
                    ConnectionState::TransmitTlsData(data) => data.done(),
                    _ => break,
                }
            }
        }
        Ok(meter)
    }
}
