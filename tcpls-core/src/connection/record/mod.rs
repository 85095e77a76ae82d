//! Recordings: everything that enters a session, and what it decides, so that a replay decides the same without keys.
//!
//! A [`Recorder`] writes each call on a [`Connection`](crate::Connection): its arguments, the records that it decrypted,
//! and then the records, events and deadlines that followed. [`replay`] makes the same calls on a session without
//! cryptography, records that, too, and compares. `docs/recordings.md` describes the format.
//!
//! | file | subject |
//! | --- | --- |
//! | `format` | blocks, checksums, integers |
//! | `item`, `fields`, `names` | what an entry is made of |
//! | `content`, `privacy` | the content of records, and what is hidden of it |
//! | `recorder`, `tls`, `hooks` | writing entries; the TLS library; the calls that the session makes |
//! | `replay` | reading and comparing |

mod content;
mod fields;
mod format;
mod hooks;
mod item;
mod lock;
mod names;
mod privacy;
mod recorder;
pub mod replay;
mod tls;

#[cfg(feature = "testing")]
pub(crate) use self::format::seal_block;
pub use self::format::{BLOCK_HEADER, FormatError, VERSION, file_header};
pub use self::item::ITEMS;
pub use self::names::{EVENTS, REASONS, TRACED};
pub use self::privacy::Privacy;
pub use self::recorder::{Blocks, Mark, Recorder, Taken};

pub(super) use self::fields::{Hello, Name, Text};
pub(super) use self::hooks::{Heard, JoinAnswer, Returned, left};
pub(super) use self::item::Item;
pub(super) use self::recorder::begin;
pub(super) use self::replay::MAX_BUFFER as MAX_OFFER;
