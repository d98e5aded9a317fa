//! Role Parse: a worker that is asked for one object after the other.

use std::fs::File;
use std::os::fd::AsFd as _;
use std::path::Path;
use std::process::{Command, Stdio};

use wasi_guard::compile::worker_command;
use wasi_guard::protocol::{
    CONFIG_FD, CONTROL_FD, Channel, FIRST_FD, FromWorker, ParseConfig, Role, Seccomp, WorkerConfig,
};
use wasi_guard_broker::{
    image::Image,
    protocol::{PARSER_WINDOW, ParseReply, ParseRequest},
    window::Window,
};
use wasi_guard_enforce::isolation::Identity;

use super::harness::{PATIENCE, worker};

/// A parser, and the way to it.
struct Parser {
    channel: Channel,
    window: Window,
    child: std::process::Child,
}

impl Parser {
    fn start() -> Self {
        let (channel, theirs) = Channel::pair().unwrap();
        let window = Window::create(PARSER_WINDOW).unwrap();
        let types = File::open("/sys/kernel/btf/vmlinux").unwrap();
        let config = WorkerConfig::new(Role::Parse(ParseConfig {
            identity: Identity::of_compiler().into(),
            window: FIRST_FD,
            types: Some(FIRST_FD + 1),
        }));
        let descriptors = vec![
            (theirs, CONTROL_FD),
            (config.to_memfd().unwrap(), CONFIG_FD),
            (window.as_fd().try_clone_to_owned().unwrap(), FIRST_FD),
            (types.into(), FIRST_FD + 1),
        ];
        let mut command = worker_command(worker().path(), descriptors);
        let child = command.stdin(Stdio::null()).spawn().unwrap();
        drop(command);
        let message = channel.receive(PATIENCE).unwrap();
        let FromWorker::Hardened { layers } = message else { panic!("{message:?}") };
        assert!(layers.no_new_privs && layers.capabilities, "{layers:?}");
        assert_eq!(layers.seccomp, Seccomp::Enforce);
        Self { channel, window, child }
    }

    fn ask(&self, object: &[u8]) -> Result<Image, String> {
        let bytes = self.window.write(object).unwrap();
        self.channel.send(&ParseRequest { bytes }).unwrap();
        let ParseReply(reply) = self.channel.receive(PATIENCE).unwrap();
        reply.map(|bytes| Image::decode(&self.window.read(bytes).unwrap()).unwrap())
    }

    fn end(mut self) {
        drop(self.channel);
        assert_eq!(self.child.wait().unwrap().code(), Some(0));
    }
}

/// The object of `tests/objects/NAME.bpf.c`.
fn object(name: &str) -> Vec<u8> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/objects");
    let output = Command::new("clang-22")
        .args(["--target=bpf", "-O2", "-g", "-c", "-o", "-"])
        .arg(folder.join(name).with_extension("bpf.c"))
        .output()
        .unwrap_or_else(|error| panic!("clang-22 (apt-get install clang-22): {error}"));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

#[test]
fn objects_become_images_and_hostile_ones_do_not_stop_the_next() {
    let parser = Parser::start();
    let exec = object("exec");
    let image = parser.ask(&exec).unwrap();
    assert!(image.programs.iter().any(|it| it.name == "handle_exec"), "{image:?}");
    assert!(image.maps.iter().any(|it| it.name == "events"), "{image:?}");
    for hostile in [&b""[..], b"\x7fELF", &exec[..exec.len() / 2], &[0xff; 100_000]] {
        let why = parser.ask(hostile).unwrap_err();
        assert!(why.contains("object"), "{why}");
    }
    // Adapts itself to this kernel's types (CO-RE), which are taken apart now.
    let adapted = parser.ask(&object("runqlat")).unwrap();
    assert!(!adapted.programs.is_empty());
    assert_eq!(parser.ask(&exec).unwrap(), image);
    parser.end();
}

#[test]
fn a_length_beyond_the_window_ends_it_with_words() {
    let mut parser = Parser::start();
    parser.channel.send(&ParseRequest { bytes: u32::MAX }).unwrap();
    let message = parser.channel.receive(PATIENCE).unwrap();
    let FromWorker::Failed { step, .. } = message else { panic!("{message:?}") };
    assert_eq!(step, "read the object");
    assert_eq!(parser.child.wait().unwrap().code(), Some(125));
}
