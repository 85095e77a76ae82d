//! Wakeups and memory of a process, from /proc: who looks does not wake it.

use crate::Outcome;

/// What a thread and its process have used.
#[derive(Clone, Copy, Debug)]
pub struct Usage {
    /// How often the thread has waited, and was woken.
    pub wakeups: u64,
    /// Memory of the process, in bytes.
    pub resident: u64,
}

impl Usage {
    /// Of a thread of this process.
    pub fn of_thread(tid: i32) -> Outcome<Self> {
        Self::of(std::process::id(), tid.try_into()?)
    }

    /// Of a thread of any process.
    pub fn of(pid: u32, tid: u32) -> Outcome<Self> {
        let status = std::fs::read_to_string(format!("/proc/{pid}/task/{tid}/status"))?;
        let field = |name: &str| -> Outcome<u64> {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).ok_or_else(|| format!("no {name}"))?;
            Ok(line.split_whitespace().next().ok_or("no value")?.parse()?)
        };
        Ok(Self { wakeups: field("voluntary_ctxt_switches:")?, resident: field("VmRSS:")? * 1024 })
    }

    /// The wakeups since `before`, and the memory now.
    pub fn since(self, before: Self) -> Self {
        Self { wakeups: self.wakeups - before.wakeups, ..self }
    }
}

/// Memory of this process, in bytes.
pub fn resident() -> Outcome<u64> {
    Ok(Usage::of_thread(this_thread())?.resident)
}

/// The ID of this thread.
pub fn this_thread() -> i32 {
    nix::unistd::gettid().as_raw()
}
