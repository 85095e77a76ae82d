//! What things cost in turns, system calls and allocations, counted: tests only. Time depends on the machine, these do not.
//!
//! Both ends of a session run on the test's thread, so a thread's counters see all of it; applications are spawned there, as
//! what a runtime blocks on has turns of its own. A machine that stands still for a
//! while lets timers fire: the bounds have some slack, but less than one more of anything for each message.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{ClientOptions, Listener, ServerOptions, Session, Stream};
use crate::dial::{DialOptions, Keep};
use crate::tls::{Identity, Trust};

/// Counters of one thread.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Costs {
    /// Of sessions' tasks.
    pub(super) turns: usize,
    /// System calls that read from a socket.
    pub(super) reads: usize,
    /// System calls that write to a socket.
    pub(super) writes: usize,
    /// System calls that ask what the kernel knows about a socket.
    pub(super) questions: usize,
    /// Those of them that ask whether to pace.
    pub(super) pace_questions: usize,
    /// System calls that turn on pacing.
    pub(super) paced: usize,
    allocations: usize,
    /// Calls of the allocator that returned memory.
    pub(super) freed: usize,
}

thread_local! {
    static COSTS: Cell<Costs> = const { Cell::new(Costs { turns: 0, reads: 0, writes: 0, questions: 0, pace_questions: 0, paced: 0, allocations: 0, freed: 0 }) };
}

/// Counts something.
pub(super) fn count(something: impl FnOnce(&mut Costs)) {
    // A thread that is ending has no counters any more.
    _ = COSTS.try_with(|costs| {
        let mut now = costs.get();
        something(&mut now);
        costs.set(now);
    });
}

struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

// SAFETY: everything is done by `System`; counting neither allocates nor unwinds.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(|costs| costs.allocations += 1);
        // SAFETY: the caller's promises are those of `System`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        count(|costs| costs.allocations += 1);
        // SAFETY: as above.
        unsafe { System.realloc(ptr, layout, new_size) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        count(|costs| costs.freed += 1);
        // SAFETY: as above.
        unsafe { System.dealloc(ptr, layout) }
    }
}

/// Returns the costs of `work`.
pub(super) async fn cost_of(work: impl Future<Output = ()>) -> Costs {
    let before = COSTS.get();
    work.await;
    let after = COSTS.get();
    Costs {
        turns: after.turns - before.turns,
        reads: after.reads - before.reads,
        writes: after.writes - before.writes,
        questions: after.questions - before.questions,
        pace_questions: after.pace_questions - before.pace_questions,
        paced: after.paced - before.paced,
        allocations: after.allocations - before.allocations,
        freed: after.freed - before.freed,
    }
}

/// Both ends of a session over loopback.
async fn pair() -> (Session, Session) {
    let identity = Identity::self_signed(&["localhost".to_owned()]).unwrap();
    let server = ServerOptions::new(identity.server(&[b"test"]).unwrap());
    let mut listener = Listener::bind(&["127.0.0.1:0".parse().unwrap()], server).unwrap();
    let tls = Trust::Pem(identity.certificate_pem().to_owned()).client(&[b"test"]).unwrap();
    let dial = DialOptions { keep: Keep::Session, ..DialOptions::default() };
    let client = ClientOptions { dial, ..ClientOptions::new(tls, "localhost".try_into().unwrap()) };
    let addresses = listener.local_addresses().to_vec();
    let (client, server) = tokio::join!(Session::connect(&addresses, client), listener.accept());
    (client.unwrap(), server)
}

async fn answer(server: Session) {
    let mut stream = server.accept_stream().await.unwrap();
    let mut request = [0; 100];
    while stream.read_exact(&mut request).await.is_ok() {
        stream.write_all(&request).await.unwrap();
    }
}

async fn ask(stream: &mut Stream, times: usize) {
    let mut response = [0; 100];
    for _ in 0..times {
        stream.write_all(&[7; 100]).await.unwrap();
        stream.read_exact(&mut response).await.unwrap();
    }
}

#[tokio::test]
async fn a_message_costs_two_turns_at_most_at_each_end_one_write_and_one_read() {
    const TIMES: usize = 200;
    const SLACK: usize = TIMES / 4;
    let (client, server) = pair().await;
    tokio::spawn(answer(server));
    let asking = async move {
        let mut stream = client.open_stream().await.unwrap();
        ask(&mut stream, 10).await;
        cost_of(ask(&mut stream, TIMES)).await
    };
    let costs = tokio::spawn(asking).await.unwrap();

    assert!(costs.turns <= 4 * TIMES + SLACK, "{costs:?}");
    assert!(costs.reads <= 2 * TIMES + SLACK, "{costs:?}");
    assert!(costs.writes <= 2 * TIMES + SLACK, "{costs:?}");
    assert!(costs.questions <= SLACK, "{costs:?}");
    assert!(costs.allocations <= 2 * TIMES + SLACK, "small pieces are copied, and that is all: {costs:?}");
    assert!(costs.reads >= 2 * TIMES && costs.writes >= 2 * TIMES, "not everything is counted: {costs:?}");
}

#[tokio::test]
async fn sessions_without_anything_to_do_let_others_run() {
    let (client, server) = pair().await;
    tokio::spawn(answer(server));
    let mut stream = client.open_stream().await.unwrap();
    ask(&mut stream, 10).await;
    let idle = async {
        for _ in 0..1000 {
            tokio::task::yield_now().await;
        }
    };
    let costs = cost_of(idle).await;
    assert!(costs.turns < 20, "{costs:?}");
}

#[tokio::test]
async fn bulk_asks_for_no_memory_once_it_runs() {
    const MIB: usize = 1 << 20;
    static DATA: [u8; 256 * 1024] = [7; 256 * 1024];
    let (client, server) = pair().await;
    let sending = async move {
        let mut stream = client.open_stream().await.unwrap();
        while stream.write_chunk(Bytes::from_static(&DATA)).await.is_ok() {}
    };
    let receiving = async move {
        let mut stream = server.accept_stream().await.unwrap();
        let mut receive = async |mut bytes: usize| {
            while bytes > 0 {
                bytes = bytes.saturating_sub(stream.read_chunk(usize::MAX).await.unwrap().unwrap().len());
            }
        };
        receive(32 * MIB).await;
        cost_of(receive(32 * MIB)).await
    };
    tokio::spawn(sending);
    let costs = tokio::spawn(receiving).await.unwrap();
    assert!(costs.allocations <= 32, "one for each MiB would be many: {costs:?}");
}

#[tokio::test]
async fn bulk_over_loopback_is_not_paced() {
    const MIB: usize = 1 << 20;
    static DATA: [u8; 256 * 1024] = [7; 256 * 1024];
    let (client, server) = pair().await;
    tokio::spawn(async move {
        let mut stream = client.open_stream().await.unwrap();
        while stream.write_chunk(Bytes::from_static(&DATA)).await.is_ok() {}
    });
    let receiving = async move {
        let mut stream = server.accept_stream().await.unwrap();
        let mut bytes = 32 * MIB;
        while bytes > 0 {
            bytes = bytes.saturating_sub(stream.read_chunk(usize::MAX).await.unwrap().unwrap().len());
        }
    };
    let costs = tokio::spawn(cost_of(receiving)).await.unwrap();
    assert_eq!((costs.pace_questions, costs.paced), (1, 0), "one end sends bulk: {costs:?}");
}
