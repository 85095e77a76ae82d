//! Counts copies of stream data and allocations by a counting allocator: a copy needs a destination. One TCP
//! connection, data in order.

#![allow(clippy::unwrap_used, reason = "what fails here is a failed test")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tcpls_core::crypto::rustls::{RustlsClient, RustlsServer};
use tcpls_core::trace::{Content, Event, Frame, Sink};
use tcpls_core::wire::record::MAX_STREAM_DATA;
use tcpls_core::{Config, Connection, ConnectionId, Endpoint, EndpointConfig, Incoming, Seed, State, StreamId, Time};

const TCP: ConnectionId = ConnectionId::FIRST;
const MIB: usize = 1 << 20;
/// What a socket is given at once.
const BATCH: usize = 256 * 1024;
/// Data shorter than 512 bytes is copied, so that it does not keep a large buffer alive.
const FULL_RECORDS: usize = 8 * MAX_STREAM_DATA;

struct Counting;

thread_local! {
    static CALLS: Cell<usize> = const { Cell::new(0) };
    static BYTES: Cell<usize> = const { Cell::new(0) };
}

fn count(bytes: usize) {
    _ = CALLS.try_with(|calls| calls.set(calls.get() + 1));
    _ = BYTES.try_with(|all| all.set(all.get() + bytes));
}

