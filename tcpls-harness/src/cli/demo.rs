//! `tcpls demo`: a download over two paths of which one fails on the way, in one process over loopback.

use std::fs::File;
use std::io::Read;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use ring::digest::{Context, Digest, SHA256};
use rustls::pki_types::ServerName;
use tcpls_core::event::{Event, TcpEvent};
use tcpls_core::wire::ids::{ConnectionId, ErrorCode};
use tokio::task::JoinHandle;

use super::files::unreadable;
use super::paths::wait_for_paths;
use super::plot::PlotFile;
use super::signals::Signals;
use super::units::{parse_size, rate, size};
use super::watch::{INTERVAL, Story, Watch};
use super::{Outcome, output, report};
use crate::hq::send_all;
use crate::net::{ClientOptions, Listener, ServerOptions, Session};
use crate::relay::{PathOptions, Relay};
use crate::tls::{Identity, Trust};

/// The application protocol: whatever the client opens a stream for, it gets the file.
const PROTOCOL: &[u8] = b"tcpls-demo";
/// Both paths' rate: 200 Mbit/s.
const RATE: u64 = 25_000_000;
/// One way.
const DELAYS: [Duration; 2] = [Duration::from_millis(5), Duration::from_millis(15)];
/// See TCPLS work: a download over two paths, one of which fails on the way
///
/// Server and client run in this process and talk over loopback. Each of two paths goes through a relay that limits it to
/// 200 Mbit/s and delays it by 5 or 15 ms. On the way the first path goes down and its TCP connection is reset; the download goes
/// on over the other one. When the path is back a new TCP connection joins, and in the end the file is checked.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// How much to download
    #[arg(long, value_name = "SIZE", default_value = "256MiB", value_parser = parse_size, conflicts_with = "file")]
    pub size: u64,
    /// Download this file instead of made-up bytes
    #[arg(long, value_name = "PATH")]
    pub file: Option<PathBuf>,
    /// Draw goodput over time into this file
    #[arg(long, value_name = "FILE.svg")]
    plot: Option<PlotFile>,
    /// Print the result as JSON
    #[arg(long)]
    pub json: bool,
}

/// Runs the demonstration and prints what came of it.
///
/// # Errors
/// Something could not be set up, or the file did not arrive as it was sent.
pub async fn run(args: Args) -> Outcome {
    let signals = Signals::listen()?;
    let len = length(&args)?;
    let plot = args.plot.as_ref().map(PlotFile::create).transpose()?;
    let mut scene = Scene::set(&args, len)?;
    if !args.json {
        output::tell(format_args!("{} over two paths of {} each:", size(len), rate(RATE as f64 * 8.0)));
        scene.paths.iter().for_each(|path| output::tell(format_args!("  {}", path.name)));
    }
    let download = tokio::select! {
        download = scene.download(len, !args.json) => download,
        stopped = signals.stop() => Err(stopped.into()),
    };
    output::clear().await;
    let (story, received) = report::or_error(download, args.json)?;
    let sent = scene.server.await??;
    let intact = sent == received;
    if args.json {
        story.print_json(&received, intact)?;
    } else {
        story.print(&received)?;
    }
    if let (Some(plot), Some(file)) = (&args.plot, plot) {
        story.into_picture().write(file)?;
        output::tell(format_args!("plot in {}", plot.path().display()));
    }
    if !intact {
        return Err("the file did not arrive as it was sent (SHA-256 differs): this is a bug, please report it".into());
    }
    Ok(())
}

fn length(args: &Args) -> Outcome<u64> {
    let Some(path) = &args.file else { return Ok(args.size) };
    let metadata = std::fs::metadata(path).map_err(|error| unreadable(path, error))?;
    if !metadata.is_file() {
        return Err(format!("can't read {}: it is not a file", path.display()).into());
    }
    Ok(metadata.len())
}

/// A relay, and what the path through it is called.
struct Route {
    name: String,
    relay: Relay,
}

/// The server, the paths to it, and the client's configuration.
struct Scene {
    paths: Vec<Route>,
    options: ClientOptions,
    /// Ends with the SHA-256 of what was sent.
    server: JoinHandle<Outcome<String>>,
}

