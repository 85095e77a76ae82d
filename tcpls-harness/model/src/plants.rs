//! Bugs that the models find when they are planted: the build script puts each into the code under test, behind a switch.

/// A bug of the code under test.
pub struct Plant {
    /// What it is called.
    pub name: &'static str,
    /// Where it is, below the harness' `src`.
    pub file: &'static str,
    /// The text of the code, and what takes its place; `PLANTED` is whether the bug is wanted.
    pub changes: &'static [(&'static str, &'static str)],
}

/// All bugs.
pub const PLANTS: &[Plant] = &[
    // Lost wakeups.
    Plant {
        name: "application waits without a second look",
        file: "net/session/shared.rs",
        changes: &[(
            "ControlFlow::Continue(()) => own = Some(waker.clone()),",
            "ControlFlow::Continue(()) if PLANTED => {
                 self.access(|state| state.waiters.wait(what, waker.clone()));
                 return Poll::Pending;
             }
             ControlFlow::Continue(()) => own = Some(waker.clone()),",
        )],
    },
    Plant {
        name: "task leaves its waker after it looked for calls",
        file: "net/task/mod.rs",
        changes: &[
            ("            state.attend(&mut self.waker);", "if !PLANTED { state.attend(&mut self.waker); }"),
            ("        if called {", "if PLANTED { self.shared.drive(|state| state.attend(&mut self.waker)); }\nif called {"),
        ],
    },
    // This one was there once, and was found by reading: the list of paused TCP connections was written some time after
    // the session was asked what it wants to read.
    Plant {
        name: "paused TCP connections are listed too late",
        file: "net/task/mod.rs",
        changes: &[
            (
                "state.paused.extend(carrier.is_paused.then_some(carrier.tcp));",
                "if !PLANTED { state.paused.extend(carrier.is_paused.then_some(carrier.tcp)); }",
            ),
            (
                "        inbox.into_iter().for_each(|input| self.execute(input));",
                "if PLANTED {
                     let paused = self.carriers.iter().filter(|carrier| carrier.is_paused).map(|carrier| carrier.tcp);
                     let paused: Vec<_> = paused.collect();
                     self.shared.drive(|state| state.paused = paused);
                 }
                 inbox.into_iter().for_each(|input| self.execute(input));",
            ),
        ],
    },
    Plant {
        name: "sockets with room are listed too late",
        file: "net/task/traffic.rs",
        changes: &[(
            "        note_room(state, &self.carriers);",
            "if PLANTED { state.with_room.clear(); } else { note_room(state, &self.carriers); }",
        )],
    },
    Plant {
        name: "task that gives way to the application is not woken",
        file: "net/task/mod.rs",
        changes: &[(
            "                    cx.waker().wake_by_ref();",
            "if !PLANTED { cx.waker().wake_by_ref(); }",
        )],
    },
    Plant {
        name: "subscriber waits without a second look",
        file: "net/session/feed.rs",
        changes: &[(
            "            waker = Some(cx.waker().clone());",
            "if PLANTED {
                 self.feed.lock().place(self.subscription).waker = Some(cx.waker().clone());
                 return Poll::Pending;
             }
             waker = Some(cx.waker().clone());",
        )],
    },
    Plant {
        name: "output is drained before anyone waits",
        file: "cli/output/sink.rs",
        changes: &[(
            "            drained.await;",
            "if PLANTED { self.drained.notified().await } else { drained.await }",
        )],
    },
    Plant {
        name: "room for results is not reported",
        file: "cli/output/sink.rs",
        changes: &[(
            "            let gone = state.gone;
            self.changed.notify_all();",
            "let gone = state.gone;
             if !PLANTED { self.changed.notify_all(); }",
        )],
    },
    // Deadlocks.
    Plant {
        name: "tasks are woken with the lock",
        file: "net/session/shared.rs",
        changes: &[(
            "        drop(state);
        answers",
            "let _held = PLANTED.then_some(state);
             answers",
        )],
    },
    Plant {
        name: "descriptors are freed with the lock",
        file: "net/session/mod.rs",
        changes: &[(
            "        let descriptors = self.handle.with(|state| state.descriptors.clone());",
            "if PLANTED {
                 let free = |state: &mut State| state.descriptors.clone().is_some_and(|descriptors| descriptors.free_one());
                 return self.handle.with(free);
             }
             let descriptors = self.handle.with(|state| state.descriptors.clone());",
        )],
    },
    // Use after the end, and what the end forgets.
    Plant {
        name: "session that is not lent misses its last handle",
        file: "sim/applications/handles.rs",
        changes: &[(
            "            if state.handles == 0 && self.session.is_none() {",
            "if state.handles == 0 && self.session.is_none() && !PLANTED {",
        )],
    },
    Plant {
        name: "task that has ended takes orders",
        file: "net/session/shared/dialing.rs",
        changes: &[(
            "        // The dialer is gone with the task.
        if self.is_closed() {",
            "if PLANTED {
                 let (opened, receiver) = oneshot::channel();
                 self.inbox.push(Input::Connect(path, opened));
                 self.wake_task();
                 return Ok(receiver);
             }
             if self.is_closed() {",
        )],
    },
    Plant {
        name: "orders outlive the task",
        file: "net/session/shared.rs",
        changes: &[(
            "        self.answers.extend(self.inbox.drain(..).map(Answer::NoInput));",
            "if !PLANTED { self.answers.extend(self.inbox.drain(..).map(Answer::NoInput)); }",
        )],
    },
    Plant {
        name: "task that has ended takes deliveries",
        file: "net/task/mailbox.rs",
        changes: &[("            if state.has_task_ended() {", "if state.has_task_ended() && !PLANTED {")],
    },
    Plant {
        name: "task takes deliveries between its last turn and its end",
        file: "net/task/mod.rs",
        changes: &[("                dialer = state.end_task();", "if !PLANTED { dialer = state.end_task(); }")],
    },
    Plant {
        name: "end of the task wakes no application",
        file: "net/task/mod.rs",
        changes: &[(
            "        drop(self.shared.drive(|state| if state.has_task_ended()",
            "if PLANTED { return }
             drop(self.shared.drive(|state| if state.has_task_ended()",
        )],
    },
    Plant {
        name: "panic with the lock is passed on",
        file: "net/session/shared.rs",
        changes: &[(
            "        self.state.lock().unwrap_or_else(PoisonError::into_inner)",
            "if PLANTED {
                 return self.state.lock().expect(\"the lock is poisoned\");
             }
             self.state.lock().unwrap_or_else(PoisonError::into_inner)",
        )],
    },
];
