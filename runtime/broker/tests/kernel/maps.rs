//! Maps.

use std::os::fd::AsFd as _;

use rustix::io::Errno;
use wasi_guard_broker::image;
use wasi_guard_broker::kernel::{Map, map_create};

use crate::{ARRAY, HASH, PERCPU_ARRAY, PERF_EVENT_ARRAY, RINGBUF, make, make_from, need_root};

const PROG_ARRAY: u32 = 3;
const PERCPU_HASH: u32 = 5;
const CGROUP_ARRAY: u32 = 8;
const LRU_HASH: u32 = 9;
const LRU_PERCPU_HASH: u32 = 10;
const LPM_TRIE: u32 = 11;
const ARRAY_OF_MAPS: u32 = 12;
const SOCKMAP: u32 = 15;
const QUEUE: u32 = 22;
const STACK: u32 = 23;
const BLOOM_FILTER: u32 = 30;

const NO_PREALLOC: u32 = 1;
const NOEXIST: u64 = 1;
const EXIST: u64 = 2;

fn lookup(map: &Map, key: &[u8]) -> Result<Vec<u8>, Errno> {
    let mut value = vec![0xaa; map.transfer_size()];
    map.lookup(key, &mut value, 0).map(|()| value)
}

fn possible_cpus() -> usize {
    let text = std::fs::read_to_string("/sys/devices/system/cpu/possible").unwrap();
    text.trim().split(',').fold(0, |sum, range| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        sum + last.parse::<usize>().unwrap() - first.parse::<usize>().unwrap() + 1
    })
}

#[test]
fn hashes_keep_what_they_get() {
    for kind in [HASH, LRU_HASH] {
        let map = make(kind, 4, 6, 64);
        assert_eq!((map.kind(), map.key_size(), map.transfer_size()), (kind, 4, 6));
        assert_eq!(lookup(&map, b"key1"), Err(Errno::NOENT));
        assert_eq!(map.update(b"key1", b"value1", EXIST), Err(Errno::NOENT));
        map.update(b"key1", b"value1", NOEXIST).unwrap();
        assert_eq!(map.update(b"key1", b"value2", NOEXIST), Err(Errno::EXIST));
        map.update(b"key2", b"value2", 0).unwrap();
        assert_eq!(lookup(&map, b"key1").unwrap(), b"value1");
        // All keys, from none to none.
        let (mut keys, mut key) = (Vec::new(), [0; 4]);
        let mut answer = map.next_key(None, &mut key);
        while answer.is_ok() {
            keys.push(key);
            answer = map.next_key(Some(&key.clone()), &mut key);
        }
        keys.sort();
        assert_eq!((answer, keys), (Err(Errno::NOENT), vec![*b"key1", *b"key2"]));
        // One that is not there is before the first.
        assert_eq!(map.next_key(Some(b"none"), &mut key), Ok(()));
        map.delete(b"key1").unwrap();
        assert_eq!(map.delete(b"key1"), Err(Errno::NOENT));
        assert_eq!(lookup(&map, b"key1"), Err(Errno::NOENT));
    }
}

#[test]
fn wrong_sizes_reach_nothing() {
    for (kind, key_size) in [(HASH, 8), (ARRAY, 4), (PERCPU_HASH, 8), (QUEUE, 0)] {
        let map = make(kind, key_size, 8, 4);
        let (key, transfer) = (vec![0; map.key_size()], map.transfer_size());
        for wrong in [0, 1, 3, 5, 7, 9, 4096] {
            let mut wrong = vec![0; wrong];
            if wrong.len() != key.len() {
                assert_eq!(lookup(&map, &wrong), Err(Errno::INVAL));
                assert_eq!(map.update(&wrong, &vec![0; transfer], 0), Err(Errno::INVAL));
                assert_eq!(map.delete(&wrong), Err(Errno::INVAL));
                assert_eq!(map.next_key(None, &mut wrong), Err(Errno::INVAL));
                assert_eq!(map.next_key(Some(&wrong), &mut key.clone()), Err(Errno::INVAL));
            }
            assert_eq!(map.lookup(&key, &mut wrong, 0), Err(Errno::INVAL));
            assert_eq!(map.update(&key, &wrong, 0), Err(Errno::INVAL));
        }
        // One processor's value is not enough where there are several.
        if possible_cpus() > 1 && kind == PERCPU_HASH {
            assert_eq!(map.lookup(&key, &mut [0; 8], 0), Err(Errno::INVAL));
        }
    }
}

