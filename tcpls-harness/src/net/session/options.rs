//! Options of sockets: what the application sets here or asks the peer for, and what the peer asks for.
//!
//! A socket belongs to the session's task, which sets its options when it is called ([`Input`]).

mod queue;

#[cfg(all(feature = "programs", unix))]
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;

use tcpls_core::error::AskOptionError;
use tcpls_core::event::OptionOutcome;
use tcpls_core::stats::{TcpPhase, TcpStats};
use tcpls_core::time::Time;
use tcpls_core::wire::ids::{ConnectionId, OptionRequestId, Side};
use tokio::sync::oneshot;

use self::queue::{Owed, Queue};
use super::Session;
use super::handle::Handle;
use super::remotes::Ends;
use super::shared::{Answer, Input, State};
#[cfg(all(feature = "programs", unix))]
use crate::net::tcp_option::{Brought, PROGRAM_PIECE, pieces};
use crate::net::tcp_option::{OptionPolicy, Rate, TcpOption};
#[cfg(all(feature = "programs", unix))]
use crate::programs::{ProgramId, SIGNATURE_LEN};

/// Options that a session keeps for later TCP connections.
const MAX_KEPT: usize = 32;
/// Pieces of a program without an answer, so that other requests have places.
#[cfg(all(feature = "programs", unix))]
const MAX_UNANSWERED: usize = 12;
/// Pieces of a program that are sent again. A lost TCP connection costs at most 12; a peer could answer
/// [`OptionOutcome::Lost`] to all.
#[cfg(all(feature = "programs", unix))]
const MAX_REPEATED: usize = 10 * MAX_UNANSWERED;

/// Who wants an option set.
pub(crate) enum Asker {
    /// The peer, which may expect an answer.
    Peer(Option<OptionRequestId>),
    /// The application, now.
    Application(oneshot::Sender<OptionOutcome>),
    /// The application, since before there was the TCP connection.
    Kept,
}

/// What the peer asks for.
pub(crate) struct PeerOption {
    pub(crate) tcp: ConnectionId,
    pub(crate) kind: u8,
    pub(crate) value: Vec<u8>,
    pub(crate) request: Option<OptionRequestId>,
}

/// At which end an option is set.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Own,
    Peer,
}

/// Which TCP connections an application means.
#[derive(Clone, Copy)]
enum Scope {
    One(ConnectionId),
    PathOf(ConnectionId),
    All,
}

/// An option that each TCP connection gets that joins, on this path or on any.
struct Kept {
    path: Option<Ends>,
    end: End,
    option: TcpOption,
}

/// A session's options of sockets.
#[derive(Default)]
pub(crate) struct Options {
    /// What the peer may choose.
    policy: Option<Arc<OptionPolicy>>,
    rate: Rate,
    /// The congestion control that the peer brings.
    #[cfg(all(feature = "programs", unix))]
    brought: Brought,
    kept: Vec<Kept>,
    /// TCP connections that have joined, and whose ends are not known yet.
    unplaced: Vec<ConnectionId>,
    queue: Queue,
}

impl Options {
    /// The peer may choose what this policy allows.
    pub(crate) fn allow(&mut self, policy: &Arc<OptionPolicy>) {
        self.policy = Some(policy.clone());
    }

    /// The peer asks for an option; returns the policy for it, unless it has asked too often.
    pub(crate) fn admit(&mut self, now: Time) -> Option<Arc<OptionPolicy>> {
        self.rate.allows(now).then(|| self.policy.clone().unwrap_or_default())
    }

    /// What the peer makes this endpoint hold, in bytes.
    pub(crate) fn memory(&self) -> usize {
        #[cfg(all(feature = "programs", unix))]
        let brought = self.brought.memory();
        #[cfg(not(all(feature = "programs", unix)))]
        let brought = 0;
        brought + self.queue.memory() + self.unplaced.capacity() * size_of::<ConnectionId>()
    }

