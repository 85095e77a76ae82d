//! A file, pipe or terminal, and the thread that writes to it.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::{Arc, PoisonError};

use super::Unwritten;
use super::screen::Screen;
use crate::sync::{Condvar, Mutex, MutexGuard, Notify, thread};

/// Bytes that wait to be written; messages that would make them more are dropped.
const LIMIT: usize = 256 * 1024;
/// Bytes that are written at once, unless a single message is longer.
const BATCH: usize = 16 * 1024;

/// Takes lines, without blocking the caller, and writes them in order.
pub(crate) struct Sink {
    state: Mutex<State>,
    /// Something is to be written, or there is room.
    changed: Condvar,
    drained: Notify,
    /// The message about messages that were lost.
    notice: fn(u64) -> String,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<String>,
    /// Those of the waiting lines, and of those that are being written.
    bytes: usize,
    /// Messages that were dropped, and that no notice has reported.
    lost: u64,
    /// Writing failed, so that a notice would fail, too; until the next message.
    stuck: bool,
    /// The reader left: nothing will be written any more.
    gone: bool,
    /// Among what arrived were results.
    has_results: bool,
    /// Lines to show from now on.
    lines: Option<Vec<String>>,
    failure: Option<Unwritten>,
}

impl State {
    fn is_idle(&self) -> bool {
        self.waiting.is_empty() && (self.lost == 0 || self.stuck) && self.lines.is_none()
    }

    fn push(&mut self, line: String) {
        self.stuck = false;
        self.bytes += line.len();
        self.waiting.push_back(line);
    }

    /// Whether `line` was taken.
    fn try_push(&mut self, mut line: String, notice: fn(u64) -> String) -> bool {
        line.push('\n');
        if self.bytes + line.len() > LIMIT {
            return false;
        }
        if self.lost > 0 {
            let notice = notice(std::mem::take(&mut self.lost));
            self.push(notice + "\n");
        }
        self.push(line);
        true
    }
}

