//! The applications of a run: who writes what on which stream, and whether exactly that is read.

use std::collections::BTreeMap;
use std::time::Duration;

use tcpls_core::error::{OpenStreamError, ReadError, WriteError, code};
use tcpls_core::{Connection, ErrorCode, Side, StreamId, Time};

use super::pattern::{PIECE, Pattern, Throttle};
use crate::sim::scenario;
use crate::sim::trace::{Note, Trace};

/// The codes that applications of a run reset and stop streams with.
const RESET_CODE: ErrorCode = ErrorCode(77);
const STOP_CODE: ErrorCode = ErrorCode(78);

/// All transfers of a run.
#[derive(Clone, Debug)]
pub(crate) struct Transfers {
    pub(crate) list: Vec<TransferState>,
    streams: BTreeMap<StreamId, usize>,
    /// Started, and not opened yet.
    to_open: Vec<usize>,
    /// When each side began to drain the session, and which sides know that it is drained.
    drained: [Option<Time>; 2],
    knows_drain: [bool; 2],
    /// What is wrong with what was delivered.
    pub(crate) wrong: Vec<String>,
}

/// One stream.
#[derive(Clone, Debug)]
pub(crate) struct TransferState {
    plan: scenario::Transfer,
    number: usize,
    pub(crate) opener: Side,
    pub(crate) stream: Option<StreamId>,
    /// When it was due.
    pub(crate) started: Option<Time>,
    opened: Option<Time>,
    /// What the opener writes, and what the other end does.
    pub(crate) halves: [Half; 2],
}

/// One direction of a stream.
#[derive(Clone, Debug)]
pub(crate) struct Half {
    writer: Side,
    pattern: Pattern,
    pub(crate) written: u64,
    writing: Writing,
    writable: bool,
    write_pace: Throttle,
    pub(crate) read: u64,
    readable: bool,
    read_pace: Throttle,
    pub(crate) end: Option<TransferEnd>,
    pub(crate) first: Option<Time>,
    pub(crate) last: Option<Time>,
    /// The longest time between two reads that gave something, and when it began.
    pub(crate) gap: (Duration, Time),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Writing {
    /// The other end's, which does not know the stream yet.
    NotYet,
    Goes,
    Finished,
    Reset,
    /// The reader wants no more, or the session is over.
    GivenUp,
}

/// How a direction of a transfer ended for its reader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TransferEnd {
    Whole,
    Reset,
    Stopped,
    Truncated,
    /// The session was drained before the stream was opened, or reached the other end: to be repeated in another session.
    Refused,
    /// Over real sockets: the bytes or the end were wrong.
    Wrong,
}

impl TransferEnd {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Whole => "whole",
            Self::Reset => "reset",
            Self::Stopped => "stopped",
            Self::Truncated => "truncated",
            Self::Refused => "refused",
            Self::Wrong => "wrong",
        }
    }
}

impl Half {
    fn new(plan: &scenario::Transfer, writer: Side, pattern: Pattern, writing: Writing) -> Self {
        Self {
            writer,
            pattern,
            written: 0,
            writing,
            writable: true,
            write_pace: Throttle::new(plan.write_rate),
            read: 0,
            readable: false,
            read_pace: Throttle::new(plan.read_rate),
            end: None,
            first: None,
            last: None,
            gap: (Duration::ZERO, Time::ZERO),
        }
    }

    /// Whether nothing more will come of it.
    fn is_over(&self) -> bool {
        self.end.is_some()
    }

    fn delivered(&mut self, now: Time, len: u64) {
        if let Some(last) = self.last
            && now - last > self.gap.0
        {
            self.gap = (now - last, last);
        }
        self.first.get_or_insert(now);
        self.last = Some(now);
        self.read += len;
    }
}

impl TransferState {
    fn new(number: usize, plan: &scenario::Transfer) -> Self {
        let opener = Side::from(plan.by);
        let there = Half::new(plan, opener, Pattern::new(plan, number, false), Writing::Goes);
        let back = Half::new(plan, opener.peer(), Pattern::new(plan, number, true), Writing::NotYet);
        Self { plan: plan.clone(), number, opener, stream: None, started: None, opened: None, halves: [there, back] }
    }

