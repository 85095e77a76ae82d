//! A driver on completions: Linux's io_uring, one thread, no async runtime. Both ends of a session run in it: a download over two
//! TCP connections, of which one is cut on the way.
//!
//! The difference from `poll_loop`: the kernel owns a buffer from the start of an operation to its completion. So each
//! operation keeps its buffer, a socket lives as long as its operations, and what a session gave for a socket is under way
//! until the kernel has taken it: only then is the session asked for more.
//!
//! Where the kernel does not offer io_uring, it says so and ends.
//!
//! ```sh
//! cargo run -p tcpls-core --example io_uring
//! ```

#![allow(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "a driver has the clock and the random numbers"
)]

#[cfg(target_os = "linux")]
mod support;

#[cfg(target_os = "linux")]
mod driver {
    use std::collections::BTreeMap;
    use std::io;
    use std::net::{Ipv4Addr, Shutdown, SocketAddrV4, TcpListener};
    use std::os::fd::{AsRawFd, FromRawFd};
    use std::time::{Duration, Instant};

    use io_uring::types::{Fd, SubmitArgs, Timespec};
    use io_uring::{IoUring, opcode, squeue};
    use socket2::{Domain, SockAddr, Socket, Type};
    use tcpls_core::crypto::rustls::RustlsServer;
    use tcpls_core::{Endpoint, EndpointConfig, Seed, SessionKey, Sessions, SocketId, TcpEnd, Time};

    use crate::support::{self, Download, Wish, random};

    /// Offered to a session at once: what is taken can't be moved to a faster path any more.
    const ROOM: usize = 64 << 10;
    /// Received at once.
    const BLOCK: usize = 64 << 10;

    /// A socket of the operating system, and what it is to the sessions.
    struct SocketState {
        socket: Socket,
        part: Part,
        /// The kernel has an operation of each kind.
        connecting: bool,
        receiving: bool,
        sending: bool,
        /// It gives no more bytes, or takes none.
        ended: bool,
        broken: bool,
    }

    #[derive(Clone, Copy)]
    enum Part {
        /// TCP is connecting, and is to join this session then.
        Dialled(SessionKey),
        Known(SocketId),
    }

    /// Operations in progress, with their buffers. The number is a key of `Driver::sockets`.
    enum Operation {
        Accept,
        Connect(u64, #[expect(dead_code, reason = "the kernel reads it")] Box<SockAddr>),
        Receive(u64, Box<[u8]>),
        /// How many of the bytes are sent.
        Send(u64, Vec<u8>, usize),
    }

    pub(crate) struct Driver {
        ring: IoUring,
        operations: BTreeMap<u64, Operation>,
        started: Instant,
        listener: TcpListener,
        tls: RustlsServer,
        sessions: Sessions,
        sockets: BTreeMap<u64, SocketState>,
        next: u64,
        pub(crate) download: Download,
    }

    impl Driver {
        pub(crate) fn new(ring: IoUring) -> io::Result<Self> {
            let (client, tls) = support::tls();
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
            let mut sessions =
                Sessions::with_endpoint(Endpoint::new(EndpointConfig::default(), random(), Seed(random())));
            let (_, first) = sessions.connect(support::client(&client));
            let (operations, sockets) = (BTreeMap::new(), BTreeMap::new());
            let (started, download) = (Instant::now(), Download::default());
            let mut driver = Self { ring, operations, started, listener, tls, sessions, sockets, next: 0, download };
            driver.accept()?;
            driver.dial(Part::Known(first))?;
            Ok(driver)
        }

        fn now(&self) -> Time {
            Time::ZERO + self.started.elapsed()
        }

        /// Runs until all sockets are closed.
        pub(crate) fn run(&mut self) -> io::Result<()> {
            loop {
                while self.turn()? {}
                if self.sockets.is_empty() {
                    return Ok(());
                }
                self.wait()?;
                let completed: Vec<(u64, i32)> =
                    self.ring.completion().map(|entry| (entry.user_data(), entry.result())).collect();
                for (key, result) in completed {
                    // A negative result is an error code.
                    let result = usize::try_from(result).map_err(|_| io::Error::from_raw_os_error(-result));
                    if let Some(operation) = self.operations.remove(&key) {
                        self.complete(operation, result)?;
                    }
                }
                self.sessions.handle_timeout(self.now());
            }
        }

        /// Submits what was started, and waits for a completion or the next deadline.
        fn wait(&mut self) -> io::Result<()> {
            let timeout = self.sessions.poll_timeout().map(|deadline| deadline.saturating_since(self.now()));
            let timespec = timeout.map(Timespec::from);
            let args = timespec.iter().fold(SubmitArgs::new(), |args, timespec| args.timespec(timespec));
            match self.ring.submitter().submit_with_args(1, &args) {
                // ETIME: the deadline came first.
                Err(error) if error.raw_os_error() != Some(62) && error.kind() != io::ErrorKind::Interrupted => {
                    Err(error)
                }
                _ => Ok(()),
            }
        }

