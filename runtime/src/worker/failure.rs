//! The error of a worker: the step that failed, why, and what a person can do about it.

use std::error::Error;
use std::fmt;

use crate::protocol::{FromWorker, MAX_MESSAGE};

/// A failed step.
#[derive(Debug)]
pub struct Failure {
    step: String,
    cause: String,
    hint: Option<String>,
    incompatible: bool,
}

impl Failure {
    /// A failed step, to be read after "could not".
    pub fn new(step: impl Into<String>) -> Self {
        Self { step: step.into(), cause: String::new(), hint: None, incompatible: false }
    }

    /// An artifact that wasmtime refuses, told as [`FromWorker::Incompatible`].
    pub fn incompatible(cause: impl Into<String>) -> Self {
        let step = "load the compiled module".to_owned();
        Self { step, cause: cause.into(), hint: None, incompatible: true }
    }

    /// Adds the cause, one line per level.
    #[must_use]
    pub fn because(mut self, cause: impl Into<String>) -> Self {
        self.cause = cause.into();
        self
    }

    /// Adds what can be done.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The message to the supervisor.
    #[must_use]
    pub fn message(&self) -> FromWorker {
        let cause = cut(&self.cause);
        if self.incompatible {
            return FromWorker::Incompatible { message: cause };
        }
        FromWorker::Failed { step: self.step.clone(), message: cause, hint: self.hint.clone() }
    }
}

/// A guest chooses the names in wasmtime's messages, so their length is bounded: half a packet is
/// left for step and hint.
fn cut(text: &str) -> String {
    let mut end = text.len().min(MAX_MESSAGE / 2);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default().to_owned()
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "could not {}", self.step)?;
        if !self.cause.is_empty() {
            write!(f, ": {}", self.cause)?;
        }
        if let Some(hint) = &self.hint {
            write!(f, "\n  hint: {hint}")?;
        }
        Ok(())
    }
}

/// Names the step of a failed call.
pub trait Step<T> {
    /// Turns the error and its causes into a [`Failure`].
    ///
    /// # Errors
    /// If `self` is one.
    fn step(self, step: &str) -> Result<T, Failure>;
}

impl<T, E: Error> Step<T> for Result<T, E> {
    fn step(self, step: &str) -> Result<T, Failure> {
        self.map_err(|error| Failure::new(step).because(chain(&error)))
    }
}

/// An error and its causes, one a line.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let line = cause.to_string();
        // Some errors repeat their source in their own text.
        if !text.ends_with(&line) {
            text.push('\n');
            text.push_str(&line);
        }
        source = cause.source();
    }
    text
}

/// wasmtime's error and its causes, one a line.
#[must_use]
pub fn wasmtime_chain(error: &wasmtime::Error) -> String {
    error.chain().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_of_any_length_fits_into_a_message() {
        let failure = Failure::new("x").because("ä".repeat(MAX_MESSAGE));
        let FromWorker::Failed { message, .. } = failure.message() else { panic!() };
        assert!(message.len() <= MAX_MESSAGE / 2);
        assert!(postcard::to_stdvec(&failure.message()).unwrap().len() < MAX_MESSAGE);
    }

    #[test]
    fn the_text_names_step_cause_and_hint() {
        let failure = Failure::new("do it").because("no").hint("try again");
        assert_eq!(failure.to_string(), "could not do it: no\n  hint: try again");
    }
}
