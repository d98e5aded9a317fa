//! What a policy says about one operation, for people.

use std::fmt;
use std::net::IpAddr;

use wasi_guard_abi::operation::{Operation, Reason};

use crate::evaluate::{Attempt, Peer, Target, Verdict, evaluate_with};
use crate::guest_path::{GuestPathError, Place};
use crate::model::{Addresses, Policy, Rule, rights_text};
use crate::network::{Endpoint, EndpointError, Host, Protocol};

/// The question.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Question {
    /// An operation by its name in records ([`Operation::name`]), or `read`, `write` or `append`
    /// for `open` with that access.
    pub operation: String,
    /// A path of the guest (`/data/in.csv`), or an address (`tcp://10.0.0.1:5432`) for
    /// `connect`, `bind`, `listen` and `send`, or `tcp` or `udp` for `socket_create`. Empty for
    /// `exec` and `fork`.
    pub object: Vec<u8>,
    /// The new name, for `rename` and `link`.
    pub second: Option<Vec<u8>>,
}

/// Why a question has no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExplainError {
    /// There is no such operation.
    #[error("unknown operation `{name}`; the operations are {}", operation_names().join(", "))]
    Operation {
        /// What was asked for.
        name: String,
    },
    /// The operation needs two names.
    #[error("`{operation}` needs two paths: the existing name and the new one")]
    Second {
        /// The operation.
        operation: &'static str,
    },
    /// The path cannot be mapped.
    #[error("{path}")]
    Path {
        /// The path.
        path: String,
        /// Why.
        source: GuestPathError,
    },
    /// The object is no address.
    #[error("`{text}` is no address: {source}; {}", source.hint)]
    Address {
        /// The object.
        text: String,
        /// Why.
        source: EndpointError,
    },
    /// The object is a set of addresses or ports, and the answer may differ among them.
    #[error("`{text}` is not a single address and port, as in `tcp://127.0.0.1:8080`")]
    NotSingle {
        /// The object.
        text: String,
    },
}

/// The answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Explanation {
    /// The question as an attempt.
    pub attempt: Attempt,
    /// What the policy says.
    pub verdict: Verdict,
    /// The rule that decided: the one that denies, or one that grants.
    pub rule: Option<Rule>,
    /// Whether the policy only records denials.
    pub audit_mode: bool,
}

/// Every word that [`Question::operation`] can be.
pub fn operation_names() -> Vec<&'static str> {
    let short = ["read", "write"];
    short.into_iter().chain(Operation::EVERY.iter().map(|operation| operation.name())).collect()
}

/// Answers a question about a policy. `addresses` are those of the host names in its network
/// rules.
///
/// # Errors
/// The question is not one: [`ExplainError`].
pub fn explain(
    policy: &Policy,
    addresses: &Addresses,
    question: &Question,
) -> Result<Explanation, ExplainError> {
    let attempt = attempt(policy, question)?;
    let verdict = evaluate_with(policy, addresses, &attempt);
    let number = if verdict.allowed { verdict.granted_by } else { verdict.rule };
    Ok(Explanation {
        attempt,
        verdict,
        rule: policy.rule(number).cloned(),
        audit_mode: policy.mode == crate::model::Mode::Audit,
    })
}

fn attempt(policy: &Policy, question: &Question) -> Result<Attempt, ExplainError> {
    let place = |path: &[u8]| {
        policy.locate(path).map_err(|source| ExplainError::Path {
            path: String::from_utf8_lossy(path).into_owned(),
            source,
        })
    };
    let second = |operation: Operation| {
        let path = question
            .second
            .as_deref()
            .ok_or(ExplainError::Second { operation: operation.name() })?;
        place(path)
    };
    let open =
        |path: Place, write: bool| Attempt::Open { path, read: !write, write, truncate: false };
    let object = question.object.as_slice();
    let operation = match question.operation.as_str() {
        "read" => return Ok(open(place(object)?, false)),
        "write" => return Ok(open(place(object)?, true)),
        name => Operation::from_name(name)
            .ok_or_else(|| ExplainError::Operation { name: name.to_owned() })?,
    };
    Ok(match operation {
        Operation::Open => open(place(object)?, false),
        Operation::Truncate => Attempt::Truncate { path: place(object)? },
        Operation::Create => Attempt::Create { path: place(object)? },
        Operation::Mkdir => Attempt::Mkdir { path: place(object)? },
        Operation::Rmdir => Attempt::Rmdir { path: place(object)? },
        Operation::Unlink => Attempt::Unlink { path: place(object)? },
        Operation::Symlink => Attempt::Symlink { path: place(object)? },
        Operation::Stat => Attempt::Stat { path: place(object)? },
        Operation::SetAttr => Attempt::SetAttr { path: place(object)? },
        Operation::Link => Attempt::Link { from: place(object)?, to: second(operation)? },
        Operation::Rename => Attempt::Rename {
            from: place(object)?,
            to: second(operation)?,
            from_is_dir: false,
            target: Target::Absent,
            exchange: false,
        },
        Operation::SocketCreate => socket(object)?,
        Operation::Connect => Attempt::Connect(peer(object)?),
        Operation::Bind => Attempt::Bind(peer(object)?),
        Operation::Listen => Attempt::Listen(peer(object)?),
        Operation::Send => Attempt::Send(peer(object)?),
        Operation::Readlink => Attempt::Readlink { path: place(object)? },
        Operation::GetXattr => Attempt::GetXattr { path: place(object)? },
        Operation::SetXattr => Attempt::SetXattr { path: place(object)? },
        never => Attempt::Never(never),
    })
}