        /// Takes the events, lets the application work, and starts what can be started. Whether anything was.
        fn turn(&mut self) -> io::Result<bool> {
            let now = self.now();
            while let Some((key, event)) = self.sessions.poll_event(now) {
                let wish = self.download.handle_event(&mut self.sessions, key, event);
                self.fulfil(wish)?;
            }
            let wish = self.download.run(&mut self.sessions, now);
            self.fulfil(wish)?;
            let keys: Vec<u64> = self.sockets.keys().copied().collect();
            let mut is_started = false;
            for key in keys {
                self.receive(key)?;
                is_started |= self.send(key, now)?;
                self.close(key, now);
            }
            Ok(is_started)
        }

        fn fulfil(&mut self, wish: Option<Wish>) -> io::Result<()> {
            match wish {
                Some(Wish::Dial(session)) => self.dial(Part::Dialled(session)),
                Some(Wish::Cut(cut)) => {
                    let is_it = |state: &&mut SocketState| matches!(state.part, Part::Known(id) if id == cut);
                    let Some(state) = self.sockets.values_mut().find(is_it) else { return Ok(()) };
                    // It is reset when it is closed, and that is once its operations are complete.
                    (state.ended, state.broken) = (true, true);
                    state.socket.set_linger(Some(Duration::ZERO))?;
                    self.sessions.handle_end(Time::ZERO + self.started.elapsed(), cut, TcpEnd::Reset);
                    state.socket.shutdown(Shutdown::Read)
                }
                None => Ok(()),
            }
        }

        /// Gives an operation to the kernel.
        fn start(&mut self, entry: squeue::Entry, operation: Operation) -> io::Result<()> {
            let key = self.next;
            self.next += 1;
            let entry = entry.user_data(key);
            // SAFETY: what `entry` points to belongs to `operation`, on the heap, and that is kept until its completion; its
            // socket is kept as long (`close`).
            while unsafe { self.ring.submission().push(&entry) }.is_err() {
                self.ring.submit()?; // the queue is full
            }
            self.operations.insert(key, operation);
            Ok(())
        }

        fn add(&mut self, socket: Socket, part: Part, connecting: bool) -> io::Result<u64> {
            socket.set_tcp_nodelay(true)?;
            let key = self.next;
            self.next += 1;
            let (receiving, sending, ended, broken) = (false, false, false, false);
            self.sockets.insert(key, SocketState { socket, part, connecting, receiving, sending, ended, broken });
            Ok(key)
        }

        fn accept(&mut self) -> io::Result<()> {
            let fd = Fd(self.listener.as_raw_fd());
            let entry = opcode::Accept::new(fd, std::ptr::null_mut(), std::ptr::null_mut()).build();
            self.start(entry, Operation::Accept)
        }

        fn dial(&mut self, part: Part) -> io::Result<()> {
            let address = SocketAddrV4::new(Ipv4Addr::LOCALHOST, self.listener.local_addr()?.port());
            let address = Box::new(SockAddr::from(address));
            let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
            let entry = opcode::Connect::new(Fd(socket.as_raw_fd()), address.as_ptr().cast(), address.len()).build();
            let key = self.add(socket, part, true)?;
            self.start(entry, Operation::Connect(key, address))
        }

        /// Starts to receive, unless that is under way or the session has enough.
        fn receive(&mut self, key: u64) -> io::Result<()> {
            let Some(state) = self.sockets.get_mut(&key) else { return Ok(()) };
            let Part::Known(id) = state.part else { return Ok(()) };
            if state.connecting || state.receiving || state.ended || !self.sessions.wants_read(id) {
                return Ok(());
            }
            state.receiving = true;
            let mut block = vec![0; BLOCK].into_boxed_slice();
            let entry = opcode::Recv::new(Fd(state.socket.as_raw_fd()), block.as_mut_ptr(), BLOCK as u32).build();
            self.start(entry, Operation::Receive(key, block))
        }

        /// Starts to send what there is, unless something is under way. Whether it did.
        fn send(&mut self, key: u64, now: Time) -> io::Result<bool> {
            let Some(state) = self.sockets.get_mut(&key) else { return Ok(false) };
            let Part::Known(id) = state.part else { return Ok(false) };
            if state.connecting || state.sending || state.broken {
                return Ok(false);
            }
            let mut bytes = Vec::with_capacity(ROOM);
            if self.sessions.poll_transmit(now, id, ROOM, &mut bytes) == 0 {
                return Ok(false);
            }
            state.sending = true;
            self.send_rest(key, bytes, 0)?;
            Ok(true)
        }

        fn send_rest(&mut self, key: u64, bytes: Vec<u8>, sent: usize) -> io::Result<()> {
            let Some(state) = self.sockets.get(&key) else { return Ok(()) };
            let (fd, rest) = (Fd(state.socket.as_raw_fd()), &bytes[sent..]);
            let entry = opcode::Send::new(fd, rest.as_ptr(), rest.len() as u32).flags(NO_SIGNAL).build();
            self.start(entry, Operation::Send(key, bytes, sent))
        }

