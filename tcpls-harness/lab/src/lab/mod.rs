//! Everything. The paths are made by the lab itself: TUN devices in two network namespaces and a thread between them (`wire`) that
//! carries packets at a rate, with a delay, through a queue, and does the harm. The stacks are processes in the namespaces.

mod arrivals;
mod calm;
mod command;
mod congestion;
mod first_byte;
mod forge;
mod goal;
mod inspect;
mod latency;
mod link;
mod middlebox;
mod netns;
mod outcome;
mod path;
mod peer;
mod results;
mod run;
mod scenario;
mod scratch;
mod selftest;
mod shares;
mod stack;
mod summary;
mod sums;
mod sys;
mod uplinks;
mod wire;

pub(crate) use command::main;

/// The error is written for people.
type Outcome<T = ()> = Result<T, Box<dyn std::error::Error + Send + Sync>>;
