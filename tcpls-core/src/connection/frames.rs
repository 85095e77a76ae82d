//! The effect of each frame: one short function per type. All frames of a record are decoded before; they are processed
//! from the last to the first (draft I35).

use core::iter::Peekable;
use core::ops::Range;

use bytes::Bytes;

use super::Connection;
use super::carried::Carried;
use super::flood;
use super::trace::{self, Tracer};
use crate::error::{TcpFault, Violation};
use crate::event::{Event, TcpEvent};
use crate::stream::Chunk;
use crate::tcp::Tcp;
use crate::tcp::sent::{Acked, Route};
use crate::time::Time;
use crate::wire::frame::{self, Frame, FrameError, Frames, Parameters, STREAM_OVERHEAD};
use crate::wire::ids::{ConnectionId, RecordSeq, Side, StreamId, Token};

type Outcome = Result<(), Violation>;

/// Bytes of Padding that cost as much as a control frame: padding may hide the size of a record, but must not cost CPU
/// time.
const PADDING_PER_UNIT: usize = 4096;

/// A request for a TCP option costs this many units more than a control frame: a system call, and an answer.
const OPTION_REQUEST_UNITS: usize = 9;

/// In a session with only the draft's frames, data for a stream that is not read is no overhead from this length on.
const MIN_DATA: usize = 1024;

/// The number of records that one ACK usually covers; no larger buffer is kept.
const KEPT: usize = 64;

impl Connection {
    /// Processes the frames of one authentic record. A record with an invalid frame only ends the session: all frames
    /// are decoded first, and the events of the valid ones are dropped.
    pub(super) fn handle_frames(&mut self, now: Time, tcp: ConnectionId, content: Bytes) {
        self.control.handle_frames(now);
        let (told, was_announced) = (self.events.len(), self.is_announced());
        let is_draft_only = self.is_draft_only();
        match check(&content, is_draft_only).and_then(|about| self.act(now, tcp, content, &about).map(|()| about)) {
            Ok(about) => {
                if about.ack_eliciting {
                    self.owe_ack(now, tcp, about.ping);
                }
                if !was_announced && self.is_announced() {
                    self.announce();
                } else if self.is_open() && self.control.parameters().is_withheld(now) {
                    self.fail_session(now, Violation::Parameters);
                }
            }
            Err(rule) => {
                let taken_back = self.events.split_off(told);
                // But a TCP connection that this record made the session discard is lost, and the driver must close its
                // socket.
                self.events.extend(taken_back.into_iter().filter(|event| matches!(event, Event::Tcp(_))));
                self.fail_session(now, rule);
            }
        }
    }

    /// Processes the frames of one record of early data, which its caller has checked. They are not acknowledged.
    pub(super) fn handle_early_frames(&mut self, now: Time, content: Bytes) -> Outcome {
        self.control.handle_frames(now);
        let (told, was_announced) = (self.events.len(), self.is_announced());
        let done = check(&content, false).and_then(|about| self.act(now, ConnectionId::FIRST, content, &about));
        let done = done.and_then(|()| if self.is_announced() { Ok(()) } else { Err(Violation::Parameters) });
        if done.is_err() {
            self.events.truncate(told);
        } else if !was_announced && self.is_announced() {
            self.announce();
        }
        done
    }

    // draft I35
    fn act(&mut self, now: Time, tcp: ConnectionId, mut content: Bytes, about: &About) -> Outcome {
        self.streams.set_now(now, self.tcps.get(tcp).and_then(|entry| entry.rtt().smoothed()));
        let record_len = content.len();
        if let Some(head) = about.lone {
            self.frames_received.count(head.ty());
            content.truncate(record_len - STREAM_OVERHEAD);
            return self.on_stream(now, tcp, record_len, head, content);
        }
        for frame in Frames::new(&content) {
            let frame = frame?;
            self.frames_received.count(frame.ty());
            self.act_on(now, tcp, &content, frame)?;
        }
        Ok(())
    }

