//! Resource limits of a server: it raises its limit of file descriptors, determines the available memory, and divides
//! both.

use std::fmt;

use serde::Serialize;

use super::units::size;
use crate::net::ServerOptions;

/// Descriptors for everything but sockets of clients and files: terminals, listening sockets, the runtime's own, the one
/// qlog file that is open.
const OWN: u64 = 32;
/// The fewest descriptors with which a server starts.
const MIN_DESCRIPTORS: u64 = 64;
/// The most descriptors that a server requests.
const MAX_DESCRIPTORS: u64 = 1 << 20;
/// The assumed memory if the available memory is unknown.
const USUAL_MEMORY: u64 = 2 << 30;

/// The limits of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Bounds {
    /// File descriptors of the process.
    pub descriptors: u64,
    /// Of these, for sockets of clients.
    pub sockets: usize,
    /// Sockets whose ClientHello has not come.
    pub pending: usize,
    /// Sessions whose handshake is not over.
    pub handshakes: usize,
    /// Joins that are not authenticated.
    pub claims: usize,
    /// Sockets of refused clients that may still read the alert.
    pub refusals: usize,
    /// Files that are open at the same time.
    pub files: usize,
    /// Sessions; stranded ones have no socket.
    pub sessions: usize,
    /// Memory for all sessions together, in bytes.
    pub memory: u64,
}

impl Bounds {
    /// Raises the process's limit of file descriptors as far as allowed, and divides it. `memory` is the user's limit
    /// for all sessions, in bytes.
    ///
    /// # Errors
    /// There are too few descriptors.
    pub fn find(memory: Option<u64>) -> Result<Self, String> {
        Self::of(os::raise_descriptors(), memory.unwrap_or(os::memory() / 2))
    }

    /// Divides `descriptors` file descriptors: an eighth for files, a sixteenth for refused clients, and as many in
    /// reserve, because holders that give way take a moment to close. The rest is for sockets of clients; those without
    /// a session get at most half of it.
    fn of(descriptors: u64, memory: u64) -> Result<Self, String> {
        if descriptors < MIN_DESCRIPTORS {
            return Err(format!(
                "only {descriptors} file descriptors are allowed; a server needs {MIN_DESCRIPTORS}: raise `ulimit -n`"
            ));
        }
        if memory < 1 << 20 {
            return Err(format!(
                "{memory} bytes of memory are too little for a session; pass --memory with 1MiB or more"
            ));
        }
        let part = |of: u64, least: u64, most: u64| usize::try_from(of.clamp(least, most)).unwrap_or(usize::MAX);
        let files = part(descriptors / 8, 4, 512);
        let refusals = part(descriptors / 16, 2, 256);
        let reserve = descriptors / 16;
        let sockets = (descriptors - OWN - reserve).saturating_sub((files + refusals) as u64).max(8);
        Ok(Self {
            descriptors,
            sockets: part(sockets, 8, MAX_DESCRIPTORS),
            pending: part(sockets / 4, 4, 1024),
            handshakes: part(sockets / 4, 4, 1024),
            claims: part(sockets / 8, 2, 1024),
            refusals,
            files,
            sessions: 10_000,
            memory,
        })
    }

    /// Takes three quarters of the sockets, and the files, for connections to the targets of a proxy; returns their number.
    pub fn reserve_targets(&mut self) -> usize {
        let sockets = (self.sockets / 4).max(2);
        let targets = self.sockets - sockets + self.files;
        self.sockets = sockets;
        (self.pending, self.handshakes) = (self.pending.min(sockets / 2), self.handshakes.min(sockets / 2));
        (self.claims, self.files) = (self.claims.min(sockets), 0);
        targets
    }

    /// Puts them into a server's options.
    pub fn apply(&self, options: &mut ServerOptions) {
        options.max_descriptors = self.sockets;
        options.endpoint.max_pending = self.pending;
        options.max_handshakes = self.handshakes;
        options.max_claims = self.claims;
        options.max_refusals = self.refusals;
        options.max_sessions = self.sessions;
        options.max_memory = self.memory;
    }
}

impl fmt::Display for Bounds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { descriptors, sockets, pending, handshakes, claims, files, sessions, memory, .. } = self;
        write!(
            f,
            "{sessions} sessions with {} of memory; of {descriptors} file descriptors {sockets} for sockets \
             ({pending} before their ClientHello, {handshakes} in their handshake, {claims} joining), {files} for files",
            size(*memory)
        )
    }
}

#[cfg(unix)]
mod os {
    use std::fs::read_to_string;

    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

    use super::{MAX_DESCRIPTORS, USUAL_MEMORY};

