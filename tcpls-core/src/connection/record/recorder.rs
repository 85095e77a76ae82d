//! Writes the entries of one session, in blocks.

use core::time::Duration;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use super::content::{self, Messages, Origin};
use super::fields::{Field, Moment, Name, Writer};
use super::format::{BLOCK, BLOCK_HEADER, seal_block};
use super::item::{self, Item};
use super::lock::lock;
use super::names;
use super::privacy::Privacy;
use super::tls::{RecordedHandshake, TlsLog};
use crate::connection::TimeoutReason;
use crate::connection::input::Opened;
use crate::connection::trace::{Content, Event as TraceEvent};
use crate::crypto::{Handshake, TAG_LEN};
use crate::error::{CloseReason, Violation};
use crate::event::{Event, StreamEvent, TcpEvent};
use crate::time::Time;
use crate::wire::ids::{ConnectionId, RecordSeq};
use crate::wire::record::HEADER_LEN;

/// A block is passed on at the next call after this time.
const MAX_AGE: Duration = Duration::from_secs(1);

/// Takes the blocks of recordings, for a file.
pub trait Blocks: Send {
    /// Takes a block. It must not block: the session waits for it. The last block of a session has a mark other than
    /// [`Mark::More`]. Behind a block that is not taken comes the last one, without entries and with the reason as its
    /// mark, which has to be taken.
    fn block(&mut self, block: &[u8], mark: Mark) -> Taken;
}

/// Whether more blocks of a session follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
#[non_exhaustive]
pub enum Mark {
    /// More follow.
    More = 0,
    /// The session has ended.
    Complete = 1,
    /// The file has reached its size limit; the session went on.
    Limit = 2,
    /// The file could not be written as fast as the session went on.
    Behind = 3,
}

impl Mark {
    pub(super) const fn from_u8(number: u8) -> Option<Self> {
        match number {
            0 => Some(Self::More),
            1 => Some(Self::Complete),
            2 => Some(Self::Limit),
            3 => Some(Self::Behind),
            _ => None,
        }
    }
}

/// Whether a block was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// It was taken.
    Yes,
    /// It was dropped, and the recording ends with this mark.
    No(Mark),
}

/// What a replay gives to the session in place of what is not recorded.
#[derive(Debug, Default)]
pub(super) struct Script {
    /// What the TLS library said.
    pub(super) tls: VecDeque<Item>,
    /// How plaintext records were judged.
    pub(super) verdicts: VecDeque<Item>,
    /// What a scheduler of the application decided.
    pub(super) choices: VecDeque<u8>,
}

pub(super) type SharedScript = Arc<Mutex<Script>>;

/// Records one session. Pass it to [`Connection::client_with`](crate::Connection::client_with) or
/// [`Connection::server_with`](crate::Connection::server_with).
pub struct Recorder {
    pub(super) privacy: Privacy,
    session: u32,
    blocks: Box<dyn Blocks>,
    writer: Writer,
    block: Vec<u8>,
    /// When the block got its first entry.
    since: Time,
    now: Time,
    deadline: (Time, u8),
    messages: Messages,
    pub(super) tls: Arc<TlsLog>,
    pub(super) script: Option<SharedScript>,
    has_ended: bool,
}

impl Recorder {
    /// Records a session as number `session` of a file.
    pub fn new(session: u32, privacy: Privacy, blocks: Box<dyn Blocks>) -> Self {
        let tls = Arc::new(TlsLog::new(privacy.clone()));
        Self {
            privacy,
            session,
            blocks,
            writer: Writer::default(),
            block: vec![0; BLOCK_HEADER],
            since: Time::ZERO,
            now: Time::ZERO,
            deadline: (Time::ZERO, 0),
            messages: Messages::default(),
            tls,
            script: None,
            has_ended: false,
        }
    }

    /// Whether nothing more is recorded.
    pub(super) fn has_ended(&self) -> bool {
        self.has_ended
    }

    /// Whether a call at `now` is later than the one before: then its deadline is recorded.
    pub(super) fn is_later(&mut self, now: Time) -> bool {
        let is_later = now > self.now;
        self.now = self.now.max(now);
        is_later
    }

