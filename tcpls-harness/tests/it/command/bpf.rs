//! `tcpls bpf-helper` and `bpf-sign`, with the kernel where it allows BPF programs. Elsewhere the reason is printed.

use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use rustix::thread::{CapabilitySet, CapabilitySets, capabilities, set_capabilities};
use socket2::{Domain, Socket, Type};
use tcpls_harness::programs::{Answer, Helper, MAX_OBJECT, ProgramId, Request};
use tokio::io::{AsyncBufReadExt, BufReader};

use super::{Tcpls, command};
use crate::support::Directory;

/// The program in the repository.
fn multcp() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("bpf/multcp.o")
}

/// Why programs can't be registered here, if they can't.
fn obstacle() -> Option<&'static str> {
    let needed = CapabilitySet::BPF | CapabilitySet::PERFMON;
    if !capabilities(None).unwrap().permitted.contains(needed) {
        return Some("these tests have no CAP_BPF and CAP_PERFMON");
    }
    let has_types = Path::new("/sys/kernel/btf/vmlinux").exists();
    (!has_types).then_some("this kernel has no type information (CONFIG_DEBUG_INFO_BTF)")
}

/// Returns from a test that needs the kernel's permission, and prints why.
macro_rules! needs_kernel {
    () => {
        if let Some(obstacle) = obstacle() {
            println!("skipped: {obstacle}");
            return;
        }
    };
}

/// A running helper, and its socket.
async fn helper(directory: &Directory, options: &[&str]) -> (Tcpls, Helper) {
    let socket = directory.path().join("socket");
    let mut line = command(&["bpf-helper", "--socket", socket.to_str().unwrap()]);
    line.args(options);
    let mut process = Tcpls::spawn(line);
    let mut messages = BufReader::new(process.child.stderr.as_mut().unwrap()).lines();
    loop {
        let line = messages.next_line().await.unwrap().expect("it ended before it listened");
        if line.starts_with("answers at ") {
            break;
        }
    }
    (process, Helper::at(socket))
}

/// A new socket with the congestion control, of a thread without capabilities.
fn unprivileged(name: &str) -> std::io::Result<Socket> {
    let name = name.to_owned();
    let thread = std::thread::spawn(move || {
        let none = CapabilitySet::empty();
        set_capabilities(None, CapabilitySets { effective: none, permitted: none, inheritable: none }).unwrap();
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        socket.set_tcp_congestion(name.as_bytes())?;
        Ok(socket)
    });
    thread.join().unwrap()
}

fn congestion(socket: &Socket) -> String {
    let name = socket.tcp_congestion().unwrap();
    String::from_utf8(name.split(|byte| *byte == 0).next().unwrap().to_vec()).unwrap()
}

/// A new key in `directory`: the files of the private and the public key.
fn key(directory: &Directory, name: &str) -> (String, String) {
    let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
    let path = |end| directory.path().join(format!("{name}.{end}")).to_str().unwrap().to_owned();
    let (private, public) = (path("key"), path("pub"));
    std::fs::write(&private, pair.serialize_pem()).unwrap();
    std::fs::write(&public, pair.public_key_pem()).unwrap();
    (private, public)
}

/// Signs the program in the repository, and returns what a client sends.
async fn sign(directory: &Directory, key: &str, more: &[&str]) -> (ProgramId, Vec<u8>) {
    let out = directory.path().join("signed");
    let mut line = command(&["bpf-sign", "--key", key, "--output", out.to_str().unwrap()]);
    let output = line.args(more).arg(multcp()).output().await.unwrap();
    assert!(output.status.success(), "{output:?}");
    let id = String::from_utf8(output.stdout).unwrap().trim().parse().unwrap();
    (id, std::fs::read(out).unwrap())
}

fn name_of(answer: Answer) -> String {
    let Answer::Registered(name) = answer else { panic!("{answer:?}") };
    name.to_string()
}

