//! What an inspector without keys reads of a flow: numbers with names.
//!
//! Times are left out, the order of records is not.

use std::collections::{BTreeMap, HashSet};

use super::flows::{Flow, Record, View};

const KEY_SHARE: u16 = 51;
const PRE_SHARED_KEY: u16 = 41;
/// Records whose place in the order of both directions is a feature.
const IN_ORDER: usize = 20;

/// Features by name. One that is not there differs from all values.
pub(super) type Features = BTreeMap<String, f64>;

/// Sees flows one after the other, and remembers the values that should never come again.
pub(super) struct Observer {
    view: View,
    seen: HashSet<(&'static str, Vec<u8>)>,
}

impl Observer {
    pub(super) fn new(view: View) -> Self {
        Self { view, seen: HashSet::new() }
    }

    /// The features of a flow.
    pub(super) fn features(&mut self, flow: &Flow) -> Features {
        let flow = flow.up_to(self.view);
        let mut features = Features::new();
        records(&flow.records, &mut features);
        for (is_up, prefix) in [(true, "client"), (false, "server")] {
            if let Some(hello) = flow.records.iter().find(|record| record.is_up == is_up) {
                // What cannot be read is a feature as well.
                let is_read = self.hello(prefix, &hello.bytes, &mut features).is_some();
                put(&mut features, format!("{prefix}: hello is TLS"), is_read.into());
            }
        }
        features
    }

    fn hello(&mut self, of: &'static str, record: &[u8], features: &mut Features) -> Option<()> {
        let is_client = of == "client";
        let mut hello = Reader(record);
        put(features, format!("{of}: record version"), number(hello.take(3)?.get(1..)?));
        hello.take(2)?;
        put(features, format!("{of}: message type"), number(hello.take(1)?));
        put(features, format!("{of}: message length"), number(hello.take(3)?));
        put(features, format!("{of}: version"), number(hello.take(2)?));
        self.opaque(of, "random", hello.take(32)?, features);
        self.opaque(of, "session id", hello.vector(1)?, features);
        let suites = if is_client { hello.vector(2)? } else { hello.take(2)? };
        put(features, format!("{of}: suites"), digest(suites));
        put(features, format!("{of}: compression"), digest(if is_client { hello.vector(1)? } else { hello.take(1)? }));
        let mut extensions = Reader(hello.vector(2)?);
        put(features, format!("{of}: bytes behind the extensions"), hello.0.len() as f64);
        let mut position = 0;
        while !extensions.0.is_empty() {
            let (ty, body) = (number(extensions.take(2)?) as u16, extensions.vector(2)?);
            put(features, format!("{of}: position of extension {ty}"), f64::from(position));
            put(features, format!("{of}: length of extension {ty}"), body.len() as f64);
            position += 1;
            match ty {
                KEY_SHARE => self.key_share(of, is_client, body, features)?,
                PRE_SHARED_KEY if is_client => self.psk(of, body, features)?,
                _ => put(features, format!("{of}: content of extension {ty}"), digest(body)),
            }
        }
        put(features, format!("{of}: extensions"), f64::from(position));
        Some(())
    }

    fn key_share(&mut self, of: &'static str, is_client: bool, body: &[u8], features: &mut Features) -> Option<()> {
        let mut body = Reader(body);
        let mut shares = Reader(if is_client { body.vector(2)? } else { body.0 });
        let mut groups = Vec::new();
        while !shares.0.is_empty() {
            groups.extend_from_slice(shares.take(2)?);
            let share = shares.vector(2)?;
            put(features, format!("{of}: length of share {}", groups.len() / 2), share.len() as f64);
            if groups.len() == 2 {
                self.opaque(of, "key share", share, features);
            }
        }
        put(features, format!("{of}: groups of shares"), digest(&groups));
        Some(())
    }

    /// The first identity and binder, and the numbers of both.
    fn psk(&mut self, of: &'static str, body: &[u8], features: &mut Features) -> Option<()> {
        let mut body = Reader(body);
        let (mut identities, mut binders) = (Reader(body.vector(2)?), Reader(body.vector(2)?));
        let mut count = 0;
        while !identities.0.is_empty() {
            let (identity, age) = (identities.vector(2)?, identities.take(4)?);
            if count == 0 {
                self.opaque(of, "ticket", identity, features);
                self.opaque(of, "ticket age", age, features);
                put(features, format!("{of}: ticket age"), number(age));
            }
            count += 1;
        }
        put(features, format!("{of}: tickets"), f64::from(count));
        let mut count = 0;
        while !binders.0.is_empty() {
            let binder = binders.vector(1)?;
            if count == 0 {
                self.opaque(of, "binder", binder, features);
            }
            count += 1;
        }
        put(features, format!("{of}: binders"), f64::from(count));
        Some(())
    }

    /// A value that should be random: its length, each byte, the number of bits that are set, and whether it was there before.
    fn opaque(&mut self, of: &str, name: &'static str, value: &[u8], features: &mut Features) {
        put(features, format!("{of}: length of {name}"), value.len() as f64);
        for (index, byte) in value.iter().enumerate() {
            put(features, format!("{of}: byte {index} of {name}"), f64::from(*byte));
        }
        put(features, format!("{of}: bits of {name}"), value.iter().map(|byte| f64::from(byte.count_ones())).sum());
        // A server repeats the client's session ID.
        let is_new = self.seen.insert((name, [of.as_bytes(), value].concat()));
        put(features, format!("{of}: {name} is new"), is_new.into());
    }
}

/// Types, lengths and directions of records, and their order.
fn records(records: &[Record], features: &mut Features) {
    let mut counts = [0, 0];
    for (index, record) in records.iter().enumerate() {
        let direction = usize::from(record.is_up);
        let of = ["server", "client"][direction];
        let number = counts[direction];
        counts[direction] += 1;
        put(features, format!("{of}: type of record {number}"), f64::from(record.bytes[0]));
        put(features, format!("{of}: length of record {number}"), record.bytes.len() as f64);
        if index < IN_ORDER {
            put(features, format!("direction of record {index} of both"), direction as f64);
            put(features, format!("type of record {index} of both"), f64::from(record.bytes[0]));
        }
    }
    put(features, "client: records".to_owned(), f64::from(counts[1]));
    put(features, "server: records".to_owned(), f64::from(counts[0]));
}

fn put(features: &mut Features, name: String, value: f64) {
    features.insert(name, value);
}

/// A number from at most six bytes.
fn number(bytes: &[u8]) -> f64 {
    bytes.iter().fold(0.0, |number, byte| number * 256.0 + f64::from(*byte))
}

/// A number that differs where the bytes do (FNV-1a, 32 bits).
fn digest(bytes: &[u8]) -> f64 {
    f64::from(bytes.iter().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193)))
}

/// Bytes from front to back.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(taken)
    }

    /// Bytes behind their number, which has `of` bytes.
    fn vector(&mut self, of: usize) -> Option<&'a [u8]> {
        let len = number(self.take(of)?) as usize;
        self.take(len)
    }
}