    fn keep(&mut self, kept: Kept) -> Result<(), AskOptionError> {
        let is_replaced =
            |other: &Kept| other.path == kept.path && other.end == kept.end && other.option.is_same_kind(&kept.option);
        self.kept.retain(|other| !is_replaced(other));
        if self.kept.len() >= MAX_KEPT {
            return Err(AskOptionError::TooMany);
        }
        self.kept.push(kept);
        Ok(())
    }
}

impl State {
    /// The session's task has tried to set an option.
    pub(crate) fn note_option(&mut self, asker: Asker, outcome: OptionOutcome) {
        match asker {
            Asker::Peer(Some(request)) => self.conn.answer_tcp_option(request, outcome),
            Asker::Application(asker) => self.answers.push(Answer::Option(asker, outcome)),
            Asker::Peer(None) | Asker::Kept => {}
        }
    }

    /// The peer has answered.
    pub(super) fn hear_option_answer(&mut self, request: OptionRequestId, outcome: OptionOutcome) {
        self.answers.extend(self.options.queue.answered(request).map(|asker| Answer::Option(asker, outcome)));
        self.ask_owed();
    }

    /// A TCP connection has joined: it gets what the application wants of its path.
    pub(super) fn keep_options(&mut self, tcp: ConnectionId) {
        if self.options.kept.is_empty() {
            return; // as nearly always
        }
        let path = self.path_ends(tcp);
        if path == Ends::default() {
            return self.options.unplaced.push(tcp);
        }
        let wanted = self.options.kept.iter().filter(|kept| kept.path.is_none_or(|kept| kept == path));
        for (end, option) in wanted.map(|kept| (kept.end, kept.option.clone())).collect::<Vec<_>>() {
            match end {
                End::Own => self.inbox.push(Input::SetOption(tcp, option, Asker::Kept)),
                End::Peer => self.options.queue.push(Owed::new(tcp, &option, None)),
            }
        }
        self.ask_owed();
        self.wake_task();
    }

    /// TCP connection `tcp` has a socket with these ends.
    pub(crate) fn set_ends(&mut self, tcp: ConnectionId, local: Option<SocketAddr>, remote: Option<SocketAddr>) {
        self.conn.set_tcp_addresses(tcp, local, remote);
        self.remotes.set(tcp, local, remote);
        if self.options.unplaced.extract_if(.., |unplaced| *unplaced == tcp).count() > 0 {
            self.keep_options(tcp);
        }
    }

    /// Sends the requests that the peer takes now.
    fn ask_owed(&mut self) {
        while let Some(owed) = self.options.queue.pop() {
            let tcp = owed.tcp.or_else(|| self.any_tcp()).ok_or(AskOptionError::Unknown);
            match tcp.and_then(|tcp| self.conn.ask_tcp_option(tcp, owed.kind, &owed.value)) {
                Ok(request) => {
                    owed.asker.into_iter().for_each(|asker| self.options.queue.note_asked(request, asker));
                }
                Err(AskOptionError::TooMany) => return self.options.queue.put_back(owed),
                Err(AskOptionError::Unknown) => {
                    self.answers.extend(owed.asker.map(|asker| Answer::Option(asker, OptionOutcome::Lost)));
                }
                Err(_) => self.answers.extend(owed.asker.map(Answer::NoOption)),
            }
        }
    }

    /// A TCP connection is lost: its requests are not sent. A peer that answers nothing, joins and leaves could make the
    /// list grow.
    pub(super) fn forget_options_of(&mut self, tcp: ConnectionId) {
        let askers = self.options.queue.forget(tcp);
        self.answers.extend(askers.map(|asker| Answer::Option(asker, OptionOutcome::Lost)));
        self.options.unplaced.retain(|unplaced| *unplaced != tcp);
    }

    /// The session is over: nothing is set or answered any more.
    pub(super) fn forget_options(&mut self) {
        self.options.unplaced = Vec::new();
        self.answers.extend(self.options.queue.clear().map(Answer::NoOption));
    }

