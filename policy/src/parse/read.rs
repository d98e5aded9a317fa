//! TOML tables to a draft.

use std::path::PathBuf;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::bpf;
use super::draft::{Draft, DraftNetworkRule, DraftPreopen, DraftRule};
use super::fields::{self, Field, Text};
use crate::diagnostic::{Findings, nearest};
use crate::model::{Audit, Limits, Mode, RuleKind};
use crate::network::{Action, Endpoint};
use crate::pattern::{MAX_NAME_BYTES, Pattern};
use crate::quantity;
use crate::schema::{AuditKey, LimitsKey, NetworkKey, PreopenKey, RootKey};
use crate::source::Span;

/// Longest path that the kernel takes, in bytes, without the NUL at its end.
const MAX_PATH_BYTES: usize = 4095;
/// Most threads that the kernel can have (`PID_MAX_LIMIT`); a larger `pids.max` is an error there.
const MAX_PIDS: u64 = 4 << 20;
/// What `fs.nr_open` is where nobody has changed it (fs/file.c).
const MAX_OPEN_FILES: u64 = 1 << 20;
/// More is the same as no bound to the kernel (tg_set_limit, block/blk-throttle.c).
const MAX_IOPS: u64 = u32::MAX as u64;

pub(super) type Value<'i> = Spanned<DeValue<'i>>;

pub(super) fn read(root: &Spanned<DeTable<'_>>, text: &str, findings: &mut Findings<'_>) -> Draft {
    let mut reader = Reader { text, findings };
    let mut draft = Draft::default();
    for Field { key, value } in reader.fields::<RootKey>(root.get_ref(), 0..0) {
        match key {
            RootKey::Version => reader.version(value),
            RootKey::Mode => reader.mode(value, &mut draft.mode),
            RootKey::Preopen => reader.preopens(value, &mut draft.preopens),
            RootKey::Network => reader.network(value, &mut draft.network),
            RootKey::Limits => reader.limits(value, &mut draft.limits),
            RootKey::Audit => reader.audit(value, &mut draft.audit),
            RootKey::Bpf => draft.bpf = Some(bpf::read(&mut reader, value)),
        }
    }
    draft
}

pub(super) struct Reader<'a, 'f> {
    pub(super) text: &'a str,
    pub(super) findings: &'a mut Findings<'f>,
}

impl Reader<'_, '_> {
    fn fields<'t, 'i, K: crate::schema::Keys>(
        &mut self,
        table: &'t DeTable<'i>,
        place: Span,
    ) -> Vec<Field<'t, 'i, K>> {
        fields::fields(table, place, self.findings)
    }

    pub(super) fn table_fields<'t, 'i, K: crate::schema::Keys>(
        &mut self,
        value: &'t Value<'i>,
    ) -> Vec<Field<'t, 'i, K>> {
        match value.get_ref().as_table() {
            Some(table) => self.fields(table, value.span()),
            None => Vec::new(),
        }
    }

    fn version(&mut self, value: &Value<'_>) {
        if fields::unsigned(value) != Some(1) {
            self.findings.error(
                value.span(),
                "unknown version of the policy language",
                Some("this build knows `version = 1`".into()),
            );
        }
    }

    fn mode(&mut self, value: &Value<'_>, mode: &mut Mode) {
        let Some(found) = fields::text(value, self.text) else { return };
        match found.text {
            "enforce" => *mode = Mode::Enforce,
            "audit" => {
                *mode = Mode::Audit;
                self.findings.warn(
                    value.span(),
                    "audit mode protects nothing: denials are only recorded",
                    Some("write `mode = \"enforce\"` to deny".into()),
                );
            }
            other => {
                let hint = match nearest(other, ["enforce", "audit"]) {
                    Some(near) => format!("did you mean \"{near}\"?"),
                    None => "the modes are \"enforce\" and \"audit\"".into(),
                };
                self.findings.error(value.span(), format!("unknown mode \"{other}\""), Some(hint));
            }
        }
    }

    fn preopens(&mut self, value: &Value<'_>, preopens: &mut Vec<DraftPreopen>) {
        for entry in value.get_ref().as_array().into_iter().flat_map(|array| array.iter()) {
            let Some(table) = entry.get_ref().as_table() else {
                self.findings.error(
                    entry.span(),
                    "an entry of `preopen` is a table",
                    Some("write `[[preopen]]` once for each directory".into()),
                );
                continue;
            };
            let preopen = self.preopen(table, entry.span());
            preopens.push(preopen);
        }
    }

