//! A server that has no port left to pass a join on, in a network namespace with few.

use super::*;

/// Runs `test` in a network namespace of its own, with all threads that it starts; skips it, with a note, where that is
/// not allowed.
fn in_namespace(test: impl Future<Output = ()> + Send + 'static) {
    let run = move || {
        // SAFETY: it changes nothing but the network namespace of this thread, which ends below.
        if unsafe { libc::unshare(libc::CLONE_NEWNET) } != 0 {
            return println!("skipped: no network namespace ({})", std::io::Error::last_os_error());
        }
        let up = std::process::Command::new("ip").args(["link", "set", "lo", "up"]).status();
        if !up.is_ok_and(|status| status.success()) {
            return println!("skipped: no `ip` to set up a network namespace");
        }
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(test);
    };
    std::thread::spawn(run).join().unwrap();
}

/// The ports that this namespace gives to sockets without one.
fn set_ports(range: &str) {
    std::fs::write("/proc/sys/net/ipv4/ip_local_port_range", range).unwrap();
}

#[test]
fn join_is_reset_when_no_port_is_left_to_pass_it_on_and_works_later() {
    in_namespace(async {
        let site = Site::start(b"", |_| {}).await;
        let [first, second, ..] = &site.servers[..] else { panic!() };
        let from = |port: u16| SocketAddr::from(([127, 0, 0, 2], port));
        let options = site.options().with(|options| options.locals = vec![from(50_000).into()]);
        let session = Session::connect(&[first.address], options).await.unwrap();
        let mut failures = second.failures().await;
        set_ports("61000 61003");
        let mut port = 50_001;
        let refused = loop {
            assert!(port < 50_008, "more joins were passed on than there are ports");
            match session.add_tcp(second.address, from(port)).await {
                Ok(_) => port += 1,
                Err(error) => break error,
            }
        };
        assert!(matches!(refused, AddTcpError::Join(TcpFault::Reset)), "{refused}");
        let fault = failures.next().await.unwrap().fault;
        assert!(matches!(fault, HandshakeFault::HandOver(HandOverFault::NoSocket(_))), "{fault}");
        let passed_on = second.hand_overs().await;
        assert!(passed_on > 0, "there was a port");
        set_ports("61000 61999");
        session.add_tcp(second.address, from(50_100)).await.unwrap();
        assert_eq!(second.hand_overs().await, passed_on + 1);
        exchange(&session, 100_000).await;
    });
}
