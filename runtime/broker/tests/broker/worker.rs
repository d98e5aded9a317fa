//! What stands in for a worker: asks a broker that serves it in another thread.

use std::os::fd::AsFd as _;
use std::sync::mpsc::{self, Receiver};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use wasi_guard_broker::broker::{Broker, Event, Guest, Served, serve};
use wasi_guard_broker::parser::ObjectParser;
use wasi_guard_broker::protocol::{
    Bytes, MapHandle, MapShape, ObjectHandle, Reply, Request, Target, WINDOW,
};
use wasi_guard_broker::window::Window;
use wasi_guard_channel::Channel;
use wasi_guard_policy::bpf::{Bpf, ProgramKind, Scope};
use wasi_guard_policy::pattern::Pattern;

/// How long an answer may take that nothing is waited for.
const PATIENCE: Duration = Duration::from_secs(60);

/// A policy that grants what the tests' objects need.
pub(crate) fn policy() -> Bpf {
    let everything = || vec![Pattern::everything()];
    Bpf {
        scope: Scope::Host,
        programs: [ProgramKind::Tracepoint, ProgramKind::RawTracepoint].into(),
        tracepoints: everything(),
        raw_tracepoints: everything(),
        max_maps: 64,
        map_bytes: 64 << 20,
        ..Bpf::default()
    }
}

/// A worker with its broker.
pub(crate) struct Worker {
    pub(crate) channel: Channel,
    pub(crate) window: Window,
    events: Receiver<Event>,
    broker: JoinHandle<Served>,
}

impl Worker {
    pub(crate) fn new(policy: Bpf) -> Self {
        Self::with(policy, false)
    }

    pub(crate) fn with(policy: Bpf, audit: bool) -> Self {
        Self::of(Guest { policy, audit, cgroup: None, preopens: Vec::new() })
    }

    pub(crate) fn of(guest: Guest) -> Self {
        let root = rustix::process::geteuid().is_root();
        assert!(root, "this test makes BPF maps and loads BPF programs: run it as root");
        let (channel, theirs) = Channel::pair().unwrap();
        let theirs = Channel::from_fd(theirs);
        let window = Window::create(WINDOW).unwrap();
        let its = Window::from_fd(window.as_fd().try_clone_to_owned().unwrap(), WINDOW);
        let (sender, events) = mpsc::channel();
        let types = std::fs::read("/sys/kernel/btf/vmlinux").ok();
        let parser = Box::new(ObjectParser::new(types));
        let broker = Broker::new(guest, parser, Box::new(move |it| drop(sender.send(it))));
        let broker = thread::spawn(move || serve(broker, &theirs, &its));
        Self { channel, window, events, broker }
    }

    pub(crate) fn ask(&self, request: &Request) -> Reply {
        self.channel.send(request).unwrap();
        self.channel.receive(Some(PATIENCE)).unwrap()
    }

    fn done(&self, request: &Request) -> Result<(), i32> {
        match self.ask(request) {
            Reply::Done(result) => result,
            other => panic!("{request:?}: {other:?}"),
        }
    }

    fn value(&self, request: &Request) -> Result<Vec<u8>, i32> {
        match self.ask(request) {
            Reply::Value(result) => Ok(self.window.take(result?).unwrap()),
            other => panic!("{request:?}: {other:?}"),
        }
    }

    pub(crate) fn load(&self, object: &[u8]) -> Result<ObjectHandle, i32> {
        let bytes = self.window.put(object.to_vec()).unwrap();
        match self.ask(&Request::Load(bytes)) {
            Reply::Object(result) => result,
            other => panic!("{other:?}"),
        }
    }

    /// Loads what is loaded.
    pub(crate) fn loaded(&self, object: &[u8]) -> ObjectHandle {
        self.load(object).unwrap_or_else(|errno| panic!("{errno}: {}", self.last_error()))
    }

    pub(crate) fn close(&self, object: ObjectHandle) -> Result<(), i32> {
        self.done(&Request::Close(object))
    }

    pub(crate) fn attach(&self, object: ObjectHandle, program: &str) -> Result<(), i32> {
        self.attach_to(object, program, Target::Auto)
    }

    pub(crate) fn attach_to(
        &self,
        object: ObjectHandle,
        program: &str,
        target: Target,
    ) -> Result<(), i32> {
        self.done(&Request::Attach { object, program: program.to_owned(), target })
    }

    pub(crate) fn shape(&self, object: ObjectHandle, name: &str) -> Result<MapShape, i32> {
        match self.ask(&Request::MapByName { object, name: name.to_owned() }) {
            Reply::Map(result) => result,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn map(&self, object: ObjectHandle, name: &str) -> MapHandle {
        self.shape(object, name).unwrap().handle
    }

    pub(crate) fn lookup(&self, map: MapHandle, key: &[u8]) -> Result<Vec<u8>, i32> {
        self.value(&Request::Lookup { map, key: Bytes::Inline(key.to_vec()), flags: 0 })
    }

    pub(crate) fn update(&self, map: MapHandle, key: &[u8], value: &[u8]) -> Result<(), i32> {
        self.update_if(map, key, value, 0)
    }

    pub(crate) fn update_if(
        &self,
        map: MapHandle,
        key: &[u8],
        value: &[u8],
        flags: u64,
    ) -> Result<(), i32> {
        let pair = self.window.put([key, value].concat()).unwrap();
        self.done(&Request::Update { map, pair, flags })
    }

    pub(crate) fn delete(&self, map: MapHandle, key: &[u8]) -> Result<(), i32> {
        self.done(&Request::Delete { map, key: Bytes::Inline(key.to_vec()) })
    }

    pub(crate) fn next_key(&self, map: MapHandle, key: Option<&[u8]>) -> Result<Vec<u8>, i32> {
        let key = key.map(|key| Bytes::Inline(key.to_vec()));
        self.value(&Request::NextKey { map, key })
    }

    /// Samples, and whether there are more.
    pub(crate) fn poll(
        &self,
        object: ObjectHandle,
        map: MapHandle,
        wait: i32,
    ) -> Result<(Vec<Vec<u8>>, bool), i32> {
        match self.ask(&Request::Poll { object, map, max_size: 4096, wait }) {
            Reply::Samples(result) => {
                let answer = result?;
                let bytes = self.window.take(answer.bytes).unwrap();
                let samples = split(&bytes);
                assert_eq!(samples.len(), answer.count as usize);
                Ok((samples, answer.more))
            }
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn lost(&self, object: ObjectHandle, map: MapHandle) -> Result<u64, i32> {
        match self.ask(&Request::Lost { object, map }) {
            Reply::Count(result) => result,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn last_error(&self) -> String {
        String::from_utf8(self.value(&Request::LastError).unwrap()).unwrap()
    }

    /// What the audit heard since this was last asked.
    pub(crate) fn events(&self) -> Vec<Event> {
        self.events.try_iter().collect()
    }

    /// Goes, and waits for the broker's end; what the audit heard until then.
    pub(crate) fn end(self) -> (Served, Vec<Event>) {
        drop(self.channel);
        let served = self.broker.join().unwrap();
        (served, self.events.try_iter().collect())
    }

    /// Waits for the end of a broker that has had enough of its worker.
    pub(crate) fn wait(self) -> Served {
        self.broker.join().unwrap()
    }
}

fn split(mut bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut samples = Vec::new();
    while let Some((length, rest)) = bytes.split_first_chunk() {
        let (sample, rest) = rest.split_at(u32::from_le_bytes(*length) as usize);
        samples.push(sample.to_vec());
        bytes = rest;
    }
    assert!(bytes.is_empty());
    samples
}