    /// Whether neither end has anything left to do.
    pub(crate) fn is_over(&self) -> bool {
        self.halves.iter().all(Half::is_over)
    }

    /// Whether both directions came whole.
    pub(crate) fn is_whole(&self) -> bool {
        self.halves.iter().all(|half| half.end == Some(TransferEnd::Whole))
    }

    fn is_refused(&self) -> bool {
        self.halves[0].end == Some(TransferEnd::Refused)
    }

    /// The other end does not serve it.
    fn refuse(&mut self) -> Result<(), String> {
        if self.halves[0].read > 0 || self.halves[1].writing != Writing::NotYet {
            return Err("is refused, and the other end serves it".to_owned());
        }
        self.halves[0].writing = Writing::GivenUp;
        self.halves.iter_mut().for_each(|half| half.end = Some(TransferEnd::Refused));
        Ok(())
    }

    /// Whether it is meant to be cut short.
    pub(crate) fn is_to_be_cut(&self) -> bool {
        self.plan.reset_after.is_some() || self.plan.stop_after.is_some()
    }

    fn half_of(&mut self, writer: Side) -> &mut Half {
        let back = usize::from(writer != self.opener);
        &mut self.halves[back]
    }

    /// Writes what there is to write and room for.
    fn write(&mut self, now: Time, conn: &mut Connection) -> Result<(), String> {
        let Some(id) = self.stream else { return Ok(()) };
        let reset_after = self.plan.reset_after.map(|size| size.0);
        let half = self.half_of(conn.side());
        while half.writing == Writing::Goes && half.writable {
            if reset_after.is_some_and(|limit| half.written >= limit && half.written < half.pattern.total) {
                _ = conn.stream(id).reset(RESET_CODE);
                half.writing = Writing::Reset;
            } else if half.written == half.pattern.total {
                let finished = conn.stream(id).finish().is_ok();
                half.writing = if finished { Writing::Finished } else { Writing::GivenUp };
            } else {
                let len = half.write_pace.allowance(now).min(PIECE);
                if len == 0 {
                    return Ok(());
                }
                let mut piece = half.pattern.content(half.written, len);
                let before = piece.len();
                match conn.stream(id).write_chunk(&mut piece) {
                    Ok(taken) => {
                        half.writable = taken == before;
                        half.written += taken as u64;
                        half.write_pace.used += taken as u64;
                    }
                    Err(WriteError::Blocked) => half.writable = false,
                    Err(WriteError::Stopped(code::NOT_PROCESSED)) => return self.refuse(),
                    Err(_) => half.writing = Writing::GivenUp,
                }
            }
        }
        Ok(())
    }