    fn preopen(&mut self, table: &DeTable<'_>, place: Span) -> DraftPreopen {
        let mut preopen = DraftPreopen {
            guest: String::new(),
            guest_span: place.clone(),
            host: String::new(),
            place: place.clone(),
            rules: Vec::new(),
            incomplete: false,
        };
        let fields = self.fields::<PreopenKey>(table, place);
        preopen.incomplete = fields.len() != table.len();
        for Field { key, value } in fields {
            let list = match key {
                PreopenKey::Guest => {
                    if let Some(text) = self.path(value, "guest") {
                        if text.split('/').any(|name| name == "..") {
                            self.findings.error(
                                value.span(),
                                "`..` in the name of a preopen",
                                Some("write the name without it, as in \"/data\"".into()),
                            );
                        }
                        preopen.guest = text;
                        preopen.guest_span = value.span();
                    }
                    continue;
                }
                PreopenKey::Host => {
                    preopen.host = self.path(value, "host").unwrap_or_default();
                    continue;
                }
                PreopenKey::Read => RuleKind::Read,
                PreopenKey::Write => RuleKind::Write,
                PreopenKey::Create => RuleKind::Create,
                PreopenKey::Delete => RuleKind::Delete,
                PreopenKey::Deny => RuleKind::Deny,
            };
            self.patterns(value, list, &mut preopen);
        }
        preopen
    }

    /// A path that the kernel would take: not empty, without NUL, and not too long.
    fn path(&mut self, value: &Value<'_>, key: &str) -> Option<String> {
        let text = fields::text(value, self.text)?.text;
        if text.is_empty() {
            self.findings.error(
                value.span(),
                format!("`{key}` is empty"),
                Some(match key {
                    "file" => "name a file, or leave it out for standard error".into(),
                    _ => "name a directory".into(),
                }),
            );
            return None;
        }
        if text.contains('\0') {
            self.findings.error(
                value.span(),
                format!("NUL in `{key}`"),
                Some("no path contains NUL".into()),
            );
            return None;
        }
        if text.len() > MAX_PATH_BYTES || text.split('/').any(|name| name.len() > MAX_NAME_BYTES) {
            self.findings.error(
                value.span(),
                format!("`{key}` is too long"),
                Some(format!(
                    "a path has at most {MAX_PATH_BYTES} bytes, and each name in it \
                     {MAX_NAME_BYTES}"
                )),
            );
            return None;
        }
        Some(text.to_owned())
    }

    fn patterns(&mut self, value: &Value<'_>, kind: RuleKind, preopen: &mut DraftPreopen) {
        let texts = fields::texts(value, self.text, self.findings);
        preopen.incomplete |= value.get_ref().as_array().is_some_and(|a| a.len() != texts.len());
        for found in texts {
            let Text { text, ref span, .. } = found;
            match Pattern::parse(text) {
                Ok(pattern) => {
                    preopen.rules.push(DraftRule { kind, pattern, span: span.clone() });
                }
                Err(error) => {
                    preopen.incomplete = true;
                    let place = found.part(error.span.clone());
                    let place = if place.is_empty() { span.clone() } else { place };
                    self.findings.error(place, error.message, Some(error.hint));
                }
            }
        }
    }

    fn network(&mut self, value: &Value<'_>, network: &mut Vec<DraftNetworkRule>) {
        for Field { key, value } in self.table_fields::<NetworkKey>(value) {
            let action = match key {
                NetworkKey::Connect => Action::Connect,
                NetworkKey::Bind => Action::Bind,
            };
            for Text { text, span, .. } in fields::texts(value, self.text, self.findings) {
                let endpoint = match Endpoint::parse(text) {
                    Ok(endpoint) => endpoint,
                    Err(error) => {
                        self.findings.error(span, error.message, Some(error.hint));
                        continue;
                    }
                };
                if let Some((message, hint)) = endpoint.never_matches(action) {
                    self.findings.error(span, message, Some(hint.into()));
                    continue;
                }
                network.push(DraftNetworkRule { action, endpoint, text: text.into(), span });
            }
        }
    }

