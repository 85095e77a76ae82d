//! Files and directories that options name.

use super::command;
use crate::support::{Directory, identity};

const SCENARIO: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/scenarios/black-hole.toml");

/// The error message of the command, which must fail.
async fn fails(line: &[&str]) -> String {
    let output = command(line).output().await.unwrap();
    assert_eq!(output.status.code(), Some(1), "{line:?}: {output:?}");
    String::from_utf8(output.stderr).unwrap()
}

#[tokio::test]
async fn each_error_about_a_file_names_the_file_and_the_cause() {
    let directory = Directory::new("files");
    let at = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    let (cert, key, root) = (at("cert.pem"), at("key.pem"), at("."));
    std::fs::write(&cert, identity().certificate_pem()).unwrap();
    std::fs::write(&key, "").unwrap();
    let missing = at("missing/x.svg");
    let below_file = at("cert.pem/x");
    let serve = ["serve", "--listen", "127.0.0.1:0", "--root"];
    let get = ["get", "--connect", "127.0.0.1:1", "https://localhost/file", "-o", root.as_str()];
    let lines = [
        (vec!["sim", "run", &missing], &missing),
        (vec!["sim", "run", SCENARIO, "--trace", &missing], &missing),
        (vec!["sim", "run", SCENARIO, "--csv", &missing], &missing),
        (vec!["sim", "run", SCENARIO, "--plot", &missing], &missing),
        (vec!["sim", "run", SCENARIO, "--view", &missing], &missing),
        (vec!["view", &missing, "-o", &missing], &missing),
        (vec!["demo", "--view", &missing], &missing),
        (vec!["demo", "--trace-ring", &below_file], &below_file),
        (vec!["sim", "swarm", "--seeds", "0..1", "--save", &below_file], &below_file),
        (vec!["demo", "--file", &missing], &missing),
        (vec!["demo", "--file", &root], &root),
        (vec!["demo", "--plot", &missing], &missing),
        ([&serve[..], &[missing.as_str()]].concat(), &missing),
        ([&serve[..], &[&root, "--cert", &missing, "--key", &key]].concat(), &missing),
        ([&serve[..], &[&root, "--cert", &cert, "--key", &missing]].concat(), &missing),
        ([&serve[..], &[&root, "--cert", &cert, "--key", &key]].concat(), &key),
        ([&serve[..], &[&root, "--client-ca", &missing]].concat(), &missing),
        ([&serve[..], &[&root, "--state", &below_file]].concat(), &below_file),
        ([&serve[..], &[&root, "--ca-out", &missing]].concat(), &missing),
        ([&get[..], &["--ca", &missing]].concat(), &missing),
        ([&get[..], &["--ca", &key]].concat(), &key),
        ([&get[..], &["--cert", &missing, "--key", &key]].concat(), &missing),
        ([&get[..], &["--cert", &cert, "--key", &missing]].concat(), &missing),
        ([&get[..], &["--insecure", "--log", &missing]].concat(), &missing),
        (vec!["get", "https://localhost/file", "--insecure", "-o", &below_file], &below_file),
    ];
    for (line, path) in lines {
        let text = fails(&line).await;
        assert!(text.contains(path.as_str()), "{line:?}: {text}");
        let causes =
            ["No such file", "Not a directory", "File exists", "not a file", "no private key", "no certificate"];
        assert!(causes.iter().any(|cause| text.contains(cause)), "{line:?}: {text}");
    }
}

#[tokio::test]
async fn swarm_makes_the_directory_for_what_it_saves() {
    let directory = Directory::new("saved");
    let saved = directory.path().join("new/directory");
    let line = ["sim", "swarm", "--seeds", "0..1", "--mode", "safety", "--save", saved.to_str().unwrap()];
    let output = command(&line).output().await.unwrap();
    assert!(output.status.success() && saved.is_dir(), "{output:?}");
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn files_that_cannot_be_written_in_full_fail_the_command() {
    for option in ["--trace", "--csv"] {
        let text = fails(&["sim", "run", SCENARIO, option, "/dev/full"]).await;
        assert!(text.contains("can't write /dev/full: No space left on device"), "{text}");
    }
}
