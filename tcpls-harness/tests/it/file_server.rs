//! The file server's answers to clients that ask and do not take.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tcpls_core::config::Config;
use tcpls_core::error::{ReadError, WriteError, code};
use tcpls_core::wire::ids::ErrorCode;
use tcpls_harness::dial::Keep;
use tcpls_harness::files::{Answered, Content, FetchError, Limits, PROTOCOL, Refusal, Root, answer, codes};
use tcpls_harness::net::{ClientOptions, Listener, ServerOptions, Session};
use tcpls_harness::relay::Way;
use tcpls_harness::tls::Identity;
use tokio::sync::mpsc;

use crate::library;
use crate::support::{ANY, Directory, ask, identity, pattern, read_all, read_content, relay, trust};

/// What a client grants that takes little.
const SMALL_WINDOW: u64 = 1_024;

/// A server of the files in a directory, and how its answers end.
pub(crate) struct FileServer {
    pub(crate) identity: Identity,
    pub(crate) address: std::net::SocketAddr,
    pub(crate) outcomes: mpsc::UnboundedReceiver<Result<u64, Refusal>>,
}

impl FileServer {
    pub(crate) fn start(directory: &Path, limits: Limits) -> Self {
        let identity = identity();
        let options = ServerOptions::new(library::server(&identity, PROTOCOL));
        let mut listener = Listener::bind(&[ANY], options).unwrap();
        let address = listener.local_addresses()[0];
        let root = Root::with_limits(directory, limits).unwrap();
        let (told, outcomes) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            loop {
                let session = listener.accept().await;
                let (visitor, told) = (root.visitor(&session), told.clone());
                tokio::spawn(async move {
                    while let Some(stream) = session.accept_stream().await {
                        let (visitor, told) = (visitor.clone(), told.clone());
                        let report = move |Answered { outcome, .. }| _ = told.send(outcome);
                        tokio::spawn(async move { answer(stream, &visitor, report).await });
                    }
                });
            }
        });
        Self { identity, address, outcomes }
    }

    async fn connect(&self, config: Config) -> Session {
        self.connect_by(self.address, config).await
    }

    async fn connect_by(&self, address: std::net::SocketAddr, config: Config) -> Session {
        let tls = library::client(&trust(&self.identity), PROTOCOL);
        let mut options = ClientOptions::new(tls, "localhost".try_into().unwrap());
        options.dial.keep = Keep::Session;
        options.config = Arc::new(config);
        Session::connect(&[address], options).await.unwrap()
    }
}

/// A client that grants little for each stream.
fn sparing() -> Config {
    Config::default().with(|config| {
        config.initial_stream_window = SMALL_WINDOW;
        config.max_stream_window = SMALL_WINDOW;
    })
}

/// Asks for `path` on this many streams, and waits until the windows of all are full.
async fn ask_and_do_not_read(session: &Session, path: &str, streams: usize) -> Vec<Content> {
    let mut answers = Vec::new();
    for _ in 0..streams {
        answers.push(ask(session, path).await);
    }
    while session.stats().bytes_to_read < streams * SMALL_WINDOW as usize {
        tokio::task::yield_now().await;
    }
    answers
}

/// How many of this process's descriptors are of files below `directory`.
#[cfg(target_os = "linux")]
fn open_files(directory: &Path) -> usize {
    let directory = directory.canonicalize().unwrap();
    let links = std::fs::read_dir("/proc/self/fd").unwrap().filter_map(Result::ok);
    links.filter(|link| std::fs::read_link(link.path()).is_ok_and(|to| to.starts_with(&directory))).count()
}

