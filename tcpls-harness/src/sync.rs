//! Locks, flags and threads that tasks share state with.
//!
//! Here they are those of the standard library and of tokio. The package `tcpls-model` compiles the modules that import them a second time,
//! with those of a model checker.

#[cfg(feature = "cli")]
pub(crate) use std::sync::Condvar;
pub(crate) use std::sync::atomic::AtomicBool;
pub(crate) use std::sync::{Mutex, MutexGuard};
#[cfg(feature = "cli")]
pub(crate) use std::thread;
#[cfg(feature = "cli")]
pub(crate) use tokio::sync::Notify;
