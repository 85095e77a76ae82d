//! Rings of pairs in virtual time: what becomes a file, and what memory they take.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, channel};

use tcpls_core::ConnectionId;
use tcpls_core::testing::{Pair, Setup, bytes};

use super::*;
use crate::view::Page;

/// How long a test waits for the thread that writes.
const PATIENCE: Duration = Duration::from_secs(600);

/// Files in memory.
#[derive(Clone, Default)]
struct Memory(Arc<Mutex<Kept>>);

#[derive(Default)]
struct Kept {
    /// With their names.
    files: BTreeMap<FileNumber, (String, Vec<u8>)>,
    /// How many have not ended.
    open: usize,
}

impl Store for Memory {
    fn append(&mut self, number: FileNumber, name: Option<&str>, parts: &[&[u8]]) -> io::Result<()> {
        let mut kept = self.0.lock().unwrap();
        if let Some(name) = name {
            kept.open += 1;
            assert!(kept.files.insert(number, (name.to_owned(), Vec::new())).is_none(), "{name}");
        }
        kept.files.get_mut(&number).expect("it has begun").1.extend(parts.concat());
        Ok(())
    }

    fn close(&mut self, _: FileNumber) {
        self.0.lock().unwrap().open -= 1;
    }
}

impl Memory {
    /// The files by the side in their names.
    fn of(&self, side: &str) -> Vec<String> {
        let kept = self.0.lock().unwrap();
        let texts = kept.files.values().filter(|(name, _)| name.ends_with(&format!("-{side}.jsonl")));
        texts.map(|(_, file)| String::from_utf8(file.clone()).unwrap()).collect()
    }

    fn open(&self) -> usize {
        self.0.lock().unwrap().open
    }
}

/// A store that waits for a message before it writes.
struct Slow(Memory, Receiver<()>);

impl Store for Slow {
    fn append(&mut self, number: FileNumber, name: Option<&str>, parts: &[&[u8]]) -> io::Result<()> {
        self.1.recv().map_err(io::Error::other)?;
        self.0.append(number, name, parts)
    }

    fn close(&mut self, _: FileNumber) {}
}

fn ring(change: impl FnOnce(&mut RingOptions)) -> (Ring, Memory) {
    let memory = Memory::default();
    (Ring::start(memory.clone(), &RingOptions::new("").with(change)).unwrap(), memory)
}

/// An established pair, both ends of which have a sink from their first call on.
fn pair(ring: &Ring) -> Pair {
    let mut pair = Setup { tls: None, ..Setup::default() }.start();
    let sink = ring.sink(pair.client());
    pair.client().set_trace(Some(sink));
    pair.round();
    let sink = ring.sink(pair.server());
    pair.server().set_trace(Some(sink));
    pair.drive();
    pair
}

fn count(text: &str, what: &str) -> usize {
    text.matches(&format!("\"what\":\"{what}\"")).count()
}

#[test]
fn session_that_ends_as_it_should_writes_nothing_and_frees_its_memory() {
    let (ring, memory) = ring(|_| {});
    let mut pair = pair(&ring);
    pair.join();
    pair.transfer(Side::Client, &bytes(400_000));
    assert!(ring.memory() >= 2 * CHUNK);
    let now = pair.now;
    pair.client().retire_tcp(now, ConnectionId::FIRST).unwrap();
    pair.drive();
    pair.close(Side::Client, 0, b"");
    pair.drive();
    drop(pair);
    assert!(ring.flush(PATIENCE));
    let written = [memory.of("client"), memory.of("server")].concat();
    assert!(written.is_empty(), "{written:#?}");
    assert_eq!((ring.memory(), ring.files()), (0, 0));
}

#[test]
fn lost_tcp_connection_writes_what_was_before_and_what_follows_until_the_end() {
    let (ring, memory) = ring(|_| {});
    let mut pair = pair(&ring);
    pair.join();
    pair.transfer(Side::Client, &bytes(100_000));
    pair.cut(ConnectionId::FIRST);
    pair.drive();
    assert!(ring.flush(PATIENCE));
    let so_far = memory.of("client").pop().unwrap();
    assert!(so_far.ends_with("\n") && count(&so_far, "lost") == 1 && count(&so_far, "closed") == 0);
    assert_eq!(memory.open(), 2);
    pair.transfer(Side::Client, &bytes(50_000));
    pair.close(Side::Client, 0, b"");
    pair.drive();
    drop(pair);
    assert!(ring.flush(PATIENCE));
    for side in ["client", "server"] {
        let texts = memory.of(side);
        let [text] = &texts[..] else { panic!("{texts:?}") };
        let counts = ["joined", "lost", "closed", "note"].map(|what| count(text, what));
        assert_eq!(counts, [2, 1, 1, 0], "{side}: {text}");
        assert!(Page::of_trace(text.as_bytes()).unwrap().events() > 20, "a page can be made of it");
    }
    assert_eq!((ring.memory(), ring.files(), ring.dropped(), memory.open()), (0, 2, 0, 0));
}

