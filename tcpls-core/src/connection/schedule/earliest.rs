//! The default policy. A TCP connection carries a piece of stream data only if the piece arrives sooner than the faster
//! TCP connections alone would deliver all unsent data, and if earlier data does not have to wait for it for too long.
//!
//! So bulk data reaches the sum of the rates of all paths, small data and the end of a transfer use the path where they
//! arrive first, and a path that has become slow delays no data. (The ECF scheduler for Multipath TCP also compares
//! with all unsent data; Lim et al., CoNEXT 2017.)

use core::time::Duration;

use super::{Choice, Scheduler, TcpView, is_held_back};

/// Bytes that a decision covers: one full record.
const PIECE: u64 = 16 * 1024;
/// How long data on other paths may wait for a TCP connection with all of the rate. One with a tenth of the sum of the
/// rates may cause a tenth of this delay.
const MAX_HOLD: Duration = Duration::from_secs(2);
/// The delay that any TCP connection may cause, because a new one has not reached its rate yet.
const MIN_HOLD: Duration = Duration::from_millis(250);
/// A TCP connection without measurements is tried when the others have work for this time.
const WORTH_TRYING: Duration = Duration::from_millis(100);

/// The default policy; see the module's description. Backups wait.
#[derive(Clone, Copy, Debug, Default)]
pub struct EarliestDelivery;

impl Scheduler for EarliestDelivery {
    fn name(&self) -> &'static str {
        "earliest-delivery"
    }

    fn choose(&self, asked: usize, all: &[TcpView], unsent: u64) -> Choice {
        if is_held_back(asked, all) {
            return Choice::Wait;
        }
        let me = &all[asked];
        let better = Better::than(me, all);
        let Some(soonest) = better.soonest else { return Choice::Send };
        let alone = time_for(better.in_flight.saturating_add(unsent), better.rate);
        let is_worth_it = match delivery(me) {
            None => alone >= WORTH_TRYING,
            Some(mine) => mine <= alone && mine.saturating_sub(soonest) <= better.patience_with(me),
        };
        if is_worth_it { Choice::Send } else { Choice::Wait }
    }

    fn duplicates(&self) -> bool {
        false
    }
}

/// The sum of the TCP connections on which a piece would arrive sooner.
#[derive(Default)]
struct Better {
    /// When the first of them would deliver it; `None` if there is none.
    soonest: Option<Duration>,
    /// Bytes a second.
    rate: u64,
    in_flight: u64,
}

impl Better {
    fn than(me: &TcpView, all: &[TcpView]) -> Self {
        let rank = |view: &TcpView| (delivery(view).unwrap_or(Duration::MAX), view.tcp);
        let mut better = Self::default();
        for other in all.iter().filter(|other| other.backup == me.backup && rank(other) < rank(me)) {
            let Some(at) = delivery(other) else { continue };
            better.soonest = Some(better.soonest.map_or(at, |soonest| soonest.min(at)));
            better.rate = better.rate.saturating_add(other.delivery_rate.unwrap_or(other.least_rate));
            better.in_flight = better.in_flight.saturating_add(other.bytes_in_flight);
        }
        better
    }

    /// Returns how long they may wait for `me`; without a measurement, its rate counts as good.
    fn patience_with(&self, me: &TcpView) -> Duration {
        let mine = u128::from(me.delivery_rate.unwrap_or(self.rate));
        let sum = mine + u128::from(self.rate);
        let nanos = (MAX_HOLD.as_nanos() * mine).checked_div(sum).unwrap_or(MAX_HOLD.as_nanos());
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX)).max(MIN_HOLD)
    }
}

/// Returns how long a piece that is sent on it now takes to be acknowledged; `None` without measurements.
fn delivery(view: &TcpView) -> Option<Duration> {
    match view.delivery_rate {
        Some(rate) => Some(time_for(view.bytes_in_flight + PIECE, rate).max(view.min_rtt.unwrap_or_default())),
        None => view.smoothed_rtt,
    }
}

