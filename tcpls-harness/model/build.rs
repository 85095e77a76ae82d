//! Takes the modules under test from the harness, with a switch at each place where a bug can be planted.

// A panic fails the build, with the place.
#![allow(clippy::unwrap_used, unreachable_pub)]

use std::path::{Path, PathBuf};
use std::{env, fs};

#[path = "src/plants.rs"]
mod plants;

use plants::PLANTS;

/// What is taken from the harness: below its `src`.
const TAKEN: [&str; 11] = [
    "dial",
    "net/account",
    "net/reach.rs",
    "net/runtime.rs",
    "net/session",
    "net/task",
    "net/tcp_option",
    "rate_limit.rs",
    "cli/output/screen.rs",
    "cli/output/sink.rs",
    "sim/applications/handles.rs",
];

fn main() {
    let source = Path::new(&env::var_os("CARGO_MANIFEST_DIR").unwrap()).join("../src");
    let copy = PathBuf::from(env::var_os("OUT_DIR").unwrap()).join("src");
    println!("cargo::rerun-if-changed=src/plants.rs");
    let mut found = vec![0; PLANTS.len()];
    for taken in TAKEN {
        println!("cargo::rerun-if-changed={}", source.join(taken).display());
        take(&source, &copy, Path::new(taken), &mut found);
        let name = Path::new(taken).file_stem().unwrap().to_str().unwrap();
        let path = copy.join(taken);
        let path = if path.is_dir() { path.join("mod.rs") } else { path };
        let module = format!("#[path = {:?}]\npub(crate) mod {name};\n", path.display());
        fs::write(copy.join(format!("{name}.include")), module).unwrap();
    }
    for (plant, times) in PLANTS.iter().zip(found) {
        // A change of the code takes its plants along: to where the bug would be now.
        assert_eq!(
            times,
            plant.changes.len(),
            "{}: each text of src/plants.rs must be in {} once",
            plant.name,
            plant.file
        );
    }
}

fn take(source: &Path, copy: &Path, taken: &Path, found: &mut [usize]) {
    let (from, to) = (source.join(taken), copy.join(taken));
    if from.is_dir() {
        for entry in fs::read_dir(from).unwrap() {
            take(source, copy, &taken.join(entry.unwrap().file_name()), found);
        }
        return;
    }
    // Without the unit tests, which need sockets and locks of their own.
    let mut text = fs::read_to_string(&from).unwrap_or_else(|error| panic!("{}: {error}", from.display()));
    text = text.replace("#[cfg(test)]", "#[cfg(any())]");
    for (plant, times) in PLANTS.iter().zip(found).filter(|(plant, _)| Path::new(plant.file) == taken) {
        for (right, wrong) in plant.changes {
            if text.matches(right).count() == 1 {
                text = text.replace(right, &wrong.replace("PLANTED", &format!("crate::is_planted({:?})", plant.name)));
                *times += 1;
            }
        }
    }
    fs::create_dir_all(to.parent().unwrap()).unwrap();
    fs::write(to, text).unwrap();
}
