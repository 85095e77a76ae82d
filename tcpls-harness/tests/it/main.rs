//! Sessions over real sockets on loopback: everything from the handshake to the last close_notify.
//!
//! Nothing here waits for time to pass: tests wait for events, and break paths with relays of their own.

#![allow(clippy::unwrap_used, reason = "what fails here is a failed test")]

mod attacks;
#[cfg(unix)]
mod browser;
mod budgets;
mod captures;
mod clients;
#[cfg(unix)]
mod command;
mod coop;
mod direct;
mod docs;
mod draft_only;
mod drain;
mod early_data;
mod events;
mod farm;
#[cfg(target_os = "linux")]
mod fast_open;
mod file_server;
mod files;
#[cfg(unix)]
mod http;
mod lanes;
mod layers;
mod library;
mod load_balancers;
mod middleboxes;
mod network;
mod openssl;
#[cfg(feature = "openssl")]
mod openssl_provider;
mod outages;
mod paths;
mod pins;
mod plain;
mod proxy;
mod proxy_limits;
mod qlog;
mod record;
#[cfg(unix)]
#[path = "recorded/failover.rs"]
mod recorded_failover;
mod refusals;
mod runtimes;
mod second_provider;
mod sessions;
mod settings;
mod sim;
mod simulation;
mod slow;
mod support;
mod tcp_options;
mod trace;
mod tunnel;
mod tunnel_latency;
mod tunnel_many;
mod tunnel_simulated;
mod view;
