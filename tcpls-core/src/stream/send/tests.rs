//! Tests of the sending half.

use super::*;

const ID: StreamId = StreamId(0);
const A: ConnectionId = ConnectionId(0);
const B: ConnectionId = ConnectionId(1);

fn half(data: &[u8]) -> SendHalf {
    let mut half = SendHalf::new(ID, Credit::UNLIMITED);
    half.write(data);
    half
}

fn next(half: &mut SendHalf, max: u64) -> Option<Chunk> {
    half.next_chunk(max, u64::MAX).map(|(chunk, _)| chunk)
}

fn chunk(offset: u64, len: u16, fin: bool) -> Chunk {
    Chunk { id: ID, offset, len, fin, hedged: false }
}

fn acked(half: &mut SendHalf, chunk: &Chunk) {
    half.handle_acked(chunk.range(), chunk.fin);
}

#[test]
fn the_end_rides_on_the_last_bytes() {
    let mut half = half(b"hello");
    half.finish().unwrap();
    assert_eq!(next(&mut half, 3), Some(chunk(0, 3, false)));
    assert_eq!(next(&mut half, 3), Some(chunk(3, 2, true)));
    assert_eq!(next(&mut half, 3), None);
}

#[test]
fn end_is_sent_alone_after_all_bytes() {
    let mut half = half(b"hello");
    next(&mut half, 9);
    half.finish().unwrap();
    assert_eq!(half.need(), Some(Need::Nothing));
    assert_eq!(next(&mut half, 9), Some(chunk(5, 0, true)));
}

#[test]
fn a_lost_end_is_sent_again() {
    let mut half = half(b"hello");
    half.finish().unwrap();
    let all = next(&mut half, 9).unwrap();
    assert_eq!(half.handle_lost(&all), 5);
    assert_eq!(next(&mut half, 9), Some(all));
    acked(&mut half, &chunk(0, 5, false));
    assert!(!half.is_over());
    assert_eq!(half.handle_lost(&all), 0);
    assert_eq!(next(&mut half, 9), Some(chunk(5, 0, true)));
    acked(&mut half, &chunk(5, 0, true));
    assert!(half.take_delivered() && half.is_over());
    assert!(!half.take_delivered());
}

#[test]
fn lost_bytes_go_before_fresh_ones() {
    let mut half = half(b"0123456789");
    let first = next(&mut half, 4).unwrap();
    next(&mut half, 2);
    half.handle_lost(&first);
    assert_eq!(next(&mut half, 3), Some(chunk(0, 3, false)));
    assert_eq!(next(&mut half, 3), Some(chunk(3, 1, false)));
    assert_eq!(next(&mut half, 3), Some(chunk(6, 3, false)));
}

#[test]
fn only_what_is_neither_acknowledged_nor_pending_is_requeued() {
    let mut half = half(b"0123456789");
    next(&mut half, 10);
    acked(&mut half, &chunk(4, 2, false));
    assert_eq!(half.handle_lost(&chunk(2, 1, false)), 1);
    assert_eq!(half.handle_lost(&chunk(0, 10, false)), 7);
    assert_eq!(half.handle_lost(&chunk(0, 10, false)), 0);
}

#[test]
fn late_acknowledgment_after_a_loss_stops_reinjection() {
    let mut half = half(b"0123456789");
    let all = next(&mut half, 10).unwrap();
    half.handle_lost(&all);
    acked(&mut half, &all);
    assert_eq!((half.need(), half.buffered()), (None, 0));
}

#[test]
fn memory_is_freed_when_the_front_is_acknowledged() {
    let mut half = half(&[0; 30]);
    for _ in 0..3 {
        next(&mut half, 10);
    }
    acked(&mut half, &chunk(20, 10, false));
    assert_eq!(half.buffered(), 30);
    acked(&mut half, &chunk(0, 10, false));
    assert_eq!(half.buffered(), 20);
    acked(&mut half, &chunk(10, 10, false));
    assert_eq!((half.buffered(), half.acked.is_empty()), (0, true));
}

#[test]
fn the_peers_limit_holds_back_fresh_bytes_and_the_end() {
    let mut half = half(b"0123456789");
    half.finish().unwrap();
    half.credit = Credit::default();
    assert_eq!(half.need(), None);
    half.raise_limit(4);
    assert_eq!(next(&mut half, 9), Some(chunk(0, 4, false)));
    assert_eq!((half.need(), next(&mut half, 9)), (None, None));
    half.raise_limit(10);
    assert_eq!(half.next_chunk(9, 1), Some((chunk(4, 1, false), 1)));
    assert_eq!(next(&mut half, 9), Some(chunk(5, 5, true)));
}

