//! Notices of the Linux kernel. Their contents do not matter: what is there is read anew after each, so that none that
//! was lost for lack of memory (`ENOBUFS`) leaves anything out.

use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::io::{Errno, read};
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType, bind, recv, socket_with};
use rustix::time::{
    ClockId, Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, clock_gettime, timerfd_create,
    timerfd_settime,
};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::Notice;

/// Links, IPv4 and IPv6 addresses (include/uapi/linux/rtnetlink.h: `RTMGRP_LINK`, `_IPV4_IFADDR`, `_IPV6_IFADDR`).
const GROUPS: u32 = 0x1 | 0x10 | 0x100;
/// The timer of the clock of the day never expires: 2 January 2100. A suspend, and a clock that is set, cancel it.
const NEVER: i64 = 4_102_531_200;
/// A shorter sleep changes nothing for peers.
const LEAST_SLEEP: Duration = Duration::from_millis(500);

/// See the module's description.
#[derive(Debug)]
pub(super) struct Notices {
    netlink: AsyncFd<OwnedFd>,
    timer: AsyncFd<OwnedFd>,
    asleep: Duration,
}

impl Notices {
    pub(super) fn new() -> io::Result<Self> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        // Protocol 0 is NETLINK_ROUTE.
        let netlink = socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, None)?;
        bind(&netlink, &SocketAddrNetlink::new(0, GROUPS))?;
        let timer = timerfd_create(TimerfdClockId::Realtime, TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK)?;
        arm(&timer)?;
        Ok(Self { netlink: registered(netlink)?, timer: registered(timer)?, asleep: asleep() })
    }

    /// Waits until something may have changed. Cancel safe.
    pub(super) async fn next(&mut self) -> io::Result<Notice> {
        loop {
            tokio::select! {
                ready = self.netlink.readable() => {
                    drain(self.netlink.get_ref())?;
                    ready?.clear_ready();
                    return Ok(self.look_at_clocks());
                }
                ready = self.timer.readable() => {
                    // Takes the cancellation; the timer runs on.
                    _ = read(self.timer.get_ref(), &mut [0; 8]);
                    ready?.clear_ready();
                    // A clock that is set changes nothing else.
                    if self.look_at_clocks() == Notice::Resumed {
                        return Ok(Notice::Resumed);
                    }
                }
            }
        }
    }

    /// After a suspend the interfaces are often reported first.
    fn look_at_clocks(&mut self) -> Notice {
        let before = std::mem::replace(&mut self.asleep, asleep());
        judge(before, self.asleep)
    }
}

/// The host had been asleep for `before` in all, and now has been for `now`.
fn judge(before: Duration, now: Duration) -> Notice {
    if now.saturating_sub(before) >= LEAST_SLEEP { Notice::Resumed } else { Notice::Network }
}

#[expect(deprecated, reason = "an OwnedFd is what the unsafe function of later versions requires")]
fn registered(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    AsyncFd::with_interest(fd, Interest::READABLE)
}

/// Sets the timer.
fn arm(timer: &OwnedFd) -> io::Result<()> {
    let never = Timespec { tv_sec: NEVER, tv_nsec: 0 };
    let zero = Timespec { tv_sec: 0, tv_nsec: 0 };
    let flags = TimerfdTimerFlags::ABSTIME | TimerfdTimerFlags::CANCEL_ON_SET;
    timerfd_settime(timer, flags, &Itimerspec { it_interval: zero, it_value: never })?;
    Ok(())
}

/// How long the host has been asleep since it started: the clock of sessions (`CLOCK_MONOTONIC`) stops then, the other
/// does not.
fn asleep() -> Duration {
    let now = |clock| {
        let time = clock_gettime(clock);
        Duration::new(u64::try_from(time.tv_sec).unwrap_or_default(), u32::try_from(time.tv_nsec).unwrap_or_default())
    };
    let awake = now(ClockId::Monotonic);
    now(ClockId::Boottime).saturating_sub(awake)
}

/// Takes all messages.
fn drain(netlink: &OwnedFd) -> io::Result<()> {
    let mut buffer = [0; 1024];
    loop {
        match recv(netlink, &mut buffer[..], RecvFlags::TRUNC) {
            Ok(_) | Err(Errno::INTR | Errno::NOBUFS) => {}
            Err(Errno::AGAIN) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn nothing_wakes_a_monitor_of_a_quiet_host() {
        let mut notices = Notices::new().unwrap();
        let early = tokio::time::timeout(Duration::ZERO, notices.next()).await;
        assert!(early.is_err(), "{early:?}");
    }

    #[test]
    fn sleep_is_the_time_by_which_the_clocks_have_parted() {
        let hour = Duration::from_secs(3600);
        assert_eq!(judge(hour, hour * 2), Notice::Resumed);
        assert_eq!(judge(hour, hour + LEAST_SLEEP), Notice::Resumed);
        // The two clocks are read one after the other.
        assert_eq!(judge(hour, hour + Duration::from_millis(1)), Notice::Network);
        assert_eq!(judge(hour, hour - Duration::from_millis(1)), Notice::Network);
    }
}
