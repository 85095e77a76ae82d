//! `get` with options for where files go: a later run that continues, and standard output.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;
use tcpls_harness::files::{Limits, PROTOCOL, Refusal};
use tcpls_harness::net::{Listener, ServerOptions, Stream};
use tcpls_harness::relay::{PathOptions, Relay};
use tokio::io::AsyncReadExt;

use super::{Tcpls, command, get_line};
use crate::file_server::FileServer;
use crate::library;
use crate::refusals::overhear;
use crate::support::{ANY, Directory, identity, pattern};

const LEN: usize = 8 << 20;

/// A run over a path that lets 4 MB through in a second, after it has written something.
async fn writing(directory: &Path, address: &str, more: &[&str]) -> (Tcpls, Relay) {
    let options = PathOptions::default().with(|path| path.rate = Some(4_000_000));
    let relay = Relay::start(ANY, address.parse().unwrap(), options).unwrap();
    let line = get_line(directory, &relay.address().to_string(), "file");
    let get = Tcpls::start(&line.iter().map(String::as_str).chain(more.iter().copied()).collect::<Vec<_>>());
    let is_written = || {
        let mut entries = std::fs::read_dir(directory.join("out")).into_iter().flatten().flatten();
        entries.any(|entry| {
            let is_new = entry.path().extension().is_some_and(|extension| extension == "part");
            is_new && entry.metadata().is_ok_and(|metadata| metadata.len() > 0)
        })
    };
    while !is_written() {
        tokio::task::yield_now().await;
    }
    (get, relay)
}

/// A run that SIGINT ends after it has written something. Returns what it says.
async fn interrupted(directory: &Path, address: &str) -> String {
    let (get, _relay) = writing(directory, address, &[]).await;
    get.signal("INT");
    let (status, text) = get.end().await;
    assert_eq!(status.code(), Some(130), "{text}");
    text
}

