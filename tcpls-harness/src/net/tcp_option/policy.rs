//! Which options a peer may choose, and how often.

use std::ops::RangeInclusive;
use std::time::Duration;

use tcpls_core::event::OptionOutcome;
use tcpls_core::time::Time;

use super::{CongestionName, Malformed, SocketOption, TcpOption};
use crate::rate_limit::{Bucket, RateLimit};

/// Requests of a session's peer that are executed; those beyond it are refused.
const REQUESTS: RateLimit = RateLimit::new(32, Duration::from_secs(1));

/// The congestion controls that a peer may choose.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum CongestionPolicy {
    /// None.
    Never,
    /// Those that the kernel gives to every process (Linux: `/proc/sys/net/ipv4/tcp_allowed_congestion_control`).
    #[default]
    Unrestricted,
    /// These, as far as the kernel lets this process use them.
    Names(Vec<CongestionName>),
}

/// The options of this endpoint's sockets that its peer may set.
///
/// The default allows user timeouts from 5 s to an hour, and the congestion controls that every process may use. A session
/// sets up to 32 options at once and one more each second; requests beyond that are refused.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct OptionPolicy {
    /// User timeouts; `None` allows none.
    pub user_timeout: Option<RangeInclusive<Duration>>,
    /// Congestion controls.
    pub congestion: CongestionPolicy,
    /// Times of keep-alives; `None` allows none. Where one is allowed, so is to switch them off.
    pub keep_alive: Option<RangeInclusive<Duration>>,
    /// Other options of sockets, with their values.
    pub socket: Vec<(SocketOption, RangeInclusive<u32>)>,
    /// The helper that registers congestion controls as BPF programs; `None`: the peer can't ask for any.
    #[cfg(all(feature = "programs", unix))]
    pub programs: Option<crate::programs::Helper>,
}

impl Default for OptionPolicy {
    fn default() -> Self {
        Self {
            user_timeout: Some(Duration::from_secs(5)..=Duration::from_secs(3600)),
            congestion: CongestionPolicy::default(),
            keep_alive: None,
            socket: Vec::new(),
            #[cfg(all(feature = "programs", unix))]
            programs: None,
        }
    }
}

impl OptionPolicy {
    /// Allows nothing.
    pub fn never() -> Self {
        Self { user_timeout: None, congestion: CongestionPolicy::Never, ..Self::default() }
    }

    /// Returns this policy with a change: `OptionPolicy::default().with(|policy| policy.user_timeout = None)`.
    #[must_use]
    pub fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    /// Returns the option that the peer asks for, or the answer if it is not to be set. `unrestricted` lists the congestion
    /// controls that every process may use, separated by white space.
    pub(crate) fn judge(
        &self,
        kind: u8,
        value: &[u8],
        unrestricted: impl FnOnce() -> String,
    ) -> Result<TcpOption, OptionOutcome> {
        let option = TcpOption::decode(kind, value).map_err(|malformed| match malformed {
            Malformed::Unknown => OptionOutcome::Unknown,
            Malformed::Invalid => OptionOutcome::Refused,
        })?;
        let is_allowed = match &option {
            TcpOption::UserTimeout(time) => self.user_timeout.as_ref().is_some_and(|range| range.contains(time)),
            TcpOption::CongestionControl(name) => match &self.congestion {
                CongestionPolicy::Never => false,
                CongestionPolicy::Unrestricted => unrestricted().split_whitespace().any(|other| other == name.as_str()),
                CongestionPolicy::Names(names) => names.contains(name),
            },
            #[cfg(all(feature = "programs", unix))]
            TcpOption::CongestionProgram(_) => self.programs.is_some(),
            TcpOption::KeepAlive(time) => {
                let is_within = |range: &RangeInclusive<Duration>| time.is_none_or(|time| range.contains(&time));
                self.keep_alive.as_ref().is_some_and(is_within)
            }
            TcpOption::Socket(option, value) => {
                self.socket.iter().any(|(allowed, range)| allowed == option && range.contains(value))
            }
        };
        if is_allowed { Ok(option) } else { Err(OptionOutcome::Refused) }
    }
}

/// How often a session's peer has asked lately.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rate(Bucket);

