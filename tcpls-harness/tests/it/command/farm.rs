//! A farm of `serve` processes.

use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use tcpls_core::error::CloseReason;
use tcpls_core::wire::ids::ConnectionId;
use tcpls_harness::files::{PROTOCOL, fetch};
use tcpls_harness::net::{ClientOptions, Session};
use tcpls_harness::tls::Trust;
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

use super::Tcpls;
use crate::farm::Balancer;
use crate::support::{ANY, Directory, ask, pattern, read_content};

/// Three processes behind a balancer.
struct Site {
    servers: Vec<Tcpls>,
    addresses: Vec<SocketAddr>,
    balancer: Balancer,
    trust: Trust,
}

impl Site {
    async fn start(directory: &Path, extra: &[&str]) -> Self {
        let file = |name: &str| directory.join(name).to_str().unwrap().to_owned();
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        std::fs::write(file("cert.pem"), made.cert.pem()).unwrap();
        std::fs::write(file("key.pem"), made.signing_key.serialize_pem()).unwrap();
        write_secrets(directory, &["5e"]);
        // All at once, so that they differ.
        let free: Vec<TcpListener> = (0..3).map(|_| TcpListener::bind(ANY).unwrap()).collect();
        let peers: Vec<String> =
            (1..).zip(&free).map(|(number, free)| format!("{number}={}", free.local_addr().unwrap())).collect();
        drop(free);
        let (mut servers, mut addresses) = (Vec::new(), Vec::new());
        for number in ["1", "2", "3"] {
            let (cert, key, secret) = (file("cert.pem"), file("key.pem"), file("secret"));
            let mut more = vec!["--cert", &cert, "--key", &key, "--token-secret", &secret, "--server-id", number];
            peers.iter().for_each(|peer| more.extend(["--peer", peer]));
            more.extend(extra);
            let (server, address) = Tcpls::serve(directory, &more).await;
            servers.push(server);
            addresses.push(address.parse().unwrap());
        }
        let balancer = Balancer::start(addresses.clone(), b"").await;
        Self { servers, addresses, balancer, trust: Trust::Pem(made.cert.pem()) }
    }

    /// A session that begins at this address.
    async fn connect(&self, address: SocketAddr) -> Session {
        let tls = self.trust.client(&[PROTOCOL]).unwrap();
        let options = ClientOptions::new(tls, "localhost".try_into().unwrap());
        Session::connect(&[address], options).await.unwrap()
    }

    /// Has all read their files again; returns the events.
    async fn reload(&mut self, event: &str) -> Vec<serde_json::Value> {
        let mut events = Vec::new();
        for server in &mut self.servers {
            server.signal("HUP");
            events.push(server.event(event).await);
        }
        events
    }
}

/// The file of secrets, each 32 times the same byte.
fn write_secrets(directory: &Path, bytes: &[&str]) {
    let (file, text) = (directory.join("secret"), bytes.iter().map(|byte| format!("{}\n", byte.repeat(32))));
    std::fs::write(&file, text.collect::<String>()).unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_with_one_secret_serve_a_session_whichever_of_them_each_join_reaches() {
    let directory = Directory::new("farm");
    let mut site = Site::start(directory.path(), &[]).await;
    std::fs::write(directory.path().join("root/file"), pattern(2_000_000)).unwrap();
    let session = site.connect(site.addresses[0]).await;
    for _ in 0..3 {
        session.add_tcp(site.balancer.address, None).await.unwrap();
    }
    session.reset_tcp(ConnectionId::FIRST);
    assert!(read_content(&mut ask(&session, "/file").await).await == pattern(2_000_000));

    // The secret is replaced: the servers accept the new one, use it, and forget the former one.
    for secrets in [&["5e", "77"][..], &["77", "5e"]] {
        write_secrets(directory.path(), secrets);
        site.reload("reloaded").await;
        for server in [1, 2] {
            let tcp = session.add_tcp(site.addresses[server], None).await.unwrap();
            session.retire_tcp(tcp).unwrap();
        }
    }
    let second = Balancer::start(vec![site.addresses[1]], b"").await;
    let later = site.connect(second.address).await;
    write_secrets(directory.path(), &["77"]);
    site.reload("reloaded").await;
    assert!(session.add_tcp(site.addresses[1], None).await.is_err());
    later.add_tcp(site.addresses[2], None).await.unwrap();
    write_secrets(directory.path(), &["7"]);
    let failed = &site.reload("reload_failed").await[0];
    assert!(failed["error"].as_str().unwrap().contains("64 hexadecimal digits"), "{failed}");
    later.add_tcp(site.addresses[0], None).await.unwrap();

    // A server dies with its sessions; the log of the one that gets their joins says so.
    second.targets.send_replace(vec![site.addresses[0]]);
    drop(site.servers.remove(1));
    later.closed().await;
    session.close(Default::default(), b"").await;
    let reason = site.servers[0].event("join_failed").await["reason"].as_str().unwrap().to_owned();
    assert!(reason.starts_with("presented a token of server 2, which cannot be reached: "), "{reason}");
}

#[tokio::test]
async fn secret_that_others_can_read_is_refused_with_the_command_that_helps() {
    let directory = Directory::new("farm-secret");
    write_secrets(directory.path(), &["5e"]);
    let secret = directory.path().join("secret");
    std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(0o644)).unwrap();
    let (root, secret) = (directory.path().to_str().unwrap(), secret.to_str().unwrap());
    let line = ["serve", "--listen", "127.0.0.1:0", "--root", root, "--token-secret", secret];
    let (status, text) = Tcpls::start(&line).end().await;
    assert!(!status.success() && text.contains(&format!("chmod 600 {secret}")), "{text}");
}

