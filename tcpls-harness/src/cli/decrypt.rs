//! `tcpls decrypt`: the records of sessions in a capture.

use std::fs::File;
use std::io::BufWriter;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::files::{check_output, unreadable, unwritable};
use super::part::Part;
use super::signals::Signals;
use super::{Outcome, output, report};
use crate::capture::{KeyLog, PduWriter, Record, Skipped, Summary, decrypt};

/// Decrypt the sessions in a capture of packets
///
/// The capture is a file of tcpdump or Wireshark, and the key log is what one of the endpoints wrote to the file that
/// SSLKEYLOGFILE names. TCP connections that join a session are found by its tokens. Wireshark and tshark show the result
/// with docs/wireshark/tcpls.lua. It contains what the applications sent.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// File in the format pcap or pcapng
    #[arg(value_name = "CAPTURE")]
    capture: PathBuf,
    /// File with TLS secrets in the format of SSLKEYLOGFILE
    #[arg(long, value_name = "FILE")]
    keylog: PathBuf,
    /// Write the decrypted records to this file (pcapng), which only you can read; a file of this name is replaced once all
    /// of them are written
    #[arg(short, long, value_name = "OUT", required_unless_present_any = ["print", "json"])]
    output: Option<PathBuf>,
    /// Print a line for each record: its frames, without stream data
    #[arg(long)]
    print: bool,
    /// Print what was found as JSON
    #[arg(long, conflicts_with = "print")]
    json: bool,
}

/// What `--json` prints.
#[derive(Serialize)]
struct Found {
    packets: u64,
    tcp_connections: u64,
    sessions: u32,
    records: u64,
    skipped: Vec<Skip>,
    is_cut: bool,
}

#[derive(Serialize)]
struct Skip {
    reason: String,
    tcp_connections: u64,
}

impl From<(Skipped, u64)> for Skip {
    fn from((reason, tcp_connections): (Skipped, u64)) -> Self {
        Self { reason: reason.to_string(), tcp_connections }
    }
}

impl From<Summary> for Found {
    fn from(summary: Summary) -> Self {
        Self {
            packets: summary.packets,
            tcp_connections: summary.tcp_connections,
            sessions: summary.sessions,
            records: summary.records,
            skipped: summary.skipped.into_iter().map(Skip::from).collect(),
            is_cut: summary.is_cut,
        }
    }
}

pub(crate) async fn run(args: Args) -> Outcome {
    let (json, stop) = (args.json, Signals::listen()?.stop());
    // A signal ends the command in the middle of a file, and leaves no incomplete output.
    let found = tokio::select! {
        found = tokio::task::spawn_blocking(move || find(&args)) => found?,
        stopped = stop => return Err(stopped.into()),
    };
    let found = Found::from(report::or_error(found, json)?);
    if json {
        return Ok(output::result_json(&found)?);
    }
    let Found { packets, tcp_connections, sessions, records, .. } = found;
    output::tell(format_args!(
        "{records} records of {sessions} sessions decrypted ({packets} packets, {tcp_connections} TCP connections)"
    ));
    for Skip { reason, tcp_connections } in found.skipped {
        output::tell(format_args!("not, or not completely: {tcp_connections} TCP connections: {reason}"));
    }
    if found.is_cut {
        output::tell("the capture is cut short or damaged: what follows was not read");
    }
    Ok(())
}

fn find(args: &Args) -> Outcome<Summary> {
    let key_log = std::fs::read(&args.keylog).map_err(|error| unreadable(&args.keylog, error))?;
    let key_log = KeyLog::parse(&key_log).map_err(|error| unreadable(&args.keylog, error))?;
    let capture = File::open(&args.capture).map_err(|error| unreadable(&args.capture, error))?;
    let mut out = args.output.as_deref().map(|path| create(path, args)).transpose()?;
    let mut failure = None;
    let mut show = |record: &Record<'_>| -> Outcome {
        if let (Some((out, _)), Some(path)) = (&mut out, &args.output) {
            out.write(record).map_err(|error| unwritable(path, error))?;
        }
        if args.print {
            output::result(record)?;
        }
        Ok(())
    };
    let summary = decrypt(capture, &key_log, |record| match show(record) {
        Ok(()) => ControlFlow::Continue(()),
        Err(error) => {
            failure = Some(error);
            ControlFlow::Break(())
        }
    });
    if let Some(error) = failure {
        return Err(error);
    }
    let summary = summary.map_err(|error| unreadable(&args.capture, error))?;
    if let (Some((out, part)), Some(path)) = (out, &args.output) {
        out.finish().and_then(|_| part.complete()).map_err(|error| unwritable(path, error))?;
    }
    Ok(summary)
}

/// Creates the file for its user alone, because it has what was encrypted. It gets its name when it is complete, so that
/// neither the mode nor the contents of an earlier file show what is decrypted now.
fn create(path: &Path, args: &Args) -> Outcome<(PduWriter<BufWriter<File>>, Part)> {
    for input in [&args.capture, &args.keylog] {
        check_output(path, input, "-o")?;
    }
    let part = Part::create_private(path).map_err(|error| unwritable(path, error))?;
    let file = part.file.try_clone().map_err(|error| unwritable(path, error))?;
    Ok((PduWriter::new(BufWriter::new(file)).map_err(|error| unwritable(path, error))?, part))
}