fn socket(object: &[u8]) -> Result<Attempt, ExplainError> {
    // AF_INET with SOCK_STREAM or SOCK_DGRAM: rules make no difference between the families.
    let (socket_type, protocol) = match object {
        b"tcp" => (1, Protocol::Tcp),
        b"udp" => (2, Protocol::Udp),
        other => {
            return Err(ExplainError::Address {
                text: String::from_utf8_lossy(other).into_owned(),
                source: EndpointError {
                    message: "no protocol".into(),
                    hint: "write `tcp` or `udp`".into(),
                },
            });
        }
    };
    Ok(Attempt::SocketCreate { family: 2, socket_type, protocol: protocol.number().into() })
}

fn peer(object: &[u8]) -> Result<Peer, ExplainError> {
    let text = String::from_utf8_lossy(object).into_owned();
    let endpoint = Endpoint::parse(&text)
        .map_err(|source| ExplainError::Address { text: text.clone(), source })?;
    let address: IpAddr = match endpoint.host {
        Host::V4 { address, prefix: 32 } => address.into(),
        Host::V6 { address, prefix: 128 } => address.into(),
        _ => return Err(ExplainError::NotSingle { text }),
    };
    if endpoint.port_low != endpoint.port_high {
        return Err(ExplainError::NotSingle { text });
    }
    Ok(Peer { protocol: endpoint.protocol, address, port: endpoint.port_low })
}

/// One or more lines without a line feed at the end: the verdict, then why.
impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Verdict { allowed, wanted, rights, second, .. } = self.verdict;
        f.write_str(match (allowed, self.audit_mode) {
            (true, _) => "allowed",
            (false, false) => "denied",
            (false, true) => "denied, but let through: mode = \"audit\"",
        })?;
        match (&self.rule, self.verdict.reason) {
            (Some(rule), None) => write!(f, "\n  granted by {rule}")?,
            (None, None) => {
                f.write_str("\n  granted because it is on the way to a name that a rule grants")?;
            }
            (Some(rule), Some(_)) => write!(f, "\n  denied by {rule}")?,
            (None, Some(reason)) => write!(f, "\n  {}", because(reason))?,
        }
        if wanted != 0 {
            let which = if second { " at the new name" } else { "" };
            if self.verdict.reason == Some(Reason::Widens) {
                write!(
                    f,
                    "\n  rights at the old name: {}; carried rights at the new name: {}",
                    rights_text(rights),
                    rights_text(wanted)
                )?;
            } else {
                write!(
                    f,
                    "\n  needed{which}: {}; has: {}",
                    rights_text(wanted),
                    rights_text(rights)
                )?;
            }
        }
        Ok(())
    }
}

fn because(reason: Reason) -> &'static str {
    match reason {
        Reason::Deny => "a deny rule matches",
        Reason::NotGranted => "no rule grants it",
        Reason::Outside => "it lies below none of the policy's preopens",
        Reason::NoPolicy => "there is no policy",
        Reason::Widens => "the new name would give rights that the old one does not",
        Reason::Never => "no policy can grant it",
        Reason::Error => "an error or a limit was met",
        Reason::Linked => "another name of the same file does not have the right",
        Reason::Moving => "names kept changing while they were read",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Source, load};

    const TEXT: &str = r#"version = 1
[[preopen]]
guest = "/data"
host = "./data"
read = ["**"]
write = ["out/**"]
create = ["out/**"]
delete = ["in/*"]
deny = ["**/*.pem"]
[network]
connect = ["tcp://127.0.0.1:80"]
"#;

    fn ask(operation: &str, object: &str, second: Option<&str>) -> Result<String, String> {
        let policy = load(&Source::new("test", TEXT)).unwrap().0;
        let question = Question {
            operation: operation.into(),
            object: object.into(),
            second: second.map(|path| path.into()),
        };
        explain(&policy, &Addresses::new(), &question)
            .map(|answer| answer.to_string())
            .map_err(|error| error.to_string())
    }

    #[test]
    fn answers_name_the_deciding_line() {
        for (operation, object, second, wanted) in [
            (
                "read",
                "/data/a",
                None,
                "allowed\n  granted by read \"**\" (line 5)\n  needed: read; has: read, stat",
            ),
            (
                "write",
                "/data/a",
                None,
                "denied\n  no rule grants it\n  needed: write; has: read, stat",
            ),
            (
                "stat",
                "/data/a.pem",
                None,
                "denied\n  denied by deny \"**/*.pem\" (line 9)\n  needed: stat; has: none",
            ),
            (
                "stat",
                "/etc",
                None,
                "denied\n  it lies below none of the policy's preopens\n  needed: stat; has: none",
            ),
            (
                "connect",
                "tcp://127.0.0.1:80",
                None,
                "allowed\n  granted by connect \"tcp://127.0.0.1:80\" (line 11)",
            ),
            ("socket_create", "udp", None, "denied\n  no rule grants it"),
            ("exec", "", None, "denied\n  no policy can grant it"),
            (
                "rename",
                "/data/in/a",
                Some("/data/out/a"),
                "denied\n  the new name would give rights that the old one does not\n  rights at the old name: read, delete, stat; carried rights at the new name: read, write, stat",
            ),
        ] {
            assert_eq!(
                ask(operation, object, second).as_deref(),
                Ok(wanted),
                "{operation} {object}"
            );
        }
    }

    #[test]
    fn questions_that_are_none_are_refused() {
        let error = |operation, object| ask(operation, object, None).unwrap_err();
        assert!(error("frobnicate", "/data").starts_with("unknown operation `frobnicate`"));
        assert!(error("rename", "/data/a").contains("needs two paths"));
        assert!(error("read", "/data/../x").contains("/data/../x"));
        assert!(error("connect", "tcp://10.0.0.0/8:80").contains("not a single address"));
        assert!(error("connect", "nowhere").contains("is no address"));
        assert!(error("socket_create", "icmp").contains("`tcp` or `udp`"));
    }
}
