//! Makes the calls of a recording.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use super::super::fields::Name;
use super::super::format::Malformed;
use super::super::item::Item;
use super::super::lock::lock;
use super::super::privacy::Privacy;
use super::super::recorder::Recorder;
use super::buffer::{self, MAX_BUFFER};
use super::tls::ReplayedHandshake;
use super::{Dropped, Script};
use crate::connection::schedule::{self, Choice, Scheduler, TcpView};
use crate::connection::trace::Sink;
use crate::connection::{ClaimId, Connection};
use crate::crypto::rng::Seed;
use crate::endpoint::{Join, JoinForm, NewSession};
use crate::event::OptionOutcome;
use crate::token::TokenSecret;
use crate::wire::ids::{OptionRequestId, StreamId};

/// A session and what the recording gives it.
pub(super) struct Player {
    conn: Option<Connection>,
    script: Script,
    is_full: bool,
    sink: Option<Box<dyn Sink>>,
    /// What the application writes, where the recording has only its length.
    zeros: Bytes,
    out: Vec<u8>,
}

/// What a scheduler of the application decided.
struct Scripted {
    script: Script,
    duplicates: bool,
}

impl Scheduler for Scripted {
    fn choose(&self, _asked: usize, _all: &[TcpView], _unsent: u64) -> Choice {
        let choice = lock(&self.script).choices.pop_front();
        choice.map_or(Choice::Wait, super::super::names::choice_of)
    }

    fn duplicates(&self) -> bool {
        self.duplicates
    }
}

impl Player {
    pub(super) fn new(is_full: bool) -> Self {
        let script = Script::default();
        Self { conn: None, script, is_full, sink: None, zeros: Bytes::new(), out: Vec::new() }
    }

    pub(super) fn set_trace(&mut self, sink: Box<dyn Sink>) {
        match &mut self.conn {
            Some(conn) => conn.set_trace(Some(sink)),
            None => self.sink = Some(sink),
        }
    }

    pub(super) fn connection(&self) -> Option<&Connection> {
        self.conn.as_ref()
    }

    /// Makes the call, and returns what it records.
    pub(super) fn play(&mut self, items: &[Item]) -> Result<Vec<u8>, Malformed> {
        self.set_script(items);
        let Some(call) = items.first() else { return Err(Malformed("it is empty")) };
        match (self.conn.take(), call) {
            (None, call) => {
                let mut conn = self.begin(call)?;
                if let Some(sink) = self.sink.take() {
                    conn.set_trace(Some(sink));
                }
                self.conn = Some(conn);
            }
            (Some(mut conn), call) => {
                let outcome = self.make(&mut conn, call, items);
                self.conn = Some(conn);
                outcome?;
            }
        }
        Ok(self.conn.as_mut().map(|conn| conn.trace.take_entry()).unwrap_or_default())
    }

    fn set_script(&mut self, items: &[Item]) {
        let mut script = lock(&self.script);
        script.tls.clear();
        script.verdicts.clear();
        script.choices.clear();
        for item in items {
            match item {
                Item::TlsState { .. }
                | Item::TlsHandled { .. }
                | Item::TlsWrote { .. }
                | Item::TlsSealed { .. }
                | Item::TlsEarly { .. }
                | Item::TlsFailed { .. }
                | Item::TlsAgreed { .. }
                | Item::TlsKeys { .. }
                | Item::TlsTicket { .. }
                | Item::TlsJoin { .. } => script.tls.push_back(item.clone()),
                Item::JoinAnswer { .. }
                | Item::RetryRequest { .. }
                | Item::ChangeCipherSpec { .. }
                | Item::JoinName { .. }
                | Item::Instance { .. }
                | Item::Stranger { .. } => script.verdicts.push_back(item.clone()),
                Item::Scheduled { choice, .. } => script.choices.push_back(*choice),
                _ => {}
            }
        }
    }

    fn begin(&self, call: &Item) -> Result<Connection, Malformed> {
        let mut recorder = Recorder::new(0, Privacy::replaying(self.is_full), Box::new(Dropped));
        recorder.script = Some(Arc::clone(&self.script));
        let tls = Box::new(ReplayedHandshake::new(Arc::clone(&self.script)));
        let (seed, recorder) = (Seed([0; 32]), Some(recorder));
        Ok(match call {
            Item::Server { now, config, session, cover } => {
                let secret = Arc::new(TokenSecret::new([0; 32]));
                let new = NewSession { id: *session, secret, cover: cover.clone(), instance: 0 };
                Connection::server_with(*now, Arc::new(config.as_ref().clone()), tls, new, seed, recorder)
            }
            Item::Client { now, config } => {
                Connection::client_with(*now, Arc::new(config.as_ref().clone()), tls, seed, recorder)
            }
            _ => return Err(Malformed("the recording does not begin with its session")),
        })
    }

