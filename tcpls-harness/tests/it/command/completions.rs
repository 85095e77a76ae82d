//! What is made from the help texts: completion by shells, and manual pages.

use std::io::Write;
use std::process::Stdio;

use super::command;
use crate::support::Directory;

/// Runs bash with a script on standard input; `None`, with a note, if there is no bash.
fn bash(arguments: &[&str], script: &str) -> Option<std::process::Output> {
    let mut shell = std::process::Command::new("bash");
    shell.args(["--norc", "--noprofile"]).args(arguments);
    let spawned = shell.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let Ok(mut child) = spawned else {
        println!("skipped: bash can't be run");
        return None;
    };
    child.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
    Some(child.wait_with_output().unwrap())
}

#[tokio::test]
async fn bash_completes_commands_and_options() {
    let output = command(&["completions", "bash"]).output().await.unwrap();
    assert!(output.status.success(), "{output:?}");
    let script = String::from_utf8(output.stdout).unwrap();
    let Some(checked) = bash(&["-n"], &script) else { return };
    assert!(checked.status.success() && checked.stderr.is_empty(), "{checked:?}");
    for (line, wanted) in [("tcpls so", "socks"), ("tcpls forward --local-f", "--local-forward")] {
        let (before, word) = line.rsplit_once(' ').unwrap();
        let previous = before.rsplit(' ').next().unwrap();
        let last = line.split(' ').count() - 1;
        let ask = format!(
            "{script}\nCOMP_WORDS=({line}); COMP_CWORD={last}; _tcpls tcpls {word} {previous}; echo \"${{COMPREPLY[@]}}\""
        );
        let completed = bash(&[], &ask).unwrap();
        assert_eq!(String::from_utf8(completed.stdout).unwrap().trim(), wanted, "{line}");
    }
}

#[tokio::test]
async fn an_unknown_shell_is_refused_with_the_known_ones() {
    let output = command(&["completions", "tcsh"]).output().await.unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && text.contains("bash") && text.contains("fish"), "{text}");
}

#[tokio::test]
async fn man_writes_the_pages_of_all_commands_to_a_directory() {
    let directory = Directory::new("man");
    let out = directory.path().join("share/man1");
    let output = command(&["man", "--out", out.to_str().unwrap()]).output().await.unwrap();
    assert!(output.status.success() && output.stdout.is_empty(), "{output:?}");
    let read = |name: &str| std::fs::read_to_string(out.join(name)).unwrap();
    for (name, text) in [("tcpls.1", ".SH SUBCOMMANDS"), ("tcpls-proxy.1", "\\-\\-allow\\-remote")] {
        assert!(read(name).contains(text), "{name}");
    }
    assert!(read("tcpls-proxy-invite-add.1").contains(".TH"));
    let file = out.join("tcpls.1");
    let output = command(&["man", "--out", file.to_str().unwrap()]).output().await.unwrap();
    assert!(!output.status.success(), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("can't write manual pages to "), "{output:?}");
}
