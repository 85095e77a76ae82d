//! The harness' sessions and their tasks, over sockets of this package.

mod log {
    //! Models are not logged.

    pub(super) fn note(_: &dyn std::fmt::Display) {}

    pub(super) fn metric(_: &str, _: f64) {}
}
pub(crate) mod os;
pub(crate) mod socket;

include!(concat!(env!("OUT_DIR"), "/src/account.include"));
include!(concat!(env!("OUT_DIR"), "/src/reach.include"));
include!(concat!(env!("OUT_DIR"), "/src/runtime.include"));
include!(concat!(env!("OUT_DIR"), "/src/session.include"));
include!(concat!(env!("OUT_DIR"), "/src/task.include"));
include!(concat!(env!("OUT_DIR"), "/src/tcp_option.include"));
