//! The topics of `net` and of `sim`, read from their source: imports follow the way of the data, and no two topics import each
//! other. In `net` it comes from sockets by way of the task to the session's state and its handles; in `sim` from the scenario by
//! way of the network and the hosts to the world.

use std::fs;
use std::path::{Path, PathBuf};

/// Topics, and those that each may import, which come before it.
type Topics = &'static [(&'static str, &'static [&'static str])];

const NET: Topics = &[
    ("os", &[]),
    ("descriptors", &[]),
    ("log", &[]),
    ("reach", &[]),
    ("network", &[]),
    ("proxy_protocol", &[]),
    ("tcp_option", &[]),
    ("record", &["os"]),
    ("socket", &["os", "proxy_protocol", "tcp_option"]),
    ("interfaces", &["socket"]),
    ("sinks", &["os", "log"]),
    ("runtime", &["os", "log"]),
    ("session", &["runtime", "reach", "tcp_option"]),
    ("account", &["session", "os"]),
    ("task", &["account", "session", "socket", "os", "tcp_option"]),
    ("client", &["task", "session", "socket", "os", "sinks", "descriptors", "tcp_option", "record"]),
    ("monitor", &["session", "interfaces"]),
    (
        "listener",
        &[
            "task",
            "account",
            "session",
            "socket",
            "sinks",
            "os",
            "reach",
            "network",
            "proxy_protocol",
            "descriptors",
            "interfaces",
            "tcp_option",
            "record",
        ],
    ),
];

const SIM: Topics = &[
    ("rng", &[]),
    ("event_queue", &[]),
    ("deadlines", &[]),
    ("scenario", &[]),
    ("network", &["scenario", "event_queue", "rng"]),
    ("trace", &["network", "scenario"]),
    ("traffic", &["trace", "scenario"]),
    ("applications", &["trace", "network", "scenario", "rng"]),
    ("hosts", &["applications", "traffic", "trace", "network", "scenario", "deadlines", "rng"]),
    ("report", &["hosts", "traffic", "trace", "scenario"]),
    (
        "world",
        &[
            "report",
            "hosts",
            "applications",
            "traffic",
            "trace",
            "network",
            "scenario",
            "event_queue",
            "deadlines",
            "rng",
        ],
    ),
    ("simulation", &["world", "report", "hosts", "applications", "network", "scenario"]),
    ("swarm", &["world", "report", "scenario", "rng"]),
    ("real_sockets", &["hosts", "traffic", "scenario"]),
];

/// What a session's state and handles do without, so that something else than sockets can drive them.
const NO_BUSINESS_OF_A_SESSION: [&str; 7] =
    ["TcpStream", "TcpListener", "Instant", "SystemTime", "tokio::time", "tokio::spawn", "JoinSet"];

fn module(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src").join(name)
}

/// The source of a topic, file by file, without comments and tests.
fn files(module: &Path, topic: &str) -> Vec<(PathBuf, String)> {
    let (file, folder) = (module.join(topic).with_extension("rs"), module.join(topic));
    let mut paths = Vec::new();
    if folder.is_dir() {
        collect(&folder, &mut paths)
    } else {
        paths.push(file)
    }
    let of_tests = |path: &PathBuf| path.ends_with("tests.rs") || path.ends_with("tests/mod.rs");
    paths.into_iter().filter(|path| !of_tests(path)).map(|path| (path.clone(), code(&path))).collect()
}

fn collect(folder: &Path, paths: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { collect(&path, paths) } else { paths.push(path) }
    }
}

fn code(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap();
    let code = text.split("mod tests {").next().unwrap();
    let mut lines: Vec<&str> = code.lines().filter(|line| !line.trim_start().starts_with("//")).collect();
    // Counting costs is for tests only, wherever it is done.
    lines.retain(|line| !line.contains("crate::net::costs::count("));
    lines.join("\n")
}

/// Checks the imports of a module's topics. `others` are its files that are no topics.
fn check(name: &str, topics: Topics, others: &[&str]) {
    let module = module(name);
    let known: Vec<&str> = topics.iter().map(|(topic, _)| *topic).collect();
    for entry in fs::read_dir(&module).unwrap() {
        let name = entry.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned();
        assert!(known.contains(&name.as_str()) || others.contains(&name.as_str()), "{name} is no topic");
    }
    let prefix = format!("crate::{name}::");
    for (number, (topic, allowed)) in topics.iter().enumerate() {
        assert!(allowed.iter().all(|import| known[..number].contains(import)), "{topic} may import what imports it");
        for (path, code) in files(&module, topic) {
            let depth =
                path.strip_prefix(&module).unwrap().components().count() - usize::from(path.ends_with("mod.rs"));
            let leaves = code.contains(&"super::".repeat(depth));
            assert!(!leaves, "{} reaches another topic with super", path.display());
            for (at, _) in code.match_indices(&prefix) {
                let rest = &code[at + prefix.len()..];
                let list = rest.strip_prefix('{').map(|list| list.split('}').next().unwrap());
                let imports = list.map_or(vec![rest], |list| list.split(',').map(str::trim).collect());
                for import in imports.into_iter().filter(|import| !import.is_empty()) {
                    let import = import.split(|c: char| !(c.is_alphanumeric() || c == '_')).next().unwrap();
                    // Types that the module re-exports are for links in its documentation.
                    let is_type = import.starts_with(|c: char| c.is_ascii_uppercase());
                    let may = is_type || import == *topic || allowed.contains(&import);
                    assert!(may, "{} imports {import}", path.display());
                }
            }
        }
    }
}

#[test]
fn topics_of_net_import_only_what_data_comes_from() {
    check("net", NET, &["mod", "costs"]);
}

#[test]
fn topics_of_the_simulator_import_only_what_data_comes_from() {
    check("sim", SIM, &["mod"]);
}

#[test]
fn sessions_have_no_sockets_and_no_clock_of_their_own() {
    for (path, code) in files(&module("net"), "session") {
        let found = NO_BUSINESS_OF_A_SESSION.into_iter().find(|word| code.contains(word));
        assert_eq!(found, None, "{}", path.display());
    }
}
