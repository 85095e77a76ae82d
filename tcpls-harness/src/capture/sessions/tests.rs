use super::super::tests::{key_log, random, sealed, secret};
use super::*;

const AES: Suite = Suite::Aes128Gcm;

#[test]
fn generations_follow_each_other_and_the_last_eight_are_kept() {
    let mut chain = Chain::new(AES, Some(&secret(0, false))).unwrap();
    assert!(chain.keys(1).is_some() && chain.keys(3).is_none(), "one cannot be left out");
    for generation in 2..20 {
        let record = sealed(&secret(0, false), (1, generation, 5), 23, b"a");
        assert!(chain.keys(generation).unwrap().open(ConnectionId(1), 5, &record).is_some(), "{generation}");
        assert!(chain.kept.len() <= MAX_GENERATIONS);
    }
    let known: Vec<u32> = (0..20).filter(|generation| chain.keys(*generation).is_some()).collect();
    assert_eq!(known, (12..20).collect::<Vec<_>>());
}

#[test]
fn first_record_of_a_join_may_have_the_keys_before_or_behind_the_newest() {
    let log = key_log(1);
    let mut sessions = Sessions::new(&log);
    let session = sessions.open(&random(0), AES).unwrap();
    let record = |generation| sealed(&secret(0, false), (3, generation, 0), 23, b"a");
    let mut first = |generation| {
        let opened = sessions.open_first(session, Side::Client, ConnectionId(3), &record(generation));
        opened.map(|(generation, _)| generation)
    };
    assert_eq!([first(2), first(1), first(0)], [None, Some(1), Some(0)], "1 is the newest from its record on");
    assert_eq!([first(2), first(3), first(1)], [Some(2), Some(3), None]);
}

#[test]
fn tokens_are_bounded_and_the_oldest_is_forgotten() {
    let log = key_log(1);
    let mut sessions = Sessions::new(&log);
    let session = sessions.open(&random(0), AES).unwrap();
    let token = |number: u32| {
        let mut token = [0; 32];
        token[..4].copy_from_slice(&number.to_be_bytes());
        token
    };
    let last = MAX_TOKENS as u32;
    for number in 0..=last {
        sessions.insert(token(number), session, ConnectionId(number));
    }
    assert_eq!((sessions.tokens.len(), sessions.token_order.len()), (MAX_TOKENS, MAX_TOKENS));
    assert!(sessions.find(&token(0)).is_none());
    assert_eq!(sessions.find(&token(last)), Some((session, ConnectionId(last))));
}

#[test]
fn search_finds_sessions_connection_ids_and_generations_within_its_limits() {
    let log = key_log(3);
    for (tcp, generation, is_found) in [(1, 0, true), (64, 3, true), (65, 0, false), (0, 0, false), (1, 4, false)] {
        let mut sessions = Sessions::new(&log);
        let found = sessions.search(&sealed(&secret(2, false), (tcp, generation, 0), 23, b"a"));
        let found = found.map(|found| (found.tcp.0, found.generation, sessions.all.len()));
        assert_eq!(found, is_found.then_some((tcp, generation, 1)), "{tcp} {generation}");
        assert_eq!(sessions.by_random.len(), sessions.all.len(), "others are not kept");
        // A session that is known is found again, and counted once.
        if is_found {
            let again = sessions.search(&sealed(&secret(2, false), (2, generation, 0), 23, b"a")).unwrap();
            let older = sealed(&secret(2, false), (3, generation.saturating_sub(1), 0), 23, b"a");
            assert_eq!(again.session, sessions.search(&older).unwrap().session);
            assert_eq!(
                [sessions.number(again.session), sessions.number(again.session), sessions.numbered()],
                [0, 0, 1]
            );
        }
    }
}

#[test]
fn trials_of_a_capture_are_bounded_and_each_walk_through_the_log_counts() {
    let log = key_log(2);
    let mut sessions = Sessions::new(&log);
    sessions.trials = MAX_TRIALS - 100;
    let record = sealed(&secret(1, false), (1, 0, 0), 23, b"a");
    assert!(sessions.search(&record).is_none(), "the first session uses up what is left");
    assert_eq!((sessions.trials, sessions.all.len()), (MAX_TRIALS, 0));
    assert!(sessions.search(&record).is_none());
    assert_eq!(sessions.trials, MAX_TRIALS);

    let empty = KeyLog::default();
    let mut sessions = Sessions::new(&empty);
    (0..10).for_each(|_| assert!(sessions.search(&record).is_none()));
    assert_eq!(sessions.trials, 10);
}
