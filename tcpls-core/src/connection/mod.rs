//! API skeleton; the bodies come with the implementation.
#![allow(missing_docs, unused_variables)]
use std::sync::Arc;
use core::net::SocketAddr;
use bytes::{Bytes, BytesMut};
use crate::config::Config;
use crate::crypto::Handshake;
use crate::crypto::rng::Seed;
use crate::endpoint::{Join, NewSession};
use crate::error::*;
use crate::event::Event;
use crate::time::Time;
use crate::wire::ids::*;

pub struct Connection;
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClaimId(pub u32);
/// What became of a claim (a TCP connection that showed a token, and has not proven itself) after more bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claim { /// needs more bytes
    Waiting,
    /// It is TCP connection `tcp` from now on: keep passing bytes, with `handle_bytes`.
    Proven(ConnectionId),
    /// Send what `poll_claim_transmit` still gives, then close the socket.
    Refused }
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TcpEnd { Fin, Reset, Error(std::io::ErrorKind) }
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State { Handshaking, Established, Plain, Stranded { until: Time }, Closing, Closed }

impl Connection {
    pub fn client(now: Time, config: Arc<Config>, tls: Box<dyn Handshake>, seed: Seed) -> Self { todo!() }
    pub fn server(now: Time, config: Arc<Config>, tls: Box<dyn Handshake>, session: NewSession, seed: Seed) -> Self { todo!() }
    // what happened
    /// Takes whole records out of `bytes`, leaves the rest.
    pub fn handle_bytes(&mut self, now: Time, tcp: ConnectionId, bytes: &mut BytesMut) { todo!() }
    pub fn handle_tcp_end(&mut self, now: Time, tcp: ConnectionId, how: TcpEnd) { todo!() }
    pub fn handle_timeout(&mut self, now: Time) { todo!() }
    /// Server: a TCP connection showed a token of this session.
    pub fn handle_join(&mut self, now: Time, join: Join) -> ClaimId { todo!() }
    pub fn handle_claim_bytes(&mut self, now: Time, claim: ClaimId, bytes: &mut BytesMut) -> Claim { todo!() }
    pub fn handle_claim_end(&mut self, now: Time, claim: ClaimId) { todo!() }
    /// The session's claim may also be refused later (time-out, another was faster): ask after every call.
    pub fn claim(&self, claim: ClaimId) -> Claim { todo!() }
    // commands
    /// Client: spends a token. To be called when the TCP connection is established.
    pub fn open_tcp(&mut self, now: Time) -> Result<ConnectionId, OpenTcpError> { todo!() }
    pub fn open_tcp_with(&mut self, now: Time, zero_rtt: bool) -> Result<ConnectionId, OpenTcpError> { todo!() }
    pub fn retire_tcp(&mut self, now: Time, tcp: ConnectionId) -> Result<(), TcpError> { todo!() }
    pub fn set_backup(&mut self, tcp: ConnectionId, backup: bool) -> Result<(), TcpError> { todo!() }
    pub fn ping(&mut self, tcp: ConnectionId) -> Result<(), TcpError> { todo!() }
    pub fn open_stream(&mut self) -> Result<StreamId, OpenStreamError> { todo!() }
    pub fn accept_stream(&mut self) -> Option<StreamId> { todo!() }
    pub fn stream(&mut self, id: StreamId) -> Stream<'_> { todo!() }
    pub fn advertise(&mut self, address: SocketAddr) -> Result<AddressId, AddressError> { todo!() }
    pub fn withdraw(&mut self, id: AddressId) -> Result<(), AddressError> { todo!() }
    pub fn close(&mut self, now: Time, error: ErrorCode, reason: &[u8]) { todo!() }
    // what to do next
    pub fn poll_transmit(&mut self, now: Time, tcp: ConnectionId, room: usize, out: &mut Vec<u8>) -> usize { todo!() }
    pub fn poll_claim_transmit(&mut self, now: Time, claim: ClaimId, out: &mut Vec<u8>) -> usize { todo!() }
    pub fn poll_event(&mut self) -> Option<Event> { todo!() }
    pub fn poll_timeout(&self) -> Option<Time> { todo!() }
    // getters
    pub fn state(&self) -> State { todo!() }
    pub fn wants_write(&self, tcp: ConnectionId) -> bool { todo!() }
    pub fn wants_read(&self, tcp: ConnectionId) -> bool { todo!() }
    pub fn tcp_connections(&self) -> Vec<ConnectionId> { todo!() }
    pub fn tokens(&self) -> usize { todo!() }
    pub fn session_id(&self) -> Option<SessionId> { todo!() }
    pub fn side(&self) -> Side { todo!() }
    pub fn stats(&self) -> Stats { todo!() }
    pub fn set_scheduler(&mut self, policy: Box<dyn Scheduler>) { todo!() }
}
pub trait Scheduler: Send {}
#[derive(Clone, Debug, Default)]
pub struct Stats { pub tcp: Vec<TcpStats> }
#[derive(Clone, Debug)]
pub struct TcpStats { pub tcp: ConnectionId, pub bytes_sent: u64, pub bytes_received: u64, pub stream_bytes_sent: u64, pub stream_bytes_received: u64, pub records_sent: u64, pub records_received: u64, pub requeued_bytes: u64, pub smoothed_rtt: Option<std::time::Duration>, pub min_rtt: Option<std::time::Duration> , pub fault: Option<TcpFault> }
/// Borrowed view of one stream.
pub struct Stream<'a>(&'a mut Connection);
impl Stream<'_> {
    pub fn write(&mut self, data: &[u8]) -> Result<usize, WriteError> { todo!() }
    /// Zero-copy; takes the front of `data` that fits and leaves the rest in it.
    pub fn write_chunk(&mut self, data: &mut Bytes) -> Result<usize, WriteError> { todo!() }
    pub fn finish(&mut self) -> Result<(), WriteError> { todo!() }
    pub fn reset(&mut self, error: ErrorCode) -> Result<(), WriteError> { todo!() }
    /// `Ok(None)` is the end of the stream.
    pub fn read(&mut self, max: usize) -> Result<Option<Bytes>, ReadError> { todo!() }
    pub fn stop(&mut self, error: ErrorCode) -> Result<(), ReadError> { todo!() }
    pub fn attach(&mut self, tcp: ConnectionId) -> Result<(), TcpError> { todo!() }
    pub fn detach(&mut self, tcp: ConnectionId) -> Result<(), TcpError> { todo!() }
    pub fn set_priority(&mut self, priority: i8) -> Result<(), WriteError> { todo!() }
}
