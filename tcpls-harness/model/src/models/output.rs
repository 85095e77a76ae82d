//! The queue of the command's output, and the thread that writes it.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::screen::Screen;
use super::sink::Sink;
use crate::kit::{block_on, spawn};

/// Takes everything, until its reader leaves.
#[derive(Clone, Default)]
struct Pipe(Arc<AtomicBool>);

impl Pipe {
    fn leave(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl io::Write for Pipe {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let has_left = self.0.load(Ordering::Relaxed);
        if has_left { Err(io::ErrorKind::BrokenPipe.into()) } else { Ok(bytes.len()) }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn start(pipe: &Pipe) -> Arc<Sink> {
    Sink::start(pipe.clone(), Screen::none(), |_| String::new())
}

fn long() -> String {
    "x".repeat(200 << 10)
}

/// Results that do not fit wait for room; the command ends when all is written.
pub fn results_wait_for_room_and_the_command_for_all() {
    let pipe = Pipe::default();
    let sink = start(&pipe);
    sink.push_result(long()).unwrap();
    sink.push_result(long()).unwrap();
    block_on(sink.drained());
    // The thread ends when it finds the pipe closed.
    pipe.leave();
    sink.push("message".to_owned());
}

/// The reader leaves while a result waits for room, and while the command waits for its output.
pub fn reader_that_leaves_ends_all_waits() {
    let pipe = Pipe::default();
    let sink = start(&pipe);
    let other = sink.clone();
    let results = spawn(move || {
        _ = other.push_result(long());
        pipe.leave();
        _ = other.push_result(long());
    });
    sink.push("message".to_owned());
    block_on(sink.drained());
    results.join().unwrap();
    block_on(sink.drained());
    sink.push("message".to_owned());
}
