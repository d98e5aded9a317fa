//! What a worker is told to do, in a sealed memfd.

use std::collections::HashSet;
use std::io;
use std::os::fd::OwnedFd;

use serde::{Deserialize, Serialize};

use super::sealed::{self, SealedError};
use super::{FIRST_FD, MAX_CONFIG, MAX_FD};

/// Most entries of one list in a config: arguments, environment, preopens, options.
const MAX_ENTRIES: usize = 65_536;
/// Layout of the config. A worker has compared builds before it reads one.
const VERSION: u32 = 4;

/// Everything that a worker is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerConfig {
    version: u32,
    /// What to do.
    pub role: Role,
}

/// What a worker does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Role {
    /// Run a guest.
    Run(RunConfig),
    /// Compile a module.
    Compile(CompileConfig),
    /// Parse BPF objects.
    Parse(ParseConfig),
}

/// What a module is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    /// A core module, for WASI preview 1.
    Module,
    /// A component, for WASI preview 2.
    Component,
}

/// Whether what the policy does not grant is denied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Mode {
    /// It is denied.
    Enforce,
    /// It is let through and recorded. Landlock is left out, seccomp only logs.
    Audit,
}

/// Role Run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunConfig {
    /// Enforce or audit.
    pub mode: Mode,
    /// Who the worker becomes.
    pub identity: Identity,
    /// What messages call the module: its path as the caller gave it.
    pub name: String,
    /// What `artifact` is.
    pub kind: Kind,
    /// Descriptor of the compiled artifact, readable, at any offset. Its content must not change
    /// any more: a sealed memfd, or a cache entry that no guest can write.
    pub artifact: i32,
    /// The guest's arguments; the first is the module's file name, as in `wasmtime run`.
    pub args: Vec<String>,
    /// The guest's whole environment: name and value.
    pub env: Vec<(String, String)>,
    /// Directories that the guest gets.
    pub preopens: Vec<Preopen>,
    /// The self-test.
    pub canary: Canary,
    /// The caller's `-W -O -C -D -S` options, one a string, the letter included: `-Wfuel=100`.
    pub options: Vec<String>,
    /// Wall time for the guest in milliseconds. The lesser of this and `-W timeout` counts.
    pub time: Option<u64>,
    /// Descriptors that the guest may have, beside those that the worker needs itself.
    pub open_files: Option<u64>,
    /// Fuel. The lesser of this and `-W fuel` counts.
    pub fuel: Option<u64>,
    /// Most bytes that one linear memory may grow to. The lesser of this and
    /// `-W max-memory-size` counts.
    pub memory: Option<u64>,
    /// The way to the broker, if the policy lets the guest load BPF objects.
    pub broker: Option<BrokerConfig>,
}

/// The way to a guest's broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BrokerConfig {
    /// Descriptor of a socket of its own (`AF_UNIX`, `SOCK_SEQPACKET`).
    pub channel: i32,
    /// Descriptor of the window.
    pub window: i32,
}

/// Who a worker becomes; the numbers are those of its user namespace and of the supervisor's alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// User id: real, effective and saved. Not root's, where a guest runs.
    pub user: u32,
    /// Group id: real, effective and saved.
    pub group: u32,
    /// User id for files.
    pub file_user: u32,
    /// Group id for files.
    pub file_group: u32,
}

impl From<wasi_guard_enforce::isolation::Identity> for Identity {
    fn from(it: wasi_guard_enforce::isolation::Identity) -> Self {
        let wasi_guard_enforce::isolation::Identity { user, group, file_user, file_group } = it;
        Self { user, group, file_user, file_group }
    }
}

impl Identity {
    fn check(&self) -> Result<(), ConfigError> {
        // setresuid(2) and its kin take it for "leave as it is".
        let Self { user, group, file_user, file_group } = *self;
        if [user, group, file_user, file_group].contains(&u32::MAX) {
            return Err(invalid(format!("{} is no id of a user or group", u32::MAX)));
        }
        Ok(())
    }
}

/// A directory that the guest gets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Preopen {
    /// Descriptor of the directory; opened with `O_PATH` is enough.
    pub directory: i32,
    /// The guest's name for it.
    pub guest: String,
}

/// A file that the policy denies, to see that the kernel enforces before the guest starts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Canary {
    /// Descriptor of the directory in which it lies.
    pub directory: i32,
    /// Its name there; no slash.
    pub name: String,
}

