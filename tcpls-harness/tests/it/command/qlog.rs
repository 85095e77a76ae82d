//! `--qlog` and `QLOGDIR`.

use serde_json::Value;

use super::{Tcpls, command, get_line};
use crate::support::Directory;

/// The last event of each file in a directory, by the end of the file's name.
pub(super) fn last_events(directory: &std::path::Path) -> Vec<(String, Value)> {
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

/// A directory that cannot be created.
fn unusable(directory: &Directory) -> std::path::PathBuf {
    std::fs::write(directory.path().join("no-directory"), "").unwrap();
    directory.path().join("no-directory/traces")
}

#[tokio::test]
async fn directory_for_qlog_that_cannot_be_created_is_an_error_that_names_it() {
    let directory = Directory::new("qlog-error");
    let inside = unusable(&directory);
    let inside = inside.to_str().unwrap();
    // Nothing listens there: the directory is looked at before.
    let get = ["get", "--qlog", inside, "--connect", "127.0.0.1:1", "--insecure", "https://localhost/file"];
    let output = command(&get).output().await.unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains(inside) && text.contains("--qlog") && !text.contains("127.0.0.1"), "{text}");
}

#[tokio::test]
async fn qlogdir_that_cannot_be_created_is_a_warning_and_the_command_works() {
    let directory = Directory::new("qlog-warning");
    let inside = unusable(&directory);
    let (server, address) = Tcpls::serve(directory.path(), &[]).await;
    std::fs::create_dir_all(directory.path().join("out")).unwrap();
    std::fs::write(directory.path().join("root/file"), "content").unwrap();
    let mut get = command(&[]);
    let output = get.args(get_line(directory.path(), &address, "file")).env("QLOGDIR", &inside).output().await.unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{text}");
    assert_eq!(text.matches(inside.to_str().unwrap()).count(), 1, "{text}");
    drop(server);
}

#[tokio::test]
async fn commands_without_sessions_leave_qlogdir_alone_and_refuse_the_option() {
    let directory = Directory::new("qlog-none");
    let (bad, good) = (unusable(&directory), directory.path().join("traces"));
    for variable in [&bad, &good] {
        let output = command(&["completions", "bash"]).env("QLOGDIR", variable).output().await.unwrap();
        assert!(output.status.success() && output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    for line in [&["completions", "bash"][..], &["sim", "swarm", "--seeds", "0..1"]] {
        let output = command(&["--qlog", good.to_str().unwrap()]).args(line).output().await.unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{text}");
        assert!(text.contains("--qlog: this command writes no qlog files"), "{text}");
    }
    assert!(!good.exists());
}

#[tokio::test]
async fn simulated_sessions_have_files_with_virtual_times() {
    let directory = Directory::new("qlog-sim");
    let traces = directory.path().join("traces");
    let scenario = directory.path().join("scenario.toml");
    let text = "title = \"t\"\n[[path]]\nname = \"a\"\nrate = \"25Mbit/s\"\ndelay = \"10ms\"\n\
                [[transfer]]\nat = \"1s\"\nreceive = \"30kB\"\n";
    std::fs::write(&scenario, text).unwrap();
    let output = command(&["sim", "run", scenario.to_str().unwrap(), "--qlog", traces.to_str().unwrap()])
        .output()
        .await
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let mut last = last_events(&traces);
    last.sort_by(|(one, _), (other, _)| one.cmp(other));
    let [client, server] = &last[..] else { panic!("{last:?}") };
    assert_eq!([&client.0[..], &server.0], ["client.sqlog", "server.sqlog"]);
    for (side, event) in last {
        assert_eq!(event["name"], "tcpls:closed", "{side}: {event}");
    }
}
