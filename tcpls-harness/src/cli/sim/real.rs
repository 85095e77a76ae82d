//! `tcpls sim run --real`: the scenario over real sockets, and what that run writes, beside the files of the simulated one.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::super::files::{OutFile, Written};
use super::super::units::size;
use super::super::{Outcome, output, qlog, record, trace_ring, view};
use super::run::{Args, both_of};
use crate::net::RecordOptions;
use crate::sim::report::both;
use crate::sim::{RealOptions, Report, Scenario, check_real, run_real};
use crate::view::Collector;

/// The second run, with its files open.
pub(super) struct RealRun {
    options: RealOptions,
    traced: Option<Written>,
    page: Option<(PathBuf, (OutFile, Written), Collector)>,
}

impl RealRun {
    /// # Errors
    /// The scenario is for simulations only, an option too, or a file can't be created.
    pub(super) fn prepare(args: &Args, scenario: &Scenario) -> Outcome<Self> {
        if let Some(option) = args.without_sockets() {
            return Err(format!(
                "{option} shows the simulated run alone; leave out --real, or pass --view, which makes a page of both"
            )
            .into());
        }
        check_real(scenario)?;
        let trace = args.trace.as_deref().map(beside).map(|path| OutFile::create(&path)).transpose()?;
        let (trace, traced) = trace.unzip();
        let record = args.record.as_deref().map(beside);
        let record = record.map(|path| record::create(&path, RecordOptions::default())).transpose()?;
        let page = args.view.as_deref().map(beside).map(|path| OutFile::create(&path).map(|file| (path, file)));
        let page = page.transpose()?.map(|(path, file)| (path, file, Collector::default()));
        let trace = both_of(trace, page.as_ref().map(|(.., events)| events.clone()));
        let options = RealOptions { trace, record, qlog: qlog::of_real_run(), trace_ring: trace_ring::current() };
        Ok(Self { options, traced, page })
    }

    /// What was delivered must be the same; times are for people to compare.
    pub(super) async fn compare(self, scenario: &Scenario, report: &Report) -> Outcome {
        let real = run_real(scenario, self.options).await?;
        self.traced.map_or(Ok(()), Written::check)?;
        if let Some((path, file, events)) = self.page {
            view::write(&path, events.page()?, file)?;
        }
        for (number, (real, simulated)) in real.iter().zip(&report.sessions[0].transfers).enumerate() {
            let bytes = size(real.read.iter().sum());
            output::tell(format_args!(
                "  transfer {number} over real sockets: {bytes} by {:.3} s, simulated by {:.3} s",
                real.ended,
                simulated.ended.unwrap_or_default()
            ));
            if (&real.read, &real.ends) != (&simulated.read, &simulated.ends) {
                let what = |read: &[u64; 2], ends| format!("{} B and {} B ({})", read[0], read[1], both(ends));
                let (real, simulated) = (what(&real.read, &real.ends), what(&simulated.read, &simulated.ends));
                return Err(format!("transfer {number}: {real} over real sockets, {simulated} simulated").into());
            }
        }
        Ok(())
    }
}

/// The file of the run over real sockets: `page-real.html` beside `page.html`.
fn beside(path: &Path) -> PathBuf {
    let mut name = path.file_stem().map_or_else(OsString::new, ToOwned::to_owned);
    name.push("-real");
    if let Some(extension) = path.extension() {
        name.push(".");
        name.push(extension);
    }
    path.with_file_name(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_of_the_real_run_keeps_directory_and_extension() {
        for (path, expected) in
            [("page.html", "page-real.html"), ("a.b/trace", "a.b/trace-real"), ("x.y.z", "x.y-real.z")]
        {
            assert_eq!(beside(Path::new(path)), Path::new(expected));
        }
    }
}