impl Sink {
    /// Starts a thread that writes to `out`, and that ends with the process.
    pub(super) fn start(out: impl Write + Send + 'static, screen: Screen, notice: fn(u64) -> String) -> Arc<Self> {
        let (state, changed, drained) = (Mutex::default(), Condvar::new(), Notify::new());
        let sink = Arc::new(Self { state, changed, drained, notice });
        let writer = sink.clone();
        let started = thread::Builder::new().name("output".to_owned()).spawn(move || writer.write(out, screen));
        if let Err(error) = started {
            let mut state = sink.state();
            (state.gone, state.failure) = (true, Some(Unwritten::new(&error)));
        }
        sink
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a line if there is room. Never blocks.
    pub(crate) fn push(&self, line: String) {
        let mut state = self.state();
        if state.gone {
            return;
        }
        if !state.try_push(line, self.notice) {
            state.lost += 1;
        }
        self.changed.notify_all();
    }

    /// Takes a line once there is room.
    pub(super) fn push_result(&self, line: String) -> Result<(), Unwritten> {
        let mut state = self.state();
        state.has_results = true;
        // Without anything before it, a line of any length is taken.
        while state.bytes > 0 && state.bytes + line.len() >= LIMIT && !state.gone {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        if let (true, Some(failure)) = (state.gone, &state.failure) {
            return Err(failure.clone());
        }
        state.push(line + "\n");
        self.changed.notify_all();
        Ok(())
    }

    /// Replaces the lines that are shown.
    pub(super) fn show(&self, lines: Vec<String>) {
        let mut state = self.state();
        if !state.gone {
            state.lines = Some(lines);
            self.changed.notify_all();
        }
    }

    /// Waits until everything is written, or can't be.
    pub(crate) async fn drained(&self) {
        loop {
            let drained = self.drained.notified();
            tokio::pin!(drained);
            drained.as_mut().enable();
            {
                let state = self.state();
                if state.gone || (state.is_idle() && state.bytes == 0) {
                    return;
                }
            }
            drained.await;
        }
    }

    /// What went wrong. That a reader left matters only if there were results for it.
    pub(crate) fn failure(&self) -> Option<Unwritten> {
        let state = self.state();
        state.failure.clone().filter(|failure| !failure.is_quiet() || state.has_results)
    }

    /// The thread.
    fn write(&self, mut out: impl Write, mut screen: Screen) {
        loop {
            let batch = self.next_batch();
            let text = screen.compose(&batch.text, batch.lines);
            let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
            let mut state = self.state();
            state.bytes -= batch.bytes;
            if let Err(error) = written {
                state.fail(&error, batch.messages);
            }
            let gone = state.gone;
            self.changed.notify_all();
            if gone || (state.is_idle() && state.bytes == 0) {
                self.drained.notify_waiters();
            }
            if gone {
                return;
            }
        }
    }

    /// Waits until there is something to write.
    fn next_batch(&self) -> Batch {
        let mut state = self.state();
        while state.is_idle() {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        let mut batch = Batch { text: String::new(), bytes: 0, messages: 0, lines: state.lines.take() };
        while batch.text.len() < BATCH
            && let Some(line) = state.waiting.pop_front()
        {
            batch.text += &line;
            batch.messages += 1;
        }
        batch.bytes = batch.text.len();
        if state.waiting.is_empty() && state.lost > 0 && !state.stuck {
            batch.text += &(self.notice)(std::mem::take(&mut state.lost));
            batch.text.push('\n');
        }
        batch
    }
}

impl State {
    fn fail(&mut self, error: &io::Error, messages: u64) {
        self.failure.get_or_insert_with(|| Unwritten::new(error));
        self.lost += messages;
        self.stuck = true;
        if error.kind() == io::ErrorKind::BrokenPipe {
            self.gone = true;
            self.waiting.clear();
            self.bytes = 0;
        }
    }
}

/// What is written at once.
struct Batch {
    text: String,
    /// Those of `text` that [`State::bytes`] counts.
    bytes: usize,
    messages: u64,
    lines: Option<Vec<String>>,
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

    use super::*;

    /// A pipe: a write waits until the reader takes it, and fails as the reader wants.
    struct Pipe(SyncSender<String>);

    struct Reader(Receiver<String>);

    fn pipe() -> (Pipe, Reader) {
        let (sender, receiver) = sync_channel(0);
        (Pipe(sender), Reader(receiver))
    }

    impl Write for Pipe {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let text = String::from_utf8_lossy(bytes).into_owned();
            self.0.send(text).map(|()| bytes.len()).map_err(|_| io::ErrorKind::BrokenPipe.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn start(out: impl Write + Send + 'static) -> Arc<Sink> {
        Sink::start(out, Screen::none(), |lost| format!("{lost} lost"))
    }

    #[tokio::test]
    async fn messages_without_room_are_dropped_and_counted() {
        let (pipe, reader) = pipe();
        let sink = start(pipe);
        let line = "x".repeat(1023);
        (0..300).for_each(|_| sink.push(line.clone()));
        let mut text = String::new();
        while !text.ends_with("44 lost\n") {
            text += &reader.0.recv().unwrap();
        }
        assert_eq!(text.lines().filter(|line| line.len() == 1023).count(), 256);
        sink.push("after".to_owned());
        assert_eq!(reader.0.recv().unwrap(), "after\n");
        sink.drained().await;
    }

    #[tokio::test]
    async fn a_reader_that_left_matters_to_results_only() {
        let (pipe, reader) = pipe();
        drop(reader);
        let sink = start(pipe);
        sink.push("message".to_owned());
        sink.drained().await;
        assert_eq!(sink.failure(), None);
        assert!(sink.push_result("result".to_owned()).unwrap_err().is_quiet());
        assert!(sink.failure().unwrap().is_quiet());
    }

    /// A full disk.
    struct Full;

    impl Write for Full {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::StorageFull.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[tokio::test]
    async fn a_disk_that_is_full_is_a_failure() {
        let sink = start(Full);
        sink.push("message".to_owned());
        sink.drained().await;
        let failure = sink.failure().unwrap();
        assert!(!failure.is_quiet());
        assert_eq!(failure.exit_code(), 1);
        sink.push("another".to_owned());
        sink.drained().await;
    }
}
