//! `tcpls view`: a page that shows sessions.

use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};

use super::files::{OutFile, Written, check_output, unreadable};
use super::text::visible_lines;
use super::{Outcome, output};
use crate::view::Page;

/// Show sessions in a browser: what each TCP connection carried, and what happened
///
/// The page is one file that needs no network. It shows the TCP connections of a session, its streams and goodput on a
/// common time axis, tells what happened in sentences, and steps through the events.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// File to show: a trace, as `tcpls sim run --trace` writes it; a recording, from --record; or a qlog file, from --qlog.
    /// The content decides which of them it is
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Page to write
    #[arg(short, long, value_name = "PAGE.html")]
    out: PathBuf,
    /// Show this session of a recording alone; they are numbered from 0
    #[arg(long, value_name = "NUMBER")]
    session: Option<u32>,
}

pub(crate) fn run(args: &Args) -> Outcome {
    let shown = &args.file;
    check_output(&args.out, shown, "-o")?;
    let file = File::open(shown).map_err(|error| unreadable(shown, error))?;
    let page = Page::of_input(BufReader::new(file), args.session);
    let page = page.map_err(|error| format!("{}: {error}", shown.display()))?;
    let name = shown.file_name().unwrap_or(shown.as_os_str());
    write(&args.out, page.title(name.to_string_lossy()), OutFile::create(&args.out)?)
}

/// Writes the page to a file that is open, and says so.
pub(crate) fn write(path: &Path, page: Page, (mut file, written): (OutFile, Written)) -> Outcome {
    // `written` has the error of a write.
    _ = page.write(&mut file);
    written.check()?;
    output::tell(format_args!("page with {} events in {}", page.events(), path.display()));
    for note in page.notes() {
        output::tell(visible_lines(note));
    }
    Ok(())
}
