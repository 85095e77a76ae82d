//! tokio's cooperative scheduling: an operation that is always ready must not starve the other branches of its task,
//! such as timers and `select!`.

use std::task::{Context, Poll, ready};

use tokio::task::coop::poll_proceed;

/// Polls `operation` if the task has budget left in its turn, and takes a unit of it if the operation is done. Otherwise
/// the task has its next turn soon. Outside of tokio's tasks there is no budget.
pub(super) fn poll<R>(cx: &mut Context<'_>, operation: impl FnOnce(&mut Context<'_>) -> Poll<R>) -> Poll<R> {
    let budget = ready!(poll_proceed(cx));
    let result = operation(cx);
    if result.is_ready() {
        budget.made_progress();
    }
    result
}