    // draft I46
    fn act_on(&mut self, now: Time, tcp: ConnectionId, content: &Bytes, frame: Frame<'_>) -> Outcome {
        match frame {
            Frame::Padding(padding) => self.idle(now, 1 + padding.len / PADDING_PER_UNIT),
            Frame::Ping => {
                self.note_ping(now, tcp);
                self.idle(now, 1)
            }
            Frame::Stream(stream) => {
                let data = content.slice_ref(stream.data);
                self.on_stream(now, tcp, content.len(), StreamHead::of(&stream), data)
            }
            Frame::Ack(ack) => self.on_ack(now, tcp, ack),
            Frame::NewToken(token) => self.on_token(now, u32::from(token.sequence), token.token),
            Frame::NewTokenWide(token) => self.on_token(now, token.sequence, token.token),
            Frame::ConnectionReset(reset) => self.on_reset_tcp(now, tcp, reset.tcp, 0),
            Frame::ConnectionResetReason(reset) => self.on_reset_tcp(now, tcp, reset.tcp, reset.reason),
            Frame::NewAddress(new) => self.on_new_address(now, new),
            Frame::RemoveAddress(removed) => self.on_remove_address(now, removed),
            Frame::StreamChange(_) => self.idle(now, 1), // a hint for zero-copy receivers; this one needs none
            Frame::SessionParameters(parameters) => {
                self.on_parameters(now, Parameters::from_entries(parameters.entries))
            }
            Frame::MaxData(max) => {
                let was_needed = self.streams.handle_max_data(max.maximum);
                self.idle(now, usize::from(!was_needed))
            }
            Frame::MaxStreamData(max) => {
                let was_needed = self.streams.handle_max_stream_data(max.id, max.maximum)?;
                self.idle(now, usize::from(!was_needed))
            }
            Frame::MaxStreams(max) => {
                self.streams.handle_max_streams(max.maximum);
                self.idle(now, 1)
            }
            Frame::ResetStream(reset) => {
                self.streams.handle_reset(reset.id, reset.error, reset.final_size)?;
                self.idle(now, 1)
            }
            Frame::StopSending(stop) => {
                let waste = self.streams.handle_stop_sending(stop.id, stop.error)?;
                self.idle(now, 1 + flood::units_for(waste))
            }
            Frame::CloseSession(close) => {
                self.handle_close_session(now, close.error, close.reason);
                Ok(())
            }
            Frame::ConnectionStatus(status) => self.on_status(now, status),
            Frame::TcpOption(option) => {
                self.idle(now, option_units(option.value))?;
                self.handle_tcp_option(tcp, option);
                Ok(())
            }
            Frame::TcpOptionRequest(request) => {
                self.idle(now, OPTION_REQUEST_UNITS + option_units(request.value))?;
                self.handle_option_request(request)
            }
            Frame::TcpOptionAnswer(answer) => {
                self.handle_option_answer(answer)?;
                self.idle(now, 1)
            }
            Frame::Drain(drain) => self.on_drain(now, drain),
            Frame::Lane => {
                self.note_lane(tcp)?;
                self.idle(now, 1)
            }
        }
    }

    /// A frame without application data: it is allowed, and charged as overhead.
    fn idle(&mut self, now: Time, units: usize) -> Outcome {
        self.limits.idle_frames += units as u64;
        self.flood.charge(now, units as u64)
    }

    fn on_stream(&mut self, now: Time, tcp: ConnectionId, record_len: usize, head: StreamHead, data: Bytes) -> Outcome {
        let len = data.len();
        if let Some(entry) = self.tcps.get_mut(tcp) {
            entry.handle_data(data.len());
        }
        let fresh = if self.streams.has_classes() {
            self.take_in_by_class(now, tcp, record_len, head, data)?
        } else {
            self.streams.handle_stream(head.id, head.offset, head.fin, data, record_len)?
        };
        if fresh == 0 {
            // A peer that knows only the draft cannot be asked to stop, and sends on.
            return self.idle(now, usize::from(!self.is_draft_only() || len < MIN_DATA));
        }
        self.flood.earn(fresh);
        self.ending.note_received(now);
        if self.is_draft_only() { self.note_source(tcp, head.id, head.offset) } else { Ok(()) }
    }

    /// Hands data to its stream, and notes its class: few sessions have streams of several classes.
    #[inline(never)]
    fn take_in_by_class(
        &mut self,
        now: Time,
        tcp: ConnectionId,
        record_len: usize,
        head: StreamHead,
        data: Bytes,
    ) -> Result<u64, Violation> {
        let len = data.len() as u64;
        let fresh = self.streams.handle_stream(head.id, head.offset, head.fin, data, record_len)?;
        if self.tcps.get(tcp).is_some_and(Tcp::is_lane) {
            self.streams.came_by_lane(head.id, head.offset);
        }
        if let Some(is_interactive) = self.streams.receives_interactively(head.id, head.offset) {
            self.note_data(now, tcp, len, is_interactive);
        }
        Ok(fresh)
    }

