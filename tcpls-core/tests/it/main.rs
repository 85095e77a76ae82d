//! Tests of whole sessions through the public API only: two ends, any number of TCP connections between them, virtual
//! time. One binary, one file per topic; what the files share is in `support`.

#![allow(unreachable_pub, reason = "it is one binary; nothing is reachable from outside")]
#![allow(clippy::unwrap_used, reason = "what fails here is a failed test")]

mod support;

mod aggregation;
mod attacks;
mod backups;
mod begin;
mod closing;
mod coming_back;
mod conformance;
mod determinism;
mod direct;
mod draft_only;
mod drain;
mod early_data;
mod facts;
mod failover;
mod failures;
mod fallback;
mod farm;
mod floods;
mod half_close;
mod handshake;
mod hostile_frames;
mod hostile_joins;
mod hostile_records;
mod interleave;
mod join;
mod keys;
mod lanes;
mod lanes_stalled;
mod late_acks;
mod layers;
mod life;
mod migration;
#[cfg(feature = "openssl")]
mod openssl;
mod plain_ends;
mod record;
mod resumed_joins;
mod robust;
mod second_provider;
mod secrets;
mod sessions;
mod settings;
mod silence;
mod statements;
mod stats;
mod statuses;
mod stream_ends;
mod streams;
mod sums;
mod tables;
mod tcp_options;
mod trace;
mod truncation;
mod usage;
mod user_tls;
