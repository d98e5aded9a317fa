//! Loading an object: parsed elsewhere, checked here, verified by the kernel.

use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};

use wasi_guard_policy::bpf::{AttachPoint, Scope};

use super::object::{Map, Object, Program};
use super::{Broker, Event, Failed, MAX_OBJECTS, Result, privilege};
use crate::check::{self, Denied, Host, Loadable, Usage};
use crate::image::{self, Image, MAX_OBJECT};
use crate::kernel::{self, LoadSpec, Traced};
use crate::protocol::{Bytes, MapHandle, ObjectHandle};
use crate::section::Section;
use crate::window::Window;

const IMPORT: &str = "wasm_load_bpf_object";

impl Broker {
    pub(super) fn load(&mut self, bytes: Bytes, window: &Window) -> Result<ObjectHandle> {
        if self.objects.len() >= MAX_OBJECTS {
            let text = format!("there are {MAX_OBJECTS} objects, and no guest has more at once");
            return Err(Failed::new(libc::EMFILE, text));
        }
        let object = window
            .take(bytes)
            .map_err(|error| Failed::new(libc::EINVAL, format!("take the object: {error}")))?;
        if object.len() > MAX_OBJECT {
            let text =
                format!("the object has {} bytes, and {MAX_OBJECT} are allowed", object.len());
            return Err(Failed::new(libc::E2BIG, text));
        }
        let image = self.parser.parse(&object).map_err(|text| Failed::new(libc::EINVAL, text))?;
        let image =
            Image::decode(&image).map_err(|error| Failed::new(libc::EINVAL, error.to_string()))?;
        let (programs, usage) = self.check(&image)?;
        let object = self.make(&image, programs, usage)?;

        let handle = self.next_object;
        self.next_object += 1;
        for (at, map) in object.maps.iter().enumerate() {
            self.maps.insert(map.handle, (handle, at));
        }
        self.usage = usage;
        self.objects.insert(handle, object);
        self.last_error.clear();
        Ok(handle)
    }

    fn check(&mut self, image: &Image) -> Result<(Vec<Loadable>, Usage)> {
        let Self { guest, events, usage, .. } = self;
        let audit = guest.audit;
        let host = Host { processors: self.processors, audit };
        let mut passed = |denied: &Denied| {
            if audit {
                let denied = denied.clone();
                events(Event::Denied { import: IMPORT, denied, passed: true });
            }
        };
        check::check(image, &guest.policy, *usage, host, &mut passed).map_err(|denied| {
            let text = denied.to_string();
            let errno = match denied {
                Denied::Malformed(_) => libc::EINVAL,
                Denied::Policy { .. } | Denied::Never { .. } => {
                    events(Event::Denied { import: IMPORT, denied, passed: false });
                    libc::EPERM
                }
            };
            Failed::new(errno, text)
        })
    }

    /// Makes the maps, loads the programs. What is there when something fails goes with it.
    fn make(&mut self, image: &Image, loadable: Vec<Loadable>, usage: Usage) -> Result<Object> {
        let types = match image.btf.as_slice() {
            [] => None,
            bytes => types(image, bytes)?,
        };
        let mut maps = Vec::new();
        for map in &image.maps {
            maps.push(Map {
                handle: self.new_map()?,
                name: map.name.clone(),
                buffer: None,
                lost_said: 0,
                map: self::map(map, types.as_ref())?,
            });
        }
        let descriptors: Vec<_> = maps.iter().map(|it| it.map.as_fd().as_raw_fd()).collect();
        let mut programs = Vec::new();
        for (program, loadable) in image.programs.iter().zip(loadable) {
            let instructions = check::with_maps(&program.instructions, &descriptors);
            let load = || load(program, &loadable, image, &instructions, types.as_ref());
            let fd = match self.guest.policy.scope {
                Scope::Guest if !self.guest.audit => privilege::without_reading_memory(load)?,
                // In audit mode what needs the host's scope is recorded and loaded.
                Scope::Guest | Scope::Host => load()?,
            };
            programs.push(Program { name: program.name.clone(), loadable, fd });
        }
        let before = self.usage;
        let usage = Usage {
            programs: usage.programs - before.programs,
            maps: usage.maps - before.maps,
            map_bytes: usage.map_bytes - before.map_bytes,
        };
        Ok(Object { links: Vec::new(), maps, programs, usage })
    }

    fn new_map(&mut self) -> Result<MapHandle> {
        let handle = self.next_map;
        self.next_map = handle
            .checked_add(1)
            .ok_or_else(|| Failed::new(libc::EMFILE, "no number is left for a map"))?;
        Ok(handle)
    }
}

fn traced(point: &AttachPoint) -> Traced {
    match point {
        AttachPoint::RawTracepoint { .. } => Traced::Tracepoint,
        AttachPoint::LsmHook { .. } => Traced::Hook,
        _ => Traced::Function,
    }
}

/// `prog_flags` (uapi/linux/bpf.h).
fn flags(section: &Section) -> u32 {
    const SLEEPABLE: u32 = 1 << 4;
    const XDP_HAS_FRAGS: u32 = 1 << 5;
    (u32::from(section.sleepable) * SLEEPABLE) | (u32::from(section.frags) * XDP_HAS_FRAGS)
}

/// The object's own types. An object that can do without them is loaded without, as libbpf and aya
/// do it, if this kernel does not take them.
fn types(image: &Image, bytes: &[u8]) -> Result<Option<OwnedFd>> {
    match kernel::btf_load(bytes) {
        Ok(fd) => Ok(Some(fd)),
        Err(_) if image.maps.iter().all(|map| map.btf_key == 0 && map.btf_value == 0) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn map(map: &image::Map, types: Option<&OwnedFd>) -> Result<kernel::Map> {
    let types = types.map(|fd| fd.as_fd());
    let inner = match &map.inner {
        Some(inner) => Some(kernel::map_create(inner, types, None)?),
        None => None,
    };
    Ok(kernel::map_create(map, types, inner.as_ref().map(|inner| inner.as_fd()))?)
}

fn load(
    program: &image::Program,
    loadable: &Loadable,
    image: &Image,
    instructions: &[u64],
    types: Option<&OwnedFd>,
) -> Result<OwnedFd> {
    let section = &loadable.section;
    let attach_btf_id = match &loadable.bound {
        None => 0,
        Some(point) => kernel::attach_btf_id(traced(point), &point.to_string())?,
    };
    // Records about functions and lines are about types; without them they mean nothing.
    let records = |bytes: &'_ [u8]| if types.is_some() { bytes.to_vec() } else { Vec::new() };
    let (func_info, line_info) = (records(&program.func_info), records(&program.line_info));
    let spec = LoadSpec {
        name: &program.name,
        prog_type: section.prog_type,
        expected_attach_type: section.expected_attach_type,
        flags: flags(section),
        license: &image.license,
        instructions,
        btf: types.map(|fd| fd.as_fd()),
        func_info: &func_info,
        func_info_size: program.func_info_size,
        line_info: &line_info,
        line_info_size: program.line_info_size,
        attach_btf_id,
        kernel_version: 0,
    };
    Ok(kernel::program_load(&spec)?)
}
