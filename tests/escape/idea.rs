//! An idea, and how it must end.

use std::ops::{Deref, DerefMut};
use std::rc::Rc;

use anyhow::Result;
use wasi_guard_captive::{Script, Value};

use crate::trial::Lab;

/// How an idea ends where nothing guards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Free {
    /// The call succeeds.
    Works,
    /// The call is answered with this errno, which is no denial: the kernel was about to do it.
    /// For calls whose success would damage the machine.
    Fails(i32),
    /// Another program runs in the end.
    Executes,
}

/// How an idea ends in a worker: who stops it, with what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Guarded {
    /// seccomp: no row lists the call.
    Unlisted,
    /// seccomp: an `[[answer]]` row.
    Answered,
    /// seccomp: a `[[kill]]` row ends the worker.
    Killed,
    /// BPF, with one record, of this operation.
    Denied(&'static str),
    /// BPF with one record, or before it the permissions of a file that is root's, without.
    Closed(&'static str),
    /// Landlock, or the kernel itself, with this errno and no record.
    Refused(i32),
}

/// A script that is being written, for one of the two sides.
pub(crate) struct Draft {
    script: Script,
    /// For the process that nothing guards. There a script may have more to prepare.
    pub(crate) free: bool,
}

impl Draft {
    /// The script, and its step that decides.
    pub(crate) fn write(free: bool, writer: &Writer<'_>) -> (Script, usize) {
        let mut draft = Self { script: Script::default(), free };
        let decides = match writer(&mut draft) {
            Value::Result(step) => usize::from(step),
            // Whatever else a writer returns stands for the last step.
            _ => draft.script.steps.len().saturating_sub(1),
        };
        (draft.script, decides)
    }
}

impl Deref for Draft {
    type Target = Script;

    fn deref(&self) -> &Script {
        &self.script
    }
}

impl DerefMut for Draft {
    fn deref_mut(&mut self) -> &mut Script {
        &mut self.script
    }
}

/// Writes a script and returns the step that decides.
pub(crate) type Writer<'a> = dyn Fn(&mut Draft) -> Value + 'a;

/// An idea of one script.
pub(crate) struct Attempt<'a> {
    pub(crate) name: String,
    pub(crate) free: Free,
    pub(crate) guarded: Guarded,
    pub(crate) writer: Rc<Writer<'a>>,
    /// From a second thread only; else from the first, and what does not end the worker from a
    /// second as well.
    pub(crate) second: bool,
}

impl<'a> Attempt<'a> {
    /// The same from a second thread alone: for what ends the worker, so that one script cannot try
    /// it from both.
    pub(crate) fn by_a_second_thread(&self) -> Attempt<'a> {
        let (name, writer) = (format!("{}_from_a_second_thread", self.name), self.writer.clone());
        Attempt { name, writer, second: true, ..*self }
    }
}

/// An idea.
pub(crate) enum Idea<'a> {
    /// One script, the same inside and outside.
    Attempt(Attempt<'a>),
    /// Anything else.
    Case(&'static str, fn(&mut Lab<'_>) -> Result<()>),
}

impl Idea<'_> {
    pub(crate) fn name(&self) -> &str {
        match self {
            Self::Attempt(attempt) => &attempt.name,
            Self::Case(name, _) => name,
        }
    }

    /// How it ends, for a list.
    pub(crate) fn ends(&self) -> String {
        match self {
            Self::Attempt(Attempt { free, guarded, .. }) => format!("{free:?}, {guarded:?}"),
            Self::Case(..) => "see there".to_owned(),
        }
    }

    pub(crate) fn try_it(&self, lab: &mut Lab<'_>) -> Result<()> {
        match self {
            Self::Attempt(attempt) => lab.attempt(attempt),
            Self::Case(_, case) => case(lab),
        }
    }
}

/// An idea of one script.
pub(crate) fn attempt<'a>(
    name: impl Into<String>,
    free: Free,
    guarded: Guarded,
    writer: impl Fn(&mut Draft) -> Value + 'a,
) -> Idea<'a> {
    let (name, writer) = (name.into(), Rc::new(writer));
    Idea::Attempt(Attempt { name, free, guarded, writer, second: false })
}
