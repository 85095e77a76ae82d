//! Asks for the server of a session where the session began (decision D233): the server accepts joins at advertised
//! addresses alone, and all of these refuse TCP connections, as they do when its process has died. A balancer leads one
//! more TCP connection to another server, which shows that it is another instance, and the session ends at once.

use std::time::Duration;

use tcpls_core::time::Time;

use super::pair::{Pair, Reach, jitter};
use super::{AttemptId, Dialer};

/// How long no TCP connection answers before the client asks, 75 to 125 % of it: a process that is replaced is away for
/// less, and the clients of one that died do not all come to the balancer at once.
const ASK_DELAY: Duration = Duration::from_millis(400);
/// How often in a row each address must refuse.
const REFUSALS: u32 = 2;
/// Joins of an outage that get no decisive answer.
const MAX_ASKS: u32 = 4;

impl Dialer {
    /// The remote address has refused the TCP connection.
    pub fn handle_refused(&mut self, now: Time, attempt: AttemptId) {
        if let Some((index, _)) = self.find(attempt) {
            let reach = &mut self.pairs[index].reach;
            let before = if let Reach::Refuses(times) = reach { *times } else { 0 };
            *reach = Reach::Refuses(before + 1);
        }
        self.handle_failed(now, attempt);
    }

    /// Whether a pair at which the server accepts no joins may be dialed. The last token is kept for the server, which may come
    /// back, unless there was no question yet and it is time for a last resort: joins at a server that was just dying may have
    /// spent the others.
    pub(super) fn may_ask(&self, pair: &Pair) -> bool {
        let is_there = |other: &Pair| other.is_origin && other.path.remote == pair.path.remote;
        let has_token = self.view.tokens > 1 || (pair.doubts == 0 && self.has_token(pair));
        self.ask_at.is_some() && has_token && pair.doubts < MAX_ASKS && self.pairs.iter().any(is_there)
    }

    /// Decides when the client asks. While a TCP connection answers, nothing that an address refuses counts.
    pub(super) fn consider_asking(&mut self, now: Time) {
        let Some(since) = self.urgent_since else {
            self.pairs.iter_mut().for_each(|pair| pair.reach = Reach::Unknown);
            self.ask_at = None;
            return;
        };
        if !(self.view.advertised_only && self.view.can_ask && self.is_refused_everywhere()) {
            self.ask_at = None;
        } else if self.ask_at.is_none() {
            self.ask_at = Some(now.max(since + jitter(ASK_DELAY, &mut self.rng)));
        }
    }

    /// Whether no address that the server advertises can be reached, and at least one refuses.
    fn is_refused_everywhere(&self) -> bool {
        let refuses = |pair: &Pair| matches!(pair.reach, Reach::Refuses(times) if times >= REFUSALS);
        let mut usable = self.pairs.iter().filter(|pair| pair.is_offered && !pair.withdrawn && !pair.is_cut);
        usable.clone().any(refuses) && usable.all(|pair| refuses(pair) || pair.reach == Reach::NoRoute)
    }
}
