//! Compares the pages with the repository: links and names exist, and limits are the defaults. `tables` and
//! `statements` read the tables.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use tcpls_core::config::Config;

use crate::statements::{crate_root, quoted, read};
use crate::tables::{code_complaint, is_code, is_test, test_complaint};

fn root() -> PathBuf {
    crate_root().join("..")
}

/// All files below `folder` with this extension, but for what is built or fetched.
fn files(folder: &Path, extension: &str, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let (path, name) = (entry.path(), entry.file_name());
        if path.is_dir() && name != "target" && name != ".git" {
            files(&path, extension, found);
        } else if path.extension().is_some_and(|is| is == extension) {
            found.push(path);
        }
    }
}

fn all(extension: &str) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    files(&root(), extension, &mut found);
    assert!(found.len() > 10, "{} files", found.len());
    found.sort();
    found.into_iter().map(|path| (path.clone(), read(&path))).collect()
}

/// The lines of a page that are not inside a fenced block.
fn prose(page: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut fenced = false;
    page.lines().enumerate().filter(move |(_, line)| {
        let is_fence = line.trim_start().starts_with("```");
        fenced ^= is_fence;
        !fenced && !is_fence
    })
}

/// The text of a page without its fenced blocks.
fn text(page: &str) -> String {
    prose(page).map(|(_, line)| format!("{line}\n")).collect()
}

/// Returns the anchor of a heading.
fn anchor(heading: &str) -> String {
    let kept = heading.trim_start_matches('#').trim().to_lowercase();
    kept.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c)).map(|c| if c == ' ' { '-' } else { c }).collect()
}

fn link_complaint(page: &Path, link: &str) -> Option<String> {
    if link.starts_with("http") {
        return None;
    }
    let (file, heading) = link.split_once('#').unwrap_or((link, ""));
    let target = if file.is_empty() { page.to_owned() } else { page.parent()?.join(file) };
    if !target.exists() {
        return Some(format!("{}: {link} leads nowhere", page.display()));
    }
    let has_heading = || read(&target).lines().any(|line| line.starts_with('#') && anchor(line) == heading);
    (!heading.is_empty() && !has_heading()).then(|| format!("{}: {link} has no such heading", page.display()))
}

#[test]
fn links_in_the_pages_lead_to_files_and_headings() {
    let mut links = 0;
    let mut complaints = Vec::new();
    for (page, content) in all("md") {
        let content = text(&content);
        for link in content.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            links += 1;
            complaints.extend(link_complaint(&page, link));
        }
    }
    assert!(links > 50 && complaints.is_empty(), "{links} links, {complaints:#?}");
}

/// Whether `name` begins as the path of a file in the repository does, and has no placeholder in it.
fn is_path(name: &str) -> bool {
    let folders = ["tcpls-core/", "tcpls-harness/", "fuzz/", "docs/", ".ci/"];
    let has_placeholder = name.contains(['*', '…', ' ', '<']) || name.split('/').any(|part| part == "TARGET");
    folders.iter().any(|folder| name.starts_with(folder)) && !has_placeholder
}

/// `Type::item`, if `name` is that.
fn type_and_item(name: &str) -> Option<(&str, &str)> {
    let (ty, item) = name.trim_end_matches("()").rsplit_once("::")?;
    let ty = ty.rsplit("::").next()?;
    let is_word = |text: &str| text.chars().all(|c| c.is_alphanumeric() || c == '_');
    (ty.starts_with(char::is_uppercase) && is_word(ty) && is_word(item) && !item.is_empty()).then_some((ty, item))
}

fn has_word(text: &str, word: &str) -> bool {
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    text.match_indices(word)
        .any(|(at, _)| !text[..at].ends_with(is_part) && !text[at + word.len()..].starts_with(is_part))
}

/// Whether the sources that declare or implement type `ty` name `item`. A type of a dependency is not judged.
fn item_complaint(sources: &[(PathBuf, String)], ty: &str, item: &str) -> Option<String> {
    let kinds = ["struct", "enum", "trait", "type"];
    let declares = |text: &str| kinds.iter().any(|kind| has_word(text, &format!("{kind} {ty}")));
    if !sources.iter().any(|(_, text)| declares(text)) {
        return None;
    }
    let has_item = |text: &str| (declares(text) || has_word(text, &format!("impl {ty}"))) && has_word(text, item);
    (!sources.iter().any(|(_, text)| has_item(text))).then(|| format!("{ty} has no {item}"))
}

/// A file of tests, of either package.
fn module_complaint(module: &str) -> Option<String> {
    let file = format!("tests/{}.rs", module.replace("::", "/"));
    let exists = |package: &str| root().join(package).join(&file).exists();
    (!exists("tcpls-core") && !exists("tcpls-harness")).then(|| format!("{module}: there is no such file"))
}

