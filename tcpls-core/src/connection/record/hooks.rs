//! Where the session meets its recorder. Without one, each of these calls costs a comparison.

use bytes::BytesMut;

use super::fields::Name;
use super::item::Item;
use super::names;
use super::privacy::Privacy;
use super::recorder::Recorder;
use crate::connection::TimeoutReason;
use crate::connection::input::Opened;
use crate::connection::trace::Tracer;
use crate::crypto::JoinName;
use crate::error::Violation;
use crate::event::Event;
use crate::time::Time;
use crate::wire::ids::ConnectionId;
use crate::wire::record::{RecordError, RecordHeader};

/// What a record says of a server that has completed a full handshake as the answer to a join.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::connection) enum Heard {
    /// Nothing about the instance.
    Nothing,
    /// The number of its instance; 0 if its Session Parameters do not say.
    Instance(u64),
    /// It is not a record of a session that begins.
    Unexpected,
}

/// What a plaintext record is on a TCP connection that joins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::connection) enum JoinAnswer {
    /// The answer to its hello.
    Hello,
    /// Without effect.
    Nothing,
    /// None that a server sends here.
    Invalid,
    /// An alert.
    Alert(u8),
}

/// What a call returned.
pub(in crate::connection) enum Returned {
    Value(u64),
    Nothing,
    Blocked,
    Error(String),
}

impl Returned {
    /// Of a call that returns an error which may be that it would block.
    pub(in crate::connection) fn of<T, E: core::fmt::Debug + PartialEq>(
        outcome: &Result<T, E>,
        blocked: &E,
        value: impl FnOnce(&T) -> Self,
    ) -> Self {
        match outcome {
            Ok(ok) => value(ok),
            Err(error) if error == blocked => Self::Blocked,
            Err(error) => Self::Error(format!("{error:?}")),
        }
    }

    /// Of a call that returns an error.
    pub(in crate::connection) fn of_result<T, E: core::fmt::Debug>(
        outcome: &Result<T, E>,
        value: impl FnOnce(&T) -> u64,
    ) -> Self {
        match outcome {
            Ok(ok) => Self::Value(value(ok)),
            Err(error) => Self::Error(format!("{error:?}")),
        }
    }
}

impl Tracer {
    #[inline(always)]
    fn recorder(&mut self) -> Option<&mut Recorder> {
        self.0.as_mut()?.record.as_deref_mut()
    }

    /// Whether the session is recorded.
    #[inline(always)]
    pub(in crate::connection) fn is_recording(&self) -> bool {
        self.0.as_ref().is_some_and(|on| on.record.is_some())
    }

    /// A call begins.
    #[inline(always)]
    pub(in crate::connection) fn call(&mut self, item: impl FnOnce(&Privacy) -> Item) {
        if self.is_recording() {
            self.begin(item);
        }
    }

    #[cold]
    #[inline(never)]
    fn begin(&mut self, item: impl FnOnce(&Privacy) -> Item) {
        let Some(recorder) = self.recorder() else { return };
        let item = item(&recorder.privacy);
        recorder.begin(&item);
        if recorder.has_ended() {
            self.0.iter_mut().for_each(|on| on.record = None);
        }
    }

    /// Whether the deadline before a call at `now` is to be recorded.
    pub(in crate::connection) fn wants_deadline(&mut self, now: Time) -> bool {
        self.recorder().is_some_and(|recorder| recorder.is_later(now))
    }

    /// The deadline before the call.
    pub(in crate::connection) fn add_deadline(&mut self, due: Option<(Time, TimeoutReason)>) {
        self.recorder().into_iter().for_each(|recorder| recorder.add_deadline(due));
    }

    /// The call returns.
    #[inline(always)]
    pub(in crate::connection) fn returned(&mut self, value: impl FnOnce() -> Returned) {
        if self.is_recording() {
            self.add(|_| match value() {
                Returned::Value(value) => Item::Returned { value },
                Returned::Nothing => Item::Nothing {},
                Returned::Blocked => Item::Blocked {},
                Returned::Error(error) => Item::Refused { error: Name(error.into_bytes()) },
            });
        }
    }

    /// The driver takes an event.
    #[inline(always)]
    pub(in crate::connection) fn took_event(&mut self, event: Option<&Event>) {
        if let Some(recorder) = self.recorder() {
            recorder.add_event(event);
        }
    }

    /// The application wrote these bytes.
    #[inline(always)]
    pub(in crate::connection) fn wrote(&mut self, data: impl FnOnce(usize) -> Vec<u8>, taken: usize) {
        if self.recorder().is_some_and(|recorder| recorder.privacy.is_full()) {
            self.add(|_| Item::Written { data: Name(data(taken)) });
        }
    }

    /// A record of the peer begins.
    #[inline(always)]
    pub(in crate::connection) fn record(&mut self, header: RecordHeader) {
        if self.is_recording() {
            self.add(|_| Item::Record { content_type: header.content_type as u8, len: header.len });
        }
    }

    /// What follows is no record.
    #[cold]
    pub(in crate::connection) fn bad_header(&mut self, error: RecordError) {
        let error = match error {
            RecordError::NotTls => 1,
            RecordError::Overflow => 2,
            RecordError::Empty => 3,
        };
        self.add(|_| Item::BadHeader { error });
    }