    /// Reads what there is to read; how much that was, or what is wrong with it.
    fn read(&mut self, now: Time, conn: &mut Connection, trace: &mut Trace) -> Result<u64, String> {
        let Some(id) = self.stream else { return Ok(0) };
        let (number, stop_after) = (self.number, self.plan.stop_after.map(|size| size.0));
        let side = conn.side();
        let was_accepted = side == self.opener || self.halves[1].writing != Writing::NotYet;
        let half = self.half_of(side.peer());
        if half.end.is_some() {
            return Ok(0);
        }
        let before = half.read;
        while half.readable && half.end.is_none() {
            if stop_after.is_some_and(|limit| half.read >= limit) && conn.stream(id).stop(STOP_CODE).is_ok() {
                half.end = Some(TransferEnd::Stopped);
                break;
            }
            let most = half.read_pace.allowance(now).min(PIECE * 64);
            if most == 0 {
                break;
            }
            match conn.stream(id).read(most as usize) {
                Ok(Some(bytes)) => {
                    let len = bytes.len() as u64;
                    if len == 0 || len > most {
                        return Err(format!("a read of at most {most} bytes gave {len}"));
                    }
                    if !half.pattern.fits(half.read, &bytes) {
                        return Err(format!("{len} bytes at {} are not what was written", half.read));
                    }
                    half.delivered(now, len);
                    half.read_pace.used += len;
                    trace.note(now, &Note::StreamRead { transfer: number, bytes: len as usize });
                }
                Ok(None) if half.read == half.pattern.total => half.end = Some(TransferEnd::Whole),
                Ok(None) => return Err(format!("ends at {} of {}", half.read, half.pattern.total)),
                Err(ReadError::Blocked) => half.readable = false,
                // The other end has not begun it.
                Err(ReadError::Unknown) if half.read == 0 => half.readable = false,
                // The session refused it.
                Err(ReadError::Stopped) if !was_accepted => half.readable = false,
                Err(ReadError::Reset(code::NOT_PROCESSED)) => {
                    self.refuse()?;
                    trace.note(now, &Note::StreamEnd { transfer: number, end: TransferEnd::Refused.name() });
                    return Ok(0);
                }
                Err(ReadError::Reset(_)) => half.end = Some(TransferEnd::Reset),
                Err(ReadError::Truncated) => half.end = Some(TransferEnd::Truncated),
                Err(error) => return Err(format!("can't be read at {}: {error}", half.read)),
            }
        }
        if let Some(end) = half.end {
            trace.note(now, &Note::StreamEnd { transfer: number, end: end.name() });
        }
        Ok(half.read - before)
    }
}

impl Transfers {
    pub(crate) fn new(plans: &[scenario::Transfer]) -> Self {
        Self {
            list: plans.iter().enumerate().map(|(number, plan)| TransferState::new(number, plan)).collect(),
            streams: BTreeMap::new(),
            to_open: Vec::new(),
            drained: [None; 2],
            knows_drain: [false; 2],
            wrong: Vec::new(),
        }
    }

    /// It is time for a transfer.
    pub(crate) fn start(&mut self, now: Time, number: usize) {
        self.list[number].started = Some(now);
        self.to_open.push(number);
    }

    /// The session ended before its handshake was complete: what was due is due again, in another one.
    pub(crate) fn start_over(&mut self) {
        for transfer in &mut self.list {
            let started = transfer.started;
            *transfer = TransferState { started, ..TransferState::new(transfer.number, &transfer.plan) };
        }
        self.streams.clear();
        self.to_open = (0..self.list.len()).filter(|number| self.list[*number].started.is_some()).collect();
        (self.drained, self.knows_drain) = ([None; 2], [false; 2]);
    }

    /// Bytes that `side`'s applications have written.
    pub(crate) fn written(&self, side: Side) -> u64 {
        let halves = self.list.iter().flat_map(|transfer| &transfer.halves);
        halves.filter(|half| half.writer == side).map(|half| half.written).sum()
    }

    pub(crate) fn is_over(&self) -> bool {
        self.list.iter().all(TransferState::is_over)
    }

    /// `side` begins to drain the session.
    pub(crate) fn drains(&mut self, now: Time, side: Side) {
        self.drained[side as usize].get_or_insert(now);
        self.knows_drain[side as usize] = true;
    }

    /// `side` received the event that its peer drains the session.
    pub(crate) fn peer_drains(&mut self, side: Side) {
        self.knows_drain[side as usize] = true;
        if self.drained[side.peer() as usize].is_none() {
            self.wrong.push(format!("the {side} says that its peer drains the session"));
        }
    }

    /// Whether the session was drained.
    pub(crate) fn is_drained(&self) -> bool {
        self.drained.iter().any(Option::is_some)
    }

    /// Whether a transfer is left to another session, because this one was drained.
    pub(crate) fn is_turned_away(&self, transfer: &TransferState) -> bool {
        self.is_drained() && (transfer.is_refused() || transfer.stream.is_none())
    }

