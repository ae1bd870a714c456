//! Places where the crash tests end the process: around every durable write and every entry of a journal.

/// In debug builds, `LIFEBOAT_KILL_AT=N` ends the process with SIGKILL at the N-th passage: the crash tests sweep it
/// over every boundary between steps. Release builds hold none of this.
#[cfg(debug_assertions)]
pub fn crash_point() {
    use std::sync::atomic::{AtomicU64, Ordering};
    static PASSED: AtomicU64 = AtomicU64::new(0);
    let number = PASSED.fetch_add(1, Ordering::SeqCst) + 1;
    if std::env::var("LIFEBOAT_KILL_AT").is_ok_and(|wanted| wanted.parse() == Ok(number)) {
        let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
    }
}

/// See the debug build's twin.
#[cfg(not(debug_assertions))]
pub fn crash_point() {}
