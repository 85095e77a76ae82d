//! The topics of `net`, read from its source: data flows from sockets by way of the task to the session's state and its handles, and
//! imports follow it.

use std::fs;
use std::path::{Path, PathBuf};

/// The topics that each topic of `net` may import.
const ALLOWED: [(&str, &[&str]); 10] = [
    ("os", &[]),
    ("descriptors", &[]),
    ("log", &[]),
    ("socket", &["os"]),
    ("runtime", &["os", "log"]),
    ("session", &["runtime"]),
    ("account", &["session", "os"]),
    ("task", &["account", "session", "socket", "os"]),
    ("client", &["task", "session", "socket", "os", "log", "descriptors"]),
    ("listener", &["task", "account", "session", "socket", "os", "log", "descriptors"]),
];

/// What a session's state and handles do without, so that something else than sockets can drive them.
const NO_BUSINESS_OF_A_SESSION: [&str; 7] =
    ["TcpStream", "TcpListener", "Instant", "SystemTime", "tokio::time", "tokio::spawn", "JoinSet"];

fn net() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src/net")
}

/// The source of a topic, file by file, without comments and tests.
fn files(topic: &str) -> Vec<(PathBuf, String)> {
    let (file, folder) = (net().join(topic).with_extension("rs"), net().join(topic));
    let paths: Vec<PathBuf> = match folder.is_dir() {
        true => fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect(),
        false => vec![file],
    };
    let of_tests = |path: &PathBuf| path.ends_with("tests.rs");
    paths.into_iter().filter(|path| !of_tests(path)).map(|path| (path.clone(), code(&path))).collect()
}

fn code(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap();
    let code = text.split("mod tests {").next().unwrap();
    let mut lines: Vec<&str> = code.lines().filter(|line| !line.trim_start().starts_with("//")).collect();
    // Counting costs is for tests only, wherever it is done.
    lines.retain(|line| !line.contains("crate::net::costs::count("));
    lines.join("\n")
}

#[test]
fn topics_of_net_import_only_what_data_comes_from() {
    let known: Vec<&str> = ALLOWED.iter().map(|(topic, _)| *topic).collect();
    for entry in fs::read_dir(net()).unwrap() {
        let name = entry.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned();
        assert!(known.contains(&name.as_str()) || ["mod", "costs"].contains(&name.as_str()), "{name} is no topic");
    }
    for (topic, allowed) in ALLOWED {
        for (path, code) in files(topic) {
            for (at, prefix) in code.match_indices("crate::net::") {
                let rest = &code[at + prefix.len()..];
                let import = rest.split(|c: char| !(c.is_alphanumeric() || c == '_')).next().unwrap();
                // Types that `net` re-exports are for links in its documentation.
                let is_type = import.starts_with(|c: char| c.is_ascii_uppercase());
                let may = is_type || import == topic || allowed.contains(&import);
                assert!(may, "{} imports {}", path.display(), rest.lines().next().unwrap());
            }
        }
    }
}

#[test]
fn sessions_have_no_sockets_and_no_clock_of_their_own() {
    for (path, code) in files("session") {
        let found = NO_BUSINESS_OF_A_SESSION.into_iter().find(|word| code.contains(word));
        assert_eq!(found, None, "{}", path.display());
    }
}
