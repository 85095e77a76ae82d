//! Farms of `serve` and `proxy` processes.

#[cfg(target_os = "linux")]
mod balancers;
#[cfg(target_os = "linux")]
mod crowd;
#[cfg(target_os = "linux")]
mod drain;
#[cfg(target_os = "linux")]
mod visitor;

use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use tcpls_core::wire::ids::ConnectionId;
use tcpls_harness::files::PROTOCOL;
use tcpls_harness::net::{ClientOptions, Session};
use tcpls_harness::tls::Trust;

use super::Tcpls;
use crate::farm::Balancer;
use crate::library;
use crate::support::{ANY, Directory, ask, pattern, read_content};

/// Three processes behind a balancer.
struct Site {
    servers: Vec<Tcpls>,
    addresses: Vec<SocketAddr>,
    balancer: Balancer,
    trust: Trust,
}

impl Site {
    async fn start(directory: &Path) -> Self {
        let members = Members::prepare(directory);
        let (mut servers, mut addresses) = (Vec::new(), Vec::new());
        for number in MEMBERS {
            let (server, address) = Tcpls::serve(directory, &members.line(number)).await;
            servers.push(server);
            addresses.push(address.parse().unwrap());
        }
        let balancer = Balancer::start(addresses.clone(), b"").await;
        Self { servers, addresses, balancer, trust: members.trust }
    }

    /// A session that begins at this address.
    async fn connect(&self, address: SocketAddr) -> Session {
        let tls = library::client(&self.trust, PROTOCOL);
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

/// The numbers of the servers of a farm.
const MEMBERS: [&str; 3] = ["1", "2", "3"];

/// What the servers of a farm have in common.
struct Members {
    common: Vec<String>,
    trust: Trust,
}

impl Members {
    /// Makes a certificate and a secret in `directory`, and selects ports for hand-over.
    fn prepare(directory: &Path) -> Self {
        let file = |name: &str| directory.join(name).to_str().unwrap().to_owned();
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        std::fs::write(file("cert.pem"), made.cert.pem()).unwrap();
        std::fs::write(file("key.pem"), made.signing_key.serialize_pem()).unwrap();
        write_secrets(directory, &["5e"]);
        // All at once, so that they differ.
        let free = MEMBERS.map(|_| TcpListener::bind(ANY).unwrap());
        let peers = MEMBERS.iter().zip(&free).map(|(number, free)| format!("{number}={}", free.local_addr().unwrap()));
        let mut common = ["--cert", &file("cert.pem"), "--key", &file("key.pem"), "--token-secret", &file("secret")]
            .map(str::to_owned)
            .to_vec();
        peers.for_each(|peer| common.extend(["--peer".to_owned(), peer]));
        Self { common, trust: Trust::Pem(made.cert.pem()) }
    }

    /// The options of server `number`.
    fn line<'a>(&'a self, number: &'a str) -> Vec<&'a str> {
        self.common.iter().map(String::as_str).chain(["--server-id", number]).collect()
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
    let mut site = Site::start(directory.path()).await;
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
    // The first answer is enough for the client, whichever server gives it.
    let [first, third] = &mut site.servers[..] else { panic!("two servers are left") };
    let event = tokio::select! {
        event = first.event("join_failed") => event,
        event = third.event("join_failed") => event,
    };
    let reason = event["reason"].as_str().unwrap();
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
