//! Turns for look-ups of names. Each takes a thread of the resolver until it gives up, so there are few at a time. A few
//! clients cannot take them all: a client that has none gets the next one.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use super::places::Requester;
use super::refusal::Refusal;

/// Look-ups of all clients at the same time.
const ALL: usize = 64;
/// Of these, the last ones are for clients that have none.
const FOR_FIRST: usize = 16;
/// Look-ups of one client at the same time.
const EACH: usize = 16;
/// Look-ups of one client that wait behind those.
const WAITING: usize = 240;

/// Look-ups that take place or wait.
#[derive(Clone, Debug, Default)]
pub(super) struct LookUps(Arc<Mutex<Turns>>);

impl LookUps {
    pub(super) fn new() -> Self {
        Self::default()
    }

    /// Waits for a slot, which is free when it is dropped. Cancel safe.
    ///
    /// The waiting client with the fewest look-ups is next; of those with the same number, the one that has waited longest.
    pub(super) async fn slot(&self, from: &Requester) -> Result<Slot, Refusal> {
        let (slot, turn) = self.ask(from)?;
        turn.await.map_err(|_| Refusal::Overloaded)?;
        Ok(slot)
    }

    fn ask(&self, from: &Requester) -> Result<(Slot, oneshot::Receiver<()>), Refusal> {
        let mut turns = self.turns();
        let (number, turn) = turns.ask(from)?;
        drop(turns);
        Ok((Slot { look_ups: self.clone(), from: from.clone(), number }, turn))
    }

    fn turns(&self) -> MutexGuard<'_, Turns> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A look-up that takes place, or waits for its turn.
#[derive(Debug)]
pub(super) struct Slot {
    look_ups: LookUps,
    from: Requester,
    number: u64,
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.look_ups.turns().end(&self.from, self.number);
    }
}

/// Which look-ups take place, and which wait. None waits that may take place.
#[derive(Debug, Default)]
struct Turns {
    /// How many take place.
    running: usize,
    /// The number of the next one.
    next: u64,
    clients: BTreeMap<Requester, Client>,
    /// The clients with one that waits and may be next, in the order in which they are: by the number of those that take
    /// place, then by the first that waits.
    line: BTreeSet<(usize, u64, Requester)>,
}

#[derive(Debug, Default)]
struct Client {
    /// How many take place.
    running: usize,
    /// Those that wait.
    waiting: BTreeMap<u64, oneshot::Sender<()>>,
}

impl Turns {
    fn ask(&mut self, from: &Requester) -> Result<(u64, oneshot::Receiver<()>), Refusal> {
        let asked = self.clients.get(from).map_or(0, |client| client.running + client.waiting.len());
        // Those that are not told apart share what all have.
        if asked >= EACH + WAITING && !from.is_shared() {
            return Err(Refusal::TooManyNames);
        }
        let (sender, turn) = oneshot::channel();
        let number = self.next;
        self.next += 1;
        self.change(from, |client| _ = client.waiting.insert(number, sender));
        self.pass_on();
        Ok((number, turn))
    }

    /// A look-up ends, or does not wait any more.
    fn end(&mut self, from: &Requester, number: u64) {
        let waited = self.change(from, |client| {
            let waited = client.waiting.remove(&number).is_some();
            client.running -= usize::from(!waited);
            waited
        });
        self.running -= usize::from(!waited);
        self.pass_on();
    }

    /// Lets those begin that may.
    fn pass_on(&mut self) {
        while let Some((number, from)) = self.first_that_may() {
            self.running += 1;
            let waits = self.change(&from, |client| {
                client.running += 1;
                client.waiting.remove(&number)
            });
            // One that is being dropped ends at once.
            waits.into_iter().for_each(|turn| _ = turn.send(()));
        }
    }

    /// The first in the line that may begin. Those that are not told apart may, although clients before them have to leave
    /// the last look-ups to clients that have none.
    fn first_that_may(&self) -> Option<(u64, Requester)> {
        let (running, number, from) = self.line.first()?;
        if self.running < if *running == 0 || from.is_shared() { ALL } else { ALL - FOR_FIRST } {
            return Some((*number, from.clone()));
        }
        let shared = self.clients.get(&Requester::SHARED).filter(|_| self.running < ALL)?;
        shared.place(&Requester::SHARED).map(|(_, number, from)| (number, from))
    }

    /// Changes a client, and its place in the line.
    fn change<R>(&mut self, from: &Requester, change: impl FnOnce(&mut Client) -> R) -> R {
        let client = self.clients.entry(from.clone()).or_default();
        client.place(from).into_iter().for_each(|place| _ = self.line.remove(&place));
        let result = change(client);
        self.line.extend(client.place(from));
        if client.running == 0 && client.waiting.is_empty() {
            self.clients.remove(from);
        }
        result
    }
}

