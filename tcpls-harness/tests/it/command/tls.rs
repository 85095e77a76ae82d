//! `--tls`: the command with OpenSSL.

use super::{Tcpls, command, get_line};
use crate::support::{Directory, pattern};

#[tokio::test(flavor = "multi_thread")]
async fn get_and_serve_work_with_either_tls_library() {
    for library in ["rustls", "openssl"] {
        let directory = Directory::new(&format!("tls-{library}"));
        let (_server, address) = Tcpls::serve(directory.path(), &["--tls", library]).await;
        std::fs::write(directory.path().join("root/file"), pattern(300_000)).unwrap();
        for client in ["rustls", "openssl", "openssl-extensions"] {
            let mut line = get_line(directory.path(), &address, "file");
            line.extend(["--json", "--tls", client].map(str::to_owned));
            let output = command(&[]).args(line).output().await.unwrap();
            assert!(output.status.success(), "{client} with {library}: {output:?}");
            let received = directory.path().join("out/file");
            assert!(std::fs::read(&received).unwrap() == pattern(300_000), "{client} with {library}");
            std::fs::remove_file(received).unwrap();
        }
    }
}

#[tokio::test]
async fn unknown_tls_library_is_refused() {
    let output = command(&["get", "--tls", "other", "https://localhost/file"]).output().await.unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.code() == Some(2) && text.contains("openssl-extensions"), "{text}");
}
