//! What is said to the helper that registers BPF programs: any bytes as messages, and requests of any kind at any time.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::rc::Rc;
use std::sync::OnceLock;
use std::time::Duration;

use tcpls_core::time::Time;
use tcpls_harness::programs::{
    Answer, HEADER_LEN, MAX_BROUGHT, MAX_OBJECT, MAX_REQUEST, ProgramId, ProgramName, Programs, Register, Request,
    SIGNATURE_LEN, SigningKey, VerifyingKey, Wanted, verify,
};

use crate::choices::Choices;

/// A key for these properties alone.
const KEY: &[u8] = b"-----BEGIN PRIVATE KEY-----
MC4CAQAwBQYDK2VwBCIEIPDZPbaNUAwh8MQ6HTsbJej3wJ5eq7CcUPpJiLk8FP3C
-----END PRIVATE KEY-----";
const PUBLIC: [u8; 32] = [
    0x9c, 0xf5, 0xce, 0x8b, 0x06, 0x8c, 0xa1, 0x5a, 0xf9, 0xfc, 0x84, 0x57, 0x79, 0x50, 0xca, 0x8a, 0x4a, 0x51, 0x46,
    0x4e, 0xcd, 0xb6, 0x52, 0x63, 0xdb, 0xf2, 0x23, 0x93, 0x1c, 0x91, 0x66, 0xa8,
];

/// The target `program`: the input is a message, a signed object, and a list of requests.
pub fn program(input: &[u8]) {
    messages(input);
    assert_eq!(verify(input, &[VerifyingKey::new(PUBLIC)]), None, "a signature without the key");
    requests(input);
}

/// What is read is written as the same bytes, and a request says how long it is from its header on.
fn messages(input: &[u8]) {
    match Request::read(input) {
        Ok(Ok(request)) => assert_eq!(request.bytes(), input),
        Ok(Err(Wanted(length))) => {
            assert!(input.len() < length && (HEADER_LEN..=MAX_REQUEST).contains(&length));
            if input.len() >= HEADER_LEN {
                let full = [input, &vec![7; length - input.len()]].concat();
                assert!(matches!(Request::read(&full), Ok(Ok(_))));
            }
        }
        Err(_) => assert!(Request::read(&[input, &[0]].concat()).is_err()),
    }
    if let Ok(answer) = Answer::read(input) {
        assert_eq!(answer.bytes(), input);
        assert!(input.len() <= Answer::MAX_LEN);
    }
    if let Ok(name) = ProgramName::of(input, &ProgramId::new([0xab; 32])) {
        assert_eq!(ProgramName::read(name.as_str().as_bytes()), Some(name));
    }
}

/// A kernel that refuses objects with an odd first byte.
#[derive(Default)]
struct Kernel {
    registered: Rc<Cell<usize>>,
    checked: Rc<Cell<usize>>,
}

struct Link(Rc<Cell<usize>>);

impl Drop for Link {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

impl Register for Kernel {
    type Link = Link;

    fn register(&mut self, id: &ProgramId, object: &[u8]) -> Result<(ProgramName, Link), String> {
        assert!((1..=MAX_OBJECT).contains(&object.len()));
        assert!(object[0] < 32 || object.starts_with(b"allowed"), "neither allowed nor signed");
        self.checked.set(self.checked.get() + 1);
        if object[0] & 1 == 1 && !object.starts_with(b"allowed") {
            return Err("odd".to_owned());
        }
        self.registered.set(self.registered.get() + 1);
        Ok((ProgramName::of(object, id).or_else(|_| ProgramName::of(b"any", id))?, Link(self.registered.clone())))
    }
}

/// Objects of one byte, 0 to 31, signed.
fn signed() -> &'static [Vec<u8>] {
    static SIGNED: OnceLock<Vec<Vec<u8>>> = OnceLock::new();
    SIGNED.get_or_init(|| {
        let key = SigningKey::from_pem(KEY).expect("this is a key");
        (0..32).map(|object| key.sign(&[object]).expect("it is short")).collect()
    })
}

/// Only what is allowed or signed reaches the kernel, at most so often, and what is registered is bounded.
fn requests(input: &[u8]) {
    let kernel = Kernel::default();
    let (registered, checked) = (kernel.registered.clone(), kernel.checked.clone());
    let mut programs = Programs::new(kernel);
    programs.trust(VerifyingKey::new(PUBLIC)).expect("it is the first");
    let allowed = programs.allow(b"allowed".to_vec()).expect("it is the first");
    let mut known: BTreeSet<ProgramId> = BTreeSet::new();
    let mut choices = Choices::new(input);
    let mut now = Time::from_millis(1000);
    let mut asked = 0_usize;
    while let Some(choice) = choices.next().filter(|_| asked < 400) {
        asked += 1;
        let object = usize::from(choices.byte() % 32);
        let mut changed = signed()[object].clone();
        let at = usize::from(choice) % changed.len();
        changed[at] ^= 0x80;
        let id = ProgramId::of(&signed()[object][SIGNATURE_LEN..]);
        let (request, wanted) = match choice % 6 {
            0 => (Request::ByHash(allowed), allowed),
            1 => (Request::ByHash(id), id),
            2 | 3 => (Request::Signed(&signed()[object]), id),
            4 => (Request::Signed(&changed), id),
            _ => {
                now += Duration::from_millis(u64::from(choices.pair()));
                continue;
            }
        };
        let before = checked.get();
        let (answer, _) = programs.answer(request, now);
        assert!(before == checked.get() || choice % 6 < 4, "a wrong signature reached the kernel");
        match answer {
            Answer::Registered(_) => {
                assert!(choice % 6 != 4 && (choice % 6 != 1 || known.contains(&wanted)));
                known.insert(wanted);
            }
            Answer::Unknown => assert_eq!(choice % 6, 1),
            Answer::Unsigned => assert_eq!(choice % 6, 4),
            Answer::Rejected => assert!(object % 2 == 1 && checked.get() == before + 1),
            Answer::Busy => assert_eq!(checked.get(), before),
            Answer::Malformed => unreachable!("the request is well-formed"),
        }
        assert!(registered.get() <= MAX_BROUGHT + 1);
    }
    let intervals = (now - Time::from_millis(1000)).as_secs() / 5;
    assert!(checked.get() <= 8 + usize::try_from(intervals).expect("it is small"));
    drop(programs);
    assert_eq!(registered.get(), 0);
}
