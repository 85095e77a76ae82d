//! `--qlog` and `QLOGDIR`.

use serde_json::Value;

use super::{Tcpls, command, get_line};
use crate::support::Directory;

/// The last event of each file in a directory, by the end of the file's name.
fn last_events(directory: &std::path::Path) -> Vec<(String, Value)> {
    let files = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let last = |path: std::path::PathBuf| {
        let text = std::fs::read_to_string(&path).unwrap();
        let side = path.to_str().unwrap().rsplit('-').next().unwrap().to_owned();
        (side, serde_json::from_str(text.rsplit('\x1e').next().unwrap()).unwrap())
    };
    files.map(last).collect()
}

#[tokio::test]
async fn option_and_variable_name_the_directory_of_qlog_files() {
    let directory = Directory::new("qlog-command");
    let (by_option, by_variable) = (directory.path().join("option/new"), directory.path().join("variable"));
    let (server, address) = Tcpls::serve(directory.path(), &["--qlog", by_option.to_str().unwrap()]).await;
    std::fs::create_dir_all(directory.path().join("out")).unwrap();
    std::fs::write(directory.path().join("root/file"), vec![7; 100_000]).unwrap();
    let mut get = command(&[]);
    get.args(get_line(directory.path(), &address, "file")).env("QLOGDIR", &by_variable);
    let output = get.output().await.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    server.signal("TERM");
    let (status, text) = server.end().await;
    assert!(status.success() && !text.contains("qlog"), "{text}");
    for (directory, side) in [(&by_option, "server.sqlog"), (&by_variable, "client.sqlog")] {
        let [(end, last)] = &last_events(directory)[..] else { panic!("not one file in {directory:?}") };
        assert_eq!((&end[..], &last["name"]), (side, &"tcpls:closed".into()), "{last}");
    }
}

#[tokio::test]
async fn directory_for_qlog_that_cannot_be_created_is_an_error_that_names_it() {
    let directory = Directory::new("qlog-error");
    std::fs::write(directory.path().join("file"), "").unwrap();
    let inside = directory.path().join("file/traces");
    let mut get = command(&["get", "--connect", "127.0.0.1:1", "--insecure", "https://localhost/file"]);
    let output = get.env("QLOGDIR", &inside).output().await.unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains(inside.to_str().unwrap()) && text.contains("--qlog"), "{text}");
}
