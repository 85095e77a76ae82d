use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};

use serde_json::Value;
use tcpls_core::ConnectionId;

use super::*;

/// Long enough for everything but a deadlock.
const LONG: Duration = Duration::from_secs(60);

/// A disk that writes when the test lets it.
struct Disk {
    /// One message for each write that begins.
    begun: Sender<()>,
    permits: Receiver<io::Result<()>>,
    written: Sender<(FileNumber, Vec<u8>)>,
}

impl Store for Disk {
    fn append(&mut self, file: FileNumber, _name: Option<&str>, parts: &[&[u8]]) -> io::Result<()> {
        _ = self.begun.send(());
        self.permits.recv().unwrap_or(Ok(()))?;
        _ = self.written.send((file, parts.concat()));
        Ok(())
    }

    fn close(&mut self, _file: FileNumber) {}
}

struct Bench {
    qlog: Qlog,
    begun: Receiver<()>,
    permits: Sender<io::Result<()>>,
    written: Receiver<(FileNumber, Vec<u8>)>,
}

fn bench(max_waiting: usize, max_bytes: u64) -> Bench {
    bench_of(Limits { max_waiting, max_bytes, lossless: false })
}

fn bench_of(limits: Limits) -> Bench {
    let ((disk_begun, begun), (permits, disk_permits), (disk_written, written)) = (channel(), channel(), channel());
    let disk = Disk { begun: disk_begun, permits: disk_permits, written: disk_written };
    Bench { qlog: Qlog::start(disk, limits).unwrap(), begun, permits, written }
}

impl Bench {
    fn sink(&self) -> Box<dyn Sink> {
        self.qlog.sink(&Header::new(Side::Client, Time::ZERO))
    }

    /// Lets the disk write everything from now on, and returns the records.
    fn finish(self) -> Vec<Value> {
        let Self { qlog, permits, written, .. } = self;
        drop(permits);
        assert!(qlog.flush(LONG));
        drop(qlog);
        let mut bytes = Vec::new();
        loop {
            match written.recv_timeout(LONG) {
                Ok((_, more)) => bytes.extend(more),
                Err(RecvTimeoutError::Disconnected) => return records(&bytes),
                Err(RecvTimeoutError::Timeout) => panic!("the thread does not end"),
            }
        }
    }
}

fn records(bytes: &[u8]) -> Vec<Value> {
    let text = std::str::from_utf8(bytes).unwrap();
    text.split('\x1e').skip(1).map(|record| serde_json::from_str(record).unwrap()).collect()
}

fn probed(sink: &mut dyn Sink, count: usize) {
    for _ in 0..count {
        sink.event(Time::from_millis(5), &Event::Probed { tcp: ConnectionId(3) });
    }
}

fn count(records: &[Value], name: &str) -> usize {
    records.iter().filter(|record| record["name"] == name).count()
}

#[test]
fn disk_that_writes_nothing_blocks_no_session_and_drops_are_counted_in_the_file() {
    let bench = bench(10_000, u64::MAX);
    let mut sink = bench.sink();
    probed(&mut *sink, 1000);
    let dropped = bench.qlog.dropped();
    assert!((1..1000).contains(&dropped), "{dropped}");
    // Once there is room, the gap is reported in front of the next event.
    bench.permits.send(Ok(())).unwrap();
    bench.permits.send(Ok(())).unwrap();
    assert!(bench.qlog.flush(LONG));
    probed(&mut *sink, 1);
    assert_eq!(bench.qlog.dropped(), dropped);
    drop(sink);
    let records = bench.finish();
    assert_eq!(count(&records, "tcpls:probed") as u64, 1001 - dropped);
    let lost = records.iter().position(|record| record["name"] == "tcpls:events_lost").unwrap();
    assert_eq!(lost, records.len() - 2);
    assert_eq!(records[lost]["data"]["count"], dropped);
}

