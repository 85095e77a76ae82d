//! Decides which programs are registered: those of the configuration when they are first asked for, and those that a peer
//! brings if they are signed. Without sockets and kernel.

use std::collections::BTreeMap;
use std::time::Duration;

use tcpls_core::time::Time;

use super::signed::{VerifyingKey, verify};
use super::{Answer, MAX_OBJECT, ProgramId, ProgramName, Request};
use crate::rate_limit::{Bucket, RateLimit};

/// Programs of the configuration.
pub const MAX_ALLOWED: usize = 64;
/// Programs that peers brought and that are registered at a time.
pub const MAX_BROUGHT: usize = 8;
/// Keys that may sign programs.
pub const MAX_KEYS: usize = 16;

/// Requests.
const REQUESTS: RateLimit = RateLimit::new(200, Duration::from_millis(10));
/// Registrations: the kernel checks each program, which takes up to 0.2 s.
const REGISTRATIONS: RateLimit = RateLimit::new(8, Duration::from_secs(5));

/// Registers programs with a kernel.
pub trait Register {
    /// What keeps a program registered until it is dropped.
    type Link;

    /// Registers an object.
    ///
    /// # Errors
    /// The object is no congestion control, or the kernel refuses it. The text is for the log.
    fn register(&mut self, id: &ProgramId, object: &[u8]) -> Result<(ProgramName, Self::Link), String>;
}

/// What a helper may register, and what it has registered.
#[derive(Debug)]
pub struct Programs<R: Register> {
    kernel: R,
    /// Objects of the configuration.
    allowed: BTreeMap<ProgramId, Vec<u8>>,
    keys: Vec<VerifyingKey>,
    registered: BTreeMap<ProgramId, Registered<R::Link>>,
    requests: Bucket,
    registrations: Bucket,
    /// Counts requests, to know which program was last asked for the longest ago.
    count: u64,
}

#[derive(Debug)]
struct Registered<L> {
    name: ProgramName,
    is_brought: bool,
    /// The last request.
    asked: u64,
    _link: L,
}

impl<R: Register> Programs<R> {
    /// Starts without any program and key: every request is refused.
    pub const fn new(kernel: R) -> Self {
        Self {
            kernel,
            allowed: BTreeMap::new(),
            keys: Vec::new(),
            registered: BTreeMap::new(),
            requests: Bucket::new(REQUESTS),
            registrations: Bucket::new(REGISTRATIONS),
            count: 0,
        }
    }

    /// Allows an object, which is registered once it is asked for.
    ///
    /// # Errors
    /// It is empty or too long, or there are [`MAX_ALLOWED`].
    pub fn allow(&mut self, object: Vec<u8>) -> Result<ProgramId, String> {
        if object.is_empty() || object.len() > MAX_OBJECT {
            let length = object.len();
            return Err(format!("an object has 1 to {MAX_OBJECT} bytes, not {length}; llvm-strip -g shortens it"));
        }
        let id = ProgramId::of(&object);
        if self.allowed.len() >= MAX_ALLOWED && !self.allowed.contains_key(&id) {
            return Err(format!("at most {MAX_ALLOWED} objects are allowed"));
        }
        self.allowed.insert(id, object);
        Ok(id)
    }

    /// Accepts objects that this key signed.
    ///
    /// # Errors
    /// There are [`MAX_KEYS`].
    pub fn trust(&mut self, key: VerifyingKey) -> Result<(), String> {
        if self.keys.len() >= MAX_KEYS {
            return Err(format!("at most {MAX_KEYS} keys are accepted"));
        }
        self.keys.push(key);
        Ok(())
    }

