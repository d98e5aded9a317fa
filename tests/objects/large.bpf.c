/* A map of 16 MiB. */
#include "bpf.h"

struct page {
	u64 words[512];
};

MAP(pages, ARRAY, u32, struct page, 4096);

SEC("raw_tp/sys_enter")
int touch(void *context)
{
	u32 key = 0;

	return map_lookup(&pages, &key) != 0;
}

LICENSE("GPL");
