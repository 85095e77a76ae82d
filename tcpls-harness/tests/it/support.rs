//! What the tests set up.

use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use tcpls_core::config::Config;
use tcpls_core::event::{Event, TcpEvent};
use tcpls_core::wire::ids::ConnectionId;
use tcpls_harness::dial::Keep;
use tcpls_harness::files::{Content, fetch};
use tcpls_harness::net::{ClientOptions, Events, Listener, RecvStream, ServerOptions, Session};
use tcpls_harness::relay::{PathOptions, Relay};
use tcpls_harness::sim::swarm::{Tally, save};
use tcpls_harness::tls::{Identity, Trust};
use tokio::net::TcpStream;

use crate::library;

pub(crate) const PROTOCOL: &[u8] = b"test";
pub(crate) const ANY: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// A server on two addresses, and what a client needs to trust it.
pub(crate) struct Server {
    pub(crate) identity: Identity,
    pub(crate) listener: Listener,
    pub(crate) addresses: Vec<SocketAddr>,
    /// The client's.
    pub(crate) config: Config,
}

impl Server {
    pub(crate) fn start() -> Self {
        let identity = identity();
        let options = ServerOptions::new(library::server(&identity, PROTOCOL));
        let listener = Listener::bind(&[ANY, ANY], options).unwrap();
        let addresses = listener.local_addresses().to_vec();
        Self { identity, listener, addresses, config: Config::default() }
    }

    /// Takes joins in the form of the draft alone.
    pub(crate) fn with_joins_of_the_draft(self) -> Self {
        self.listener.set_tls(library::server_of_the_draft(&self.identity, PROTOCOL));
        self
    }

    /// Another server takes this one's place on its addresses. It knows none of its sessions.
    pub(crate) async fn restart(self) -> Self {
        let Self { identity, listener, addresses, config } = self;
        drop(listener);
        loop {
            let options = ServerOptions::new(library::server(&identity, PROTOCOL));
            match Listener::bind(&addresses, options) {
                Ok(listener) => return Self { identity, listener, addresses, config },
                Err(_) => tokio::task::yield_now().await, // the sockets are still being closed
            }
        }
    }

    /// How a client that trusts this server connects.
    pub(crate) fn options(&self) -> ClientOptions {
        let tls = library::client(&trust(&self.identity), PROTOCOL);
        // Tests decide themselves when another TCP connection joins, except those of that very behavior.
        let mut options = ClientOptions::new(tls, "localhost".try_into().unwrap());
        options.dial.keep = Keep::Session;
        options.config = Arc::new(self.config.clone());
        options
    }

    /// A session's both ends.
    pub(crate) async fn pair(&mut self, address: SocketAddr) -> (Session, Session) {
        let (addresses, options) = ([address], self.options());
        let (client, server) = tokio::join!(Session::connect(&addresses, options), self.listener.accept());
        (client.unwrap(), server)
    }
}

pub(crate) fn identity() -> Identity {
    Identity::self_signed(&["localhost".to_owned()]).unwrap()
}

pub(crate) fn trust(identity: &Identity) -> Trust {
    Trust::Pem(identity.certificate_pem().to_owned())
}

/// A path to `target` that can be broken.
pub(crate) fn relay(target: SocketAddr) -> Relay {
    Relay::start(ANY, target, PathOptions::default()).unwrap()
}

/// Waits until TCP connection `tcp` is lost.
pub(crate) async fn lost(events: &mut Events, tcp: ConnectionId) {
    loop {
        match events.next().await.expect("the session ended before the TCP connection was lost") {
            Event::Tcp(TcpEvent::Lost { tcp: lost, .. }) if lost == tcp => return,
            _ => {}
        }
    }
}

/// Requests a file on a new stream, and returns the content of the response, of which there is one.
pub(crate) async fn ask(session: &Session, path: &str) -> Content {
    fetch(session.open_stream().await.unwrap(), "localhost", path, None).await.unwrap()
}

/// The content of a response.
pub(crate) async fn read_content(content: &mut Content) -> Vec<u8> {
    let mut all = Vec::new();
    while let Some(chunk) = content.next().await.unwrap() {
        all.extend_from_slice(&chunk);
    }
    all
}

/// Round trips within which everything must happen that waits only for other tasks of this process.
const MANY_ROUND_TRIPS: usize = 200_000;

/// Returns the output of `future`. Panics if it is not ready within many round trips of another socket of this process, so
/// that a deadlock fails instead of hanging. The bound is on work, which takes longer where the machine is slow.
pub(crate) async fn soon<F: Future>(future: F) -> F::Output {
    soon_or(future, String::new).await
}

/// The same, and says in which state it is not ready.
pub(crate) async fn soon_or<F: Future>(future: F, state: impl FnOnce() -> String) -> F::Output {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    let listener = tokio::net::TcpListener::bind(ANY).await.unwrap();
    let (near, far) = tokio::join!(TcpStream::connect(listener.local_addr().unwrap()), listener.accept());
    let (mut near, mut far) = (near.unwrap(), far.unwrap().0);
    let round_trips = async {
        for _ in 0..MANY_ROUND_TRIPS {
            near.write_all(&[1]).await.unwrap();
            far.read_u8().await.unwrap();
        }
    };
    tokio::select! {
        biased;
        output = future => output,
        () = round_trips => panic!("it does not happen: something waits for ever {}", state()),
    }
}

/// Reads a stream to its end.
pub(crate) async fn read_all(stream: &mut RecvStream) -> Vec<u8> {
    let mut all = Vec::new();
    while let Some(chunk) = stream.read_chunk(usize::MAX).await.unwrap() {
        all.extend_from_slice(&chunk);
    }
    all
}

/// Bytes that tell where they belong.
pub(crate) fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|index| (index ^ (index >> 8) ^ (index >> 16)) as u8).collect()
}

/// A directory of its own for one test, removed at its end.
pub(crate) struct Directory(PathBuf);

impl Directory {
    pub(crate) fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("tcpls-it-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Waits until a TCP connection joins, and says which.
pub(crate) async fn joined(events: &mut Events) -> ConnectionId {
    loop {
        if let Event::Tcp(TcpEvent::Joined { tcp }) = events.next().await.expect("the session ended before one joined")
        {
            return tcp;
        }
    }
}

/// The lines of a trace.
#[derive(Clone, Default)]
pub(crate) struct Lines(Arc<Mutex<Vec<u8>>>);

impl Lines {
    /// All of them, as text.
    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Panics if random scenarios failed, once the recordings of the first three are written.
pub(crate) fn nothing_failed(tally: &Tally) {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR"));
    for failure in tally.failures.iter().take(3) {
        println!("{}", save(failure, directory).unwrap().text);
    }
    assert!(tally.failures.is_empty(), "{:?}", tally.failures);
}
