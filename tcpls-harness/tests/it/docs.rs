//! What the docs show of the command, compared with what it prints, and the number of crates that the README promises. With
//! `UPDATE_DOCS=1` in the environment `docs/simulation.md` is brought up to date instead.

use std::collections::BTreeSet;
use std::path::Path;

use tokio::process::Command;

/// The block begins with this line; what the command prints follows, up to a line with an ellipsis.
const BEGIN: &str = "$ tcpls sim run tcpls-harness/scenarios/black-hole.toml --seed 1 --trace trace.jsonl\n";
const END: &str = "  …\n";

#[tokio::test]
async fn the_simulation_page_shows_what_the_command_prints() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_tcpls"));
    command.args(["sim", "run", "tcpls-harness/scenarios/black-hole.toml", "--seed", "1"]).current_dir(root);
    let output = command.output().await.unwrap();
    assert!(output.status.success(), "{output:?}");
    let printed = String::from_utf8(output.stdout).unwrap();
    let printed: String = printed.split_inclusive('\n').take(2).collect();
    let file = root.join("docs/simulation.md");
    let page = std::fs::read_to_string(&file).unwrap();
    let (before, rest) = page.split_once(BEGIN).unwrap();
    let (shown, after) = rest.split_once(END).unwrap();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&file, [before, BEGIN, &printed, END, after].concat()).unwrap();
    } else {
        assert_eq!(shown, printed, "run this test with UPDATE_DOCS=1");
    }
}

/// How many crates the library is on Linux, itself included.
async fn crates(features: &[&str]) -> usize {
    let mut command = Command::new(env!("CARGO"));
    command.args(["tree", "--locked", "--edges", "normal", "--prefix", "none", "--target", "x86_64-unknown-linux-gnu"]);
    command.args(features).current_dir(env!("CARGO_MANIFEST_DIR"));
    let output = command.output().await.unwrap();
    assert!(output.status.success(), "{output:?}");
    let printed = String::from_utf8(output.stdout).unwrap();
    let names = printed.lines().filter_map(|line| line.split_once(" v")).map(|(name, rest)| {
        let version = rest.split(' ').next().unwrap_or_default();
        (name, version)
    });
    names.collect::<BTreeSet<_>>().len()
}

#[tokio::test]
async fn readme_counts_the_crates_of_the_library_alone_and_of_everything() {
    let readme = include_str!("../../../README.md");
    let (few, all) = (crates(&["--no-default-features", "--features", "ring"]).await, crates(&[]).await);
    assert!(readme.contains(&format!("That is {few} crates instead of {all},")), "{few}, {all}");
}
