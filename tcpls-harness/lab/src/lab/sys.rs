//! What Linux is asked for without a library that wraps it whole: TUN devices, namespaces and the scheduler's favour. The only
//! unsafe code of the lab is here.

#![allow(unsafe_code)]

use std::ffi::c_int;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::fs::OFlags;
use rustix::ioctl::{Opcode, Updater, ioctl, opcode};
use rustix::thread::{CpuSet, LinkNameSpaceType, move_into_link_name_space, sched_getaffinity, sched_setaffinity};

const TUNSETIFF: Opcode = opcode::write::<c_int>(b'T', 202);
const IFF_TUN: u16 = 0x0001;
/// Packets without a header of the device's own.
const IFF_NO_PI: u16 = 0x1000;

/// `struct ifreq` of `linux/if.h`, with the flags as the member of the union that counts.
#[repr(C)]
struct Request {
    name: [u8; 16],
    flags: u16,
    rest: [u8; 22],
}

/// Makes a TUN device called `name` in the calling thread's network namespace. It goes when the file is closed. Reads and writes are
/// of one IP packet and do not block.
pub(crate) fn open_tun(name: &str) -> io::Result<File> {
    let flags = OFlags::NONBLOCK.bits() as i32;
    let file = OpenOptions::new().read(true).write(true).custom_flags(flags).open("/dev/net/tun")?;
    let mut request = Request { name: [0; 16], flags: IFF_TUN | IFF_NO_PI, rest: [0; 22] };
    assert!(name.len() < request.name.len(), "names of devices have at most 15 bytes");
    request.name[..name.len()].copy_from_slice(name.as_bytes());
    // SAFETY: TUNSETIFF reads and writes one `struct ifreq`, which `Request` is laid out like.
    unsafe { ioctl(file.as_fd(), Updater::<TUNSETIFF, Request>::new(&mut request)) }?;
    Ok(file)
}

/// Runs `work` on a thread of its own in the network namespace `name` (as `ip netns` knows it). Processes that it starts are in
/// that namespace too.
pub(crate) fn in_namespace<T: Send>(name: &str, work: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    let inside = || {
        let namespace = File::open(Path::new("/var/run/netns").join(name))?;
        move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))?;
        work()
    };
    std::thread::scope(|scope| scope.spawn(inside).join()).unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// Puts the calling thread, and what it starts, on one of the CPUs that it may use: the `index`-th, in turns.
pub(crate) fn pin(index: usize) -> io::Result<()> {
    let allowed = sched_getaffinity(None)?;
    let cpus: Vec<usize> = (0..CpuSet::MAX_CPU).filter(|cpu| allowed.is_set(*cpu)).collect();
    let mut one = CpuSet::new();
    one.set(cpus[index % cpus.len()]);
    Ok(sched_setaffinity(None, &one)?)
}

/// Puts the calling thread before all others of the machine that are not as urgent. Who may not ask for it does without.
pub(crate) fn be_urgent() {
    // SAFETY: the parameter is read, and lives that long; 0 is the calling thread.
    unsafe {
        let mut parameter: libc::sched_param = std::mem::zeroed();
        parameter.sched_priority = 10;
        libc::sched_setscheduler(0, libc::SCHED_FIFO | libc::SCHED_RESET_ON_FORK, &parameter);
    }
}

/// The niceness of the calling thread, and of what it starts: -20 (first) to 19 (last). Who may not ask for it does without.
pub(crate) fn be_nice(niceness: i32) {
    _ = rustix::process::setpriority_process(None, niceness);
}

/// Sets `SO_MAX_PACING_RATE` of a socket, in bytes per second.
pub(crate) fn set_max_pacing_rate(socket: &impl AsRawFd, rate: u64) -> io::Result<()> {
    // SAFETY: the kernel reads as many bytes as it is given, of a value that lives that long.
    let failed = unsafe {
        let (value, len) = ((&raw const rate).cast(), size_of::<u64>() as libc::socklen_t);
        libc::setsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, libc::SO_MAX_PACING_RATE, value, len)
    };
    if failed == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