    fn make(&mut self, conn: &mut Connection, call: &Item, items: &[Item]) -> Result<(), Malformed> {
        match call {
            Item::HandleBytes { now, tcp, len } => {
                conn.handle_bytes(*now, *tcp, &mut buffer::received(items, *len)?);
            }
            Item::HandleTcpEnd { now, tcp, how } => conn.handle_tcp_end(*now, *tcp, *how),
            Item::HandlePathDown { now, tcp } => conn.handle_path_down(*now, *tcp),
            Item::HandleTcpInfo { tcp, info } => conn.handle_tcp_info(*tcp, *info),
            Item::HandleTimeout { now } => conn.handle_timeout(*now),
            Item::PollTransmit { now, tcp, room } => {
                self.out.clear();
                conn.poll_transmit(*now, *tcp, *room, &mut self.out);
            }
            Item::PollEvent {} => _ = conn.poll_event(),
            Item::OpenTcp { now, options } => _ = conn.open_tcp_with(*now, *options),
            Item::HandleJoin { now, session, sequence, hello, resumption } => {
                let form = match resumption {
                    Some(len) => JoinForm::Resumption(Box::new(hello_records(*len)?)),
                    None => JoinForm::Extension,
                };
                let hello = Box::new(hello.0.clone());
                conn.handle_join(*now, Join { session: *session, sequence: *sequence, hello, form });
            }
            Item::HandleClaimEnd { claim } => conn.handle_claim_end(ClaimId::of(*claim)),
            Item::HandleClaimBytes { now, claim, len } => {
                conn.handle_claim_bytes(*now, ClaimId::of(*claim), &mut buffer::received(items, *len)?);
            }
            Item::PollClaimTransmit { claim } => {
                self.out.clear();
                conn.poll_claim_transmit(ClaimId::of(*claim), &mut self.out);
            }
            Item::SetPlainIdleTimeout { now, timeout } => conn.set_plain_idle_timeout(*now, *timeout),
            Item::SetKeepAlive { interval } => conn.set_keep_alive(*interval),
            Item::Evict { now } => conn.evict(*now),
            Item::UpdateKeys { now } => conn.update_keys(*now),
            Item::RetireTcp { now, tcp } => _ = conn.retire_tcp(*now, *tcp),
            Item::Drain { now, limit } => conn.drain(*now, *limit),
            Item::Close { now, error, reason } => conn.close(*now, *error, &reason.bytes()),
            Item::Ping { tcp } => _ = conn.ping(*tcp),
            Item::SetBackup { tcp, backup } => _ = conn.set_backup(*tcp, *backup),
            Item::SendTcpOption { kind, value } => _ = conn.send_tcp_option(*kind, &value.bytes()),
            Item::AskTcpOption { tcp, kind, value } => _ = conn.ask_tcp_option(*tcp, *kind, &value.bytes()),
            Item::AnswerTcpOption { request, outcome } => {
                conn.answer_tcp_option(OptionRequestId(*request), OptionOutcome::from_code(*outcome));
            }
            Item::Advertise { address } => _ = conn.advertise(*address),
            Item::Withdraw { id } => _ = conn.withdraw(*id),
            Item::SetTcpAddresses { tcp, local, remote } => conn.set_tcp_addresses(*tcp, *local, *remote),
            Item::SetScheduler { name, duplicates } => conn.set_scheduler(self.scheduler(name, *duplicates)),
            call => return self.make_on_stream(conn, call, items),
        }
        Ok(())
    }

    fn make_on_stream(&mut self, conn: &mut Connection, call: &Item, items: &[Item]) -> Result<(), Malformed> {
        match call {
            Item::OpenStream {} => _ = conn.open_stream(),
            Item::AcceptStream {} => _ = conn.accept_stream(),
            Item::Write { id, len } => _ = conn.stream(*id).write(&self.data(items, *len)?),
            Item::WriteChunk { id, len } => self.write_chunk(conn, *id, items, *len)?,
            Item::Writable { id } => _ = conn.stream(*id).writable(),
            Item::Finish { id } => _ = conn.stream(*id).finish(),
            Item::Reset { id, error } => _ = conn.stream(*id).reset(*error),
            Item::Read { id, max } => _ = conn.stream(*id).read(*max),
            Item::Stop { id, error } => _ = conn.stream(*id).stop(*error),
            Item::Attach { id, tcp } => _ = conn.stream(*id).attach(*tcp),
            Item::Detach { id, tcp } => _ = conn.stream(*id).detach(*tcp),
            Item::SetPriority { id, priority } => _ = conn.stream(*id).set_priority(*priority),
            Item::SetClass { id, class } => _ = conn.stream(*id).set_class(*class),
            _ => return Err(Malformed("it does not begin with a call")),
        }
        Ok(())
    }

    fn write_chunk(
        &mut self,
        conn: &mut Connection,
        id: StreamId,
        items: &[Item],
        len: usize,
    ) -> Result<(), Malformed> {
        let mut data = self.data(items, len)?;
        _ = conn.stream(id).write_chunk(&mut data);
        Ok(())
    }

    fn scheduler(&self, name: &Name, duplicates: bool) -> Box<dyn Scheduler> {
        let scripted = || Box::new(Scripted { script: Arc::clone(&self.script), duplicates }) as Box<dyn Scheduler>;
        schedule::by_name(&name.0).unwrap_or_else(scripted)
    }

    /// The `len` bytes that the application offers.
    fn data(&mut self, items: &[Item], len: usize) -> Result<Bytes, Malformed> {
        if len > MAX_BUFFER {
            return Err(Malformed("more than 64 MiB are written at once"));
        }
        let written = items.iter().find_map(|item| match item {
            Item::Written { data } => Some(&data.0),
            _ => None,
        });
        if let Some(data) = written {
            let mut data = data.clone();
            data.resize(len, 0);
            return Ok(data.into());
        }
        if self.zeros.len() < len {
            self.zeros = Bytes::from(vec![0; len]);
        }
        Ok(self.zeros.slice(..len))
    }
}

fn hello_records(len: u64) -> Result<BytesMut, Malformed> {
    let len = usize::try_from(len).ok().filter(|len| *len <= 1 << 16).ok_or(Malformed("a hello is too long"))?;
    Ok(BytesMut::zeroed(len))
}
