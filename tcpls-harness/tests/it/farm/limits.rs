//! What a thief can do with a token, a header or a server's address; and how many joins are passed on in a time.

use tokio::task::JoinHandle;

use super::*;

const HOUR: Duration = Duration::from_secs(3600);
/// How a server refuses a token.
const ALERT: [u8; 7] = [21, 3, 3, 0, 2, 2, 47];

/// An address that passes everything on to `target`, and the bytes of the first TCP connection there.
async fn wiretap(target: SocketAddr) -> (SocketAddr, JoinHandle<Vec<u8>>) {
    let listener = TcpListener::bind(ANY).await.unwrap();
    let address = listener.local_addr().unwrap();
    let seen = tokio::spawn(async move {
        let (mut from, _) = listener.accept().await.unwrap();
        let mut to = TcpStream::connect(target).await.unwrap();
        let mut seen = BytesMut::with_capacity(16 * 1024);
        from.read_buf(&mut seen).await.unwrap();
        to.write_all(&seen).await.unwrap();
        tokio::spawn(async move { copy_bidirectional(&mut from, &mut to).await });
        seen.to_vec()
    });
    (address, seen)
}

#[tokio::test]
async fn what_was_seen_in_the_network_of_the_farm_is_of_no_use_to_a_thief() {
    let site = Site::start(b"", |_| {}).await;
    let [first, second, ..] = &site.servers[..] else { panic!() };
    let (tapped, seen) = wiretap(first.farm_address).await;
    second.call(move |listener| listener.set_farm_peers(BTreeMap::from([(ServerId(1), tapped)]))).await;
    let session = Session::connect(&[first.address], site.options_of_the_draft()).await.unwrap();
    session.add_tcp(second.address, None).await.unwrap();
    let seen = seen.await.unwrap();
    let mut failures = first.failures().await;
    // The thief has another server's address. The token is used up.
    assert_eq!(send_from("127.0.0.1:0", first.farm_address, &seen).await, ALERT);
    assert_eq!(failures.next().await.unwrap().fault, HandshakeFault::Join(JoinRefusal::Token));
    // A token that no one has used yet, with the header of the other one, and with another client in it.
    let fresh = hello_of_a_join(&session).await;
    let header = 16 + usize::from(u16::from_be_bytes([seen[14], seen[15]]));
    for change in [0, 1] {
        let mut forged = [&seen[..header], &fresh].concat();
        forged[19] ^= change;
        assert_eq!(send_from("127.0.0.1:0", first.farm_address, &forged).await, b"");
        assert_eq!(failures.next().await.unwrap().fault, HandOverFault::NotAuthentic.into());
    }
    session.add_tcp(first.address, None).await.unwrap();
    exchange(&session, 1000).await;
}

#[tokio::test]
async fn replayed_joins_are_passed_on_at_a_bounded_rate_for_each_client() {
    let site = Site::start(b"", |options| options.client_hand_over_rate = RateLimit::new(3, HOUR)).await;
    let second = &site.servers[1];
    let session = Session::connect(&[site.servers[0].address], site.options_of_the_draft()).await.unwrap();
    let hello = hello_of_a_join(&session).await;
    session.add_tcp(site.servers[0].address, None).await.unwrap();
    let mut failures = second.failures().await;
    let thief = if cfg!(target_os = "linux") { "127.0.0.9:0" } else { "127.0.0.1:0" };
    for _ in 0..3 {
        assert_eq!(send_from(thief, second.address, &hello).await, ALERT, "the owner refuses a token that is used up");
    }
    for _ in 0..2 {
        assert_eq!(send_from(thief, second.address, &hello).await, b"");
        assert_eq!(failures.next().await.unwrap().fault, HandOverFault::ClientTooFast.into());
    }
    assert_eq!(second.hand_overs().await, 3);
    if cfg!(target_os = "linux") {
        session.add_tcp(second.address, None).await.unwrap();
        exchange(&session, 1000).await;
    }
}

#[tokio::test]
async fn joins_beyond_the_rate_of_all_clients_are_reset_and_counted() {
    let site = Site::start(b"", |options| options.hand_over_rate = RateLimit::new(2, HOUR)).await;
    let [first, second, ..] = &site.servers[..] else { panic!() };
    let session = Session::connect(&[first.address], site.options()).await.unwrap();
    let mut failures = second.failures().await;
    for _ in 0..2 {
        session.add_tcp(second.address, None).await.unwrap();
    }
    let error = session.add_tcp(second.address, None).await.unwrap_err();
    assert!(matches!(error, AddTcpError::Join(TcpFault::Reset)), "{error}");
    assert_eq!(failures.next().await.unwrap().fault, HandOverFault::TooFast.into());
    exchange(&session, 100_000).await;
    let at_first = first.call(|listener| listener.hand_overs()).await;
    let at_second = second.call(|listener| listener.hand_overs()).await;
    assert_eq!((at_second.passed_on(), at_second.open(), at_second.accepted()), (2, 2, 0));
    assert_eq!((at_first.passed_on(), at_first.accepted()), (0, 2));
    session.reset_tcp(ConnectionId::FIRST);
    exchange(&session, 100_000).await;
    assert!(at_second.bytes() > 200_000, "{at_second:?}");
    session.close(Default::default(), b"").await;
    session.closed().await;
    let ended = async {
        while at_second.open() > 0 {
            tokio::task::yield_now().await;
        }
    };
    soon(ended).await;
}
