//! Signals: which of them end a command, with which exit code, and which makes a server read its files again.
//!
//! | signal | clients (`get`, `pipe`, `perf client`, `demo`) | servers (`serve`, `proxy`, `perf server`) |
//! | --- | --- | --- |
//! | SIGINT, SIGTERM | close the session, keep what `get -C` can continue, exit code 130 or 143 | close all sessions, exit code 0 |
//! | SIGHUP | the same, exit code 129; ignored if it was ignored at the start (`nohup`) | read certificates and root again |
//! | SIGUSR1 | ends the command, as without a handler | `serve`, `proxy`: drain: close the listening sockets, finish what runs, then exit code 0 |
//! | a second SIGINT or SIGTERM | ends the command at once | ends the command at once |
//!
//! `socks` and `forward` close their session at each of them, with exit code 0.
//!
//! `decrypt` ends at each of them but SIGUSR1 with the exit code of clients, and leaves no incomplete output.
//!
//! `sim` leaves all of them to the operating system, which ends it: it has nothing to close.

use std::{error, fmt};

use super::Outcome;
use super::part::settle_parts;

/// A signal that the command handles.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Signal {
    /// SIGHUP: the terminal went away, or the operator changed the configuration.
    Hangup,
    /// SIGUSR1: the operator replaces the server.
    #[cfg_attr(not(unix), allow(dead_code, reason = "other systems have no SIGUSR1"))]
    User,
    /// SIGINT, as Ctrl-C sends it.
    Interrupt,
    /// SIGTERM, as service managers send it.
    #[cfg_attr(not(unix), allow(dead_code, reason = "other systems have no SIGTERM"))]
    Terminate,
}

impl Signal {
    /// What shells report for a command that a signal ended: 128 and the signal's number.
    pub(crate) fn exit_code(self) -> u8 {
        128 + match self {
            Self::Hangup => 1,
            Self::User => 10,
            Self::Interrupt => 2,
            Self::Terminate => 15,
        }
    }
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Hangup => "SIGHUP",
            Self::User => "SIGUSR1",
            Self::Interrupt => "SIGINT",
            Self::Terminate => "SIGTERM",
        })
    }
}

/// A signal ended the command before its work was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stopped {
    signal: Signal,
    /// The effect on the command's work, for people.
    note: &'static str,
    /// Whether the sender expects no message.
    is_quiet: bool,
}

impl Stopped {
    /// The same with a note about the effect on the command's work.
    pub(crate) fn noting(self, note: &'static str) -> Self {
        Self { note, ..self }
    }

    /// The same without a message if it was SIGHUP: ssh ends its `ProxyCommand` so.
    pub(crate) fn quiet_if_hangup(self) -> Self {
        Self { is_quiet: self.signal == Signal::Hangup, ..self }
    }

    /// Whether no message is printed.
    pub(crate) fn is_quiet(&self) -> bool {
        self.is_quiet
    }

    /// The command's exit code.
    pub(crate) fn exit_code(&self) -> u8 {
        self.signal.exit_code()
    }
}

impl fmt::Display for Stopped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "stopped by {}", self.signal)?;
        if self.note.is_empty() { Ok(()) } else { write!(f, ": {}", self.note) }
    }
}

impl error::Error for Stopped {}

/// The signals that arrive from [`Signals::listen`] on.
pub(crate) struct Signals(system::Signals);

impl Signals {
    /// Replaces the operating system's handling of the signals. To be called within a tokio runtime.
    pub(crate) fn listen() -> Outcome<Self> {
        Ok(Self(system::Signals::listen().map_err(|error| format!("can't handle signals: {error}"))?))
    }

    /// Does the same for a server, which SIGUSR1 drains.
    pub(crate) fn listen_as_server() -> Outcome<Self> {
        let mut signals = Self::listen()?;
        signals.0.add_user().map_err(|error| format!("can't handle signals: {error}"))?;
        Ok(signals)
    }