        /// Reports what happened.
        fn complete(&mut self, operation: Operation, result: io::Result<usize>) -> io::Result<()> {
            let now = self.now();
            match operation {
                Operation::Accept => {
                    // SAFETY: the kernel has made this socket for this completion: nothing else owns it.
                    let socket = unsafe { Socket::from_raw_fd(result? as i32) };
                    let id = self.sessions.handle_accepted(now);
                    self.add(socket, Part::Known(id), false)?;
                    self.accept()?;
                }
                Operation::Connect(key, _) => {
                    let Some(state) = self.sockets.get_mut(&key) else { return Ok(()) };
                    state.connecting = false;
                    match (result, state.part) {
                        (Err(error), Part::Known(id)) => {
                            (state.ended, state.broken) = (true, true);
                            self.sessions.handle_end(now, id, error.kind().into());
                        }
                        // A token is spent only once TCP is connected.
                        (Ok(_), Part::Dialled(session)) => match self.sessions.join(now, session, Default::default()) {
                            Ok(id) => state.part = Part::Known(id),
                            Err(_) => _ = self.sockets.remove(&key),
                        },
                        (Err(_), Part::Dialled(_)) => _ = self.sockets.remove(&key),
                        (Ok(_), Part::Known(_)) => {}
                    }
                }
                Operation::Receive(key, block) => {
                    let Some(state) = self.sockets.get_mut(&key) else { return Ok(()) };
                    state.receiving = false;
                    let Part::Known(id) = state.part else { return Ok(()) };
                    match result {
                        _ if state.ended => {}
                        Ok(len @ 1..) => {
                            self.sessions.input(id).extend_from_slice(&block[..len]);
                            if let Some(new) = self.sessions.handle_bytes(now, id) {
                                self.sessions.accept(now, id, support::server(&self.tls, now, new));
                            }
                        }
                        end => {
                            state.ended = true;
                            let how = end.map_or_else(|error| error.kind().into(), |_| TcpEnd::Fin);
                            self.sessions.handle_end(now, id, how);
                        }
                    }
                }
                Operation::Send(key, bytes, sent) => {
                    let Some(state) = self.sockets.get_mut(&key) else { return Ok(()) };
                    match result {
                        Ok(len) if sent + len < bytes.len() => self.send_rest(key, bytes, sent + len)?,
                        Ok(_) => state.sending = false,
                        Err(error) => {
                            (state.sending, state.broken) = (false, true);
                            // What is being received completes with an end then.
                            _ = state.socket.shutdown(Shutdown::Both);
                            if let Part::Known(id) = state.part {
                                self.sessions.handle_end(now, id, error.kind().into());
                            }
                        }
                    }
                }
            }
            Ok(())
        }

        /// Closes a socket that no session needs, once nothing is under way and the peer has closed it, too: closing it earlier
        /// would reset what the peer has not read. A server limits how long that may take.
        fn close(&mut self, key: u64, now: Time) {
            let Some(state) = self.sockets.get(&key) else { return };
            let Part::Known(id) = state.part else { return };
            if state.sending || state.connecting || (self.sessions.is_needed(id) && !state.broken) {
                return;
            }
            if !state.ended {
                _ = state.socket.shutdown(Shutdown::Write);
            } else if !state.receiving {
                self.sessions.remove(now, id);
                self.sockets.remove(&key);
            }
        }
    }

    /// A send to a socket that the peer has reset gives an error, not a signal.
    const NO_SIGNAL: i32 = 0x4000;

    impl Drop for Driver {
        /// After an error, the kernel may still use the buffers of operations: they are leaked.
        fn drop(&mut self) {
            std::mem::forget(std::mem::take(&mut self.operations));
        }
    }
}

#[cfg(target_os = "linux")]
fn main() -> std::io::Result<()> {
    // ENOSYS: the kernel has no io_uring. EPERM: it is switched off, often so in containers.
    let ring = match io_uring::IoUring::new(64) {
        Err(error) if matches!(error.raw_os_error(), Some(1 | 38)) => {
            println!("the kernel does not offer io_uring here: {error}");
            return Ok(());
        }
        ring => ring?,
    };
    if !ring.params().is_feature_ext_arg() {
        println!("the kernel's io_uring has no timeouts for waiting: Linux 5.11 is needed");
        return Ok(());
    }
    let mut driver = driver::Driver::new(ring)?;
    driver.run()?;
    assert_eq!(driver.download.received, support::SIZE);
    println!("{} bytes received", driver.download.received);
    Ok(())
}

#[cfg(not(target_os = "linux"))]
fn main() -> std::io::Result<()> {
    println!("io_uring is an interface of Linux");
    Ok(())
}

#[test]
fn download_survives_the_cut() {
    main().unwrap();
}
