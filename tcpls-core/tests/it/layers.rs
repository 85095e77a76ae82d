//! The layers of the crate, read from its source: which part may import which, and that no files import in a circle.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// One source file without its tests.
struct Source {
    /// `connection::input`, `wire::frame` (for `wire/frame/mod.rs`), `lib`.
    module: String,
    text: String,
}

impl Source {
    fn layer(&self) -> &str {
        self.module.split("::").next().unwrap_or_default()
    }
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    collect(&root, &mut files);
    let sources: Vec<Source> = files.iter().filter_map(|file| source(&root, file)).collect();
    assert!(sources.len() > 30, "the sources are not where they should be");
    sources
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    let mut entries: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    entries.sort();
    for path in entries {
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

/// `None` for files of tests.
fn source(root: &Path, file: &Path) -> Option<Source> {
    let path = file.strip_prefix(root).unwrap().with_extension("");
    let mut names: Vec<&str> = path.iter().map(|name| name.to_str().unwrap()).collect();
    if names.contains(&"tests") {
        return None;
    }
    if names.last() == Some(&"mod") {
        names.pop();
    }
    let text = fs::read_to_string(file).unwrap();
    let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
    let without_comments: Vec<&str> = code.lines().filter(|line| !line.trim_start().starts_with("//")).collect();
    Some(Source { module: names.join("::"), text: without_comments.join("\n") })
}

/// The module that a path in `module` begins at, and what follows, if the path stays in the crate.
fn resolve(module: &str, is_folder: bool, path: &str) -> Option<String> {
    if let Some(rest) = path.strip_prefix("crate::") {
        return Some(rest.to_owned());
    }
    let mut at: Vec<&str> = module.split("::").collect();
    if let Some(rest) = path.strip_prefix("self::") {
        return Some([&at.join("::"), rest].join("::"));
    }
    if !is_folder || path.starts_with("super::") {
        let mut rest = path;
        while let Some(up) = rest.strip_prefix("super::") {
            at.pop();
            rest = up;
        }
        return (rest != path).then(|| if at.is_empty() { rest.to_owned() } else { [&at.join("::"), rest].join("::") });
    }
    None
}

/// Paths of one `use` tree: `a::{b, c::{d}}` gives `a::b` and `a::c::d`.
fn flatten(prefix: &str, tree: &str, out: &mut Vec<String>) {
    let mut depth = 0;
    let mut start = 0;
    let ends = tree.char_indices().chain([(tree.len(), ',')]);
    for (at, character) in ends {
        match character {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                let part = tree[start..at].trim();
                start = at + 1;
                match part.split_once('{') {
                    Some((head, rest)) => {
                        let inner = rest.trim_end().strip_suffix('}').unwrap();
                        flatten(&format!("{prefix}{}", head.trim()), inner, out);
                    }
                    None if part.is_empty() => {}
                    None => out.push(format!("{prefix}{}", part.split(" as ").next().unwrap().trim())),
                }
            }
            _ => {}
        }
    }
}

/// The imports of a file: `use` items and paths that begin with `crate::`, without re-exports of a folder's own files.
fn imports(source: &Source, folders: &BTreeSet<String>) -> BTreeSet<String> {
    let mut paths = Vec::new();
    for item in source.text.split(';') {
        let Some(at) = item.rfind("use ").filter(|at| *at == 0 || item[..*at].ends_with(['\n', ' ', ')'])) else {
            continue;
        };
        if item[..at].ends_with("pub ") && item[at + 4..].starts_with("self::") {
            continue;
        }
        flatten("", &item[at + 4..].replace('\n', " "), &mut paths);
    }
    for (at, _) in source.text.match_indices("crate::") {
        let rest = &source.text[at..];
        let end = rest.find(|c: char| !(c.is_alphanumeric() || c == '_' || c == ':')).unwrap_or(rest.len());
        paths.push(rest[..end].trim_end_matches(':').to_owned());
    }
    let is_folder = folders.contains(&source.module);
    let resolved = paths.iter().filter_map(|path| resolve(&source.module, is_folder, path));
    // `super` of a module within a file is the file itself; what begins with a capital is no module.
    resolved.filter(|path| path.starts_with(|c: char| c.is_ascii_lowercase())).collect()
}

fn folders(sources: &[Source]) -> BTreeSet<String> {
    let parent = |source: &Source| source.module.rsplit_once("::").map(|(parent, _)| parent.to_owned());
    sources.iter().filter_map(parent).collect()
}

/// The layers that each layer may import (design: an arrow = may import).
fn allowed(layer: &str) -> &'static [&'static str] {
    match layer {
        "time" => &[],
        "wire" => &["error"],
        "budget" => &["time"],
        "error" | "event" | "stats" | "config" => &["error", "time", "wire::ids"],
        "crypto" => &["wire", "error", "time"],
        "token" => &["crypto", "wire", "error"],
        "stream" => &["wire", "error", "event", "config", "time", "stats"],
        "tcp" => &["wire", "error", "event", "config", "time", "stats"],
        "endpoint" => &["token", "wire", "crypto", "error", "event", "config", "time"],
        "sessions" => &["connection", "endpoint", "error", "event", "time", "wire::ids"],
        "testing" => &["connection", "endpoint", "crypto", "wire", "error", "event", "config", "stats", "time"],
        "connection" => {
            &["stream", "tcp", "token", "wire", "crypto", "endpoint", "error", "event", "config", "stats", "time"]
        }
        _ => &[],
    }
}

