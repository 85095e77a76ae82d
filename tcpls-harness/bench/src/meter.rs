//! Resource use of a thread: CPU time, allocations, bytes on the heap. Each end of a measurement has a thread of its
//! own, so the two can be distinguished.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::time::{Duration, Instant};

use nix::time::{ClockId, clock_gettime};

/// The system's allocator, with a count for each thread.
pub struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
    static LIVE_BYTES: Cell<i64> = const { Cell::new(0) };
}

fn count(allocations: u64, bytes: i64) {
    // A thread that is ending has no counters any more.
    _ = ALLOCATIONS.try_with(|all| all.set(all.get() + allocations));
    _ = LIVE_BYTES.try_with(|live| live.set(live.get() + bytes));
}

// SAFETY: everything is done by `System`; counting neither allocates nor unwinds.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(1, layout.size() as i64);
        // SAFETY: the caller's promises are those of `System`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(1, layout.size() as i64);
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        count(1, new_size as i64 - layout.size() as i64);
        // SAFETY: as above.
        unsafe { System.realloc(ptr, layout, new_size) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        count(0, -(layout.size() as i64));
        // SAFETY: as above.
        unsafe { System.dealloc(ptr, layout) }
    }
}

/// Bytes on the heap that this thread has allocated and not freed.
pub fn live_bytes() -> i64 {
    LIVE_BYTES.get()
}

/// How much time this thread has spent on a CPU, in its own code and in the kernel's on its behalf.
pub fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).expect("every Linux has this clock");
    time.into()
}

/// The counters of the calling thread at one moment.
#[derive(Clone, Copy, Debug)]
pub struct Mark {
    at: Instant,
    cpu: Duration,
    allocations: u64,
}

impl Mark {
    /// Now.
    pub fn now() -> Self {
        Self { at: Instant::now(), cpu: cpu_time(), allocations: ALLOCATIONS.get() }
    }

    /// What was used up since.
    pub fn until_now(self) -> Span {
        let now = Self::now();
        Span {
            seconds: (now.at - self.at).as_secs_f64(),
            cpu_seconds: (now.cpu - self.cpu).as_secs_f64(),
            allocations: now.allocations - self.allocations,
        }
    }
}

/// What one thread used up between two moments.
#[derive(Clone, Copy, Debug, Default)]
pub struct Span {
    /// By the wall clock.
    pub seconds: f64,
    /// On a CPU.
    pub cpu_seconds: f64,
    /// Calls of the allocator that gave memory.
    pub allocations: u64,
}

/// Watches one end of a transfer: what is moved before the caches are warm and the windows have grown does not count.
#[derive(Debug)]
pub struct Meter {
    /// Bytes to move before measuring begins.
    warm_up: u64,
    /// Bytes to move in all.
    total: u64,
    moved: u64,
    begun: Option<Mark>,
    span: Option<Span>,
}

impl Meter {
    /// Measures `bytes` after `warm_up` bytes.
    pub fn new(warm_up: u64, bytes: u64) -> Self {
        Self { warm_up, total: warm_up + bytes, moved: 0, begun: None, span: None }
    }

    /// `bytes` bytes were written, or read. The span ends here if these are the last; for a writer, [`Meter::finish`] ends
    /// it later.
    pub fn moved(&mut self, bytes: usize) {
        self.moved += bytes as u64;
        if self.begun.is_none() && self.moved >= self.warm_up {
            self.begun = Some(Mark::now());
        }
        if self.moved >= self.total {
            self.finish();
        }
    }

    /// How much is left to move.
    pub fn left(&self) -> u64 {
        self.total.saturating_sub(self.moved)
    }

    /// Everything has arrived at the other end.
    pub fn finish(&mut self) {
        self.span = self.begun.map(Mark::until_now);
    }

    /// Returns the measurement; an error if fewer bytes arrived than expected.
    pub fn span(&self) -> crate::Outcome<Span> {
        if self.moved != self.total {
            return Err(format!("{} of {} bytes came", self.moved, self.total).into());
        }
        self.span.ok_or_else(|| "nothing was measured".into())
    }
}

#[cfg(test)]
mod tests {
    use std::hint::black_box;

    use super::*;

    #[test]
    fn warm_up_bytes_do_not_count() {
        let mut meter = Meter::new(10, 20);
        let allocate = || drop(black_box(Vec::<u8>::with_capacity(100)));
        allocate();
        meter.moved(10);
        (0..2).for_each(|_| allocate());
        meter.moved(20);
        assert_eq!(meter.span().unwrap().allocations, 2);
    }

    #[test]
    fn bytes_that_are_missing_are_an_error_and_so_are_bytes_too_many() {
        for bytes in [29, 31] {
            let mut meter = Meter::new(10, 20);
            meter.moved(10);
            meter.moved(bytes - 10);
            assert!(meter.span().is_err());
        }
    }

    #[test]
    fn what_is_freed_is_not_live() {
        let before = live_bytes();
        let memory = black_box(Vec::<u8>::with_capacity(1000));
        assert_eq!(live_bytes() - before, 1000);
        drop(memory);
        assert_eq!(live_bytes(), before);
    }
}
