//! Compares the tables of `docs/failures.md` and `docs/threat-model.md` with the source: every row names code and a
//! test that exist, and every attack has a row.

use std::path::{Path, PathBuf};

use crate::statements::{crate_root, items, quoted, read, source_of};

const PAGES: [&str; 2] = ["failures.md", "threat-model.md"];

fn page(name: &str) -> String {
    read(&crate_root().join("../docs").join(name))
}

fn harness() -> PathBuf {
    crate_root().join("../tcpls-harness")
}

/// The cells of each row of the tables with this many columns, without their heads.
fn rows(page: &str, columns: usize) -> Vec<Vec<String>> {
    let cells = |line: &str| -> Option<Vec<String>> {
        let cells = line.strip_prefix("| ")?.strip_suffix(" |")?.split(" | ");
        Some(cells.map(|cell| cell.trim().to_owned()).collect())
    };
    let lines: Vec<&str> = page.lines().collect();
    let is_body =
        |at: &usize| !lines[*at].contains("---") && !lines.get(at + 1).is_some_and(|next| next.contains("---"));
    (0..lines.len()).filter(is_body).filter_map(|at| cells(lines[at])).filter(|row| row.len() == columns).collect()
}

/// Whether something between backticks names a test.
pub(crate) fn is_test(name: &str) -> bool {
    name.starts_with("it::") || name.starts_with("harness::it::") || name.contains("::tests::")
}

/// Whether it names code: `file.rs::name`.
pub(crate) fn is_code(name: &str) -> bool {
    name.contains(".rs::")
}

/// The error in the name of a test, if any.
pub(crate) fn test_complaint(name: &str) -> Option<String> {
    let path: Vec<&str> = name.split("::").collect();
    let (file, test) = match &path[..] {
        ["it", modules @ .., test] => {
            (crate_root().join("tests/it").join(modules.join("/")).with_extension("rs"), test)
        }
        ["harness", "it", modules @ .., test] => {
            (harness().join("tests/it").join(modules.join("/")).with_extension("rs"), test)
        }
        ["tcpls_core", modules @ .., test] => (source_of(modules), test),
        ["tcpls_harness", modules @ .., test] => (harness_source_of(modules), test),
        _ => return Some(format!("{name} is no path of a test")),
    };
    let Ok(text) = std::fs::read_to_string(&file) else { return Some(format!("{name}: no {}", file.display())) };
    let marks = ["#[test]", "#[tokio::test]"];
    let is_there = items(&text, test).iter().any(|item| marks.iter().any(|mark| item.contains(mark)));
    (!is_there).then(|| format!("{name} is no test in {}", file.display()))
}

fn harness_source_of(modules: &[&str]) -> PathBuf {
    let module = |modules: &[&str]| harness().join("src").join(modules.join("/"));
    let apart = [module(modules).join("mod.rs"), module(modules).with_extension("rs")];
    let tested = modules.strip_suffix(&["tests"]).unwrap_or(modules);
    apart.into_iter().find(|file| file.exists()).unwrap_or_else(|| module(tested).with_extension("rs"))
}

/// The error in the name of a function, a type, a constant or a field, if any.
pub(crate) fn code_complaint(name: &str) -> Option<String> {
    let Some((file, item)) = name.split_once("::") else { return Some(format!("{name} names nothing")) };
    let places = [crate_root().join("src").join(file), harness().join("src").join(file)];
    let Some(found) = places.iter().find(|place| place.exists()) else { return Some(format!("{name}: no such file")) };
    (!declares(found, item)).then(|| format!("{item} is not in {}", found.display()))
}

fn declares(file: &Path, item: &str) -> bool {
    let text = read(file);
    let beginnings = ["fn ", "struct ", "enum ", "const ", "pub ", "pub(crate) "];
    let ends = ["(", "<", ":", " ", ";"];
    let code = text.lines().map(str::trim_start).filter(|line| !line.starts_with("//"));
    code.into_iter().any(|line| {
        let declared = |beginning: &&str| ends.iter().any(|end| line.contains(&format!("{beginning}{item}{end}")));
        beginnings.iter().any(declared)
    })
}

#[test]
fn code_and_tests_in_the_tables_exist() {
    for name in PAGES {
        let text = page(name);
        let named: Vec<String> = text.lines().flat_map(quoted).collect();
        let tests = named.iter().filter(|name| is_test(name) && !name.contains('…') && **name != "it::file::test");
        let tests = tests.filter(|name| !name.contains("module::tests::test")).filter_map(|name| test_complaint(name));
        let code = named.iter().filter(|name| is_code(name)).filter_map(|name| code_complaint(name));
        let complaints: Vec<String> = tests.chain(code).collect();
        assert!(complaints.is_empty(), "{name}: {complaints:#?}");
    }
}

#[test]
fn every_failure_has_code_and_a_test() {
    let rows = rows(&page("failures.md"), 5);
    assert!(rows.len() >= 40, "{} rows", rows.len());
    for row in rows {
        assert!(!quoted(&row[3]).is_empty() && quoted(&row[3]).iter().all(|name| is_code(name)), "{}", row[0]);
        assert!(!quoted(&row[4]).is_empty() && quoted(&row[4]).iter().all(|name| is_test(name)), "{}", row[0]);
        assert!(!row[1].is_empty() && !row[2].is_empty(), "{}", row[0]);
    }
}

#[test]
fn every_attack_has_a_defence_and_a_test() {
    let rows = rows(&page("threat-model.md"), 5);
    let numbers: Vec<String> = rows.iter().map(|row| row[0].clone()).collect();
    assert_eq!(numbers, (1..=rows.len()).map(|n| n.to_string()).collect::<Vec<_>>());
    for row in rows {
        assert!(quoted(&row[3]).iter().any(|name| is_code(name)), "{}", row[1]);
        assert!(quoted(&row[4]).iter().any(|name| is_test(name)), "{}", row[1]);
    }
}

#[test]
fn every_bound_names_what_it_is_in_the_source() {
    let bounds: Vec<Vec<String>> = rows(&page("threat-model.md"), 3)
        .into_iter()
        .filter(|row| quoted(&row[2]).iter().any(|name| is_code(name)))
        .collect();
    assert!(bounds.len() >= 24, "{} bounds", bounds.len());
}

#[test]
fn missing_test_or_code_is_detected() {
    assert!(test_complaint("it::attacks::a_name_that_is_not_there").is_some());
    assert!(test_complaint("it::nowhere::a_test").is_some());
    assert!(test_complaint("it::tables::declares").is_some(), "it is no test");
    assert_eq!(test_complaint("it::tables::missing_test_or_code_is_detected"), None);
    assert!(code_complaint("config.rs::max_stream").is_some());
    assert_eq!(code_complaint("config.rs::max_streams"), None);
    assert_eq!(code_complaint("connection/joins/claims.rs::MAX_CLAIMS"), None);
    assert!(code_complaint("nowhere.rs::MAX_CLAIMS").is_some());
}