/// The report of a run with `--continue`.
async fn continued(directory: &Path, address: &str) -> Value {
    let mut line = get_line(directory, address, "file");
    line.extend(["--json", "-C"].map(str::to_owned));
    let output = command(&[]).args(line).output().await.unwrap();
    assert!(output.status.success(), "{output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn get_continues_what_an_earlier_run_left_unless_the_file_changed() {
    let directory = Directory::new("continued");
    let (_server, address) = Tcpls::serve(directory.path(), &[]).await;
    let (path, out) = (directory.path().join("root/file"), directory.path().join("out"));
    std::fs::write(&path, pattern(LEN)).unwrap();
    let text = interrupted(directory.path(), &address).await;
    assert!(text.contains("-C continues incomplete files"), "{text}");
    let left = out.join("file.tcpls-part").metadata().unwrap().len();
    assert!(left > 0 && !out.join("file").exists());
    let report = continued(directory.path(), &address).await;
    let counts = ["bytes", "bytes_continued", "bytes_received"].map(|name| report[name].as_u64().unwrap());
    assert_eq!(counts, [LEN as u64, left, LEN as u64 - left]);
    assert!(std::fs::read(out.join("file")).unwrap() == pattern(LEN));
    assert_eq!(std::fs::read_dir(&out).unwrap().count(), 1);

    interrupted(directory.path(), &address).await;
    assert!(out.join("file.tcpls-part").exists());
    std::fs::write(&path, vec![7; LEN]).unwrap();
    let report = continued(directory.path(), &address).await;
    assert_eq!((&report["bytes_continued"], &report["bytes_received"]), (&0.into(), &LEN.into()));
    assert!(std::fs::read(out.join("file")).unwrap() == vec![7; LEN]);
    assert_eq!(std::fs::read_dir(&out).unwrap().count(), 1);
}

#[tokio::test]
async fn get_writes_to_standard_output_or_to_the_file_that_is_named() {
    let directory = Directory::new("output-file");
    let (_server, address) = Tcpls::serve(directory.path(), &[]).await;
    std::fs::write(directory.path().join("root/file"), pattern(LEN)).unwrap();
    let (ca, named) = (directory.path().join("ca.pem"), directory.path().join("named"));
    let get = |to: &str| {
        let mut get = command(&["get", "--connect", &address, "--ca", ca.to_str().unwrap(), "-O", to]);
        get.arg("https://localhost/file");
        async move { get.output().await.unwrap() }
    };
    let output = get("-").await;
    assert!(output.status.success() && output.stdout == pattern(LEN), "{:?}", String::from_utf8_lossy(&output.stderr));
    let output = get(named.to_str().unwrap()).await;
    assert!(output.status.success() && output.stdout.is_empty(), "{output:?}");
    assert!(std::fs::read(named).unwrap() == pattern(LEN));
}

/// The ClientHello of a join, of a client and a server with these options.
async fn hello_of_a_join(name: &str, client: &[&str], server: &[&str]) -> Vec<u8> {
    let directory = Directory::new(name);
    let (_server, address) = Tcpls::serve(directory.path(), server).await;
    std::fs::write(directory.path().join("root/file"), pattern(LEN)).unwrap();
    let options = PathOptions::default().with(|path| path.rate = Some(20_000_000));
    let first = Relay::start(ANY, address.parse().unwrap(), options).unwrap();
    // The client dials this one when the server's tickets have arrived.
    let (second, overheard) = overhear(address.parse().unwrap()).await;
    let mut line = get_line(directory.path(), &first.address().to_string(), "file");
    line.extend(["--migrate".to_owned(), format!("0.1:{second}")]);
    line.extend(client.iter().map(ToString::to_string));
    let output = command(&[]).args(line).output().await.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(std::fs::read(directory.path().join("out/file")).unwrap() == pattern(LEN));
    let join = overheard.await.unwrap();
    join[..5 + usize::from(u16::from_be_bytes([join[3], join[4]]))].to_vec()
}

#[tokio::test(flavor = "multi_thread")]
async fn get_joins_by_tls_resumptions_unless_an_end_refuses() {
    const OFF: [&str; 1] = ["--no-resumed-joins"];
    for (name, client, server, is_drafts) in [
        ("resumed-joins", &[][..], &[][..], false),
        ("drafts-joins-of-get", &OFF[..], &[][..], true),
        ("drafts-joins-of-serve", &[][..], &OFF[..], true),
    ] {
        let hello = hello_of_a_join(name, client, server).await;
        let has_extension = hello.windows(4).any(|bytes| bytes == [0xff, 0x61, 0, 32]);
        assert_eq!(has_extension, is_drafts, "{name}: {hello:02x?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn get_continues_where_it_was_after_its_server_was_killed() {
    let directory = Directory::new("get-killed");
    let (server, address) = Tcpls::serve(directory.path(), &[]).await;
    std::fs::write(directory.path().join("root/file"), pattern(LEN)).unwrap();
    let (mut get, _relay) = writing(directory.path(), &address, &["--json"]).await;
    server.signal("KILL");
    server.end().await;
    let (_server, _) = Tcpls::serve(directory.path(), &["--listen", &address]).await;
    let report = get.lines.next_line().await.unwrap().unwrap();
    let (status, text) = get.end().await;
    assert!(status.success(), "{text}");
    let report: Value = serde_json::from_str(&report).unwrap();
    assert!(report["sessions"].as_u64() > Some(1), "{report}");
    assert_eq!(report["bytes_received"], LEN, "each byte was received once");
    assert!(text.contains(" to 127.0.0.1:") && text.contains(" lost: "), "{text}");
    assert!(text.matches("did not join: alert 47").count() <= 1, "the new server's refusals are reported once: {text}");
    assert!(std::fs::read(directory.path().join("out/file")).unwrap() == pattern(LEN));
}

#[tokio::test(flavor = "multi_thread")]
async fn reader_of_standard_output_may_take_a_break_that_is_too_long_for_the_server() {
    let directory = Directory::new("output-stalled");
    std::fs::write(directory.path().join("file"), pattern(LEN)).unwrap();
    let limits = Limits { patience: Duration::from_secs(1), ..Limits::default() };
    let mut server = FileServer::start(directory.path(), limits);
    let ca = directory.path().join("ca.pem");
    std::fs::write(&ca, server.identity.certificate_pem()).unwrap();
    let address = server.address.to_string();
    let mut get = command(&["get", "--connect", &address, "--ca", ca.to_str().unwrap(), "-O", "-"]);
    let mut get = get.arg("https://localhost/file").spawn().unwrap();
    assert_eq!(server.outcomes.recv().await, Some(Err(Refusal::Stalled)));
    let mut received = Vec::new();
    get.stdout.take().unwrap().read_to_end(&mut received).await.unwrap();
    let output = get.wait_with_output().await.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(received == pattern(LEN), "{} bytes", received.len());
}

/// Reads the head of a request, and answers one for a rest with 416, another with `content`. Returns the head.
async fn answer_without_rest(mut stream: Stream, content: &[u8]) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.extend_from_slice(&stream.read_chunk(4096).await.unwrap().unwrap());
    }
    let head = String::from_utf8(head).unwrap();
    let answer = if head.contains("\r\nRange: ") {
        b"HTTP/1.1 416 Range Not Satisfiable\r\nContent-Range: bytes */3\r\nContent-Length: 0\r\n\r\n".to_vec()
    } else {
        let fields = format!("HTTP/1.1 200 OK\r\nETag: \"b\"\r\nContent-Length: {}\r\n\r\n", content.len());
        [fields.as_bytes(), content].concat()
    };
    stream.write_chunk(answer.into()).await.unwrap();
    stream.finish().unwrap();
    while let Ok(Some(_)) = stream.read_chunk(4096).await {}
    head
}

#[tokio::test]
async fn get_begins_anew_if_the_server_has_no_rest_of_what_an_earlier_run_left() {
    let directory = Directory::new("no-rest");
    let (identity, out) = (identity(), directory.path().join("out"));
    std::fs::write(directory.path().join("ca.pem"), identity.certificate_pem()).unwrap();
    std::fs::create_dir_all(&out).unwrap();
    std::fs::write(out.join("file.tcpls-part"), "four").unwrap();
    std::fs::write(out.join("file.tcpls-part.etag"), "4\n\"a\"\n").unwrap();
    let options = ServerOptions::new(library::server(&identity, PROTOCOL));
    let mut listener = Listener::bind(&[ANY], options).unwrap();
    let address = listener.local_addresses()[0].to_string();
    let heads = Arc::new(Mutex::new(Vec::new()));
    let seen = heads.clone();
    let server = tokio::spawn(async move {
        let session = listener.accept().await;
        while let Some(stream) = session.accept_stream().await {
            let head = answer_without_rest(stream, b"new").await;
            seen.lock().unwrap().push(head);
        }
    });
    let report = continued(directory.path(), &address).await;
    server.await.unwrap();
    let counts = ["bytes", "bytes_continued", "bytes_received"].map(|name| report[name].as_u64().unwrap());
    assert_eq!(counts, [3, 0, 3]);
    assert_eq!(std::fs::read(out.join("file")).unwrap(), b"new");
    let heads = heads.lock().unwrap();
    let ranges = heads.iter().map(|head| head.contains("\r\nRange: bytes=4-\r\nIf-Range: \"a\"\r\n"));
    assert_eq!(ranges.collect::<Vec<_>>(), [true, false], "{heads:?}");
}

/// An interface of this host with a link-local address of IPv6 that can be used, and the address.
#[cfg(target_os = "linux")]
fn link_local() -> Option<(String, std::net::Ipv6Addr)> {
    const LINK: &str = "20";
    const UNUSABLE: u32 = 0x40 | 0x8; // include/uapi/linux/if_addr.h: tentative, duplicate
    let table = std::fs::read_to_string("/proc/net/if_inet6").ok()?;
    table.lines().find_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let [address, _, _, scope, flags, name] = fields[..] else { return None };
        let is_usable = u32::from_str_radix(flags, 16).ok()? & UNUSABLE == 0;
        let address = u128::from_str_radix(address, 16).ok()?;
        (scope == LINK && is_usable).then(|| (name.to_owned(), address.into()))
    })
}

