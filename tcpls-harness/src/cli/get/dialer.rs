//! Makes the sessions of `get`.

use std::net::SocketAddr;
use std::time::Duration;

use tcpls_core::error::CloseReason;

use super::super::network::watch_network;
use super::super::paths::{follow_advertised, resolve, server_name, tell_troubles};
#[cfg(feature = "openssl")]
use super::super::session_cache::SessionCache;
use super::super::url::Url;
use super::super::{Outcome, qlog, status, trace_ring};
#[cfg(unix)]
use super::program;
use super::renewal::{Dial, DialError};
use super::{Args, PROTOCOL, congestion};
use crate::dial::Backup;
use crate::net::{ClientOptions, ConnectError, PathFault, Session};
use crate::proxy::Invite;

/// Connects to the server of the command line.
pub(super) struct Dialer {
    args: Args,
    /// Where to connect to, if not to the name and port in the URL.
    given: Vec<String>,
    url: Url,
    options: ClientOptions,
    /// The options once the server is known to support TCPLS.
    tcpls_only: ClientOptions,
    is_tcpls: bool,
    /// The congestion control that the server is asked for, if it is a BPF program.
    #[cfg(unix)]
    program: Option<program::Wanted>,
}

impl Dialer {
    pub(super) fn new(
        args: &Args,
        invite: Option<&Invite>,
        url: Url,
        #[cfg(feature = "openssl")] cache: Option<&SessionCache>,
    ) -> Outcome<Self> {
        let given = args.connections(invite);
        let tls =
            args.trust.client_with(invite, &[PROTOCOL], args.identity.load()?.as_ref(), &args.hello.options()?)?;
        let tls = args.joins.apply(tls);
        #[cfg(feature = "openssl")]
        let tls = args.early.apply(tls, cache)?;
        #[cfg(not(feature = "openssl"))]
        let tls = args.early.apply(tls)?;
        let name = server_name(&url.name)?;
        let mut tcpls_only = ClientOptions::new(tls.clone().tcpls_only(), name.clone());
        let mut options = if args.tcpls_only { tcpls_only.clone() } else { ClientOptions::new(tls, name) };
        let record = args.record.start()?;
        for options in [&mut options, &mut tcpls_only] {
            args.advertised.apply(options);
            args.early.apply_to_options(options);
            options.record.clone_from(&record);
            options.qlog = qlog::current();
            options.trace_ring = trace_ring::current();
            options.socket.fast_open = args.fast_open;
        }
        if !given.is_empty() {
            // Each of them is to be used anyway.
            (options.dial.stagger, tcpls_only.dial.stagger) = (Duration::ZERO, Duration::ZERO);
        }
        Ok(Self {
            args: args.clone(),
            given,
            url,
            options,
            tcpls_only,
            is_tcpls: false,
            #[cfg(unix)]
            program: program::Wanted::of(args.ask_program, args.bring_program.as_deref())?,
        })
    }

    /// Makes the first session. Those that follow use TCPLS if it does: files are requested side by side.
    pub(super) async fn first(&mut self) -> Outcome<Session> {
        let session = self.dial().await.map_err(|error| error.text)?;
        self.is_tcpls = uses_tcpls(&session);
        Ok(session)
    }

    /// Resolves names and looks for interfaces each time: the network may be another.
    async fn connect(&self) -> Result<(Session, Vec<SocketAddr>), DialError> {
        let addresses = match self.given.as_slice() {
            [] => resolve(&[self.url.host_and_port()]).await,
            given => resolve(given).await,
        };
        let addresses = addresses.map_err(|error| DialError { text: error.to_string(), is_lasting: false })?;
        let standby = resolve(&self.args.standby).await;
        let mut standby = standby.map_err(|error| DialError { text: error.to_string(), is_lasting: false })?;
        standby.truncate(self.args.standby.len());
        let mut options = if self.is_tcpls { self.tcpls_only.clone() } else { self.options.clone() };
        let paths = self.args.uplinks.plan(&addresses, self.given.len(), &mut options);
        options.backups = standby.iter().copied().map(Backup::Remote).collect();
        let session = Session::connect_over(&paths, options).await.map_err(|error| DialError {
            text: self.args.hints().of_connect(&error),
            is_lasting: is_lasting(&error),
        })?;
        Ok((session, standby))
    }
}

impl Dial for Dialer {
    async fn dial(&self) -> Result<Session, DialError> {
        let (session, standby) = self.connect().await?;
        status::add(&session);
        let company = accompany(session.clone(), standby, self.args.clone());
        if session.is_tcpls() {
            company.await;
            #[cfg(unix)]
            if let Some(wanted) = &self.program {
                program::ask(&session, wanted).await;
            }
        } else if uses_tcpls(&session) {
            let session = session.clone();
            #[cfg(unix)]
            let program = self.program.clone();
            tokio::spawn(async move {
                if session.handshake_confirmed().await.is_ok() {
                    company.await;
                    #[cfg(unix)]
                    if let Some(wanted) = &program {
                        program::ask(&session, wanted).await;
                    }
                }
            });
        }
        Ok(session)
    }
}

/// Whether files can be requested side by side. A session with early data, whose handshake is not complete, can only be one
/// of TCPLS: if the server has it no more, the session ends.
pub(super) fn uses_tcpls(session: &Session) -> bool {
    session.is_tcpls() || !session.is_confirmed()
}

/// Starts what a session with TCPLS has beside it.
async fn accompany(session: Session, standby: Vec<SocketAddr>, args: Args) {
    tokio::spawn(tell_troubles(&session));
    tokio::spawn(watch_network(session.clone(), args.uplinks.is_automatic()));
    standby.iter().for_each(|address| session.add_path(*address, None));
    if let Some(name) = &args.ask_congestion {
        tokio::spawn(congestion::ask(session.clone(), name.clone()));
    }
    if args.advertised.use_advertised {
        tokio::spawn(follow_advertised(session));
    }
}

/// Whether trying again can't help: a server that restarts breaks off handshakes, and refuses TCP connections.
fn is_lasting(error: &ConnectError) -> bool {
    let ConnectError::Paths(failures) = error else { return true };
    let is_passing = |fault: &PathFault| match fault {
        PathFault::Handshake(reason) => {
            matches!(reason, CloseReason::HandshakeTimeout | CloseReason::LostInHandshake(_))
        }
        fault => matches!(fault, PathFault::Tcp(_)),
    };
    !failures.iter().all(|failure| is_passing(&failure.fault))
}