    /// A call begins.
    pub(super) fn begin(&mut self, call: &Item) {
        self.finish_entry();
        self.now = call.now().map_or(self.now, |now| now.max(self.now));
        if self.block.len() > BLOCK_HEADER && self.now.saturating_since(self.since) > MAX_AGE {
            self.flush(Mark::More);
        }
        call.put(&mut self.writer);
    }

    /// Something happened during the call.
    pub(super) fn add(&mut self, item: &Item) {
        self.add_tls();
        item.put(&mut self.writer);
    }

    #[inline]
    fn add_tls(&mut self) {
        if self.tls.is_dirty() {
            self.tls.take(&mut self.writer.bytes);
        }
    }

    /// Takes the entry of the call, which is not added to a block.
    pub(super) fn take_entry(&mut self) -> Vec<u8> {
        self.add_tls();
        core::mem::take(&mut self.writer.bytes)
    }

    /// Ends the entry of the call.
    fn finish_entry(&mut self) {
        self.add_tls();
        if self.writer.bytes.is_empty() || self.has_ended {
            return;
        }
        if self.block.len() == BLOCK_HEADER {
            self.since = self.now;
        }
        item::put_entry(&self.writer.bytes, &mut self.block);
        self.writer.bytes.clear();
        if self.block.len() >= BLOCK {
            self.flush(Mark::More);
        }
    }

    fn flush(&mut self, mark: Mark) {
        if self.has_ended {
            return;
        }
        seal_block(&mut self.block, self.session, mark as u8);
        let taken = self.blocks.block(&self.block, mark);
        self.block.truncate(BLOCK_HEADER);
        self.has_ended = mark != Mark::More;
        if let Taken::No(why) = taken {
            self.has_ended = true;
            seal_block(&mut self.block, self.session, why as u8);
            self.blocks.block(&self.block, why);
            self.block.truncate(BLOCK_HEADER);
        }
        if self.has_ended {
            self.tls.close();
        }
    }

    /// Memory of entries that were not passed on, in bytes.
    pub(in crate::connection) fn memory(&self) -> usize {
        size_of::<Self>() + self.block.capacity() + self.writer.bytes.capacity() + self.tls.memory()
    }

    /// Passes on what there is, and frees the memory for more.
    pub(in crate::connection) fn shrink_to_fit(&mut self) {
        if self.block.len() > BLOCK_HEADER {
            self.flush(Mark::More);
        }
        self.block.shrink_to_fit();
        self.writer.bytes.shrink_to_fit();
    }

    pub(super) fn add_deadline(&mut self, due: Option<(Time, TimeoutReason)>) {
        let due = due.map_or((Time::ZERO, 0), |(at, reason)| (at, names::reason(&reason)));
        if due != self.deadline {
            self.deadline = due;
            self.add(&Item::Deadline { at: Moment(due.0), reason: due.1 });
        }
    }

    /// A record of the peer opened.
    pub(super) fn add_opened(
        &mut self,
        tcp: ConnectionId,
        generation: u32,
        bytes: usize,
        is_plain: bool,
        opened: &Result<Opened, Violation>,
    ) {
        let Ok(Opened { content_type, content }) = opened else {
            return self.add(&Item::OpenedInvalid { generation });
        };
        self.add_tls();
        self.writer.bytes.push(item::OPENED);
        generation.put(&mut self.writer);
        content_type.put(&mut self.writer);
        bytes.saturating_sub(HEADER_LEN + TAG_LEN + 1 + content.len()).put(&mut self.writer);
        let out = &mut self.writer.bytes;
        match content_type {
            23 if !is_plain => content::put_frames(&self.privacy, Origin::Peer, content, out),
            21 => content::put_whole(content.len() <= 2, content, out),
            22 if tcp == ConnectionId::FIRST => self.messages.put(content, out),
            22 => Messages::default().put(content, out),
            _ => content::put_whole(self.privacy.is_full(), content, out),
        }
    }

    /// An event of the trace.
    pub(in crate::connection) fn trace(&mut self, event: &TraceEvent<'_>) {
        match event {
            TraceEvent::RecordSent { tcp, seq, bytes, content } => self.add_sent(*tcp, *seq, *bytes, content),
            TraceEvent::EarlySent { tcp, bytes, content: Content::Frames(frames) } => {
                self.add_tls();
                self.writer.bytes.push(item::EARLY_SENT);
                tcp.put(&mut self.writer);
                bytes.put(&mut self.writer);
                content::put_frames(&self.privacy, Origin::Own, frames.bytes(), &mut self.writer.bytes);
            }
            TraceEvent::Scheduled { tcp, choice, .. } => {
                self.add(&Item::Scheduled { tcp: *tcp, choice: names::choice(*choice) });
            }
            event => match names::traced(event) {
                0 => {}
                kind => self.add(&Item::Traced { kind, tcp: event.tcp().map(|tcp| tcp.0.into()) }),
            },
        }
    }