// SAFETY: everything is done by `System`; counting neither allocates nor unwinds.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        // SAFETY: the caller's promises are those of `System`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        count(new_size);
        // SAFETY: as above.
        unsafe { System.realloc(ptr, layout, new_size) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(ptr, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The number of allocations, and their bytes in all.
fn allocated<R>(act: impl FnOnce() -> R) -> (usize, usize, R) {
    let (calls, bytes) = (CALLS.get(), BYTES.get());
    let result = act();
    (CALLS.get() - calls, BYTES.get() - bytes, result)
}

/// Two ends of a session with real cryptography, and the buffers of a socket between them.
///
/// The test kit's pair does not serve here: it keeps a log of all bytes and checks its oracles at each step, and both
/// allocate.
struct Pair {
    client: Connection,
    server: Connection,
    now: Time,
    out: Vec<u8>,
    up: BytesMut,
    down: BytesMut,
}

fn tls() -> (RustlsClient, RustlsServer) {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".into()]).unwrap();
    let mut roots = rustls::RootCertStore::empty();
    roots.add(made.cert.der().clone()).unwrap();
    let key = rustls::pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let client = rustls::ClientConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions();
    let client = client.unwrap().with_root_certificates(roots).with_no_client_auth();
    let server = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let server = server.unwrap().with_no_client_auth().with_single_cert(vec![made.cert.der().clone()], key).unwrap();
    let names: &[&[u8]] = &[b"bulk"];
    (RustlsClient::new(client.into(), names).unwrap(), RustlsServer::new(server.into(), names).unwrap())
}

impl Pair {
    fn established() -> Self {
        let (client_tls, server_tls) = tls();
        let (now, config) = (Time::from_millis(1000), Arc::new(Config::default()));
        let handshake = client_tls.handshake("localhost".try_into().unwrap()).unwrap();
        let mut client = Connection::client(now, config.clone(), handshake, Seed([1; 32]));
        let mut endpoint = Endpoint::new(EndpointConfig::default(), [2; 32], Seed([3; 32]));
        let incoming = endpoint.handle_accepted(now);
        let (mut out, mut up) = (Vec::with_capacity(2 * MIB), BytesMut::with_capacity(2 * MIB));
        client.poll_transmit(now, TCP, BATCH, &mut out);
        up.extend_from_slice(&out);
        let Some(Incoming::New(session)) = endpoint.handle_bytes(now, incoming, &mut up) else { panic!() };
        let server = Connection::server(now, config, server_tls.handshake().unwrap(), session, Seed([4; 32]));
        let mut pair = Self { client, server, now, out, up, down: BytesMut::with_capacity(MIB) };
        (0..40).for_each(|_| pair.turn());
        assert_eq!((pair.client.state(), pair.server.state()), (State::Established, State::Established));
        pair
    }

    /// A millisecond passes, in which each endpoint sends at most one batch and receives that of the other.
    fn turn(&mut self) {
        self.now += Duration::from_millis(1);
        self.out.clear();
        self.client.handle_timeout(self.now);
        self.client.poll_transmit(self.now, TCP, BATCH, &mut self.out);
        self.up.extend_from_slice(&self.out);
        self.server.handle_bytes(self.now, TCP, &mut self.up);
        self.out.clear();
        self.server.handle_timeout(self.now);
        self.server.poll_transmit(self.now, TCP, BATCH, &mut self.out);
        self.down.extend_from_slice(&self.out);
        self.client.handle_bytes(self.now, TCP, &mut self.down);
        while self.client.poll_event().is_some() || self.server.poll_event().is_some() {}
    }

    /// `data` goes from the client to the server, again and again; `total` bytes in all.
    fn bulk(&mut self, id: StreamId, data: &Bytes, total: usize) {
        let (mut written, mut read) = (0, 0);
        while read < total {
            if written < total {
                let mut piece = data.slice(..data.len().min(total - written));
                written += self.client.stream(id).write_chunk(&mut piece).unwrap_or(0);
            }
            self.turn();
            while let Ok(Some(piece)) = self.server.stream(id).read(usize::MAX) {
                read += piece.len();
            }
        }
    }
}

#[test]
fn stream_data_is_copied_once_on_its_way_out() {
    let mut pair = Pair::established();
    let id = pair.client.open_stream().unwrap();
    let mut data = Bytes::from(vec![7; MIB]);
    let (_, bytes, taken) = allocated(|| pair.client.stream(id).write_chunk(&mut data));
    assert_eq!(taken, Ok(MIB));
    assert!(bytes < 4096, "{bytes} bytes were allocated to take over {MIB}");
    pair.out.clear();
    let room = pair.out.capacity();
    let (_, bytes, len) = allocated(|| pair.client.poll_transmit(pair.now, TCP, room, &mut pair.out));
    assert!(len > MIB, "only {len} bytes went out");
    // What is noted of each record, and nothing of the size of a record.
    assert!(bytes < 16 * 1024, "{bytes} bytes were allocated besides the buffer that {len} bytes went into");
}

#[test]
fn stream_data_in_order_is_not_copied() {
    let mut pair = Pair::established();
    let id = pair.client.open_stream().unwrap();
    pair.client.stream(id).write(&vec![7; FULL_RECORDS]).unwrap();
    pair.out.clear();
    pair.client.poll_transmit(pair.now, TCP, BATCH, &mut pair.out);
    pair.up.clear();
    pair.up.extend_from_slice(&pair.out);
    let buffer = pair.up.as_ptr_range();
    let (_, bytes, ()) = allocated(|| pair.server.handle_bytes(pair.now, TCP, &mut pair.up));
    assert!(bytes < 8192, "{bytes} bytes were allocated to take in {}", FULL_RECORDS);
    let mut read = 0;
    while let Ok(Some(piece)) = pair.server.stream(id).read(usize::MAX) {
        let is_inside = buffer.contains(&piece.as_ptr()) && piece.as_ptr_range().end <= buffer.end;
        assert!(is_inside && piece.iter().all(|byte| *byte == 7));
        read += piece.len();
    }
    assert_eq!(read, FULL_RECORDS);
}

#[test]
fn bulk_data_needs_no_allocations_once_buffers_have_grown() {
    let mut pair = Pair::established();
    let id = pair.client.open_stream().unwrap();
    let data = Bytes::from(vec![7; BATCH]);
    pair.bulk(id, &data, 32 * MIB);
    let (calls, _, ()) = allocated(|| pair.bulk(id, &data, 64 * MIB));
    assert!(calls <= 6, "{calls} allocations for 64 MiB at both ends; 100 for a GB and end would be 12");
}

/// Adds up the stream data of the records that were sent or received.
struct Sum(Arc<AtomicU64>);

impl Sink for Sum {
    fn event(&mut self, _now: Time, event: &Event<'_>) {
        if let Event::RecordSent { content: Content::Frames(frames), .. }
        | Event::RecordReceived { content: Content::Frames(frames), .. } = event
        {
            for frame in frames.iter() {
                if let Frame::Stream { range, .. } = frame {
                    self.0.fetch_add(range.end - range.start, Ordering::Relaxed);
                }
            }
        }
    }
}

#[test]
fn bulk_data_needs_no_more_allocations_with_a_trace_sink() {
    let (mut pair, sum) = (Pair::established(), Arc::<AtomicU64>::default());
    for conn in [&mut pair.client, &mut pair.server] {
        conn.set_trace(Some(Box::new(Sum(sum.clone()))));
    }
    let id = pair.client.open_stream().unwrap();
    let data = Bytes::from(vec![7; BATCH]);
    pair.bulk(id, &data, 32 * MIB);
    let (calls, _, ()) = allocated(|| pair.bulk(id, &data, 64 * MIB));
    assert!(calls <= 6, "{calls} allocations for 64 MiB at both ends, as many as without a sink are 6 at most");
    assert_eq!(sum.load(Ordering::Relaxed), 2 * 96 * MIB as u64, "each byte was sent once and received once");
}
