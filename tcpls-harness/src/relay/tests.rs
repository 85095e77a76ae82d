//! A relay between two plain sockets.

use super::link::BURST;
use super::*;

const ANY: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);

async fn relayed(options: PathOptions) -> (Relay, TcpStream, TcpStream) {
    let target = TcpListener::bind(ANY).await.unwrap();
    let relay = Relay::start(ANY, target.local_addr().unwrap(), options).unwrap();
    let (near, far) = tokio::join!(TcpStream::connect(relay.address()), target.accept());
    (relay, near.unwrap(), far.unwrap().0)
}

#[tokio::test]
async fn bytes_and_fin_arrive_after_the_delay_of_the_path() {
    let delay = Duration::from_millis(20);
    let (_relay, mut near, mut far) = relayed(PathOptions { rate: Some(1_000_000), delay }).await;
    let start = Instant::now();
    let writer = async {
        near.write_all(&[7; 50_000]).await.unwrap();
        near.shutdown().await.unwrap();
    };
    let mut received = Vec::new();
    let (_, read) = tokio::join!(writer, far.read_to_end(&mut received));
    assert_eq!((read.unwrap(), received), (50_000, vec![7; 50_000]));
    assert!(start.elapsed() >= delay + Duration::from_millis(50) - BURST);
}

#[tokio::test]
async fn a_reset_is_seen_on_both_sides() {
    let (relay, mut near, mut far) = relayed(PathOptions { rate: None, delay: Duration::ZERO }).await;
    near.write_all(b"up").await.unwrap();
    far.read_exact(&mut [0; 2]).await.unwrap();
    relay.reset();
    let kind = |result: io::Result<usize>| result.unwrap_err().kind();
    assert_eq!(kind(near.read(&mut [0]).await), io::ErrorKind::ConnectionReset);
    assert_eq!(kind(far.read(&mut [0]).await), io::ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn delayed_bytes_pass_after_a_stalled_path_resumes() {
    let (relay, mut near, mut far) = relayed(PathOptions { rate: None, delay: Duration::ZERO }).await;
    relay.stall();
    near.write_all(b"late").await.unwrap();
    let mut received = [0; 4];
    let early = tokio::time::timeout(Duration::from_millis(20), far.read_exact(&mut received)).await;
    assert!(early.is_err());
    relay.resume();
    far.read_exact(&mut received).await.unwrap();
    assert_eq!(&received, b"late");
}

/// How the next byte reads: there is one, or the end, or a failure.
async fn next_of(stream: &mut TcpStream) -> Result<usize, io::ErrorKind> {
    stream.read(&mut [0]).await.map_err(|error| error.kind())
}

#[tokio::test]
async fn end_reaches_the_ends_that_it_is_for() {
    let (reset, fin) = (Err(io::ErrorKind::ConnectionReset), Ok(0));
    for (how, near_hears, far_hears) in [
        (Break::Reset, Some(reset), Some(reset)),
        (Break::ResetNear, Some(reset), None),
        (Break::ResetFar, None, Some(reset)),
        (Break::Fin, Some(fin), Some(fin)),
        (Break::Forget, None, None),
    ] {
        let (relay, mut near, mut far) = relayed(PathOptions { rate: None, delay: Duration::ZERO }).await;
        near.write_all(b"up").await.unwrap();
        far.read_exact(&mut [0; 2]).await.unwrap();
        relay.end(how);
        for (stream, hears) in [(&mut near, near_hears), (&mut far, far_hears)] {
            match hears {
                Some(hears) => assert_eq!(next_of(stream).await, hears, "{how:?}"),
                None => assert_eq!(stream.try_read(&mut [0]).unwrap_err().kind(), io::ErrorKind::WouldBlock),
            }
        }
    }
}

#[tokio::test]
async fn one_direction_stalls_and_the_other_does_not() {
    let (relay, mut near, mut far) = relayed(PathOptions { rate: None, delay: Duration::ZERO }).await;
    relay.set_stalled(Way::Up, true);
    near.write_all(b"u").await.unwrap();
    far.write_all(b"d").await.unwrap();
    assert_eq!(near.read_u8().await.unwrap(), b'd');
    assert_eq!(far.try_read(&mut [0]).unwrap_err().kind(), io::ErrorKind::WouldBlock);
    relay.set_stalled(Way::Up, false);
    assert_eq!(far.read_u8().await.unwrap(), b'u');
}

#[tokio::test]
async fn one_bit_is_flipped_and_small_pieces_add_up() {
    let (relay, mut near, mut far) = relayed(PathOptions { rate: None, delay: Duration::ZERO }).await;
    relay.corrupt(Way::Up);
    relay.set_shreds(true);
    let mut received = vec![0; 100_000];
    near.write_all(&[7; 100_000]).await.unwrap();
    far.read_exact(&mut received).await.unwrap();
    let wrong: Vec<u8> = received.into_iter().filter(|byte| *byte != 7).collect();
    assert_eq!(wrong, [7 ^ 4]);
    far.write_all(&[7; 1000]).await.unwrap();
    let mut received = [0; 1000];
    near.read_exact(&mut received).await.unwrap();
    assert_eq!(received, [7; 1000], "the other direction is left alone");
}

#[tokio::test]
async fn rate_and_delay_can_change() {
    let (relay, mut near, mut far) = relayed(PathOptions { rate: None, delay: Duration::ZERO }).await;
    relay.set_delay(Way::Up, Duration::from_millis(20));
    relay.set_rate(Way::Up, Some(1_000_000));
    let start = Instant::now();
    near.write_all(&[7; 50_000]).await.unwrap();
    far.read_exact(&mut vec![0; 50_000]).await.unwrap();
    assert!(start.elapsed() >= Duration::from_millis(70) - BURST);
}