impl Client {
    /// Its place in the line; `None` if none may be next.
    fn place(&self, from: &Requester) -> Option<(usize, u64, Requester)> {
        let first = *self.waiting.first_key_value()?.0;
        (self.running < EACH || from.is_shared()).then(|| (self.running, first, from.clone()))
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::Pin;
    use std::task::{Context, Poll, Waker};

    use super::*;

    type Waiting = Pin<Box<dyn Future<Output = Result<Slot, Refusal>>>>;

    fn user(name: &str) -> Requester {
        Requester::User(name.into())
    }

    fn ask(look_ups: &LookUps, from: &Requester) -> Waiting {
        let (look_ups, from) = (look_ups.clone(), from.clone());
        Box::pin(async move { look_ups.slot(&from).await })
    }

    fn poll(waiting: &mut Waiting) -> Poll<Result<Slot, Refusal>> {
        waiting.as_mut().poll(&mut Context::from_waker(Waker::noop()))
    }

    /// Asks for this many at once; returns those that take place, wait, and are refused.
    fn flood(look_ups: &LookUps, from: &Requester, number: usize) -> (Vec<Slot>, Vec<Waiting>, usize) {
        let (mut slots, mut waiting, mut refused) = (Vec::new(), Vec::new(), 0);
        for _ in 0..number {
            let mut asked = ask(look_ups, from);
            match poll(&mut asked) {
                Poll::Ready(Ok(slot)) => slots.push(slot),
                Poll::Ready(Err(refusal)) => {
                    assert_eq!(refusal, Refusal::TooManyNames);
                    refused += 1;
                }
                Poll::Pending => waiting.push(asked),
            }
        }
        (slots, waiting, refused)
    }

    #[test]
    fn a_client_takes_a_quarter_of_the_look_ups_and_some_more_wait() {
        let look_ups = LookUps::new();
        let (mut slots, mut waiting, refused) = flood(&look_ups, &user("ann"), 1000);
        assert_eq!((slots.len(), waiting.len(), refused), (EACH, WAITING, 1000 - EACH - WAITING));
        assert!(poll(&mut waiting[0]).is_pending());
        drop(slots.pop());
        assert!(poll(&mut waiting[1]).is_pending(), "in the order of asking");
        assert!(poll(&mut waiting[0]).is_ready());
    }

    #[test]
    fn clients_that_take_all_they_can_keep_no_other_from_its_first_look_up() {
        let look_ups = LookUps::new();
        let mut greedy: Vec<_> =
            ["ann", "bob", "eve", "joe"].iter().map(|name| flood(&look_ups, &user(name), 100)).collect();
        let numbers =
            |greedy: &[(Vec<Slot>, Vec<Waiting>, usize)]| greedy.iter().map(|all| all.0.len()).collect::<Vec<_>>();
        assert_eq!(numbers(&greedy), [16, 16, 16, 1]);
        let others: Vec<_> = (0..15).map(|other| flood(&look_ups, &user(&other.to_string()), 2)).collect();
        assert!(others.iter().all(|(slots, waiting, _)| (slots.len(), waiting.len()) == (1, 1)));
        // All are taken. A new client is next, before those that have waited for longer.
        let mut last = ask(&look_ups, &user("zoe"));
        assert!(poll(&mut last).is_pending());
        drop(greedy[0].0.pop());
        assert!(poll(&mut last).is_ready());
        // What waits and is given up, or has its turn and is not looked at, leaves nothing behind.
        drop((greedy, others, last));
        let turns = look_ups.turns();
        assert!(turns.clients.is_empty() && turns.line.is_empty());
        assert_eq!(turns.running, 0);
    }

    #[test]
    fn no_look_up_waits_that_may_take_place() {
        let look_ups = LookUps::new();
        let mut asked: Vec<Waiting> = Vec::new();
        let mut slots: Vec<Slot> = Vec::new();
        let mut random = 1_u64;
        for _ in 0..20_000 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let (what, which) = ((random >> 32) as usize % 8, (random >> 40) as usize);
            match what {
                0..4 => asked.push(ask(&look_ups, &user(&(which % 7 * (which % 5)).to_string()))),
                4 if !asked.is_empty() => drop(asked.swap_remove(which % asked.len())),
                5.. if !slots.is_empty() => drop(slots.swap_remove(which % slots.len())),
                _ => {}
            }
            for mut waiting in std::mem::take(&mut asked) {
                match poll(&mut waiting) {
                    Poll::Ready(Ok(slot)) => slots.push(slot),
                    Poll::Ready(Err(_)) => {}
                    Poll::Pending => asked.push(waiting),
                }
            }
            let turns = look_ups.turns();
            let waits = |running: std::ops::Range<usize>| {
                turns.clients.values().any(|client| !client.waiting.is_empty() && running.contains(&client.running))
            };
            assert_eq!(
                (turns.running, turns.clients.values().map(|client| client.waiting.len()).sum()),
                (slots.len(), asked.len())
            );
            assert!(turns.running <= ALL && turns.clients.values().all(|client| client.running <= EACH));
            assert!(!waits(0..1) || turns.running == ALL, "{turns:?}");
            assert!(!waits(0..EACH) || turns.running >= ALL - FOR_FIRST, "{turns:?}");
        }
    }

    #[test]
    fn clients_behind_a_trusted_proxy_share_all_look_ups() {
        let look_ups = LookUps::new();
        let (slots, waiting, refused) = flood(&look_ups, &Requester::SHARED, 1000);
        assert_eq!((slots.len(), waiting.len(), refused), (ALL, 1000 - ALL, 0));
    }

    #[test]
    fn clients_that_take_all_they_can_leave_look_ups_to_those_behind_a_trusted_proxy() {
        let look_ups = LookUps::new();
        let greedy: Vec<_> =
            ["ann", "bob", "eve", "joe"].iter().map(|name| flood(&look_ups, &user(name), 100)).collect();
        let (slots, waiting, refused) = flood(&look_ups, &Requester::SHARED, 100);
        assert_eq!((slots.len(), waiting.len(), refused), (ALL - 3 * EACH - 1, 100 - slots.len(), 0));
        let mut last = ask(&look_ups, &user("zoe"));
        assert!(poll(&mut last).is_pending());
        drop((greedy, slots));
        assert!(poll(&mut last).is_ready());
    }
}
