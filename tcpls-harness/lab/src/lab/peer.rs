//! What TCPLS is compared with: a server that sends a file over kernel MPTCP, or over TLS on one TCP connection, and the client that
//! receives it. They run as processes of their own in the namespaces, as hidden subcommands of the lab.

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

use super::wire::unix_time;
use super::{Outcome, netns};

/// What the server says once it listens.
pub(crate) const LISTENING: &str = "listening";
/// Time for the kernel to join the other subflows before data flows.
const JOINING: Duration = Duration::from_millis(300);
const CHUNK: usize = 64 * 1024;

/// Over what.
#[derive(Clone, Copy, Debug, PartialEq, clap::ValueEnum)]
pub(crate) enum Transport {
    Mptcp,
    Tls,
}

/// One end.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {
    #[arg(long)]
    pub(crate) over: Transport,
    /// Where the client connects to; the server listens at its port
    #[arg(long)]
    pub(crate) address: SocketAddr,
    /// What is sent
    #[arg(long)]
    pub(crate) file: PathBuf,
    /// The server's certificate, which the server makes
    #[arg(long)]
    pub(crate) certificate: PathBuf,
    /// Where the client writes when bytes came
    #[arg(long, default_value = "/dev/null")]
    pub(crate) log: PathBuf,
}

/// Sends the file to the first who asks.
pub(crate) fn send(args: &Args) -> Outcome {
    let socket = socket(args.over)?;
    socket.set_reuse_address(true)?;
    // All addresses: subflows come to the others.
    socket.bind(&SocketAddr::from((Ipv4Addr::UNSPECIFIED, args.address.port())).into())?;
    socket.listen(1)?;
    let config = (args.over == Transport::Tls).then(|| server_config(&args.certificate)).transpose()?;
    println!("{LISTENING}");
    // It stays open: subflows join through it.
    let listener = TcpListener::from(socket);
    let (stream, _) = listener.accept()?;
    let mut file = File::open(&args.file)?;
    match config {
        None => send_all(&stream, &mut file)?,
        Some(config) => {
            let mut tls = StreamOwned::new(ServerConnection::new(Arc::new(config))?, &stream);
            send_all(&mut tls, &mut file)?;
            tls.conn.send_close_notify();
            tls.flush()?;
        }
    }
    stream.shutdown(Shutdown::Write)?;
    // It stays until the client has all.
    _ = (&stream).read(&mut [0]);
    Ok(())
}

fn send_all(mut stream: impl Read + Write, file: &mut File) -> io::Result<()> {
    stream.read_exact(&mut [0])?;
    let mut buffer = vec![0; CHUNK];
    loop {
        match file.read(&mut buffer)? {
            0 => return stream.flush(),
            len => stream.write_all(&buffer[..len])?,
        }
    }
}

/// Receives the file and compares it with what was sent.
pub(crate) fn receive(args: &Args) -> Outcome {
    let expected = std::fs::read(&args.file)?;
    let log = File::create(&args.log)?;
    let socket = socket(args.over)?;
    socket.connect(&args.address.into())?;
    let stream = TcpStream::from(socket);
    match args.over {
        Transport::Mptcp => {
            std::thread::sleep(JOINING);
            receive_all(&stream, &expected, log)
        }
        Transport::Tls => {
            let name = ServerName::try_from("localhost")?;
            let conn = ClientConnection::new(Arc::new(client_config(&args.certificate)?), name)?;
            receive_all(StreamOwned::new(conn, &stream), &expected, log)
        }
    }
}

fn receive_all(mut stream: impl Read + Write, expected: &[u8], mut log: File) -> Outcome {
    stream.write_all(b"g")?;
    stream.flush()?;
    let mut buffer = vec![0; 4 * CHUNK];
    let mut received = 0;
    loop {
        let len = stream.read(&mut buffer)?;
        if len == 0 {
            break;
        }
        if expected.get(received..received + len) != Some(&buffer[..len]) {
            return Err(format!("what came after byte {received} is not what was sent").into());
        }
        received += len;
        log.write_all(format!("{:.6} {received}\n", unix_time()).as_bytes())?;
    }
    if received == expected.len() { Ok(()) } else { Err(format!("only {received} bytes came").into()) }
}

fn socket(over: Transport) -> io::Result<Socket> {
    let protocol = match over {
        Transport::Mptcp => Protocol::MPTCP,
        Transport::Tls => Protocol::TCP,
    };
    let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(protocol))?;
    socket.set_tcp_nodelay(true)?;
    // MPTCP does not ask the routes for it.
    socket.set_tcp_congestion(netns::CONGESTION_CONTROL.as_bytes())?;
    Ok(socket)
}

fn server_config(certificate: &Path) -> Outcome<ServerConfig> {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()])?;
    std::fs::write(certificate, made.cert.pem())?;
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider).with_protocol_versions(&[&rustls::version::TLS13])?;
    Ok(builder.with_no_client_auth().with_single_cert(vec![made.cert.der().clone()], key)?)
}

fn client_config(certificate: &Path) -> Outcome<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(certificate)?)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_protocol_versions(&[&rustls::version::TLS13])?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}