#[tokio::test]
async fn an_allowed_program_is_used_by_a_socket_without_privilege_until_it_closes() {
    needs_kernel!();
    let directory = Directory::new("bpf-allowed");
    let object = multcp();
    let (mut process, helper) = helper(&directory, &["--bpf-object", object.to_str().unwrap()]).await;
    let id = ProgramId::of(&std::fs::read(object).unwrap());
    let name = name_of(helper.ask(Request::ByHash(id)).await.unwrap());
    assert_eq!(name, format!("multcp_{}", &id.to_string()[..4]));
    let socket = unprivileged(&name).unwrap();
    assert_eq!(congestion(&socket), name);
    // The helper is killed: its socket file stays, its program does not. What uses it keeps it.
    process.child.kill().await.unwrap();
    assert_eq!(unprivileged(&name).unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(congestion(&socket), name);
    assert_eq!(helper.ask(Request::ByHash(id)).await.unwrap_err().kind(), ErrorKind::ConnectionRefused);
    let (_process, helper) = self::helper(&directory, &["--bpf-object", multcp().to_str().unwrap()]).await;
    assert_eq!(name_of(helper.ask(Request::ByHash(id)).await.unwrap()), name);
    assert_eq!(congestion(&unprivileged(&name).unwrap()), name);
}

#[tokio::test]
async fn data_passes_with_a_program_that_a_peer_brought_and_changed_a_parameter_of() {
    needs_kernel!();
    let directory = Directory::new("bpf-brought");
    let (private, public) = key(&directory, "ann");
    let (_process, helper) = helper(&directory, &["--bpf-key", &public]).await;
    let (id, signed) = sign(&directory, &private, &["--set", "flows=9"]).await;
    assert_ne!(id, ProgramId::of(&std::fs::read(multcp()).unwrap()));
    assert_eq!(helper.ask(Request::ByHash(id)).await.unwrap(), Answer::Unknown);
    let name = name_of(helper.ask(Request::Signed(&signed)).await.unwrap());
    assert_eq!(name_of(helper.ask(Request::ByHash(id)).await.unwrap()), name);
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut client = unprivileged(&name).unwrap();
    client.connect(&listener.local_addr().unwrap().into()).unwrap();
    let mut server = listener.accept().unwrap().0;
    let reader = std::thread::spawn(move || {
        let mut data = Vec::new();
        server.read_to_end(&mut data).map(|_| data.len())
    });
    client.write_all(&vec![7; 4 << 20]).unwrap();
    assert_eq!(congestion(&client), name);
    drop(client);
    assert_eq!(reader.join().unwrap().unwrap(), 4 << 20);
}

#[tokio::test]
async fn the_helper_keeps_two_capabilities_and_its_socket_is_for_its_group() {
    needs_kernel!();
    let directory = Directory::new("bpf-confined");
    let (process, _) = helper(&directory, &[]).await;
    let status = std::fs::read_to_string(format!("/proc/{}/status", process.child.id().unwrap())).unwrap();
    let of = |field: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(field)).unwrap();
        u64::from_str_radix(line.trim_start_matches(':').trim(), 16).unwrap()
    };
    let two = (CapabilitySet::BPF | CapabilitySet::PERFMON).bits();
    assert_eq!([of("CapEff"), of("CapPrm"), of("CapInh"), of("CapAmb"), of("NoNewPrivs")], [two, two, 0, 0, 1]);
    let socket = std::fs::metadata(directory.path().join("socket")).unwrap();
    assert_eq!(socket.permissions().mode() & 0o777, 0o660);
}

#[tokio::test]
async fn without_configuration_nothing_is_registered() {
    needs_kernel!();
    let directory = Directory::new("bpf-empty");
    let (private, _) = key(&directory, "ann");
    let (_process, helper) = helper(&directory, &[]).await;
    let (id, signed) = sign(&directory, &private, &[]).await;
    assert_eq!(helper.ask(Request::ByHash(id)).await.unwrap(), Answer::Unknown);
    assert_eq!(helper.ask(Request::Signed(&signed)).await.unwrap(), Answer::Unsigned);
}

#[tokio::test]
async fn objects_that_are_unsigned_changed_or_no_programs_are_refused_in_turn() {
    needs_kernel!();
    let directory = Directory::new("bpf-hostile");
    let ((private, public), (other, _)) = (key(&directory, "ann"), key(&directory, "eve"));
    let junk = directory.path().join("junk.o");
    std::fs::write(&junk, b"\x7fELF and nothing that follows").unwrap();
    let options = ["--bpf-key", &public, "--bpf-object", junk.to_str().unwrap()];
    let (_process, helper) = helper(&directory, &options).await;
    let (_, forged) = sign(&directory, &other, &[]).await;
    let (id, mut signed) = sign(&directory, &private, &[]).await;
    let last = signed.len() - 1;
    signed[last] ^= 1;
    for wrong in [&forged[..], &signed, &[7; 65], &vec![7; 64 + MAX_OBJECT]] {
        assert_eq!(helper.ask(Request::Signed(wrong)).await.unwrap(), Answer::Unsigned);
    }
    let junk = ProgramId::of(&std::fs::read(junk).unwrap());
    assert_eq!(helper.ask(Request::ByHash(junk)).await.unwrap(), Answer::Rejected);
    assert_eq!(helper.ask(Request::Signed(&vec![7; 65 + MAX_OBJECT])).await.unwrap(), Answer::Malformed);
    signed[last] ^= 1;
    assert_eq!(
        name_of(helper.ask(Request::Signed(&signed)).await.unwrap()),
        format!("multcp_{}", &id.to_string()[..4])
    );
}

