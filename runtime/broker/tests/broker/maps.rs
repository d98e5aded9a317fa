//! What a guest does with the elements of its maps.

use wasi_guard_broker::protocol::ObjectHandle;

use crate::compile;
use crate::worker::{Worker, policy};

const NOEXIST: u64 = 1;
const EXIST: u64 = 2;

fn with_maps() -> (Worker, ObjectHandle) {
    let worker = Worker::new(policy());
    let object = worker.loaded(&compile::named("maps"));
    (worker, object)
}

fn processors() -> usize {
    aya::util::nr_cpus().unwrap()
}

#[test]
fn hash_tables() {
    let (worker, object) = with_maps();
    for (name, key, value) in
        [("hash", 4, 24), ("lru", 4, 4), ("percpu_hash", 8, 8 * processors()), ("networks", 8, 4)]
    {
        let shape = worker.shape(object, name).unwrap();
        assert_eq!((shape.key_size as usize, shape.value_size as usize), (key, value), "{name}");
        let map = shape.handle;
        let key = |number: u8| [vec![number], vec![0; key - 1]].concat();
        // What is added to a value of four bytes at a multiple of eight is not kept.
        let value = |number: u8| {
            let mut value = vec![0; value];
            value.iter_mut().step_by(8).for_each(|byte| *byte = number);
            value
        };
        assert_eq!(worker.next_key(map, None), Err(libc::ENOENT), "{name}");
        assert_eq!(worker.lookup(map, &key(1)), Err(libc::ENOENT), "{name}");
        assert_eq!(worker.delete(map, &key(1)), Err(libc::ENOENT), "{name}");
        assert_eq!(worker.update_if(map, &key(1), &value(1), EXIST), Err(libc::ENOENT), "{name}");
        worker.update_if(map, &key(1), &value(1), NOEXIST).unwrap();
        let again = worker.update_if(map, &key(1), &value(1), NOEXIST);
        assert_eq!(again, Err(libc::EEXIST), "{name}");
        worker.update(map, &key(2), &value(2)).unwrap();
        worker.update(map, &key(2), &value(3)).unwrap();
        assert_eq!(worker.lookup(map, &key(2)).unwrap(), value(3), "{name}");
        // Each key once, whichever comes first, and after the last none.
        let first = worker.next_key(map, None).unwrap();
        let second = worker.next_key(map, Some(&first)).unwrap();
        let mut keys = [first, second.clone()];
        keys.sort();
        assert_eq!(keys, [key(1), key(2)], "{name}");
        assert_eq!(worker.next_key(map, Some(&second)), Err(libc::ENOENT), "{name}");
        worker.delete(map, &key(1)).unwrap();
        assert_eq!(worker.lookup(map, &key(1)), Err(libc::ENOENT), "{name}");
        assert_eq!(worker.next_key(map, None).unwrap(), key(2), "{name}");
    }
}

#[test]
fn a_full_table_takes_no_more() {
    let (worker, object) = with_maps();
    let map = worker.map(object, "hash");
    for key in 0..16_u32 {
        worker.update(map, &key.to_ne_bytes(), &[0; 24]).unwrap();
    }
    assert_eq!(worker.update(map, &16_u32.to_ne_bytes(), &[0; 24]), Err(libc::E2BIG));
    worker.update(map, &3_u32.to_ne_bytes(), &[1; 24]).unwrap();
}

#[test]
fn arrays() {
    let (worker, object) = with_maps();
    for (name, value) in [("array", 8), ("percpu_array", 8 * processors())] {
        let map = worker.map(object, name);
        assert_eq!(worker.lookup(map, &[3, 0, 0, 0]).unwrap(), vec![0; value]);
        let mut new = vec![0; value];
        new.iter_mut().step_by(8).for_each(|byte| *byte = 9);
        worker.update(map, &[3, 0, 0, 0], &new).unwrap();
        assert_eq!(worker.lookup(map, &[3, 0, 0, 0]).unwrap(), new);
        assert_eq!(worker.lookup(map, &[4, 0, 0, 0]), Err(libc::ENOENT));
        assert_eq!(worker.update(map, &[4, 0, 0, 0], &new), Err(libc::E2BIG));
        assert_eq!(worker.delete(map, &[3, 0, 0, 0]), Err(libc::EINVAL));
        assert_eq!(worker.next_key(map, Some(&[2, 0, 0, 0])).unwrap(), [3, 0, 0, 0]);
        assert_eq!(worker.next_key(map, Some(&[3, 0, 0, 0])), Err(libc::ENOENT));
    }
}