#[test]
fn of_every_processor_there_is_a_value() {
    for (kind, key_size) in [(PERCPU_ARRAY, 4), (PERCPU_HASH, 4), (LRU_PERCPU_HASH, 4)] {
        for value_size in [1, 4, 8, 12] {
            let map = make(kind, key_size, value_size, 4);
            let stride = value_size.next_multiple_of(8) as usize;
            assert_eq!(map.value_size(), value_size);
            assert_eq!(map.transfer_size(), stride * possible_cpus());
            let mut value = vec![0; map.transfer_size()];
            for (cpu, value) in value.chunks_mut(stride).enumerate() {
                value[..value_size as usize].fill(cpu as u8 + 1);
            }
            map.update(&[0; 4], &value, 0).unwrap();
            let read = lookup(&map, &[0; 4]).unwrap();
            for (cpu, value) in read.chunks(stride).enumerate() {
                assert_eq!(value[..value_size as usize], vec![cpu as u8 + 1; value_size as usize]);
            }
        }
    }
}

#[test]
fn maps_without_keys() {
    for (kind, first) in [(QUEUE, b"one"), (STACK, b"two")] {
        let map = make(kind, 0, 3, 2);
        assert_eq!(lookup(&map, &[]), Err(Errno::NOENT));
        map.update(&[], b"one", 0).unwrap();
        map.update(&[], b"two", 0).unwrap();
        assert_eq!(map.update(&[], b"six", 0), Err(Errno::TOOBIG));
        // To look is not to take.
        for _ in 0..2 {
            assert_eq!(lookup(&map, &[]).unwrap(), first);
        }
        assert_eq!(map.delete(&[]), Err(Errno::INVAL));
        assert_eq!(map.next_key(None, &mut []), Err(Errno::INVAL));
        // With BPF_EXIST the new pushes out the old.
        map.update(&[], b"six", EXIST).unwrap();
    }
    let map = make(BLOOM_FILTER, 0, 8, 100);
    map.update(&[], b"is there", 0).unwrap();
    let mut value = *b"is there";
    assert_eq!(map.lookup(&[], &mut value, 0), Ok(()));
    let absent = (0..100_u64).filter(|it| {
        let mut value = it.to_ne_bytes();
        map.lookup(&[], &mut value, 0) == Err(Errno::NOENT)
    });
    assert!(absent.count() > 50);
}

#[test]
fn tries_find_the_longest_prefix() {
    let shape = image::Map {
        kind: LPM_TRIE,
        key_size: 8,
        value_size: 1,
        max_entries: 8,
        flags: NO_PREALLOC,
        ..image::Map::default()
    };
    let map = make_from(&shape);
    let key = |bits: u32, address: [u8; 4]| [bits.to_ne_bytes(), address].concat();
    map.update(&key(8, [10, 0, 0, 0]), b"a", 0).unwrap();
    map.update(&key(16, [10, 1, 0, 0]), b"b", 0).unwrap();
    assert_eq!(lookup(&map, &key(32, [10, 2, 3, 4])).unwrap(), b"a");
    assert_eq!(lookup(&map, &key(32, [10, 1, 3, 4])).unwrap(), b"b");
    assert_eq!(lookup(&map, &key(32, [11, 1, 3, 4])), Err(Errno::NOENT));
}

