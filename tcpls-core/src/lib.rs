//! TCPLS without I/O.
#![forbid(unsafe_code)]

pub mod config;
pub mod connection;
pub mod crypto;
pub mod endpoint;
pub mod error;
pub mod event;
pub mod stream;
pub mod tcp;
pub mod time;
pub mod token;
pub mod wire;