fn time_for(bytes: u64, rate: u64) -> Duration {
    let nanos = u128::from(bytes) * 1_000_000_000 / u128::from(rate.max(1));
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::ids::ConnectionId;

    const MBYTE: u64 = 1_000_000;

    /// One that delivers `rate` bytes a second and is full, half of its `rtt_ms` milliseconds with a queue.
    fn view(tcp: u32, rate: u64, rtt_ms: u64) -> TcpView {
        TcpView {
            tcp: ConnectionId(tcp),
            smoothed_rtt: Some(Duration::from_millis(rtt_ms)),
            min_rtt: Some(Duration::from_millis(rtt_ms / 2)),
            bytes_in_flight: rate * rtt_ms / 1000,
            delivery_rate: (rate > 0).then_some(rate),
            least_rate: rate,
            bytes_sent: 0,
            share: 0,
            blocked: false,
            backup: false,
            lane: false,
            bulk: false,
            stalled: false,
        }
    }

    fn answers(all: &[TcpView], unsent: u64) -> Vec<Choice> {
        (0..all.len()).map(|asked| EarliestDelivery.choose(asked, all, unsent)).collect()
    }

    #[test]
    fn bulk_data_uses_all_tcp_connections() {
        assert_eq!(answers(&[view(0, 3 * MBYTE, 40), view(1, MBYTE / 2, 150)], 16 * MBYTE), [Choice::Send; 2]);
        assert_eq!(answers(&[view(0, MBYTE, 20), view(1, MBYTE, 600)], 16 * MBYTE), [Choice::Send; 2]);
    }

    #[test]
    fn end_of_a_transfer_uses_the_path_where_it_arrives_first() {
        let paths = [view(0, MBYTE / 2, 150), view(1, 3 * MBYTE, 40)];
        assert_eq!(answers(&paths, 100_000), [Choice::Wait, Choice::Send]);
        assert_eq!(answers(&paths, 1_000_000), [Choice::Send; 2]);
    }

    #[test]
    fn one_that_is_hundred_times_slower_is_not_waited_for() {
        assert_eq!(answers(&[view(0, 30_000, 1000), view(1, 3 * MBYTE, 40)], 16 * MBYTE), [Choice::Wait, Choice::Send]);
    }

    #[test]
    fn one_that_has_just_begun_gets_the_chance_to_become_faster() {
        let begun = TcpView { bytes_in_flight: 16_000, ..view(0, 150_000, 200) };
        assert_eq!(answers(&[begun, view(1, 3 * MBYTE, 40)], 2 * MBYTE), [Choice::Send; 2]);
    }

    #[test]
    fn one_about_which_nothing_is_known_is_tried_when_there_is_much_to_send() {
        let unknown = TcpView { smoothed_rtt: None, min_rtt: None, ..view(0, 0, 0) };
        let paths = [unknown, view(1, 3 * MBYTE, 40)];
        assert_eq!(answers(&paths, 1000), [Choice::Wait, Choice::Send]);
        assert_eq!(answers(&paths, MBYTE), [Choice::Send; 2]);
        assert_eq!(answers(&[unknown, unknown], 1000), [Choice::Send; 2], "nothing is known of any");
    }

    #[test]
    fn tcp_connection_without_rate_is_expected_to_be_as_fast_as_the_others() {
        let unknown = |tcp, rtt| TcpView { smoothed_rtt: Some(Duration::from_millis(rtt)), ..view(tcp, 0, 0) };
        assert_eq!(answers(&[unknown(0, 100), view(1, 3 * MBYTE, 40)], 1000), [Choice::Wait, Choice::Send]);
        assert_eq!(answers(&[unknown(0, 100), view(1, 3 * MBYTE, 40)], MBYTE), [Choice::Send; 2]);
        let seen = |tcp, rtt| TcpView { least_rate: MBYTE, ..unknown(tcp, rtt) };
        assert_eq!(answers(&[seen(0, 100), seen(1, 20)], 1000), [Choice::Wait, Choice::Send]);
    }

    #[test]
    fn of_two_equals_the_first_takes_what_is_too_little_for_both() {
        assert_eq!(answers(&[view(0, MBYTE, 20), view(1, MBYTE, 20)], 1000), [Choice::Send, Choice::Wait]);
    }

    #[test]
    fn backups_wait_for_others_and_are_judged_among_themselves() {
        let backup = |tcp, rate| TcpView { backup: true, ..view(tcp, rate, 20) };
        assert_eq!(answers(&[backup(0, 9 * MBYTE), view(1, MBYTE, 20)], MBYTE), [Choice::Wait, Choice::Send]);
        assert_eq!(answers(&[backup(0, 9 * MBYTE), backup(1, 1000)], 1000), [Choice::Send, Choice::Wait]);
    }
}
