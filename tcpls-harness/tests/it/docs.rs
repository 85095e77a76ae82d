//! What the pages show of the command, held against what it prints and draws. With `UPDATE_DOCS=1` in the environment the
//! pages are brought up to date instead.

use std::path::{Path, PathBuf};

use tokio::process::Command;

/// The block begins with this line; what the command prints follows, up to a line with an ellipsis.
const BEGIN: &str = "$ tcpls sim run tcpls-harness/scenarios/black-hole.toml --seed 1 --trace trace.jsonl\n";
const END: &str = "  …\n";
/// Scenarios whose plots the pages show.
const PLOTS: [&str; 3] = ["demo", "two-outages", "rotating-outages"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// What `tcpls sim run` prints about a scenario with seed 1.
async fn run(scenario: &str, options: &[&str]) -> String {
    let file = format!("tcpls-harness/scenarios/{scenario}.toml");
    let mut command = Command::new(env!("CARGO_BIN_EXE_tcpls"));
    command.args(["sim", "run", &file, "--seed", "1"]).args(options).current_dir(root());
    let output = command.output().await.unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// Compares, or updates, what a page shows.
fn hold(file: &Path, shown: &str, wanted: &str, page: &str) {
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(file, page).unwrap();
    } else {
        assert!(shown == wanted, "{}: run this test with UPDATE_DOCS=1\n{shown}\n{wanted}", file.display());
    }
}

#[tokio::test]
async fn the_simulation_page_shows_what_the_command_prints() {
    let printed: String = run("black-hole", &[]).await.split_inclusive('\n').take(2).collect();
    let file = root().join("docs/simulation.md");
    let page = std::fs::read_to_string(&file).unwrap();
    let (before, rest) = page.split_once(BEGIN).unwrap();
    let (shown, after) = rest.split_once(END).unwrap();
    hold(&file, shown, &printed, &[before, BEGIN, &printed, END, after].concat());
}

#[tokio::test]
async fn plots_show_what_the_command_draws() {
    let folder = crate::support::Directory::new("plots");
    for scenario in PLOTS {
        let drawn: PathBuf = folder.path().join(format!("{scenario}.svg"));
        run(scenario, &["--plot", drawn.to_str().unwrap()]).await;
        let drawn = std::fs::read_to_string(drawn).unwrap();
        let file = root().join("docs/plots").join(format!("{scenario}.svg"));
        let shown = std::fs::read_to_string(&file).unwrap_or_default();
        hold(&file, &shown, &drawn, &drawn);
    }
}