    fn add_sent(&mut self, tcp: ConnectionId, seq: RecordSeq, bytes: usize, content: &Content<'_>) {
        self.add_tls();
        let kind: u8 = match content {
            Content::Frames(_) => 0,
            Content::Plain { .. } => 1,
            Content::Alert(_) => 2,
            Content::Handshake { .. } => 3,
            Content::Invalid => 4,
        };
        self.writer.bytes.push(item::SENT);
        tcp.put(&mut self.writer);
        seq.put(&mut self.writer);
        bytes.put(&mut self.writer);
        kind.put(&mut self.writer);
        let out = &mut self.writer.bytes;
        match content {
            Content::Frames(frames) => content::put_frames(&self.privacy, Origin::Own, frames.bytes(), out),
            Content::Alert(alert) => content::put_whole(true, &[alert.0], out),
            Content::Handshake { ty } => content::put_whole(true, &[*ty], out),
            Content::Plain { .. } | Content::Invalid => content::put_whole(true, &[], out),
        }
    }

    /// The driver took this event, or there was none.
    pub(super) fn add_event(&mut self, event: Option<&Event>) {
        let Some(event) = event else { return self.add(&Item::Nothing {}) };
        let detail = self.detail(event);
        self.add(&Item::Reported { kind: names::event(event), about: names::about(event), detail });
    }

    fn detail(&self, event: &Event) -> Name {
        Name(match event {
            Event::Established(terms) => {
                let protocol = terms.application_protocol.as_deref().map(|name| self.privacy.name(name));
                let protocol = protocol.as_deref().map(String::from_utf8_lossy);
                format!("tcpls: {}, draft only: {}, protocol: {protocol:?}", terms.tcpls, terms.draft_only).into_bytes()
            }
            Event::Tcp(TcpEvent::Lost { fault, .. }) => format!("{fault:?}").into_bytes(),
            Event::Tcp(TcpEvent::Status { backup, .. }) => format!("backup: {backup}").into_bytes(),
            Event::Stream(StreamEvent::Stopped { error, .. }) => error.to_string().into_bytes(),
            Event::AddressAdvertised { address, .. } | Event::AddressWithdrawn { address, .. } => {
                self.privacy.address(*address).to_string().into_bytes()
            }
            Event::TcpOption { kind, value, request, .. } => {
                format!("kind {kind}, {} bytes, request {:?}", value.len(), request.map(|id| id.0)).into_bytes()
            }
            Event::TcpOptionAnswered { request, kind, outcome, .. } => {
                format!("kind {kind}, request {}: {outcome}", request.0).into_bytes()
            }
            Event::Closed { reason } => close_reason(reason).into_bytes(),
            _ => Vec::new(),
        })
    }

    /// Takes a verdict from the script of a replay.
    pub(super) fn scripted(&self) -> Option<Item> {
        self.script.as_ref().and_then(|script| lock(script).verdicts.pop_front())
    }
}

/// A session begins: its handshake is recorded, too.
pub(in crate::connection) fn begin(
    recorder: Option<Recorder>,
    tls: Box<dyn Handshake>,
    call: impl FnOnce(&Privacy) -> Item,
) -> (Box<dyn Handshake>, Option<Recorder>) {
    let Some(mut recorder) = recorder else { return (tls, None) };
    let call = call(&recorder.privacy);
    recorder.begin(&call);
    (Box::new(RecordedHandshake::new(tls, &recorder.tls)), Some(recorder))
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.finish_entry();
        self.flush(Mark::Complete);
    }
}

/// Without texts of the peer and of the TLS library.
fn close_reason(reason: &CloseReason) -> String {
    match reason {
        CloseReason::Peer { error, reason } => format!("Peer {{ error: {error}, reason: {} bytes }}", reason.len()),
        CloseReason::Handshake(error) => format!("Handshake({:?})", error.kind()),
        other => format!("{other:?}"),
    }
}
