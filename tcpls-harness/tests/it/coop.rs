//! What is always ready takes part in tokio's cooperative scheduling. Turns are counted, not time.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use tcpls_harness::net::{Session, Stream};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::yield_now;

use crate::support::{Server, pattern};

/// What a task may do in one turn, with something to spare: tokio's budget is 128.
const BUDGET: usize = 150;

/// Counts its own turns.
fn other_task() -> Arc<AtomicUsize> {
    let turns = Arc::new(AtomicUsize::new(0));
    let count = turns.clone();
    tokio::spawn(async move {
        loop {
            count.fetch_add(1, Ordering::Relaxed);
            yield_now().await;
        }
    });
    turns
}

/// Waits until this many bytes have arrived that were not read.
async fn arrived(session: &Session, bytes: usize) {
    while session.stats().bytes_to_read < bytes {
        yield_now().await;
    }
}

/// Both ends of a session, and a stream with 10,000 bytes to be read at the second.
async fn setup() -> (Server, Session, Stream, Session, Stream) {
    let mut server = Server::start();
    let (client, peer) = server.pair(server.addresses[0]).await;
    let mut upload = client.open_stream().await.unwrap();
    upload.write_chunk(pattern(10_000).into()).await.unwrap();
    let download = peer.accept_stream().await.unwrap();
    arrived(&peer, 10_000).await;
    (server, client, upload, peer, download)
}

#[tokio::test]
async fn reads_that_are_always_ready_let_other_tasks_run() {
    let (_server, _client, _upload, _peer, mut download) = setup().await;
    let turns = other_task();
    for _ in 0..20 * BUDGET {
        download.read_u8().await.unwrap();
    }
    assert!(turns.load(Ordering::Relaxed) >= 20);
    let before = turns.load(Ordering::Relaxed);
    for _ in 0..20 * BUDGET {
        download.read_chunk(1).await.unwrap();
    }
    assert!(turns.load(Ordering::Relaxed) >= before + 20);
}

#[tokio::test]
async fn writes_that_always_have_room_let_other_tasks_run() {
    let (_server, _client, mut upload, _peer, _download) = setup().await;
    let turns = other_task();
    for _ in 0..20 * BUDGET {
        upload.write_u8(7).await.unwrap();
    }
    assert!(turns.load(Ordering::Relaxed) >= 20);
    let before = turns.load(Ordering::Relaxed);
    for _ in 0..20 * BUDGET {
        upload.write_chunk(Bytes::from_static(b"x")).await.unwrap();
    }
    assert!(turns.load(Ordering::Relaxed) >= before + 20);
}

#[tokio::test]
async fn opening_and_accepting_streams_uses_the_budget_that_reads_use() {
    const STREAMS: usize = 100;
    let (_server, client, _upload, peer, mut download) = setup().await;
    let mut streams = Vec::new();
    let turns = other_task();
    yield_now().await;
    let before = turns.load(Ordering::Relaxed);
    for _ in 0..STREAMS {
        streams.push(client.open_stream().await.unwrap());
    }
    for _ in STREAMS..BUDGET {
        download.read_u8().await.unwrap();
    }
    assert!(turns.load(Ordering::Relaxed) > before, "after opening");

    for stream in &mut streams {
        stream.write_chunk(Bytes::from_static(b"x")).await.unwrap();
    }
    while peer.stats().streams_open <= STREAMS {
        yield_now().await;
    }
    yield_now().await;
    let before = turns.load(Ordering::Relaxed);
    for _ in 0..STREAMS {
        peer.accept_stream().await.unwrap();
    }
    for _ in STREAMS..BUDGET {
        download.read_u8().await.unwrap();
    }
    assert!(turns.load(Ordering::Relaxed) > before, "after accepting");
}
