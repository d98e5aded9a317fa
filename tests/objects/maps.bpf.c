/* Maps of every kind that guests may have, and variables of every kind. */
#include "bpf.h"

struct address {
	u32 length;
	u8 bytes[4];
};
struct state {
	u64 count;
	u32 last[3];
};

MAP(hash, HASH, u32, struct state, 16);
MAP(array, ARRAY, u32, u64, 4);
MAP(percpu_array, PERCPU_ARRAY, u32, u32, 4);
MAP(percpu_hash, PERCPU_HASH, u64, u32, 8);
MAP(lru, LRU_HASH, u32, u32, 100);
struct {
	NUMBER(type, RINGBUF);
	NUMBER(max_entries, 4097);
} ring SEC(".maps");
struct {
	NUMBER(type, PERF_EVENT_ARRAY);
	NUMBER(key_size, 4);
	NUMBER(value_size, 4);
} perf SEC(".maps");
struct {
	NUMBER(type, STACK_TRACE);
	NUMBER(key_size, 4);
	NUMBER(value_size, 127 * 8);
	NUMBER(max_entries, 32);
} stacks SEC(".maps");
struct {
	NUMBER(type, CGROUP_ARRAY);
	NUMBER(key_size, 4);
	NUMBER(value_size, 4);
	NUMBER(max_entries, 2);
} groups SEC(".maps");
struct {
	NUMBER(type, LPM_TRIE);
	NUMBER(max_entries, 10);
	/* BPF_F_NO_PREALLOC */
	NUMBER(map_flags, 1);
	TYPE(key, struct address);
	TYPE(value, u32);
} networks SEC(".maps");
struct {
	NUMBER(type, QUEUE);
	NUMBER(max_entries, 5);
	TYPE(value, u32);
} queue SEC(".maps");
struct {
	NUMBER(type, STACK);
	NUMBER(max_entries, 6);
	TYPE(value, u64);
} stack SEC(".maps");
struct {
	NUMBER(type, BLOOM_FILTER);
	NUMBER(max_entries, 100);
	/* Hash functions. */
	NUMBER(map_extra, 3);
	TYPE(value, u32);
} bloom SEC(".maps");
struct inner {
	NUMBER(type, ARRAY);
	NUMBER(max_entries, 7);
	TYPE(key, u32);
	TYPE(value, u32);
};
struct {
	NUMBER(type, ARRAY_OF_MAPS);
	NUMBER(max_entries, 3);
	TYPE(key, u32);
	struct inner *values[];
} outer SEC(".maps");

const volatile char name[8] = "wasi";
int data = 7;
static u32 counts[16];

SEC("raw_tracepoint/sys_enter")
int everything(void *context)
{
	u32 key = 1, value = 2;
	struct address address = { 32, { 127, 0, 0, 1 } };
	struct state *state = map_lookup(&hash, &key);
	void *found;

	if (!state)
		return 0;
	state->count++;
	map_update(&array, &key, &state->count, 0);
	found = map_lookup(&percpu_array, &key);
	if (found)
		*(u32 *)found += data;
	map_delete(&percpu_hash, &(u64){ 3 });
	map_update(&lru, &key, &value, 0);
	found = ringbuf_reserve(&ring, 8, 0);
	if (found)
		ringbuf_submit(found, 0);
	perf_output(context, &perf, CURRENT_CPU, &value, sizeof(value));
	value = get_stackid(context, &stacks, 0);
	counts[value & 15]++;
	current_under_cgroup(&groups, 0);
	map_lookup(&networks, &address);
	map_push(&queue, &value, 0);
	map_pop(&stack, &(u64){ 0 });
	map_push(&bloom, &value, 0);
	found = map_lookup(&outer, &key);
	if (found)
		map_lookup(found, &key);
	return name[0] == 'w';
}

LICENSE("GPL");