#[tokio::test]
async fn clients_that_take_nothing_keep_no_file_from_another() {
    let directory = Directory::new("files-hostile");
    std::fs::write(directory.path().join("large"), pattern(1 << 20)).unwrap();
    std::fs::write(directory.path().join("file"), pattern(20_000)).unwrap();
    let server = FileServer::start(directory.path(), Limits::default());
    let mut hostile = Vec::new();
    for _ in 0..4 {
        let session = server.connect(sparing()).await;
        let answers = ask_and_do_not_read(&session, "/large", 128).await;
        hostile.push((session, answers));
    }
    let victim = server.connect(Config::default()).await;
    assert_eq!(read_content(&mut ask(&victim, "/file").await).await, pattern(20_000));
    #[cfg(target_os = "linux")]
    while open_files(directory.path()) > 0 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn one_file_open_at_a_time_is_enough_for_many_answers() {
    let directory = Directory::new("files-one");
    std::fs::write(directory.path().join("file"), pattern(300_000)).unwrap();
    let limits = Limits { open_files: 1, open_files_per_session: 1, ..Limits::default() };
    let server = FileServer::start(directory.path(), limits);
    let client = server.connect(sparing()).await;
    let mut answers = ask_and_do_not_read(&client, "/file", 20).await;
    for answer in answers.iter_mut().rev() {
        assert!(read_content(answer).await == pattern(300_000), "opened again and again");
    }
}

#[tokio::test]
async fn answer_that_the_client_does_not_read_is_reset() {
    let directory = Directory::new("files-patience");
    std::fs::write(directory.path().join("file"), pattern(300_000)).unwrap();
    let limits = Limits { patience: Duration::from_millis(100), ..Limits::default() };
    let mut server = FileServer::start(directory.path(), limits);
    let client = server.connect(sparing()).await;
    let mut answer = ask(&client, "/file").await;
    assert_eq!(server.outcomes.recv().await, Some(Err(Refusal::Stalled)));
    let end = loop {
        match answer.next().await {
            Ok(Some(_)) => {}
            end => break end,
        }
    };
    assert_eq!(end, Err(FetchError::Reset(ReadError::Reset(codes::STALLED))));

    let mut silent = client.open_stream().await.unwrap();
    silent.write_chunk(Bytes::from_static(b"GET /fi")).await.unwrap();
    assert_eq!(server.outcomes.recv().await, Some(Err(Refusal::RequestTimeout)), "half a request");
}

#[tokio::test]
async fn a_file_that_was_replaced_while_the_client_took_a_break_is_not_mixed_with_another() {
    let directory = Directory::new("files-replaced");
    let (file, other) = (directory.path().join("file"), directory.path().join("other"));
    std::fs::write(&file, pattern(300_000)).unwrap();
    std::fs::write(&other, pattern(400_000)).unwrap();
    let mut server = FileServer::start(directory.path(), Limits::default());
    let client = server.connect(sparing()).await;
    let answers = ask_and_do_not_read(&client, "/file", 1).await;
    #[cfg(target_os = "linux")]
    while open_files(directory.path()) > 0 {
        tokio::task::yield_now().await;
    }
    std::fs::rename(other, file).unwrap();
    let reader = tokio::spawn(async move {
        let mut answer = answers.into_iter().next().unwrap();
        while let Ok(Some(_)) = answer.next().await {}
    });
    assert_eq!(server.outcomes.recv().await, Some(Err(Refusal::ReadFailed)));
    reader.await.unwrap();
}

#[tokio::test]
async fn a_file_that_was_replaced_after_all_of_it_was_written_is_sent() {
    /// All that the session takes without the client's reading.
    const LEN: usize = SMALL_WINDOW as usize + 63 * 1024;
    let directory = Directory::new("files-written");
    let (file, other) = (directory.path().join("file"), directory.path().join("other"));
    std::fs::write(&file, pattern(LEN)).unwrap();
    std::fs::write(&other, pattern(400_000)).unwrap();
    let mut server = FileServer::start(directory.path(), Limits::default());
    let client = server.connect(sparing()).await;
    let mut answers = ask_and_do_not_read(&client, "/file", 1).await;
    #[cfg(target_os = "linux")]
    while open_files(directory.path()) > 0 {
        tokio::task::yield_now().await;
    }
    std::fs::rename(other, file).unwrap();
    assert!(read_content(&mut answers[0]).await == pattern(LEN));
    assert_eq!(server.outcomes.recv().await, Some(Ok(LEN as u64)));
}

#[tokio::test]
async fn data_behind_a_request_is_dropped() {
    let directory = Directory::new("files-behind");
    std::fs::write(directory.path().join("file"), pattern(20_000)).unwrap();
    let server = FileServer::start(directory.path(), Limits::default());
    let client = server.connect(Config::default()).await;
    let (mut send, mut recv) = client.open_stream().await.unwrap().split();
    send.write_chunk(Bytes::from_static(b"GET /file HTTP/1.1\r\nHost: a\r\n\r\n")).await.unwrap();
    let first = recv.read_chunk(100).await.unwrap().unwrap();
    let piece = Bytes::from(pattern(100_000));
    let stopped = loop {
        if let Err(error) = send.write_chunk(piece.clone()).await {
            break error;
        }
    };
    assert_eq!(stopped, WriteError::Stopped(code::NO_ERROR));
    let response = [&first[..], &read_all(&mut recv).await].concat();
    assert!(response.starts_with(b"HTTP/1.1 200 OK\r\n") && response.ends_with(&pattern(20_000)));
}

#[tokio::test]
async fn an_answer_that_was_written_and_did_not_arrive_is_not_reported_as_sent() {
    let directory = Directory::new("files-delivered");
    std::fs::write(directory.path().join("file"), pattern(20_000)).unwrap();
    let mut server = FileServer::start(directory.path(), Limits::default());
    let path = relay(server.address);
    let client = server.connect_by(path.address(), Config::default()).await;
    assert_eq!(read_content(&mut ask(&client, "/file").await).await, pattern(20_000));
    assert_eq!(server.outcomes.recv().await, Some(Ok(20_000)));
    path.set_stalled(Way::Down, true);
    let (mut request, _response) = client.open_stream().await.unwrap().split();
    request.write_chunk(Bytes::from_static(b"GET /file HTTP/1.1\r\nHost: a\r\n\r\n")).await.unwrap();
    tokio::spawn(async move { client.close(ErrorCode(7), b"enough").await });
    assert_eq!(server.outcomes.recv().await, Some(Err(Refusal::Gone)));
}