    /// The next signal. Cancel safe.
    pub(crate) async fn next(&mut self) -> Signal {
        self.0.next().await
    }

    /// Waits for the first signal; from then on, SIGINT or SIGTERM ends the command at once.
    pub(crate) async fn stop(mut self) -> Stopped {
        let signal = self.next().await;
        self.end_at_next();
        Stopped { signal, note: "", is_quiet: false }
    }

    /// Ends the process at the next SIGINT or SIGTERM: the sender of the first found that closing takes too long.
    pub(crate) fn end_at_next(mut self) {
        tokio::spawn(async move {
            let signal = loop {
                match self.next().await {
                    Signal::Hangup | Signal::User => {}
                    signal => break signal,
                }
            };
            settle_parts();
            std::process::exit(signal.exit_code().into());
        });
    }
}

#[cfg(unix)]
mod system {
    use tokio::signal::unix::{Signal as Stream, SignalKind, signal};

    use super::Signal;

    pub(super) struct Signals {
        interrupt: Stream,
        terminate: Stream,
        /// `None` if SIGHUP was ignored at the start.
        hangup: Option<Stream>,
        /// Of a server.
        user: Option<Stream>,
    }

    impl Signals {
        pub(super) fn listen() -> std::io::Result<Self> {
            let hangup = if is_hangup_ignored() { None } else { Some(signal(SignalKind::hangup())?) };
            Ok(Self {
                interrupt: signal(SignalKind::interrupt())?,
                terminate: signal(SignalKind::terminate())?,
                hangup,
                user: None,
            })
        }

        pub(super) fn add_user(&mut self) -> std::io::Result<()> {
            self.user = Some(signal(SignalKind::user_defined1())?);
            Ok(())
        }

        pub(super) async fn next(&mut self) -> Signal {
            let of = async |stream: &mut Option<Stream>| match stream {
                Some(stream) => stream.recv().await,
                None => std::future::pending().await,
            };
            tokio::select! {
                _ = self.interrupt.recv() => Signal::Interrupt,
                _ = self.terminate.recv() => Signal::Terminate,
                _ = of(&mut self.hangup) => Signal::Hangup,
                _ = of(&mut self.user) => Signal::User,
            }
        }
    }

    /// Whether `nohup` or the like started the command.
    #[cfg(any(target_os = "linux", target_os = "android"))]
    fn is_hangup_ignored() -> bool {
        let mut current = std::mem::MaybeUninit::<libc::sigaction>::zeroed();
        // SAFETY: without a new action, sigaction only writes the current one into the memory that it is given.
        let current = unsafe {
            if libc::sigaction(libc::SIGHUP, std::ptr::null(), current.as_mut_ptr()) != 0 {
                return false;
            }
            current.assume_init()
        };
        current.sa_sigaction == libc::SIG_IGN
    }

    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    fn is_hangup_ignored() -> bool {
        false
    }
}

#[cfg(not(unix))]
mod system {
    use super::Signal;

    pub(super) struct Signals;

    impl Signals {
        pub(super) fn listen() -> std::io::Result<Self> {
            Ok(Self)
        }

        #[allow(clippy::unnecessary_wraps, reason = "as on other systems")]
        pub(super) fn add_user(&mut self) -> std::io::Result<()> {
            Ok(())
        }

        pub(super) async fn next(&mut self) -> Signal {
            match tokio::signal::ctrl_c().await {
                Ok(()) => Signal::Interrupt,
                Err(_) => std::future::pending().await,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_are_those_of_shells() {
        let codes = [Signal::Hangup, Signal::Interrupt, Signal::Terminate].map(Signal::exit_code);
        assert_eq!(codes, [129, 130, 143]);
    }

    #[test]
    fn a_note_follows_the_signal() {
        let stopped = Stopped { signal: Signal::Terminate, note: "", is_quiet: false };
        assert_eq!(stopped.to_string(), "stopped by SIGTERM");
        assert_eq!(stopped.noting("half done").to_string(), "stopped by SIGTERM: half done");
    }
}
