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

#[tokio::test(flavor = "multi_thread")]
async fn openssl_accepts_the_renewed_certificate_of_a_server_that_keeps_its_key() {
    let directory = Directory::new("tls-renewed");
    let state = directory.path().join("state");
    let arguments = ["--tls", "openssl", "--state", state.to_str().unwrap()];
    let (server, _) = Tcpls::serve(directory.path(), &arguments).await;
    let ca = directory.path().join("ca.pem");
    let first = std::fs::read_to_string(&ca).unwrap();
    server.signal("TERM");
    server.end().await;
    let (_server, address) = Tcpls::serve(directory.path(), &[&arguments[..], &["--name", "b.example"]].concat()).await;
    assert_ne!(std::fs::read_to_string(&ca).unwrap(), first, "another certificate");
    std::fs::write(&ca, &first).unwrap();
    std::fs::write(directory.path().join("root/file"), "contents").unwrap();
    for client in ["rustls", "openssl"] {
        let mut line = get_line(directory.path(), &address, "file");
        line.extend(["--tls", client].map(str::to_owned));
        let output = command(&[]).args(&line).output().await.unwrap();
        assert!(output.status.success(), "{client}: {output:?}");
        std::fs::remove_file(directory.path().join("out/file")).unwrap();
    }
    // A server with another key.
    let other = directory.path().join("other");
    let (_other, address) =
        Tcpls::serve(directory.path(), &["--tls", "openssl", "--state", other.to_str().unwrap()]).await;
    std::fs::write(&ca, &first).unwrap();
    let mut line = get_line(directory.path(), &address, "file");
    line.extend(["--tls", "openssl"].map(str::to_owned));
    let output = command(&[]).args(&line).output().await.unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && text.contains("it was not issued by a certificate in "), "{text}");
}

#[tokio::test]
async fn unknown_tls_library_is_refused() {
    let output = command(&["get", "--tls", "other", "https://localhost/file"]).output().await.unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.code() == Some(2) && text.contains("openssl-extensions"), "{text}");
}
