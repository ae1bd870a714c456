//! Progress bars on standard error when it is a terminal: bytes, rate, time left.

use std::io::IsTerminal;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::ground::Progress;

/// What goes to standard error while work is done. Stages that run side by side share one bar.
pub struct Terminal {
    shown: Mutex<Shown>,
    bars_wanted: bool,
    quiet: bool,
}

/// The bar and how many stages feed it.
#[derive(Default)]
struct Shown {
    bar: Option<ProgressBar>,
    stages: usize,
}

impl Terminal {
    /// `no_progress` hides bars, `quiet` hides bars and warnings.
    pub fn new(quiet: bool, no_progress: bool) -> Arc<Self> {
        let bars_wanted = !quiet && !no_progress && std::io::stderr().is_terminal();
        Arc::new(Self { shown: Mutex::default(), bars_wanted, quiet })
    }

    fn shown(&self) -> MutexGuard<'_, Shown> {
        self.shown.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn new_bar(stage: &str, total_bytes: Option<u64>) -> ProgressBar {
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
    bar
}

impl Progress for Terminal {
    fn begin(&self, stage: &str, total_bytes: Option<u64>) {
        if !self.bars_wanted {
            return;
        }
        let mut shown = self.shown();
        shown.stages += 1;
        match &shown.bar {
            Some(bar) => {
                bar.set_message(format!("{} stages", shown.stages));
                bar.inc_length(total_bytes.unwrap_or(0));
            }
            None => shown.bar = Some(new_bar(stage, total_bytes)),
        }
    }

    fn advance(&self, bytes: u64) {
        if !self.bars_wanted {
            return;
        }
        if let Some(bar) = &self.shown().bar {
            bar.inc(bytes);
        }
    }

    fn end(&self) {
        let mut shown = self.shown();
        shown.stages = shown.stages.saturating_sub(1);
        if shown.stages == 0
            && let Some(bar) = shown.bar.take()
        {
            bar.finish_and_clear();
        }
    }

    fn warn(&self, message: &str) {
        if self.quiet {
            return;
        }
        match &self.shown().bar {
            Some(bar) => bar.suspend(|| eprintln!("warning: {message}")),
            None => eprintln!("warning: {message}"),
        }
    }
}