#[tokio::test]
async fn a_hundred_who_ask_nothing_keep_no_other_from_an_answer() {
    needs_kernel!();
    let directory = Directory::new("bpf-stuck");
    let (_process, helper) = helper(&directory, &[]).await;
    let socket = directory.path().join("socket");
    let stuck: Vec<UnixStream> = (0..100).map(|_| UnixStream::connect(&socket).unwrap()).collect();
    let id = ProgramId::new([7; 32]);
    assert_eq!(helper.ask(Request::ByHash(id)).await.unwrap(), Answer::Unknown);
    drop(stuck);
}

#[tokio::test]
async fn a_helper_without_the_capabilities_says_which_it_needs() {
    let mut line = command(&["bpf-helper", "--socket", "/nonexistent/socket"]);
    let drop_all = || {
        let none = CapabilitySet::empty();
        // SAFETY: `uid` is that of an account without rights, which needs no look-up.
        if unsafe { libc::geteuid() } == 0 && unsafe { libc::setuid(65534) } != 0 {
            return Err(std::io::Error::last_os_error());
        }
        Ok(set_capabilities(None, CapabilitySets { effective: none, permitted: none, inheritable: none })?)
    };
    // SAFETY: it calls the kernel only.
    unsafe { line.pre_exec(drop_all) };
    let output = line.output().await.unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && text.contains("CAP_BPF and CAP_PERFMON"), "{text}");
}

/// Lines that a `get` prints about the server's congestion control, once the file is there.
async fn get(directory: &Directory, address: &str, options: &[&str]) -> String {
    let line = super::get_line(directory.path(), address, "file");
    let mut line = command(&line.iter().map(String::as_str).collect::<Vec<_>>());
    let output = line.args(options).output().await.unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{text}");
    text.lines().filter(|line| line.contains("the server ")).map(|line| format!("{line}\n")).collect()
}

#[tokio::test]
async fn without_a_helper_a_program_is_refused_and_the_file_arrives() {
    let directory = Directory::new("bpf-no-helper");
    let socket = directory.path().join("socket");
    let (mut server, address) = Tcpls::serve(directory.path(), &[]).await;
    super::sparse_file(&directory.path().join("root/file"), 8 << 20);
    let id = ProgramId::new([7; 32]).to_string();
    let answer = get(&directory, &address, &["--ask-program", &id]).await;
    assert!(answer.contains(&format!("does not use the program {id}: refused")), "{answer}");
    // A server that has the option, with no helper that listens.
    server.child.kill().await.unwrap();
    let (_server, address) = Tcpls::serve(directory.path(), &["--bpf-helper", socket.to_str().unwrap()]).await;
    let answer = get(&directory, &address, &["--ask-program", &id]).await;
    assert!(answer.contains(&format!("does not use the program {id}: refused")), "{answer}");
}

#[tokio::test]
async fn server_uses_the_congestion_control_that_its_client_brings() {
    needs_kernel!();
    let directory = Directory::new("bpf-session");
    let (private, public) = key(&directory, "ann");
    let (_helper, helper) = helper(&directory, &["--bpf-key", &public]).await;
    let socket = directory.path().join("socket");
    let (_server, address) = Tcpls::serve(directory.path(), &["--bpf-helper", socket.to_str().unwrap()]).await;
    super::sparse_file(&directory.path().join("root/file"), 8 << 20);
    let (id, _) = sign(&directory, &private, &["--set", "flows=7"]).await;
    let id_text = id.to_string();
    let unknown = get(&directory, &address, &["--ask-program", &id_text]).await;
    assert!(unknown.contains("does not use"), "{unknown}");
    let signed = directory.path().join("signed");
    let brought = get(&directory, &address, &["--bring-program", signed.to_str().unwrap()]).await;
    assert!(brought.contains(&format!("the server uses the program {id}")), "{brought}");
    let known = get(&directory, &address, &["--ask-program", &id_text]).await;
    assert!(known.contains(&format!("the server uses the program {id}")), "{known}");
    name_of(helper.ask(Request::ByHash(id)).await.unwrap());
}
