//! Puts a policy into force in the place of another.

use wasi_guard_enforce::guest::Guest;

use super::{
    Error, Reload,
    check::Checked,
    generation::{Generation, now},
};
use crate::{
    audit::{Auditor, Sink},
    protocol::{InForce, cut},
};

impl Reload {
    /// Everything that can fail comes first, the table last, in one step. `by` is the word for
    /// whoever asked.
    ///
    /// # Errors
    /// If the audit file cannot be opened, or the kernel refuses a limit or the table; then the
    /// policy before is in force, with its limits.
    pub(super) fn swap(
        &mut self,
        mut new: Checked,
        by: &'static str,
        guest: &mut Guest,
        auditor: &mut Auditor,
    ) -> Result<InForce, Error> {
        let sink = match (&new.audit_file, self.audit_by_policy) {
            (_, false) => None,
            (None, true) => Some(Sink::stderr()),
            (Some(path), true) => Some(Sink::file(path).map_err(|error| {
                Error::step(format!("open the audit file {}", path.display()), error)
            })?),
        };
        let other_limits = new.limits != self.limits;
        let limited = if other_limits { guest.set_limits(&new.limits) } else { Ok(()) };
        let since = now();
        if let Err(error) = limited.and_then(|()| guest.replace(&mut new.table, new.linked)) {
            if other_limits {
                // They were in force a moment ago; the first error is the one to tell.
                let _ = guest.set_limits(&self.limits);
            }
            return Err(error.into());
        }
        self.limits = new.limits;
        let rules = new.policy.rules.len() as u64;
        let before = self.generations.current();
        let before = (before.name.clone(), before.digest.clone());
        self.generations.replace(Generation {
            policy: new.policy,
            name: new.name.clone(),
            digest: new.digest.clone(),
            marked: new.marked,
            since,
        });
        auditor.set_policy(&new.name, &new.digest);
        auditor.reloaded(by, &before.0, &before.1);
        // The same line ends the one file and begins the other.
        if sink.is_some_and(|sink| auditor.move_to(sink)) {
            auditor.reloaded(by, &before.0, &before.1);
        }
        let warnings = cut(&new.warnings, super::MAX_TEXT);
        Ok(InForce { digest: new.digest, rules, warnings })
    }
}