#[test]
fn last_lines_are_kept_and_a_gap_between_two_anomalies_is_marked() {
    let (ring, memory) = ring(|options| options.session = 2 * CHUNK);
    let mut pair = pair(&ring);
    let second = pair.join();
    pair.join();
    for tcp in [ConnectionId::FIRST, second] {
        (0..8).for_each(|_| pair.transfer(Side::Client, &bytes(1_000_000)));
        assert!(pair.client().memory() > 2 * CHUNK, "the session's memory has it");
        assert!(ring.memory() <= 2 * 4 * CHUNK, "{} bytes", ring.memory());
        pair.cut(tcp);
        pair.drive();
        assert!(ring.flush(PATIENCE));
    }
    drop(pair);
    let text = memory.of("client").pop().unwrap();
    assert_eq!(["joined", "lost", "note"].map(|what| count(&text, what)), [0, 2, 1], "{text}");
    assert!(text.len() < 8 * CHUNK, "{} bytes", text.len());
    assert!(text.contains("events are missing here") && Page::of_trace(text.as_bytes()).is_ok());
}

#[test]
fn stream_that_the_end_of_the_session_truncates_is_an_anomaly_for_its_reader() {
    let (ring, memory) = ring(|_| {});
    let mut pair = pair(&ring);
    let id = pair.open_stream(Side::Server);
    pair.write(Side::Server, id, &bytes(1_000));
    pair.drive();
    pair.close(Side::Server, 0, b"");
    pair.drive();
    drop(pair);
    assert!(ring.flush(PATIENCE));
    assert!(memory.of("client")[0].contains("\"truncated\":true"));
    assert!(memory.of("server").is_empty());
}

#[test]
fn lines_that_wait_for_a_slow_disk_count_and_the_limit_of_all_files_holds() {
    let (go, wait) = channel();
    let memory = Memory::default();
    let options = RingOptions::new("").with(|options| options.max_bytes = 6_000);
    let ring = Ring::start(Slow(memory.clone(), wait), &options).unwrap();
    let mut pair = pair(&ring);
    pair.join();
    pair.cut(ConnectionId::FIRST);
    pair.drive();
    drop(pair);
    assert!(ring.memory() >= 2 * CHUNK, "{}", ring.memory());
    assert!(!ring.flush(Duration::ZERO));
    // The second file does not fit.
    go.send(()).unwrap();
    (0..8).for_each(|_| _ = go.send(()));
    assert!(ring.flush(PATIENCE));
    assert_eq!((ring.memory(), ring.files()), (0, 1));
    assert!(ring.dropped() > 0 && ring.failure().is_none());
}

#[cfg(unix)]
#[test]
fn files_are_for_their_owner_alone_and_never_replace_others() {
    use std::os::unix::fs::PermissionsExt;
    let directory = std::env::temp_dir().join(format!("tcpls-ring-{}", process::id()));
    let ring = Ring::new(&RingOptions::new(&directory)).unwrap();
    let mut pair = pair(&ring);
    pair.join();
    pair.cut(ConnectionId::FIRST);
    pair.drive();
    assert!(ring.flush(PATIENCE));
    let mode = |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&directory), 0o700);
    let files: Vec<_> = std::fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(files.len() == 2 && files.iter().all(|file| mode(file) == 0o600), "{files:?}");
    // Another user of the directory puts links in their places.
    let victim = directory.join("victim");
    std::fs::write(&victim, "mine").unwrap();
    for file in &files {
        std::fs::remove_file(file).unwrap();
        std::os::unix::fs::symlink(&victim, file).unwrap();
    }
    drop(pair);
    assert!(ring.flush(PATIENCE));
    assert_eq!(std::fs::read_to_string(&victim).unwrap(), "mine");
    assert!(ring.failure().unwrap().contains("in its place") && ring.dropped() > 0);
    std::fs::remove_dir_all(&directory).unwrap();
}