    /// Both ends of a TCP connection without the port that each new one chooses.
    fn path_ends(&self, tcp: ConnectionId) -> Ends {
        let Ends { local, remote } = self.remotes.ends(tcp);
        let host = |end: SocketAddr| SocketAddr::new(end.ip(), 0);
        match self.conn.side() {
            Side::Client => Ends { local: local.map(host), remote },
            Side::Server => Ends { local, remote: remote.map(host) },
        }
    }

    /// The TCP connections that have joined. One that is joining gets what is kept when it has joined.
    fn joined_tcps(&self) -> impl Iterator<Item = TcpStats> {
        let stats = self.conn.tcp_connections().filter_map(|tcp| self.conn.tcp_stats(tcp));
        stats.filter(|stats| stats.phase != TcpPhase::Opening)
    }

    /// A TCP connection for a request that concerns none: one that the peer hardly loses before it has the request.
    fn any_tcp(&self) -> Option<ConnectionId> {
        let best = self.joined_tcps().min_by_key(|stats| (stats.phase != TcpPhase::Active, stats.stalled));
        best.map(|stats| stats.tcp)
    }

    /// The TCP connections that are meant.
    fn targets(&self, scope: Scope) -> Vec<ConnectionId> {
        let live = self.joined_tcps().map(|stats| stats.tcp);
        match scope {
            Scope::One(tcp) => live.filter(|live| *live == tcp).collect(),
            Scope::PathOf(tcp) => {
                let path = self.path_ends(tcp);
                live.filter(|live| self.path_ends(*live) == path).collect()
            }
            Scope::All => live.collect(),
        }
    }

    /// Remembers the option for TCP connections that join later, if they are meant. A TCP connection without known ends has
    /// no path, and no later one could be on it.
    fn keep_option(&mut self, scope: Scope, end: End, option: &TcpOption) -> Result<(), AskOptionError> {
        let path = match scope {
            Scope::One(_) => return Ok(()),
            Scope::PathOf(tcp) => {
                let path = self.path_ends(tcp);
                if path == Ends::default() {
                    return Err(AskOptionError::Unknown);
                }
                Some(path)
            }
            Scope::All => None,
        };
        self.options.keep(Kept { path, end, option: option.clone() })
    }

    fn set_options(
        &mut self,
        scope: Scope,
        option: &TcpOption,
    ) -> Result<Vec<oneshot::Receiver<OptionOutcome>>, AskOptionError> {
        if self.is_closed() {
            return Err(AskOptionError::Closed);
        }
        self.keep_option(scope, End::Own, option)?;
        let targets = self.targets(scope);
        let receivers = targets.into_iter().map(|tcp| {
            let (sender, receiver) = oneshot::channel();
            self.inbox.push(Input::SetOption(tcp, option.clone(), Asker::Application(sender)));
            receiver
        });
        let receivers: Vec<_> = receivers.collect();
        self.wake_task();
        if receivers.is_empty() { Err(AskOptionError::Unknown) } else { Ok(receivers) }
    }

    fn ask_options(
        &mut self,
        scope: Scope,
        option: &TcpOption,
    ) -> Result<Vec<oneshot::Receiver<OptionOutcome>>, AskOptionError> {
        if self.is_closed() {
            return Err(AskOptionError::Closed);
        }
        if !self.conn.takes_option_requests() {
            return Err(AskOptionError::NotSupported);
        }
        if self.options.queue.is_full() {
            return Err(AskOptionError::TooMany);
        }
        self.keep_option(scope, End::Peer, option)?;
        let targets = self.targets(scope);
        let mut receivers = Vec::with_capacity(targets.len());
        for tcp in targets {
            let (sender, receiver) = oneshot::channel();
            self.options.queue.push(Owed::new(tcp, option, Some(sender)));
            receivers.push(receiver);
        }
        self.ask_owed();
        self.wake_task();
        if receivers.is_empty() { Err(AskOptionError::Unknown) } else { Ok(receivers) }
    }
}