    /// A record opened, `bytes` long on the wire, with keys of a generation.
    pub(in crate::connection) fn opened(
        &mut self,
        tcp: ConnectionId,
        generation: u32,
        bytes: usize,
        is_plain: bool,
        opened: &Result<Opened, Violation>,
    ) {
        if let Some(recorder) = self.recorder() {
            recorder.add_opened(tcp, generation, bytes, is_plain, opened);
        }
    }

    #[cold]
    #[inline(never)]
    fn add(&mut self, item: impl FnOnce(&Privacy) -> Item) {
        let Some(recorder) = self.recorder() else { return };
        let item = item(&recorder.privacy);
        recorder.add(&item);
    }

    /// The verdict of the recording that is replayed.
    fn scripted(&mut self) -> Option<Item> {
        self.recorder()?.scripted()
    }

    /// Judges a plaintext record of a join; a replay takes the verdict of the recording, whose record is empty.
    pub(in crate::connection) fn judge_answer(&mut self, judge: impl FnOnce() -> JoinAnswer) -> JoinAnswer {
        if !self.is_recording() {
            return judge();
        }
        let answer = match self.scripted() {
            Some(Item::JoinAnswer { kind: 0, .. }) => JoinAnswer::Hello,
            Some(Item::JoinAnswer { kind: 1, .. }) => JoinAnswer::Nothing,
            Some(Item::JoinAnswer { kind: 3, alert }) => JoinAnswer::Alert(alert),
            Some(Item::JoinAnswer { .. }) => JoinAnswer::Invalid,
            _ => judge(),
        };
        let (kind, alert) = match answer {
            JoinAnswer::Hello => (0, 0),
            JoinAnswer::Nothing => (1, 0),
            JoinAnswer::Invalid => (2, 0),
            JoinAnswer::Alert(alert) => (3, alert),
        };
        self.add(|_| Item::JoinAnswer { kind, alert });
        answer
    }

    /// Judges whether a record asks for another hello.
    pub(in crate::connection) fn judge_retry(&mut self, judge: impl FnOnce() -> bool) -> bool {
        if !self.is_recording() {
            return judge();
        }
        let is_one = match self.scripted() {
            Some(Item::RetryRequest { is_one }) => is_one,
            _ => judge(),
        };
        self.add(|_| Item::RetryRequest { is_one });
        is_one
    }

    /// Judges whether a record of a claim is a valid ChangeCipherSpec.
    pub(in crate::connection) fn judge_change_cipher_spec(&mut self, judge: impl FnOnce() -> bool) -> bool {
        if !self.is_recording() {
            return judge();
        }
        let is_valid = match self.scripted() {
            Some(Item::ChangeCipherSpec { is_valid }) => is_valid,
            _ => judge(),
        };
        self.add(|_| Item::ChangeCipherSpec { is_valid });
        is_valid
    }

    /// The number of a server's instance.
    pub(in crate::connection) fn judge_instance(&mut self, instance: u64) -> u64 {
        if !self.is_recording() {
            return instance;
        }
        let number = match self.scripted() {
            Some(Item::Instance { number }) => number,
            _ => instance,
        };
        if number != 0 {
            self.add(|privacy| Item::Instance { number: privacy.instance(number) });
        }
        number
    }

    /// Judges a record of a server that does not have the session; a replay has no keys for it.
    pub(in crate::connection) fn judge_stranger(&mut self, judge: impl FnOnce() -> Heard) -> Heard {
        if !self.is_recording() {
            return judge();
        }
        let heard = match self.scripted() {
            Some(Item::Stranger { kind: 0, .. }) => Heard::Nothing,
            Some(Item::Stranger { kind: 1, number }) => Heard::Instance(number),
            Some(Item::Stranger { .. }) => Heard::Unexpected,
            _ => judge(),
        };
        let (kind, number) = match heard {
            Heard::Nothing => (0, 0),
            Heard::Instance(number) => (1, number),
            Heard::Unexpected => (2, 0),
        };
        self.add(|privacy| Item::Stranger { kind, number: privacy.instance(number) });
        heard
    }

    /// The name that joins show; a replay has no hello to read it from.
    pub(in crate::connection) fn judge_name(&mut self, name: JoinName) -> JoinName {
        if !self.is_recording() {
            return name;
        }
        let name = match self.scripted() {
            Some(Item::JoinName { kind: 0, .. }) => JoinName::Shown,
            Some(Item::JoinName { kind: 1, .. }) => JoinName::Public(None),
            Some(Item::JoinName { name, .. }) => JoinName::Public(Some(name.text())),
            _ => name,
        };
        self.add(|privacy| match &name {
            JoinName::Shown => Item::JoinName { kind: 0, name: Name(Vec::new()) },
            JoinName::Public(None) => Item::JoinName { kind: 1, name: Name(Vec::new()) },
            JoinName::Public(Some(name)) => Item::JoinName { kind: 2, name: Name(privacy.name(name.as_bytes())) },
        });
        name
    }

    /// Takes what the last call recorded, in a replay.
    pub(super) fn take_entry(&mut self) -> Vec<u8> {
        self.recorder().map(Recorder::take_entry).unwrap_or_default()
    }
}

/// Bytes of a buffer that a call left.
pub(in crate::connection) fn left(bytes: &BytesMut) -> Returned {
    Returned::Value(bytes.len() as u64)
}

/// The name of a choice, for reports.
pub(super) const fn choice_name(choice: u8) -> &'static str {
    match names::choice_of(choice) {
        crate::connection::schedule::Choice::Send => "send",
        crate::connection::schedule::Choice::Wait => "wait",
        crate::connection::schedule::Choice::Duplicate => "duplicate",
    }
}
