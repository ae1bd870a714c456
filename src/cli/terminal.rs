//! Progress bars on standard error when it is a terminal: bytes, rate, time left.

use std::io::IsTerminal;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::ground::Progress;

/// What goes to standard error while work is done.
pub struct Terminal {
    bar: Mutex<Option<ProgressBar>>,
    bars_wanted: bool,
    quiet: bool,
}

impl Terminal {
    /// `no_progress` hides bars, `quiet` hides bars and warnings.
    pub fn new(quiet: bool, no_progress: bool) -> Arc<Self> {
        let bars_wanted = !quiet && !no_progress && std::io::stderr().is_terminal();
        Arc::new(Self { bar: Mutex::new(None), bars_wanted, quiet })
    }

    fn bar(&self) -> Option<ProgressBar> {
        self.bar.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Progress for Terminal {
    fn begin(&self, stage: &str, total_bytes: Option<u64>) {
        if !self.bars_wanted {
            return;
        }
        let bar = ProgressBar::with_draw_target(total_bytes, ProgressDrawTarget::stderr_with_hz(5));
        let template = match total_bytes {
            Some(_) => "{msg}  {bar:30} {bytes}/{total_bytes}  {bytes_per_sec}  {eta} left",
            None => "{msg}  {spinner} {bytes}  {bytes_per_sec}  {elapsed}",
        };
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        bar.set_message(stage.to_owned());
        bar.enable_steady_tick(Duration::from_millis(250));
        *self.bar.lock().unwrap_or_else(PoisonError::into_inner) = Some(bar);
    }

    fn advance(&self, bytes: u64) {
        if let Some(bar) = self.bars_wanted.then(|| self.bar()).flatten() {
            bar.inc(bytes);
        }
    }

    fn end(&self) {
        let bar = self.bar.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(bar) = bar {
            bar.finish_and_clear();
        }
    }

    fn warn(&self, message: &str) {
        if self.quiet {
            return;
        }
        match self.bar() {
            Some(bar) => bar.suspend(|| eprintln!("warning: {message}")),
            None => eprintln!("warning: {message}"),
        }
    }
}