/// Congestion controls that are BPF programs.
#[cfg(all(feature = "programs", unix))]
impl State {
    /// The peer brings a piece of one. Its own limit bounds the pieces, not the rate of options.
    pub(crate) fn take_piece(&mut self, value: &[u8], request: Option<OptionRequestId>) {
        let takes_programs = self.options.policy.as_ref().is_some_and(|policy| policy.programs.is_some());
        let outcome = if takes_programs { self.options.brought.take(value) } else { OptionOutcome::Refused };
        self.note_option(Asker::Peer(request), outcome);
    }

    /// What the peer has brought, if it is that program.
    pub(crate) fn brought(&self, id: &ProgramId) -> Option<Vec<u8>> {
        self.options.brought.complete(id)
    }

    /// The task is to set an option that was decided on elsewhere.
    pub(crate) fn choose_option(&mut self, tcp: ConnectionId, option: TcpOption, request: Option<OptionRequestId>) {
        if !self.is_closed() {
            self.inbox.push(Input::SetOption(tcp, option, Asker::Peer(request)));
            self.wake_task();
        }
    }

    /// A piece that is sent again had a place before, which it gets back although there may be none now: there are at most
    /// [`MAX_UNANSWERED`].
    fn bring_piece(
        &mut self,
        piece: &[u8],
        is_repeated: bool,
    ) -> Result<oneshot::Receiver<OptionOutcome>, AskOptionError> {
        if self.is_closed() {
            return Err(AskOptionError::Closed);
        }
        if !self.conn.takes_option_requests() {
            return Err(AskOptionError::NotSupported);
        }
        if self.options.queue.is_full() && !is_repeated {
            return Err(AskOptionError::TooMany);
        }
        self.any_tcp().ok_or(AskOptionError::Unknown)?;
        let (sender, receiver) = oneshot::channel();
        let piece = Owed { tcp: None, kind: PROGRAM_PIECE, value: piece.to_vec(), asker: Some(sender) };
        self.options.queue.push(piece);
        self.ask_owed();
        self.wake_task();
        Ok(receiver)
    }
}

#[cfg(all(feature = "programs", unix))]
impl Session {
    /// Sends the peer a congestion control that is a BPF program, signed as `tcpls bpf-sign` does it.
    ///
    /// Returns its ID for [`TcpOption::CongestionProgram`], or the first outcome that is not
    /// [`OptionOutcome::Applied`]. Only what the peer's helper accepts is used, and that is known once the peer is asked for
    /// it. While one TCP connection lives, the loss of others does not matter: pieces whose requests were
    /// [lost](OptionOutcome::Lost) with theirs are sent again, up to 120 times in all, and then the outcome is that. Not
    /// cancel safe: the peer then has a part, which is of no use.
    ///
    /// # Errors
    /// See [`AskOptionError`]; [`AskOptionError::TooLong`] for more than 32 KiB, [`AskOptionError::TooMany`] if 256 requests
    /// of the application wait to be sent, [`AskOptionError::Unknown`] if the session has no TCP connection now.
    pub async fn bring_program(&self, signed: &[u8]) -> Result<Result<ProgramId, OptionOutcome>, AskOptionError> {
        let Some(object) = signed.get(SIGNATURE_LEN..) else { return Ok(Err(OptionOutcome::Refused)) };
        let mut answers: VecDeque<(Vec<u8>, oneshot::Receiver<OptionOutcome>)> = VecDeque::new();
        let mut rest = pieces(signed).ok_or(AskOptionError::TooLong)?;
        let mut next = rest.next();
        let mut repeated = 0;
        while next.is_some() || !answers.is_empty() {
            if let Some(piece) = next.take_if(|_| answers.len() < MAX_UNANSWERED) {
                match self.handle().with(|state| state.bring_piece(&piece, false)) {
                    Ok(answer) => {
                        answers.push_back((piece, answer));
                        next = rest.next();
                        continue;
                    }
                    Err(AskOptionError::TooMany) if !answers.is_empty() => next = Some(piece),
                    Err(error) => return Err(error),
                }
            }
            if let Some((piece, answer)) = answers.pop_front() {
                match answer.await.map_err(|_| AskOptionError::Closed)? {
                    OptionOutcome::Applied => {}
                    // The peer had lost the TCP connection that the request named.
                    OptionOutcome::Lost if repeated < MAX_REPEATED => {
                        repeated += 1;
                        let answer = self.handle().with(|state| state.bring_piece(&piece, true))?;
                        answers.push_back((piece, answer));
                    }
                    outcome => return Ok(Err(outcome)),
                }
            }
        }
        Ok(Ok(ProgramId::of(object)))
    }
}