#[test]
fn session_that_ends_in_a_gap_reports_it_last() {
    let bench = bench(2_000, u64::MAX);
    let mut sink = bench.sink();
    probed(&mut *sink, 100);
    let dropped = bench.qlog.dropped();
    drop(sink);
    let records = bench.finish();
    let last = records.last().unwrap();
    assert_eq!((&last["name"], &last["data"]["count"]), (&"tcpls:events_lost".into(), &dropped.into()));
    assert_eq!(last["time"], 5.0);
}

#[test]
fn nothing_is_lost_while_there_is_room() {
    let bench = bench(16 << 20, u64::MAX);
    let mut sinks: Vec<_> = (0..10).map(|_| bench.sink()).collect();
    for _ in 0..1000 {
        sinks.iter_mut().for_each(|sink| probed(&mut **sink, 1));
    }
    drop(sinks);
    assert_eq!(bench.qlog.dropped(), 0);
    let records = bench.finish();
    assert_eq!(count(&records, "tcpls:probed"), 10_000);
    assert_eq!(records.len(), 10_010);
}

#[test]
fn bytes_of_all_files_are_bounded() {
    let bench = bench(16 << 20, 10_000);
    let (mut first, mut second) = (bench.sink(), bench.sink());
    let third = bench.sink(); // there is no room for its first record, so there is no file
    probed(&mut *first, 1000);
    probed(&mut *second, 1);
    drop((first, second, third));
    let dropped = bench.qlog.dropped();
    let records = bench.finish();
    assert_eq!(count(&records, "tcpls:probed") as u64, 1001 - dropped);
    let headers = records.iter().filter(|record| record["file_schema"].is_string()).count();
    assert_eq!(headers, 2);
    let size: usize = records.iter().map(|record| record.to_string().len()).sum();
    assert!(size < 10_000, "{size}");
}

#[test]
fn file_that_cannot_be_written_is_given_up_and_others_are_not() {
    let bench = bench(16 << 20, u64::MAX);
    let mut first = bench.sink();
    probed(&mut *first, 3);
    bench.permits.send(Err(io::ErrorKind::StorageFull.into())).unwrap();
    assert!(bench.qlog.flush(LONG));
    assert!(bench.qlog.failure().is_some());
    assert_eq!(bench.qlog.dropped(), 4, "three events and the header");
    probed(&mut *first, 1);
    drop(first);
    let mut second = bench.sink();
    probed(&mut *second, 2);
    drop(second);
    bench.permits.send(Ok(())).unwrap();
    assert!(bench.qlog.flush(LONG));
    assert_eq!(bench.qlog.dropped(), 5);
    assert_eq!(count(&bench.finish(), "tcpls:probed"), 2);
}

#[test]
fn flush_does_not_wait_for_records_that_follow_it() {
    let bench = bench(16 << 20, u64::MAX);
    let mut sink = bench.sink();
    bench.begun.recv_timeout(LONG).expect("the first batch is taken");
    let queue = &bench.qlog.0.queue;
    let first = queue.last_batch();
    probed(&mut *sink, 1);
    let second = queue.last_batch();
    assert!(first < second && second == queue.last_batch(), "{first:?} {second:?}");
    bench.permits.send(Ok(())).unwrap();
    assert!(queue.wait_for(first, LONG), "it waits for a record that came later");
    assert!(!queue.wait_for(second, Duration::ZERO), "the disk has not written it");
    bench.permits.send(Ok(())).unwrap();
    assert!(queue.wait_for(second, LONG));
    drop(sink);
    assert_eq!(count(&bench.finish(), "tcpls:probed"), 1);
}

#[test]
fn lossless_sinks_wait_for_the_disk_and_lose_nothing() {
    let mut bench = bench_of(Limits { max_waiting: 1000, max_bytes: u64::MAX, lossless: true });
    let mut sink = bench.sink();
    let (done, is_done) = channel();
    std::thread::spawn(move || {
        probed(&mut *sink, 1000);
        drop(sink);
        done.send(())
    });
    bench.begun.recv_timeout(LONG).unwrap();
    assert!(is_done.try_recv().is_err(), "far more than may wait was taken while the disk wrote nothing");
    drop(std::mem::replace(&mut bench.permits, channel().0));
    is_done.recv_timeout(LONG).expect("the disk writes, but the sink waits");
    assert_eq!(bench.qlog.dropped(), 0);
    assert_eq!(count(&bench.finish(), "tcpls:probed"), 1000);
}

