//! Raw events put together into attempts of steps.

use std::collections::HashMap;

use jiff::Timestamp;

use super::{Interruption, ReportError, STEP_CHECK, STEP_PLAN, StepOutcome};
use crate::events::{Checked, Event, EventKind, StepOutput};

/// Reads a stored journal, one JSON object a line.
///
/// # Errors
/// The first line that is not an event, by number.
pub fn read_journal(bytes: &[u8]) -> Result<Vec<Event>, ReportError> {
    let mut events = Vec::new();
    for (index, line) in bytes.split(|&byte| byte == b'\n').enumerate() {
        if line.iter().all(u8::is_ascii_whitespace) {
            continue;
        }
        let event = serde_json::from_slice(line)
            .map_err(|error| ReportError::Line { line: index + 1, why: error.to_string() })?;
        events.push(event);
    }
    Ok(events)
}

/// The canonical bytes of a journal: one compact JSON object a line, each line ended.
pub fn journal_bytes(events: &[Event]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for event in events {
        // Events have string keys only and are written to memory: serialising them cannot fail.
        bytes.extend(serde_json::to_vec(event).unwrap_or_default());
        bytes.push(b'\n');
    }
    bytes
}

/// One attempt of a step.
pub(super) struct Attempt<'a> {
    pub step: &'a str,
    pub attempt: u32,
    pub started: Timestamp,
    pub finished: Option<Timestamp>,
    pub outcome: StepOutcome,
    pub evidence: Option<StepOutput>,
    pub error: Option<String>,
}

/// A clock that ran backwards between two events.
pub(super) struct ClockJump {
    pub after_seq: u64,
    pub back_seconds: f64,
}

/// All attempts of a run, in order of their start.
pub(super) struct Journal<'a> {
    pub attempts: Vec<Attempt<'a>>,
    pub interruptions: Vec<Interruption>,
    pub clock_jumps: Vec<ClockJump>,
    pub started: Timestamp,
    pub finished: Timestamp,
    /// Position of the latest attempt of each step.
    latest: HashMap<&'a str, usize>,
}

impl Attempt<'_> {
    /// Evidence of a check.
    pub(super) fn checked(&self) -> Option<&Checked> {
        match &self.evidence {
            Some(StepOutput::Checked(checked)) => Some(checked),
            _ => None,
        }
    }
}

impl<'a> Journal<'a> {
    /// Puts events together.
    ///
    /// # Errors
    /// A gap in the sequence, an end without a start, a start after a success, evidence that cannot be read.
    pub(super) fn build(events: &'a [Event]) -> Result<Self, ReportError> {
        let (Some(first), Some(last)) = (events.first(), events.last()) else { return Err(ReportError::NotDeclared) };
        let mut journal = Self {
            attempts: Vec::new(),
            interruptions: Vec::new(),
            clock_jumps: Vec::new(),
            started: first.at,
            finished: last.at,
            latest: HashMap::new(),
        };
        let mut previous: Option<&Event> = None;
        for event in events {
            journal.take(previous, event)?;
            previous = Some(event);
        }
        Ok(journal)
    }

    fn take(&mut self, previous: Option<&Event>, event: &'a Event) -> Result<(), ReportError> {
        let expected = previous.map_or(1, |previous| previous.seq.saturating_add(1));
        if event.seq != expected {
            return Err(ReportError::Sequence { expected, found: event.seq });
        }
        let since = previous.map_or(0.0, |previous| seconds_between(previous.at, event.at));
        if since < 0.0 {
            self.clock_jumps.push(ClockJump { after_seq: expected - 1, back_seconds: -since });
        }
        match event.kind {
            EventKind::Started => self.start(event),
            EventKind::Succeeded | EventKind::Failed => self.end(event),
            EventKind::Continued => {
                self.interrupt(previous.map_or(event.at, |previous| previous.at), event.at);
                Ok(())
            }
        }
    }

