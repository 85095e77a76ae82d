//! Arrival times of bytes at the application, from the logs of clients, and the gaps between them. No I/O.

/// A gap that an event caused begins in this time around it, in seconds: what was delivered just before may be the last.
const BEFORE: f64 = 0.020;
pub(crate) const AFTER: f64 = 3.0;
/// One that the event itself caused, rather than what the stack did afterwards, begins earlier.
pub(crate) const SOON: f64 = 0.2;
/// The beginning of a transfer, in seconds: slow start and its repair.
pub(crate) const FIRST: f64 = 2.0;

/// Seconds since 1970 and bytes so far, in the order of time.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Arrivals(Vec<(f64, u64)>);

impl Arrivals {
    /// Reads lines of `SECONDS BYTES`. A line that was cut off is left out.
    pub(crate) fn parse(log: &str) -> Self {
        let line = |line: &str| {
            let (time, bytes) = line.split_once(' ')?;
            Some((time.parse().ok()?, bytes.parse().ok()?))
        };
        Self(log.lines().filter_map(line).collect())
    }

    /// Bytes in all.
    pub(crate) fn bytes(&self) -> u64 {
        self.0.last().map_or(0, |(_, bytes)| *bytes)
    }

    /// When the first byte arrived; 0 if none did.
    pub(crate) fn start(&self) -> f64 {
        self.0.first().map_or(0.0, |(time, _)| *time)
    }

    /// From the first byte to the last.
    pub(crate) fn seconds(&self) -> f64 {
        self.0.first().zip(self.0.last()).map_or(0.0, |(first, last)| last.0 - first.0)
    }

    /// When the last byte arrived; nothing if none did.
    pub(crate) fn end(&self) -> Option<f64> {
        self.0.last().map(|(time, _)| *time)
    }

    /// Goodput over the first `seconds` from the first byte on, in Mbit/s; nothing if the transfer was shorter.
    pub(crate) fn mbit_first(&self, seconds: f64) -> Option<f64> {
        if self.seconds() < seconds {
            return None;
        }
        let until = self.start() + seconds;
        let came = self.0.iter().take_while(|(time, _)| *time <= until).last()?.1;
        Some(came as f64 * 8e-6 / seconds)
    }

    /// Goodput in each of the first `seconds` seconds from the first byte on, in Mbit/s.
    pub(crate) fn each_second(&self, seconds: u32) -> Vec<f64> {
        let came = |until: f64| self.0.iter().rev().find(|(time, _)| *time <= until).map_or(0, |(_, bytes)| *bytes);
        let at = |second: u32| self.start() + f64::from(second);
        (0..seconds).map(|second| (came(at(second + 1)) - came(at(second))) as f64 * 8e-6).collect()
    }

    /// Goodput from `start` to the last byte, in Mbit/s; 0 if nothing arrived after it.
    pub(crate) fn mbit_after(&self, start: f64) -> f64 {
        let before = self.0.iter().rev().find(|(time, _)| *time <= start).map_or(0, |(_, bytes)| *bytes);
        let seconds = self.0.last().map_or(0.0, |(time, _)| time - start.max(self.0[0].0));
        if seconds > 0.0 { (self.bytes() - before) as f64 * 8e-6 / seconds } else { 0.0 }
    }

    /// The longest time without a byte that begins around an event at `time`, at most `after` seconds later, in milliseconds.
    /// `None` if there is none, or if it never ended: what comes before `len` bytes is not the end.
    pub(crate) fn gap(&self, time: f64, after: f64, len: u64) -> Option<f64> {
        let around = |start: f64| (time - BEFORE..=time + after).contains(&start);
        if self.bytes() < len && self.0.last().is_some_and(|last| last.0 <= time + after) {
            return None;
        }
        let pairs = self.0.iter().zip(self.0.iter().skip(1));
        let gaps = pairs.filter(|(from, to)| around(from.0) || (from.0 < time && to.0 > time));
        gaps.map(|(from, to)| (to.0 - from.0) * 1e3).max_by(f64::total_cmp)
    }