#[test]
fn every_layer_imports_only_what_lies_below_it() {
    let sources = sources();
    let folders = folders(&sources);
    for source in sources.iter().filter(|source| source.module != "lib") {
        let layer = source.layer();
        for import in imports(source, &folders) {
            let within = import == layer || import.starts_with(&format!("{layer}::"));
            let fits = |may: &&str| import == **may || import.starts_with(&format!("{may}::"));
            assert!(within || allowed(layer).iter().any(fits), "{} imports {import}", source.module);
        }
    }
}

#[test]
fn streams_and_tcp_connections_never_see_each_other() {
    let sources = sources();
    let folders = folders(&sources);
    for source in sources.iter().filter(|source| ["stream", "tcp"].contains(&source.layer())) {
        let other = if source.layer() == "stream" { "tcp" } else { "stream" };
        for import in imports(source, &folders) {
            assert!(
                !import.starts_with(other) && !import.starts_with("connection"),
                "{} imports {import}",
                source.module
            );
        }
    }
}

#[test]
fn each_tls_library_is_used_in_one_place_and_the_aead_library_in_one_file() {
    for source in sources() {
        let names = |name: &str| {
            let before = |at: usize| source.text[..at].chars().next_back();
            source
                .text
                .match_indices(&format!("{name}::"))
                .any(|(at, _)| before(at).is_none_or(|c| !(c.is_alphanumeric() || c == '_' || c == ':')))
        };
        // The test kit's TLS is configured in terms of rustls.
        let is_kit = ["testing::tls", "testing::openssl"].contains(&source.module.as_str());
        if !source.module.starts_with("crypto::rustls") && !is_kit {
            assert!(!names("rustls"), "{} uses rustls", source.module);
        }
        if !source.module.starts_with("crypto::openssl") && source.module != "testing::openssl" {
            assert!(!names("openssl"), "{} uses OpenSSL", source.module);
        }
        if source.module != "crypto::aead" {
            assert!(!names("ring") && !names("aws_lc_rs"), "{} uses the AEAD library", source.module);
        }
    }
}

#[test]
fn the_core_has_no_clock_no_sockets_no_threads_and_no_chance() {
    let forbidden = [
        "Instant",
        "SystemTime",
        "TcpStream",
        "UdpSocket",
        "std::thread",
        "SystemRandom",
        "HashMap",
        "HashSet",
        "unsafe ",
    ];
    // OpenSSL offers a session, and looks one up, by unsafe calls (D163, D190).
    let exceptions = ["crypto::openssl::resumption", "crypto::openssl::shared"].map(|module| (module, "unsafe "));
    for source in sources() {
        for word in forbidden.into_iter().filter(|word| !exceptions.contains(&(source.module.as_str(), *word))) {
            let used = source.text.lines().find(|line| line.contains(word));
            assert_eq!(used, None, "{} uses {word}", source.module);
        }
    }
}

/// The file that an import leads to: the longest module name that it begins with.
fn target<'a>(modules: &BTreeSet<&'a str>, import: &str) -> Option<&'a str> {
    let fits = |module: &&&str| import == **module || import.starts_with(&format!("{module}::"));
    modules.iter().filter(fits).max_by_key(|module| module.len()).copied()
}

/// Numbers that the peer chooses are keys of ordered maps: no peer can make them collide (docs/threat-model.md, attack 22), and no order depends
/// on chance.
#[test]
fn the_core_has_no_hash_tables() {
    for source in sources() {
        let found = ["HashMap", "HashSet"].into_iter().find(|name| source.text.contains(name));
        assert_eq!(found, None, "{}", source.module);
    }
}