    /// The peer opened a stream: its ID determines what to do with it.
    pub(crate) fn accepted(&mut self, id: StreamId, side: Side) {
        let Some(number) = self.streams.get(&id) else {
            return self.wrong.push(format!("the {side} accepted {id}, which was not opened"));
        };
        let began_to_drain = self.drained[side as usize];
        let transfer = &mut self.list[*number];
        if transfer.is_refused() || began_to_drain.is_some_and(|at| transfer.opened > Some(at)) {
            self.wrong.push(format!("the {side} accepted {id} in a session that it drains"));
        }
        let half = transfer.half_of(side);
        if half.writing != Writing::NotYet {
            return self.wrong.push(format!("the {side} accepted {id} twice"));
        }
        half.writing = Writing::Goes;
        transfer.half_of(side.peer()).readable = true;
    }

    /// `side` received the event that a stream can be read.
    pub(crate) fn readable(&mut self, id: StreamId, side: Side) {
        if let Some(number) = self.streams.get(&id) {
            self.list[*number].half_of(side.peer()).readable = true;
        }
    }

    /// `side` received the event that a stream can be written.
    pub(crate) fn writable(&mut self, id: StreamId, side: Side) {
        if let Some(number) = self.streams.get(&id) {
            self.list[*number].half_of(side).writable = true;
        }
    }

    /// The session is over at `side`: what is not delivered never will be.
    pub(crate) fn closed(&mut self, side: Side) {
        for transfer in &mut self.list {
            let half = transfer.half_of(side.peer());
            half.readable = true;
        }
    }

    /// Whether the stream of a transfer that `side` writes may be acted on.
    pub(crate) fn stream_of(&self, number: usize) -> Option<StreamId> {
        self.list.get(number)?.stream
    }

    /// `side`'s applications do what they can; how many bytes they have read.
    pub(crate) fn run(&mut self, now: Time, conn: &mut Connection, trace: &mut Trace) -> u64 {
        let side = conn.side();
        self.open(now, conn, trace);
        let mut read = 0;
        for transfer in &mut self.list {
            if transfer.stream.is_none() {
                continue;
            }
            match transfer.write(now, conn).and_then(|()| transfer.read(now, conn, trace)) {
                Ok(len) => read += len,
                Err(what) => {
                    transfer.half_of(side.peer()).readable = false;
                    self.wrong.push(format!("transfer {} at the {side}: {what}", transfer.number));
                }
            }
            if transfer.is_refused() && self.drained == [None; 2] {
                self.wrong.push(format!("transfer {} is refused in a session that is not drained", transfer.number));
            }
        }
        read
    }

    fn open(&mut self, now: Time, conn: &mut Connection, trace: &mut Trace) {
        let side = conn.side();
        while let Some(at) = self.to_open.iter().position(|number| self.list[*number].opener == side) {
            let opened = conn.open_stream();
            if opened.is_err() && opened != Err(OpenStreamError::Draining) {
                return;
            }
            let number = self.to_open.remove(at);
            let transfer = &mut self.list[number];
            let Ok(id) = opened else {
                _ = transfer.refuse(); // it has no stream
                continue;
            };
            if self.knows_drain[side as usize] {
                self.wrong.push(format!("the {side} opened {id} in a session that is drained"));
            }
            (transfer.stream, transfer.opened) = (Some(id), Some(now));
            // The other half can be read as soon as there is anything.
            transfer.half_of(side.peer()).readable = true;
            _ = conn.stream(id).set_priority(transfer.plan.priority);
            if self.streams.insert(id, number).is_some() {
                self.wrong.push(format!("the {side} opened {id} twice"));
            }
            trace.note(now, &Note::StreamOpened { transfer: number, stream: id.0 });
        }
    }

    /// When a slow reader or writer at `side` continues.
    pub(crate) fn next(&self, side: Side) -> Option<Time> {
        let halves = self.list.iter().filter(|transfer| transfer.stream.is_some()).flat_map(|t| &t.halves);
        let times = halves.filter_map(|half| {
            if half.writer == side {
                half.write_pace.next().filter(|_| half.writing == Writing::Goes && half.writable)
            } else {
                half.read_pace.next().filter(|_| half.readable && half.end.is_none())
            }
        });
        times.min()
    }
}
