//! OpenSSL's command as a peer without TCPLS, where it is installed.

use std::net::SocketAddr;
use std::process::Stdio;
use std::sync::Arc;

use bytes::Bytes;
use tcpls_core::crypto::TlsServer;
use tcpls_core::error::{AlertDescription, CloseReason, HandshakeErrorKind};
use tcpls_core::wire::ids::ErrorCode;
use tcpls_harness::net::{ClientOptions, ConnectError, Listener, PathFault, ServerOptions, Session};
use tcpls_harness::tls::{Identity, Trust};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, Command};

use crate::library;
use crate::support::{ANY, Directory, PROTOCOL, Server, identity, soon};

/// Starts `openssl` with these arguments; `None`, and a word about it, where there is none.
fn openssl(arguments: &[&str]) -> Option<Child> {
    let mut command = Command::new("openssl");
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    match command.spawn() {
        Ok(child) => Some(child),
        Err(error) => {
            eprintln!("skipped: the openssl command can't be run ({error})");
            None
        }
    }
}

/// `s_server` with a certificate of its own.
struct ForeignServer {
    child: Child,
    address: SocketAddr,
    trust: Trust,
    _directory: Directory,
}

impl ForeignServer {
    async fn start(name: &str, more: &[&str]) -> Option<Self> {
        let directory = Directory::new(name);
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let (cert, key) = (directory.path().join("cert.pem"), directory.path().join("key.pem"));
        std::fs::write(&cert, made.cert.pem()).unwrap();
        std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
        let (cert, key) = (cert.to_str().unwrap(), key.to_str().unwrap());
        let arguments = ["s_server", "-accept", "127.0.0.1:0", "-cert", cert, "-key", key];
        let mut child = openssl(&[&arguments, more].concat())?;
        let mut output = BufReader::new(child.stdout.take().unwrap()).lines();
        let address = loop {
            let line = output.next_line().await.unwrap().expect("s_server ended early");
            if let Some(address) = line.strip_prefix("ACCEPT ") {
                break address.trim().parse().unwrap();
            }
        };
        // What it prints later has to go somewhere.
        tokio::spawn(async move { while let Ok(Some(_)) = output.next_line().await {} });
        Some(Self { child, address, trust: Trust::Pem(made.cert.pem()), _directory: directory })
    }
}

fn text(protocol: &[u8]) -> &str {
    std::str::from_utf8(protocol).unwrap()
}

#[tokio::test]
async fn our_client_falls_back_with_openssl_s_server() {
    // -rev answers each line with the same line backwards.
    let Some(server) = ForeignServer::start("s_server", &["-tls1_3", "-alpn", text(PROTOCOL), "-rev"]).await else {
        return;
    };
    let tls = library::client(&server.trust, PROTOCOL);
    let options = ClientOptions::new(tls, "localhost".try_into().unwrap());
    let session = Session::connect(&[server.address], options).await.unwrap();
    assert!(!session.is_tcpls());
    assert_eq!(session.established().unwrap().application_protocol.as_deref(), Some(PROTOCOL));
    let mut stream = session.open_stream().await.unwrap();
    stream.write_all(b"abcdef\n").await.unwrap();
    let mut answer = [0; 7];
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"fedcba\n");
    stream.finish().unwrap();
    session.close(ErrorCode(0), b"").await;
}

#[tokio::test]
async fn our_server_falls_back_with_openssl_s_client() {
    let mut server = Server::start();
    let directory = Directory::new("s_client");
    let ca = directory.path().join("ca.pem");
    std::fs::write(&ca, server.identity.certificate_pem()).unwrap();
    let (address, ca) = (server.addresses[0].to_string(), ca.to_str().unwrap());
    let alpn = text(PROTOCOL);
    let trust = ["-CAfile", ca, "-verify_return_error", "-verify_hostname", "localhost", "-servername", "localhost"];
    let arguments = [&["s_client", "-connect", &address, "-tls1_3", "-alpn", alpn, "-quiet"][..], &trust].concat();
    let Some(mut client) = openssl(&arguments) else { return };
    let mut input = client.stdin.take().unwrap();
    input.write_all(b"question\n").await.unwrap();
    let session = server.listener.accept().await;
    assert!(!session.is_tcpls());
    let mut stream = session.accept_stream().await.unwrap();
    let mut question = [0; 9];
    stream.read_exact(&mut question).await.unwrap();
    assert_eq!(&question, b"question\n");
    stream.write_chunk(Bytes::from_static(b"answer\n")).await.unwrap();
    stream.finish().unwrap();
    let mut answer = Vec::new();
    client.stdout.take().unwrap().read_to_end(&mut answer).await.unwrap();
    assert_eq!(answer, b"answer\n");
    session.closed().await;
}

/// Servers of each TLS library, with early data.
fn early_servers(identity: &Identity) -> Vec<(&'static str, Arc<dyn TlsServer>)> {
    let rustls = identity.server(&[PROTOCOL]).unwrap().with_early_data().unwrap();
    #[cfg_attr(not(feature = "openssl"), expect(unused_mut))]
    let mut servers: Vec<(_, Arc<dyn TlsServer>)> = vec![("rustls", Arc::new(rustls))];
    #[cfg(feature = "openssl")]
    {
        let openssl = identity.openssl_server_for(&[PROTOCOL], None).unwrap().with_early_data().unwrap();
        servers.push(("openssl", Arc::new(openssl)));
    }
    servers
}

