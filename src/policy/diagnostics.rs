//! What is wrong in a policy, for people: `file:line:column`, what was found, what was expected, what was meant.
//!
//! Secrets written as values are never shown: their places are masked in every source line that is printed.

use std::fmt;
use std::ops::Range;

use super::time::Misfit;
use crate::ground::Failure;

/// One mistake, before lines are counted.
pub(crate) struct Fault {
    span: Range<usize>,
    message: String,
    expected: Option<String>,
    suggestion: Option<String>,
}

impl Fault {
    pub fn new(span: Range<usize>, message: impl Into<String>) -> Self {
        Self { span, message: message.into(), expected: None, suggestion: None }
    }

    pub fn misfit(span: Range<usize>, misfit: Misfit) -> Self {
        Self { span, message: misfit.message, expected: None, suggestion: misfit.suggestion }
    }

    pub fn expected(mut self, expected: impl Into<String>) -> Self {
        self.expected = Some(expected.into());
        self
    }

    pub fn suggest(mut self, suggestion: Option<String>) -> Self {
        self.suggestion = suggestion;
        self
    }
}

/// The mistakes found so far and the places that must not be shown.
#[derive(Default)]
pub(crate) struct Faults {
    faults: Vec<Fault>,
    masks: Vec<Range<usize>>,
}

impl Faults {
    pub fn push(&mut self, fault: Fault) {
        self.faults.push(fault);
    }

    pub fn mask(&mut self, span: Range<usize>) {
        self.masks.push(span);
    }

    pub fn is_empty(&self) -> bool {
        self.faults.is_empty()
    }

    /// Sorts by position and counts lines.
    pub fn into_errors(mut self, file: &str, text: &str) -> PolicyErrors {
        self.faults.sort_by_key(|fault| (fault.span.start, fault.span.end));
        let starts = line_starts(text);
        let errors = self.faults.into_iter().map(|fault| locate(fault, text, &starts)).collect();
        PolicyErrors { file: file.to_owned(), text: text.to_owned(), errors, masks: self.masks }
    }
}

/// One mistake in a policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyError {
    /// From 1.
    pub line: usize,
    /// From 1, in characters.
    pub column: usize,
    /// Bytes of the text.
    pub span: Range<usize>,
    /// What was found.
    pub message: String,
    /// What may stand there.
    pub expected: Option<String>,
    /// What was probably meant.
    pub suggestion: Option<String>,
}

impl fmt::Display for PolicyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.line, self.column, self.message)?;
        if let Some(expected) = &self.expected {
            write!(f, "; expected {expected}")?;
        }
        match &self.suggestion {
            Some(suggestion) => write!(f, "; did you mean \"{suggestion}\"?"),
            None => Ok(()),
        }
    }
}

/// All mistakes of one policy file, in the order they stand in it. At least one.
#[derive(Clone)]
pub struct PolicyErrors {
    /// The file's name as given to [`super::parse`].
    pub file: String,
    /// The whole text. It may hold secrets that should not be there: print this value, not the text.
    pub text: String,
    /// In order of position.
    pub errors: Vec<PolicyError>,
    masks: Vec<Range<usize>>,
}

impl fmt::Display for PolicyErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let starts = line_starts(&self.text);
        for (index, error) in self.errors.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{}:{error}", self.file)?;
            // What is missing in the file as a whole has no line to show.
            if error.span != (0..0) {
                self.write_snippet(f, error, &starts)?;
            }
        }
        Ok(())
    }
}

/// As `Display`: the text may hold secrets, so it must not reach a log by way of `{:?}`.
impl fmt::Debug for PolicyErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for PolicyErrors {}

impl From<PolicyErrors> for Failure {
    fn from(errors: PolicyErrors) -> Self {
        Failure::wrong_input(errors.to_string())
    }
}

impl PolicyErrors {
    fn write_snippet(&self, f: &mut fmt::Formatter<'_>, error: &PolicyError, starts: &[usize]) -> fmt::Result {
        let line = self.shown_line(error, starts);
        let number = error.line.to_string();
        let gutter = " ".repeat(number.len());
        let caret = format!("{}{}", " ".repeat(line.caret_from), "^".repeat((line.caret_to - line.caret_from).max(1)));
        write!(f, "\n{gutter} |\n{number} | {}\n{gutter} | {caret}", line.text)
    }

    /// The error's line as it may be printed: secrets masked, control characters replaced, cut to a readable width.
    fn shown_line(&self, error: &PolicyError, starts: &[usize]) -> ShownLine {
        const CHARS_BEFORE_MAX: usize = 70;
        const CHARS_MAX: usize = 140;
        let start = starts.get(error.line - 1).copied().unwrap_or_default();
        let end = starts.get(error.line).map_or(self.text.len(), |next| next - 1);
        let mut cells = self.cells(start, end);
        if let Some(hidden) =
            cells.iter().position(|cell| cell.0 >= error.span.start).filter(|at| *at > CHARS_BEFORE_MAX)
        {
            cells.drain(..hidden - CHARS_BEFORE_MAX);
        }
        cells.truncate(CHARS_MAX);
        let caret_from = cells.iter().take_while(|cell| cell.1 <= error.span.start).count();
        let caret_to = cells.iter().take_while(|cell| cell.0 < error.span.end).count();
        let text: String = cells.iter().map(|cell| cell.2).collect();
        ShownLine { text: text.trim_end().to_owned(), caret_from, caret_to: caret_to.max(caret_from) }
    }

    /// One cell per printed character: bytes from, bytes to, character. A masked place becomes three stars.
    fn cells(&self, start: usize, end: usize) -> Vec<(usize, usize, char)> {
        let mut cells = Vec::new();
        for (offset, c) in self.text[start..end].char_indices() {
            let (from, to) = (start + offset, start + offset + c.len_utf8());
            match self.masks.iter().find(|mask| mask.contains(&from)) {
                Some(mask) if from == mask.start.max(start) => {
                    cells.extend(std::iter::repeat_n((from, mask.end.min(end), '*'), 3));
                }
                Some(_) => {}
                None if c == '\t' => cells.push((from, to, ' ')),
                None if c.is_control() => cells.push((from, to, if c == '\r' { ' ' } else { '\u{fffd}' })),
                None => cells.push((from, to, c)),
            }
        }
        cells
    }
}

struct ShownLine {
    text: String,
    caret_from: usize,
    caret_to: usize,
}

fn line_starts(text: &str) -> Vec<usize> {
    std::iter::once(0).chain(text.bytes().enumerate().filter(|(_, b)| *b == b'\n').map(|(at, _)| at + 1)).collect()
}

fn locate(fault: Fault, text: &str, starts: &[usize]) -> PolicyError {
    let start = text.floor_char_boundary(fault.span.start.min(text.len()));
    let end = text.floor_char_boundary(fault.span.end.clamp(start, text.len()));
    let line = starts.partition_point(|line_start| *line_start <= start).max(1);
    let column = text[starts[line - 1]..start].chars().count() + 1;
    PolicyError {
        line,
        column,
        span: start..end,
        message: on_one_line(&fault.message),
        expected: fault.expected.as_deref().map(on_one_line),
        suggestion: fault.suggestion.as_deref().map(on_one_line),
    }
}

/// Names from the policy may hold line breaks and terminal codes; a mistake is told on one line.
fn on_one_line(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() { shown.extend(c.escape_debug()) } else { shown.push(c) }
    }
    shown
}