#[test]
fn names_in_backticks_exist() {
    let sources = all("rs");
    let mut names = 0;
    let mut complaints = BTreeSet::new();
    // The changelog also names what is no longer there.
    let pages = all("md").into_iter().filter(|(page, _)| !page.ends_with("CHANGELOG.md"));
    for (page, content) in pages {
        let content = text(&content).replace('\n', " ");
        for name in quoted(&content).into_iter().filter(|name| !name.contains('…')) {
            let complaint = match name.as_str() {
                "it::file::test" | "tcpls_core::module::tests::test" => None,
                module if module.starts_with("it::") && module.matches("::").count() == 1 => module_complaint(module),
                test if is_test(test) => test_complaint(test),
                code if is_code(code) => code_complaint(code),
                path if is_path(path) => {
                    (!root().join(path).exists()).then(|| format!("{path}: there is no such file"))
                }
                other => match type_and_item(other) {
                    Some((ty, item)) => item_complaint(&sources, ty, item),
                    None => continue,
                },
            };
            names += 1;
            complaints.extend(complaint.map(|complaint| format!("{}: {complaint}", page.display())));
        }
    }
    assert!(names > 300 && complaints.is_empty(), "{names} names, {complaints:#?}");
}

/// The default of a setting, as section 10 of the protocol's page writes it.
fn default_of(setting: &str) -> Option<String> {
    let config = Config::default();
    let mib = |bytes: u64| format!("{} MiB", bytes >> 20);
    let seconds = |time: std::time::Duration| format!("{} s", time.as_secs());
    Some(match setting {
        "handshake_timeout" => seconds(config.handshake_timeout),
        "join_timeout" => seconds(config.join_timeout),
        "idle_timeout" => seconds(config.idle_timeout?),
        "user_timeout" => seconds(config.user_timeout),
        "session_timeout" => seconds(config.session_timeout),
        "close_timeout" => seconds(config.close_timeout),
        "close_limit" => seconds(config.close_limit),
        "max_ack_delay" => format!("{} ms", config.max_ack_delay.as_millis()),
        "ack_every_records" => config.ack_every_records.to_string(),
        "max_tcp_connections" => config.max_tcp_connections.to_string(),
        "spare_tokens" => config.spare_tokens.to_string(),
        "max_streams" => config.max_streams.to_string(),
        "initial_session_window" => mib(config.initial_session_window),
        "max_session_window" => mib(config.max_session_window),
        "initial_stream_window" => mib(config.initial_stream_window),
        "max_stream_window" => mib(config.max_stream_window),
        "max_gaps" => config.max_gaps.to_string(),
        "max_unacknowledged_records" => config.max_unacknowledged_records.to_string(),
        "overhead_budget" => format!("{} units", config.overhead_budget),
        _ => return None,
    })
}

#[test]
fn limits_in_the_protocol_page_are_the_defaults() {
    let page = read(&root().join("docs/protocol.md"));
    let (_, section) = page.split_once("\n## 10.").unwrap();
    let (section, _) = section.split_once("\n## ").unwrap();
    let mut compared = 0;
    for row in section.lines().filter(|line| line.starts_with("| ")) {
        let cells: Vec<&str> = row.trim_matches('|').split(" | ").map(str::trim).collect();
        let &[_, value, setting] = &cells[..] else { panic!("{row}") };
        let setting = setting.trim_matches('`');
        if let Some(default) = default_of(setting) {
            let shown = value.split(';').next().unwrap_or_default();
            assert_eq!(shown, default, "{row}");
            compared += 1;
        }
    }
    assert_eq!(compared, 19);
}

#[test]
fn markdown_is_wrapped_at_120_columns() {
    for (page, content) in all("md") {
        for (number, line) in prose(&content) {
            let fits = line.chars().count() <= 120 || line.starts_with('|');
            assert!(fits, "{}:{}", page.display(), number + 1);
        }
    }
}

#[test]
fn test_names_have_at_most_80_characters() {
    for (file, content) in all("rs") {
        let after = content.split("#[test]\n").chain(content.split("#[tokio::test]\n"));
        for name in after.filter_map(|rest| rest.split_once("fn ")?.1.split(['(', '<']).next()) {
            assert!(name.len() <= 80, "{}: {name}", file.display());
        }
    }
}

#[test]
fn missing_names_are_detected() {
    let page = root().join("docs/protocol.md");
    assert!(link_complaint(&page, "nowhere.md").is_some());
    assert!(link_complaint(&page, "#no-such-heading").is_some());
    assert_eq!(link_complaint(&page, "#9-errors"), None);
    let sources = all("rs");
    assert!(item_complaint(&sources, "Config", "no_such_setting").is_some());
    assert_eq!(item_complaint(&sources, "Config", "spare_tokens"), None);
    assert_eq!(item_complaint(&sources, "NotOurs", "anything"), None);
    assert!(module_complaint("it::nowhere").is_some());
    assert_eq!(module_complaint("it::facts"), None);
}