    /// Answers a request at `now`, any clock's time that does not go back. The text is for the log.
    ///
    /// Blocks while the kernel checks a program.
    pub fn answer(&mut self, request: Request<'_>, now: Time) -> (Answer, Option<String>) {
        self.count += 1;
        if !self.requests.admit(now) {
            return (Answer::Busy, None);
        }
        let (id, brought) = match request {
            Request::ByHash(id) => (id, None),
            Request::Signed(signed) => match verify(signed, &self.keys) {
                Some(object) => (ProgramId::of(object), Some(object)),
                None => return (Answer::Unsigned, None),
            },
        };
        if let Some(registered) = self.registered.get_mut(&id) {
            registered.asked = self.count;
            return (Answer::Registered(registered.name.clone()), None);
        }
        let is_brought = !self.allowed.contains_key(&id);
        let Some(object) = self.allowed.get(&id).map(Vec::as_slice).or(brought) else {
            return (Answer::Unknown, None);
        };
        if !self.registrations.admit(now) {
            return (Answer::Busy, None);
        }
        let (name, link) = match self.kernel.register(&id, object) {
            Ok(registered) => registered,
            Err(reason) => return (Answer::Rejected, Some(format!("{id} was rejected: {reason}"))),
        };
        if is_brought {
            self.make_room();
        }
        let note = format!("registered {name}, SHA-256 {id}");
        self.registered.insert(id, Registered { name: name.clone(), is_brought, asked: self.count, _link: link });
        (Answer::Registered(name), Some(note))
    }