/// Options of a session's TCP connections, at both endpoints: from [`Session::tcp`] and [`Session::all_tcp`].
///
/// An option is set on the TCP connections that are live now. With [`TcpControl::on_path`] and [`Session::all_tcp`] it is
/// also set on each that joins later, until the session ends or the same option gets another value there; results of those
/// are [`Event::TcpOptionAnswered`](tcpls_core::event::Event::TcpOptionAnswered). A session keeps up to 32 such options.
#[derive(Clone)]
pub struct TcpControl {
    handle: Handle,
    scope: Scope,
}

impl Session {
    /// Returns what sets options of TCP connection `tcp`, or of its path.
    pub fn tcp(&self, tcp: ConnectionId) -> TcpControl {
        TcpControl { handle: self.handle().clone(), scope: Scope::One(tcp) }
    }

    /// Returns what sets options of all TCP connections of the session, also of those that join later.
    pub fn all_tcp(&self) -> TcpControl {
        TcpControl { handle: self.handle().clone(), scope: Scope::All }
    }
}

impl TcpControl {
    /// Means all TCP connections on the path of this one, also those that join later: from the same address of the client
    /// to the same address and port of the server. [`AskOptionError::Unknown`] if this endpoint does not know the path, as
    /// of a TCP connection that was lost long ago.
    #[must_use]
    pub fn on_path(self) -> Self {
        let scope = if let Scope::One(tcp) = self.scope { Scope::PathOf(tcp) } else { self.scope };
        Self { scope, ..self }
    }

    /// Sets an option of this endpoint's sockets. Any option is allowed here that the operating system permits.
    ///
    /// Returns the first outcome that is not [`OptionOutcome::Applied`], if there is one. Cancel safe: the option is set
    /// all the same.
    ///
    /// # Errors
    /// See [`AskOptionError`]; [`AskOptionError::Unknown`] also if the session has no TCP connection now, and
    /// [`AskOptionError::TooMany`] if 32 other options are kept.
    pub async fn set_option(&self, option: TcpOption) -> Result<OptionOutcome, AskOptionError> {
        summary(self.handle.with(|state| state.set_options(self.scope, &option))?).await
    }

    /// Asks the peer to set an option of its sockets, and waits for the answer. What the peer allows, its policy says
    /// ([`OptionPolicy`]). A peer takes 16 requests at once; others wait until it has answered, in the order of the calls.
    ///
    /// Returns the first outcome that is not [`OptionOutcome::Applied`], if there is one: [`OptionOutcome::Lost`] if a TCP
    /// connection ends first. Cancel safe: the request is sent all the same.
    ///
    /// # Errors
    /// See [`AskOptionError`]; [`AskOptionError::Unknown`] also if the session has no TCP connection now, and
    /// [`AskOptionError::TooMany`] if 32 other options are kept, or 256 requests of the application wait to be sent. Nothing is
    /// asked or kept then.
    pub async fn ask_peer(&self, option: TcpOption) -> Result<OptionOutcome, AskOptionError> {
        summary(self.handle.with(|state| state.ask_options(self.scope, &option))?).await
    }
}

/// The first outcome that is not success.
async fn summary(receivers: Vec<oneshot::Receiver<OptionOutcome>>) -> Result<OptionOutcome, AskOptionError> {
    let mut all = OptionOutcome::Applied;
    for receiver in receivers {
        let outcome = receiver.await.map_err(|_| AskOptionError::Closed)?;
        if all == OptionOutcome::Applied {
            all = outcome;
        }
    }
    Ok(all)
}
