//! `tcpls view`: a page that shows a trace.

use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};

use super::files::{OutFile, Written, unreadable};
use super::{Outcome, output};
use crate::view::Page;

/// Show a trace in a browser: what each TCP connection carried, and what happened
///
/// The page is one file that needs no network. It shows the TCP connections of a session, its streams and goodput on a
/// common time axis, tells what happened in sentences, and steps through the events.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Trace to show: JSON lines, as `tcpls sim run --trace` writes them; docs/trace.md describes them
    #[arg(value_name = "FILE")]
    trace: PathBuf,
    /// Page to write
    #[arg(short, long, value_name = "PAGE.html")]
    out: PathBuf,
}

pub(crate) fn run(args: &Args) -> Outcome {
    let trace = &args.trace;
    let file = File::open(trace).map_err(|error| unreadable(trace, error))?;
    let page = Page::of_trace(BufReader::new(file)).map_err(|error| format!("{}: {error}", trace.display()))?;
    let name = trace.file_name().unwrap_or(trace.as_os_str());
    write(&args.out, page.title(name.to_string_lossy()), OutFile::create(&args.out)?)
}

/// Writes the page to a file that is open, and says so.
pub(crate) fn write(path: &Path, page: Page, (mut file, written): (OutFile, Written)) -> Outcome {
    // `written` has the error of a write.
    _ = page.write(&mut file);
    written.check()?;
    output::tell(format_args!("page with {} events in {}", page.events(), path.display()));
    Ok(())
}
