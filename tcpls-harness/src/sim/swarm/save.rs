//! What is kept of a failure: the scenario, reduced, and what its sessions recorded.

use std::io;
use std::path::{Path, PathBuf};

use super::{Failure, generate, minimise, record};
use crate::sim::scenario::Scenario;

/// The files of a failure.
#[derive(Clone, Debug)]
pub struct Saved {
    /// The scenario, for `tcpls sim run`.
    pub scenario: PathBuf,
    /// What its sessions recorded, for `tcpls replay`.
    pub recording: PathBuf,
    /// The text of the scenario.
    pub text: String,
}

/// Reduces the scenario of a failure, and writes it to `directory` as `seed-N-MODE.toml`, and beside it the recording of
/// its sessions. Replaces what is there. Runs the scenario up to 2,000 times.
///
/// # Errors
/// A file cannot be written; the text has its name.
pub fn save(failure: &Failure, directory: &Path) -> io::Result<Saved> {
    save_scenario(failure, &minimise(&generate(failure.seed, failure.mode), failure.seed), directory)
}

fn save_scenario(failure: &Failure, scenario: &Scenario, directory: &Path) -> io::Result<Saved> {
    let seed = failure.seed;
    let file = directory.join(format!("seed-{seed}-{}.toml", failure.mode));
    let recording = file.with_extension("tcplsrec");
    let text = format!(
        "# {}\n# tcpls sim run --seed {seed} {}\n# tcpls replay {}\n{}",
        failure.what.join("; ").replace(['\n', '\r'], " "),
        file.display(),
        recording.display(),
        scenario.print()
    );
    let named = |path: &Path, error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
    std::fs::write(&file, &text).map_err(|error| named(&file, error))?;
    std::fs::write(&recording, record(scenario, seed)).map_err(|error| named(&recording, error))?;
    Ok(Saved { scenario: file, recording, text })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tcpls_core::record::replay::{Recording, Replay};

    use super::*;
    use crate::sim::scenario::Span;
    use crate::sim::swarm::{Mode, faults_of};

    #[test]
    fn saved_scenario_fails_again_and_its_recording_shows_the_end_of_the_sessions() {
        let directory = std::env::temp_dir().join(format!("tcpls-swarm-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        // No session survives a session timeout of 0.
        let impatient = (0..).map(|seed| {
            let mut scenario = generate(seed, Mode::Liveness);
            scenario.client.session_timeout = Some(Span(Duration::ZERO));
            (seed, scenario)
        });
        let fails = |(seed, scenario): &(u64, Scenario)| !faults_of(scenario, *seed).is_empty();
        let (seed, scenario) = { impatient }.find(fails).unwrap();
        let what = faults_of(&scenario, seed);
        let failure = Failure { seed, mode: Mode::Liveness, what: what.clone() };
        let saved = save_scenario(&failure, &scenario, &directory).unwrap();
        let text = std::fs::read_to_string(&saved.scenario).unwrap();
        let command = format!("# tcpls replay {}\n", saved.recording.display());
        assert!(text == saved.text && text.contains(&command), "{text}");
        assert_eq!(faults_of(&Scenario::parse(&text).unwrap(), seed), what);
        let file = std::fs::read(&saved.recording).unwrap();
        assert!(file == record(&scenario, seed), "it is that of the scenario beside it");
        let recording = Recording::read(&file).unwrap();
        let mut events = Vec::new();
        for session in recording.sessions() {
            let mut replay = Replay::new(session);
            while let Some(step) = replay.step().unwrap_or_else(|error| panic!("{error}")) {
                events.extend(step.events());
            }
        }
        assert!(events.contains(&"closed"), "{events:?}");
        std::fs::remove_dir_all(&directory).unwrap();
    }
}