#[test]
fn frozen_data_stays_as_it_was() {
    let shape = image::Map {
        name: ".rodata.a b/c".to_owned(),
        kind: ARRAY,
        key_size: 4,
        value_size: 5,
        max_entries: 1,
        data: b"fixed".to_vec(),
        frozen: true,
        ..image::Map::default()
    };
    let map = make_from(&shape);
    assert_eq!(lookup(&map, &[0; 4]).unwrap(), b"fixed");
    assert_eq!(map.update(&[0; 4], b"other", 0), Err(Errno::PERM));
    assert_eq!(lookup(&map, &[0; 4]).unwrap(), b"fixed");
    // The same without the ice.
    let map = make_from(&image::Map { frozen: false, ..shape.clone() });
    map.update(&[0; 4], b"other", 0).unwrap();
    assert_eq!(lookup(&map, &[0; 4]).unwrap(), b"other");
    // Data of another size than the value has.
    let error = map_create(&image::Map { data: b"long".to_vec(), ..shape }, None, None);
    assert_eq!(error.unwrap_err().errno, Errno::INVAL);
}

#[test]
fn of_descriptors_nothing_is_read_or_written() {
    let inner = make(ARRAY, 4, 4, 1);
    let shape = image::Map {
        kind: ARRAY_OF_MAPS,
        key_size: 4,
        value_size: 4,
        max_entries: 4,
        ..image::Map::default()
    };
    let of_maps = map_create(&shape, None, Some(inner.as_fd())).unwrap();
    let mut others = vec![of_maps];
    for kind in [PROG_ARRAY, PERF_EVENT_ARRAY, CGROUP_ARRAY, SOCKMAP] {
        others.push(make(kind, 4, 4, 2));
    }
    others.push(make(RINGBUF, 0, 0, 4096));
    for map in others {
        let key = vec![0; map.key_size()];
        let value = 0_u32.to_ne_bytes();
        assert_eq!(map.update(&key, &value, 0), Err(Errno::PERM), "{}", map.kind());
        assert_eq!(map.delete(&key), Err(Errno::PERM), "{}", map.kind());
        assert_eq!(map.lookup(&key, &mut value.clone(), 0), Err(Errno::PERM), "{}", map.kind());
        if map.kind() != CGROUP_ARRAY {
            assert_eq!(map.set_cgroup(&key, inner.as_fd()), Err(Errno::PERM), "{}", map.kind());
        }
    }
}

#[test]
fn an_array_of_cgroups_takes_cgroups() {
    let map = make(CGROUP_ARRAY, 4, 4, 1);
    let cgroup = std::fs::File::open(crate::net::cgroup_root()).unwrap();
    map.set_cgroup(&[0; 4], cgroup.as_fd()).unwrap();
    assert_eq!(map.set_cgroup(&1_u32.to_ne_bytes(), cgroup.as_fd()), Err(Errno::TOOBIG));
    assert_eq!(map.set_cgroup(&[0; 5], cgroup.as_fd()), Err(Errno::INVAL));
    assert!(map.set_cgroup(&[0; 4], std::fs::File::open("/").unwrap().as_fd()).is_err());
    map.remove_cgroup(&[0; 4]).unwrap();
    assert_eq!(map.remove_cgroup(&[0; 4]), Err(Errno::NOENT));
}

#[test]
fn what_the_kernel_does_not_make_is_an_error() {
    need_root();
    let shape = image::Map { name: "odd".to_owned(), kind: 9999, ..image::Map::default() };
    let error = map_create(&shape, None, None).unwrap_err();
    assert_eq!(error.errno, Errno::INVAL);
    assert!(error.to_string().starts_with("could not make the map \"odd\""), "{error}");
    let huge = image::Map {
        kind: PERCPU_ARRAY,
        key_size: 4,
        value_size: u32::MAX,
        max_entries: u32::MAX,
        ..shape
    };
    assert!(map_create(&huge, None, None).is_err());
}
