/* What the objects of the tests need of BPF, by hand: neither libbpf nor a vmlinux.h has to be
 * there. Numbers are those of include/uapi/linux/bpf.h. */
#ifndef BPF_H
#define BPF_H

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;
typedef int s32;
typedef long long s64;

#define SEC(name) __attribute__((section(name), used))
#define NOINLINE __attribute__((noinline))
/* A struct of the kernel's, of which only the members that are used are told: accesses to them are
 * adapted when the object is loaded. */
#define KERNEL __attribute__((preserve_access_index))
/* How a map in .maps tells a number and a type. */
#define NUMBER(name, value) int (*name)[value]
#define TYPE(name, type) typeof(type) *name
#define LICENSE(text) char LICENSE[] SEC("license") = text

/* A map. Members that are 0 are told as well: the kernel's defaults. */
#define MAP(name, kind, of_key, of_value, entries) \
	struct { \
		NUMBER(type, kind); \
		NUMBER(max_entries, entries); \
		TYPE(key, of_key); \
		TYPE(value, of_value); \
	} name SEC(".maps")

enum map_kind {
	HASH = 1,
	ARRAY = 2,
	PROG_ARRAY = 3,
	PERF_EVENT_ARRAY = 4,
	PERCPU_HASH = 5,
	PERCPU_ARRAY = 6,
	STACK_TRACE = 7,
	CGROUP_ARRAY = 8,
	LRU_HASH = 9,
	LPM_TRIE = 11,
	ARRAY_OF_MAPS = 12,
	QUEUE = 22,
	STACK = 23,
	RINGBUF = 27,
	BLOOM_FILTER = 30,
	USER_RINGBUF = 31,
	ARENA = 33,
};

#define CURRENT_CPU 0xffffffffULL

static void *(*const map_lookup)(void *map, const void *key) = (void *)1;
static long (*const map_update)(void *map, const void *key, const void *value, u64 flags) =
	(void *)2;
static long (*const map_delete)(void *map, const void *key) = (void *)3;
static u64 (*const ktime_ns)(void) = (void *)5;
static long (*const trace_printk)(const char *format, u32 size, ...) = (void *)6;
static u64 (*const pid_tgid)(void) = (void *)14;
static long (*const get_comm)(void *to, u32 size) = (void *)16;
static long (*const skb_load)(const void *skb, u32 offset, void *to, u32 length) = (void *)26;
static long (*const perf_output)(void *context, void *map, u64 flags, void *data, u64 size) =
	(void *)25;
static long (*const get_stackid)(void *context, void *map, u64 flags) = (void *)27;
static long (*const current_under_cgroup)(void *map, u32 index) = (void *)37;
static long (*const map_push)(void *map, const void *value, u64 flags) = (void *)87;
static long (*const map_pop)(void *map, void *value) = (void *)88;
static long (*const read_kernel)(void *to, u32 size, const void *from) = (void *)113;
static long (*const read_user_str)(void *to, u32 size, const void *from) = (void *)114;
static void *(*const ringbuf_reserve)(void *ringbuf, u64 size, u64 flags) = (void *)131;
static void (*const ringbuf_submit)(void *data, u64 flags) = (void *)132;
static struct task_struct *(*const current_task)(void) = (void *)158;

#define printk(text, ...) \
	({ \
		static const char format[] = text; \
		trace_printk(format, sizeof(format), ##__VA_ARGS__); \
	})

#endif
