//! The cache's claims.

use std::io::{Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt, symlink};

use super::*;

struct Fixture {
    directory: tempfile::TempDir,
    cache: Cache,
    key: Key,
}

impl Fixture {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let cache = Cache::open(&directory.path().join("a/cache")).unwrap();
        let key = Key::new(&blake3::hash(b"module"), "x86_64", "");
        Self { directory, cache, key }
    }

    fn store(&self, bytes: &[u8]) {
        let mut artifact = tempfile::tempfile().unwrap();
        artifact.write_all(bytes).unwrap();
        self.cache.store(&self.key, Kind::Component, &artifact).unwrap();
    }

    fn entry(&self) -> PathBuf {
        self.cache.path().join(self.key.file_name())
    }

    fn assert_removed(&self, word: &str) {
        match self.cache.lookup(&self.key) {
            Lookup::Removed(why) => assert!(why.contains(word), "{why}"),
            other => panic!("{other:?}"),
        }
        assert!(!self.entry().exists());
        assert!(matches!(self.cache.lookup(&self.key), Lookup::Miss));
    }
}

#[test]
fn an_entry_comes_back_as_it_was_stored() {
    let fixture = Fixture::new();
    assert!(matches!(fixture.cache.lookup(&fixture.key), Lookup::Miss));
    let bytes = vec![7; 1_000_000];
    fixture.store(&bytes);
    let Lookup::Hit { mut file, kind } = fixture.cache.lookup(&fixture.key) else { panic!() };
    assert_eq!(kind, Kind::Component);
    let mut found = Vec::new();
    file.read_to_end(&mut found).unwrap();
    assert_eq!(found[..bytes.len()], bytes);
    let names = std::fs::read_dir(fixture.cache.path()).unwrap().count();
    assert_eq!(names, 1, "no temporary file is left");
    assert_eq!(std::fs::metadata(fixture.entry()).unwrap().mode() & 0o777, 0o600);
}

#[test]
fn every_changed_byte_is_noticed() {
    let fixture = Fixture::new();
    let length = {
        fixture.store(b"artifact");
        std::fs::read(fixture.entry()).unwrap().len()
    };
    for position in 0..length {
        fixture.store(b"artifact");
        let mut bytes = std::fs::read(fixture.entry()).unwrap();
        bytes[position] ^= 1;
        std::fs::write(fixture.entry(), bytes).unwrap();
        assert!(matches!(fixture.cache.lookup(&fixture.key), Lookup::Removed(_)), "{position}");
    }
}

#[test]
fn truncated_and_empty_entries_are_removed() {
    let fixture = Fixture::new();
    for length in [0, 1, 80, 85] {
        fixture.store(b"artifact");
        let file = std::fs::OpenOptions::new().write(true).open(fixture.entry()).unwrap();
        file.set_len(length).unwrap();
        assert!(matches!(fixture.cache.lookup(&fixture.key), Lookup::Removed(_)), "{length}");
    }
}

#[test]
fn another_modules_entry_is_removed() {
    let fixture = Fixture::new();
    fixture.store(b"artifact");
    let other = Key::new(&blake3::hash(b"other"), "x86_64", "");
    std::fs::rename(fixture.entry(), fixture.cache.path().join(other.file_name())).unwrap();
    let Lookup::Removed(why) = fixture.cache.lookup(&other) else { panic!() };
    assert!(why.contains("another module"), "{why}");
}

#[test]
fn entries_that_others_can_write_and_links_are_removed() {
    let fixture = Fixture::new();
    fixture.store(b"artifact");
    std::fs::set_permissions(fixture.entry(), PermissionsExt::from_mode(0o622)).unwrap();
    fixture.assert_removed("another user");

    let target = fixture.directory.path().join("target");
    fixture.store(b"artifact");
    std::fs::rename(fixture.entry(), &target).unwrap();
    symlink(&target, fixture.entry()).unwrap();
    fixture.assert_removed("cannot be opened");
    assert!(target.exists(), "the link is removed, not what it points to");

    rustix::fs::mkfifoat(rustix::fs::CWD, fixture.entry(), Mode::RUSR | Mode::WUSR).unwrap();
    fixture.assert_removed("not a file");
}

#[test]
fn a_directory_that_others_can_look_into_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("cache");
    std::fs::create_dir(&path).unwrap();
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
    assert!(matches!(Cache::open(&path), Err(CacheError::Unsafe { .. })));
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o700)).unwrap();
    Cache::open(&path).unwrap();
    let link = directory.path().join("link");
    symlink(&path, &link).unwrap();
    assert!(matches!(Cache::open(&link), Err(CacheError::Io { .. })));
}

