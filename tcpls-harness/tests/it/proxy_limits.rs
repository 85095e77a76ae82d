//! What a proxy lets one client use, in virtual time.

use std::io;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tcpls_harness::net::{Runtime, Session};
use tcpls_harness::proxy::{self, Credentials, Limits, Outbound, Refusal, Requester, Server, Target, Users};
use tcpls_harness::sim::Simulation;
use tcpls_harness::sim::scenario::Path;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, copy, duplex, split};

use crate::support::pattern;

const MS: Duration = Duration::from_millis(1);
const RATE: u64 = 1_000_000;

/// Targets that send back what they receive.
#[derive(Debug)]
struct Echoes(Runtime);

impl Outbound for Echoes {
    type Peer = DuplexStream;

    async fn connect(&self, _: &Target, _: &Requester) -> Result<DuplexStream, Refusal> {
        let (near, far) = duplex(64 * 1024);
        drop(self.0.spawn(async move {
            let (mut reader, mut writer) = split(far);
            if copy(&mut reader, &mut writer).await.is_ok() {
                _ = writer.shutdown().await;
            }
        }));
        Ok(near)
    }
}

/// A network, and one server for all of its sessions, with users whose secret is their name.
fn network(limits: Limits) -> Simulation {
    let server: Arc<OnceLock<Server<Echoes>>> = Arc::default();
    Simulation::new(1).path(Path::new("fiber").rate(200_000_000).delay(5 * MS)).server(move |session| {
        let server = server.get_or_init(|| {
            let mut users = Users::default();
            assert!(users.add("ann", "ann") && users.add("bob", "bob"));
            Server::new(Echoes(session.runtime()), users, limits)
        });
        let server = server.clone();
        async move { server.serve(&session, |_| {}).await }
    })
}

/// Sends this much through a tunnel to a target that echoes, and returns how long it took until all was back.
async fn echo(session: &Session, user: &str, bytes: usize) -> io::Result<Duration> {
    let (runtime, sent) = (session.runtime(), pattern(bytes));
    let start = runtime.now();
    let credentials = Credentials::parse(&format!("{user}:{user}")).unwrap();
    let target: Target = "192.0.2.1:7".parse().unwrap();
    let (stream, _) = proxy::request(session, &target, Some(&credentials)).await.map_err(io::Error::other)?;
    let (mut send, mut recv) = stream.split();
    let sending = async {
        send.write_all(&sent).await?;
        send.finish().map_err(io::Error::other)
    };
    let mut received = Vec::new();
    let receiving = async { recv.read_to_end(&mut received).await };
    tokio::try_join!(sending, receiving)?;
    assert!(received == sent);
    Ok(runtime.now() - start)
}

/// Sends bytes one by one, and returns the longest time until one was back.
async fn keystrokes(session: &Session, user: &str) -> io::Result<Duration> {
    let runtime = session.runtime();
    let credentials = Credentials::parse(&format!("{user}:{user}")).unwrap();
    let target: Target = "192.0.2.1:7".parse().unwrap();
    let (mut stream, _) = proxy::request(session, &target, Some(&credentials)).await.map_err(io::Error::other)?;
    let mut longest = Duration::ZERO;
    for key in 0..100 {
        let start = runtime.now();
        stream.write_all(&[key]).await?;
        assert_eq!(stream.read_u8().await?, key);
        longest = longest.max(runtime.now() - start);
        runtime.sleep(10 * MS).await;
    }
    Ok(longest)
}

#[test]
fn connections_and_sessions_of_a_user_share_its_rate_in_each_direction() {
    const BYTES: usize = 500_000;
    let limits = Limits::default().with(|limits| limits.rate = Some(RATE));
    let ann = async |session: Session| {
        let echo = || echo(&session, "ann", BYTES);
        let (one, other, longest) = tokio::try_join!(echo(), echo(), keystrokes(&session, "ann"))?;
        session.runtime().metric("seconds of ann", one.max(other).as_secs_f64());
        session.runtime().metric("longest keystroke in ms", longest.as_secs_f64() * 1e3);
        session.close(Default::default(), b"").await;
        io::Result::Ok(())
    };
    let bob = async |session: Session| {
        let took = echo(&session, "bob", BYTES).await?;
        session.runtime().metric("seconds of bob", took.as_secs_f64());
        session.close(Default::default(), b"").await;
        io::Result::Ok(())
    };
    let report = network(limits).client(ann).client(ann).client(bob).run().unwrap();
    let longest = |name: &str| report.metric(name).fold(0.0, f64::max);
    // Ann's four times 0.5 MB at 1 MB/s, less what she has saved up; the directions do not wait for each other.
    let (ann, bob) = (longest("seconds of ann"), longest("seconds of bob"));
    assert!((1.9..2.2).contains(&ann), "{ann} s");
    assert!((0.4..0.6).contains(&bob), "{bob} s");
    let key = longest("longest keystroke in ms");
    assert!(key < 120.0, "{key} ms");
}

#[test]
fn a_connection_that_the_rate_holds_back_is_not_idle() {
    let limits = Limits::default().with(|limits| (limits.rate, limits.idle) = (Some(10_000), Some(100 * MS)));
    let client = async |session: Session| {
        echo(&session, "ann", 30_000).await?;
        session.close(Default::default(), b"").await;
        io::Result::Ok(())
    };
    network(limits).client(client).run().unwrap();
}
