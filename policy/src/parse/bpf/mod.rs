//! `[bpf]`: the table to a draft, which [`check()`] holds against itself.

mod check;
mod entry;

use toml::Spanned;

use super::fields::{self, Field, Text};
use super::read::{Reader, Value};
use crate::bpf::{AttachList, Bpf, MAX_ENTRIES, Profile, ProgramKind, Scope};
use crate::schema::BpfKey;
use crate::source::Span;

pub(super) use check::check;
use entry::Wrong;

/// Most programs, and most maps, that a policy can grant.
const MAX_OBJECTS: u64 = 256;
/// Most bytes of maps that a policy can grant.
const MAX_MAP_BYTES: u64 = 1 << 30;
/// Most instructions that the kernel looks at (`BPF_COMPLEXITY_LIMIT_INSNS`).
const MAX_INSTRUCTIONS: u64 = 1_000_000;

/// `[bpf]`, with the places of what it says.
pub(super) struct DraftBpf {
    /// The profile's part included.
    pub(super) bpf: Bpf,
    /// Where the table starts.
    place: Span,
    profile: Option<Spanned<Profile>>,
    programs: Vec<Spanned<ProgramKind>>,
    helpers: Vec<Spanned<u32>>,
    /// Lists of attach points that are not empty.
    lists: Vec<Spanned<AttachList>>,
    /// The entries of all lists.
    entries: Vec<Entry>,
    /// Some value could not be read: what it would have granted is not known.
    incomplete: bool,
}

/// An entry of a list.
struct Entry {
    key: &'static str,
    text: String,
    span: Span,
}

pub(super) fn read(reader: &mut Reader<'_, '_>, value: &Value<'_>) -> DraftBpf {
    let mut draft = DraftBpf {
        bpf: Bpf::default(),
        place: value.span(),
        profile: None,
        programs: Vec::new(),
        helpers: Vec::new(),
        lists: Vec::new(),
        entries: Vec::new(),
        incomplete: false,
    };
    let fields = reader.table_fields::<BpfKey>(value);
    draft.incomplete = value.get_ref().as_table().is_some_and(|table| table.len() != fields.len());
    for Field { key, value } in fields {
        draft.field(reader, key, value);
    }
    let DraftBpf { bpf, profile, programs, helpers, .. } = &mut draft;
    bpf.programs.extend(programs.iter().map(|kind| *kind.get_ref()));
    bpf.helpers.extend(helpers.iter().map(|id| *id.get_ref()));
    if let Some(profile) = profile {
        profile.get_ref().add_to(bpf);
    }
    draft
}

impl DraftBpf {
    fn field(&mut self, reader: &mut Reader<'_, '_>, key: BpfKey, value: &Value<'_>) {
        let list = match key {
            BpfKey::Profile => {
                let words = Profile::EVERY.map(|profile| (profile, profile.name()));
                let found = self.word(reader, value, "profile", &words);
                self.profile = found.map(|profile| Spanned::new(value.span(), profile));
                return;
            }
            BpfKey::Scope => {
                let words = Scope::EVERY.map(|scope| (scope, scope.name()));
                let found = self.word(reader, value, "scope", &words);
                self.bpf.scope = found.unwrap_or_default();
                return;
            }
            BpfKey::Programs => {
                self.programs = self.list(reader, "programs", value, entry::kind);
                return;
            }
            BpfKey::Helpers => {
                self.helpers = self.list(reader, "helpers", value, entry::helper);
                return;
            }
            BpfKey::MaxPrograms => {
                let what = "how many programs may be loaded at once";
                let found = reader.count(value, "max_programs", what, MAX_OBJECTS);
                return set(&mut self.bpf.max_programs, found);
            }
            BpfKey::MaxMaps => {
                let what = "how many maps there may be at once";
                let found = reader.count(value, "max_maps", what, MAX_OBJECTS);
                return set(&mut self.bpf.max_maps, found);
            }
            BpfKey::MapBytes => {
                let found = reader.size(value, 1..=MAX_MAP_BYTES);
                return set(&mut self.bpf.map_bytes, found);
            }
            BpfKey::MaxInstructions => {
                let what = "how many instructions a program may have";
                let found = reader.count(value, "max_instructions", what, MAX_INSTRUCTIONS);
                return set(&mut self.bpf.max_instructions, found);
            }
            BpfKey::Tracepoints => AttachList::Tracepoints,
            BpfKey::RawTracepoints => AttachList::RawTracepoints,
            BpfKey::Functions => AttachList::Functions,
            BpfKey::Uprobes => AttachList::Uprobes,
            BpfKey::PerfEvents => AttachList::PerfEvents,
            BpfKey::Cgroups => AttachList::Cgroups,
            BpfKey::Interfaces => AttachList::Interfaces,
            BpfKey::LsmHooks => AttachList::LsmHooks,
        };
        if list == AttachList::Uprobes {
            let found = self.list(reader, list.name(), value, entry::uprobe);
            self.bpf.uprobes.extend(found.into_iter().map(Spanned::into_inner));
        } else {
            let found = self.list(reader, list.name(), value, |text| entry::pattern(list, text));
            if let Some(patterns) = self.bpf.patterns_mut(list) {
                patterns.extend(found.into_iter().map(Spanned::into_inner));
            }
        }
        if value.get_ref().as_array().is_some_and(|array| !array.is_empty()) {
            self.lists.push(Spanned::new(value.span(), list));
        }
    }

    /// One of a few words.
    fn word<T: Copy>(
        &mut self,
        reader: &mut Reader<'_, '_>,
        value: &Value<'_>,
        what: &str,
        words: &[(T, &'static str)],
    ) -> Option<T> {
        let found = fields::text(value, reader.text)?;
        match entry::word(&found, what, words) {
            Ok(word) => Some(word),
            Err(wrong) => {
                self.wrong(reader, wrong);
                None
            }
        }
    }

    /// The entries of a list that can be read; the others are reported.
    fn list<T>(
        &mut self,
        reader: &mut Reader<'_, '_>,
        key: &'static str,
        value: &Value<'_>,
        read: impl Fn(&Text<'_>) -> Result<T, Wrong>,
    ) -> Vec<Spanned<T>> {
        let texts = fields::texts(value, reader.text, reader.findings);
        self.incomplete |=
            value.get_ref().as_array().is_some_and(|array| array.len() != texts.len());
        if let Some(first) = texts.get(MAX_ENTRIES) {
            self.wrong(
                reader,
                Wrong {
                    place: first.span.clone(),
                    message: format!(
                        "{} entries in `{key}`; there may be {MAX_ENTRIES}",
                        texts.len()
                    ),
                    hint: "use fewer, wider patterns".into(),
                },
            );
        }
        let mut list = Vec::new();
        for text in texts.into_iter().take(MAX_ENTRIES) {
            match read(&text) {
                Ok(entry) => {
                    list.push(Spanned::new(text.span.clone(), entry));
                    self.entries.push(Entry { key, text: text.text.into(), span: text.span });
                }
                Err(wrong) => self.wrong(reader, wrong),
            }
        }
        list
    }

    fn wrong(&mut self, reader: &mut Reader<'_, '_>, wrong: Wrong) {
        self.incomplete = true;
        reader.findings.error(wrong.place, wrong.message, Some(wrong.hint));
    }
}

/// A bound that could be read. One that could not be was reported and refuses the policy.
fn set<T: TryFrom<u64>>(bound: &mut T, found: Option<u64>) {
    if let Some(found) = found.and_then(|found| T::try_from(found).ok()) {
        *bound = found;
    }
}