#[test]
fn a_failed_store_is_an_error_and_leaves_nothing_behind() {
    let fixture = Fixture::new();
    // Reading a directory fails as writing to a full disk does: in the middle of the copy.
    let artifact = File::open("/").unwrap();
    let result = fixture.cache.store(&fixture.key, Kind::Module, &artifact);
    assert!(matches!(result, Err(CacheError::Io { .. })), "{result:?}");
    assert_eq!(std::fs::read_dir(fixture.cache.path()).unwrap().count(), 0);
}

fn names(fixture: &Fixture) -> Vec<String> {
    let entries = std::fs::read_dir(fixture.cache.path()).unwrap().flatten();
    let mut names: Vec<_> = entries.map(|entry| entry.file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn what_a_killed_writer_left_is_gone_when_the_cache_is_opened_again() {
    let fixture = Fixture::new();
    fixture.store(b"artifact");
    let kept = [format!(".{}.x.0", "a".repeat(64)), ".keep".to_owned(), ".cwasm.1.2".to_owned()];
    for name in &kept {
        std::fs::write(fixture.cache.path().join(name), b"somebody else's").unwrap();
    }
    let before = names(&fixture);
    // As a killed process leaves it: the file is there, the lock is not.
    drop(fixture.cache.temporary(&fixture.key).unwrap());
    assert_eq!(names(&fixture).len(), before.len() + 1);
    Cache::open(fixture.cache.path()).unwrap();
    assert_eq!(names(&fixture), before);
}

#[test]
fn the_file_of_a_writer_that_lives_stays() {
    let fixture = Fixture::new();
    let writing = fixture.cache.lock(FlockOperation::LockShared).unwrap();
    let (name, _file) = fixture.cache.temporary(&fixture.key).unwrap();
    Cache::open(fixture.cache.path()).unwrap();
    assert_eq!(names(&fixture), [name]);
    // Another one may write beside it, and neither its start nor its end is in the way.
    fixture.store(b"artifact");
    Cache::open(fixture.cache.path()).unwrap();
    assert_eq!(names(&fixture).len(), 2);
    drop(writing);
    Cache::open(fixture.cache.path()).unwrap();
    assert_eq!(names(&fixture), [fixture.key.file_name()]);
}

#[test]
fn collecting_removes_what_is_of_no_use_and_nothing_else() {
    let fixture = Fixture::new();
    fixture.store(b"artifact");
    let place = |name: &str| fixture.cache.path().join(name);
    std::fs::write(place("notes.cwasm"), b"somebody else's").unwrap();
    let before = names(&fixture);
    let good = std::fs::read(fixture.entry()).unwrap();
    // Damaged, of another version's format, another module's.
    let [mut damaged, mut format] = [good.clone(), good.clone()];
    damaged[0] ^= 1;
    *format.last_mut().unwrap() += 1;
    for (digit, bytes) in [("a", &damaged), ("b", &format), ("c", &good), ("d", &Vec::new())] {
        std::fs::write(place(&format!("{}.cwasm", digit.repeat(64))), bytes).unwrap();
    }
    drop(fixture.cache.temporary(&fixture.key).unwrap());
    let writing = fixture.cache.lock(FlockOperation::LockShared).unwrap();
    let error = Cache::collect(fixture.cache.path()).unwrap_err();
    assert!(matches!(&error, CacheError::Io { .. }), "{error:?}");
    assert_eq!(names(&fixture).len(), before.len() + 5);
    drop(writing);
    let collected = Cache::collect(fixture.cache.path()).unwrap();
    assert_eq!(collected, Some(Collected { unfinished: 1, unusable: 4 }));
    assert_eq!(names(&fixture), before);
    let again = Cache::collect(fixture.cache.path()).unwrap();
    assert_eq!(again, Some(Collected::default()));
    assert!(matches!(fixture.cache.lookup(&fixture.key), Lookup::Hit { .. }));
}

#[test]
fn collecting_makes_no_cache_and_uses_none_that_is_open_to_others() {
    let fixture = Fixture::new();
    let path = fixture.directory.path().join("none");
    assert!(matches!(Cache::collect(&path), Ok(None)));
    assert!(!path.exists());
    std::fs::create_dir(&path).unwrap();
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
    assert!(matches!(Cache::collect(&path), Err(CacheError::Unsafe { .. })));
}
