//! Every input in `fuzz/corpus` satisfies its property: findings of earlier fuzzing, and inputs that reach most of the
//! code.

use std::fs;
use std::path::PathBuf;

use tcpls_fuzz_properties as properties;

/// A folder of `fuzz`.
fn folder(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..").join(name)
}

/// The names in it, without extensions, in order.
fn names(folder: PathBuf) -> Vec<String> {
    let entries = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let name = |path: PathBuf| path.file_stem().expect("it has a name").to_string_lossy().into_owned();
    let mut names: Vec<String> = entries.map(|entry| name(entry.expect("it can be read").path())).collect();
    names.sort();
    names
}

/// All inputs of one target.
fn run(target: &str, property: fn(&[u8])) {
    let corpus = folder("corpus").join(target);
    let inputs = names(corpus.clone());
    assert!(!inputs.is_empty(), "{} has no inputs", corpus.display());
    for input in inputs {
        println!("{target}/{input}"); // shown if it panics
        property(&fs::read(corpus.join(&input)).expect("it can be read"));
    }
}

macro_rules! corpora {
    ($($target:ident)*) => {
        $(
            #[test]
            fn $target() {
                run(stringify!($target), properties::$target);
            }
        )*

        #[test]
        fn every_target_has_its_corpus_here() {
            let all = [$(stringify!($target)),*];
            assert_eq!(names(folder("fuzz_targets")), all);
            assert_eq!(names(folder("corpus")), all);
        }
    };
}

corpora! { acks bytes capture early files frame hello invite joins ops program proxy proxy_header reassembly record replay token view }