    fn start(&mut self, event: &'a Event) -> Result<(), ReportError> {
        if let Some(before) = self.latest.get(event.step.as_str()).and_then(|&index| self.attempts.get_mut(index)) {
            match before.outcome {
                StepOutcome::Succeeded => return Err(contradiction(event, "starts a step that had succeeded")),
                StepOutcome::Unfinished => before.outcome = StepOutcome::Interrupted,
                _ => {}
            }
        }
        self.latest.insert(&event.step, self.attempts.len());
        self.attempts.push(Attempt {
            step: &event.step,
            attempt: event.attempt,
            started: event.at,
            finished: None,
            outcome: StepOutcome::Unfinished,
            evidence: None,
            error: None,
        });
        Ok(())
    }

    fn end(&mut self, event: &'a Event) -> Result<(), ReportError> {
        let open = self.latest.get(event.step.as_str()).and_then(|&index| self.attempts.get_mut(index));
        let Some(attempt) = open.filter(|attempt| attempt.finished.is_none() && attempt.attempt == event.attempt)
        else {
            return Err(contradiction(event, "ends an attempt that is not under way"));
        };
        attempt.finished = Some(event.at);
        if event.kind == EventKind::Succeeded {
            attempt.outcome = StepOutcome::Succeeded;
            attempt.evidence = evidence_of(event)?;
        } else {
            attempt.outcome = StepOutcome::Failed;
            attempt.error = Some(error_of(event));
        }
        Ok(())
    }

    fn interrupt(&mut self, last_event: Timestamp, continued: Timestamp) {
        for attempt in self.attempts.iter_mut().filter(|attempt| attempt.outcome == StepOutcome::Unfinished) {
            attempt.outcome = StepOutcome::Interrupted;
        }
        let seconds = seconds_between(last_event, continued).max(0.0);
        self.interruptions.push(Interruption { last_event, continued, seconds });
    }

    /// The attempt that counts: the latest of a step.
    pub(super) fn latest(&self, step: &str) -> Option<&Attempt<'a>> {
        self.latest.get(step).and_then(|&index| self.attempts.get(index))
    }

    /// The attempt that counts of a declared step; declared by its name in the journal or in the plan.
    pub(super) fn plan_step(&self, name: &str) -> Option<&Attempt<'a>> {
        self.latest(&format!("{STEP_PLAN}{name}")).or_else(|| self.latest(name))
    }

    /// The attempt that counts of a declared check; declared by its name in the journal or in the plan.
    pub(super) fn check(&self, name: &str) -> Option<&Attempt<'a>> {
        self.latest(&format!("{STEP_CHECK}{name}")).or_else(|| self.latest(name))
    }

    /// Evidence of all steps that succeeded, with the step's name.
    pub(super) fn evidence(&self) -> impl Iterator<Item = (&'a str, &StepOutput)> {
        self.attempts.iter().filter_map(|attempt| Some((attempt.step, attempt.evidence.as_ref()?)))
    }
}

/// The plan's own name of a step or check.
pub(super) fn plain_name(step: &str) -> &str {
    step.strip_prefix(STEP_PLAN).or_else(|| step.strip_prefix(STEP_CHECK)).unwrap_or(step)
}

/// Seconds from `from` to `to`; negative when `to` is earlier.
pub(super) fn seconds_between(from: Timestamp, to: Timestamp) -> f64 {
    to.duration_since(from).as_secs_f64()
}

fn contradiction(event: &Event, why: &str) -> ReportError {
    ReportError::Contradiction { seq: event.seq, step: event.step.clone(), why: why.to_owned() }
}

/// Evidence that is there but cannot be read is an error: a verifier must not pass over it.
fn evidence_of(event: &Event) -> Result<Option<StepOutput>, ReportError> {
    if event.data.get("evidence").is_none() {
        return Ok(None);
    }
    serde_json::from_value(event.data.clone())
        .map(Some)
        .map_err(|error| contradiction(event, &format!("carries evidence that cannot be read: {error}")))
}

fn error_of(event: &Event) -> String {
    match event.data.get("error") {
        Some(serde_json::Value::String(sentence)) => sentence.clone(),
        _ => "failed without a recorded reason".to_owned(),
    }
}
