//! Compares the table of the draft's statements in `docs/protocol.md` with the source: every statement has one row, and
//! the code and tests of a row exist and cite the statement. So neither can change without the other.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// The reasons for which a statement may have no code or no test here.
const EXCUSES: [&str; 4] = ["operating system", "other provider", "caller's part", "not yet"];

/// One row of the table.
struct Row {
    id: String,
    /// `file::function`, or a file alone, from `src`.
    code: Vec<String>,
    /// A path as `cargo test` prints it, after the name of the test binary.
    tests: Vec<String>,
    note: String,
}

pub(crate) fn crate_root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

pub(crate) fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn rows() -> Vec<Row> {
    let page = read(&crate_root().join("../docs/protocol.md"));
    page.lines().filter_map(row).collect()
}

fn row(line: &str) -> Option<Row> {
    let cells: Vec<&str> = line.strip_prefix("| ")?.strip_suffix('|')?.split(" | ").map(str::trim).collect();
    let &[id, _section, _statement, code, tests, note] = &cells[..] else { return None };
    is_id(id).then(|| Row { id: id.into(), code: quoted(code), tests: quoted(tests), note: note.into() })
}

/// The pieces of `cell` between backticks.
pub(crate) fn quoted(cell: &str) -> Vec<String> {
    cell.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

/// `E01`, `I47` …
fn is_id(text: &str) -> bool {
    let (kind, number) = text.split_at_checked(1).unwrap_or_default();
    ["E", "I"].contains(&kind) && number.len() == 2 && number.parse::<u32>().is_ok()
}

fn all_ids() -> Vec<String> {
    let of = |kind: &'static str, last: u32| (1..=last).map(move |n| format!("{kind}{n:02}"));
    of("E", 20).chain(of("I", 47)).collect()
}

/// Whether `text` says "draft" and then, alone or in a list or in a range, `id`.
fn cites(text: &str, id: &str) -> bool {
    text.split("draft ").skip(1).any(|list| {
        let (mut rest, mut last) = (list, None::<&str>);
        while let Some((found, after)) = rest.split_at_checked(3).filter(|(found, _)| is_id(found)) {
            let in_range = last.is_some_and(|from| from[..1] == id[..1] && from < id && id < found);
            if found == id || in_range {
                return true;
            }
            let separators = [", ", " and ", "–"];
            let Some(separator) = separators.into_iter().find(|separator| after.starts_with(separator)) else { break };
            last = (separator == "–").then_some(found);
            rest = &after[separator.len()..];
        }
        false
    })
}

/// Every function or type of this name in `text`, with the comments and attributes above it.
pub(crate) fn items<'a>(text: &'a str, name: &str) -> Vec<String> {
    let lines: Vec<&'a str> = text.lines().collect();
    let is_it = |line: &str| {
        let line = line.trim_start();
        !line.starts_with("//") && ["fn", "struct"].iter().any(|kind| declares(line, kind, name))
    };
    (0..lines.len()).filter(|at| is_it(lines[*at])).map(|at| item_at(&lines, at)).collect()
}

fn declares(line: &str, kind: &str, name: &str) -> bool {
    let declared =
        line.split_once(&format!("{kind} ")).filter(|(before, _)| before.is_empty() || before.ends_with(' '));
    let after = declared.and_then(|(_, after)| after.strip_prefix(name));
    after.is_some_and(|after| after.starts_with(['(', '<', ' ', ';']))
}

fn item_at(lines: &[&str], at: usize) -> String {
    let belongs = |line: &&&str| line.trim_start().starts_with("//") || line.trim_start().starts_with("#[");
    let above = lines[..at].iter().rev().take_while(belongs).count();
    let indent = lines[at].len() - lines[at].trim_start().len();
    let end = format!("{}}}", " ".repeat(indent));
    let below = if lines[at].ends_with(';') { 0 } else { lines[at..].iter().take_while(|line| ***line != end).count() };
    lines[at - above..(at + below + 1).min(lines.len())].join("\n")
}