#[test]
fn lossless_sinks_drop_what_exceeds_the_limit_of_all_files() {
    let bench = bench_of(Limits { max_waiting: 16 << 20, max_bytes: 10_000, lossless: true });
    let mut sink = bench.sink();
    probed(&mut *sink, 1000);
    assert!(bench.qlog.dropped() > 0);
    drop(sink);
    bench.finish();
}

#[test]
fn flush_of_a_stuck_disk_gives_up() {
    let bench = bench(16 << 20, u64::MAX);
    let sink = bench.sink();
    assert!(!bench.qlog.flush(Duration::from_millis(1)));
    drop(sink);
    bench.finish();
}

#[test]
fn each_session_has_a_file_for_its_user_alone() {
    let directory = std::env::temp_dir().join(format!("tcpls-qlog-{}", process::id()));
    let qlog = Qlog::new(QlogOptions::new(directory.join("new"))).unwrap();
    let mut sinks: Vec<_> = (0..100).map(|_| qlog.sink(&Header::new(Side::Server, Time::ZERO))).collect();
    for _ in 0..3 {
        sinks.iter_mut().for_each(|sink| probed(&mut **sink, 1));
        assert!(qlog.flush(LONG));
        #[cfg(target_os = "linux")]
        assert!(open_in(&directory) <= 1, "descriptors of clients are used for files");
    }
    drop(sinks);
    assert!(qlog.flush(LONG));
    assert_eq!((qlog.dropped(), qlog.failure()), (0, None));
    let mut files = 0;
    for entry in std::fs::read_dir(directory.join("new")).unwrap() {
        let path = entry.unwrap().path();
        assert!(path.to_str().unwrap().ends_with("-server.sqlog"), "{path:?}");
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        }
        assert_eq!(count(&records(&std::fs::read(&path).unwrap()), "tcpls:probed"), 3);
        files += 1;
    }
    std::fs::remove_dir_all(&directory).unwrap();
    assert_eq!(files, 100);
}

/// How many files in a directory this process has open.
#[cfg(target_os = "linux")]
fn open_in(directory: &std::path::Path) -> usize {
    let open = std::fs::read_dir("/proc/self/fd").unwrap().flatten();
    open.filter(|entry| std::fs::read_link(entry.path()).is_ok_and(|path| path.starts_with(directory))).count()
}

#[cfg(unix)]
#[test]
fn link_in_place_of_a_file_is_not_followed() {
    use std::os::unix::fs::{PermissionsExt, symlink};

    let directory = std::env::temp_dir().join(format!("tcpls-qlog-link-{}", process::id()));
    let traces = directory.join("traces");
    let qlog = Qlog::new(QlogOptions::new(&traces)).unwrap();
    assert_eq!(std::fs::metadata(&traces).unwrap().permissions().mode() & 0o777, 0o700);
    let mut first = qlog.sink(&Header::new(Side::Client, Time::ZERO));
    assert!(qlog.flush(LONG));
    let file = std::fs::read_dir(&traces).unwrap().next().unwrap().unwrap().path();
    // The first file is closed for the second one.
    let second = qlog.sink(&Header::new(Side::Server, Time::ZERO));
    assert!(qlog.flush(LONG));
    let victim = directory.join("victim");
    std::fs::write(&victim, "mine").unwrap();
    std::fs::remove_file(&file).unwrap();
    symlink(&victim, &file).unwrap();
    probed(&mut *first, 1);
    drop((first, second));
    assert!(qlog.flush(LONG));
    assert_eq!((std::fs::read_to_string(&victim).unwrap().as_str(), qlog.dropped()), ("mine", 1));
    let failure = qlog.failure().unwrap();
    assert!(failure.contains(file.to_str().unwrap()) && failure.contains("in its place"), "{failure}");
    std::fs::remove_dir_all(&directory).unwrap();
}
