//! All models: as the code is, and with each bug that they must find.
//!
//! A model runs with few preemptions here, and with more if `TCPLS_MODEL=deep` is set.

use std::env;
use std::process::Command;

use tcpls_model::models::{ends, loan, output, server, streams};
use tcpls_model::{Model, PLANTS, check, plant};

/// Tests of models: the name, which is that of the model, its module, the preemptions here and at most, and the bugs.
macro_rules! models {
    ($($name:ident in $module:ident, $few:literal to $more:literal, [$($plant:literal),*];)*) => {
        $(
            #[test]
            fn $name() {
                run(stringify!($name), $module::$name, [$few, $more], &[$($plant),*]);
            }
        )*

        #[test]
        fn each_bug_is_found_by_a_model() {
            let found: &[&[&str]] = &[$(&[$($plant),*]),*];
            let missed: Vec<_> = PLANTS.iter().map(|plant| plant.name).filter(|name| !found.concat().contains(name)).collect();
            assert!(missed.is_empty(), "{missed:?}");
        }
    };
}

models! {
    reader_gets_what_arrives in streams, 2 to 2, ["application waits without a second look"];
    reader_whose_waker_enters_the_session in streams, 1 to 2, ["tasks are woken with the lock"];
    paused_reader_gets_what_arrives_later in streams, 1 to 2, ["paused TCP connections are listed too late"];
    reader_answers in streams, 1 to 2, ["task that gives way to the application is not woken"];
    writer_gets_its_acknowledgment in streams, 2 to 2, ["sockets with room are listed too late"];
    blocked_writer_gets_room in streams, 1 to 2, [];
    writer_hears_that_the_peer_stops_reading in streams, 1 to 2, [];
    opener_gets_a_stream_when_the_peer_allows_it in streams, 1 to 2, [];
    close_waits_until_the_sockets_are_closed in ends, 1 to 2, [];
    order_is_carried_out in ends, 2 to 3, ["task leaves its waker after it looked for calls"];
    task_ends_when_the_last_handle_is_dropped in ends, 2 to 3, [];
    end_of_the_runtime_wakes_all_who_wait in ends, 2 to 2,
        ["task that has ended takes orders", "orders outlive the task", "end of the task wakes no application"];
    panic_in_the_task_ends_the_session in ends, 1 to 2, ["panic with the lock is passed on"];
    subscribers_get_each_event in ends, 2 to 2, ["subscriber waits without a second look"];
    socket_that_is_delivered_at_the_end_is_closed_or_returned in server, 1 to 2,
        ["task that has ended takes deliveries", "task takes deliveries between its last turn and its end"];
    claim_that_gives_way_is_reset in server, 1 to 2, [];
    session_gives_way_to_another in server, 2 to 3, [];
    descriptors_are_freed_by_two_sessions_at_once in server, 2 to 100, ["descriptors are freed with the lock"];
    session_without_handles_is_closed in loan, 2 to 100, ["session that is not lent misses its last handle"];
    results_wait_for_room_and_the_command_for_all in output, 2 to 4,
        ["output is drained before anyone waits", "room for results is not reported"];
    reader_that_leaves_ends_all_waits in output, 1 to 2, [];
}

/// What the processes that have a bug get its name in.
const BUG: &str = "TCPLS_MODEL_BUG";

fn run(name: &str, model: Model, preemptions: [usize; 2], plants: &[&str]) {
    if let Ok(bug) = env::var(BUG) {
        plant(&bug);
        check(model, preemptions[0]);
        return;
    }
    let is_deep = env::var_os("TCPLS_MODEL").is_some_and(|value| value == "deep");
    let preemptions = preemptions[usize::from(is_deep)];
    let started = std::time::Instant::now();
    println!("{} runs with at most {preemptions} preemptions", check(model, preemptions));
    println!("{} ms", started.elapsed().as_millis());
    for bug in plants {
        // In a process of its own: a model that fails leaves its threads where they are.
        let mut child = Command::new(env::current_exe().expect("the path of this test"));
        child.args([name, "--exact", "--nocapture"]).env(BUG, bug).env("RUST_BACKTRACE", "0");
        let output = child.output().expect("this test can be started");
        let text = String::from_utf8_lossy(&output.stderr);
        let mut lines = text.lines().skip_while(|line| !line.contains("panicked at"));
        println!("{bug}: {}", lines.nth(1).unwrap_or_default());
        assert!(!output.status.success() && text.contains("panicked at"), "the model does not find: {bug}");
    }
}
