//! Servers: sockets that are handed to sessions, and sessions that give way to others.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use bytes::BytesMut;
use tcpls_core::budget::{Limits, Resource};

use crate::kit::{World, block_on, run, spawn};
use crate::net::account::reports::{FIRST, Reports};
use crate::net::account::{Account, Holding};
use crate::net::os::NOW;
use crate::net::socket::Socket;
use crate::net::task::{ClaimPlace, Delivery};

fn account(resource: Resource, limit: u64) -> Arc<Account> {
    Account::new(Limits::UNLIMITED.with(Resource::Descriptors, 64).with(resource, limit), Vec::new())
}

/// A claim is delivered while the session ends: the task closes its socket, or it comes back.
pub fn socket_that_is_delivered_at_the_end_is_closed_or_returned() {
    let (world, claim, join, input) = World::server();
    let account = account(Resource::Claims, 8);
    let client = account.client(IpAddr::V4(Ipv4Addr::LOCALHOST));
    let driver = world.driver();
    let mailbox = driver.mailbox().clone();
    let task = run(Box::pin(driver));
    let (shared, socket) = (world.shared.clone(), claim.clone());
    let router = spawn(move || {
        let place = ClaimPlace::new(&account, client, &shared);
        drop(mailbox.deliver(Delivery::Join(Box::new(Socket::new(socket, input)), join, place)));
        mailbox
    });
    drop(world);
    task.join().unwrap();
    let _mailbox = router.join().unwrap();
    assert!(claim.is_only_reference(), "the socket waits for a task that has ended");
}

/// A claim has to give way while the session's task works on it.
pub fn claim_that_gives_way_is_reset() {
    let (world, claim, join, _) = World::server();
    let account = account(Resource::Claims, 1);
    let client = account.client(IpAddr::V4(Ipv4Addr::LOCALHOST));
    let driver = world.driver();
    let place = ClaimPlace::new(&account, client, &world.shared);
    let socket = Socket::new(claim.clone(), BytesMut::new());
    assert!(driver.mailbox().deliver(Delivery::Join(Box::new(socket), join, place)).is_none());
    let task = run(Box::pin(driver));
    let shared = world.shared.clone();
    let router = spawn(move || ClaimPlace::new(&account, client, &shared));
    let other = router.join().unwrap();
    drop(other);
    drop(world);
    task.join().unwrap();
    assert!(!claim.is_open());
}

/// Two sessions share an account with room for one: the first ends, in whatever order they report.
pub fn session_gives_way_to_another() {
    let account = account(Resource::Sessions, 1);
    let client = account.client(IpAddr::V4(Ipv4Addr::LOCALHOST));
    let (first, second) = (World::new(), World::new());
    let enter = |world: &World| account.enter(client, Holding::Session(Arc::downgrade(&world.shared)), &FIRST);
    let task = run(Box::pin(first.driver().reporting(Reports::new(enter(&first), NOW))));
    let place = enter(&second);
    block_on(first.session.closed());
    task.join().unwrap();
    drop(place);
}

/// Applications of two sessions ask for a descriptor at once: each makes the other's session give way, or its own.
pub fn descriptors_are_freed_by_two_sessions_at_once() {
    let account = account(Resource::Sessions, 8);
    let client = account.client(IpAddr::V4(Ipv4Addr::LOCALHOST));
    let worlds = [World::new(), World::new()];
    let places = worlds.each_ref().map(|world| {
        world.shared.access(|state| state.descriptors = Some(account.clone()));
        account.enter(client, Holding::Session(Arc::downgrade(&world.shared)), &FIRST)
    });
    let session = worlds[1].session.clone();
    let other = spawn(move || session.free_descriptor());
    assert!(worlds[0].session.free_descriptor());
    assert!(other.join().unwrap());
    drop(places);
}
