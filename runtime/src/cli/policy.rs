//! Reading a policy file, with every error shown.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use wasi_guard_abi::operation::Operation;
use wasi_guard_policy::explain::Question;
use wasi_guard_policy::{Addresses, Diagnostic, MAX_SOURCE_BYTES, Policy, Source};

use super::{Result, report};
use crate::{names, supervisor::Error};

/// A policy's text.
#[derive(Clone, Debug)]
pub struct PolicyFile {
    /// The text, under the name that was given.
    pub source: Source,
    /// The directory that relative host directories start at.
    pub directory: PathBuf,
    /// blake3 of the text.
    pub digest: blake3::Hash,
}

impl PolicyFile {
    /// Reads the file; does not look at the text.
    ///
    /// # Errors
    /// If it cannot be read or is larger than [`MAX_SOURCE_BYTES`].
    pub fn read(path: &Path) -> Result<Self> {
        let source = read_source(path, "policy")?;
        let digest = blake3::hash(&source.bytes);
        // `app.toml` has the parent ``, which is the current directory.
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        let directory = parent.unwrap_or(Path::new(".")).to_owned();
        Ok(Self { source, directory, digest })
    }

    /// Reads the text into a policy, with its warnings.
    ///
    /// # Errors
    /// All that is wrong with it.
    pub fn load(&self) -> std::result::Result<(Policy, Vec<Diagnostic>), Vec<Diagnostic>> {
        wasi_guard_policy::load(&self.source)
    }

    /// Reads the text into a policy, with its warnings; what is wrong with it becomes the error.
    ///
    /// # Errors
    /// If it has errors; the error's text has all of them.
    pub fn load_or_refuse(&self) -> Result<(Policy, Vec<Diagnostic>)> {
        self.load().map_err(|diagnostics| {
            Error::rendered(wasi_guard_policy::render_all(&diagnostics, &self.source))
        })
    }

    /// The policy as it is on this host, on which preopens may be single files.
    ///
    /// # Errors
    /// If one that is cannot be used.
    pub fn on_host(&self, policy: Policy) -> Result<Policy> {
        let is_file = |index: &usize| {
            policy.preopens.get(*index).is_some_and(|preopen| {
                self.resolve(&preopen.host).symlink_metadata().is_ok_and(|host| host.is_file())
            })
        };
        let files: Vec<usize> = (0..policy.preopens.len()).filter(is_file).collect();
        policy.with_files(&files).map_err(Error::of_files)
    }

    /// The directory of the host that a preopen or a file of the policy names.
    #[must_use]
    pub fn resolve(&self, path: &Path) -> PathBuf {
        self.directory.join(path)
    }
}

/// Reads a TOML file; `what` is what it is, for messages.
pub(super) fn read_source(path: &Path, what: &str) -> Result<Source> {
    let step = || format!("read the {what} {}", path.display());
    let mut bytes = Vec::new();
    let limit = MAX_SOURCE_BYTES as u64 + 1;
    File::open(path).and_then(|file| file.take(limit).read_to_end(&mut bytes)).map_err(
        |error| Error::step(step(), error).hint(format!("give the path of a {what}, a TOML file")),
    )?;
    if bytes.len() > MAX_SOURCE_BYTES {
        let mut error = Error::new(step()).hint("use fewer, wider patterns");
        error.causes.push(format!("it is larger than {} MiB", MAX_SOURCE_BYTES >> 20));
        return Err(error);
    }
    Ok(Source::new(path.display().to_string(), bytes))
}

/// The addresses of the host names in a policy's network rules, and what is to be said about those
/// that have none here. The start of a guest looks them up anew.
pub(super) fn addresses(policy: &Policy) -> (Addresses, Vec<String>) {
    let mut addresses = Addresses::new();
    let mut problems = Vec::new();
    for name in policy.host_names() {
        let found = match names::addresses(name) {
            Ok(found) => found,
            Err(error) => {
                problems.push(format!(
                    "the host name {name} has no address here, so its rules match nothing: {error}"
                ));
                Vec::new()
            }
        };
        addresses.insert(name.to_owned(), found);
    }
    (addresses, problems)
}

/// As [`addresses`], if an answer to one of the questions can rest on them; what is to be said
/// about names without an address is said.
pub(super) fn known_addresses(policy: &Policy, questions: &[Question]) -> Addresses {
    let network = [Operation::Connect, Operation::Bind, Operation::Listen, Operation::Send];
    let about_network = |question: &Question| {
        question.kernel_operation().is_some_and(|operation| network.contains(&operation))
    };
    if !questions.iter().any(about_network) {
        return Addresses::new();
    }
    let (addresses, problems) = addresses(policy);
    problems.iter().for_each(|problem| report::warning(problem));
    addresses
}
