//! The scheduler's view of the TCP connections, and the effect of its choices: whether a TCP connection may carry
//! stream data, and which.

use arrayvec::ArrayVec;

use super::chooser::Chooser;
use super::{Choice, TcpView};
use crate::connection::Connection;
use crate::connection::carried::Carried;
use crate::connection::trace::Tracer;
use crate::stream::{Candidate, Chunk};
use crate::tcp::Tcp;
use crate::wire::ids::ConnectionId;

/// Up to this many TCP connections are examined without an allocation.
const FEW: usize = 4;

impl Connection {
    pub(in crate::connection) fn has_stream_data(&self, tcp: ConnectionId) -> bool {
        let in_flight = self.tcps.iter().any(|entry| !entry.sent().is_empty());
        if self.has_enough_under_way(tcp) || !in_flight && !self.streams.has_data(tcp) {
            return false; // no need to ask the scheduler
        }
        self.with_views(|active| {
            let mut off = Tracer::default(); // a question, not a decision
            let chooser = Chooser::new(&*self.scheduler, tcp, active, self.streams.unsent(), &mut off);
            let may_again = |stream: Candidate<'_>| chooser.choice(&stream) == Choice::Duplicate;
            self.streams.has_data_where(tcp, |stream| chooser.choice(&stream) != Choice::Wait)
                || chooser.may_duplicate() && self.streams.has_duplicate_where(tcp, may_again)
        })
    }

    /// Calls `ask` with the views, without an allocation if there are few.
    fn with_views<R>(&self, ask: impl FnOnce(&[TcpView]) -> R) -> R {
        let mut views = self.active_views();
        let few: ArrayVec<TcpView, FEW> = views.by_ref().take(FEW).collect();
        match views.next() {
            None => ask(&few),
            Some(next) => ask(&few.into_iter().chain([next]).chain(views).collect::<Vec<_>>()),
        }
    }

    /// Returns one more piece of a stream that is not in `taken`; unsent data comes before duplicates.
    pub(in crate::connection) fn next_chunk(
        &mut self,
        tcp: ConnectionId,
        active: &[TcpView],
        taken: &[Chunk],
        max: usize,
    ) -> Option<Chunk> {
        let chooser = Chooser::new(&*self.scheduler, tcp, active, self.streams.unsent(), &mut self.trace);
        if chooser.is_redundant() {
            self.streams.track_carriers();
        }
        let is_new = |id| taken.iter().all(|chunk| chunk.id != id);
        let may = |stream: Candidate<'_>| is_new(stream.id) && chooser.choice(&stream) != Choice::Wait;
        let may_again = |stream: Candidate<'_>| is_new(stream.id) && chooser.choice(&stream) == Choice::Duplicate;
        let fresh = self.streams.next_chunk_where(tcp, max, may);
        if fresh.is_some() || !chooser.may_duplicate() {
            return fresh;
        }
        self.streams.next_duplicate_where(tcp, max, may_again)
    }

    /// Returns the scheduler's view of the active TCP connections that carry new data; none if there is no choice.
    /// Rates age by the time of the last input, so that the choice for the next record is valid until the next input.
    fn active_views(&self) -> impl Iterator<Item = TcpView> + '_ {
        let is_choice = self.tcps.len() > 1;
        let usable = move |entry: &&Tcp<Carried>| is_choice && entry.is_active() && !self.is_relieved(entry);
        self.tcps.iter().filter(usable).map(|entry| self.view_of(entry))
    }

    /// Makes `views` those of the present. Records on `tcp` change only its own: the others may be right already.
    pub(in crate::connection) fn update_views(&self, tcp: ConnectionId, are_right: bool, views: &mut Vec<TcpView>) {
        if are_right
            && let Some(entry) = self.tcps.get(tcp)
            && let Some(view) = views.iter_mut().find(|view| view.tcp == tcp)
        {
            *view = self.view_of(entry);
            debug_assert!(self.active_views().eq(views.iter().copied()), "only {tcp:?} changes");
            return;
        }
        views.clear();
        self.active_views().for_each(|view| views.push(view)); // `extend` is slow with a filter
    }

    #[inline]
    fn view_of(&self, tcp: &Tcp<Carried>) -> TcpView {
        let now = self.last_heard;
        TcpView {
            tcp: tcp.id(),
            smoothed_rtt: tcp.rtt().smoothed(),
            min_rtt: tcp.rtt().min(),
            bytes_in_flight: tcp.sent().bytes(),
            delivery_rate: tcp.rate().get(now, tcp.sent().is_empty()),
            least_rate: tcp.rate().at_least(),
            bytes_sent: tcp.counters().bytes_sent,
            share: tcp.share(),
            blocked: tcp.is_full(),
            backup: tcp.is_backup(),
            lane: tcp.is_lane(),
            bulk: tcp.carries_bulk(now),
            stalled: self.is_bypassed(tcp),
        }
    }
}