/// Runs a load balancer with the configuration in `docs/deploy`, in front of these servers; `None`, with a note, if it is not
/// installed.
async fn run_balancer(program: &str, directory: &Path, servers: &[SocketAddr]) -> Option<(Child, SocketAddr)> {
    let name = if program == "haproxy" { "haproxy.cfg" } else { "nginx.conf" };
    let deploy = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/deploy").join(name);
    let address = TcpListener::bind(ANY).unwrap().local_addr().unwrap();
    let mut text = std::fs::read_to_string(deploy).unwrap();
    for (host, server) in (1..).zip(servers) {
        text = text.replace(&format!("10.0.0.{host}:443"), &server.to_string());
    }
    text = text.replace("bind :443", &format!("bind {address}")).replace("listen 443", &format!("listen {address}"));
    let module = PathBuf::from("/usr/lib/nginx/modules/ngx_stream_module.so");
    if program == "nginx" && module.exists() {
        text.insert_str(0, &format!("load_module {};\n", module.display()));
    }
    let file = directory.join(name);
    std::fs::write(&file, text).unwrap();
    let mut command = Command::new(program);
    if program == "haproxy" {
        command.args(["-db", "-f"]).arg(&file);
    } else {
        let options = "daemon off; master_process off; pid nginx.pid; error_log stderr;";
        command.arg("-p").arg(directory).args(["-g", options, "-c"]).arg(&file);
    }
    match command.kill_on_drop(true).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn() {
        Ok(mut child) => {
            while TcpStream::connect(address).await.is_err() {
                assert!(child.try_wait().unwrap().is_none(), "{program} does not start");
                tokio::task::yield_now().await;
            }
            Some((child, address))
        }
        Err(error) => {
            println!("skipped: {program} can't be run ({error})");
            None
        }
    }
}

/// Sessions begin, join, lose TCP connections and join again behind a balancer that takes turns; then a server dies.
async fn loses_no_join_behind(program: &str) {
    const SESSIONS: usize = 30;
    let directory = Directory::new(&format!("farm-{program}"));
    let mut site = Site::start(directory.path(), &["--proxy-protocol", "127.0.0.0/8"]).await;
    std::fs::write(directory.path().join("root/file"), pattern(100_000)).unwrap();
    let Some((_balancer, address)) = run_balancer(program, directory.path(), &site.addresses).await else { return };
    let mut sessions = Vec::new();
    for number in 0..SESSIONS {
        let session = site.connect(address).await;
        for _ in 0..=number % 4 {
            session.add_tcp(address, None).await.unwrap();
        }
        sessions.push(session);
        if number == SESSIONS / 2 {
            write_secrets(directory.path(), &["5e", "77"]);
            site.reload("reloaded").await;
        }
    }
    for session in &sessions {
        session.reset_tcp(ConnectionId::FIRST);
        assert!(read_content(&mut ask(session, "/file").await).await == pattern(100_000));
        session.add_tcp(address, None).await.unwrap();
    }
    drop(site.servers.remove(0));
    let mut ended = 0;
    for session in &sessions {
        match try_fetch(session, "/file").await {
            Some(content) => assert!(content == pattern(100_000)),
            None => {
                let reason = session.closed().await;
                assert!(matches!(reason, CloseReason::OutOfTokens { .. }), "{reason:?}");
                ended += 1;
            }
        }
    }
    assert!(ended > 0 && ended < SESSIONS, "{ended} sessions were those of the server that died");
}

/// A file, unless the session ends before it is there.
async fn try_fetch(session: &Session, path: &str) -> Option<Vec<u8>> {
    let mut content = fetch(session.open_stream().await.ok()?, "localhost", path, None).await.ok()?;
    Some(read_content(&mut content).await)
}

#[tokio::test(flavor = "multi_thread")]
async fn no_join_is_lost_behind_haproxy_with_its_configuration_in_the_docs() {
    loses_no_join_behind("haproxy").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_join_is_lost_behind_nginx_with_its_configuration_in_the_docs() {
    loses_no_join_behind("nginx").await;
}
