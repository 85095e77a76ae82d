//! What TCPLS is compared with: files over kernel MPTCP, or over TLS on one TCP connection, in either direction; and uploads over
//! TCPLS (`session`), which the `tcpls` command does not do. They run as processes of their own in the namespaces, as hidden
//! subcommands of the lab.

mod session;

use std::fs::File;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection, StreamOwned};
use socket2::{Domain, Protocol, Socket, Type};

use super::scenario::Direction;
use super::wire::unix_time;
use super::{Outcome, netns, sys};

/// The line that the server prints once it listens.
pub(crate) const LISTENING: &str = "listening";
/// Time for the kernel to join the other subflows before data flows.
const JOINING: Duration = Duration::from_millis(300);
const CHUNK: usize = 64 * 1024;
/// What the client asks for a download with, and the server ends an upload with once it has all.
const READY: u8 = b'g';
/// Any rate that is less than "no limit" has TCP pace by itself, at a rate of its own.
const PACED: u64 = u64::MAX - 1;

/// Over what.
#[derive(Clone, Copy, Debug, PartialEq, clap::ValueEnum)]
pub(crate) enum Transport {
    Tcpls,
    Mptcp,
    Tls,
}

/// One end.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {
    #[arg(long)]
    pub(crate) over: Transport,
    /// Whether the server or the client sends
    #[arg(long)]
    pub(crate) direction: Direction,
    /// Addresses of the server; all stacks except TCPLS use only the first, and listen at its port on all addresses
    #[arg(long, required = true)]
    pub(crate) address: Vec<SocketAddr>,
    /// File to send
    #[arg(long)]
    pub(crate) file: PathBuf,
    /// The server's certificate, which the server makes
    #[arg(long)]
    pub(crate) certificate: PathBuf,
    /// File for the arrival times of the receiver
    #[arg(long)]
    pub(crate) log: PathBuf,
    /// Let the kernel pace what is sent
    #[arg(long)]
    pub(crate) paced: bool,
}

/// Listens, and sends to the first client or receives from it.
pub(crate) fn serve(args: &Args) -> Outcome {
    if args.over == Transport::Tcpls {
        return session::serve(args);
    }
    let socket = socket(args)?;
    socket.set_reuse_address(true)?;
    // All addresses: subflows come to the others.
    socket.bind(&SocketAddr::from((Ipv4Addr::UNSPECIFIED, args.address[0].port())).into())?;
    socket.listen(1)?;
    let config = (args.over == Transport::Tls).then(|| server_config(&args.certificate)).transpose()?;
    println!("{LISTENING}");
    // It stays open: subflows join through it.
    let listener = TcpListener::from(socket);
    let (stream, _) = listener.accept()?;
    match config {
        None => serve_on(&stream, args)?,
        Some(config) => {
            let mut tls = StreamOwned::new(ServerConnection::new(Arc::new(config))?, &stream);
            serve_on(&mut tls, args)?;
            tls.conn.send_close_notify();
            tls.flush()?;
        }
    }
    stream.shutdown(Shutdown::Write)?;
    // It stays until the client has all.
    _ = (&stream).read(&mut [0]);
    Ok(())
}

fn serve_on(mut stream: impl Read + Write, args: &Args) -> Outcome {
    match args.direction {
        Direction::Down => {
            stream.read_exact(&mut [0])?;
            Ok(send_all(stream, args)?)
        }
        Direction::Up => {
            let mut receiver = Receiver::new(args)?;
            receive_all(&mut stream, &mut receiver)?;
            stream.write_all(&[READY])?;
            Ok(stream.flush()?)
        }
    }
}

/// Connects, and receives the file or sends it.
pub(crate) fn connect(args: &Args) -> Outcome {
    if args.over == Transport::Tcpls {
        return session::connect(args);
    }
    let socket = socket(args)?;
    socket.connect(&args.address[0].into())?;
    let stream = TcpStream::from(socket);
    match args.over {
        Transport::Tls => {
            let name = ServerName::try_from("localhost")?;
            let conn = ClientConnection::new(Arc::new(client_config(&args.certificate)?), name)?;
            connected_on(StreamOwned::new(conn, &stream), args)
        }
        _ => {
            std::thread::sleep(JOINING);
            connected_on(&stream, args)
        }
    }
}

fn connected_on(mut stream: impl Read + Write, args: &Args) -> Outcome {
    match args.direction {
        Direction::Down => {
            let mut receiver = Receiver::new(args)?;
            stream.write_all(&[READY])?;
            stream.flush()?;
            receive_all(&mut stream, &mut receiver)
        }
        Direction::Up => {
            send_all(&mut stream, args)?;
            Ok(stream.read_exact(&mut [0])?)
        }
    }
}

fn send_all(mut stream: impl Write, args: &Args) -> io::Result<()> {
    let mut file = File::open(&args.file)?;
    let mut buffer = vec![0; CHUNK];
    loop {
        match file.read(&mut buffer)? {
            0 => return stream.flush(),
            len => stream.write_all(&buffer[..len])?,
        }
    }
}

/// Reads until the file is complete.
fn receive_all(mut stream: impl Read, receiver: &mut Receiver) -> Outcome {
    let mut buffer = vec![0; 4 * CHUNK];
    while !receiver.is_done() {
        let len = stream.read(&mut buffer)?;
        if len == 0 {
            break;
        }
        receiver.take(&buffer[..len])?;
    }
    receiver.check()
}

/// Compares received bytes with the sent file, and logs arrival times.
struct Receiver {
    expected: Vec<u8>,
    received: usize,
    log: File,
}

impl Receiver {
    fn new(args: &Args) -> io::Result<Self> {
        Ok(Self { expected: std::fs::read(&args.file)?, received: 0, log: File::create(&args.log)? })
    }

    fn take(&mut self, bytes: &[u8]) -> Outcome {
        let end = self.received + bytes.len();
        if self.expected.get(self.received..end) != Some(bytes) {
            return Err(format!("what came after byte {} is not what was sent", self.received).into());
        }
        self.received = end;
        Ok(self.log.write_all(format!("{:.6} {end}\n", unix_time()).as_bytes())?)
    }

    fn is_done(&self) -> bool {
        self.received == self.expected.len()
    }

    fn check(&self) -> Outcome {
        if self.is_done() { Ok(()) } else { Err(format!("only {} bytes came", self.received).into()) }
    }
}

fn socket(args: &Args) -> io::Result<Socket> {
    let protocol = if args.over == Transport::Mptcp { Protocol::MPTCP } else { Protocol::TCP };
    let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(protocol))?;
    socket.set_tcp_nodelay(true)?;
    // MPTCP does not take it from the routes.
    socket.set_tcp_congestion(netns::CONGESTION_CONTROL.as_bytes())?;
    if args.paced {
        sys::set_max_pacing_rate(&socket, PACED)?;
    }
    Ok(socket)
}

/// The configuration of a server with a certificate of its own, which it writes to this file.
pub(super) fn server_config(certificate: &Path) -> Outcome<ServerConfig> {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()])?;
    std::fs::write(certificate, made.cert.pem())?;
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider).with_protocol_versions(&[&rustls::version::TLS13])?;
    Ok(builder.with_no_client_auth().with_single_cert(vec![made.cert.der().clone()], key)?)
}

/// The configuration of a client that trusts this certificate.
pub(super) fn client_config(certificate: &Path) -> Outcome<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(certificate)?)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_protocol_versions(&[&rustls::version::TLS13])?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}