/// Where no interface has such an address, there is nothing to check.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn get_takes_a_url_with_the_zone_of_an_ipv6_address_by_name() {
    let Some((interface, address)) = link_local() else { return };
    let directory = Directory::new("zone");
    let (root, ca) = (directory.path().to_str().unwrap(), directory.path().join("ca.pem"));
    std::fs::write(directory.path().join("file"), "content").unwrap();
    let listen = format!("[{address}%{interface}]:0");
    let line = ["serve", "--json", "--listen", &listen, "--root", root, "--ca-out", ca.to_str().unwrap()];
    let mut server = Tcpls::start(&line);
    let listening = server.event("listening").await;
    let port = listening["addresses"][0].as_str().unwrap().rsplit_once(':').unwrap().1;
    for sign in ["%", "%25"] {
        let url = format!("https://[{address}{sign}{interface}]:{port}/file");
        let output = command(&["get", "--ca", ca.to_str().unwrap(), "-O", "-", &url]).output().await.unwrap();
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && output.stdout == b"content", "{url}: {text}");
    }
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn interface_that_does_not_exist_yet_is_named_and_other_paths_are_used() {
    let directory = Directory::new("absent");
    let (_server, address) = Tcpls::serve(directory.path(), &[]).await;
    std::fs::write(directory.path().join("root/file"), pattern(LEN)).unwrap();
    let ca = directory.path().join("ca.pem");
    let line = ["get", "--connect", &address, "--ca", ca.to_str().unwrap(), "-O", "-", "https://localhost/file"];
    let output = command(&line).args(["--path", "absent0", "--path", "lo"]).output().await.unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && output.stdout == pattern(LEN), "{text}");
    assert!(text.contains("can't bind to absent0: No such device"), "{text}");
    let output = command(&line).args(["--path", "absent0"]).output().await.unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && text.contains("can't bind to absent0: No such device"), "{text}");
}