    /// An acknowledgment arrived on TCP connection `on`. It ends a stall unless it is late.
    fn on_ack(&mut self, now: Time, on: ConnectionId, ack: frame::Ack) -> Outcome {
        let mut acked = core::mem::take(&mut self.scratch.carried);
        let (tcp, route) = (ack.tcp, if on == ack.tcp { Route::Own } else { Route::Other });
        let Acked { bytes, is_late, .. } = self.take_ack(now, ack, route, &mut acked)?;
        if self.deliver(&acked) {
            self.ending.note_progress(now);
        }
        acked.clear();
        acked.shrink_to(KEPT);
        self.scratch.carried = acked;
        if bytes > 0 {
            if !is_late {
                self.clear_stall(now, tcp);
            }
            self.activity.answered(now);
        }
        self.start_owed_key_update(now, Some(tcp));
        self.flood.earn(bytes);
        if bytes == 0 { self.idle(now, 1) } else { Ok(()) }
    }

    /// Puts what the acknowledged records carried into `acked`.
    // draft I20
    fn take_ack(
        &mut self,
        now: Time,
        frame::Ack { tcp, highest }: frame::Ack,
        route: Route,
        acked: &mut Vec<Carried>,
    ) -> Result<Acked, Violation> {
        let known = self.joins.was_known(tcp);
        let lost = self.lost.get_mut(&tcp).map(|lost| &mut lost.tcp);
        let Some(entry) = self.tcps.get_mut(tcp).or(lost) else {
            return if known { Ok(Acked::default()) } else { Err(Violation::AckOfUnsent) };
        };
        let outcome = entry.handle_ack(now, highest, route, |item| acked.push(item))?;
        if self.trace.is_on() {
            trace_ack(&mut self.trace, entry, highest, &outcome);
        }
        if let (Some(keys), Some(generation)) = (&mut self.keys, entry.confirmed_generation(highest)) {
            keys.confirm_seal(generation);
        }
        Ok(outcome)
    }

    /// Handles the acknowledgment of all this; returns whether stream data is among it.
    fn deliver(&mut self, acked: &[Carried]) -> bool {
        let mut has_data = false;
        let mut items = acked.iter().peekable();
        while let Some(item) = items.next() {
            match item {
                Carried::Chunk(first) => {
                    has_data = true;
                    let (range, fin) = take_run(first, &mut items);
                    self.streams.acked(first.id, range, fin);
                }
                Carried::Stream(key) => self.streams.control_acked(key),
                Carried::Session(due) => self.control.acked(*due),
                Carried::Status(status) => self.control.status_acked(*status, &mut self.tcps, self.last_heard),
            }
        }
        has_data
    }

    /// Draft, 5.2.5.
    fn on_token(&mut self, now: Time, sequence: u32, token: Token) -> Outcome {
        if self.joins.take_in(sequence, token)? {
            self.events.push_back(Event::TokensAvailable { count: self.joins.tokens() });
        }
        self.idle(now, 1)
    }

    /// Draft, 5.2.6: the peer has lost the TCP connection `named`.
    fn on_reset_tcp(&mut self, now: Time, on: ConnectionId, named: ConnectionId, reason: u8) -> Outcome {
        if on == named || !self.joins.was_known(named) {
            return Err(Violation::UnknownTcp(named.0));
        }
        if self.tcps.contains(named) {
            self.lose_tcp(now, named, TcpFault::PeerReset(reason), None);
        } else if self.side == Side::Server {
            // A join that never arrived: its token was sent in plaintext and must not work any more.
            self.burn_token(named.0);
            self.replenish_tokens();
        }
        if self.lost.contains_key(&named) {
            self.control.owe_final_ack(named);
        }
        self.idle(now, 1)
    }

    /// Draft, 5.2.7.
    fn on_new_address(&mut self, now: Time, new: frame::NewAddress) -> Outcome {
        if self.control.handle_new_address(new)? {
            self.events.push_back(Event::AddressAdvertised { id: new.id, address: new.address });
        }
        self.idle(now, 1)
    }

    /// Draft, 5.2.8: TCP connections that use the address are left, once their data is safe elsewhere (draft E18).
    fn on_remove_address(&mut self, now: Time, removed: frame::RemoveAddress) -> Outcome {
        if let Some(address) = self.control.handle_remove_address(removed.id) {
            self.events.push_back(Event::AddressWithdrawn { id: removed.id, address });
            self.leave_withdrawn_addresses();
        }
        self.idle(now, 1)
    }

    fn on_parameters(&mut self, now: Time, parameters: Parameters) -> Outcome {
        if !self.control.handle_parameters(parameters)? {
            return self.idle(now, 1);
        }
        self.check_terms(&parameters)?;
        self.set_idle_timeout(&parameters);
        let max_streams = u32::try_from(parameters.max_streams).unwrap_or(u32::MAX);
        self.streams.set_peer_limits(parameters.initial_max_data, parameters.initial_max_stream_data, max_streams);
        Ok(())
    }