#[test]
fn queues_stacks_and_filters_have_no_keys() {
    let (worker, object) = with_maps();
    for (name, next) in [("queue", [1; 4]), ("stack", [2; 4])] {
        let shape = worker.shape(object, name).unwrap();
        assert_eq!(shape.key_size, 0);
        let wide = |value: [u8; 4]| vec![value[0]; shape.value_size as usize];
        assert_eq!(worker.lookup(shape.handle, &[]), Err(libc::ENOENT), "{name}");
        worker.update(shape.handle, &[], &wide([1; 4])).unwrap();
        worker.update(shape.handle, &[], &wide([2; 4])).unwrap();
        // It stays where it is.
        for _ in 0..2 {
            assert_eq!(worker.lookup(shape.handle, &[]).unwrap(), wide(next), "{name}");
        }
        assert!(worker.next_key(shape.handle, None).is_err());
    }
    // Which is asked for a value.
    let bloom = worker.map(object, "bloom");
    assert_eq!(worker.lookup(bloom, &[5; 4]), Err(libc::ENOENT));
    worker.update(bloom, &[], &[5; 4]).unwrap();
    assert_eq!(worker.lookup(bloom, &[5; 4]).unwrap(), [5; 4]);
    assert_eq!(worker.lookup(bloom, &[6; 4]), Err(libc::ENOENT));
    assert_eq!(worker.lookup(bloom, &[]), Err(libc::EINVAL));
}

#[test]
fn variables() {
    let (worker, object) = with_maps();
    let constants = worker.map(object, ".rodata");
    let value = worker.lookup(constants, &[0; 4]).unwrap();
    assert_eq!(value[..8], *b"wasi\0\0\0\0");
    assert_eq!(worker.update(constants, &[0; 4], &value), Err(libc::EPERM));
    let data = worker.map(object, ".data");
    assert_eq!(worker.lookup(data, &[0; 4]).unwrap(), 7_i32.to_ne_bytes());
    worker.update(data, &[0; 4], &8_i32.to_ne_bytes()).unwrap();
    assert_eq!(worker.lookup(data, &[0; 4]).unwrap(), 8_i32.to_ne_bytes());
    let counts = worker.map(object, ".bss");
    assert_eq!(worker.lookup(counts, &[0; 4]).unwrap(), [0; 64]);
}

/// Whose values are descriptors, or nobody's.
#[test]
fn what_is_not_for_callers() {
    let (worker, object) = with_maps();
    for name in ["ring", "perf", "groups", "outer"] {
        let shape = worker.shape(object, name).unwrap();
        let (map, key) = (shape.handle, vec![0; shape.key_size as usize]);
        let value = vec![0; shape.value_size as usize];
        assert_eq!(worker.lookup(map, &key), Err(libc::EPERM), "{name}");
        assert_eq!(worker.update(map, &key, &value), Err(libc::EPERM), "{name}");
        // Cgroups can be taken out.
        let none = if name == "groups" { libc::ENOENT } else { libc::EPERM };
        assert_eq!(worker.delete(map, &key), Err(none), "{name}");
        assert_eq!(worker.next_key(map, None), Err(libc::EPERM), "{name}");
    }
}

#[test]
fn sizes_are_the_maps_own() {
    let (worker, object) = with_maps();
    let map = worker.map(object, "hash");
    for length in [0, 1, 3, 5, 100, 30_000] {
        let key = vec![0; length];
        assert_eq!(worker.lookup(map, &key), Err(libc::EINVAL), "{length}");
        assert_eq!(worker.delete(map, &key), Err(libc::EINVAL), "{length}");
        assert_eq!(worker.next_key(map, Some(&key)), Err(libc::EINVAL), "{length}");
    }
    for length in [0, 1, 4, 27, 29, 100_000] {
        assert_eq!(worker.update(map, &vec![0; length], &[]), Err(libc::EINVAL), "{length}");
    }
    for flags in [3, 1 << 40, u64::MAX] {
        assert_eq!(worker.update_if(map, &[0; 4], &[0; 24], flags), Err(libc::EINVAL), "{flags}");
    }
    assert_eq!(worker.next_key(map, None), Err(libc::ENOENT));
}

/// Through the window, both ways.
#[test]
fn a_long_value() {
    let worker = Worker::new(policy());
    let object = worker.loaded(&compile::of(
        "struct long_value { u8 bytes[100000]; };
         MAP(values, ARRAY, u32, struct long_value, 2);
         SEC(\"raw_tracepoint/sys_enter\") int use(void *context) {
             u32 key = 0; return map_lookup(&values, &key) != 0;
         }",
    ));
    let map = worker.map(object, "values");
    let value: Vec<_> = (0..100_000).map(|it| it as u8).collect();
    worker.update(map, &[1, 0, 0, 0], &value).unwrap();
    assert_eq!(worker.lookup(map, &[1, 0, 0, 0]).unwrap(), value);
    assert_eq!(worker.lookup(map, &[0; 4]).unwrap(), vec![0; 100_000]);
    assert_eq!(worker.update(map, &[1, 0, 0, 0], &value[1..]), Err(libc::EINVAL));
}