    fn limits(&mut self, value: &Value<'_>, limits: &mut Limits) {
        for Field { key, value } in self.table_fields::<LimitsKey>(value) {
            match key {
                LimitsKey::Memory => limits.memory = self.size(value, 1..=u64::MAX),
                LimitsKey::Cpu => {
                    limits.cpu = fields::number(value).filter(|cpu| (0.01..=1024.0).contains(cpu));
                    if limits.cpu.is_none() {
                        self.findings.error(
                            value.span(),
                            "`cpu` is out of range",
                            Some("write a number of processors from 0.01 to 1024".into()),
                        );
                    }
                }
                LimitsKey::Pids => {
                    limits.pids =
                        self.count(value, "pids", "how many threads there may be", MAX_PIDS);
                }
                LimitsKey::OpenFiles => {
                    let what = "how many may be open at once";
                    limits.open_files = self.count(value, "open_files", what, MAX_OPEN_FILES);
                }
                LimitsKey::ReadBps => limits.disk.read_bps = self.size(value, 1..=u64::MAX),
                LimitsKey::WriteBps => limits.disk.write_bps = self.size(value, 1..=u64::MAX),
                LimitsKey::ReadIops => {
                    let what = "how many reads there may be in a second";
                    limits.disk.read_iops = self.count(value, "read_iops", what, MAX_IOPS);
                }
                LimitsKey::WriteIops => {
                    let what = "how many writes there may be in a second";
                    limits.disk.write_iops = self.count(value, "write_iops", what, MAX_IOPS);
                }
                LimitsKey::Time => {
                    let Some(found) = fields::text(value, self.text) else { continue };
                    match quantity::duration(found.text) {
                        Ok(time) if !time.is_zero() => limits.time = Some(time),
                        Ok(_) => self.findings.error(
                            value.span(),
                            "`time` is zero",
                            Some("leave `time` out for no bound".into()),
                        ),
                        Err(hint) => self.findings.error(
                            value.span(),
                            format!("\"{}\" is no duration", found.text),
                            Some(hint.into()),
                        ),
                    }
                }
                LimitsKey::Fuel => match fields::unsigned(value) {
                    Some(fuel) => limits.fuel = (fuel > 0).then_some(fuel),
                    None => self.findings.error(
                        value.span(),
                        "`fuel` is out of range",
                        Some("write a whole number; 0 is no bound".into()),
                    ),
                },
            }
        }
    }

    fn audit(&mut self, value: &Value<'_>, audit: &mut Audit) {
        for Field { key, value } in self.table_fields::<AuditKey>(value) {
            match key {
                AuditKey::File => audit.file = self.path(value, "file").map(PathBuf::from),
                AuditKey::Ring => {
                    let Some(ring) = self.size(value, (4 << 10)..=(16 << 20)) else { continue };
                    if ring.is_power_of_two() {
                        audit.ring = ring;
                    } else {
                        self.findings.error(
                            value.span(),
                            "the size of the ring buffer is no power of two",
                            Some(format!(
                                "the next one is \"{}\"",
                                quantity::size_text(ring.next_power_of_two())
                            )),
                        );
                    }
                }
            }
        }
    }

    /// A whole number from 1 to `most`; `what` it counts.
    pub(super) fn count(
        &mut self,
        value: &Value<'_>,
        key: &str,
        what: &str,
        most: u64,
    ) -> Option<u64> {
        let found = fields::unsigned(value).filter(|count| (1..=most).contains(count));
        if found.is_none() {
            let message = format!("`{key}` is out of range");
            let hint = format!("write {what}, from 1 to {most}");
            self.findings.error(value.span(), message, Some(hint));
        }
        found
    }

    pub(super) fn size(
        &mut self,
        value: &Value<'_>,
        range: std::ops::RangeInclusive<u64>,
    ) -> Option<u64> {
        let found = fields::text(value, self.text)?;
        match quantity::size(found.text) {
            Ok(size) if range.contains(&size) => Some(size),
            Ok(_) => {
                let hint = match *range.end() {
                    u64::MAX => "leave it out for no bound".into(),
                    end => format!(
                        "write a size from {} to {}",
                        quantity::size_text(*range.start()),
                        quantity::size_text(end)
                    ),
                };
                self.findings.error(value.span(), "the size is out of range", Some(hint));
                None
            }
            Err(hint) => {
                let message = format!("\"{}\" is no size", found.text);
                self.findings.error(value.span(), message, Some(hint.into()));
                None
            }
        }
    }
}