/// Role Compile.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CompileConfig {
    /// Who the worker becomes.
    pub identity: Identity,
    /// What messages call the module.
    pub name: String,
    /// Descriptor of the module's bytes, binary or text.
    pub module: i32,
    /// Descriptor to which the artifact is written; empty, at offset 0.
    pub output: i32,
    /// The caller's options, as in [`RunConfig::options`].
    pub options: Vec<String>,
    /// The run will count fuel.
    pub fuel: bool,
    /// The run will have a time limit.
    pub epochs: bool,
    /// Target triple, for example `x86_64-unknown-linux-gnu`: then only the features that every
    /// CPU of that architecture has are used. `None`: this machine with all its features.
    pub target: Option<String>,
}

/// Role Parse.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ParseConfig {
    /// Who the worker becomes.
    pub identity: Identity,
    /// Descriptor of the window through which objects come and images go.
    pub window: i32,
    /// Descriptor of the kernel's types (`/sys/kernel/btf/vmlinux`), where there are any.
    pub types: Option<i32>,
}

/// Why a config is no good.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The memfd could not be read or written.
    #[error("the worker's config could not be passed on")]
    Io(#[from] io::Error),
    /// It is larger than [`MAX_CONFIG`].
    #[error("arguments, environment and policy make a config of more than {MAX_CONFIG} bytes")]
    TooLarge,
    /// Anybody with the descriptor could still change it.
    #[error("the config's memfd is not sealed")]
    NotSealed,
    /// It is not a config.
    #[error("the config cannot be read: {0}")]
    Malformed(#[source] postcard::Error),
    /// The executable was replaced while the supervisor ran.
    #[error("the config has version {0}, this worker knows {VERSION}")]
    Version(u32),
    /// A value is out of its bounds.
    #[error("{0}")]
    Invalid(String),
}

impl WorkerConfig {
    /// A config for `role`.
    #[must_use]
    pub const fn new(role: Role) -> Self {
        Self { version: VERSION, role }
    }

    /// Checks the config and writes it into a sealed memfd, to be given to the worker as
    /// [`super::CONFIG_FD`].
    ///
    /// # Errors
    /// If a value is out of its bounds or the kernel has no memory to give.
    pub fn to_memfd(&self) -> Result<OwnedFd, ConfigError> {
        self.check()?;
        let bytes = postcard::to_stdvec(self).map_err(ConfigError::Malformed)?;
        if bytes.len() > MAX_CONFIG {
            return Err(ConfigError::TooLarge);
        }
        Ok(sealed::write("wasi-guard-config", &bytes)?)
    }

    /// Reads and checks a config.
    ///
    /// # Errors
    /// See [`ConfigError`].
    pub fn from_memfd(fd: OwnedFd) -> Result<Self, ConfigError> {
        let bytes = sealed::read(fd, MAX_CONFIG).map_err(|error| match error {
            SealedError::Io(error) => ConfigError::Io(error),
            SealedError::NotSealed => ConfigError::NotSealed,
            SealedError::TooLarge(_) => ConfigError::TooLarge,
        })?;
        let (config, rest) =
            postcard::take_from_bytes::<Self>(&bytes).map_err(ConfigError::Malformed)?;
        if !rest.is_empty() {
            return Err(ConfigError::Malformed(postcard::Error::DeserializeBadEncoding));
        }
        config.check()?;
        Ok(config)
    }

    /// The numbers of all descriptors that the config names.
    #[must_use]
    pub fn descriptors(&self) -> Vec<i32> {
        match &self.role {
            Role::Run(run) => {
                let mut fds: Vec<_> = run.preopens.iter().map(|it| it.directory).collect();
                fds.extend([run.artifact, run.canary.directory]);
                fds.extend(run.broker.iter().flat_map(|it| [it.channel, it.window]));
                fds
            }
            Role::Compile(compile) => vec![compile.module, compile.output],
            Role::Parse(parse) => parse.types.into_iter().chain([parse.window]).collect(),
        }
    }

    fn check(&self) -> Result<(), ConfigError> {
        if self.version != VERSION {
            return Err(ConfigError::Version(self.version));
        }
        let mut seen = HashSet::new();
        for fd in self.descriptors() {
            if !(FIRST_FD..=MAX_FD).contains(&fd) {
                return Err(invalid(format!(
                    "descriptor {fd} is not between {FIRST_FD} and {MAX_FD}"
                )));
            }
            if !seen.insert(fd) {
                return Err(invalid(format!("descriptor {fd} is named twice")));
            }
        }
        match &self.role {
            Role::Run(run) => {
                run.identity.check()?;
                run.check()
            }
            Role::Compile(compile) => {
                compile.identity.check()?;
                check_entries("options", compile.options.len())
            }
            Role::Parse(parse) => parse.identity.check(),
        }
    }
}

impl RunConfig {
    fn check(&self) -> Result<(), ConfigError> {
        // A compiler may be: root without the right to choose a user can compile.
        if self.identity.user == 0 {
            return Err(invalid("a guest's worker cannot be user 0".to_owned()));
        }
        check_entries("arguments", self.args.len())?;
        check_entries("environment variables", self.env.len())?;
        check_entries("preopens", self.preopens.len())?;
        check_entries("options", self.options.len())?;
        for text in self.args.iter().chain(self.preopens.iter().map(|it| &it.guest)) {
            check_text(text)?;
        }
        for (name, value) in &self.env {
            check_text(name)?;
            check_text(value)?;
            if name.is_empty() || name.contains('=') {
                return Err(invalid(format!("{name:?} is no name for an environment variable")));
            }
        }
        let name = self.canary.name.as_str();
        check_text(name)?;
        if name.is_empty() || name.contains('/') || matches!(name, "." | "..") {
            return Err(invalid(format!("{name:?} is no name for a canary")));
        }
        Ok(())
    }
}

fn invalid(text: String) -> ConfigError {
    ConfigError::Invalid(text)
}

fn check_entries(what: &str, count: usize) -> Result<(), ConfigError> {
    if count > MAX_ENTRIES {
        return Err(invalid(format!("{count} {what} are more than the allowed {MAX_ENTRIES}")));
    }
    Ok(())
}

/// WASI hands these strings to C guests, for which a NUL would end them early.
fn check_text(text: &str) -> Result<(), ConfigError> {
    if text.contains('\0') {
        return Err(invalid(format!("{text:?} contains a NUL")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run() -> RunConfig {
        RunConfig {
            mode: Mode::Enforce,
            identity: Identity { user: 7, group: 8, file_user: 0, file_group: 0 },
            name: "app.wasm".to_owned(),
            kind: Kind::Module,
            artifact: 5,
            args: vec!["app.wasm".to_owned()],
            env: vec![("HOME".to_owned(), "/".to_owned())],
            preopens: vec![Preopen { directory: 7, guest: "/data".to_owned() }],
            canary: Canary { directory: 6, name: "canary".to_owned() },
            options: vec!["-Wfuel=1".to_owned()],
            time: Some(1000),
            open_files: Some(10),
            fuel: None,
            memory: None,
            broker: Some(BrokerConfig { channel: 8, window: 9 }),
        }
    }

    fn with(change: impl FnOnce(&mut RunConfig)) -> WorkerConfig {
        let mut run = run();
        change(&mut run);
        WorkerConfig::new(Role::Run(run))
    }

    #[test]
    fn a_config_comes_back_as_it_was() {
        let config = with(|_| {});
        assert_eq!(WorkerConfig::from_memfd(config.to_memfd().unwrap()).unwrap(), config);
    }

    #[test]
    fn values_out_of_bounds_are_refused() {
        let bad = [
            with(|run| run.artifact = 2),
            with(|run| run.artifact = -1),
            with(|run| run.artifact = MAX_FD + 1),
            with(|run| run.artifact = run.canary.directory),
            with(|run| run.broker = Some(BrokerConfig { channel: 8, window: 8 })),
            with(|run| run.identity.user = 0),
            with(|run| run.identity.user = u32::MAX),
            with(|run| run.identity.file_group = u32::MAX),
            with(|run| run.canary.name = "../x".to_owned()),
            with(|run| run.canary.name = String::new()),
            with(|run| run.args.push("a\0b".to_owned())),
            with(|run| run.env.push(("a=b".to_owned(), String::new()))),
            with(|run| run.args = vec![String::new(); MAX_ENTRIES + 1]),
        ];
        for config in bad {
            let error = config.to_memfd().unwrap_err();
            assert!(matches!(error, ConfigError::Invalid(_)), "{config:?}: {error:?}");
        }
        let big = with(|run| run.args.push("x".repeat(MAX_CONFIG)));
        assert!(matches!(big.to_memfd().unwrap_err(), ConfigError::TooLarge));
    }

    #[test]
    fn an_open_or_damaged_memfd_is_refused() {
        let file = tempfile::tempfile().unwrap();
        assert!(matches!(WorkerConfig::from_memfd(file.into()), Err(ConfigError::NotSealed)));
        for bytes in [&[][..], &[0xff; 100][..], &[1, 9][..]] {
            let fd = sealed::write("test", bytes).unwrap();
            let result = WorkerConfig::from_memfd(fd);
            assert!(matches!(result, Err(ConfigError::Malformed(_))), "{bytes:?}: {result:?}");
        }
    }

    #[test]
    fn another_version_is_refused() {
        let mut config = with(|_| {});
        config.version = 9;
        assert!(matches!(config.to_memfd(), Err(ConfigError::Version(9))));
    }
}