#[test]
fn reset_drops_unsent_bytes_and_carries_the_final_size() {
    let mut half = half(b"0123456789");
    let sent = next(&mut half, 4).unwrap();
    half.reset(ErrorCode(7)).unwrap();
    assert_eq!((half.buffered(), half.need(), half.handle_lost(&sent)), (0, None, 0));
    assert_eq!(half.take_reset(), Some((ErrorCode(7), 4)));
    assert_eq!(half.take_reset(), None);
    assert!(half.handle_reset_lost());
    assert_eq!(half.take_reset(), Some((ErrorCode(7), 4)));
    half.handle_reset_acked();
    assert!(half.is_over() && !half.handle_reset_lost() && !half.take_delivered());
    assert_eq!(half.reset(ErrorCode(8)), Err(WriteError::Finished));
}

#[test]
fn a_finished_stream_can_be_reset_until_it_is_delivered() {
    let mut half = half(b"hi");
    half.finish().unwrap();
    let all = next(&mut half, 9).unwrap();
    half.reset(ErrorCode(7)).unwrap();
    acked(&mut half, &all);
    assert!(!half.is_over());
    assert_eq!(half.take_reset(), Some((ErrorCode(7), 2)));
}

#[test]
fn stop_sending_is_answered_with_a_reset_of_the_same_code() {
    let mut half = half(b"hi");
    assert!(half.handle_stop(ErrorCode(5)));
    assert!(!half.handle_stop(ErrorCode(6)));
    assert_eq!(half.check_open(), Err(WriteError::Stopped(ErrorCode(5))));
    assert_eq!(half.take_reset(), Some((ErrorCode(5), 0)));
}

#[test]
fn stop_sending_of_a_delivered_stream_changes_nothing() {
    let mut half = half(b"");
    half.finish().unwrap();
    let fin = next(&mut half, 9).unwrap();
    acked(&mut half, &fin);
    assert!(!half.handle_stop(ErrorCode(5)));
}

#[test]
fn contents_of_a_lost_tcp_connection_are_not_kept() {
    let mut half = half(b"hello");
    let sent = next(&mut half, 9).unwrap();
    half.set_carried(A, &sent);
    half.set_carried(B, &sent);
    half.forget_tcp(A);
    assert!(half.carried(A).is_none() && half.carried(B).is_some());
}

#[test]
fn duplicate_is_data_that_another_tcp_connection_carried() {
    let mut half = half(b"0123456789");
    half.finish().unwrap();
    for (tcp, max) in [(A, 4), (B, 2), (A, 4)] {
        let sent = next(&mut half, max).unwrap();
        half.set_carried(tcp, &sent);
    }
    let mut duplicates = |tcp| {
        let taken = half.next_duplicate(tcp, 3)?;
        half.set_carried(tcp, &taken);
        Some(taken)
    };
    assert_eq!(duplicates(A), Some(chunk(4, 2, false)));
    assert_eq!(duplicates(A), None);
    assert_eq!(duplicates(B), Some(chunk(0, 3, false)));
    assert_eq!(duplicates(B), Some(chunk(3, 1, false)));
    assert_eq!(duplicates(B), Some(chunk(6, 3, false)));
    assert_eq!(duplicates(B), Some(chunk(9, 1, true)));
    assert_eq!(duplicates(B), None);
    assert!(!half.has_duplicate(A) && !half.has_duplicate(B));
}

#[test]
fn acknowledged_and_pending_bytes_are_not_duplicated() {
    let mut half = half(b"0123456789");
    let all = next(&mut half, 10).unwrap();
    half.set_carried(A, &all);
    acked(&mut half, &chunk(2, 2, false));
    half.handle_lost(&chunk(6, 4, false));
    assert_eq!(half.next_duplicate(B, 9), Some(chunk(0, 2, false)));
    half.set_carried(B, &chunk(0, 2, false));
    assert_eq!(half.next_duplicate(B, 9), Some(chunk(4, 2, false)));
    half.set_carried(B, &chunk(4, 2, false));
    assert!(!half.has_duplicate(B));
}