#[test]
fn no_files_import_in_a_circle() {
    let sources = sources();
    let folders = folders(&sources);
    let modules: BTreeSet<&str> = sources.iter().map(|source| source.module.as_str()).collect();
    let mut arrows: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for source in &sources {
        let targets = imports(source, &folders).into_iter().filter_map(|import| target(&modules, &import));
        // A folder's mod.rs names its files, and its files use what it defines: a folder counts as one file.
        let foreign = targets.filter(|target| folder_of(target) != folder_of(&source.module));
        arrows.entry(folder_of(&source.module)).or_default().extend(foreign.map(folder_of));
    }
    for start in arrows.keys() {
        let (mut seen, mut next) = (BTreeSet::new(), arrows[start].iter().copied().collect::<Vec<_>>());
        while let Some(at) = next.pop() {
            assert_ne!(at, *start, "{start} imports itself by way of others");
            if seen.insert(at) {
                next.extend(arrows.get(at).into_iter().flatten());
            }
        }
    }
}

/// The methods of `Connection` that a file defines: what stands in its `impl Connection` blocks.
fn methods(source: &Source) -> BTreeSet<&str> {
    let blocks = source.text.split("\nimpl Connection {\n").skip(1);
    let bodies = blocks.map(|block| block.split("\n}").next().unwrap());
    bodies.flat_map(|body| body.lines().filter_map(method)).collect()
}

/// The name of the method that begins on this line.
fn method(line: &str) -> Option<&str> {
    let item = line.strip_prefix("    ").filter(|item| !item.starts_with(' '))?;
    let (before, rest) = item.split_once("fn ")?;
    let is_item =
        before.split_whitespace().all(|word| word.starts_with("pub") || word == "const" || word.ends_with(')'));
    is_item.then(|| rest.split(['(', '<']).next()).flatten()
}

/// The methods of the session that a file calls.
fn calls(source: &Source) -> BTreeSet<&str> {
    let after = ["self.", "Self::", "conn."].into_iter().flat_map(|receiver| {
        source.text.match_indices(receiver).map(move |(at, _)| &source.text[at + receiver.len()..])
    });
    let name = |rest: &str| rest.find(|c: char| !c.is_alphanumeric() && c != '_');
    after.filter_map(|rest| name(rest).filter(|end| rest[*end..].starts_with('(')).map(|end| &rest[..end])).collect()
}

/// The files that can be reached from each along the arrows.
fn reachable<'a>(arrows: &BTreeMap<&'a str, BTreeSet<&'a str>>, start: &str) -> BTreeSet<&'a str> {
    let (mut seen, mut next) = (BTreeSet::new(), arrows[start].iter().copied().collect::<Vec<_>>());
    while let Some(at) = next.pop() {
        if seen.insert(at) {
            next.extend(arrows[at].iter());
        }
    }
    seen
}

/// `impl Connection` blocks are in many files, and imports do not show which of them need each other. That a lost TCP connection may end
/// the session, and the end of the session discards them all, is the one circle.
#[test]
fn files_of_a_session_call_each_other_in_one_circle_of_three() {
    let sources: Vec<Source> = sources().into_iter().filter(|source| source.layer() == "connection").collect();
    let homes: BTreeMap<&str, &str> = sources
        .iter()
        .flat_map(|source| methods(source).into_iter().map(|method| (method, source.module.as_str())))
        .collect();
    assert!(homes.len() > 150, "only {} methods found", homes.len());
    let arrows: BTreeMap<&str, BTreeSet<&str>> = sources
        .iter()
        .map(|source| {
            let targets = calls(source).into_iter().filter_map(|call| homes.get(call).copied());
            (source.module.as_str(), targets.filter(|target| *target != source.module).collect())
        })
        .collect();
    let circles = arrows.keys().filter(|start| reachable(&arrows, start).contains(**start));
    let circles: Vec<&str> = circles.copied().collect();
    assert_eq!(circles, ["connection::ending", "connection::lifecycle", "connection::plain"]);
}

/// The unit of a circle: the layer, and in `wire` and `crypto` the file.
fn folder_of(module: &str) -> &str {
    let parts: Vec<&str> = module.split("::").collect();
    match parts[..] {
        ["crypto", "rustls", ..] => "crypto::rustls",
        ["crypto", "openssl", ..] => "crypto::openssl",
        ["wire", "frame", ..] => "wire::frame",
        ["wire", "hello", ..] => "wire::hello",
        ["wire" | "crypto", ..] | [_] => module,
        [layer, ..] => &module[..layer.len()],
        [] => module,
    }
}
