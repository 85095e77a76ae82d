//! What the servers of the command have in common: they serve sessions until a signal stops them, read their files again,
//! and log what happens.

pub(super) mod failures;
pub mod log;

use std::pin::Pin;
use std::time::Duration;

use tcpls_core::error::TcpFault;
use tcpls_core::event::{Event, TcpEvent};
use tcpls_core::wire::ids::{ConnectionId, ErrorCode};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use self::log::{Happening, Log};
use super::metrics::{self, METRICS};
use super::signals::{Signal, Signals};
use super::status;
use super::systemd;
use super::text::visible;
use super::units::{parse_duration, span};
use crate::net::{Listener, Session};

/// What an operator wants of a server that runs. It stops when all senders are dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Control {
    /// Read certificates and other files again.
    Reload,
    /// Close the listening sockets, finish what runs, and stop.
    Drain,
}

/// Makes of signals what they mean to a server. It ends with the first that stops it.
pub(super) async fn apply(mut signals: Signals, wishes: mpsc::Sender<Control>, log: Log) {
    loop {
        match signals.next().await {
            Signal::Hangup => _ = wishes.send(Control::Reload).await,
            Signal::User => _ = wishes.send(Control::Drain).await,
            signal => {
                systemd::notify(systemd::State::Stopping);
                log.tell(&Happening::Stopping { signal: signal.to_string() });
                break;
            }
        }
    }
    signals.end_at_next();
}

/// How a server is replaced.
#[derive(Clone, Debug, clap::Args)]
pub struct DrainArgs {
    /// How long connections may go on after SIGUSR1
    #[arg(long, value_name = "TIME", value_parser = parse_duration, default_value = "1h")]
    pub drain: Duration,
}

/// What a server does with its sessions.
pub(super) trait Service {
    /// The error code of sessions that end because the server stops.
    const STOPPING: ErrorCode;

    fn listener(&mut self) -> &mut Listener;

    /// How long draining may take.
    fn drain_limit(&self) -> Duration;

    /// Answers a session until it ends.
    fn serve(&self, number: u64, session: Session) -> impl Future<Output = ()> + Send + 'static;

    /// Reads the files again. All of it applies, or nothing does.
    fn reload(&mut self) -> Happening<'_>;
}

/// Serves until all senders of `control` are dropped, then closes the sessions; or until all sessions have ended after
/// [`Control::Drain`].
pub(super) async fn run<S: Service>(service: &mut S, log: Log, mut control: mpsc::Receiver<Control>) {
    tokio::spawn(failures::report(service.listener().handshake_failures(), log));
    if service.listener().farm_address().is_some() {
        METRICS.in_farm(service.listener().hand_overs());
    }
    systemd::notify(systemd::State::Ready);
    let mut sessions = Sessions::new(S::STOPPING);
    let mut number = 0;
    let mut drained: Option<Pin<Box<dyn Future<Output = ()> + Send>>> = None;
    loop {
        tokio::select! {
            session = service.listener().accept() => {
                service.listener().advertise(&session);
                let serving = service.serve(number, session.clone());
                sessions.serve(session.clone(), watch_over(number, session, serving, log));
                number += 1;
            }
            () = sessions.ended() => {}
            wish = control.recv() => match wish {
                Some(Control::Reload) => log.tell(&service.reload()),
                Some(Control::Drain) => {
                    let limit = service.drain_limit();
                    service.listener().drain(limit).await;
                    metrics::stop().await;
                    drained = Some(Box::pin(service.listener().drained()));
                    log.tell(&Happening::Draining { limit: span(limit) });
                }
                None => break,
            },
            () = until(drained.as_mut()) => {
                sessions.all_ended().await;
                return log.tell(&Happening::Drained);
            }
        }
    }
    sessions.stop().await;
}

/// Waits for `future`, for ever if there is none.
async fn until(future: Option<impl Future<Output = ()> + Unpin>) {
    match future {
        Some(future) => future.await,
        None => std::future::pending().await,
    }
}

/// The sessions that are served.
pub(super) struct Sessions {
    code: ErrorCode,
    stopping: watch::Sender<()>,
    tasks: JoinSet<()>,
}

impl Sessions {
    /// `code` is that of sessions which end because the server stops.
    pub(super) fn new(code: ErrorCode) -> Self {
        Self { code, stopping: watch::Sender::default(), tasks: JoinSet::new() }
    }

    /// Runs a session's `serving` to its end, or closes the session when the server stops.
    pub(super) fn serve(&mut self, session: Session, serving: impl Future<Output = ()> + Send + 'static) {
        let (code, mut stopping) = (self.code, self.stopping.subscribe());
        self.tasks.spawn(async move {
            tokio::pin!(serving);
            tokio::select! {
                () = &mut serving => {}
                _ = stopping.changed() => {
                    // Before the streams are dropped: a client that learns of those first does not learn the reason.
                    session.close(code, b"the server stops").await;
                }
            }
        });
    }

    /// Waits until one has ended.
    pub(super) async fn ended(&mut self) {
        if self.tasks.join_next().await.is_none() {
            std::future::pending::<()>().await;
        }
    }

    /// Waits until all have ended.
    pub(super) async fn all_ended(&mut self) {
        while self.tasks.join_next().await.is_some() {}
    }

    /// Closes all.
    pub(super) async fn stop(mut self) {
        self.stopping.send_replace(());
        self.all_ended().await;
    }
}

/// Logs a session from its beginning to its end, and counts it.
async fn watch_over(number: u64, session: Session, serving: impl Future<Output = ()>, log: Log) {
    let client = session.peer_address(ConnectionId::FIRST);
    log.tell(&Happening::SessionBegan { session: number, client, tcpls: session.is_tcpls() });
    let mut events = session.events();
    let counted = METRICS.began(&session);
    status::add_numbered(number, &session);
    tokio::pin!(serving);
    loop {
        tokio::select! {
            () = &mut serving => break,
            Some(event) = events.next() => tell_tcp(number, &session, &event, log),
        }
    }
    let reason = visible(&session.closed().await.to_string());
    let joins_refused = counted.joins_refused();
    log.tell(&Happening::SessionEnded { session: number, client, joins_refused, reason });
}

/// Logs the events of TCP connections, and counts them. Stalls are in the log of sessions (RUST_LOG=tcpls=debug).
fn tell_tcp(number: u64, session: &Session, event: &Event, log: Log) {
    let Event::Tcp(event) = event else { return };
    METRICS.tcp(event);
    let (tcp, happening) = match event {
        TcpEvent::Joined { tcp } => (*tcp, "joined".to_owned()),
        TcpEvent::Lost { tcp, fault } if *fault != TcpFault::SessionClosed => (*tcp, format!("lost: {fault}")),
        _ => return,
    };
    log.tell(&Happening::Tcp { session: number, tcp: tcp.0, client: session.peer_address(tcp), happening });
}