    fn on_drain(&mut self, now: Time, drain: frame::Drain) -> Outcome {
        if self.streams.handle_drain(drain.streams)? {
            self.trace.emit(|| trace::Event::PeerDraining { streams: drain.streams });
            self.events.push_back(Event::PeerDraining);
        }
        self.idle(now, 1)
    }

    fn on_status(&mut self, now: Time, status: frame::ConnectionStatus) -> Outcome {
        if !self.joins.was_known(status.tcp) {
            return Err(Violation::UnknownTcp(status.tcp.0));
        }
        if self.tcps.get_mut(status.tcp).is_some_and(|entry| entry.handle_status(now, status.backup)) {
            self.trace.emit(|| trace::Event::StatusChanged { tcp: status.tcp, backup: status.backup });
            self.events.push_back(Event::Tcp(TcpEvent::Status { tcp: status.tcp, backup: status.backup }));
            self.probe_the_quiet(now);
        }
        self.idle(now, 1)
    }
}

/// What the value of a TCP option costs.
fn option_units(value: &[u8]) -> usize {
    1 + value.len() / 64
}

/// Reports an acknowledgment, and what it showed.
#[cold]
fn trace_ack(trace: &mut Tracer, entry: &Tcp<Carried>, highest: RecordSeq, outcome: &Acked) {
    let tcp = entry.id();
    trace.emit(|| trace::Event::Acknowledged { tcp, highest, bytes: outcome.bytes, in_flight: entry.sent().bytes() });
    if let (Some(sample), Some(smoothed), Some(min)) = (outcome.rtt, entry.rtt().smoothed(), entry.rtt().min()) {
        let variation = entry.rtt().variation();
        trace.emit(|| trace::Event::RttSample { tcp, sample, smoothed, variation, min });
    }
    if let Some(rate) = outcome.rate {
        let (sample, is_lower_bound) = (rate.bytes_per_second(), rate.is_lower_bound());
        let estimate = entry.rate().newest();
        trace.emit(|| trace::Event::RateSample { tcp, sample, is_lower_bound, estimate });
    }
}

/// A Stream frame without its data.
#[derive(Clone, Copy)]
struct StreamHead {
    id: StreamId,
    offset: u64,
    fin: bool,
}

impl StreamHead {
    fn of(stream: &frame::Stream<'_>) -> Self {
        Self { id: stream.id, offset: stream.offset, fin: stream.fin }
    }

    fn ty(self) -> u8 {
        if self.fin { frame::ty::STREAM_FIN } else { frame::ty::STREAM }
    }
}

/// The content of a record, as found while it was decoded.
#[derive(Default)]
struct About {
    ack_eliciting: bool,
    ping: bool,
    /// The record is a single Stream frame, like nearly all records of bulk data: it need not be decoded twice, and its
    /// data needs no second reference to the buffer.
    lone: Option<StreamHead>,
}

/// The offsets of `first` and of the pieces behind it that continue it, and whether the stream's end is among them: an
/// acknowledgment of bulk data covers many records.
fn take_run<'a>(first: &Chunk, items: &mut Peekable<impl Iterator<Item = &'a Carried>>) -> (Range<u64>, bool) {
    let (mut range, mut fin) = (first.range(), first.fin);
    while let Some(Carried::Chunk(next)) = items.peek()
        && next.id == first.id
        && next.offset == range.end
    {
        range.end = next.end();
        fin |= next.fin;
        items.next();
    }
    (range, fin)
}

/// Decodes the complete record, so that a bad frame is found before any is acted on.
// draft I03
fn check(content: &[u8], is_draft_only: bool) -> Result<About, Violation> {
    if content.is_empty() {
        return Err(Violation::EmptyRecord);
    }
    let mut about = About::default();
    for frame in Frames::new(content) {
        let frame: Frame<'_> = frame.map_err(|error: FrameError| Violation::from(error))?;
        if is_draft_only && !frame.is_draft() {
            return Err(Violation::UnknownFrame(frame.ty()));
        }
        about.ack_eliciting |= frame.is_ack_eliciting();
        match frame {
            Frame::Ping => about.ping = true,
            Frame::Stream(stream) if stream.data.len() + STREAM_OVERHEAD == content.len() => {
                about.lone = Some(StreamHead::of(&stream));
            }
            _ => {}
        }
    }
    Ok(about)
}
