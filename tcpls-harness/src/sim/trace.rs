//! What happened in a run, line by line: JSON for people and programs, and one hash of it all, so that two runs can be
//! compared by eye. The same scenario, seed and code give the same hash on every machine.

use std::fmt;
use std::io::Write;

use ring::digest::{Context, SHA256};
use serde::Serialize;
use tcpls_core::{Side, Time};

/// One thing that happened. Times are in nanoseconds, lengths in bytes.
#[derive(Debug, Serialize)]
#[serde(tag = "what", rename_all = "kebab-case")]
pub(crate) enum Note {
    /// The client asks for a TCP connection; `socket` names it on both sides.
    Connect {
        socket: u64,
        path: usize,
    },
    /// Connection ID `tcp` travels on `socket` from now on.
    Carries {
        socket: u64,
        tcp: u32,
    },
    Accepted {
        socket: u64,
    },
    /// The session gave bytes to a socket; `sum` depends on each of them.
    Send {
        tcp: u32,
        len: usize,
        sum: String,
    },
    Receive {
        tcp: u32,
        len: usize,
    },
    End {
        tcp: u32,
        how: String,
    },
    Timeout {
        reason: String,
    },
    Event {
        event: String,
    },
    Open {
        transfer: usize,
        stream: u32,
    },
    Read {
        transfer: usize,
        len: usize,
    },
    StreamEnd {
        transfer: usize,
        how: String,
    },
    Fault {
        fault: String,
    },
    Action {
        action: String,
        outcome: String,
    },
    /// A holder in the server's account gave way.
    Evicted {
        resource: String,
    },
    /// A box on a path ended a TCP connection.
    Killed {
        why: String,
    },
}

/// The record of a run.
pub(crate) struct Trace {
    digest: Option<Context>,
    sink: Option<Box<dyn Write>>,
    line: Vec<u8>,
    lines: u64,
    /// The client whose session things are noted of.
    client: usize,
}

impl fmt::Debug for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Trace").field("lines", &self.lines).finish_non_exhaustive()
    }
}

impl Trace {
    /// Hashes each line, and writes it to `sink` if there is one.
    pub(crate) fn new(sink: Option<Box<dyn Write>>) -> Self {
        Self { digest: Some(Context::new(&SHA256)), sink, line: Vec::new(), lines: 0, client: 0 }
    }

    /// Notes nothing: for runs by the million.
    pub(crate) fn off() -> Self {
        Self { digest: None, sink: None, line: Vec::new(), lines: 0, client: 0 }
    }

    pub(crate) fn is_on(&self) -> bool {
        self.digest.is_some()
    }

    /// What is noted from now on is of this client's session, counted from 0.
    pub(crate) fn set_client(&mut self, client: usize) {
        self.client = client;
    }

    /// Notes what happened at `now`, at one end or (`None`) in the network.
    pub(crate) fn note(&mut self, now: Time, side: Option<Side>, note: &Note) {
        let Some(digest) = &mut self.digest else { return };
        let place = match side {
            Some(Side::Client) => "client",
            Some(Side::Server) => "server",
            None => "network",
        };
        // The first one's name is that of the only one.
        let number = Some(self.client).filter(|number| *number > 0 && side.is_some());
        let number = number.map_or(String::new(), |number| format!(" {}", number + 1));
        self.line.clear();
        _ = write!(self.line, "{{\"t\":{},\"at\":\"{place}{number}\",", now.as_nanos());
        let open = self.line.len();
        // Structs of numbers and strings always serialise.
        _ = serde_json::to_writer(&mut self.line, note);
        self.line.remove(open); // the note's own brace
        self.line.push(b'\n');
        self.lines += 1;
        digest.update(&self.line);
        if let Some(sink) = &mut self.sink {
            _ = sink.write_all(&self.line);
        }
    }

    /// The hash of all lines in hexadecimal, shortened to 16 digits; empty if nothing was noted.
    pub(crate) fn finish(self) -> String {
        if let Some(mut sink) = self.sink {
            _ = sink.flush();
        }
        let digest = self.digest.map(Context::finish);
        digest.iter().flat_map(|digest| &digest.as_ref()[..8]).map(|byte| format!("{byte:02x}")).collect()
    }
}

/// FNV-1a: cheap, and different for each byte that differs.
pub(crate) fn checksum(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}
