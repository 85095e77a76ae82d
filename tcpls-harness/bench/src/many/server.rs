//! The server's process: it answers each request with as many bytes, until its standard input ends.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tcpls_core::Config;
use tcpls_harness::net::{Listener, ServerOptions, Session};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::usage::Usage;
use crate::Outcome;
use crate::footprint::{files, raise_limit};
use crate::loopback::block_on;
use crate::tls::Tls;

/// Serve the sessions of `many`, in its other process
#[derive(Clone, Debug, clap::Args)]
pub struct ServeArgs {
    /// TCP connections of each session
    tcps: usize,
}

/// The first line that the process prints.
#[derive(Serialize, Deserialize)]
struct Hello {
    addresses: Vec<SocketAddr>,
    certificate: Vec<u8>,
    key: Vec<u8>,
}

/// The process, until this is dropped.
pub struct Server {
    child: Child,
    /// One for each TCP connection of a session.
    pub addresses: Vec<SocketAddr>,
    pub tls: Tls,
}

impl Server {
    /// Starts it.
    pub fn start(tcps: usize) -> Outcome<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        let command = command.args(["serve-many", &tcps.to_string()]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn()?;
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().ok_or("no output")?).read_line(&mut line)?;
        let hello: Hello = serde_json::from_str(&line)?;
        Ok(Self { child, addresses: hello.addresses, tls: Tls::from_der(hello.certificate, hello.key) })
    }

    /// What its main thread, which runs all sessions, has used.
    pub fn usage(&self) -> Outcome<Usage> {
        Usage::of(self.child.id(), self.child.id())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        _ = self.child.wait();
    }
}

/// Runs the process.
pub fn serve(args: &ServeArgs) -> Outcome {
    raise_limit()?;
    // The process that measures has ended, or wants this one to end.
    std::thread::spawn(|| {
        _ = std::io::stdin().read_to_end(&mut Vec::new());
        std::process::exit(0);
    });
    let tcps = args.tcps;
    block_on(async move {
        let tls = Tls::new()?;
        let any: SocketAddr = "127.0.0.1:0".parse()?;
        let max = files()?;
        let options = ServerOptions::new(tls.tcpls_server()?).with(|options| {
            options.config = Arc::new(Config::default().with(|config| config.idle_timeout = None));
            options.max_sessions = max;
        });
        let mut listener = Listener::bind(&vec![any; tcps], options)?;
        let (certificate, key) = tls.der();
        let hello = Hello { addresses: listener.local_addresses().to_vec(), certificate, key };
        println!("{}", serde_json::to_string(&hello)?);
        std::io::stdout().flush()?;
        loop {
            tokio::spawn(answer(listener.accept().await));
        }
    })
}

/// A session that ends is none of the server's concern.
async fn answer(session: Session) -> Outcome {
    while let Some(mut stream) = session.accept_stream().await {
        let mut request = Vec::new();
        stream.read_to_end(&mut request).await?;
        stream.write_all(&request).await?;
        stream.finish()?;
    }
    Ok(())
}