    /// Unregisters the program of a peer that was last asked for the longest ago, if there are [`MAX_BROUGHT`]. Sockets
    /// that use it keep it.
    fn make_room(&mut self) {
        let brought = || self.registered.iter().filter(|(_, registered)| registered.is_brought);
        if brought().count() >= MAX_BROUGHT
            && let Some(id) = brought().min_by_key(|(_, registered)| registered.asked).map(|(id, _)| *id)
        {
            self.registered.remove(&id);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::rc::Rc;

    use super::super::SigningKey;
    use super::super::signed::tests::pair;
    use super::*;

    /// What a kernel has registered. It refuses objects that begin with `!`.
    #[derive(Clone, Default)]
    struct Fake {
        registered: Rc<RefCell<Vec<ProgramName>>>,
        checked: Rc<RefCell<usize>>,
    }

    struct Link(Rc<RefCell<Vec<ProgramName>>>, ProgramName);

    impl Drop for Link {
        fn drop(&mut self) {
            self.0.borrow_mut().retain(|name| *name != self.1);
        }
    }

    impl Register for Fake {
        type Link = Link;

        fn register(&mut self, id: &ProgramId, object: &[u8]) -> Result<(ProgramName, Link), String> {
            *self.checked.borrow_mut() += 1;
            if object.starts_with(b"!") {
                return Err("the kernel says no".to_owned());
            }
            let name = ProgramName::of(b"fake", id)?;
            self.registered.borrow_mut().push(name.clone());
            Ok((name.clone(), Link(self.registered.clone(), name)))
        }
    }

    const NOW: Time = Time::from_millis(1000);

    #[test]
    fn without_configuration_everything_is_refused_and_nothing_reaches_the_kernel() {
        let kernel = Fake::default();
        let mut programs = Programs::new(kernel.clone());
        let signed = pair().0.sign(b"object").unwrap();
        assert_eq!(programs.answer(Request::ByHash(ProgramId::of(b"object")), NOW).0, Answer::Unknown);
        assert_eq!(programs.answer(Request::Signed(&signed), NOW).0, Answer::Unsigned);
        assert_eq!(*kernel.checked.borrow(), 0);
    }

    #[test]
    fn an_allowed_program_is_registered_once_when_it_is_asked_for() {
        let kernel = Fake::default();
        let mut programs = Programs::new(kernel.clone());
        let id = programs.allow(b"object".to_vec()).unwrap();
        assert_eq!(*kernel.checked.borrow(), 0);
        let (first, note) = programs.answer(Request::ByHash(id), NOW);
        assert!(matches!(first, Answer::Registered(_)) && note.is_some());
        assert_eq!(programs.answer(Request::ByHash(id), NOW), (first, None));
        assert_eq!((*kernel.checked.borrow(), kernel.registered.borrow().len()), (1, 1));
        drop(programs);
        assert!(kernel.registered.borrow().is_empty());
    }

    #[test]
    fn a_program_that_a_peer_brought_is_known_by_its_hash_afterwards() {
        let (signing, key, _) = pair();
        let mut programs = Programs::new(Fake::default());
        programs.trust(key).unwrap();
        let id = ProgramId::of(b"object");
        assert_eq!(programs.answer(Request::ByHash(id), NOW).0, Answer::Unknown);
        let registered = programs.answer(Request::Signed(&signing.sign(b"object").unwrap()), NOW).0;
        assert!(matches!(registered, Answer::Registered(_)), "{registered:?}");
        assert_eq!(programs.answer(Request::ByHash(id), NOW).0, registered);
    }

    #[test]
    fn wrongly_signed_programs_cost_no_registration() {
        let (_, key, _) = pair();
        let kernel = Fake::default();
        let mut programs = Programs::new(kernel.clone());
        programs.trust(key).unwrap();
        let id = programs.allow(b"object".to_vec()).unwrap();
        let forged = pair().0.sign(b"other").unwrap();
        for _ in 0..100 {
            assert_eq!(programs.answer(Request::Signed(&forged), NOW).0, Answer::Unsigned);
        }
        assert!(matches!(programs.answer(Request::ByHash(id), NOW).0, Answer::Registered(_)));
        assert_eq!(*kernel.checked.borrow(), 1);
    }

    #[test]
    fn the_ninth_brought_program_replaces_the_one_asked_for_the_longest_ago() {
        let (signing, key, _) = pair();
        let kernel = Fake::default();
        let mut programs = Programs::new(kernel.clone());
        programs.trust(key).unwrap();
        let allowed = programs.allow(b"allowed".to_vec()).unwrap();
        let mut now = NOW;
        let mut bring = |programs: &mut Programs<Fake>, number: u8| {
            now += REGISTRATIONS.interval;
            programs.answer(Request::Signed(&signing.sign(&[number]).unwrap()), now).0
        };
        assert!(matches!(programs.answer(Request::ByHash(allowed), NOW).0, Answer::Registered(_)));
        for number in 0..8 {
            assert!(matches!(bring(&mut programs, number), Answer::Registered(_)));
        }
        // The first is asked for again, so the second gives way. One of the configuration never does.
        bring(&mut programs, 0);
        assert!(matches!(bring(&mut programs, 8), Answer::Registered(_)));
        assert_eq!(kernel.registered.borrow().len(), 1 + MAX_BROUGHT);
        let is_known =
            |programs: &mut Programs<Fake>, id| programs.answer(Request::ByHash(id), now).0 != Answer::Unknown;
        assert!(is_known(&mut programs, ProgramId::of(&[0])) && is_known(&mut programs, allowed));
        assert!(!is_known(&mut programs, ProgramId::of(&[1])));
    }

    /// A store with as many programs of peers as there may be, and one that the configuration allows.
    fn full() -> (Programs<Fake>, Fake, SigningKey, ProgramId) {
        let (signing, key, _) = pair();
        let kernel = Fake::default();
        let mut programs = Programs::new(kernel.clone());
        programs.trust(key).unwrap();
        let allowed = programs.allow(b"allowed".to_vec()).unwrap();
        for number in 0..MAX_BROUGHT {
            let object = number.to_be_bytes();
            let answer = programs.answer(Request::Signed(&signing.sign(&object).unwrap()), NOW).0;
            assert!(matches!(answer, Answer::Registered(_)), "{answer:?}");
        }
        (programs, kernel, signing, allowed)
    }

    #[test]
    fn a_program_that_the_kernel_rejects_takes_the_place_of_none() {
        let (mut programs, kernel, signing, _) = full();
        let before = kernel.registered.borrow().clone();
        let later = NOW + REGISTRATIONS.interval;
        assert_eq!(programs.answer(Request::Signed(&signing.sign(b"!").unwrap()), later).0, Answer::Rejected);
        assert_eq!(*kernel.registered.borrow(), before);
    }

    #[test]
    fn a_program_of_the_configuration_takes_no_place_even_if_a_peer_brings_it() {
        let (mut programs, kernel, signing, allowed) = full();
        let mut later = NOW + REGISTRATIONS.interval;
        let signed = signing.sign(b"allowed").unwrap();
        assert!(matches!(programs.answer(Request::Signed(&signed), later).0, Answer::Registered(_)));
        assert_eq!(kernel.registered.borrow().len(), MAX_BROUGHT + 1, "it displaces none");
        for number in 0..=MAX_BROUGHT {
            later += REGISTRATIONS.interval;
            let object = [b"another ", &number.to_be_bytes()[..]].concat();
            let answer = programs.answer(Request::Signed(&signing.sign(&object).unwrap()), later).0;
            assert!(matches!(answer, Answer::Registered(_)), "{answer:?}");
        }
        let checked = *kernel.checked.borrow();
        assert!(matches!(programs.answer(Request::ByHash(allowed), later).0, Answer::Registered(_)));
        assert_eq!(*kernel.checked.borrow(), checked, "and is displaced by none");
        assert_eq!(kernel.registered.borrow().len(), MAX_BROUGHT + 1);
    }

    #[test]
    fn a_program_that_was_displaced_can_be_brought_again() {
        let (mut programs, kernel, signing, _) = full();
        let bring = |programs: &mut Programs<Fake>, object: &[u8], later| {
            let answer = programs.answer(Request::Signed(&signing.sign(object).unwrap()), later).0;
            assert!(matches!(answer, Answer::Registered(_)), "{answer:?}");
        };
        let first = 0_usize.to_be_bytes();
        bring(&mut programs, b"ninth", NOW + REGISTRATIONS.interval);
        let later = NOW + 2 * REGISTRATIONS.interval;
        assert_eq!(programs.answer(Request::ByHash(ProgramId::of(&first)), later).0, Answer::Unknown);
        bring(&mut programs, &first, later);
        let names = kernel.registered.borrow();
        assert_eq!(names.len(), MAX_BROUGHT, "each once: {names:?}");
    }

    #[test]
    fn registrations_are_limited_in_rate_also_those_that_the_kernel_rejects() {
        let (signing, key, _) = pair();
        let kernel = Fake::default();
        let mut programs = Programs::new(kernel.clone());
        programs.trust(key).unwrap();
        let signed = signing.sign(b"!").unwrap();
        let ask = |programs: &mut Programs<Fake>, now| programs.answer(Request::Signed(&signed), now).0;
        for _ in 0..REGISTRATIONS.burst {
            assert_eq!(ask(&mut programs, NOW), Answer::Rejected);
        }
        assert_eq!(ask(&mut programs, NOW), Answer::Busy);
        assert_eq!(ask(&mut programs, NOW + REGISTRATIONS.interval), Answer::Rejected);
        assert_eq!(ask(&mut programs, NOW + REGISTRATIONS.interval), Answer::Busy);
        assert_eq!(*kernel.checked.borrow(), 9);
    }

    #[test]
    fn requests_are_limited_in_rate() {
        let mut programs = Programs::new(Fake::default());
        let id = programs.allow(b"object".to_vec()).unwrap();
        let answered = (0..1000).filter(|_| programs.answer(Request::ByHash(id), NOW).0 != Answer::Busy).count();
        assert_eq!(answered, 200);
        assert_ne!(programs.answer(Request::ByHash(id), NOW + REQUESTS.interval).0, Answer::Busy);
    }

    #[test]
    fn objects_and_keys_of_a_configuration_are_limited() {
        let mut programs = Programs::new(Fake::default());
        assert!(programs.allow(vec![0; MAX_OBJECT]).is_ok());
        assert!(programs.allow(vec![0; MAX_OBJECT + 1]).is_err());
        assert!(programs.allow(Vec::new()).is_err());
        for number in 1..MAX_ALLOWED {
            programs.allow(number.to_be_bytes().to_vec()).unwrap();
        }
        assert!(programs.allow(b"more".to_vec()).is_err());
        for _ in 0..MAX_KEYS {
            programs.trust(VerifyingKey::new([0; 32])).unwrap();
        }
        assert!(programs.trust(VerifyingKey::new([0; 32])).is_err());
    }
}
