//! Questions to a policy, and the attempts that they are about.

use std::cell::Cell;
use std::net::IpAddr;

use wasi_guard_abi::operation::Operation;

use crate::evaluate::{Attempt, Peer, Target};
use crate::guest_path::{GuestPathError, Place};
use crate::model::Policy;
use crate::network::{Endpoint, EndpointError, Host, Protocol};

/// What somebody wants to know.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Question {
    /// One of [`operation_names`].
    pub operation: String,
    /// What it is about: a path of the guest (`/data/in.csv`), for a rename or link two; an
    /// address (`tcp://10.0.0.1:5432`) for `connect`, `bind`, `listen` and `send`; `tcp` or
    /// `udp` for `socket_create`; nothing for what no policy can grant. Without a protocol an
    /// address is one of TCP, for `send` of UDP.
    pub objects: Vec<Vec<u8>>,
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
    /// The question says too little of what it is about.
    #[error("`{operation}` needs {needed}")]
    Missing {
        /// The operation.
        operation: String,
        /// What it needs.
        needed: &'static str,
    },
    /// The question is about more than the operation is.
    #[error("too many objects: `{operation}` takes {takes}, not {given}")]
    TooMany {
        /// The operation.
        operation: String,
        /// What it takes.
        takes: &'static str,
        /// How many there are.
        given: usize,
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

/// Forms of an operation that need other rights than the plain one, with what they are.
const FORMS: [(&str, Operation); 5] = [
    ("read", Operation::Open),
    ("write", Operation::Open),
    ("rename_dir", Operation::Rename),
    ("replace", Operation::Rename),
    ("exchange", Operation::Rename),
];

/// Every word that [`Question::operation`] can be: the operations by their names in records
/// ([`Operation::name`]); `read` and `write`, which are `open` with that access; `rename_dir` (of
/// a directory), `replace` (of an existing file) and `exchange` (of two names), which are
/// `rename`.
pub fn operation_names() -> Vec<&'static str> {
    let forms = FORMS.iter().map(|(word, _)| *word);
    forms.chain(Operation::EVERY.iter().map(|operation| operation.name())).collect()
}

impl Question {
    /// A question; `objects` as in [`Question::objects`].
    pub fn new<O: Into<Vec<u8>>>(
        operation: impl Into<String>,
        objects: impl IntoIterator<Item = O>,
    ) -> Self {
        Self { operation: operation.into(), objects: objects.into_iter().map(Into::into).collect() }
    }

    /// The operation, if there is one of this name.
    pub fn kernel_operation(&self) -> Option<Operation> {
        let form = FORMS.iter().find(|(word, _)| *word == self.operation);
        form.map(|(_, operation)| *operation).or_else(|| Operation::from_name(&self.operation))
    }

    /// The question as an attempt below a policy's preopens. A rename is one of a file to a name
    /// that is free, unless the form says otherwise.
    ///
    /// # Errors
    /// [`ExplainError`].
    pub fn attempt(&self, policy: &Policy) -> Result<Attempt, ExplainError> {
        let operation = self
            .kernel_operation()
            .ok_or_else(|| ExplainError::Operation { name: self.operation.clone() })?;
        let objects = Objects { question: self, policy, taken: Cell::new(0) };
        let attempt = objects.attempt(operation)?;
        let given = self.objects.len();
        let takes = match objects.taken.get() {
            taken if given <= taken => return Ok(attempt),
            0 => "none",
            1 => "one",
            _ => "two",
        };
        Err(ExplainError::TooMany { operation: self.operation.clone(), takes, given })
    }
}

/// The objects of a question, counted as they are taken.
struct Objects<'q> {
    question: &'q Question,
    policy: &'q Policy,
    taken: Cell<usize>,
}

impl Objects<'_> {
    /// Every operation of the kernel side has a line here. Those that no policy can grant take
    /// no object: their answer is the same for each.
    fn attempt(&self, operation: Operation) -> Result<Attempt, ExplainError> {
        Ok(match operation {
            Operation::Open => {
                let write = self.question.operation == "write";
                Attempt::Open { path: self.path()?, read: !write, write, truncate: false }
            }
            Operation::Truncate => Attempt::Truncate { path: self.path()? },
            Operation::Create => Attempt::Create { path: self.path()? },
            Operation::Mkdir => Attempt::Mkdir { path: self.path()? },
            Operation::Rmdir => Attempt::Rmdir { path: self.path()? },
            Operation::Unlink => Attempt::Unlink { path: self.path()? },
            Operation::Symlink => Attempt::Symlink { path: self.path()? },
            Operation::Stat => Attempt::Stat { path: self.path()? },
            Operation::SetAttr => Attempt::SetAttr { path: self.path()? },
            Operation::Link => Attempt::Link { from: self.path()?, to: self.new_name()? },
            Operation::Rename => {
                let form = self.question.operation.as_str();
                let replaces = matches!(form, "replace" | "exchange");
                Attempt::Rename {
                    from: self.path()?,
                    to: self.new_name()?,
                    from_is_dir: form == "rename_dir",
                    target: if replaces { Target::File } else { Target::Absent },
                    exchange: form == "exchange",
                }
            }
            Operation::SocketCreate => self.socket()?,
            Operation::Connect => Attempt::Connect(self.peer(Protocol::Tcp)?),
            Operation::Bind => Attempt::Bind(self.peer(Protocol::Tcp)?),
            Operation::Listen => Attempt::Listen(self.peer(Protocol::Tcp)?),
            // What TCP sends, it sends to where it is connected.
            Operation::Send => Attempt::Send(self.peer(Protocol::Udp)?),
            Operation::Readlink => Attempt::Readlink { path: self.path()? },
            Operation::GetXattr => Attempt::GetXattr { path: self.path()? },
            Operation::SetXattr => Attempt::SetXattr { path: self.path()? },
            never => Attempt::Never(never),
        })
    }

    fn next(&self, needed: &'static str) -> Result<&[u8], ExplainError> {
        let at = self.taken.replace(self.taken.get() + 1);
        let object = self.question.objects.get(at).map(Vec::as_slice);
        object.ok_or_else(|| ExplainError::Missing {
            operation: self.question.operation.clone(),
            needed,
        })
    }

    fn path(&self) -> Result<Place, ExplainError> {
        self.place(self.next("a path of the guest")?)
    }

    fn new_name(&self) -> Result<Place, ExplainError> {
        self.place(self.next("two paths: the existing name and the new one")?)
    }

    fn place(&self, path: &[u8]) -> Result<Place, ExplainError> {
        self.policy.locate(path).map_err(|source| ExplainError::Path {
            path: String::from_utf8_lossy(path).into_owned(),
            source,
        })
    }

    fn socket(&self) -> Result<Attempt, ExplainError> {
        // AF_INET with SOCK_STREAM or SOCK_DGRAM: rules make no difference between the families.
        let (socket_type, protocol) = match self.next("a protocol, `tcp` or `udp`")? {
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

    fn peer(&self, usual: Protocol) -> Result<Peer, ExplainError> {
        let mut text = String::from_utf8_lossy(self.next("an address and port")?).into_owned();
        if !text.contains("://") {
            text = format!("{}://{text}", usual.name());
        }
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
}
