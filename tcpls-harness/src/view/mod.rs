//! A page that shows a trace in a browser: one file of HTML, without a network.
//!
//! [`Page::of_trace`] reads the JSON lines that `docs/trace.md` describes, of one end of a session or of a whole
//! simulation, or a qlog file; [`Page::of_recording`] replays a recording. [`Page::write`] writes the page, which
//! `docs/view.md` describes.
//!
//! ```
//! use tcpls_harness::view::Page;
//!
//! let trace = r#"{"t":0,"what":"joined","tcp":0}"#;
//! let mut html = Vec::new();
//! Page::of_trace(trace.as_bytes())?.title("my first session").write(&mut html)?;
//! assert!(html.starts_with(b"<!doctype html>"));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! | file | subject |
//! | --- | --- |
//! | `reader`, `line`, `qlog` | lines of the trace, with limits; what is not a trace is an error |
//! | `ends`, `carriers` | what they say of each end of a session: its TCP connections, and which bytes went where, and why again |
//! | `events`, `pieces`, `columns` | tables of all events and of all ranges of streams, as the page gets them |
//! | `story`, `summary` | sentences |
//! | `page` | the file: markup, style, scripts, and the data |
//! | `palette` | colors, which plots share |
//! | `collector` | a page of a trace that is being written |
//! | `replays` | a page of recorded sessions |
//!
//! Each uses those above it. The meaning of events is decided here, in Rust; the scripts draw.

mod carriers;
mod collector;
mod columns;
mod ends;
mod events;
mod line;
mod page;
pub mod palette;
mod pieces;
mod qlog;
mod reader;
mod replays;
mod story;
mod summary;

pub use self::collector::Collector;
pub use self::page::Page;
pub use self::reader::TraceError;
pub use self::replays::Replays;