/// Answers the next session, which is plain, once it has brought `question`, and ends it. Returns whether that was early data.
async fn answer(listener: &mut Listener, question: &[u8]) -> bool {
    let session = listener.accept().await;
    assert!(!session.is_tcpls());
    let mut stream = session.accept_stream().await.unwrap();
    let mut received = vec![0; question.len()];
    stream.read_exact(&mut received).await.unwrap();
    assert_eq!(received, question);
    let is_early = stream.is_early();
    stream.write_chunk(Bytes::from_static(b"answer\n")).await.unwrap();
    stream.finish().unwrap();
    session.closed().await;
    is_early
}

#[tokio::test]
async fn s_client_resumes_with_early_data_which_our_servers_accept_once() {
    let identity = identity();
    for (library, tls) in early_servers(&identity) {
        let directory = Directory::new(&format!("s_client-early-{library}"));
        let file = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
        let (ca, ticket, early) = (file("ca.pem"), file("session.pem"), file("early"));
        std::fs::write(&ca, identity.certificate_pem()).unwrap();
        std::fs::write(&early, "early question\n").unwrap();
        let options = ServerOptions::new(tls).with(|options| options.early_data = true);
        let mut listener = Listener::bind(&[ANY], options).unwrap();
        let address = listener.local_addresses()[0].to_string();
        let common = ["s_client", "-connect", &address, "-tls1_3", "-alpn", text(PROTOCOL), "-servername", "localhost"];
        let trust = ["-CAfile", &ca, "-verify_return_error", "-verify_hostname", "localhost"];
        let runs: [(&[&str], &[u8], &[&str]); 3] = [
            (&["-sess_out", &ticket], b"question\n", &["New, TLSv1.3", "Early data was not sent"]),
            (
                &["-sess_in", &ticket, "-early_data", &early],
                b"early question\n",
                &["Reused, TLSv1.3", "Early data was accepted"],
            ),
            // Its ticket again, as in a copy of the first flight.
            (
                &["-sess_in", &ticket, "-early_data", &early],
                b"question\n",
                &["New, TLSv1.3", "Early data was rejected"],
            ),
        ];
        for (run, (arguments, question, expected)) in runs.into_iter().enumerate() {
            let Some(mut client) = openssl(&[&common[..], &trust, arguments].concat()) else { return };
            let mut input = client.stdin.take().unwrap();
            if run != 1 {
                input.write_all(b"question\n").await.unwrap();
            }
            let (is_early, output) =
                soon(async { tokio::join!(answer(&mut listener, question), client.wait_with_output()) }).await;
            let output = output.unwrap();
            let printed = String::from_utf8_lossy(&output.stdout);
            for part in expected.iter().chain(&["ALPN protocol: test", "Verify return code: 0 (ok)", "answer\n"]) {
                assert!(printed.contains(part), "{library}, run {run}: no {part:?} in {printed}");
            }
            assert_eq!(is_early, run == 1, "{library}, run {run}");
            drop(input);
        }
    }
}

#[tokio::test]
async fn s_client_with_another_protocol_gets_the_alert_for_that() {
    let identity = identity();
    for (library, tls) in early_servers(&identity) {
        let listener = Listener::bind(&[ANY], ServerOptions::new(tls)).unwrap();
        let address = listener.local_addresses()[0].to_string();
        let Some(client) = openssl(&["s_client", "-connect", &address, "-tls1_3", "-alpn", "other"]) else { return };
        let output = soon(client.wait_with_output()).await.unwrap();
        let printed = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && printed.contains("SSL alert number 120"), "{library}: {printed}");
    }
}

/// Why a client has no session with `s_server`, to which it offers TCPLS alone.
async fn refusal(name: &str, arguments: &[&str], line: &[u8]) -> Option<CloseReason> {
    let mut server = ForeignServer::start(name, arguments).await?;
    server.child.stdin.as_mut().unwrap().write_all(line).await.unwrap();
    let tls = library::tcpls_client(&server.trust, PROTOCOL);
    let options = ClientOptions::new(tls, "localhost".try_into().unwrap());
    let error = soon(Session::connect(&[server.address], options)).await.unwrap_err();
    let ConnectError::Paths(failures) = error else { panic!("{error}") };
    match failures.into_iter().next().unwrap().fault {
        PathFault::Handshake(reason) => Some(reason),
        fault => panic!("{fault:?}"),
    }
}

#[tokio::test]
async fn client_for_tcpls_alone_has_no_session_with_s_server_and_knows_why() {
    let [version, protocol] = [70, 120].map(|alert| HandshakeErrorKind::PeerAlert(AlertDescription(alert)));
    let kind = |reason: &CloseReason| match reason {
        CloseReason::Handshake(error) => Some(error.kind()),
        _ => None,
    };
    let Some(reason) = refusal("s_server-plain", &["-tls1_3"], b"").await else { return };
    assert_eq!(reason, CloseReason::NoTcpls);
    // Some versions of s_server answer with an alert, others without a name.
    let reason = refusal("s_server-alpn", &["-tls1_3", "-alpn", "other"], b"").await.unwrap();
    assert!(reason == CloseReason::NoTcpls || kind(&reason) == Some(protocol), "{reason:?}");
    let reason = refusal("s_server-old", &["-tls1_2"], b"").await.unwrap();
    assert_eq!(kind(&reason), Some(version), "{reason:?}");
    // A server that agrees to TCPLS, and then sends a line of text.
    let reason = refusal("s_server-liar", &["-tls1_3", "-alpn", "tcpls+test"], b"no frame\n").await.unwrap();
    assert!(matches!(reason, CloseReason::Violation(_)), "{reason:?}");
}