    /// Raises the limit of descriptors as far as allowed, and returns it.
    pub(super) fn raise_descriptors() -> u64 {
        let limit = getrlimit(Resource::Nofile);
        let most = limit.maximum.unwrap_or(MAX_DESCRIPTORS).min(MAX_DESCRIPTORS);
        if limit.current.is_some_and(|current| current < most) {
            // Some systems have a lower limit; then the current one stays.
            _ = setrlimit(Resource::Nofile, Rlimit { current: Some(most), maximum: limit.maximum });
        }
        getrlimit(Resource::Nofile).current.unwrap_or(MAX_DESCRIPTORS).min(MAX_DESCRIPTORS)
    }

    /// The memory that this process may use, in bytes: the smallest limit of the machine, the control group and the
    /// process.
    pub(super) fn memory() -> u64 {
        let own = [Resource::As, Resource::Data].map(|resource| getrlimit(resource).current);
        let least = own.into_iter().chain([machine(), control_group()]).flatten().min();
        least.unwrap_or(USUAL_MEMORY)
    }

    fn machine() -> Option<u64> {
        let text = read_to_string("/proc/meminfo").ok()?;
        let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
        line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
    }

    /// Version 2: each group on the way from the root has a limit. Version 1: where containers see theirs.
    fn control_group() -> Option<u64> {
        let groups = read_to_string("/proc/self/cgroup").unwrap_or_default();
        let own = groups.lines().find_map(|line| line.strip_prefix("0::")).unwrap_or("/");
        let files = std::path::Path::new(own)
            .ancestors()
            .map(|group| format!("/sys/fs/cgroup/{}/memory.max", group.display().to_string().trim_matches('/')));
        let files = files.chain(["/sys/fs/cgroup/memory/memory.limit_in_bytes".to_owned()]);
        files.filter_map(|file| read_to_string(file).ok()?.trim().parse().ok()).min()
    }

    #[cfg(test)]
    #[test]
    fn memory_limit_is_found_for_any_answer_of_the_system() {
        assert!(memory() > 1 << 20 && raise_descriptors() > 0);
    }
}

#[cfg(not(unix))]
mod os {
    use super::USUAL_MEMORY;

    /// The number of descriptors where the limit cannot be determined.
    const USUAL_DESCRIPTORS: u64 = 1024;

    pub(super) fn raise_descriptors() -> u64 {
        USUAL_DESCRIPTORS
    }

    pub(super) fn memory() -> u64 {
        USUAL_MEMORY
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn divided_descriptors_never_exceed_the_limit() {
        for descriptors in (MIN_DESCRIPTORS..5000).chain([1 << 16, MAX_DESCRIPTORS]) {
            let bounds = Bounds::of(descriptors, 1 << 30).unwrap();
            let used = OWN + (bounds.sockets + bounds.files + bounds.refusals) as u64;
            assert!(used <= descriptors, "{bounds:?}");
            assert!(bounds.pending + bounds.handshakes <= bounds.sockets, "{bounds:?}");
            assert!(bounds.claims >= 2 && bounds.files >= 4, "{bounds:?}");
        }
    }

    #[test]
    fn a_proxy_has_more_sockets_for_targets_than_for_clients() {
        for descriptors in (MIN_DESCRIPTORS..5000).chain([1 << 16, MAX_DESCRIPTORS]) {
            let mut bounds = Bounds::of(descriptors, 1 << 30).unwrap();
            let targets = bounds.reserve_targets();
            let used = OWN + (targets + bounds.sockets + bounds.refusals) as u64;
            assert!(used <= descriptors && targets > bounds.sockets, "{bounds:?} {targets}");
            assert!(bounds.pending >= 1 && bounds.pending + bounds.handshakes <= bounds.sockets, "{bounds:?}");
        }
    }

    #[test]
    fn an_old_limit_of_256_descriptors_leaves_room_for_sessions_and_files() {
        let bounds = Bounds::of(256, 1 << 30).unwrap();
        assert!(bounds.sockets >= 150 && bounds.files >= 32 && bounds.pending >= 32, "{bounds:?}");
    }

    #[test]
    fn limits_that_are_too_low_are_an_error() {
        assert!(Bounds::of(63, 1 << 30).unwrap_err().contains("ulimit -n"));
        assert!(Bounds::of(1024, 1000).unwrap_err().contains("--memory"));
    }

    #[test]
    fn limits_of_a_server_are_printed_in_one_line() {
        let text = Bounds::of(1024, 1 << 30).unwrap().to_string();
        let expected = "10000 sessions with 1.0 GiB of memory; of 1024 file descriptors 736 for sockets (184 before their \
                        ClientHello, 184 in their handshake, 92 joining), 128 for files";
        assert_eq!(text, expected);
    }
}