impl Scene {
    /// The server listens on 127.0.0.1 and ::1, or on two ports of 127.0.0.1 where there is no IPv6.
    fn set(args: &Args, len: u64) -> Outcome<Self> {
        let identity = Identity::self_signed(&["localhost".to_owned()])?;
        let (v4, v6) = (IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST));
        let listen = |ips: [IpAddr; 2]| -> Outcome<Listener> {
            let options = ServerOptions::new(identity.server(&[PROTOCOL])?);
            Ok(Listener::bind(&ips.map(|ip| SocketAddr::new(ip, 0)), options)?)
        };
        let listener = listen([v4, v6]).or_else(|_| listen([v4, v4]))?;
        let paths = listener.local_addresses().iter().zip(DELAYS).map(|(target, delay)| {
            let relay =
                Relay::start(SocketAddr::new(target.ip(), 0), *target, PathOptions { rate: Some(RATE), delay })?;
            Ok(Route { name: format!("{} ({} ms away)", target.ip(), delay.as_millis()), relay })
        });
        let paths = paths.collect::<std::io::Result<_>>()?;
        let tls = Trust::Pem(identity.certificate_pem().to_owned()).client(&[PROTOCOL])?;
        let options = ClientOptions::new(tls, ServerName::try_from("localhost")?);
        let source: Box<dyn Read + Send> = match &args.file {
            Some(path) => Box::new(File::open(path).map_err(|error| unreadable(path, error))?),
            None => Box::new(MadeUp(0x9e37_79b9_7f4a_7c15).take(len)),
        };
        Ok(Self { paths, options, server: tokio::spawn(serve(listener, source)) })
    }

    /// The client's part: what was seen, and the SHA-256 of what came.
    async fn download(&mut self, len: u64, shown: bool) -> Outcome<(Story, String)> {
        let addresses: Vec<SocketAddr> = self.paths.iter().map(|route| route.relay.address()).collect();
        let session = Session::connect(&addresses, self.options.clone()).await?;
        wait_for_paths(&session, addresses.len()).await;
        let mut watch = Watch::new(session.clone(), len, shown);
        for tcp in session.tcp_connections() {
            watch.name(tcp, self.name_of(&session, tcp));
        }
        let digest = self.receive(&session, &mut watch, len).await?;
        let story = watch.end();
        session.close(ErrorCode(0), b"").await;
        Ok((story, digest))
    }

    /// What the path is called that a TCP connection is on.
    fn name_of(&self, session: &Session, tcp: ConnectionId) -> String {
        let remote = session.path_of(tcp).map(|path| path.remote);
        let route = self.paths.iter().find(|route| Some(route.relay.address()) == remote);
        route.map_or_else(String::new, |route| route.name.clone())
    }

    /// Receives the file; the first path goes down on the way and comes back later, when the client joins another TCP
    /// connection over it by itself.
    async fn receive(&self, session: &Session, watch: &mut Watch, len: u64) -> Outcome<String> {
        let mut events = session.events();
        let mut ticks = tokio::time::interval(INTERVAL);
        let mut acts = vec![Act::Return, Act::Fail];
        let mut digest = Context::new(&SHA256);
        let mut received = 0;
        let mut stream = session.open_stream().await?;
        stream.write_chunk(Bytes::from_static(b"go")).await?;
        stream.finish()?;
        loop {
            tokio::select! {
                chunk = stream.read_chunk(usize::MAX) => {
                    let Some(chunk) = chunk? else { return Ok(hex(&digest.finish())) };
                    digest.update(&chunk);
                    watch.received(chunk.len());
                    received += chunk.len() as u64;
                }
                Some(event) = events.next() => {
                    if let Event::Tcp(TcpEvent::Joined { tcp }) = event {
                        watch.name(tcp, self.name_of(session, tcp));
                    }
                    watch.hear(&event);
                }
                _ = ticks.tick() => watch.look(),
            }
            let due = acts.last().is_some_and(|act| received >= len / 10 * act.tenths());
            match acts.pop_if(|_| due) {
                Some(Act::Fail) => self.paths[0].relay.take_down(),
                Some(Act::Return) => self.paths[0].relay.resume(),
                None => {}
            }
        }
    }
}

/// What happens to the first path.
enum Act {
    Fail,
    Return,
}

impl Act {
    /// After how many tenths of the file.
    fn tenths(&self) -> u64 {
        match self {
            Self::Fail => 5,
            Self::Return => 7,
        }
    }
}

/// The server's part: sends `source` on the stream that the client opens, and gives its SHA-256.
async fn serve(mut listener: Listener, source: Box<dyn Read + Send>) -> Outcome<String> {
    let session = listener.accept().await;
    let stream = session.accept_stream().await.ok_or("the client left without asking")?;
    let (mut send, _recv) = stream.split();
    let mut digest = Context::new(&SHA256);
    send_all(&mut send, source, |piece| digest.update(piece)).await?;
    send.finish()?;
    session.closed().await;
    Ok(hex(&digest.finish()))
}

fn hex(digest: &Digest) -> String {
    digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Bytes without end that do not repeat within any size that can be asked for (xorshift64).
struct MadeUp(u64);

impl Read for MadeUp {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        for chunk in buf.chunks_mut(8) {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            chunk.copy_from_slice(&self.0.to_le_bytes()[..chunk.len()]);
        }
        Ok(buf.len())
    }
}
