//! The supervisor's refusals.

use wasi_guard_enforce::host::{Layer, State};

/// Why a guest was not run, or was ended.
#[derive(Debug)]
pub struct Error {
    /// What failed, to be read after "could not"; or a whole text if [`Error::rendered`].
    pub step: String,
    /// The causes, outermost first.
    pub causes: Vec<String>,
    /// What can be done.
    pub hint: Option<String>,
    /// Long text for `-v`.
    pub details: Option<String>,
    /// `step` is a text ready to be shown: a policy's diagnostics.
    pub rendered: bool,
}

impl Error {
    pub(crate) fn new(step: impl Into<String>) -> Self {
        Self { step: step.into(), causes: Vec::new(), hint: None, details: None, rendered: false }
    }

    pub(crate) fn step(step: impl Into<String>, cause: impl std::error::Error) -> Self {
        let mut error = Self::new(step);
        let mut next: Option<&dyn std::error::Error> = Some(&cause);
        while let Some(cause) = next {
            error.causes.push(cause.to_string());
            next = cause.source();
        }
        error
    }

    pub(crate) fn rendered(text: String) -> Self {
        Self { rendered: true, ..Self::new(text) }
    }

    #[must_use]
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The error, with the module's name if it is about the module.
    pub(crate) fn of_module(error: crate::compile::Error, module: &str) -> Self {
        let about_module = error.is_the_modules_fault();
        let mut error = Self::from(error);
        if about_module {
            error.step = format!("{} {module}", error.step);
        }
        error
    }

    pub(crate) fn of_files(errors: Vec<wasi_guard_policy::FileError>) -> Self {
        let mut error = Self::new("use single files as preopens").hint(
            "`read` and `write` with `.` are about the file itself; its guest path is one in a directory that is no preopen",
        );
        error.causes = errors.iter().map(ToString::to_string).collect();
        error
    }

    pub(crate) fn missing(layer: &Layer) -> Self {
        let (found, hint) = match &layer.state {
            State::Missing { found, hint } => (found.clone(), hint.clone()),
            State::Present(text) => (text.clone(), String::new()),
        };
        let mut error =
            Self::new(format!("start: the layer `{}` is missing ({})", layer.name, layer.purpose))
                .hint(hint);
        error.causes.push(found);
        error
    }
}

impl From<wasi_guard_enforce::Error> for Error {
    fn from(error: wasi_guard_enforce::Error) -> Self {
        let mut result = Self::new(error.step.clone());
        let mut next = std::error::Error::source(&error);
        while let Some(cause) = next {
            result.causes.push(cause.to_string());
            next = cause.source();
        }
        result.hint = error.hint;
        result.details = error.details;
        result
    }
}

impl From<crate::compile::Error> for Error {
    fn from(error: crate::compile::Error) -> Self {
        Self {
            causes: error.cause.lines().map(str::to_owned).collect(),
            hint: error.hint,
            ..Self::new(error.step)
        }
    }
}
