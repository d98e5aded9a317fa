//! Which layers of a worker's confinement are in force: a value that callers can read and records
//! can name.

use serde::{Deserialize, Serialize};

/// What a worker's seccomp filter does with a call that its list does not name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Seccomp {
    /// No filter (yet).
    #[default]
    Absent,
    /// The call is let through, with a record: audit mode.
    Log,
    /// The call is denied.
    Enforce,
}

/// The layers around a worker process, besides BPF.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layers {
    /// No program that the worker could start gains rights (`PR_SET_NO_NEW_PRIVS`).
    pub no_new_privs: bool,
    /// All five capability sets are empty.
    pub capabilities: bool,
    /// ABI version of the Landlock domain around the worker; `None`: no domain.
    pub landlock: Option<u32>,
    /// The seccomp filter.
    pub seccomp: Seccomp,
}

impl Layers {
    /// Short names for records and messages, in a fixed order, for example
    /// `["no-new-privs", "no-capabilities", "landlock-7", "seccomp"]`.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        let mut names = Vec::new();
        if self.no_new_privs {
            names.push("no-new-privs".to_owned());
        }
        if self.capabilities {
            names.push("no-capabilities".to_owned());
        }
        if let Some(abi) = self.landlock {
            names.push(format!("landlock-{abi}"));
        }
        match self.seccomp {
            Seccomp::Absent => {}
            Seccomp::Log => names.push("seccomp-log".to_owned()),
            Seccomp::Enforce => names.push("seccomp".to_owned()),
        }
        names
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_list_only_what_is_in_force() {
        assert!(Layers::default().names().is_empty());
        let all = Layers {
            no_new_privs: true,
            capabilities: true,
            landlock: Some(7),
            seccomp: Seccomp::Enforce,
        };
        assert_eq!(all.names(), ["no-new-privs", "no-capabilities", "landlock-7", "seccomp"]);
    }
}