/// The error in a reference to `name` (empty: the whole file) in `file`, if any.
fn complaint(file: &Path, name: &str, id: &str) -> Option<String> {
    let Ok(text) = fs::read_to_string(file) else { return Some(format!("{}: there is no such file", file.display())) };
    let places = if name.is_empty() { vec![text] } else { items(&text, name) };
    let what = format!("{id}: {} {name}", file.display());
    match places.as_slice() {
        [] => Some(format!("{what} is not there")),
        places if places.iter().any(|place| cites(place, id)) => None,
        _ => Some(format!("{what} does not cite `draft {id}`")),
    }
}

fn code_complaint(reference: &str, id: &str) -> Option<String> {
    let (file, function) = reference.split_once("::").unwrap_or((reference, ""));
    complaint(&crate_root().join("src").join(file), function, id)
}

fn test_complaint(reference: &str, id: &str) -> Option<String> {
    let path: Vec<&str> = reference.split("::").collect();
    let [binary, modules @ .., test] = &path[..] else {
        return Some(format!("{id}: {reference} is no path of a test"));
    };
    let file = match *binary {
        "tcpls_core" => source_of(modules),
        "it" => crate_root().join("tests/it").join(modules.join("/")).with_extension("rs"),
        alone => crate_root().join("tests").join(alone).with_extension("rs"),
    };
    complaint(&file, test, id).or_else(|| is_test(&file, test).err())
}

fn is_test(file: &Path, name: &str) -> Result<(), String> {
    let marked = items(&read(file), name).iter().any(|item| item.contains("#[test]"));
    if marked { Ok(()) } else { Err(format!("{} {name} is no test", file.display())) }
}

/// The file of a module: tests may be in a file of their own or at the end of the file that they test.
pub(crate) fn source_of(modules: &[&str]) -> PathBuf {
    let tested = modules.strip_suffix(&["tests"]).unwrap_or(modules);
    let places = [modules, tested].map(|modules| crate_root().join("src").join(modules.join("/")));
    let files = places.iter().flat_map(|place| [place.with_extension("rs"), place.join("mod.rs")]);
    files.into_iter().find(|file| file.exists()).unwrap_or_else(|| places[0].with_extension("rs"))
}

#[test]
fn every_statement_of_the_draft_has_exactly_one_row() {
    let mut count = BTreeMap::<String, usize>::new();
    rows().into_iter().for_each(|row| *count.entry(row.id).or_default() += 1);
    let expected: BTreeMap<String, usize> = all_ids().into_iter().map(|id| (id, 1)).collect();
    assert_eq!(count, expected);
}

#[test]
fn code_and_tests_of_a_row_exist_and_cite_the_statement() {
    let code = |row: &Row| row.code.iter().filter_map(|code| code_complaint(code, &row.id)).collect::<Vec<_>>();
    let tests = |row: &Row| row.tests.iter().filter_map(|test| test_complaint(test, &row.id)).collect::<Vec<_>>();
    let complaints: Vec<String> = rows().iter().flat_map(|row| [code(row), tests(row)].concat()).collect();
    assert!(complaints.is_empty(), "{complaints:#?}");
}

#[test]
fn statement_without_code_or_test_has_a_reason() {
    for row in rows().iter().filter(|row| row.code.is_empty() || row.tests.is_empty()) {
        assert!(EXCUSES.iter().any(|excuse| row.note.contains(excuse)), "{}: {:?}", row.id, row.note);
    }
}

#[test]
fn no_two_decisions_share_a_number() {
    let page = read(&crate_root().join("../docs/protocol.md"));
    let numbers = page.split("**Decision D").skip(1).map(|rest| rest.split('.').next().unwrap_or_default());
    let mut seen = std::collections::BTreeSet::new();
    for number in numbers {
        assert!(number.parse::<u32>().is_ok() && seen.insert(number), "D{number}");
    }
    assert!(seen.len() >= 72);
}

#[test]
fn citations_are_found_alone_in_lists_and_in_ranges_and_nowhere_else() {
    for text in ["// draft I05", "(draft E01, I05)", "draft I03–I07.", "draft I04 and I05", "draft I01, I03–I06"] {
        assert!(cites(text, "I05"), "{text}");
    }
    for text in ["I05", "draft-04 I05", "draft I04", "draft E03–E07", "draft I04. I05", "draft, I05", "draft I06, I07"]
    {
        assert!(!cites(text, "I05"), "{text}");
    }
}