    /// The lowest goodput over any `window` seconds from `skipped` seconds after the first byte on, up to the last, in Mbit/s.
    /// `None` if there is no such time.
    pub(crate) fn lowest(&self, skipped: f64, window: f64) -> Option<f64> {
        let (from, to) = (self.0.first()?.0 + skipped, self.0.last()?.0);
        // Least comes in a window that begins just after bytes arrived.
        let starts = self.0.iter().filter(|(time, _)| *time >= from && *time + window <= to);
        let came = |(start, before): &(f64, u64)| {
            let end = self.0.partition_point(|(time, _)| *time <= start + window) - 1;
            (self.0[end].1 - before) as f64 * 8e-6 / window
        };
        starts.map(came).min_by(f64::total_cmp)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_pause_that_begins_around_the_event_is_its_gap() {
        let log = Arrivals::parse("1.0 10\n1.5 20\n1.990 30\n2.1 40\n2.3 50\n6.0 60\n");
        let close = |gap: Option<f64>, expected: f64| assert!((gap.unwrap() - expected).abs() < 1e-6, "{gap:?}");
        close(log.gap(2.0, AFTER, 60), 3700.0);
        close(log.gap(1.1, AFTER, 60), 3700.0);
        close(Arrivals::parse("1.0 1\n1.5 2\n1.99 3\n2.1 4\n2.3 5\n6 6").gap(2.305, AFTER, 6), 3700.0);
        close(Arrivals::parse("1.0 1\n1.5 2\n1.99 3\n2.1 4\n2.3 5\n2.4 6").gap(2.0, AFTER, 6), 200.0);
        close(Arrivals::parse("1.0 1\n1.99 3\n2.1 4\n2.3 5\n2.6 6").gap(2.0, SOON, 6), 200.0);
        // What begins earlier and lasts beyond the event counts too: nothing arrived when it happened.
        close(Arrivals::parse("1.0 1\n1.9 2\n2.05 3").gap(2.0, AFTER, 3), 150.0);
        assert_eq!(log.gap(7.0, AFTER, 60), None);
    }

    #[test]
    fn a_gap_that_nothing_ends_is_none_that_could_be_measured() {
        let log = Arrivals::parse("1.0 10\n1.5 20\n1.990 30\n");
        assert_eq!(log.gap(2.0, AFTER, 40), None);
        assert!(log.gap(2.0, AFTER, 30).is_none());
        assert!(log.gap(1.5, AFTER, 30).is_some());
        assert_eq!(log.gap(1.5, AFTER, 40), None);
    }

    #[test]
    fn goodput_is_counted_from_the_first_byte_or_the_moment_asked_for() {
        let log = Arrivals::parse("10.0 0\n11.0 1000000\n12.0 3000000\n");
        assert_eq!((log.start(), log.bytes(), log.seconds()), (10.0, 3_000_000, 2.0));
        assert_eq!(log.end(), Some(12.0));
        assert_eq!((log.mbit_first(1.5), log.mbit_first(2.5)), (Some(1e6 * 8e-6 / 1.5), None));
        assert_eq!(log.mbit_after(0.0), 12.0);
        assert_eq!(log.mbit_after(11.0), 16.0);
        assert_eq!(log.mbit_after(12.0), 0.0);
        assert_eq!(Arrivals::default().mbit_after(0.0), 0.0);
    }

    #[test]
    fn goodput_of_each_second_is_that_of_what_came_in_it() {
        let log = Arrivals::parse("10 1000000\n10.5 2000000\n11.2 2500000\n13 4000000\n13.5 9000000\n");
        assert_eq!(log.each_second(3), [8.0, 4.0, 12.0]);
        assert_eq!(Arrivals::default().each_second(2), [0.0, 0.0]);
    }

    #[test]
    fn lowest_goodput_is_that_of_the_window_with_fewest_bytes() {
        let log = Arrivals::parse("8 0\n9 1000000\n10 2000000\n11 2500000\n12 3000000\n13 5000000\n14 5000000\n");
        assert_eq!(log.lowest(0.0, 2.0), Some(4.0));
        assert_eq!(log.lowest(3.0, 2.0), Some(8.0));
        // The last second alone is too short.
        assert_eq!(log.lowest(5.0, 2.0), None);
        assert_eq!(Arrivals::default().lowest(0.0, 1.0), None);
    }

    #[test]
    fn a_line_that_was_cut_off_is_left_out() {
        assert_eq!(Arrivals::parse("1.0 1\n2.0 2\n3."), Arrivals(vec![(1.0, 1), (2.0, 2)]));
    }
}
