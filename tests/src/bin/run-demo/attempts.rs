//! What the guests try, in their order.

use std::fmt;

use wasi_guard_policy::explain::Question;

/// One attempt of a guest, in the words of `wasi-guard explain`.
pub(crate) struct Attempt {
    pub(crate) operation: &'static str,
    pub(crate) object: &'static str,
    /// The new name, for `rename` and `link`.
    pub(crate) second: Option<&'static str>,
}

const fn one(operation: &'static str, object: &'static str) -> Attempt {
    Attempt { operation, object, second: None }
}

const fn two(operation: &'static str, object: &'static str, second: &'static str) -> Attempt {
    Attempt { operation, object, second: Some(second) }
}

/// What tests/guests/demo.c tries.
pub(crate) const FILES: &[Attempt] = &[
    one("open", "/data"),
    one("read", "/data/in.csv"),
    one("write", "/data/in.csv"),
    one("read", "/data/keys/server.pem"),
    one("read", "/data/secret/plan.txt"),
    one("create", "/data/out/report.txt"),
    one("write", "/data/out/report.txt"),
    one("create", "/data/report.txt"),
    one("mkdir", "/data/out/tmp-1"),
    one("rmdir", "/data/out/tmp-1"),
    one("rmdir", "/data/archive"),
    one("unlink", "/data/out/report.txt"),
    two("rename", "/data/secret/plan.txt", "/data/out/plan.txt"),
    two("link", "/data/keys/server.pem", "/data/out/tmp-key"),
];

/// What tests/guests/connect.wat tries. Somebody listens on both ports.
pub(crate) const SOCKETS: &[Attempt] =
    &[one("connect", "tcp://127.0.0.1:7878"), one("connect", "tcp://127.0.0.1:7879")];

/// The port that the policy grants and the one that it does not, as in [`SOCKETS`].
pub(crate) const PORTS: [u16; 2] = [7878, 7879];

impl Attempt {
    /// The attempt as a question to the policy.
    pub(crate) fn question(&self) -> Question {
        Question::new(self.operation, std::iter::once(self.object).chain(self.second))
    }
}

/// As demo.c prints it before the colon.
impl fmt::Display for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.operation, self.object)?;
        self.second.map_or(Ok(()), |second| write!(f, " {second}"))
    }
}
