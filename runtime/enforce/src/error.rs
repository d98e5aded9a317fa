//! The error of this crate: the step that failed, why, and what a person can do about it.

use std::fmt;

/// Result with [`Error`].
pub type Result<T> = std::result::Result<T, Error>;

/// A failed step.
#[derive(Debug)]
pub struct Error {
    /// What was being done, to be read after "could not".
    pub step: String,
    /// What can be done about it.
    pub hint: Option<String>,
    /// The cause.
    pub source: Option<Box<dyn std::error::Error + Send + Sync>>,
    /// Long text that helps an expert: the verifier's log.
    pub details: Option<String>,
}

impl Error {
    /// A step that failed for a reason that its text gives.
    pub fn new(step: impl Into<String>) -> Self {
        Self { step: step.into(), hint: None, source: None, details: None }
    }

    /// Adds what can be done.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Adds the cause.
    #[must_use]
    pub fn because(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "could not {}", self.step)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}

/// Names the step of a failed call.
pub trait Step<T> {
    /// Turns the error into [`Error`] with `step` in front of it.
    ///
    /// # Errors
    /// If `self` is one.
    fn step(self, step: impl FnOnce() -> String) -> Result<T>;
}

impl<T, E: Into<Box<dyn std::error::Error + Send + Sync>>> Step<T> for std::result::Result<T, E> {
    fn step(self, step: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|error| Error::new(step()).because(error))
    }
}