impl Default for Rate {
    fn default() -> Self {
        Self(Bucket::new(REQUESTS))
    }
}

impl Rate {
    /// Whether one more request may be executed.
    pub(crate) fn allows(&mut self, now: Time) -> bool {
        self.0.admit(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judge(policy: &OptionPolicy, option: &TcpOption) -> Option<OptionOutcome> {
        let (kind, value) = option.encode();
        policy.judge(kind, &value, || "reno bbr\n".to_owned()).err()
    }

    fn congestion(name: &str) -> TcpOption {
        TcpOption::CongestionControl(CongestionName::new(name).unwrap())
    }

    fn secs(secs: u64) -> Duration {
        Duration::from_secs(secs)
    }

    const REFUSED: Option<OptionOutcome> = Some(OptionOutcome::Refused);

    #[test]
    fn default_allows_user_timeouts_and_congestion_controls_that_all_may_use() {
        let policy = OptionPolicy::default();
        for time in [5, 3600] {
            assert_eq!(judge(&policy, &TcpOption::UserTimeout(secs(time))), None);
        }
        for time in [4, 3601] {
            assert_eq!(judge(&policy, &TcpOption::UserTimeout(secs(time))), REFUSED);
        }
        assert_eq!((judge(&policy, &congestion("bbr")), judge(&policy, &congestion("reno"))), (None, None));
        for name in ["cubic", "bb", "bbr2"] {
            assert_eq!(judge(&policy, &congestion(name)), REFUSED);
        }
        assert_eq!(judge(&policy, &TcpOption::KeepAlive(Some(secs(60)))), REFUSED);
        assert_eq!(judge(&policy, &TcpOption::KeepAlive(None)), REFUSED);
        assert_eq!(judge(&policy, &TcpOption::Socket(SocketOption::SendBuffer, 65_536)), REFUSED);
    }

    #[test]
    fn what_is_not_known_or_not_valid_is_answered_so_by_any_policy() {
        for policy in [OptionPolicy::default(), OptionPolicy::never()] {
            let judge = |kind, value: &[u8]| policy.judge(kind, value, String::new).err();
            assert_eq!(judge(1, b""), Some(OptionOutcome::Unknown));
            assert_eq!(judge(252, b"SO_DEBUG=1"), Some(OptionOutcome::Unknown));
            assert_eq!(judge(28, b""), REFUSED);
        }
    }

    #[test]
    fn applications_choose_what_is_allowed() {
        let names = vec![CongestionName::new("cubic").unwrap()];
        let policy = OptionPolicy::never().with(|policy| {
            policy.congestion = CongestionPolicy::Names(names);
            policy.keep_alive = Some(secs(30)..=secs(600));
            policy.socket = vec![(SocketOption::SendBuffer, 4096..=1 << 20), (SocketOption::TypeOfService, 0..=0)];
        });
        assert_eq!((judge(&policy, &congestion("cubic")), judge(&policy, &congestion("bbr"))), (None, REFUSED));
        assert_eq!(judge(&policy, &TcpOption::UserTimeout(secs(60))), REFUSED);
        for (time, outcome) in [(None, None), (Some(30), None), (Some(29), REFUSED), (Some(601), REFUSED)] {
            assert_eq!(judge(&policy, &TcpOption::KeepAlive(time.map(secs))), outcome, "{time:?}");
        }
        assert_eq!(judge(&policy, &TcpOption::Socket(SocketOption::SendBuffer, 1 << 20)), None);
        for (option, value) in
            [(SocketOption::SendBuffer, 1 << 21), (SocketOption::ReceiveBuffer, 8192), (SocketOption::TypeOfService, 1)]
        {
            assert_eq!(judge(&policy, &TcpOption::Socket(option, value)), REFUSED, "{option} {value}");
        }
    }

    #[test]
    fn requests_beyond_a_burst_are_executed_once_a_second() {
        let mut rate = Rate::default();
        let mut count = |now: u64| (0..100).filter(|_| rate.allows(Time::from_millis(now))).count();
        assert_eq!(count(10_000), 32);
        assert_eq!(count(10_999), 0);
        assert_eq!(count(11_000), 1);
        assert_eq!(count(14_500), 3);
        assert_eq!(count(1_000_000), 32);
    }
}
