//! What the pages show of the command, held against what it prints and draws. With `UPDATE_DOCS=1` in the environment the
//! pages are brought up to date instead.

use std::path::{Path, PathBuf};

use serde_json::Value;
use tcpls_harness::sim::{RunOptions, Scenario, run as simulate};
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

#[test]
fn trace_page_shows_lines_of_a_trace() {
    const GREP: &str = "$ grep -m 1 '";
    let scenario = std::fs::read_to_string(root().join("tcpls-harness/scenarios/black-hole.toml")).unwrap();
    let lines = crate::support::Lines::default();
    let options = RunOptions { trace: Some(Box::new(lines.clone())), hash: false, ..RunOptions::default() };
    _ = simulate(&Scenario::parse(&scenario).unwrap(), 1, options);
    let trace = lines.text();
    let file = root().join("docs/trace.md");
    let page = std::fs::read_to_string(&file).unwrap();
    let mut wanted = String::new();
    for line in page.lines().filter(|line| !line.starts_with('{')) {
        wanted += &format!("{line}\n");
        if let Some((pattern, _)) = line.strip_prefix(GREP).and_then(|rest| rest.split_once('\'')) {
            wanted += &format!("{}\n", trace.lines().find(|line| line.contains(pattern)).unwrap());
        }
    }
    assert!(wanted.contains("{\"t\":"));
    hold(&file, &page, &wanted, &wanted);
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

#[test]
fn tables_in_the_pages_are_those_of_the_result_files() {
    let directory = root().join("docs/data");
    let mut shown = std::collections::BTreeSet::new();
    for name in ["performance", "measurements", "bpf"] {
        let file = root().join("docs").join(name).with_extension("md");
        let page = std::fs::read_to_string(&file).unwrap();
        let (wanted, files) = tcpls_results::update_page(&page, &directory).unwrap();
        hold(&file, &page, &wanted, &wanted);
        shown.extend(files);
    }
    let files = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    assert_eq!(files.collect::<std::collections::BTreeSet<_>>(), shown, "each file is shown on a page");
}

/// The commands in the fenced `sh` blocks of a page: their words, without comments.
fn commands(page: &str) -> Vec<Vec<String>> {
    let blocks = page.split("```sh\n").skip(1).filter_map(|rest| rest.split("```").next());
    let lines = blocks.flat_map(|block| block.lines().filter(|line| !line.starts_with([' ', '#'])));
    let words = |line: &str| -> Vec<String> {
        let words = line.trim_start_matches("$ ").split_whitespace();
        words.take_while(|word| !word.starts_with('#')).map(|word| word.trim_matches(['[', ']']).to_owned()).collect()
    };
    lines.map(words).filter(|words| !words.is_empty()).collect()
}

/// The options of a command, once each, and those that its help does not have.
async fn unknown_options(words: &[String]) -> Vec<String> {
    let is_nested = ["sim", "perf"].contains(&words[0].as_str());
    let (subcommand, rest) = words.split_at(if is_nested { 2 } else { 1 });
    let help = Command::new(env!("CARGO_BIN_EXE_tcpls")).args(subcommand).arg("--help").output().await.unwrap();
    assert!(help.status.success(), "{words:?}");
    let help = String::from_utf8(help.stdout).unwrap();
    let options = rest.iter().filter(|word| word.starts_with("--"));
    let has = |option: &str| help.split([' ', ',', '\n']).any(|word| word == option);
    options.filter(|option| !has(option.split('=').next().unwrap())).cloned().collect()
}

#[tokio::test]
async fn commands_in_the_pages_exist_with_their_options_and_files() {
    let docs = std::fs::read_dir(root().join("docs")).unwrap().map(|entry| entry.unwrap().path());
    let others = ["README.md", "CONTRIBUTING.md"].map(|name| root().join(name));
    let pages: Vec<PathBuf> = docs.chain(others).filter(|path| path.extension().is_some_and(|is| is == "md")).collect();
    let mut tried = 0;
    for page in pages {
        for words in commands(&std::fs::read_to_string(&page).unwrap()) {
            let place = format!("{}: {words:?}", page.display());
            let files = words.iter().filter(|word| word.starts_with("tcpls-harness/") || word.starts_with(".ci/"));
            files.for_each(|file| assert!(root().join(file).exists(), "{place}"));
            let separator = words.iter().position(|word| word == "--").filter(|_| words.contains(&"tcpls".to_owned()));
            let start = if words[0] == "tcpls" { Some(1) } else { separator.map(|at| at + 1) };
            let Some(start) = start.filter(|start| words.len() > *start) else { continue };
            assert_eq!(unknown_options(&words[start..]).await, [] as [String; 0], "{place}");
            tried += 1;
        }
    }
    assert!(tried >= 12, "{tried} commands");
}

#[test]
fn every_example_is_listed_in_both_readmes_and_run_by_the_tests() {
    let page = |file: &str| std::fs::read_to_string(root().join(file)).unwrap();
    for package in ["tcpls-core", "tcpls-harness"] {
        let readme = page("README.md") + &page(&format!("{package}/README.md"));
        let manifest = page(&format!("{package}/Cargo.toml"));
        for entry in std::fs::read_dir(root().join(package).join("examples")).unwrap() {
            let file = entry.unwrap().path();
            let Some(name) = file.extension().and(file.file_stem()).and_then(|name| name.to_str()) else { continue };
            let link = format!("| [`{name}`]({package}/examples/{name}.rs) |");
            assert!(readme.contains(&link), "{name}: README.md");
            assert!(readme.contains(&format!("| `{name}` |")), "{name}: {package}/README.md");
            let section =
                manifest.split("\n\n").find(|section| section.contains(&format!("[[example]]\nname = \"{name}\"")));
            assert!(section.is_some_and(|section| section.contains("test = true")), "{name}: {package}/Cargo.toml");
            assert!(std::fs::read_to_string(&file).unwrap().contains("#[test]"), "{name} has no test");
        }
    }
}

/// The number of crates that a build with these options of cargo has.
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
fn crates(options: &[&str]) -> usize {
    let mut command = std::process::Command::new(env!("CARGO"));
    command.args(["tree", "--locked", "--offline", "-p", "tcpls-harness", "-e", "normal", "--prefix", "none"]);
    let output = command.args(options).current_dir(root()).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let lines = String::from_utf8(output.stdout).unwrap();
    let versions = lines.lines().map(|line| line.split(' ').take(2).collect::<Vec<_>>());
    versions.collect::<std::collections::BTreeSet<_>>().len()
}

#[test]
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
fn readme_has_the_number_of_crates_that_an_application_builds() {
    let readme = std::fs::read_to_string(root().join("README.md")).unwrap();
    let small = crates(&["--no-default-features", "--features", "ring"]);
    let shown = "--features=ring,tokio/io-util,tokio/macros,tokio/rt-multi-thread";
    let (with_tokio, default) = (crates(&["--no-default-features", shown]), crates(&[]));
    let sentences = [
        format!("That is {with_tokio} crates instead of the {default} of the default features"),
        format!("has {small} crates, and none of them is a procedural macro."),
    ];
    for sentence in sentences {
        assert!(readme.contains(&sentence), "{sentence}");
    }
}

#[test]
fn every_feature_is_listed_in_the_readme_of_its_package() {
    for package in ["tcpls-core", "tcpls-harness"] {
        let page = |file: &str| std::fs::read_to_string(root().join(package).join(file)).unwrap();
        let (manifest, readme) = (page("Cargo.toml"), page("README.md"));
        let section = manifest.split("[features]\n").nth(1).unwrap().split("\n\n").next().unwrap();
        let table: Vec<&str> = readme.lines().filter_map(|line| line.strip_prefix('|')?.split('|').next()).collect();
        let names = section.lines().filter_map(|line| line.split_once(" = ")).map(|(name, _)| name);
        for name in names.filter(|name| *name != "default") {
            assert!(table.iter().any(|cell| cell.contains(&format!("`{name}`"))), "{package}: {name}");
        }
    }
}

#[test]
fn bulk_data_causes_the_window_updates_that_the_performance_page_has() {
    let text = r#"
        title = "bulk data"
        crypto = "null"
        path = [{ name = "a", rate = "25Gbit/s", delay = "50us", queue = "2MB" }]
        transfer = [{ receive = "60MB" }]
    "#;
    let lines = crate::support::Lines::default();
    let options = RunOptions { trace: Some(Box::new(lines.clone())), hash: false, ..RunOptions::default() };
    assert!(simulate(&Scenario::parse(text).unwrap(), 1, options).is_good());
    let trace = lines.text();
    let sent = trace.lines().filter(|line| line.contains("\"client\"") && line.contains("\"record-sent\""));
    let records: Vec<Value> = sent.map(|line| serde_json::from_str(line).unwrap()).collect();
    let page = std::fs::read_to_string(root().join("docs/performance.md")).unwrap().replace('\n', " ");
    let (mut steps, frames) = (Vec::new(), |record: &Value| record["content"]["frames"].as_array().cloned());
    for ty in ["max-stream-data", "max-data"] {
        let mut limits = Vec::new();
        for frames in records.iter().filter_map(frames) {
            let has = |ty: &str| frames.iter().find(|frame| frame["type"] == ty);
            let Some(update) = has(ty) else { continue };
            assert!(has("ack").is_some(), "{frames:?}");
            limits.push(update["maximum"].as_u64().unwrap());
        }
        let [.., before, last] = limits[..] else { panic!("{limits:?}") };
        steps.push((last - before) as f64 / 1e6);
    }
    let expected = format!("a stream's limit every {:.1} MB and the session's every {:.1} MB", steps[0], steps[1]);
    assert!(page.contains(&expected), "{expected}");
}
