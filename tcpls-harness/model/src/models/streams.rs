//! Streams: tasks of the application that wait, and the session's task that reports what they wait for.

use bytes::Bytes;
use tcpls_core::ErrorCode;
use tcpls_core::testing::null::lenient_record;

use crate::kit::{World, block_on, entering, run, spawn, step};

/// The peer's data arrives while a task of the application waits for a stream, and reads.
pub fn reader_gets_what_arrives() {
    let world = World::new();
    let task = world.run();
    let wire = world.wire.clone();
    let peer = spawn(move || {
        wire.with_peer(|peer| {
            let id = peer.open_stream().unwrap();
            peer.stream(id).write(b"data").unwrap();
        });
    });
    let session = world.session.clone();
    block_on(async move {
        let mut stream = session.accept_stream().await.unwrap();
        assert_eq!(stream.read_chunk(100).await, Ok(Some(Bytes::from_static(b"data"))));
    });
    peer.join().unwrap();
    drop(world);
    task.join().unwrap();
}

/// The waker of the task that reads enters the session.
pub fn reader_whose_waker_enters_the_session() {
    let world = World::new();
    let id = world.wire.with_peer(|peer| peer.open_stream()).unwrap();
    let task = world.run();
    let (wire, shared) = (world.wire.clone(), world.shared.clone());
    let peer = spawn(move || wire.with_peer(|peer| peer.stream(id).write(b"data").unwrap()));
    let session = world.session.clone();
    block_on(entering(&shared, async move {
        let mut stream = session.accept_stream().await.unwrap();
        assert_eq!(stream.read_chunk(100).await, Ok(Some(Bytes::from_static(b"data"))));
    }));
    peer.join().unwrap();
    drop(world);
    task.join().unwrap();
}

/// A session of plain TLS does not read its socket while the application does not read: data arrives again after it has.
pub fn paused_reader_gets_what_arrives_later() {
    const WINDOW: usize = 4096;
    let world = World::plain(WINDOW as u64);
    let mut stream = block_on(world.session.open_stream()).unwrap();
    world.wire.arrive(&lenient_record(23, &[1; WINDOW]));
    let task = world.run();
    let wire = world.wire.clone();
    let peer = spawn(move || wire.arrive(&lenient_record(23, &[2; WINDOW])));
    let mut got = Vec::new();
    while got.len() < 2 * WINDOW {
        got.extend_from_slice(&block_on(stream.read_chunk(WINDOW)).unwrap().unwrap());
    }
    assert!(got.iter().eq([[1; WINDOW], [2; WINDOW]].as_flattened()));
    peer.join().unwrap();
    drop((stream, world));
    task.join().unwrap();
}

/// The task gives way to the application when data has arrived and nothing is to be sent: the answer is sent all the same.
pub fn reader_answers() {
    let world = World::plain(1 << 20);
    let (mut writer, mut reader) = block_on(world.session.open_stream()).unwrap().split();
    let task = world.run();
    let wire = world.wire.clone();
    let peer = spawn(move || wire.arrive(&lenient_record(23, b"data")));
    block_on(async {
        assert!(reader.read_chunk(100).await.is_ok());
        writer.write_chunk(Bytes::from_static(b"answer")).await.unwrap();
        writer.finish().unwrap();
        assert_eq!(writer.delivered().await, Ok(()));
    });
    peer.join().unwrap();
    drop((writer, reader, world));
    task.join().unwrap();
}

/// What the application writes is sent, whatever the session's task is about to do.
pub fn writer_gets_its_acknowledgment() {
    let world = World::new();
    let task = world.run();
    block_on(async {
        let (mut stream, _reader) = world.session.open_stream().await.unwrap().split();
        stream.write_chunk(Bytes::from_static(b"data")).await.unwrap();
        stream.finish().unwrap();
        assert_eq!(stream.delivered().await, Ok(()));
    });
    drop(world);
    task.join().unwrap();
}

/// A writer waits for room in its stream while the socket is full.
pub fn blocked_writer_gets_room() {
    const BUFFER: usize = 4096;
    let world = World::with(|config| config.stream_send_buffer = BUFFER);
    let (mut stream, _reader) = block_on(world.session.open_stream()).unwrap().split();
    block_on(stream.write_chunk(Bytes::from_static(&[1; BUFFER]))).unwrap();
    world.wire.with(|wire| wire.room = 50);
    let task = world.run();
    let wire = world.wire.clone();
    let peer = spawn(move || wire.with(|wire| wire.room = 1 << 20));
    block_on(stream.write_chunk(Bytes::from_static(&[2; BUFFER]))).unwrap();
    peer.join().unwrap();
    drop((stream, _reader, world));
    task.join().unwrap();
}

/// A task waits until the peer stops reading, while another writes.
pub fn writer_hears_that_the_peer_stops_reading() {
    let world = World::new();
    let (mut stream, _reader) = block_on(world.session.open_stream()).unwrap().split();
    block_on(stream.write_chunk(Bytes::from_static(b"data"))).unwrap();
    let mut driver = Box::pin(world.driver());
    step(&mut driver);
    let task = run(driver);
    let (id, wire) = (stream.id(), world.wire.clone());
    let peer = spawn(move || wire.with_peer(|peer| peer.stream(id).stop(ErrorCode(9))).unwrap());
    assert_eq!(block_on(stream.stopped()), Some(ErrorCode(9)));
    peer.join().unwrap();
    drop((stream, _reader, world));
    task.join().unwrap();
}

/// The peer allows one stream at a time: the next is opened when the first is over at both ends.
pub fn opener_gets_a_stream_when_the_peer_allows_it() {
    let world = World::with(|config| config.max_streams = 1);
    let mut first = block_on(world.session.open_stream()).unwrap();
    block_on(first.write_chunk(Bytes::from_static(b"data"))).unwrap();
    first.finish().unwrap();
    let mut driver = Box::pin(world.driver());
    step(&mut driver);
    let id = first.id();
    drop(first);
    step(&mut driver);
    let task = run(driver);
    let wire = world.wire.clone();
    let peer = spawn(move || {
        wire.with_peer(|peer| while peer.stream(id).read(100).unwrap().is_some() {});
    });
    assert!(block_on(world.session.open_stream()).is_ok());
    peer.join().unwrap();
    drop(world);
    task.join().unwrap();
}
