//! Checks what the tasks of `tcpls_harness` share, in all interleavings of their operations.
//!
//! [`loom`] runs a model again and again, each time with another order of the operations on locks and flags, until all
//! orders with a bounded number of preemptions have had their turn. A thread that waits for ever is a deadlock, which
//! fails the model: nothing times out, because time stands still.
//!
//! The code under test is the harness' own: the build script takes `net/session`, `net/task`, `net/account`, `dial`, the
//! simulator's loan of sessions to applications, and the queue of the command's output. What these import from elsewhere
//! is here:
//!
//! | module | in place of |
//! | --- | --- |
//! | `sync` | the standard library's locks, flags and threads |
//! | `net::socket` | sockets: a buffer in each direction, and a peer at the other end |
//! | `net::os` | the clock, which stands still, and random numbers |
//!
//! [`PLANTS`] are bugs that can be planted in that code. `tests/models.rs` runs each model as the code is, and with each
//! bug that it must find.

// The harness' code is checked where it is: there, its items are public and in use. Models are tests: they fail by panics.
#![allow(dead_code, unused_imports, unreachable_pub, private_interfaces, clippy::all, clippy::unwrap_used)]

include!(concat!(env!("OUT_DIR"), "/src/dial.include"));
include!(concat!(env!("OUT_DIR"), "/src/rate_limit.include"));

mod kit;
pub mod models;
mod net;
mod output;
mod plants;
mod sim {
    include!(concat!(env!("OUT_DIR"), "/src/handles.include"));
}
mod sync;

use std::cell::Cell;

pub use plants::{PLANTS, Plant};

thread_local! {
    static PLANTED: Cell<Option<&'static str>> = const { Cell::new(None) };
}

/// Whether this bug is planted in the model that runs.
fn is_planted(name: &str) -> bool {
    PLANTED.get() == Some(name)
}

/// A model: one run of it, in which threads share something.
pub type Model = fn();

/// Runs a model in all interleavings with at most `preemptions`. Returns how many there were.
///
/// # Panics
/// If one deadlocks or panics.
pub fn check(model: Model, preemptions: usize) -> usize {
    let runs = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let count = runs.clone();
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.max_branches = 20_000;
    // Timers belong to a runtime. Nothing drives this one, so none fires.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    let _entered = runtime.enter();
    builder.check(move || {
        count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        kit::spawn(model).join().expect("a panic ends the model");
    });
    runs.load(std::sync::atomic::Ordering::Relaxed)
}

/// Plants a bug in the models that this thread checks from now on.
///
/// # Panics
/// If there is no bug of this name in [`PLANTS`].
pub fn plant(name: &str) {
    let plant = PLANTS.iter().find(|plant| plant.name == name);
    PLANTED.set(Some(plant.expect("a plant of this name").name));
}
